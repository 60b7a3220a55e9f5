//! Windows, stretched positions and other architectures against transformers (`tests/fixtures/make_shapes.py`), in every way in which a
//! decoder is computed here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::Deserialize;

use super::cache::KvCache;
use super::config_file;
use super::decoder::{Decoder, Positions};
use super::engine::{Engine, Segment, SequenceCache, Workspace};
use super::weights::load_bytes;
use super::{LocalModel, SpecialTokens, Tokenizer, save_folder};
use crate::kernel::{Team, WeightForm};

/// What transformers gave.
#[derive(Deserialize)]
pub(super) struct Reference {
    pub tokens: Vec<u32>,
    /// Positions of `logits`.
    kept: Vec<usize>,
    logits: Vec<Vec<f32>>,
    /// Logits behind the first 20 tokens, where a short sequence is computed otherwise.
    short: Option<Vec<f32>>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

pub(super) fn references() -> BTreeMap<String, Reference> {
    serde_json::from_slice(&std::fs::read(fixtures().join("shapes/reference.json")).unwrap()).unwrap()
}

pub(super) fn tokenizer() -> Tokenizer {
    let json = std::fs::read(fixtures().join("lm/llama-gqa-tied/tokenizer.json")).unwrap();
    Tokenizer::from_bytes(&json, SpecialTokens { bos: Some(0), eos: vec![1], pad: Some(2) }).unwrap()
}

fn decoder(name: &str, max_context: usize) -> Decoder {
    let read = |file: &str| std::fs::read(fixtures().join("shapes").join(name).join(file)).unwrap();
    let mut config = config_file::parse(&read("config.json"), name).unwrap().decoder;
    config.max_position_embeddings = config.max_position_embeddings.min(max_context);
    load_bytes(&read("model.safetensors"), &config, &Device::Cpu, name).unwrap()
}

pub(super) fn model(name: &str) -> LocalModel {
    LocalModel::new(decoder(name, usize::MAX), tokenizer())
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(found.len() == expected.len() && worst < 1e-4, "{what}: differs by {worst}");
}

/// Logits behind the last of `tokens`, which one step computes.
fn on_engine(engine: &Engine, tokens: &[u32]) -> Vec<f32> {
    let (mut caches, mut work) = ([SequenceCache::new(engine.config(), tokens.len())], Workspace::default());
    engine.step(&Team::solo(), None, &[Segment { cache: 0, tokens, logits: true }], &mut caches, &mut work);
    work.logits(engine.config().vocab_size).next().unwrap().to_vec()
}

fn on_candle(decoder: &Decoder, tokens: &[u32]) -> Vec<Vec<f32>> {
    let tokens = Tensor::new(tokens, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let hidden = decoder.forward(&tokens, Positions::FromZero, None, None).unwrap();
    decoder.logits(&hidden).unwrap().squeeze(0).unwrap().to_vec2().unwrap()
}

/// Logits behind every token: `filler` columns and `first` tokens at once, then one at a time, as on devices without the engine.
fn on_candle_cached(decoder: &Decoder, tokens: &[u32], filler: usize, first: usize) -> Vec<Vec<f32>> {
    let mut cache = KvCache::with_capacity(filler + tokens.len());
    let mut all = Vec::new();
    let padded: Vec<u32> = [vec![0; filler], tokens.to_vec()].concat();
    let mut start = 0;
    while start < padded.len() {
        let end = if start == 0 { filler + first } else { start + 1 };
        let positions: Vec<u32> = (start..end).map(|column| column.saturating_sub(filler) as u32).collect();
        let sees = |query: usize, key: usize| key == query || (key >= filler && key < query);
        let mask: Vec<f32> =
            (start..end).flat_map(|query| (0..end).map(move |key| if sees(query, key) { 0.0 } else { f32::NEG_INFINITY })).collect();
        let tensor = |values: &[u32]| Tensor::new(values, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let mask = Tensor::from_vec(mask, (1, 1, end - start, end), &Device::Cpu).unwrap();
        let at = Positions::Explicit { positions: &tensor(&positions), mask: &mask };
        let hidden = decoder.forward(&tensor(&padded[start..end]), at, None, Some(&mut cache)).unwrap();
        all.extend(decoder.logits(&hidden).unwrap().squeeze(0).unwrap().to_vec2::<f32>().unwrap());
        start = end;
    }
    all.split_off(filler)
}

#[test]
fn logits_equal_those_of_transformers_beyond_every_window() {
    for (name, reference) in references() {
        let model = model(&name);
        let engine = model.engine().unwrap();
        let whole = on_candle(&model.decoder().unwrap(), &reference.tokens);
        let cached = on_candle_cached(&model.decoder().unwrap(), &reference.tokens, 3, 50);
        for (&position, expected) in reference.kept.iter().zip(&reference.logits) {
            assert_close(&whole[position], expected, &format!("{name}, position {position}, at once"));
            assert_close(&cached[position], expected, &format!("{name}, position {position}, from a cache"));
            assert_close(&on_engine(&engine, &reference.tokens[..=position]), expected, &format!("{name}, position {position}, engine"));
        }
        if let Some(short) = &reference.short {
            let decoder = decoder(&name, 32);
            assert_close(&on_candle(&decoder, &reference.tokens[..20])[19], short, &format!("{name} in a short context"));
            assert!((whole[19][0] - short[0]).abs() > 1e-3, "{name}: the two contexts differ");
        }
    }
}

#[test]
fn the_engine_gives_the_same_bits_token_by_token_and_for_any_number_of_threads() {
    for (name, reference) in references() {
        for form in [WeightForm::F32, WeightForm::Q8] {
            let engine = model(&name).with_form(form).engine().unwrap();
            let whole = on_engine(&engine, &reference.tokens);
            let (mut caches, mut work) = ([SequenceCache::new(engine.config(), reference.tokens.len())], Workspace::default());
            for token in &reference.tokens {
                let segment = Segment { cache: 0, tokens: std::slice::from_ref(token), logits: true };
                engine.step(&Team::solo(), None, &[segment], &mut caches, &mut work);
            }
            let vocabulary = engine.config().vocab_size;
            assert_eq!(work.logits(vocabulary).next().unwrap(), whole, "{name}, {form:?}");
            let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
            let shared = pool.install(|| {
                crate::kernel::with_team(3, |team| {
                    let mut caches = [SequenceCache::new(engine.config(), reference.tokens.len())];
                    let mut work = Workspace::default();
                    engine.step(team, None, &[Segment { cache: 0, tokens: &reference.tokens, logits: true }], &mut caches, &mut work);
                    work.logits(vocabulary).next().unwrap().to_vec()
                })
            });
            assert_eq!(shared, whole, "{name}, {form:?}");
        }
    }
}

#[test]
fn a_saved_folder_gives_the_same_logits() {
    for (name, reference) in references() {
        let model = model(&name);
        let dir = tempfile::tempdir().unwrap();
        save_folder(dir.path(), &model.decoder().unwrap(), &model.tokenizer, candle_core::DType::F16).unwrap();
        let config = config_file::parse(&std::fs::read(dir.path().join("config.json")).unwrap(), &name).unwrap().decoder;
        let bytes = std::fs::read(dir.path().join("model.safetensors")).unwrap();
        let saved = load_bytes(&bytes, &config, &Device::Cpu, &name).unwrap();
        assert_eq!(on_candle(&saved, &reference.tokens), on_candle(&model.decoder().unwrap(), &reference.tokens), "{name}");
    }
}
