//! `config.json`, as transformers writes it (before and since version 5), to and from [`DecoderConfig`].
//!
//! Whatever the decoder would compute wrongly is refused here, by name, before any tensor is read.

mod read;
#[cfg(test)]
mod tests;
mod write;

use serde::Deserialize;
use serde_json::Value;

use super::ModelError;
use super::config::{DecoderConfig, RopeScaling};
use super::tokenizer::SpecialTokens;
use read::{Raw, refuse_uncomputed};

pub use write::{render, written_as};

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
