//! A tiny decoder and fixed rows for the tests of this module.

use candle_core::{Device, Tensor, Var};

use crate::lm::config::DecoderConfig;
use crate::lm::decoder::{Decoder, Positions};
use crate::lm::lora::LoraWeights;
use crate::rng::Rng;

use super::optimizer::Parameters;
use super::{BatchSource, TrainingSequence};

/// Two layers with everything that can have a weight: biases, query/key norm, grouped queries, an untied head.
pub(crate) fn config() -> DecoderConfig {
    DecoderConfig {
        architecture: "Qwen3ForCausalLM".into(),
        vocab_size: 19,
        hidden_size: 16,
        intermediate_size: 24,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 6,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        unrotated_layers: Vec::new(),
        rotary_dim: None,
        sliding_window: None,
        max_position_embeddings: 64,
        tie_word_embeddings: false,
        qkv_bias: true,
        output_bias: true,
        mlp_bias: true,
        qk_norm: true,
        gemma: None,
    }
}

/// Random weights; the same ones for the same seed.
pub(crate) fn decoder(config: DecoderConfig, seed: u64) -> Decoder {
    Decoder::new(&config, &Device::Cpu, |name, shape| weight(name, shape, seed)).unwrap()
}

/// The same decoder with `Var`s for weights.
pub(crate) fn trainable(config: DecoderConfig, seed: u64) -> (Decoder, Parameters) {
    let mut parameters = Parameters::new();
    let decoder = Decoder::new(&config, &Device::Cpu, |name, shape| {
        let var = Var::from_tensor(&weight(name, shape, seed)?)?;
        parameters.insert(name.to_owned(), var.clone());
        Ok::<_, candle_core::Error>(var.as_tensor().clone())
    });
    (decoder.unwrap(), parameters)
}

fn weight(name: &str, shape: &[usize], seed: u64) -> candle_core::Result<Tensor> {
    let mut rng = Rng::new(seed, name);
    let count = shape.iter().product();
    let mean = if name.ends_with("norm.weight") { 1.0 } else { 0.0 };
    let values: Vec<f32> = (0..count).map(|_| (mean + 0.2 * rng.normal()) as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// Logits of every position, row by row.
pub(crate) fn logits(decoder: &Decoder, adapter: Option<&LoraWeights>, tokens: &[Vec<u32>]) -> Vec<f32> {
    let tokens = Tensor::new(tokens.to_vec(), &Device::Cpu).unwrap();
    let hidden = decoder.forward(&tokens, Positions::FromZero, adapter, None).unwrap();
    decoder.logits(&hidden).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest absolute difference.
pub(crate) fn distance(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(left, right)| (left - right).abs()).fold(0.0, f32::max)
}

/// Every weight's bytes.
pub(crate) fn bits(decoder: &Decoder) -> Vec<u32> {
    let values = super::full::weights(decoder).into_values();
    values.flat_map(|tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()).map(f32::to_bits).collect()
}

/// The micro-batches of each step, as given.
pub(crate) struct FixedBatches(pub Vec<Vec<Vec<TrainingSequence>>>);

impl FixedBatches {
    /// Rows of random tokens and lengths, with random loss weights.
    pub(crate) fn random(steps: usize, micro_batches: usize, rows: usize) -> Self {
        let mut rng = Rng::new(11, "rows");
        let mut row = || {
            let length = 4 + rng.below(6);
            let loss_weights = (0..length).map(|i| if i < 2 { 0.0 } else { 0.5 + rng.uniform() as f32 }).collect();
            TrainingSequence { tokens: (0..length).map(|_| rng.below(19) as u32).collect(), loss_weights }
        };
        Self((0..steps).map(|_| (0..micro_batches).map(|_| (0..rows).map(|_| row()).collect()).collect()).collect())
    }

    /// One row, again and again.
    pub(crate) fn constant(steps: usize, tokens: &[u32]) -> Self {
        let row = TrainingSequence { tokens: tokens.to_vec(), loss_weights: vec![1.0; tokens.len()] };
        Self(vec![vec![vec![row]]; steps])
    }
}

impl BatchSource for FixedBatches {
    fn batches(&self, step: u64) -> Vec<Vec<TrainingSequence>> {
        self.0[step as usize].clone()
    }

    fn steps(&self) -> u64 {
        self.0.len() as u64
    }
}
