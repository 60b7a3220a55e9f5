//! The keys of a `config.json`, and what a decoder makes of them: defaults, spellings and switches as in transformers.

use serde::Deserialize;
use serde_json::Value;

use super::super::config::{DecoderConfig, Gemma, Llama3Scaling, LongRopeScaling, RopeScaling, SlidingWindow, YarnScaling};
use super::{MAX_SIZE, SpecialIds};

#[derive(Deserialize)]
pub(super) struct Raw {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_parameters: Option<Rope>,
    rope_scaling: Option<Rope>,
    max_position_embeddings: usize,
    original_max_position_embeddings: Option<usize>,
    tie_word_embeddings: Option<bool>,
    no_rope_layers: Option<Vec<u8>>,
    no_rope_layer_interval: Option<usize>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    hidden_act: Option<String>,
    hidden_activation: Option<String>,
    query_pre_attn_scalar: Option<f64>,
    #[serde(default)]
    attn_logit_softcapping: Softcap,
    #[serde(default)]
    final_logit_softcapping: Softcap,
    use_bidirectional_attention: Option<bool>,
    sliding_window_pattern: Option<usize>,
    rope_local_base_freq: Option<f64>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
    partial_rotary_factor: Option<f64>,
    quantization_config: Option<Value>,
    #[serde(flatten)]
    pub(super) special: SpecialIds,
}

/// A bound whose `null` is not its default.
#[derive(Deserialize, Default, Clone, Copy)]
#[serde(untagged)]
enum Softcap {
    /// The key is not there.
    #[default]
    #[serde(skip)]
    Absent,
    Bound(f64),
    /// `null`.
    Off,
}

#[derive(Deserialize)]
struct Rope {
    #[serde(alias = "type")]
    rope_type: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
    partial_rotary_factor: Option<f64>,
    attention_factor: Option<f64>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    mscale: Option<f64>,
    mscale_all_dim: Option<f64>,
    truncate: Option<bool>,
    short_factor: Option<Vec<f32>>,
    long_factor: Option<Vec<f32>>,
    /// Of the blocks without a window, where these have a rotation of their own (Gemma 3).
    full_attention: Option<Box<Rope>>,
    /// Of the blocks with one.
    sliding_attention: Option<Box<Rope>>,
}

/// Gemma's generation, from its name.
fn generation(architecture: &str) -> Option<usize> {
    match architecture {
        "GemmaForCausalLM" => Some(1),
        "Gemma2ForCausalLM" => Some(2),
        "Gemma3ForCausalLM" => Some(3),
        _ => None,
    }
}

/// What would be computed wrongly.
pub(super) fn refuse_uncomputed(raw: &Raw, architecture: &str) -> Result<(), String> {
    if raw.quantization_config.is_some() {
        return Err("quantised weights (`quantization_config`) are not supported".into());
    }
    // Gemma's first files say `gelu` and mean its tanh form; a key that a generation does not read may hold anything.
    let (key, activation, computed) = match generation(architecture) {
        None => ("hidden_act", &raw.hidden_act, &["silu"][..]),
        Some(1) if raw.hidden_activation.is_none() => ("hidden_act", &raw.hidden_act, &["gelu_pytorch_tanh", "gelu"][..]),
        Some(_) => ("hidden_activation", &raw.hidden_activation, &["gelu_pytorch_tanh"][..]),
    };
    if let Some(activation) = activation.as_deref().filter(|name| !computed.contains(name)) {
        return Err(format!("`{key}` is `{activation}`, only `{}` is supported", computed[0]));
    }
    if generation(architecture).is_some() && raw.use_bidirectional_attention == Some(true) {
        return Err("`use_bidirectional_attention` makes an encoder of it, which does not answer".into());
    }
    match raw.partial_rotary().filter(|_| architecture != "Phi3ForCausalLM") {
        Some(factor) => Err(format!("`partial_rotary_factor` is {factor}, for `{architecture}` only 1 is computed")),
        None => Ok(()),
    }
}

impl Raw {
    /// What stands for all blocks; those with a window may have a rotation of their own.
    fn rope(&self) -> Option<&Rope> {
        self.rope_parameters.as_ref().map(|rope| rope.full_attention.as_deref().unwrap_or(rope)).or(self.rope_scaling.as_ref())
    }

    /// The part of a head that is turned, where that is not all of it.
    fn partial_rotary(&self) -> Option<f64> {
        let local = self.rope_parameters.as_ref().and_then(|rope| rope.sliding_attention.as_deref());
        let nested = [self.rope(), local].into_iter().flatten().filter_map(|rope| rope.partial_rotary_factor);
        nested.chain(self.partial_rotary_factor).find(|factor| *factor != 1.0)
    }

    pub(super) fn decoder(&self, architecture: &str) -> Result<DecoderConfig, String> {
        if self.num_attention_heads == 0 {
            return Err("`num_attention_heads` is 0".into());
        }
        if self.head_dim.is_none() && !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            let (hidden, heads) = (self.hidden_size, self.num_attention_heads);
            return Err(format!("`num_attention_heads` {heads} does not divide `hidden_size` {hidden}"));
        }
        let may_have_bias = matches!(architecture, "LlamaForCausalLM" | "Qwen3ForCausalLM" | "SmolLM3ForCausalLM");
        let attention_bias = self.attention_bias && (may_have_bias || generation(architecture).is_some());
        let smollm3 = architecture == "SmolLM3ForCausalLM";
        let gemma = generation(architecture);
        let rope = self.rope();
        let head_dim = self.head_dim.unwrap_or(if gemma.is_some() { 256 } else { self.hidden_size / self.num_attention_heads });
        let unrotated_layers = if smollm3 { self.unrotated_layers()? } else { Vec::new() };
        let nested_theta = rope.and_then(|rope| rope.rope_theta);
        let rope_scaling = rope.map(|rope| rope.scaling(self)).transpose()?.flatten();
        let stretched = match &rope_scaling {
            // Qwen names the trained window as the longest sequence, and means as many times more as the scaling's factor says.
            Some(RopeScaling::Yarn(yarn)) => yarn.positions(),
            _ => 0,
        };
        Ok(DecoderConfig {
            architecture: architecture.into(),
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            head_dim,
            rms_norm_eps: self.rms_norm_eps.unwrap_or(if architecture == "Phi3ForCausalLM" { 1e-5 } else { 1e-6 }),
            rope_theta: nested_theta.or(self.rope_theta).unwrap_or(match gemma {
                Some(3) => 1_000_000.0,
                _ if smollm3 => 2_000_000.0,
                _ => 10_000.0,
            }),
            rope_scaling,
            sliding_window: self.sliding_window(architecture, &unrotated_layers)?,
            unrotated_layers,
            // Cut off, as in transformers.
            rotary_dim: self.partial_rotary().map(|factor| (head_dim as f64 * factor) as usize),
            max_position_embeddings: self.max_position_embeddings.max(stretched),
            tie_word_embeddings: self.tie_word_embeddings.unwrap_or(smollm3 || gemma.is_some()),
            qkv_bias: attention_bias || architecture == "Qwen2ForCausalLM",
            output_bias: attention_bias,
            mlp_bias: self.mlp_bias && (smollm3 || architecture == "LlamaForCausalLM"),
            qk_norm: matches!(architecture, "Qwen3ForCausalLM" | "Gemma3ForCausalLM"),
            gemma: gemma.map(|generation| self.gemma(generation)).transpose()?,
        })
    }

    fn gemma(&self, generation: usize) -> Result<Gemma, String> {
        let softcap = |given: Softcap, default: f64| match given {
            Softcap::Bound(bound) if generation > 1 => Some(bound),
            Softcap::Absent if generation == 2 => Some(default),
            _ => None,
        };
        let local = self.rope_parameters.as_ref().and_then(|rope| rope.sliding_attention.as_deref());
        if local.map(|local| local.scaling(self)).transpose()?.flatten().is_some() {
            return Err("a rope scaling in layers with a window is not computed".into());
        }
        Ok(Gemma {
            query_scalar: match generation {
                1 => self.head_dim.unwrap_or(256) as f64,
                _ => self.query_pre_attn_scalar.unwrap_or(256.0),
            },
            sandwich_norms: generation > 1,
            attention_softcap: softcap(self.attn_logit_softcapping, 50.0),
            logit_softcap: softcap(self.final_logit_softcapping, 30.0),
            local_rope_theta: (generation == 3)
                .then(|| local.and_then(|local| local.rope_theta).or(self.rope_local_base_freq).unwrap_or(10_000.0)),
        })
    }

    /// Which layers see a window only. Gemma 2 alternates, Gemma 3 leaves every sixth one whole, unless they list them. Mistral and Phi-3 have
    /// one in all layers as soon as they name its width; Qwen and SmolLM3 have to switch it on, and then list the layers, or it is those from
    /// `max_window_layers` on (Qwen) or those without rotation (SmolLM3). A window that is not shorter than the longest sequence is none.
    fn sliding_window(&self, architecture: &str, unrotated: &[usize]) -> Result<Option<SlidingWindow>, String> {
        let gemma = generation(architecture).filter(|&generation| generation > 1);
        let everywhere = matches!(architecture, "MistralForCausalLM" | "Phi3ForCausalLM");
        let switched =
            matches!(architecture, "Qwen2ForCausalLM" | "Qwen3ForCausalLM" | "SmolLM3ForCausalLM") && self.use_sliding_window == Some(true);
        // Gemma 3 turns these layers by other frequencies, so that they are told apart even where the window is wide enough.
        let bounds = |width: usize| width < self.max_position_embeddings || gemma == Some(3);
        let width = self.sliding_window.or(gemma.map(|_| 4096));
        let Some(width) = width.filter(|&width| (everywhere || switched || gemma.is_some()) && bounds(width)) else { return Ok(None) };
        let count = self.num_hidden_layers.min(MAX_SIZE);
        let layers: Vec<usize> = match &self.layer_types {
            Some(types) if switched || gemma.is_some() => {
                if types.len() != self.num_hidden_layers {
                    return Err(format!("`layer_types` has {} entries for {} layers", types.len(), self.num_hidden_layers));
                }
                if let Some(other) = types.iter().find(|kind| !["full_attention", "sliding_attention"].contains(&kind.as_str())) {
                    return Err(format!("`layer_types` has `{other}`, only `full_attention` and `sliding_attention` are computed"));
                }
                (0..count).filter(|&layer| types[layer] == "sliding_attention").collect()
            }
            _ if everywhere => (0..count).collect(),
            _ if gemma.is_some() => {
                let pattern = if gemma == Some(2) { 2 } else { self.sliding_window_pattern.unwrap_or(6) };
                (0..count).filter(|layer| pattern == 0 || (layer + 1) % pattern != 0).collect()
            }
            _ if architecture == "SmolLM3ForCausalLM" => unrotated.to_vec(),
            _ => (self.max_window_layers.unwrap_or(28)..count).collect(),
        };
        Ok((!layers.is_empty()).then_some(SlidingWindow { width, layers }))
    }

    /// SmolLM3 lists its layers with a 0 for those without rotation; by default every fourth one is.
    fn unrotated_layers(&self) -> Result<Vec<usize>, String> {
        let layers = self.num_hidden_layers;
        if let Some(listed) = &self.no_rope_layers {
            let whole = listed.len() == layers;
            let unrotated = listed.iter().enumerate().filter(|(_, rotates)| **rotates == 0).map(|(layer, _)| layer);
            return if whole {
                Ok(unrotated.collect())
            } else {
                Err(format!("`no_rope_layers` has {} entries for {layers} layers", listed.len()))
            };
        }
        match self.no_rope_layer_interval.unwrap_or(4) {
            0 => Err("`no_rope_layer_interval` is 0".into()),
            interval => Ok((0..layers.min(MAX_SIZE)).filter(|layer| (layer + 1) % interval == 0).collect()),
        }
    }
}

impl Rope {
    fn scaling(&self, config: &Raw) -> Result<Option<RopeScaling>, String> {
        let kind = self.rope_type.as_deref();
        let need =
            |value: Option<f64>, name: &str| value.ok_or_else(|| format!("rope scaling `{}` lacks `{name}`", kind.unwrap_or_default()));
        match kind {
            None | Some("default") => Ok(None),
            Some("linear") => Ok(Some(RopeScaling::Linear { factor: need(self.factor, "factor")? })),
            Some("llama3") => Ok(Some(RopeScaling::Llama3(Llama3Scaling {
                factor: need(self.factor, "factor")?,
                low_freq_factor: need(self.low_freq_factor, "low_freq_factor")?,
                high_freq_factor: need(self.high_freq_factor, "high_freq_factor")?,
                original_max_position_embeddings: self
                    .original_max_position_embeddings
                    .ok_or("rope scaling `llama3` lacks `original_max_position_embeddings`")?,
            }))),
            Some("yarn") => Ok(Some(RopeScaling::Yarn(self.yarn(config)))),
            Some("longrope" | "su") => self.longrope(config).map(|scaling| Some(RopeScaling::LongRope(scaling))),
            Some(other) => Err(format!("rope scaling `{other}` is not computed, only `llama3`, `linear`, `yarn` and `longrope` are")),
        }
    }

    /// Context length before stretching: what stands beside the other sizes goes before what stands in the scaling.
    fn original(&self, config: &Raw) -> usize {
        config.original_max_position_embeddings.or(self.original_max_position_embeddings).unwrap_or(config.max_position_embeddings)
    }

    fn yarn(&self, config: &Raw) -> YarnScaling {
        let original = self.original(config);
        let factor = self.factor.unwrap_or(config.max_position_embeddings as f64 / original as f64);
        let plain = YarnScaling::new(factor, original);
        let set = |value: Option<f64>| value.filter(|value| *value != 0.0);
        // DeepSeek scales the logarithm of the attention factor.
        let by_slopes = set(self.mscale).zip(set(self.mscale_all_dim));
        let by_slopes = by_slopes.map(|(one, all)| YarnScaling::temperature(factor, one) / YarnScaling::temperature(factor, all));
        YarnScaling {
            attention_factor: self.attention_factor.or(by_slopes).unwrap_or(plain.attention_factor),
            beta_fast: set(self.beta_fast).unwrap_or(plain.beta_fast),
            beta_slow: set(self.beta_slow).unwrap_or(plain.beta_slow),
            truncate: self.truncate.unwrap_or(true),
            ..plain
        }
    }

    fn longrope(&self, config: &Raw) -> Result<LongRopeScaling, String> {
        let list = |list: &Option<Vec<f32>>, name: &str| list.clone().ok_or_else(|| format!("rope scaling `longrope` lacks `{name}`"));
        let original = self.original(config);
        let factor = self.factor.unwrap_or(config.max_position_embeddings as f64 / original as f64);
        let fitted = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f64).ln()).sqrt() };
        Ok(LongRopeScaling {
            short_factor: list(&self.short_factor, "short_factor")?,
            long_factor: list(&self.long_factor, "long_factor")?,
            attention_factor: self.attention_factor.unwrap_or(fitted),
            original_max_position_embeddings: original,
        })
    }
}
