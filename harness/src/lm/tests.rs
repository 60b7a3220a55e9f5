//! The decoder, its loader and its generator against tiny models made with transformers (`tests/fixtures/make_lm.py`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor, Var};
use serde::Deserialize;

use super::config::{DecoderConfig, Module};
use super::decoder::{Decoder, Positions};
use super::folder::weight_bytes;
use super::layout::named_tensors;
use super::lora::{LoraPair, LoraWeights};
use super::*;
use crate::diagnostic::Hint as _;

pub(super) const NAMES: [&str; 8] = ["llama-gqa-tied", "llama-untied-bias", "mistral", "qwen2", "qwen3", "llama-linear", "smollm3", "phi3"];
const TOLERANCE: f32 = 1e-4;

#[derive(Deserialize)]
struct Reference {
    prompts: Vec<ReferencePrompt>,
    parameters: usize,
}

#[derive(Deserialize)]
struct ReferencePrompt {
    text: String,
    tokens: Vec<u32>,
    answer: Vec<u32>,
    answer_text: String,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lm").join(name)
}

fn load(name: &str) -> LocalModel {
    LocalModel::load_folder(&folder(name), 0).unwrap()
}

fn reference(name: &str) -> (Reference, Tensor, Tensor) {
    let notes = serde_json::from_slice(&std::fs::read(folder(name).join("reference.json")).unwrap()).unwrap();
    let mut tensors = candle_core::safetensors::load(folder(name).join("reference.safetensors"), &Device::Cpu).unwrap();
    (notes, tensors.remove("logits").unwrap(), tensors.remove("batch_logits").unwrap())
}

fn greedy(max_new_tokens: usize) -> GenerationConfig {
    GenerationConfig { max_new_tokens, temperature: 0.0, top_p: 1.0, stop: Vec::new(), seed: 1, batch_size: 8, forced_tokens: None }
}

fn prompts(model: &LocalModel, texts: &[&str]) -> Vec<Prompt> {
    texts.iter().map(|text| Prompt { tokens: model.encode_prompt(text).unwrap(), stream: (*text).to_string() }).collect()
}

fn answers(model: &LocalModel, prompts: &[Prompt], config: &GenerationConfig) -> Vec<String> {
    model.generate(prompts, None, config).unwrap().into_iter().map(|generation| generation.text).collect()
}

#[track_caller]
fn assert_close(found: &Tensor, expected: &Tensor, what: &str) {
    assert_eq!(found.dims(), expected.dims());
    let difference = (found - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    let size = expected.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(difference < TOLERANCE && size > 1.0, "{what}: differs by {difference} of {size}");
}

/// Positions and mask of a left-padded batch, written out cell by cell.
fn left_padded(rows: &[Vec<u32>]) -> (Tensor, Tensor, Tensor) {
    let width = rows.iter().map(Vec::len).max().unwrap();
    let (mut tokens, mut positions, mut mask) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let padding = width - row.len();
        for query in 0..width {
            tokens.push(if query < padding { 0 } else { row[query - padding] });
            positions.push(query.saturating_sub(padding) as u32);
            mask.extend((0..width).map(|key| if key == query || (key >= padding && key < query) { 0.0 } else { f32::NEG_INFINITY }));
        }
    }
    let cpu = &Device::Cpu;
    (
        Tensor::from_vec(tokens, (rows.len(), width), cpu).unwrap(),
        Tensor::from_vec(positions, (rows.len(), width), cpu).unwrap(),
        Tensor::from_vec(mask, (rows.len(), 1, width, width), cpu).unwrap(),
    )
}

#[test]
fn logits_of_one_sequence_equal_those_of_transformers() {
    for name in NAMES {
        let (model, (notes, logits, _)) = (load(name), reference(name));
        let tokens = Tensor::new(notes.prompts[2].tokens.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let hidden = model.decoder().unwrap().forward(&tokens, Positions::FromZero, None, None).unwrap();
        let found = model.decoder().unwrap().logits(&hidden).unwrap().squeeze(0).unwrap();
        let last = found.narrow(0, found.dim(0).unwrap() - 16, 16).unwrap();
        assert_close(&last, &logits, name);
    }
}

#[test]
fn logits_of_a_left_padded_batch_equal_those_of_transformers() {
    for name in NAMES {
        let (model, (notes, _, batch_logits)) = (load(name), reference(name));
        let rows: Vec<Vec<u32>> = notes.prompts.iter().map(|prompt| prompt.tokens.clone()).collect();
        let (tokens, positions, mask) = left_padded(&rows);
        let hidden =
            model.decoder().unwrap().forward(&tokens, Positions::Explicit { positions: &positions, mask: &mask }, None, None).unwrap();
        let last = hidden.narrow(1, hidden.dim(1).unwrap() - 1, 1).unwrap().squeeze(1).unwrap();
        assert_close(&model.decoder().unwrap().logits(&last).unwrap(), &batch_logits, name);
    }
}

#[test]
fn greedy_answers_equal_those_of_transformers_alone_and_in_a_batch() {
    for name in NAMES {
        let (model, (notes, ..)) = (load(name), reference(name));
        let rows: Vec<Prompt> =
            notes.prompts.iter().map(|prompt| Prompt { tokens: prompt.tokens.clone(), stream: prompt.text.clone() }).collect();
        let batched = model.generate(&rows, None, &greedy(24)).unwrap();
        for ((row, batched), expected) in rows.iter().zip(batched).zip(&notes.prompts) {
            let alone = model.generate(std::slice::from_ref(row), None, &greedy(24)).unwrap().remove(0);
            for found in [alone, batched] {
                assert_eq!((found.text.as_str(), found.output_tokens), (expected.answer_text.as_str(), expected.answer.len()), "{name}");
                assert_eq!(found.prompt_tokens, row.tokens.len());
                assert_eq!(found.finish_reason == FinishReason::Stop, expected.answer.last() == Some(&1), "{name}");
            }
        }
    }
}

#[test]
fn texts_become_the_tokens_of_transformers() {
    for name in NAMES {
        let (model, (notes, ..)) = (load(name), reference(name));
        for prompt in &notes.prompts {
            assert_eq!(model.encode_prompt(&prompt.text).unwrap(), prompt.tokens, "{name}");
            assert_eq!(model.tokenizer.count(&prompt.text).unwrap() + 1, prompt.tokens.len(), "one beginning token");
        }
        assert_eq!(model.config.parameter_count(), notes.parameters, "{name}");
    }
}

#[test]
fn every_trainable_weight_gets_a_gradient() {
    for name in NAMES {
        let stored: BTreeMap<String, Tensor> =
            named_tensors(&load(name).decoder().unwrap()).into_iter().map(|(name, tensor)| (name, tensor.clone())).collect();
        let mut vars: BTreeMap<String, Var> = BTreeMap::new();
        let config = load(name).config;
        let decoder = Decoder::new(&config, &Device::Cpu, |name, _| {
            let var = Var::from_tensor(&stored[name])?;
            vars.insert(name.to_string(), var.clone());
            candle_core::Result::Ok(var.as_tensor().clone())
        })
        .unwrap();
        let tokens = Tensor::new(&[[0u32, 5, 9, 80, 3]], &Device::Cpu).unwrap();
        let hidden = decoder.forward(&tokens, Positions::FromZero, None, None).unwrap();
        let logits = decoder.logits(&hidden).unwrap().squeeze(0).unwrap();
        let targets = Tensor::new(&[5u32, 9, 80, 3, 7], &Device::Cpu).unwrap();
        let weights = Tensor::ones(5, DType::F32, &Device::Cpu).unwrap();
        let loss = ops::cross_entropy(&logits, &targets, &weights, 5.0).unwrap();
        let gradients = loss.backward().unwrap();
        for (weight, var) in &vars {
            let gradient = gradients.get(var).unwrap_or_else(|| panic!("{name}: no gradient for {weight}"));
            let size = gradient.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            // A bias on the keys shifts all scores of a query alike up to rotation; its gradient is small, not zero.
            assert!(size.is_finite() && size > 1e-7, "{name}: gradient of {weight} is {size}");
        }
        assert_eq!(vars.len(), stored.len());
    }
}

#[test]
fn sampled_answers_do_not_depend_on_batch_mates() {
    let model = load("llama-gqa-tied");
    let config = GenerationConfig { temperature: 1.0, top_p: 0.9, ..greedy(16) };
    let rows = prompts(&model, &["Torvas", "Question: Where was the ship built?", "Passage: the café", "1987"]);
    let batched = answers(&model, &rows, &config);
    let alone: Vec<String> = rows.iter().flat_map(|row| answers(&model, std::slice::from_ref(row), &config)).collect();
    assert_eq!(batched, alone);
    let reversed: Vec<Prompt> = rows.iter().rev().cloned().collect();
    assert_eq!(answers(&model, &reversed, &config).into_iter().rev().collect::<Vec<_>>(), batched);
    assert_ne!(answers(&model, &rows, &GenerationConfig { seed: 2, ..config }), batched);
}

#[test]
fn rows_that_end_early_leave_the_others_as_they_were() {
    let model = load("mistral");
    let rows = prompts(&model, &["Torvas", "Question: Where was the ship built?", "Passage: the café", "1987", "guild of river towns"]);
    let whole: Vec<String> = rows.iter().flat_map(|row| answers(&model, std::slice::from_ref(row), &greedy(20))).collect();
    // Every row but one gets a string that stops it at another step.
    let stop: Vec<String> = whole[1..].iter().enumerate().map(|(i, text)| text.chars().skip(3 + 2 * i).take(4).collect()).collect();
    let config = GenerationConfig { stop: stop.clone(), ..greedy(20) };
    let batched = model.generate(&rows, None, &config).unwrap();
    for (row, found) in rows.iter().zip(&batched) {
        let alone = model.generate(std::slice::from_ref(row), None, &config).unwrap().remove(0);
        assert_eq!((&alone.text, alone.output_tokens, alone.finish_reason), (&found.text, found.output_tokens, found.finish_reason));
    }
    for (full, found) in whole.iter().zip(&batched) {
        let cut = stop.iter().filter_map(|stop| full.find(stop)).min();
        assert_eq!(found.text, full[..cut.unwrap_or(full.len())]);
    }
    let lengths: std::collections::BTreeSet<usize> = batched.iter().map(|generation| generation.output_tokens).collect();
    assert!(lengths.len() > 2, "the rows end at different steps: {lengths:?}");
}

#[test]
fn forced_tokens_are_all_computed_and_the_text_still_ends_at_the_end_token() {
    let (model, (notes, ..)) = (load("llama-untied-bias"), reference("llama-untied-bias"));
    let prompt = &notes.prompts[2];
    assert_eq!(prompt.answer.last(), Some(&1), "the fixture's third answer ends by itself");
    let row = Prompt { tokens: prompt.tokens.clone(), stream: String::new() };
    let found = model.generate(&[row], None, &GenerationConfig { forced_tokens: Some(9), ..greedy(24) }).unwrap().remove(0);
    assert_eq!((found.output_tokens, found.text.as_str(), found.finish_reason), (9, prompt.answer_text.as_str(), FinishReason::Stop));
}

#[test]
fn an_adapter_changes_the_answer_and_its_absence_does_not() {
    let model = load("qwen2");
    let (_, out, input) = model.config.linear_shapes()[Module::V as usize];
    let ramp = |rows: usize, columns: usize| {
        let values: Vec<f32> = (0..rows * columns).map(|i| (i as f32).sin()).collect();
        Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
    };
    let pair = LoraPair { a: ramp(4, input), b: ramp(out, 4) };
    let adapter = LoraWeights::new([((0, Module::V), pair)].into(), 1.0);
    let rows = prompts(&model, &["Question: Where was the ship built?\nAnswer:"]);
    let tuned = model.generate(&rows, Some(&adapter), &greedy(8)).unwrap();
    assert_ne!(tuned[0].text, answers(&model, &rows, &greedy(8))[0]);
}

#[test]
fn a_prompt_without_room_is_refused_with_its_length() {
    let model = LocalModel::load_folder(&folder("qwen3"), 32).unwrap();
    assert_eq!(model.context_length(), 32);
    let rows = prompts(&model, &["Torvas Belmin was born in Dordasford"]);
    let length = rows[0].tokens.len();
    assert!(model.generate(&rows, None, &greedy(32 - length)).is_ok());
    let error = model.generate(&rows, None, &greedy(33 - length)).unwrap_err();
    assert!(matches!(error, ModelError::PromptTooLong { prompt_tokens, context_length: 32, .. } if prompt_tokens == length), "{error}");
    assert!(error.hint().unwrap().contains("retrieval.top_k"));
}

fn same_weights(left: &Decoder, right: &Decoder) -> bool {
    let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    named_tensors(left).iter().zip(named_tensors(right)).all(|((a, x), (b, y))| *a == b && values(x) == values(y))
}

#[test]
fn a_saved_folder_loads_bit_for_bit() {
    for name in NAMES {
        let model = load(name);
        for dtype in [DType::F32, if name == "mistral" { DType::BF16 } else { DType::F16 }] {
            let dir = tempfile::tempdir().unwrap();
            save_folder(dir.path(), &model.decoder().unwrap(), &model.tokenizer, dtype).unwrap();
            let saved = LocalModel::load_folder(dir.path(), 0).unwrap();
            assert!(same_weights(&saved.decoder().unwrap(), &model.decoder().unwrap()), "{name}");
            let split = if model.config.sliding_window.is_some() { "Mistral" } else { "Llama" };
            let architecture = model.config.architecture.replace("Phi3", split);
            assert_eq!(saved.config, DecoderConfig { architecture, ..model.config.clone() });
            assert_eq!(saved.tokenizer.special(), model.tokenizer.special());
            assert_eq!(saved.tokenizer.hash(), model.tokenizer.hash());
        }
    }
}

#[test]
fn a_model_from_bytes_is_the_model_from_the_folder() {
    let model = load("llama-gqa-tied");
    let read = |file: &str| std::fs::read(folder("llama-gqa-tied").join(file)).unwrap();
    let (config, tokenizer, weights) = (read("config.json"), read("tokenizer.json"), read("model.safetensors"));
    let embedded = LocalModel::from_bytes(&config, &tokenizer, &weights, 0, &Device::Cpu).unwrap();
    assert!(same_weights(&embedded.decoder().unwrap(), &model.decoder().unwrap()));
    assert_eq!(embedded.tokenizer.special(), model.tokenizer.special());
    let error = LocalModel::from_bytes(&config, &tokenizer, &weights[..weights.len() - 2], 0, &Device::Cpu).unwrap_err();
    assert!(matches!(error, ModelError::Weights { .. }), "{error}");
}

/// A copy of a fixture that a test may spoil.
fn copy(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(folder(name).join(file), dir.path().join(file)).unwrap();
    }
    dir
}

fn edit_config(dir: &Path, key: &str, value: impl Into<serde_json::Value>) {
    let path = dir.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config[key] = value.into();
    std::fs::write(path, config.to_string()).unwrap();
}

#[track_caller]
fn refused(dir: &Path, words: &[&str]) {
    let error = check_folder(dir).unwrap_err();
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
    assert!(error.hint().is_some());
    assert!(LocalModel::load_folder(dir, 0).is_err());
}

#[test]
fn a_folder_without_a_part_is_refused() {
    for (file, words) in
        [("config.json", "`config.json`"), ("tokenizer.json", "`tokenizer.json`"), ("model.safetensors", "neither `model.safetensors`")]
    {
        let dir = copy("mistral");
        std::fs::remove_file(dir.path().join(file)).unwrap();
        refused(dir.path(), &[words, &dir.path().display().to_string()]);
    }
    refused(Path::new("/no/such/model"), &["`/no/such/model`", "not a folder"]);
}

#[test]
fn damaged_weights_are_refused_by_name_and_shape() {
    let dir = copy("qwen2");
    let path = dir.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    refused(dir.path(), &["truncated", &bytes.len().to_string()]);
    std::fs::write(&path, &bytes[..50]).unwrap();
    refused(dir.path(), &["truncated"]);
    std::fs::write(&path, "not weights at all, but long enough").unwrap();
    refused(dir.path(), &["does not begin with a safetensors header"]);

    let dir = copy("qwen2");
    edit_config(dir.path(), "intermediate_size", 64);
    refused(dir.path(), &["`model.layers.0.mlp.gate_proj.weight`", "[48, 32]", "[64, 32]"]);

    let dir = copy("qwen2");
    edit_config(dir.path(), "tie_word_embeddings", false);
    refused(dir.path(), &["`lm_head.weight`", "[320, 32]", "missing"]);

    let dir = copy("qwen2");
    edit_config(dir.path(), "vocab_size", 300);
    refused(dir.path(), &["ids up to 319", "vocabulary of 300"]);
}

#[test]
fn an_unsupported_architecture_is_refused_by_name() {
    let dir = copy("qwen3");
    edit_config(dir.path(), "architectures", vec!["Gemma3nForCausalLM"]);
    refused(dir.path(), &["`Gemma3nForCausalLM`"]);
}

#[test]
fn a_sliding_window_bounds_what_is_seen_and_not_the_context() {
    let dir = copy("mistral");
    edit_config(dir.path(), "sliding_window", 40);
    let model = LocalModel::load_folder(dir.path(), 0).unwrap();
    assert_eq!((model.context_length(), model.config.window(1)), (256, Some(40)));
    assert_eq!(load("mistral").config.sliding_window, None, "a window wider than the context is none");
}

/// Cuts the weights in two files with an index, as large checkpoints come.
fn shard(dir: &Path) {
    let tensors = candle_core::safetensors::load(dir.join("model.safetensors"), &Device::Cpu).unwrap();
    let tensors: BTreeMap<String, Tensor> = tensors.into_iter().collect();
    let mut map = serde_json::Map::new();
    for (number, part) in [1, 2].into_iter().zip([0, 1]) {
        let file = format!("model-0000{number}-of-00002.safetensors");
        let half =
            tensors.iter().enumerate().filter(|(index, _)| index % 2 == part).map(|(_, (name, tensor))| (name.clone(), tensor.clone()));
        let half: std::collections::HashMap<String, Tensor> = half.collect();
        map.extend(half.keys().map(|name| (name.clone(), file.clone().into())));
        candle_core::safetensors::save(&half, dir.join(&file)).unwrap();
    }
    std::fs::remove_file(dir.join("model.safetensors")).unwrap();
    std::fs::write(dir.join("model.safetensors.index.json"), serde_json::json!({"metadata": {}, "weight_map": map}).to_string()).unwrap();
}

#[test]
fn shards_are_one_model_and_a_lost_one_is_named() {
    let dir = copy("qwen3");
    shard(dir.path());
    assert!(same_weights(&LocalModel::load_folder(dir.path(), 0).unwrap().decoder().unwrap(), &load("qwen3").decoder().unwrap()));
    std::fs::remove_file(dir.path().join("model-00002-of-00002.safetensors")).unwrap();
    refused(dir.path(), &["`model-00002-of-00002.safetensors`"]);
}

#[test]
fn padding_and_truncation_in_the_tokenizer_file_are_ignored() {
    let dir = copy("llama-gqa-tied");
    let path = dir.path().join("tokenizer.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    json["truncation"] = serde_json::json!({"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
    json["padding"] = serde_json::json!({"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 2,
        "pad_type_id": 0, "pad_token": "<pad>"});
    std::fs::write(&path, json.to_string()).unwrap();
    let text = "Torvas Belmin was born in Dordasford";
    let spoiled = LocalModel::load_folder(dir.path(), 0).unwrap();
    assert_eq!(spoiled.encode_prompt(text).unwrap(), load("llama-gqa-tied").encode_prompt(text).unwrap());
}

#[test]
fn a_beginning_token_is_added_once_where_the_tokenizer_config_asks() {
    let dir = copy("llama-gqa-tied");
    let add = |dir: &Path| {
        let text = r#"{"add_bos_token": true, "bos_token": {"content": "<s>"}, "eos_token": "</s>"}"#;
        std::fs::write(dir.join("tokenizer_config.json"), text).unwrap();
        LocalModel::load_folder(dir, 0).unwrap().encode_prompt("guild").unwrap()
    };
    let expected = load("llama-gqa-tied").encode_prompt("guild").unwrap();
    assert_eq!((expected[0], add(dir.path())), (0, expected.clone()));
    let path = dir.path().join("tokenizer.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    json["post_processor"] = serde_json::Value::Null;
    std::fs::write(&path, json.to_string()).unwrap();
    assert_eq!(add(dir.path()), expected);
}

#[test]
fn end_tokens_come_from_the_first_file_that_names_them() {
    let dir = copy("llama-gqa-tied");
    std::fs::write(dir.path().join("generation_config.json"), r#"{"eos_token_id": [7, 9]}"#).unwrap();
    let eos = |dir: &Path| LocalModel::load_folder(dir, 0).unwrap().tokenizer.special().eos.clone();
    assert_eq!(eos(dir.path()), [7, 9]);
    std::fs::remove_file(dir.path().join("generation_config.json")).unwrap();
    edit_config(dir.path(), "eos_token_id", 11);
    assert_eq!(eos(dir.path()), [11]);
    edit_config(dir.path(), "eos_token_id", serde_json::Value::Null);
    assert_eq!(eos(dir.path()), [1], "the tokenizer's `</s>`");
}

#[test]
fn saved_bytes_repeat() {
    let model = load("qwen3");
    assert_eq!(
        weight_bytes(&model.decoder().unwrap(), DType::F16).unwrap(),
        weight_bytes(&load("qwen3").decoder().unwrap(), DType::F16).unwrap()
    );
}

/// The inverse frequencies of `rope_tables` follow from the shape alone.
#[test]
fn a_shorter_window_changes_no_logit() {
    let (model, short) = (load("llama-untied-bias"), LocalModel::load_folder(&folder("llama-untied-bias"), 40).unwrap());
    let rows = prompts(&model, &["Torvas Belmin"]);
    assert_eq!(answers(&model, &rows, &greedy(10)), answers(&short, &rows, &greedy(10)));
    let expected = DecoderConfig { max_position_embeddings: 40, ..model.config.clone() };
    assert_eq!(short.config, expected);
}
