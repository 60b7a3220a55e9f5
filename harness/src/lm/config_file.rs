//! `config.json`, as transformers writes it (before and since version 5), to and from [`DecoderConfig`].
//!
//! Whatever the decoder would compute wrongly is refused here, by name, before any tensor is read.

use serde::Deserialize;
use serde_json::{Value, json};

use super::ModelError;
use super::config::{DecoderConfig, Gemma, Llama3Scaling, LongRopeScaling, RopeScaling, SlidingWindow, YarnScaling};
use super::tokenizer::SpecialTokens;

/// Architectures that the decoder computes, with transformers' `model_type`.
const ARCHITECTURES: [(&str, &str); 9] = [
    ("LlamaForCausalLM", "llama"),
    ("MistralForCausalLM", "mistral"),
    ("Qwen2ForCausalLM", "qwen2"),
    ("Qwen3ForCausalLM", "qwen3"),
    ("SmolLM3ForCausalLM", "smollm3"),
    ("Phi3ForCausalLM", "phi3"),
    ("GemmaForCausalLM", "gemma"),
    ("Gemma2ForCausalLM", "gemma2"),
    ("Gemma3ForCausalLM", "gemma3_text"),
];

/// Names of [`ARCHITECTURES`], for people.
pub(super) fn supported() -> String {
    ARCHITECTURES.map(|(architecture, _)| architecture).join(", ")
}

/// Larger than any real model; keeps products of sizes inside 64 bits.
pub(super) const MAX_SIZE: usize = 1 << 24;

/// What `config.json` says.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigFile {
    /// The decoder's shape.
    pub decoder: DecoderConfig,
    /// `bos_token_id`, `eos_token_id`, `pad_token_id`.
    pub special: SpecialTokens,
}

#[derive(Deserialize)]
struct Raw {
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
    special: SpecialIds,
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

/// `bos_token_id`, `eos_token_id` (one or several) and `pad_token_id`, as `config.json` and `generation_config.json` hold them.
#[derive(Deserialize, Default)]
pub(super) struct SpecialIds {
    bos_token_id: Option<OneOrMany>,
    eos_token_id: Option<OneOrMany>,
    pad_token_id: Option<OneOrMany>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
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

impl OneOrMany {
    fn into_vec(self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![id],
            Self::Many(ids) => ids,
        }
    }
}

impl From<SpecialIds> for SpecialTokens {
    fn from(ids: SpecialIds) -> Self {
        let list = |ids: Option<OneOrMany>| ids.map(OneOrMany::into_vec).unwrap_or_default();
        Self { bos: list(ids.bos_token_id).first().copied(), eos: list(ids.eos_token_id), pad: list(ids.pad_token_id).first().copied() }
    }
}

/// Reads the text of a `config.json`; `path` names the model in errors.
///
/// # Errors
/// [`ModelError::UnsupportedArchitecture`], or [`ModelError::Config`] for everything else that is missing, impossible or not computed.
pub fn parse(text: &[u8], path: &str) -> Result<ConfigFile, ModelError> {
    let problem = |problem: String| ModelError::Config { path: path.into(), problem };
    let value: Value = serde_json::from_slice(text).map_err(|error| problem(error.to_string()))?;
    let architecture = architecture(&value, path)?;
    let raw: Raw = serde_json::from_value(value).map_err(|error| problem(error.to_string()))?;
    refuse_uncomputed(&raw, architecture).map_err(problem)?;
    let decoder = raw.decoder(architecture).map_err(problem)?;
    validate(&decoder).map_err(problem)?;
    Ok(ConfigFile { decoder, special: raw.special.into() })
}

fn architecture(value: &Value, path: &str) -> Result<&'static str, ModelError> {
    let named = value.pointer("/architectures/0").and_then(Value::as_str);
    let model_type = value.get("model_type").and_then(Value::as_str);
    let known = match (named, model_type) {
        (Some(name), _) => ARCHITECTURES.iter().find(|(architecture, _)| *architecture == name),
        (None, Some(name)) => ARCHITECTURES.iter().find(|(_, model_type)| *model_type == name),
        (None, None) => None,
    };
    known.map(|(architecture, _)| *architecture).ok_or_else(|| ModelError::UnsupportedArchitecture {
        path: path.into(),
        architecture: named.or(model_type).unwrap_or("(none named)").into(),
    })
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

fn refuse_uncomputed(raw: &Raw, architecture: &str) -> Result<(), String> {
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

    fn decoder(&self, architecture: &str) -> Result<DecoderConfig, String> {
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

    /// Which layers see a window only. Gemma 2 alternates, Gemma 3 leaves every sixth one whole, unless they list them. Mistral and Phi-3 have one in all layers as soon as they name its width; Qwen and SmolLM3 have to switch
    /// it on, and then list the layers, or it is those from `max_window_layers` on (Qwen) or those without rotation (SmolLM3). A window that is not
    /// shorter than the longest sequence is none.
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

pub(super) fn validate(config: &DecoderConfig) -> Result<(), String> {
    let sizes = [
        ("vocab_size", config.vocab_size),
        ("hidden_size", config.hidden_size),
        ("intermediate_size", config.intermediate_size),
        ("num_hidden_layers", config.num_hidden_layers),
        ("num_attention_heads", config.num_attention_heads),
        ("num_key_value_heads", config.num_key_value_heads),
        ("head_dim", config.head_dim),
        ("max_position_embeddings", config.max_position_embeddings),
    ];
    if let Some((name, value)) = sizes.into_iter().find(|(_, value)| !(1..=MAX_SIZE).contains(value)) {
        return Err(format!("`{name}` is {value}, expected 1 to {MAX_SIZE}"));
    }
    let (heads, key_value) = (config.num_attention_heads, config.num_key_value_heads);
    if heads % key_value != 0 {
        return Err(format!("`num_key_value_heads` {key_value} does not divide `num_attention_heads` {heads}"));
    }
    if !config.head_dim.is_multiple_of(2) {
        return Err(format!("`head_dim` {} is odd", config.head_dim));
    }
    let turned = config.rotary_width();
    if !turned.is_multiple_of(2) || !(2..=config.head_dim).contains(&turned) {
        return Err(format!(
            "`partial_rotary_factor` turns {turned} of {} components of a head, expected an even number from 2 on",
            config.head_dim
        ));
    }
    let positive = |value: f64| value.is_finite() && value > 0.0;
    if !positive(config.rms_norm_eps) || !positive(config.rope_theta) {
        return Err(format!("`rms_norm_eps` {} and `rope_theta` {} must be positive", config.rms_norm_eps, config.rope_theta));
    }
    if let Some(gemma) = &config.gemma {
        let bounds = [Some(gemma.query_scalar), gemma.attention_softcap, gemma.logit_softcap, gemma.local_rope_theta];
        if !bounds.into_iter().flatten().all(positive) {
            return Err("`query_pre_attn_scalar`, soft caps and rotary bases must be positive".into());
        }
    }
    if config.sliding_window.as_ref().is_some_and(|sliding| sliding.width == 0) {
        return Err("`sliding_window` is 0".into());
    }
    match &config.rope_scaling {
        Some(RopeScaling::Llama3(scaling))
            if !(positive(scaling.factor) && positive(scaling.low_freq_factor) && scaling.high_freq_factor > scaling.low_freq_factor) =>
        {
            Err("rope scaling `llama3` needs a positive `factor` and `low_freq_factor` below `high_freq_factor`".into())
        }
        Some(RopeScaling::Linear { factor }) if !positive(*factor) => Err(format!("rope scaling `linear` has the factor {factor}")),
        Some(RopeScaling::Yarn(yarn))
            if !([yarn.factor, yarn.attention_factor, yarn.beta_fast, yarn.beta_slow].into_iter().all(positive)
                && yarn.original_max_position_embeddings > 0
                && config.rope_theta > 1.0) =>
        {
            Err("rope scaling `yarn` needs positive numbers and a `rope_theta` above 1".into())
        }
        Some(RopeScaling::LongRope(scaling)) => {
            let half = config.rotary_width() / 2;
            let whole = |list: &[f32]| list.len() == half && list.iter().all(|&divisor| positive(f64::from(divisor)));
            if !whole(&scaling.short_factor) || !whole(&scaling.long_factor) {
                return Err(format!("rope scaling `longrope` needs {half} positive numbers in `short_factor` and in `long_factor`"));
            }
            if !positive(scaling.attention_factor) {
                return Err(
                    "rope scaling `longrope` has no positive attention factor; `original_max_position_embeddings` is too small".into()
                );
            }
            Ok(())
        }
        Some(RopeScaling::Each { divisors })
            if divisors.len() != config.rotary_width() / 2 || !divisors.iter().all(|&divisor| positive(f64::from(divisor))) =>
        {
            Err(format!("{} rotary divisors, expected {} positive ones", divisors.len(), config.rotary_width() / 2))
        }
        _ => Ok(()),
    }
}

/// The architecture that a decoder is written as. Phi-3, once its fused matrices are split, is a Llama (with a sliding window a Mistral); where
/// it turns a part of its heads only it stays what it is, for these cannot.
pub fn written_as(config: &DecoderConfig) -> DecoderConfig {
    let split = if config.sliding_window.is_some() { "MistralFor" } else { "LlamaFor" };
    let architecture =
        if config.rotary_dim.is_some() { config.architecture.clone() } else { config.architecture.replace("Phi3For", split) };
    DecoderConfig { architecture, ..config.clone() }
}

/// The `config.json` of a decoder, in the form that transformers 4 and 5 both read; `dtype` is `float32`, `float16` or `bfloat16`.
pub fn render(config: &DecoderConfig, special: &SpecialTokens, dtype: &str) -> Value {
    let config = &written_as(config);
    let model_type = ARCHITECTURES.iter().find(|(architecture, _)| *architecture == config.architecture).map_or("llama", |(_, name)| name);
    let mut value = json!({
        "architectures": [config.architecture],
        "model_type": model_type,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "hidden_act": if config.gemma.is_some() { "gelu_pytorch_tanh" } else { "silu" },
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "rope_parameters": rope(config),
        "max_position_embeddings": config.max_position_embeddings,
        "tie_word_embeddings": config.tie_word_embeddings,
        "attention_bias": config.output_bias,
        "mlp_bias": config.mlp_bias,
        "sliding_window": null,
        "use_sliding_window": false,
        "bos_token_id": special.bos,
        "eos_token_id": special.eos_value(),
        "pad_token_id": special.pad,
        "torch_dtype": dtype,
    });
    if config.rope_scaling.is_some() {
        value["rope_scaling"] = rope(config);
    }
    if let Some(turned) = config.rotary_dim {
        let factor = turned as f64 / config.head_dim as f64;
        value["partial_rotary_factor"] = factor.into();
        value["rope_parameters"]["partial_rotary_factor"] = factor.into();
        if let Some(RopeScaling::LongRope(scaling)) = &config.rope_scaling {
            // Where Phi-3 looks for it.
            value["original_max_position_embeddings"] = scaling.original_max_position_embeddings.into();
        }
    }
    if let Some(gemma) = &config.gemma {
        value["hidden_activation"] = "gelu_pytorch_tanh".into();
        if gemma.sandwich_norms {
            value["query_pre_attn_scalar"] = gemma.query_scalar.into();
            value["attn_logit_softcapping"] = gemma.attention_softcap.into();
            value["final_logit_softcapping"] = gemma.logit_softcap.into();
            // It has a width even where no layer has a window.
            value["sliding_window"] = config.max_position_embeddings.into();
        }
        if let Some(theta) = gemma.local_rope_theta {
            value["rope_local_base_freq"] = theta.into();
            value["rope_parameters"] =
                json!({"full_attention": rope(config), "sliding_attention": {"rope_type": "default", "rope_theta": theta}});
        }
    }
    if config.sliding_window.is_some() || config.gemma.as_ref().is_some_and(|gemma| gemma.sandwich_norms) {
        let kind = |layer| if config.window(layer).is_some() { "sliding_attention" } else { "full_attention" };
        value["layer_types"] = (0..config.num_hidden_layers).map(kind).collect();
    }
    if let Some(sliding) = &config.sliding_window {
        value["sliding_window"] = sliding.width.into();
        value["use_sliding_window"] = true.into();
        value["max_window_layers"] = sliding.layers.first().copied().into();
    }
    if model_type == "smollm3" {
        value["no_rope_layers"] = (0..config.num_hidden_layers).map(|layer| u8::from(config.rotates(layer))).collect();
    }
    value
}

fn rope(config: &DecoderConfig) -> Value {
    match &config.rope_scaling {
        // Nothing in `config.json` says that; who writes such a decoder refuses it before.
        None | Some(RopeScaling::Each { .. }) => json!({"rope_type": "default", "rope_theta": config.rope_theta}),
        Some(RopeScaling::Linear { factor }) => json!({"rope_type": "linear", "rope_theta": config.rope_theta, "factor": factor}),
        Some(RopeScaling::Yarn(scaling)) => json!({
            "rope_type": "yarn",
            "rope_theta": config.rope_theta,
            "factor": scaling.factor,
            "attention_factor": scaling.attention_factor,
            "beta_fast": scaling.beta_fast,
            "beta_slow": scaling.beta_slow,
            "truncate": scaling.truncate,
            "original_max_position_embeddings": scaling.original_max_position_embeddings,
        }),
        Some(RopeScaling::LongRope(scaling)) => json!({
            "rope_type": "longrope",
            "rope_theta": config.rope_theta,
            "short_factor": scaling.short_factor,
            "long_factor": scaling.long_factor,
            "attention_factor": scaling.attention_factor,
            "original_max_position_embeddings": scaling.original_max_position_embeddings,
        }),
        Some(RopeScaling::Llama3(scaling)) => json!({
            "rope_type": "llama3",
            "rope_theta": config.rope_theta,
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_max_position_embeddings,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"], "vocab_size": 100, "hidden_size": 64, "intermediate_size": 128,
            "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 512
        })
    }

    fn read(changes: &Value) -> Result<ConfigFile, ModelError> {
        let mut value = base();
        for (key, change) in changes.as_object().unwrap() {
            value[key] = change.clone();
        }
        parse(value.to_string().as_bytes(), "m")
    }

    #[track_caller]
    fn refused(changes: &Value, words: &str) {
        let error = read(changes).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn absent_keys_take_the_defaults_of_transformers() {
        let config = read(&json!({})).unwrap().decoder;
        assert_eq!((config.num_key_value_heads, config.head_dim), (4, 16));
        assert_eq!((config.rms_norm_eps, config.rope_theta), (1e-6, 10_000.0));
        assert!(!config.tie_word_embeddings && !config.qkv_bias && !config.output_bias && !config.mlp_bias && !config.qk_norm);
    }

    #[test]
    fn the_rotary_base_is_found_in_both_places() {
        assert_eq!(read(&json!({"rope_theta": 5e5})).unwrap().decoder.rope_theta, 5e5);
        let nested = json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}});
        assert_eq!(read(&nested).unwrap().decoder.rope_theta, 1e6);
    }

    #[test]
    fn llama_3_scaling_is_read_and_others_are_refused_by_name() {
        let scaling = json!({"rope_scaling": {"type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192}});
        let found = read(&scaling).unwrap().decoder.rope_scaling.unwrap();
        assert!(matches!(found, RopeScaling::Llama3(Llama3Scaling { factor: 32.0, original_max_position_embeddings: 8192, .. })));
        let linear = read(&json!({"rope_scaling": {"type": "linear", "factor": 4.0}})).unwrap().decoder;
        assert_eq!(linear.rope_frequencies()[0], 0.25);
        refused(&json!({"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}), "`dynamic`");
        refused(&json!({"rope_scaling": {"rope_type": "llama3", "factor": 4.0}}), "`low_freq_factor`");
        refused(&json!({"rope_scaling": {"rope_type": "linear", "factor": 0.0}}), "factor 0");
    }

    #[test]
    fn yarn_takes_its_defaults_from_the_window() {
        let yarn = |changes: Value| {
            let mut rope = json!({"rope_type": "yarn", "factor": 4.0});
            rope.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            let config = read(&json!({"rope_scaling": rope})).unwrap().decoder;
            let Some(RopeScaling::Yarn(scaling)) = config.rope_scaling else { panic!("{:?}", config.rope_scaling) };
            (scaling, config.max_position_embeddings)
        };
        let (plain, window) = yarn(json!({}));
        assert_eq!((plain.original_max_position_embeddings, window), (512, 2048), "the window that is named is the trained one");
        assert!((plain.attention_factor - (0.1 * 4f64.ln() + 1.0)).abs() < 1e-12);
        let (given, window) = yarn(json!({"original_max_position_embeddings": 128, "attention_factor": 1.5, "beta_fast": 16}));
        assert_eq!((given.attention_factor, given.beta_fast, given.beta_slow, window), (1.5, 16.0, 1.0, 512));
        let (sloped, _) = yarn(json!({"mscale": 1.0, "mscale_all_dim": 1.0}));
        assert_eq!(sloped.attention_factor, 1.0);
        refused(&json!({"rope_scaling": {"rope_type": "yarn", "factor": -1.0}}), "`yarn` needs positive");
    }

    #[test]
    fn longrope_needs_a_divisor_for_every_frequency() {
        let rope = |count: usize| json!({"type": "su", "short_factor": vec![1.0; count], "long_factor": vec![2.0; count]});
        let changes =
            |count| json!({"architectures": ["Phi3ForCausalLM"], "original_max_position_embeddings": 128, "rope_scaling": rope(count)});
        let config = read(&changes(8)).unwrap().decoder;
        assert!((config.rope_amplitude() - (1.0 + 4f64.ln() / 128f64.ln()).sqrt()).abs() < 1e-12);
        assert_eq!(config.rope_frequencies()[0], 0.5);
        assert_eq!(DecoderConfig { max_position_embeddings: 128, ..config }.rope_frequencies()[0], 1.0);
        refused(&changes(7), "8 positive numbers");
        let partial = |factor: f64, count| {
            let mut changes = changes(count);
            changes["partial_rotary_factor"] = factor.into();
            changes
        };
        let config = read(&partial(0.75, 6)).unwrap().decoder;
        assert_eq!((config.rotary_width(), config.rope_frequencies().len()), (12, 6));
        refused(&partial(0.75, 8), "6 positive numbers");
        for factor in [0.7, 0.05, 1.5] {
            refused(&partial(factor, 8), "`partial_rotary_factor` turns");
        }
        refused(&json!({"partial_rotary_factor": 0.5}), "for `LlamaForCausalLM` only 1");
        refused(&json!({"rope_scaling": {"type": "longrope", "short_factor": [1.0]}}), "`long_factor`");
    }

    #[test]
    fn each_gemma_has_what_its_generation_brought() {
        let gemma = |name: &str, changes: Value| {
            let mut value = json!({"architectures": [name], "num_hidden_layers": 7, "head_dim": 16, "sliding_window": 64});
            value.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            let config = read(&value).unwrap().decoder;
            (config.gemma.clone().unwrap(), config)
        };
        let (first, config) = gemma("GemmaForCausalLM", json!({"hidden_act": "gelu"}));
        assert_eq!((first.query_scalar, first.sandwich_norms, first.logit_softcap), (16.0, false, None));
        assert_eq!((config.tie_word_embeddings, config.sliding_window.is_none(), config.embedding_scale()), (true, true, Some(8.0)));
        let (second, config) = gemma("Gemma2ForCausalLM", json!({"final_logit_softcapping": null, "query_pre_attn_scalar": 24}));
        assert_eq!((second.attention_softcap, second.logit_softcap, second.query_scalar), (Some(50.0), None, 24.0));
        assert_eq!(config.sliding_window.unwrap().layers, [0, 2, 4, 6]);
        let (third, config) = gemma("Gemma3ForCausalLM", json!({"rope_local_base_freq": 500.0}));
        assert_eq!((third.attention_softcap, third.local_rope_theta, config.rope_theta, config.qk_norm), (None, Some(500.0), 1e6, true));
        assert_eq!(config.sliding_window.clone().unwrap().layers, [0, 1, 2, 3, 4, 6]);
        assert!(config.turns_locally(0) && !config.turns_locally(5));
        refused(&json!({"architectures": ["Gemma2ForCausalLM"], "hidden_activation": "relu"}), "`hidden_activation` is `relu`");
        refused(&json!({"architectures": ["Gemma3ForCausalLM"], "use_bidirectional_attention": true}), "encoder");
    }

    #[test]
    fn each_architecture_has_its_biases() {
        let biases = |name: &str| {
            let config = read(&json!({"architectures": [name], "attention_bias": true, "mlp_bias": true})).unwrap().decoder;
            (config.qkv_bias, config.output_bias, config.mlp_bias, config.qk_norm)
        };
        assert_eq!(biases("LlamaForCausalLM"), (true, true, true, false));
        assert_eq!(biases("SmolLM3ForCausalLM"), (true, true, true, false));
        assert_eq!(biases("Phi3ForCausalLM"), (false, false, false, false));
        assert_eq!(biases("MistralForCausalLM"), (false, false, false, false));
        assert_eq!(biases("Qwen2ForCausalLM"), (true, false, false, false));
        assert_eq!(biases("Qwen3ForCausalLM"), (true, true, false, true));
    }

    #[test]
    fn smollm3_leaves_every_fourth_layer_or_the_listed_ones_unrotated() {
        let unrotated = |changes: &Value| {
            let mut value = json!({"architectures": ["SmolLM3ForCausalLM"], "num_hidden_layers": 8});
            value.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            read(&value).map(|file| file.decoder.unrotated_layers)
        };
        assert_eq!(unrotated(&json!({})).unwrap(), [3, 7]);
        assert_eq!(unrotated(&json!({"no_rope_layers": [1, 0, 1, 1, 1, 1, 1, 0]})).unwrap(), [1, 7]);
        assert!(unrotated(&json!({"no_rope_layers": [1]})).unwrap_err().to_string().contains("1 entries for 8 layers"));
        assert!(read(&json!({"num_hidden_layers": 8})).unwrap().decoder.unrotated_layers.is_empty());
    }

    #[test]
    fn a_sliding_window_counts_only_where_it_is_on() {
        let window = |changes: Value| {
            let mut value = json!({"sliding_window": 128, "num_hidden_layers": 4});
            value.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            read(&value).map(|file| file.decoder.sliding_window.map(|sliding| (sliding.width, sliding.layers)))
        };
        let of = |name: &str, changes: Value| {
            let mut value = json!({"architectures": [name]});
            value.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            window(value)
        };
        let all = || Some((128, vec![0, 1, 2, 3]));
        assert_eq!(of("MistralForCausalLM", json!({})).unwrap(), all());
        assert_eq!(of("Phi3ForCausalLM", json!({})).unwrap(), all());
        assert_eq!(of("MistralForCausalLM", json!({"sliding_window": 512})).unwrap(), None, "as wide as the context");
        assert_eq!(of("LlamaForCausalLM", json!({"use_sliding_window": true})).unwrap(), None);
        assert_eq!(of("Qwen2ForCausalLM", json!({"use_sliding_window": false})).unwrap(), None);
        assert_eq!(of("Qwen2ForCausalLM", json!({"use_sliding_window": true})).unwrap(), None, "from layer 28 on");
        let some = of("Qwen2ForCausalLM", json!({"use_sliding_window": true, "max_window_layers": 2})).unwrap();
        assert_eq!(some, Some((128, vec![2, 3])));
        let listed = json!({"use_sliding_window": true, "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]});
        assert_eq!(of("Qwen3ForCausalLM", listed).unwrap(), Some((128, vec![0, 2])));
        assert_eq!(of("SmolLM3ForCausalLM", json!({"use_sliding_window": true})).unwrap(), Some((128, vec![3])));
        let refused = |changes: Value| of("Qwen3ForCausalLM", changes).unwrap_err().to_string();
        assert!(refused(json!({"use_sliding_window": true, "layer_types": ["full_attention"]})).contains("1 entries for 4 layers"));
        let strange = vec!["chunked_attention"; 4];
        assert!(refused(json!({"use_sliding_window": true, "layer_types": strange})).contains("`chunked_attention`"));
        assert!(of("MistralForCausalLM", json!({"sliding_window": 0})).unwrap_err().to_string().contains("`sliding_window` is 0"));
    }

    #[test]
    fn impossible_and_uncomputed_shapes_are_refused() {
        refused(&json!({"num_key_value_heads": 3}), "`num_key_value_heads` 3 does not divide");
        refused(&json!({"num_attention_heads": 0}), "`num_attention_heads` is 0");
        refused(&json!({"num_attention_heads": 5}), "does not divide `hidden_size`");
        refused(&json!({"head_dim": 15}), "odd");
        refused(&json!({"vocab_size": 1u64 << 40}), "`vocab_size`");
        refused(&json!({"hidden_act": "gelu"}), "`gelu`");
        refused(&json!({"rms_norm_eps": 0.0}), "`rms_norm_eps`");
        refused(&json!({"quantization_config": {"bits": 4}}), "quantised");
        refused(&json!({"hidden_size": null}), "invalid type: null");
    }

    #[test]
    fn an_unknown_architecture_is_named() {
        let error = read(&json!({"architectures": ["Gemma3ForConditionalGeneration"]})).unwrap_err();
        assert!(
            matches!(&error, ModelError::UnsupportedArchitecture { architecture, .. } if architecture == "Gemma3ForConditionalGeneration"),
            "{error}"
        );
    }

    #[test]
    fn what_is_rendered_reads_back_the_same() {
        let special = SpecialTokens { bos: Some(0), eos: vec![1, 7], pad: None };
        for name in ARCHITECTURES.map(|(architecture, _)| architecture) {
            let config =
                read(&json!({"architectures": [name], "attention_bias": true, "rope_theta": 123.0, "head_dim": 8})).unwrap().decoder;
            let scaled = DecoderConfig {
                rope_scaling: Some(RopeScaling::Llama3(Llama3Scaling {
                    factor: 2.0,
                    low_freq_factor: 1.0,
                    high_freq_factor: 4.0,
                    original_max_position_embeddings: 64,
                })),
                ..config.clone()
            };
            let linear = DecoderConfig { rope_scaling: Some(RopeScaling::Linear { factor: 4.0 }), ..config.clone() };
            let yarn = YarnScaling {
                factor: 2.0,
                attention_factor: 1.25,
                beta_fast: 16.0,
                beta_slow: 1.0,
                truncate: false,
                original_max_position_embeddings: 64,
            };
            let long = LongRopeScaling {
                short_factor: vec![1.0, 1.5, 2.0, 2.5],
                long_factor: vec![1.0, 3.0, 5.0, 7.0],
                attention_factor: 1.25,
                original_max_position_embeddings: 64,
            };
            let [yarn, long] = [RopeScaling::Yarn(yarn), RopeScaling::LongRope(long)]
                .map(|scaling| DecoderConfig { rope_scaling: Some(scaling), ..config.clone() });
            for config in [&scaled, &linear, &yarn, &long] {
                let written = serde_json::to_string(config).unwrap();
                assert_eq!(&serde_json::from_str::<DecoderConfig>(&written).unwrap(), config, "as a run folder keeps it");
            }
            let mut configs = vec![config.clone(), scaled, linear, yarn, long];
            let layers = match name {
                "LlamaForCausalLM" | "GemmaForCausalLM" => Vec::new(),
                "MistralForCausalLM" | "Phi3ForCausalLM" => vec![0, 1],
                _ => vec![1],
            };
            if !layers.is_empty() {
                // Gemma's window is there already.
                configs.push(DecoderConfig { sliding_window: Some(SlidingWindow { width: 32, layers }), ..config });
            }
            for config in configs {
                let file = parse(render(&config, &special, "float32").to_string().as_bytes(), "m").unwrap();
                let split = if config.sliding_window.is_some() { "Mistral" } else { "Llama" };
                let config = DecoderConfig { architecture: config.architecture.replace("Phi3", split), ..config };
                assert_eq!((file.decoder, file.special), (config, special.clone()));
            }
        }
    }
}
