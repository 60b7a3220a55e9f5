use serde_json::{Value, json};

use super::super::ModelError;
use super::super::config::{DecoderConfig, Llama3Scaling, LongRopeScaling, RopeScaling, SlidingWindow, YarnScaling};
use super::super::tokenizer::SpecialTokens;
use super::{ARCHITECTURES, ConfigFile, parse, render};

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
    let listed =
        json!({"use_sliding_window": true, "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]});
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
        let config = read(&json!({"architectures": [name], "attention_bias": true, "rope_theta": 123.0, "head_dim": 8})).unwrap().decoder;
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
