//! What runs where the kernels do not apply: the decoder and the generator through candle's operations alone. f64 in main memory stands in for
//! another device (no kernel takes it); on a machine with a GPU, in a build with CUDA, the same checks run there.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};

use super::config::Module;
use super::decoder::{Decoder, Positions};
use super::generate::{Backend, Generator};
use super::layout::named_tensors;
use super::lora::{LoraDropout, LoraPair, LoraWeights};
use super::*;
use crate::rng::Rng;
use crate::spec::DeviceName;

const NAMES: [&str; 5] = ["llama-gqa-tied", "llama-untied-bias", "mistral", "qwen2", "qwen3"];
const TEXTS: [&str; 3] = ["Torvas", "Question: Where was the ship built?", "Passage: the café of the guild"];
const TOLERANCE: f64 = 1e-4;

/// A device and a type.
struct Place {
    device: Device,
    dtype: DType,
}

impl Place {
    const KERNELS: Self = Self { device: Device::Cpu, dtype: DType::F32 };
    const FALLBACK: Self = Self { device: Device::Cpu, dtype: DType::F64 };

    /// The first GPU; nothing without one.
    fn gpu() -> Option<Self> {
        let device = ComputeDevice::open(DeviceName::Cuda(0)).ok()?;
        Some(Self { device: device.candle().clone(), dtype: DType::F32 })
    }

    fn put(&self, tensor: &Tensor) -> Tensor {
        tensor.to_device(&self.device).unwrap().to_dtype(self.dtype).unwrap()
    }

    fn decoder(&self, of: &Decoder, mut weight: impl FnMut(&str, Tensor) -> Tensor) -> Decoder {
        let stored: BTreeMap<String, Tensor> = named_tensors(of).into_iter().map(|(name, tensor)| (name, self.put(tensor))).collect();
        let given = |name: &str, _: &[usize]| candle_core::Result::Ok(weight(name, stored[name].clone()));
        Decoder::new(&of.config, &self.device, given).unwrap()
    }

    /// An adapter of rank 3 on every module of every layer.
    fn adapter(&self, of: &Decoder, mut weight: impl FnMut(String, Tensor) -> Tensor) -> LoraWeights {
        let mut pairs = BTreeMap::new();
        for layer in 0..of.config.num_hidden_layers {
            for (module, out, input) in of.config.linear_shapes() {
                let mut make = |matrix: char, shape: (usize, usize)| {
                    let name = format!("{layer}/{}/{matrix}", module.name());
                    let mut rng = Rng::new(2, &name);
                    let values: Vec<f32> = (0..shape.0 * shape.1).map(|_| 0.2 * rng.normal() as f32).collect();
                    weight(name, self.put(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()))
                };
                pairs.insert((layer, module), LoraPair { a: make('A', (3, input)), b: make('B', (out, 3)) });
            }
        }
        LoraWeights::new(pairs, 2.0)
    }
}

fn load(name: &str) -> LocalModel {
    LocalModel::load_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lm").join(name), 0).unwrap()
}

fn floats(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The loss of a short batch and every gradient: of all weights, or of an adapter with or without dropout beside frozen weights.
fn gradients(model: &Decoder, place: &Place, adapter: Option<f64>) -> BTreeMap<String, Vec<f64>> {
    let mut vars: BTreeMap<String, Var> = BTreeMap::new();
    let mut var = |name: String, tensor: Tensor| {
        let var = Var::from_tensor(&tensor).unwrap();
        vars.insert(name, var.clone());
        var.as_tensor().clone()
    };
    let (decoder, adapter) = match adapter {
        None => (place.decoder(model, |name, tensor| var(name.to_owned(), tensor)), None),
        Some(probability) => {
            let dropout = LoraDropout { probability, seed: 3, micro_step: 5 };
            let mut adapter = place.adapter(model, &mut var);
            adapter.dropout = Some(dropout);
            (place.decoder(model, |_, tensor| tensor), Some(adapter))
        }
    };
    let device = &place.device;
    let tokens = Tensor::new(&[[0u32, 5, 9, 80, 3], [7, 2, 2, 61, 0]], device).unwrap();
    let hidden = decoder.forward(&tokens, Positions::FromZero, adapter.as_ref(), None).unwrap();
    let places = Tensor::new(&[1u32, 3, 4, 8], device).unwrap();
    let counted = hidden.reshape((10, decoder.config.hidden_size)).unwrap().index_select(&places, 0).unwrap();
    let (targets, weights) = (Tensor::new(&[9u32, 3, 7, 1], device).unwrap(), Tensor::new(&[1f32, 0.5, 2.0, 1.0], device).unwrap());
    let loss = ops::head_cross_entropy(&counted, &decoder.head, &targets, &weights, 4.5).unwrap();
    let found = loss.backward().unwrap();
    let gradient = |(name, var): (&String, &Var)| (name.clone(), floats(found.get(var).unwrap_or_else(|| panic!("no gradient of {name}"))));
    vars.iter().map(gradient).chain([("loss".to_owned(), floats(&loss))]).collect()
}

#[track_caller]
fn assert_close(found: &BTreeMap<String, Vec<f64>>, expected: &BTreeMap<String, Vec<f64>>, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (name, expected) in expected {
        let found = &found[name];
        assert_eq!(found.len(), expected.len(), "{what}: {name}");
        let scale = expected.iter().fold(1f64, |top, x| top.max(x.abs()));
        let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst <= TOLERANCE * scale, "{what}: {name} differs by {worst}");
    }
}

fn check_gradients(place: &Place) {
    for name in NAMES {
        let model = load(name).decoder().unwrap();
        for adapter in [None, Some(0.0), Some(0.3)] {
            let expected = gradients(&model, &Place::KERNELS, adapter);
            assert!(expected["loss"][0] > 1.0 && expected.len() > 10);
            assert_close(&gradients(&model, place, adapter), &expected, &format!("{name}, adapter {adapter:?}"));
        }
    }
}

/// Models with prompts of several lengths; those of other shapes have no tokenizer of their own and get token ids.
fn models_with_prompts() -> Vec<(String, LocalModel, Vec<Prompt>)> {
    let named = NAMES.map(|name| {
        let model = load(name);
        let rows = TEXTS.map(|text| Prompt { tokens: model.encode_prompt(text).unwrap(), stream: text.into() });
        (name.to_owned(), model, rows.to_vec())
    });
    let shapes = shape_tests::references().into_iter().map(|(name, reference)| {
        let prompt = |length: usize| Prompt { tokens: reference.tokens[..length].to_vec(), stream: String::new() };
        let rows = [9, 70, 25].map(prompt).to_vec();
        (name.clone(), shape_tests::model(&name), rows)
    });
    named.into_iter().chain(shapes).collect()
}

fn check_answers(place: &Place) {
    for (name, model, rows) in models_with_prompts() {
        let moved = place.decoder(&model.decoder().unwrap(), |_, tensor| tensor);
        let config = GenerationConfig {
            max_new_tokens: 12,
            temperature: 0.0,
            top_p: 1.0,
            stop: Vec::new(),
            seed: 1,
            batch_size: 2,
            forced_tokens: None,
        };
        let check = |on_kernels: Option<&LoraWeights>, on_place: Option<&LoraWeights>| {
            let backend = Backend::Candle(&moved, on_place);
            let found = Generator { shape: &model.config, tokenizer: &model.tokenizer, backend, config: &config }.generate(&rows).unwrap();
            let expected = model.generate(&rows, on_kernels, &config).unwrap();
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!((&found.text, found.output_tokens), (&expected.text, expected.output_tokens), "{name}");
            }
        };
        check(None, None);
        let adapter = |place: &Place| {
            let mut adapter = place.adapter(&model.decoder().unwrap(), |_, tensor| tensor);
            adapter.pairs.retain(|(_, module), _| matches!(module, Module::Q | Module::Down));
            adapter
        };
        check(Some(&adapter(&Place::KERNELS)), Some(&adapter(place)));
    }
}

#[test]
fn without_the_kernels_every_gradient_is_the_same() {
    check_gradients(&Place::FALLBACK);
}

#[test]
fn without_the_kernels_every_answer_is_the_same() {
    check_answers(&Place::FALLBACK);
}

#[test]
fn on_a_gpu_gradients_and_answers_are_the_same() {
    let Some(place) = Place::gpu() else {
        eprintln!("skipped: no GPU in this build or on this machine");
        return;
    };
    check_gradients(&place);
    check_answers(&place);
}
