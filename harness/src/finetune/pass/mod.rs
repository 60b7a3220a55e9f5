//! Loss and gradients of a decoder, written out: the forward pass keeps what the backward pass needs, the backward pass adds to plain
//! buffers, and both reuse their memory from step to step. candle's autograd computes the same (the tests hold them together) and remains
//! the way on other devices and with dropout.
//!
//! Rows are packed one after the other, without padding. A micro-batch is cut into shards that threads compute side by side; where it is cut
//! depends on its rows alone, and shards are summed in order, so that the number of threads changes no bit.
//!
//! Shapes: M positions of a shard, C hidden width, H query heads, K key/value heads, D head width, I inner width, V vocabulary, r rank.

mod attention;
mod block;
mod head;
mod linear;
mod shard;
mod slots;

use std::collections::BTreeMap;
use std::sync::Mutex;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::batch::{BatchRow, MicroBatch};
use super::optimizer::{Gradients, Parameters};
use crate::lm::decoder::Decoder;
use crate::lm::layout::named_tensors;
use crate::lm::lora::LoraWeights;
use crate::lm::ops;

use block::Saved;
use shard::{Model, Shard};
use slots::Slots;

/// Positions of a shard: enough rows for fast products, few enough for many threads.
const SHARD: usize = 512;

/// A micro-batch is cut into this many shards even if they become shorter than that, down to [`SHORTEST`] positions.
const LEAST_SHARDS: usize = 4;

/// Positions below which a shard is not cut further.
const SHORTEST: usize = 64;

/// Shards of a micro-batch at most when the weights themselves are trained: every shard holds gradients of them all.
const WEIGHT_SHARDS: usize = 4;

/// Memory that is kept from one micro-batch to the next.
#[derive(Debug, Default)]
pub struct Workspaces {
    free: Mutex<Vec<Workspace>>,
}

/// Buffers of one shard.
#[derive(Debug, Default)]
struct Workspace {
    /// By block; with gradient checkpointing one for all.
    saved: Vec<Saved>,
    scratch: block::Scratch,
    /// By parameter, in the order of names.
    gradients: Vec<Vec<f32>>,
}

impl Workspaces {
    fn take(&self) -> Workspace {
        self.free.lock().expect("no thread panics while it holds the workspaces").pop().unwrap_or_default()
    }

    fn give_back(&self, workspace: Workspace) {
        self.free.lock().expect("no thread panics while it holds the workspaces").push(workspace);
    }
}

/// What is computed.
#[derive(Debug, Clone, Copy)]
pub struct Pass<'a> {
    /// Weights.
    pub decoder: &'a Decoder,
    /// Update beside them, without dropout.
    pub adapter: Option<&'a LoraWeights>,
    /// Keep only the blocks' inputs and compute the rest anew in the backward pass: less memory, a third more time.
    pub recompute: bool,
}

impl Pass<'_> {
    /// Whether this pass computes the decoder and can read its weights: not Gemma, whose gradients candle's autograd gives, and f32 in main memory.
    pub fn applies(&self) -> bool {
        if self.decoder.config.gemma.is_some() {
            return false;
        }
        let weights: Vec<&Tensor> = self.tensors().into_iter().map(|(_, tensor)| tensor).collect();
        ops::supported(&weights) && weights.iter().all(|tensor| tensor.is_contiguous())
    }

    /// Every weight by name: the decoder's, then the adapter's.
    fn tensors(&self) -> Vec<(String, &Tensor)> {
        let mut tensors = named_tensors(self.decoder);
        for (&(layer, module), pair) in self.adapter.iter().flat_map(|adapter| &adapter.pairs) {
            tensors.push((super::lora::tensor_name(layer, module, 'A'), &pair.a));
            tensors.push((super::lora::tensor_name(layer, module, 'B'), &pair.b));
        }
        tensors
    }

    /// `sum(w * -log p[target]) / normaliser` and its gradients for `parameters`.
    ///
    /// # Errors
    /// When a weight cannot be read.
    pub fn gradients(
        &self,
        parameters: &Parameters,
        batch: &MicroBatch,
        normaliser: f64,
        workspaces: &Workspaces,
    ) -> Result<(f64, Gradients)> {
        let (loss, parts) = self.run(parameters, batch, normaliser, workspaces)?;
        let mut parts = parts.into_iter();
        let mut total = parts.next().unwrap_or_default();
        for part in parts {
            total.gradients.par_iter_mut().zip(&part.gradients).for_each(|(sum, gradient)| add(sum, gradient));
            workspaces.give_back(part);
        }
        let gradients = parameters.keys().cloned().zip(std::mem::take(&mut total.gradients)).collect();
        workspaces.give_back(total);
        Ok((loss, gradients))
    }

    /// The loss alone.
    ///
    /// # Errors
    /// When a weight cannot be read.
    pub fn loss(&self, batch: &MicroBatch, normaliser: f64, workspaces: &Workspaces) -> Result<f64> {
        let (loss, parts) = self.run(&Parameters::new(), batch, normaliser, workspaces)?;
        parts.into_iter().for_each(|part| workspaces.give_back(part));
        Ok(loss)
    }

    /// The loss, and the shards' workspaces in order.
    fn run(&self, parameters: &Parameters, batch: &MicroBatch, normaliser: f64, workspaces: &Workspaces) -> Result<(f64, Vec<Workspace>)> {
        let tensors = self.tensors();
        let rotary = self.decoder.rope_tables();
        let all: Vec<&Tensor> = tensors.iter().map(|(_, tensor)| *tensor).chain([rotary.0, rotary.1]).collect();
        let slots = Slots::new(self.decoder, parameters);
        let shards = shards(&batch.rows, slots.trains_weights());
        let parallel = shards.len() < rayon::current_num_threads();
        ops::with_floats(&all, |slices| {
            let names = tensors.iter().map(|(name, _)| name.as_str());
            let weights: BTreeMap<&str, &[f32]> = names.zip(slices.iter().copied()).collect();
            let tables = (slices[slices.len() - 2], slices[slices.len() - 1]);
            let model = Model::new(&self.decoder.config, self.adapter, &weights, tables, &slots, parallel);
            let compute = |rows: &Vec<&BatchRow>| {
                let mut workspace = workspaces.take();
                let loss = Shard::new(&model, rows, normaliser).run(&mut workspace, self.recompute);
                (loss, workspace)
            };
            let parts: Vec<(f64, Workspace)> = shards.par_iter().with_max_len(1).map(compute).collect();
            let loss = parts.iter().map(|(loss, _)| loss).sum();
            Ok((loss, parts.into_iter().map(|(_, workspace)| workspace).collect()))
        })
    }
}

/// Rows with a prediction that counts (the others give neither loss nor gradient), cut into shards of about equally many positions.
fn shards(rows: &[BatchRow], trains_weights: bool) -> Vec<Vec<&BatchRow>> {
    let rows: Vec<&BatchRow> = rows.iter().filter(|row| !row.labels.is_empty()).collect();
    let total: usize = rows.iter().map(|row| row.tokens.len()).sum();
    let most = if trains_weights { WEIGHT_SHARDS } else { usize::MAX };
    let count = (total / SHARD).max(LEAST_SHARDS.min(total / SHORTEST)).clamp(1, most);
    let mut shards: Vec<Vec<&BatchRow>> = vec![Vec::new(); count];
    let mut before = 0;
    for row in rows {
        // The shard in which the row's middle lies.
        let middle = before + row.tokens.len() / 2;
        shards[(middle * count / total).min(count - 1)].push(row);
        before += row.tokens.len();
    }
    shards.retain(|shard| !shard.is_empty());
    shards
}

fn add(sum: &mut [f32], other: &[f32]) {
    sum.iter_mut().zip(other).for_each(|(sum, other)| *sum += other);
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::super::batch::RowLabel;
    use super::super::full;
    use super::super::lora::{self, LoraConfig};
    use super::super::objective::{NextToken, Objective};
    use super::super::{TrainingSequence, testing};
    use super::*;
    use crate::lm::config::{DecoderConfig, Module, SlidingWindow};
    use crate::rng::Rng;

    /// Rows of several lengths, some positions of which count; one row has a single token and so no position.
    fn batch(vocabulary: usize) -> MicroBatch {
        let mut rng = Rng::new(3, "pass rows");
        let rows: Vec<TrainingSequence> = [9usize, 1, 14, 3, 70, 2]
            .into_iter()
            .map(|length| TrainingSequence {
                tokens: (0..length).map(|_| rng.below(vocabulary) as u32).collect(),
                // Half of the rows begin with a prompt that nothing is learnt from.
                loss_weights: (0..length)
                    .map(|i| if i % 3 == 2 || (length % 2 == 0 && 3 * i < 2 * length) { 0.0 } else { 0.5 + i as f32 * 0.1 })
                    .collect(),
            })
            .collect();
        MicroBatch::new(&rows, &Device::Cpu).unwrap()
    }

    /// One with everything, one with nothing, one as the built-in model, one whose second block knows no positions, one whose first block
    /// sees a window, and one that turns a part of its heads.
    fn shapes() -> Vec<DecoderConfig> {
        let everything = DecoderConfig { max_position_embeddings: 96, ..testing::config() };
        let bare = DecoderConfig { qkv_bias: false, output_bias: false, mlp_bias: false, qk_norm: false, ..everything.clone() };
        let tied = DecoderConfig { tie_word_embeddings: true, ..bare };
        let normed = DecoderConfig { qk_norm: true, ..tied.clone() };
        let unrotated = DecoderConfig { unrotated_layers: vec![1], ..normed.clone() };
        let sliding = DecoderConfig { sliding_window: Some(SlidingWindow { width: 5, layers: vec![0] }), ..everything.clone() };
        let partial = DecoderConfig { rotary_dim: Some(everything.head_dim - 2), ..everything.clone() };
        vec![everything, tied, normed, unrotated, sliding, partial]
    }

    #[track_caller]
    fn compare(objective: &NextToken, parameters: &Parameters, batch: &MicroBatch) {
        let loss = objective.loss(batch, batch.weight_sum, None).unwrap();
        let grads = loss.backward().unwrap();
        for recompute in [false, true] {
            let pass = Pass { decoder: objective.decoder, adapter: objective.adapter, recompute };
            assert!(pass.applies());
            let workspaces = Workspaces::default();
            // Twice, since the second time finds used memory.
            let first = pass.gradients(parameters, batch, batch.weight_sum, &workspaces).unwrap();
            let (value, gradients) = pass.gradients(parameters, batch, batch.weight_sum, &workspaces).unwrap();
            assert_eq!(first, (value, gradients.clone()));
            let expected = f64::from(loss.to_scalar::<f32>().unwrap());
            assert!((value - expected).abs() < 1e-5 * expected, "loss {value}, autograd {expected}");
            assert_eq!(pass.loss(batch, batch.weight_sum, &workspaces).unwrap(), value);
            assert_eq!(gradients.len(), parameters.len());
            for (name, var) in parameters {
                let expected: Vec<f32> = grads.get(var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
                let top = expected.iter().fold(1e-4f32, |top, g| top.max(g.abs()));
                let worst = expected.iter().zip(&gradients[name]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-4 * top, "`{name}`: differs by {worst} of {top}");
                assert!(gradients[name].iter().any(|g| *g != 0.0), "`{name}` got zeros");
            }
        }
    }

    #[test]
    fn full_gradients_equal_those_of_autograd() {
        for config in shapes() {
            let base = testing::decoder(config, 3);
            let (decoder, parameters) = full::trainable(&base).unwrap();
            compare(&NextToken::new(&decoder, None), &parameters, &batch(base.config.vocab_size));
        }
    }

    #[test]
    fn adapter_gradients_equal_those_of_autograd() {
        for (config, modules) in shapes().into_iter().zip([
            &Module::ALL[..],
            &[Module::K, Module::Down],
            &[Module::Q, Module::O, Module::Up],
            &[Module::Q, Module::K, Module::V],
            &Module::ALL[..],
        ]) {
            let base = testing::decoder(config, 3);
            let settings = LoraConfig { rank: 3, alpha: 6.0, dropout: 0.0, rank_stabilised: false, target_modules: modules.to_vec() };
            let (adapter, parameters) = lora::fresh(&base.config, &settings, 5, &Device::Cpu).unwrap();
            for (name, var) in &parameters {
                let mut rng = Rng::new(6, name);
                let values: Vec<f32> = (0..var.elem_count()).map(|_| 0.3 * rng.normal() as f32).collect();
                var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap()).unwrap();
            }
            compare(&NextToken::new(&base, Some(&adapter)), &parameters, &batch(base.config.vocab_size));
        }
    }

    #[test]
    fn a_part_of_the_weights_can_be_trained_alone() {
        let base = testing::decoder(shapes().remove(0), 3);
        let (decoder, mut parameters) = full::trainable(&base).unwrap();
        parameters.retain(|name, _| name.contains("layers.1") || name == "model.norm.weight");
        compare(&NextToken::new(&decoder, None), &parameters, &batch(base.config.vocab_size));
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let base = testing::decoder(shapes().remove(1), 3);
        let rows: Vec<TrainingSequence> = (0..12)
            .map(|row| TrainingSequence { tokens: (0..90).map(|i| ((i * 7 + row * 3) % 19) as u32).collect(), loss_weights: vec![1.0; 90] })
            .collect();
        let batch = MicroBatch::new(&rows, &Device::Cpu).unwrap();
        let (decoder, parameters): (_, std::collections::BTreeMap<String, Var>) = full::trainable(&base).unwrap();
        assert_eq!(shards(&batch.rows, true).len(), 4);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let pass = Pass { decoder: &decoder, adapter: None, recompute: false };
            pool.install(|| pass.gradients(&parameters, &batch, 7.0, &Workspaces::default()).unwrap())
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(5));
    }

    #[test]
    fn shards_hold_every_row_once_and_in_order() {
        let labels = |n: usize| (n > 0).then_some(RowLabel { position: 0, target: 0, weight: 1.0 }).into_iter().collect();
        let rows: Vec<BatchRow> = [300, 10, 10, 0, 500, 40].map(|n| BatchRow { tokens: vec![0; n], labels: labels(n) }).into();
        let lengths = |trains_weights| {
            let cut = shards(&rows, trains_weights);
            cut.iter().map(|shard| shard.iter().map(|row| row.tokens.len()).collect::<Vec<_>>()).collect::<Vec<_>>()
        };
        assert_eq!(lengths(false), [vec![300], vec![10, 10], vec![500], vec![40]]);
        assert_eq!(lengths(true).concat(), [300, 10, 10, 500, 40]);
    }
}
