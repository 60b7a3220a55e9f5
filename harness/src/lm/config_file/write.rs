//! A decoder as a `config.json`.

use serde_json::{Value, json};

use super::super::config::{DecoderConfig, RopeScaling};
use super::super::tokenizer::SpecialTokens;
use super::ARCHITECTURES;

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
