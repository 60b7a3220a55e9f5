//! Training: LoRA and full fine-tuning, the optimizers, the loop with checkpoints, adapters in PEFT's form, pre-training.
//!
//! Shapes: B rows of a micro-batch, T positions, V vocabulary, r rank.

pub mod batch;
pub mod checkpoint;
pub mod curriculum;
pub mod error;
pub mod examples;
pub mod flops;
mod folder;
pub mod full;
pub mod lora;
mod muon;
pub mod objective;
pub mod optimizer;
pub mod pass;
pub mod peft;
pub mod pretrain;
pub mod pretrain_batches;
pub mod pretrain_evaluation;
pub mod pretrain_spec;
pub mod pretrain_tokenizer;
#[cfg(test)]
mod reference;
pub mod run;
pub mod schedule;
mod tensors;
#[cfg(test)]
mod testing;
pub mod trainer;

use serde::{Deserialize, Serialize};

pub use error::TrainingError;
pub use folder::is_finished;
pub use run::{TrainingOutcome, TrainingRequest, TunedWeights, train_adapter};

/// One row to train on.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingSequence {
    /// Token ids, beginning-of-sequence first if the tokenizer has one.
    pub tokens: Vec<u32>,
    /// Loss weight of predicting `tokens[i]` from what stands before it; as long as `tokens`, the first is ignored. Zero for the prompt.
    pub loss_weights: Vec<f32>,
}

/// Where the trainer's rows come from. A batch depends on `step` alone, so an interrupted training goes on with the same rows.
pub trait BatchSource: Send + Sync {
    /// The micro-batches of optimizer step `step` (counted from 0); their gradients are accumulated.
    fn batches(&self, step: u64) -> Vec<Vec<TrainingSequence>>;

    /// Number of optimizer steps.
    fn steps(&self) -> u64;

    /// Passes over the training examples after `step` steps; a source without passes counts itself as one.
    fn epoch(&self, step: u64) -> f64 {
        step as f64 / self.steps().max(1) as f64
    }
}

/// One line of `training.jsonl`: one optimizer step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingRow {
    /// Variant that is trained for (`finetuned`, `hybrid_raft`), or `pretrain`.
    pub variant: String,
    /// Training seed.
    pub seed: u64,
    /// Optimizer step, from 1.
    pub step: u64,
    /// Passes over the training examples so far.
    pub epoch: f64,
    /// Weighted mean cross-entropy of the step's rows.
    pub train_loss: f64,
    /// Mean cross-entropy over the validation rows, on the steps that evaluate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_loss: Option<f64>,
    /// Rate that the step used.
    pub learning_rate: f64,
    /// Global L2 norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Tokens in the step's rows, padding not counted.
    pub tokens: u64,
    /// Floating-point operations of the step, analytic.
    pub flops: f64,
    /// Wall time of the step.
    pub step_ns: u64,
}
