//! The shape of a decoder, as `config.json` gives it.

use serde::{Deserialize, Serialize};

/// Everything the decoder's forward pass depends on, besides the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecoderConfig {
    /// As in `config.json`, for example `LlamaForCausalLM`.
    pub architecture: String,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward block.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of a head; need not be `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// Added to the mean square before the root.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched beyond the trained window; nothing in most models.
    #[serde(default)]
    pub rope_scaling: Option<RopeScaling>,
    /// Blocks whose queries and keys are not turned by their positions (SmolLM3); none in most models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unrotated_layers: Vec<usize>,
    /// Components of a head that are turned, from its first on, where others behind them are not (Phi-4-mini).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotary_dim: Option<usize>,
    /// Blocks that see no further back than some positions (Mistral 0.1, Qwen2 where it is switched on); none in most models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sliding_window: Option<SlidingWindow>,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// The head is the embedding.
    pub tie_word_embeddings: bool,
    /// Bias on q, k and v (Qwen2; Llama and SmolLM3 with `attention_bias`).
    pub qkv_bias: bool,
    /// Bias on the attention's output projection (Llama with `attention_bias`).
    pub output_bias: bool,
    /// Bias in the feed-forward block (Llama with `mlp_bias`).
    pub mlp_bias: bool,
    /// RMS norm on each head's query and key (Qwen3, Gemma 3).
    pub qk_norm: bool,
    /// What Gemma's decoders have that the others lack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gemma: Option<Gemma>,
}

/// Gemma: `gelu(gate) * up` in the feed-forward block, embeddings times the root of the hidden width, norm weights that files keep as their
/// distance from one; and what later generations add.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gemma {
    /// Scores are divided by the root of this: the head width in Gemma 1.
    pub query_scalar: f64,
    /// Norms behind attention and feed-forward as well, before these join the residual stream (2 and 3).
    pub sandwich_norms: bool,
    /// Scores `s` become `c tanh(s / c)` (2).
    pub attention_softcap: Option<f64>,
    /// Logits likewise (2).
    pub logit_softcap: Option<f64>,
    /// Base of the rotary frequencies in blocks with a window, which are not stretched (3).
    pub local_rope_theta: Option<f64>,
}

/// Attention to the nearest positions only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlidingWindow {
    /// Positions that a query sees, its own included.
    pub width: usize,
    /// Blocks in which that holds; the others see everything before them.
    pub layers: Vec<usize>,
}

/// How the rotary frequencies of a longer window follow from those of the trained one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RopeScaling {
    /// By wavelength, as Llama 3.1 does it.
    Llama3(Llama3Scaling),
    /// By wavelength and with sharper attention (YaRN, Peng et al. 2023, arXiv 2309.00071).
    Yarn(YarnScaling),
    /// By two lists of searched divisors (LongRoPE, Ding et al. 2024, arXiv 2402.13753; Phi-3).
    LongRope(LongRopeScaling),
    /// All alike: positions are divided by the factor.
    Linear {
        /// By how much all wavelengths are stretched.
        factor: f64,
    },
    /// Each by a divisor of its own, `[D/2]`: what GGUF files keep in place of a rule.
    Each {
        /// What the frequencies are divided by.
        divisors: Vec<f32>,
    },
}

impl RopeScaling {
    /// The stretched form of the frequency (radians per position) at `index`, which would be one in `period` without stretching.
    fn stretch(&self, index: usize, period: f32, config: &DecoderConfig) -> f32 {
        match self {
            Self::Llama3(scaling) => scaling.stretch(1.0 / period),
            Self::Yarn(scaling) => scaling.stretch(index, period, config),
            Self::LongRope(scaling) => 1.0 / (scaling.divisors(config.max_position_embeddings)[index] * period),
            Self::Linear { factor } => 1.0 / period / *factor as f32,
            Self::Each { divisors } => 1.0 / period / divisors[index],
        }
    }
}

/// Stretching by YaRN: frequencies with fewer than `beta_slow` turns in the trained window are slowed by `factor`, those with more than
/// `beta_fast` are kept, and between the two they are interpolated over their index.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct YarnScaling {
    /// By how much long wavelengths are stretched.
    pub factor: f64,
    /// What cosines and sines are multiplied by.
    pub attention_factor: f64,
    /// Turns from which on a frequency is kept.
    pub beta_fast: f64,
    /// Turns up to which it is slowed in full.
    pub beta_slow: f64,
    /// Whether the ends of the interpolation are whole indices.
    pub truncate: bool,
    /// Context length before stretching.
    pub original_max_position_embeddings: usize,
}

impl YarnScaling {
    /// Stretching of a context of `original` positions by `factor`, the rest as in the paper.
    pub fn new(factor: f64, original: usize) -> Self {
        Self {
            factor,
            attention_factor: Self::temperature(factor, 1.0),
            beta_fast: 32.0,
            beta_slow: 1.0,
            truncate: true,
            original_max_position_embeddings: original,
        }
    }

    /// The paper's fit of the attention factor, its logarithm times `slope`.
    pub fn temperature(factor: f64, slope: f64) -> f64 {
        if factor <= 1.0 { 1.0 } else { 0.1 * slope * factor.ln() + 1.0 }
    }

    /// Positions that the stretched frequencies are good for; senseless settings give some number.
    pub fn positions(&self) -> usize {
        (self.original_max_position_embeddings as f64 * self.factor).min(f64::from(1 << 24)) as usize
    }

    fn stretch(&self, index: usize, period: f32, config: &DecoderConfig) -> f32 {
        let (width, base) = (config.rotary_width() as f64, config.rope_theta);
        // The index (not a whole one) of the frequency that turns so often in the trained window.
        let at = |turns: f64| {
            let trained = self.original_max_position_embeddings as f64;
            width * (trained / (turns * std::f64::consts::TAU)).ln() / (2.0 * base.ln())
        };
        let (mut low, mut high) = (at(self.beta_fast), at(self.beta_slow));
        if self.truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        (low, high) = (low.max(0.0), high.min(width - 1.0));
        if low == high {
            high += 0.001;
        }
        let slowed = ((index as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
        1.0 / (self.factor as f32 * period) * slowed + 1.0 / period * (1.0 - slowed)
    }
}

/// Stretching by LongRoPE. Which list counts depends on the context that the model is loaded with, as in vLLM and llama.cpp: all positions of
/// all prompts are turned alike. transformers chooses by the length of each sequence and starts over where one outgrows the trained window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LongRopeScaling {
    /// Divisors within the trained window, `[R/2]`.
    pub short_factor: Vec<f32>,
    /// Divisors beyond it, `[R/2]`.
    pub long_factor: Vec<f32>,
    /// What cosines and sines are multiplied by.
    pub attention_factor: f64,
    /// Context length before stretching.
    pub original_max_position_embeddings: usize,
}

impl LongRopeScaling {
    /// The divisors for a context of so many positions.
    pub fn divisors(&self, context: usize) -> &[f32] {
        if context > self.original_max_position_embeddings { &self.long_factor } else { &self.short_factor }
    }
}

/// Stretching of the rotary frequencies as Llama 3.1 does it: wavelengths above `original / low_freq_factor` are slowed by `factor`, those
/// below `original / high_freq_factor` are kept, and between the two the frequency is interpolated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Llama3Scaling {
    /// By how much long wavelengths are stretched.
    pub factor: f64,
    /// Where full stretching begins.
    pub low_freq_factor: f64,
    /// Where stretching ends.
    pub high_freq_factor: f64,
    /// Context length before stretching.
    pub original_max_position_embeddings: usize,
}

impl Llama3Scaling {
    /// The stretched form of one frequency (radians per position).
    pub fn stretch(&self, frequency: f32) -> f32 {
        let (low, high) = (self.low_freq_factor as f32, self.high_freq_factor as f32);
        let turns = self.original_max_position_embeddings as f32 * frequency / std::f32::consts::TAU;
        let slowed = frequency / self.factor as f32;
        if turns < low {
            slowed
        } else if turns > high {
            frequency
        } else {
            let smooth = (turns - low) / (high - low);
            (1.0 - smooth) * slowed + smooth * frequency
        }
    }
}

impl DecoderConfig {
    /// Components of a head that are turned (R), the first ones; all (D) in most models.
    pub fn rotary_width(&self) -> usize {
        self.rotary_dim.unwrap_or(self.head_dim)
    }

    /// What one in frequencies `[R/2]` turns by a radian, in positions.
    fn rope_periods(&self, theta: f64) -> impl Iterator<Item = f32> {
        let width = self.rotary_width();
        (0..width / 2).map(move |i| (theta as f32).powf(2.0 * i as f32 / width as f32))
    }

    /// Rotary frequencies `[R/2]` in radians per position, in f32 as transformers computes them.
    pub fn rope_frequencies(&self) -> Vec<f32> {
        let periods = self.rope_periods(self.rope_theta);
        let scaling = self.rope_scaling.as_ref();
        periods.enumerate().map(|(i, period)| scaling.map_or(1.0 / period, |scaling| scaling.stretch(i, period, self))).collect()
    }

    /// What the rotary cosines and sines are multiplied by: scores grow by its square.
    pub fn rope_amplitude(&self) -> f64 {
        match &self.rope_scaling {
            Some(RopeScaling::Yarn(scaling)) => scaling.attention_factor,
            Some(RopeScaling::LongRope(scaling)) => scaling.attention_factor,
            _ => 1.0,
        }
    }

    /// Frequencies of the blocks that turn by their own ones (Gemma 3).
    pub fn local_rope_frequencies(&self) -> Option<Vec<f32>> {
        let theta = self.gemma.as_ref()?.local_rope_theta?;
        Some(self.rope_periods(theta).map(|period| 1.0 / period).collect())
    }

    /// Whether a block turns by [`Self::local_rope_frequencies`].
    pub fn turns_locally(&self, layer: usize) -> bool {
        self.gemma.as_ref().is_some_and(|gemma| gemma.local_rope_theta.is_some()) && self.window(layer).is_some()
    }

    /// What a token's embedding is multiplied by on its way into the first block.
    pub fn embedding_scale(&self) -> Option<f64> {
        self.gemma.as_ref().map(|_| (self.hidden_size as f64).sqrt())
    }

    /// What scores are multiplied by beside `1 / sqrt(D)`.
    pub fn query_factor(&self) -> Option<f64> {
        let scalar = self.gemma.as_ref()?.query_scalar;
        (scalar != self.head_dim as f64).then(|| (self.head_dim as f64 / scalar).sqrt())
    }

    /// Bound of the scores.
    pub fn attention_softcap(&self) -> Option<f64> {
        self.gemma.as_ref()?.attention_softcap
    }

    /// Bound of the logits.
    pub fn logit_softcap(&self) -> Option<f64> {
        self.gemma.as_ref()?.logit_softcap
    }

    /// Names of a block's norms: before attention, behind it, before the feed-forward block, behind it.
    pub fn norm_names(&self) -> BlockNorms<&'static str> {
        if self.gemma.as_ref().is_some_and(|gemma| gemma.sandwich_norms) {
            BlockNorms {
                input: "input_layernorm",
                behind_attention: Some("post_attention_layernorm"),
                before_feed_forward: "pre_feedforward_layernorm",
                behind_feed_forward: Some("post_feedforward_layernorm"),
            }
        } else {
            BlockNorms {
                input: "input_layernorm",
                behind_attention: None,
                before_feed_forward: "post_attention_layernorm",
                behind_feed_forward: None,
            }
        }
    }

    /// Whether a block turns its queries and keys by their positions.
    pub fn rotates(&self, layer: usize) -> bool {
        !self.unrotated_layers.contains(&layer)
    }

    /// Positions that a query of a block sees at most, its own included.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.sliding_window.as_ref().filter(|sliding| sliding.layers.contains(&layer)).map(|sliding| sliding.width)
    }

    /// Pairs of a query and a key that it sees, over all blocks, when `new` positions follow `past` ones.
    pub fn attended_pairs(&self, past: usize, new: usize) -> f64 {
        // The first `full` of the new positions see everything before them, the others as much as the window is wide.
        let pairs = |window: usize| {
            let full = window.saturating_sub(past).min(new) as f64;
            full * past as f64 + full * (full + 1.0) / 2.0 + (new as f64 - full) * window.min(past + new) as f64
        };
        (0..self.num_hidden_layers).map(|layer| pairs(self.window(layer).unwrap_or(usize::MAX))).sum()
    }

    /// Shapes of the linear layers of one block as `(module, out, in)`, in forward order.
    pub fn linear_shapes(&self) -> [(Module, usize, usize); 7] {
        let query = self.num_attention_heads * self.head_dim;
        let key_value = self.num_key_value_heads * self.head_dim;
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        [
            (Module::Q, query, hidden),
            (Module::K, key_value, hidden),
            (Module::V, key_value, hidden),
            (Module::O, hidden, query),
            (Module::Gate, inner, hidden),
            (Module::Up, inner, hidden),
            (Module::Down, hidden, inner),
        ]
    }

    /// Whether a linear layer adds a bias.
    pub fn has_bias(&self, module: Module) -> bool {
        match module {
            Module::Q | Module::K | Module::V => self.qkv_bias,
            Module::O => self.output_bias,
            Module::Gate | Module::Up | Module::Down => self.mlp_bias,
        }
    }

    /// Number of weights, the tied head counted once.
    pub fn parameter_count(&self) -> usize {
        let linear: usize = self.linear_shapes().iter().map(|(_, out, input)| out * input).sum();
        let norms = self.norm_names().into_iter().count() * self.hidden_size + if self.qk_norm { 2 * self.head_dim } else { 0 };
        let query = self.num_attention_heads * self.head_dim;
        let key_value = self.num_key_value_heads * self.head_dim;
        let bias = if self.qkv_bias { query + 2 * key_value } else { 0 }
            + if self.output_bias { self.hidden_size } else { 0 }
            + if self.mlp_bias { 2 * self.intermediate_size + self.hidden_size } else { 0 };
        let embeddings = self.vocab_size * self.hidden_size * if self.tie_word_embeddings { 1 } else { 2 };
        self.num_hidden_layers * (linear + norms + bias) + embeddings + self.hidden_size
    }
}

/// One thing for each norm of a block.
#[derive(Debug, Clone, Copy)]
pub struct BlockNorms<T> {
    /// Before attention.
    pub input: T,
    /// Behind attention (Gemma 2 and 3).
    pub behind_attention: Option<T>,
    /// Before the feed-forward block.
    pub before_feed_forward: T,
    /// Behind the feed-forward block (Gemma 2 and 3).
    pub behind_feed_forward: Option<T>,
}

impl<T> BlockNorms<T> {
    /// What `make` gives for each norm.
    ///
    /// # Errors
    /// The first one of `make`.
    pub fn try_map<U, E>(self, mut make: impl FnMut(T) -> Result<U, E>) -> Result<BlockNorms<U>, E> {
        Ok(BlockNorms {
            input: make(self.input)?,
            behind_attention: self.behind_attention.map(&mut make).transpose()?,
            before_feed_forward: make(self.before_feed_forward)?,
            behind_feed_forward: self.behind_feed_forward.map(&mut make).transpose()?,
        })
    }

    /// Mutable references to all of them.
    pub fn as_mut(&mut self) -> BlockNorms<&mut T> {
        BlockNorms {
            input: &mut self.input,
            behind_attention: self.behind_attention.as_mut(),
            before_feed_forward: &mut self.before_feed_forward,
            behind_feed_forward: self.behind_feed_forward.as_mut(),
        }
    }

    /// References to all of them.
    pub fn as_ref(&self) -> BlockNorms<&T> {
        BlockNorms {
            input: &self.input,
            behind_attention: self.behind_attention.as_ref(),
            before_feed_forward: &self.before_feed_forward,
            behind_feed_forward: self.behind_feed_forward.as_ref(),
        }
    }
}

impl<T> IntoIterator for BlockNorms<T> {
    type Item = T;
    type IntoIter = std::iter::Flatten<std::array::IntoIter<Option<T>, 4>>;

    /// In the order of a forward pass.
    fn into_iter(self) -> Self::IntoIter {
        [Some(self.input), self.behind_attention, Some(self.before_feed_forward), self.behind_feed_forward].into_iter().flatten()
    }
}

/// A linear layer of a block: the things that LoRA can be attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Module {
    /// Query projection.
    #[serde(rename = "q_proj")]
    Q,
    /// Key projection.
    #[serde(rename = "k_proj")]
    K,
    /// Value projection.
    #[serde(rename = "v_proj")]
    V,
    /// Attention output projection.
    #[serde(rename = "o_proj")]
    O,
    /// Gate projection of the feed-forward block.
    #[serde(rename = "gate_proj")]
    Gate,
    /// Up projection of the feed-forward block.
    #[serde(rename = "up_proj")]
    Up,
    /// Down projection of the feed-forward block.
    #[serde(rename = "down_proj")]
    Down,
}

impl Module {
    /// All seven, in forward order.
    pub const ALL: [Self; 7] = [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];

    /// Name in weight files, for example `q_proj`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q => "q_proj",
            Self::K => "k_proj",
            Self::V => "v_proj",
            Self::O => "o_proj",
            Self::Gate => "gate_proj",
            Self::Up => "up_proj",
            Self::Down => "down_proj",
        }
    }

    /// Path inside a block, for example `self_attn.q_proj`.
    pub fn path(self) -> String {
        let block = match self {
            Self::Q | Self::K | Self::V | Self::O => "self_attn",
            Self::Gate | Self::Up | Self::Down => "mlp",
        };
        format!("{block}.{}", self.name())
    }
}

impl From<crate::spec::TargetModule> for Module {
    fn from(target: crate::spec::TargetModule) -> Self {
        use crate::spec::TargetModule as Target;
        match target {
            Target::QProj => Self::Q,
            Target::KProj => Self::K,
            Target::VProj => Self::V,
            Target::OProj => Self::O,
            Target::GateProj => Self::Gate,
            Target::UpProj => Self::Up,
            Target::DownProj => Self::Down,
        }
    }
}
