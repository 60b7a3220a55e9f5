//! What the trainer minimises.

use candle_core::{Result, Tensor};

use crate::lm::decoder::{Decoder, Positions};
use crate::lm::lora::{LoraDropout, LoraWeights};
use crate::lm::ops;

use super::batch::MicroBatch;
use super::flops;

/// Gives the loss of a micro-batch as a scalar that gradients can flow back from.
pub trait Objective: Sync {
    /// `sum(w * -log p[target]) / normaliser`. `micro_step` counts micro-batches over the whole training and names the dropout masks;
    /// without it (evaluation) there is no dropout.
    fn loss(&self, batch: &MicroBatch, normaliser: f64, micro_step: Option<u64>) -> Result<Tensor>;

    /// Analytic operations of one forward and backward pass.
    fn flops(&self, batch: &MicroBatch) -> f64;

    /// The device on which micro-batches are built.
    fn device(&self) -> &candle_core::Device;
}

/// Next-token prediction by a decoder, with or without an adapter beside it.
#[derive(Debug)]
pub struct NextToken<'a> {
    /// Trainable where its weights are `Var`s.
    pub decoder: &'a Decoder,
    /// Trainable where its weights are `Var`s.
    pub adapter: Option<&'a LoraWeights>,
    /// Dropout probability on the adapter's input, in training.
    pub dropout: f64,
    /// Seed of the dropout masks.
    pub seed: u64,
}

impl NextToken<'_> {
    fn adapter(&self, micro_step: Option<u64>) -> Option<LoraWeights> {
        let mut adapter = self.adapter?.clone();
        adapter.dropout = micro_step.filter(|_| self.dropout > 0.0).map(|micro_step| LoraDropout {
            probability: self.dropout,
            seed: self.seed,
            micro_step,
        });
        Some(adapter)
    }
}

impl Objective for NextToken<'_> {
    fn loss(&self, batch: &MicroBatch, normaliser: f64, micro_step: Option<u64>) -> Result<Tensor> {
        let hidden = self.decoder.forward(&batch.tokens, Positions::FromZero, self.adapter(micro_step).as_ref(), None)?;
        let (b, t, c) = hidden.dims3()?;
        // The head is the widest matrix: only rows that count are put through it.
        let counted = hidden.reshape((b * t, c))?.index_select(&batch.positions, 0)?;
        ops::head_cross_entropy(&counted, &self.decoder.head, &batch.targets, &batch.weights, normaliser)
    }

    fn flops(&self, batch: &MicroBatch) -> f64 {
        flops::training_flops(&self.decoder.config, batch, self.adapter)
    }

    fn device(&self) -> &candle_core::Device {
        self.decoder.embedding.device()
    }
}
