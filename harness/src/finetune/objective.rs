//! What the trainer minimises.

use candle_core::{Result, Tensor};

use crate::lm::decoder::{Decoder, Positions};
use crate::lm::lora::{LoraDropout, LoraWeights};
use crate::lm::ops;

use super::batch::MicroBatch;
use super::error::TrainingError;
use super::flops;
use super::optimizer::{Gradients, Parameters};
use super::pass::{Pass, Workspaces};

/// Gives the loss of a micro-batch as a scalar that gradients can flow back from.
pub trait Objective: Sync {
    /// `sum(w * -log p[target]) / normaliser`. `micro_step` counts micro-batches over the whole training and names the dropout masks;
    /// without it (evaluation) there is no dropout.
    fn loss(&self, batch: &MicroBatch, normaliser: f64, micro_step: Option<u64>) -> Result<Tensor>;

    /// [`Self::loss`] and its gradients for `parameters`, without dropout masks when `micro_step` is missing.
    ///
    /// # Errors
    /// [`TrainingError::NoGradient`] for a parameter that the loss does not depend on, or a failed tensor operation.
    fn gradients(
        &self,
        parameters: &Parameters,
        batch: &MicroBatch,
        normaliser: f64,
        micro_step: Option<u64>,
    ) -> std::result::Result<(f64, Gradients), TrainingError>;

    /// [`Self::loss`] as a number, without dropout.
    fn value(&self, batch: &MicroBatch, normaliser: f64) -> Result<f64>;

    /// Analytic operations of one forward and backward pass.
    fn flops(&self, batch: &MicroBatch) -> f64;

    /// The device on which micro-batches are built.
    fn device(&self) -> &candle_core::Device;
}

/// Gradients by candle's autograd.
fn autograd(loss: Tensor, parameters: &Parameters) -> std::result::Result<(f64, Gradients), TrainingError> {
    let grads = loss.backward()?;
    let mut gradients = Gradients::new();
    for (name, var) in parameters {
        let gradient = grads.get(var).ok_or_else(|| TrainingError::NoGradient { name: name.clone() })?;
        gradients.insert(name.clone(), gradient.flatten_all()?.to_vec1()?);
    }
    Ok((f64::from(loss.to_scalar::<f32>()?), gradients))
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
    /// Compute activations anew in the backward pass instead of keeping them.
    pub recompute: bool,
    /// Memory that is kept from one micro-batch to the next.
    pub workspaces: Workspaces,
}

impl<'a> NextToken<'a> {
    /// Prediction by `decoder` with `adapter` beside it, without dropout.
    pub fn new(decoder: &'a Decoder, adapter: Option<&'a LoraWeights>) -> Self {
        Self { decoder, adapter, dropout: 0.0, seed: 0, recompute: false, workspaces: Workspaces::default() }
    }

    /// The written-out pass, where it can take the weights and no mask is asked for.
    fn pass(&self) -> Option<Pass<'_>> {
        let pass = Pass { decoder: self.decoder, adapter: self.adapter, recompute: self.recompute };
        (self.dropout == 0.0 && pass.applies()).then_some(pass)
    }

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
        if self.decoder.config.logit_softcap().is_some() {
            return ops::cross_entropy(&self.decoder.logits(&counted)?, &batch.targets, &batch.weights, normaliser);
        }
        ops::head_cross_entropy(&counted, &self.decoder.head, &batch.targets, &batch.weights, normaliser)
    }

    fn gradients(
        &self,
        parameters: &Parameters,
        batch: &MicroBatch,
        normaliser: f64,
        micro_step: Option<u64>,
    ) -> std::result::Result<(f64, Gradients), TrainingError> {
        match self.pass() {
            Some(pass) => Ok(pass.gradients(parameters, batch, normaliser, &self.workspaces)?),
            None => autograd(self.loss(batch, normaliser, micro_step)?, parameters),
        }
    }

    fn value(&self, batch: &MicroBatch, normaliser: f64) -> Result<f64> {
        match self.pass() {
            Some(pass) => pass.loss(batch, normaliser, &self.workspaces),
            None => Ok(f64::from(self.loss(batch, normaliser, None)?.to_scalar::<f32>()?)),
        }
    }

    fn flops(&self, batch: &MicroBatch) -> f64 {
        flops::training_flops(&self.decoder.config, batch, self.adapter)
    }

    fn device(&self) -> &candle_core::Device {
        self.decoder.embedding.device()
    }
}
