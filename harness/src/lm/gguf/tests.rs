//! GGUF files that Python's `gguf` wrote (`tests/fixtures/make_gguf.py`), against the logits that transformers gives for their weights.

use std::fs::File;
use std::path::PathBuf;

use candle_core::quantized::{GgmlDType, QTensor};
use serde::Deserialize;

use super::*;
use crate::diagnostic::Hint as _;
use crate::lm::LocalModel;
use crate::lm::config::{RopeScaling, SlidingWindow, YarnScaling};
use crate::lm::decoder::Positions;
use crate::lm::folder::check_model;
use crate::lm::layout::named_tensors;

#[derive(Deserialize)]
struct Reference {
    file: String,
    dtype: String,
    text: String,
    tokens: Vec<u32>,
    logits: Vec<f32>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn references() -> Vec<Reference> {
    serde_json::from_slice(&std::fs::read(fixtures().join("gguf/reference.json")).unwrap()).unwrap()
}

fn load(path: &Path, tokenizer: Option<&Path>) -> LocalModel {
    LocalModel::load_checked(&check_model(path, tokenizer).unwrap(), 0, &Device::Cpu).unwrap()
}

fn logits(model: &LocalModel, tokens: &[u32]) -> Vec<f32> {
    let tokens = Tensor::new(tokens, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let hidden = model.decoder().unwrap().forward(&tokens, Positions::FromZero, None, None).unwrap();
    let last = hidden.narrow(1, hidden.dim(1).unwrap() - 1, 1).unwrap();
    model.decoder().unwrap().logits(&last).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn distance(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn logits_equal_those_of_transformers_with_the_same_weights() {
    let references = references();
    assert!(references.len() >= 4);
    for reference in references {
        let path = fixtures().join("gguf").join(&reference.file);
        let checked = check_model(&path, None).unwrap();
        assert_eq!(checked.weights.dtype_name(), reference.dtype);
        let model = LocalModel::load_checked(&checked, 0, &Device::Cpu).unwrap();
        let found = distance(&logits(&model, &reference.tokens), &reference.logits);
        eprintln!("{}: logits differ by {found:.1e}", reference.file);
        assert!(found < 1e-4, "{}: {found}", reference.file);
        assert_eq!(model.encode_prompt(&reference.text).unwrap(), reference.tokens, "{}", reference.file);
    }
}

/// Logarithms of the probabilities that logits stand for: what llama.cpp's server tells.
fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - top).exp()).sum();
    logits.iter().map(|logit| logit - top - sum.ln() as f32).collect()
}

/// Opt-in: `RAGFT_LLAMA_PYTHON` names a Python with xllamacpp. llama.cpp rounds activations to the type of the weights, which is not done here.
#[test]
fn logits_equal_those_of_llama_cpp_within_its_rounding() {
    let Some(python) = std::env::var_os("RAGFT_LLAMA_PYTHON") else {
        eprintln!("skipped: RAGFT_LLAMA_PYTHON does not name a Python with xllamacpp");
        return;
    };
    for reference in references() {
        let path = fixtures().join("gguf").join(&reference.file);
        let tokens = serde_json::to_string(&reference.tokens).unwrap();
        let script = fixtures().join("check_gguf.py");
        let output = std::process::Command::new(&python).arg(script).arg(&path).arg(tokens).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let line = String::from_utf8(output.stdout).unwrap();
        let theirs: Vec<f32> = serde_json::from_str(line.lines().last().unwrap()).unwrap();
        let ours = logits(&load(&path, None), &reference.tokens);
        let (found, size) = (distance(&log_softmax(&ours), &theirs), ours.iter().fold(0.0f32, |size, logit| size.max(logit.abs())));
        eprintln!("{}: logits of llama.cpp differ by {found:.1e} of {size:.1}", reference.file);
        let bound = if reference.dtype == "f32" { 1e-3 } else { 0.02 * size };
        assert!(found < bound, "{}: {found} of {size}", reference.file);
    }
}

#[test]
fn a_tokenizer_from_a_folder_goes_before_that_of_the_file() {
    let reference = references().into_iter().next().unwrap();
    let path = fixtures().join("gguf").join(&reference.file);
    let other = fixtures().join("lm/mistral");
    let error = check_model(&path, Some(&other)).unwrap_err();
    assert!(error.to_string().contains("ids up to"), "{error}");
    let own = fixtures().join("lm/llama-gqa-tied");
    assert_eq!(load(&path, Some(&own)).encode_prompt(&reference.text).unwrap(), reference.tokens);
    assert!(check_model(&own, Some(&own)).unwrap_err().to_string().contains("`model.tokenizer` is for GGUF files"));
}

/// The k-quants need rows of 256, which no small fixture has: a file is written here and read back.
#[test]
fn k_quants_are_widened_to_the_numbers_they_stand_for() {
    let config = DecoderConfig {
        hidden_size: 256,
        intermediate_size: 512,
        num_hidden_layers: 1,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 64,
        sliding_window: Some(SlidingWindow { width: 40, layers: vec![0] }),
        rope_scaling: Some(RopeScaling::Yarn(YarnScaling::new(4.0, 32))),
        ..check_model(&fixtures().join("lm/llama-gqa-tied"), None).unwrap().config
    };
    for dtype in [GgmlDType::Q4K, GgmlDType::Q6K] {
        let mut rng = crate::rng::Rng::new(3, "gguf");
        let mut tensors = Vec::new();
        for (name, shape) in tensor_shapes(&config) {
            let count = shape.iter().product();
            let values: Vec<f32> = (0..count).map(|_| 0.1 * rng.normal() as f32).collect();
            let tensor = Tensor::from_vec(values, shape.clone(), &Device::Cpu).unwrap();
            let kind = if shape.len() == 1 { GgmlDType::F32 } else { dtype };
            tensors.push((name, QTensor::quantize(&tensor, kind).unwrap()));
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        write(&path, "llama", &config, &tensors);
        let checked = check_model(&path, Some(&fixtures().join("lm/llama-gqa-tied"))).unwrap();
        assert_eq!((checked.config.num_key_value_heads, checked.config.architecture.as_str()), (2, "MistralForCausalLM"));
        assert_eq!((&checked.config.sliding_window, &checked.config.rope_scaling), (&config.sliding_window, &config.rope_scaling));
        let decoder = checked.weights.load(&checked.config, &Device::Cpu).unwrap();
        for ((name, found), (_, stored)) in named_tensors(&decoder).into_iter().zip(&tensors) {
            let mut expected = stored.dequantize(&Device::Cpu).unwrap();
            if let Some(heads) = rotated_heads(&config, &name) {
                expected = halves(&expected, heads).unwrap();
            }
            let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(flat(found), flat(&expected), "{name}");
        }
    }
}

fn write(path: &Path, architecture: &str, config: &DecoderConfig, tensors: &[(String, QTensor)]) {
    use candle_core::quantized::gguf_file::Value;
    let whole = |value: usize| Value::U32(value as u32);
    let entries = [
        ("embedding_length", whole(config.hidden_size)),
        ("feed_forward_length", whole(config.intermediate_size)),
        ("block_count", whole(config.num_hidden_layers)),
        ("context_length", whole(config.max_position_embeddings)),
        ("attention.head_count", whole(config.num_attention_heads)),
        ("attention.head_count_kv", whole(config.num_key_value_heads)),
        ("attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
    ];
    let mut metadata: Vec<(String, Value)> = entries.into_iter().map(|(name, value)| (format!("{architecture}.{name}"), value)).collect();
    if let Some(sliding) = &config.sliding_window {
        metadata.push((format!("{architecture}.attention.sliding_window"), whole(sliding.width)));
    }
    if let Some(RopeScaling::Yarn(yarn)) = &config.rope_scaling {
        metadata.push((format!("{architecture}.rope.scaling.type"), Value::String("yarn".into())));
        metadata.push((format!("{architecture}.rope.scaling.factor"), Value::F32(yarn.factor as f32)));
        metadata.push((format!("{architecture}.rope.scaling.original_context_length"), whole(yarn.original_max_position_embeddings)));
    }
    metadata.push(("general.architecture".into(), Value::String(architecture.into())));
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let names: Vec<String> = tensors.iter().map(|(name, _)| header::stored_name(name)).collect();
    let tensors: Vec<(&str, &QTensor)> = names.iter().map(String::as_str).zip(tensors.iter().map(|(_, tensor)| tensor)).collect();
    let mut file = File::create(path).unwrap();
    candle_core::quantized::gguf_file::write(&mut file, &metadata, &tensors).unwrap();
}

#[track_caller]
fn refused(path: &Path, words: &str) {
    let error = check_model(path, None).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(words) && text.contains("model.gguf") && error.hint().is_some(), "{text}");
}

#[test]
fn damaged_and_unknown_files_are_refused_by_name() {
    let reference = references().into_iter().next().unwrap();
    let bytes = std::fs::read(fixtures().join("gguf").join(&reference.file)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    std::fs::write(&path, &bytes[..bytes.len() - 40]).unwrap();
    refused(&path, "truncated");
    std::fs::write(&path, &bytes[..100]).unwrap();
    refused(&path, "not a GGUF file");
    std::fs::write(&path, "something else").unwrap();
    refused(&path, "not a GGUF file");
    let config = check_model(&fixtures().join("lm/llama-gqa-tied"), None).unwrap().config;
    write(&path, "gemma2", &config, &[]);
    refused(&path, "`gemma2`");
    write(&path, "llama", &config, &[]);
    refused(&path, "`token_embd.weight`");
}
