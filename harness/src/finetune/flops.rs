//! Analytic operations of a training step: two per weight and token forward, twice that backward, half of it where weights are frozen.

use crate::lm::config::DecoderConfig;
use crate::lm::lora::LoraWeights;

use super::batch::MicroBatch;

/// Operations of a forward pass from position 0: linear layers, causal attention (each position attends to itself and what stands before),
/// and the head at the positions that are predicted.
pub fn forward_flops(config: &DecoderConfig, batch: &MicroBatch) -> f64 {
    let linear: usize = config.linear_shapes().iter().map(|(_, out, input)| out * input).sum();
    let attention_width = config.num_attention_heads * config.head_dim;
    let layers = config.num_hidden_layers as f64;
    let per_row = |&length: &usize| {
        let length = length as f64;
        let pairs = length * (length + 1.0) / 2.0;
        layers * (2.0 * linear as f64 * length + 4.0 * attention_width as f64 * pairs)
    };
    let head = 2.0 * (config.vocab_size * config.hidden_size) as f64 * batch.predictions() as f64;
    batch.lengths.iter().map(per_row).sum::<f64>() + head
}

/// Operations of one forward and backward pass. Full fine-tuning needs the gradient of inputs and weights (three times the forward pass);
/// LoRA needs the inputs' only (twice), and all three for its own small matrices.
pub fn training_flops(config: &DecoderConfig, batch: &MicroBatch, adapter: Option<&LoraWeights>) -> f64 {
    let forward = forward_flops(config, batch);
    let Some(adapter) = adapter else { return 3.0 * forward };
    let tokens: usize = batch.lengths.iter().sum();
    let low_rank: usize = adapter.pairs.values().map(|pair| pair.a.elem_count() + pair.b.elem_count()).sum();
    2.0 * forward + 6.0 * (low_rank * tokens) as f64
}
