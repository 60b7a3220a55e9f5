//! Language models: the built-in one, and random weights in shapes that matter.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use ragft::kernel::WeightForm;
use ragft::lm::ComputeDevice;
use ragft::lm::builtin::load_builtin;
use ragft::lm::config::DecoderConfig;
use ragft::lm::decoder::Decoder;
use ragft::lm::lora::{LoraPair, LoraWeights};
use ragft::lm::{GenerationConfig, LocalModel, ModelError, Prompt};
use ragft::rng::Rng;
use rayon::prelude::*;

use crate::SEED;

/// Weights that one random stream gives: large matrices are drawn on all threads, and do not depend on how many there are.
const STREAM: usize = 1 << 16;

/// Forms of the weights, with their names in specs.
pub const FORMS: [(&str, WeightForm); 3] = [("f32", WeightForm::F32), ("bf16", WeightForm::Bf16), ("q8_0", WeightForm::Q8)];

/// The shape of SmolLM2-135M: 30 layers x 576, three query heads to a key/value head, vocabulary 49,152.
pub fn shape_135m() -> DecoderConfig {
    DecoderConfig {
        vocab_size: 49_152,
        hidden_size: 576,
        intermediate_size: 1536,
        num_hidden_layers: 30,
        num_attention_heads: 9,
        num_key_value_heads: 3,
        ..shape_tiny()
    }
}

/// 6 layers x 256, vocabulary 1,024: the size of the model that the quickstart pre-trains, and of `benches/peers`.
pub fn shape_tiny() -> DecoderConfig {
    DecoderConfig {
        architecture: "LlamaForCausalLM".into(),
        vocab_size: 1024,
        hidden_size: 256,
        intermediate_size: 704,
        num_hidden_layers: 6,
        num_attention_heads: 4,
        num_key_value_heads: 4,
        head_dim: 64,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        unrotated_layers: Vec::new(),
        rotary_dim: None,
        sliding_window: None,
        max_position_embeddings: 4096,
        tie_word_embeddings: true,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        qk_norm: false,
        gemma: None,
    }
}

/// A decoder with random weights of trained ones' size: activations neither vanish nor overflow.
///
/// # Errors
/// A failed tensor operation.
pub fn random_decoder(config: &DecoderConfig) -> Result<Decoder, candle_core::Error> {
    Decoder::new(config, &Device::Cpu, |name, shape| {
        let count = shape.iter().product();
        let values = if name.ends_with("norm.weight") {
            vec![1.0; count]
        } else if name.contains("embed") {
            uniform(name, count, 0.05)
        } else {
            uniform(name, count, 1.0 / (shape[shape.len() - 1] as f64).sqrt())
        };
        Tensor::from_vec(values, shape, &Device::Cpu)
    })
}

/// Uniform values of standard deviation `deviation`, named by a stream.
pub(crate) fn uniform(name: &str, count: usize, deviation: f64) -> Vec<f32> {
    let bound = deviation * 3f64.sqrt();
    let mut values = vec![0.0; count];
    values.par_chunks_mut(STREAM).enumerate().for_each(|(index, chunk)| {
        let mut rng = Rng::indexed(SEED, name, index as u64);
        chunk.iter_mut().for_each(|value| *value = (bound * (2.0 * rng.uniform() - 1.0)) as f32);
    });
    values
}

/// A model with random weights. Its tokenizer is the built-in model's: the benches give ids and ask for a number of tokens, and nobody reads
/// the text.
///
/// # Errors
/// A failed tensor operation.
pub fn random_model(config: &DecoderConfig, form: WeightForm) -> Result<LocalModel, ModelError> {
    let tokenizer = load_builtin(0, &ComputeDevice::cpu())?.tokenizer;
    Ok(LocalModel::new(random_decoder(config)?, tokenizer).with_form(form))
}

/// A LoRA adapter with random weights on all seven projections of a decoder, and the same with DoRA's magnitudes.
///
/// # Errors
/// A failed tensor operation.
pub fn random_adapters(decoder: &Decoder, rank: usize) -> Result<(LoraWeights, LoraWeights), candle_core::Error> {
    let (mut pairs, mut magnitudes) = (BTreeMap::new(), BTreeMap::new());
    for layer in 0..decoder.config.num_hidden_layers {
        for (module, out, input) in decoder.config.linear_shapes() {
            let matrix = |name: char, shape: (usize, usize)| {
                let values = uniform(&format!("lora_{name}/{layer}/{}", module.name()), shape.0 * shape.1, 0.02);
                Tensor::from_vec(values, shape, &Device::Cpu)
            };
            pairs.insert((layer, module), LoraPair { a: matrix('A', (rank, input))?, b: matrix('B', (out, rank))? });
            magnitudes.insert((layer, module), Tensor::ones(out, DType::F32, &Device::Cpu)?);
        }
    }
    let lora = LoraWeights::new(pairs, 2.0);
    Ok((lora.clone(), lora.with_magnitudes(magnitudes)))
}

/// Prompts of random ids; no two begin alike, so that no prefix is computed once for all.
pub fn prompts(count: usize, length: usize, vocabulary: usize) -> Vec<Prompt> {
    assert!(count <= vocabulary, "more prompts than first tokens");
    let mut rng = Rng::new(SEED, "prompts");
    let first = rng.sample_indices(vocabulary, count);
    let prompt = |first: usize| {
        let rest = (1..length).map(|_| rng.below(vocabulary) as u32);
        Prompt { tokens: std::iter::once(first as u32).chain(rest).collect(), stream: String::new() }
    };
    first.into_iter().map(prompt).collect()
}

/// Greedy, exactly `new` tokens a prompt, all prompts at a time.
pub fn forced(new: usize) -> GenerationConfig {
    GenerationConfig {
        max_new_tokens: new,
        temperature: 0.0,
        top_p: 1.0,
        stop: Vec::new(),
        seed: 0,
        batch_size: usize::MAX,
        forced_tokens: Some(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ragft::lm::LanguageModel as _;

    #[test]
    fn a_random_model_gives_as_many_tokens_as_are_asked_for_in_every_form() {
        let config = DecoderConfig { num_hidden_layers: 2, ..shape_tiny() };
        for (_, form) in FORMS {
            let model = random_model(&config, form).unwrap();
            let answers = model.generate(&prompts(3, 8, config.vocab_size), None, &forced(4)).unwrap();
            assert!(answers.len() == 3 && answers.iter().all(|answer| answer.output_tokens == 4));
        }
    }

    #[test]
    fn a_random_adapter_beside_the_weights_answers_as_merged_into_them() {
        let model = random_model(&DecoderConfig { num_hidden_layers: 2, ..shape_tiny() }, WeightForm::F32).unwrap();
        let (lora, dora) = random_adapters(&model.decoder().unwrap(), 4).unwrap();
        let answer = |model: &LocalModel, adapter: Option<&LoraWeights>| {
            model.generate(&prompts(1, 8, 1024), adapter, &forced(6)).unwrap().remove(0).text
        };
        for adapter in [&lora, &dora] {
            let merged = model.with_decoder(ragft::finetune::lora::merge(&model.decoder().unwrap(), adapter).unwrap());
            assert_eq!(answer(&model, Some(adapter)), answer(&merged, None));
        }
    }

    #[test]
    fn the_large_shape_has_135_million_weights() {
        assert_eq!(shape_135m().parameter_count(), 134_515_008);
    }

    #[test]
    fn weights_do_not_depend_on_the_number_of_threads() {
        let draw = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| uniform("w", 3 * STREAM + 1, 0.1))
        };
        assert_eq!(draw(1), draw(3));
    }
}
