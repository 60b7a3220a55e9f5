//! Analytic operations of a training step.
//!
//! The backward pass of a product costs one more product for its input and one for its weight; a frozen weight has no gradient. So a token
//! costs `6 N` in full fine-tuning and `4 N + 6 N_adapter` beside a frozen base (`N` weights of the linear layers); attention, whose two
//! factors are both computed, costs three times its forward pass either way.

use crate::lm::config::DecoderConfig;
use crate::lm::lora::LoraWeights;

use super::batch::MicroBatch;

/// Operations of one forward and backward pass, padding not counted; the head is computed at the predicted positions only.
pub fn training_flops(config: &DecoderConfig, batch: &MicroBatch, adapter: Option<&LoraWeights>) -> f64 {
    let tokens = batch.lengths.iter().sum::<usize>() as f64;
    let block: usize = config.linear_shapes().iter().map(|(_, out, input)| out * input).sum();
    let linear = 2.0 * (config.num_hidden_layers * block) as f64 * tokens;
    let head = 2.0 * (config.vocab_size * config.hidden_size * batch.predictions()) as f64;
    let (passes, low_rank) = match adapter {
        None => (3.0, 0),
        Some(adapter) => (2.0, adapter.pairs.values().map(|pair| pair.a.elem_count() + pair.b.elem_count()).sum()),
    };
    passes * (linear + head) + 3.0 * attention_flops(config, &batch.lengths) + 6.0 * low_rank as f64 * tokens
}

/// Scores and mixing, forward: each position sees itself and what stands before it.
fn attention_flops(config: &DecoderConfig, lengths: &[usize]) -> f64 {
    let pairs: f64 = lengths.iter().map(|&length| config.attended_pairs(0, length)).sum();
    4.0 * (config.num_attention_heads * config.head_dim) as f64 * pairs
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::lora::{self, LoraConfig};
    use super::super::{TrainingSequence, testing};
    use super::*;
    use crate::lm::config::Module;

    #[test]
    fn operations_are_those_counted_by_hand() {
        let row = TrainingSequence { tokens: vec![1; 4], loss_weights: vec![0.0, 0.0, 1.0, 1.0] };
        let batch = MicroBatch::new(&[row], &Device::Cpu).unwrap();
        let config = testing::config();
        // Two blocks of q 24x16, k and v 12x16, o 16x24, gate and up 24x16, down 16x24; three positions, two of them predicted.
        let (linear, head, attention) = (2.0 * 2.0 * 2304.0 * 3.0, 2.0 * 19.0 * 16.0 * 2.0, 4.0 * 2.0 * 24.0 * 6.0);
        assert_eq!(training_flops(&config, &batch, None), 3.0 * (linear + head + attention));
        let lora = LoraConfig { rank: 2, alpha: 2.0, dropout: 0.0, rank_stabilised: false, target_modules: vec![Module::Q] };
        let (adapter, _) = lora::fresh(&config, &lora, 1, &Device::Cpu).unwrap();
        let low_rank = 6.0 * 2.0 * 2.0 * (16.0 + 24.0) * 3.0;
        assert_eq!(training_flops(&config, &batch, Some(&adapter)), 2.0 * (linear + head) + 3.0 * attention + low_rank);
    }
}
