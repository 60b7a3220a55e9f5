//! The engine against transformers' logits, and against itself in other company.

use std::path::Path;

use super::*;
use crate::kernel::{Team, with_team};
use crate::lm::LocalModel;
use crate::lm::decoder::Decoder;

const NAMES: [&str; 5] = ["llama-gqa-tied", "llama-untied-bias", "mistral", "qwen2", "qwen3"];

fn load(name: &str) -> LocalModel {
    LocalModel::load_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lm").join(name), 0).unwrap()
}

/// Token ids without a pattern.
fn tokens(count: usize, vocabulary: usize, turn: usize) -> Vec<u32> {
    (0..count).map(|i| ((i * 31 + turn * 17 + i * i) % vocabulary) as u32).collect()
}

/// Logits after the last token of each row, all rows in one step.
fn logits(engine: &Engine, adapter: Option<&PackedAdapter>, rows: &[&[u32]]) -> Vec<Vec<f32>> {
    let mut caches: Vec<SequenceCache> = rows.iter().map(|row| SequenceCache::new(engine.config(), row.len())).collect();
    let segments: Vec<Segment> = rows.iter().enumerate().map(|(cache, tokens)| Segment { cache, tokens, logits: true }).collect();
    let mut work = Workspace::default();
    with_team(rayon::current_num_threads(), |team| engine.step(team, adapter, &segments, &mut caches, &mut work));
    work.logits(engine.config().vocab_size).map(<[f32]>::to_vec).collect()
}

#[test]
fn logits_equal_those_of_transformers() {
    #[derive(serde::Deserialize)]
    struct Reference {
        prompts: Vec<Prompt>,
    }
    #[derive(serde::Deserialize)]
    struct Prompt {
        tokens: Vec<u32>,
    }
    for name in NAMES {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lm").join(name);
        let notes: Reference = serde_json::from_slice(&std::fs::read(folder.join("reference.json")).unwrap()).unwrap();
        let expected =
            candle_core::safetensors::load(folder.join("reference.safetensors"), load(name).device()).unwrap().remove("batch_logits");
        let expected = expected.unwrap().to_vec2::<f32>().unwrap();
        let rows: Vec<&[u32]> = notes.prompts.iter().map(|prompt| prompt.tokens.as_slice()).collect();
        let found = logits(&load(name).engine().unwrap(), None, &rows);
        for (found, expected) in found.iter().zip(&expected) {
            let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "{name}: differs by {worst}");
        }
    }
}

#[test]
fn a_sequence_has_the_same_bits_alone_in_company_in_pieces_and_behind_a_shared_prefix() {
    let windows = crate::lm::shape_tests::references().into_keys().map(|name| (crate::lm::shape_tests::model(&name), name));
    for (model, name) in NAMES.map(|name| (load(name), name.to_owned())).into_iter().chain(windows) {
        for form in [WeightForm::F32, WeightForm::Bf16, WeightForm::Q8] {
            let engine = model.clone().with_form(form).engine().unwrap();
            let vocabulary = engine.config().vocab_size;
            let row = tokens(70, vocabulary, 1);
            let alone = logits(&engine, None, &[&row]).remove(0);
            let others = [tokens(3, vocabulary, 2), tokens(90, vocabulary, 3), tokens(1, vocabulary, 4)];
            let company = logits(&engine, None, &[&others[0], &others[1], &row, &others[2]]);
            assert_eq!(company[2], alone, "{name}, {form:?}: in company");

            let mut caches = [SequenceCache::new(engine.config(), row.len())];
            let mut work = Workspace::default();
            for piece in [&row[..1], &row[1..40], &row[40..69], &row[69..]] {
                engine.step(&Team::solo(), None, &[Segment { cache: 0, tokens: piece, logits: true }], &mut caches, &mut work);
            }
            assert_eq!(work.logits(vocabulary).next().unwrap(), alone, "{name}, {form:?}: in pieces");

            let mut caches = [SequenceCache::new(engine.config(), 37)];
            engine.step(&Team::solo(), None, &[Segment { cache: 0, tokens: &row[..37], logits: false }], &mut caches, &mut work);
            let [prefix] = caches;
            let mut caches = [SequenceCache::new(engine.config(), row.len())];
            caches[0].restart(Some(std::sync::Arc::new(prefix)));
            engine.step(&Team::solo(), None, &[Segment { cache: 0, tokens: &row[37..], logits: true }], &mut caches, &mut work);
            assert_eq!(work.logits(vocabulary).next().unwrap(), alone, "{name}, {form:?}: behind a prefix");
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let engine = load("qwen3").engine().unwrap();
    let rows: Vec<Vec<u32>> = (0..9).map(|turn| tokens(40 + turn, engine.config().vocab_size, turn)).collect();
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| logits(&engine, None, &rows.iter().map(Vec::as_slice).collect::<Vec<_>>()))
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn lower_weight_types_are_the_rounded_weights_exactly() {
    // The engine with 8-bit weights is the f32 engine over weights that were rounded beforehand.
    let model = load("llama-untied-bias");
    for form in [WeightForm::Bf16, WeightForm::Q8] {
        let lower = model.clone().with_form(form).engine().unwrap();
        let round = |weight: &candle_core::Tensor| {
            let (rows, cols) = weight.dims2().unwrap();
            let packed = crate::kernel::Packed::new(&[&weight.flatten_all().unwrap().to_vec1::<f32>().unwrap()], cols, form).unwrap();
            let mut values = vec![0.0; rows * cols];
            values.chunks_exact_mut(cols).enumerate().for_each(|(row, to)| packed.row(row, to));
            candle_core::Tensor::from_vec(values, (rows, cols), weight.device()).unwrap()
        };
        let mut rounded = Decoder::clone(&model.decoder().unwrap());
        rounded.head = round(&rounded.head);
        for linear in rounded.layers.iter_mut().flat_map(|layer| &mut layer.linears) {
            linear.weight = round(&linear.weight);
        }
        let rounded = model.with_decoder(rounded).engine().unwrap();
        let row = tokens(50, lower.config().vocab_size, 5);
        let found = logits(&lower, None, &[&row]);
        assert_eq!(found, logits(&rounded, None, &[&row]));
        assert_ne!(found, logits(&model.engine().unwrap(), None, &[&row]));
        assert!(lower.bytes() < model.engine().unwrap().bytes());
    }
}

#[test]
fn sequences_join_and_leave_and_every_answer_is_that_of_the_sequence_alone() {
    let engine = load("mistral").engine().unwrap();
    let vocabulary = engine.config().vocab_size;
    let prompts: Vec<Vec<u32>> =
        (0..23).map(|turn| [tokens(12, vocabulary, 99), tokens(1 + turn * 3 % 40, vocabulary, turn)].concat()).collect();
    let requests: Vec<Request> = prompts.iter().enumerate().map(|(i, tokens)| Request { tokens, limit: 1 + i % 7 }).collect();
    let choose = |_: usize, tokens: &[u32], logits: &[f32]| {
        let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32;
        Ok::<_, ()>(if best.is_multiple_of(5) && tokens.len() > 1 { Next::Last(best) } else { Next::Token(best) })
    };
    let run = |requests: &[Request], rows| Schedule { engine: &engine, adapter: None, rows }.run(requests, &choose).unwrap();
    let together = run(&requests, 4);
    assert!(together.iter().all(|answer| answer.cached_tokens == 12));
    for (request, answer) in requests.iter().zip(&together) {
        let alone = run(std::slice::from_ref(request), 1).remove(0);
        assert_eq!((&alone.tokens, alone.cached_tokens), (&answer.tokens, 0));
        assert!((1..=request.limit).contains(&answer.tokens.len()));
    }
    assert_eq!(run(&[], 4).len(), 0);
}

#[test]
fn a_packed_adapter_is_the_adapter_merged_into_the_weights() {
    use crate::lm::config::Module;
    let model = load("qwen2");
    let shapes = model.config.linear_shapes();
    let value = |i: usize, salt: usize| ((i * 37 + salt * 11) % 23) as f32 * 0.01 - 0.1;
    // Ranks differ and some modules have none.
    let pair = |layer: usize, module: Module| {
        let rank = [3, 0, 2, 4, 0, 5, 1][module as usize];
        let (_, out, input) = shapes[module as usize];
        let fill = |count: usize| (0..count).map(|i| value(i, layer + module as usize)).collect();
        (rank > 0).then(|| DensePair { a: fill(rank * input), b: fill(out * rank), gain: None })
    };
    let packed = PackedAdapter::pack(&model.config, 0.5, pair).unwrap();
    let mut merged = Decoder::clone(&model.decoder().unwrap());
    for (layer, weights) in merged.layers.iter_mut().enumerate() {
        for module in Module::ALL {
            let (_, out, input) = shapes[module as usize];
            let Some(pair) = pair(layer, module) else { continue };
            let rank = pair.a.len() / input;
            let tensor = |values: Vec<f32>, shape: (usize, usize)| candle_core::Tensor::from_vec(values, shape, model.device()).unwrap();
            let update = tensor(pair.b, (out, rank)).matmul(&tensor(pair.a, (rank, input))).unwrap();
            let weight = &mut weights.linears[module as usize].weight;
            *weight = (&*weight + (update * 0.5).unwrap()).unwrap();
        }
    }
    let merged = model.with_decoder(merged).engine().unwrap();
    let engine = model.engine().unwrap();
    let row = tokens(20, engine.config().vocab_size, 3);
    let (found, expected) = (logits(&engine, Some(&packed), &[&row]).remove(0), logits(&merged, None, &[&row]).remove(0));
    let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-4, "differs by {worst}");
    assert_ne!(found, logits(&engine, None, &[&row]).remove(0));
}
