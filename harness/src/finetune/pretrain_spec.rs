//! `specs/pretrain.toml`: what is pre-trained, on what, and how.

use serde::{Deserialize, Serialize};

use super::curriculum::{LossWeights, ReadingForm};
use super::pretrain::PretrainError;
use crate::dataset::world::WorldConfig;
use crate::spec::DeviceName;

/// A pre-training as written (`specs/pretrain.toml`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainSpec {
    /// Names the streams of weights and rows.
    pub seed: u64,
    /// Tokens of an optimizer step, reached by whole rows.
    pub tokens_per_step: usize,
    /// Micro-batches of a step; rows of like length go together.
    pub micro_batches: usize,
    /// Optimizer steps between checkpoints.
    pub checkpoint_steps: u64,
    /// Optimizer steps between evaluations; the end is always evaluated.
    pub eval_steps: u64,
    /// Questions per figure of an evaluation.
    pub eval_questions: usize,
    /// The same for the last one.
    pub final_questions: usize,
    /// The world that is learnt.
    pub world: WorldConfig,
    /// Form of the model.
    pub model: ModelShape,
    /// How weights move.
    pub optimizer: OptimizerSettings,
    /// Loss weights of what is not an answer.
    pub loss: LossWeights,
    /// What is read, in order.
    pub stage: Vec<Stage>,
}

/// Form of a Qwen3 decoder with tied embedding and one key/value head per query head, and where it is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelShape {
    /// Blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Heads.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width inside the feed-forward block.
    pub intermediate: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Longest sequence.
    pub max_position: usize,
    /// Where it is trained. On the CPU the weights follow from the spec; a GPU adds in an order of its own, which may differ from run to
    /// run.
    #[serde(default)]
    pub device: DeviceName,
}

/// Rates and schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSettings {
    /// Peak rate of Muon, on matrices inside blocks.
    pub muon_rate: f64,
    /// Peak rate of AdamW, on the embedding and the norms.
    pub adamw_rate: f64,
    /// Steps with a rising rate.
    pub warmup_steps: u64,
    /// Part of all steps, at the end, over which the rate falls to zero.
    pub decay_fraction: f64,
    /// Largest global gradient norm; 0 does not clip.
    pub max_grad_norm: f64,
}

/// A stretch of the curriculum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Its length in tokens, rounded to whole steps of `tokens_per_step`.
    pub tokens: u64,
    /// Weight of its steps when what is shown of known entities is spread over all steps; their exposures say how much that is.
    pub facts: f64,
    /// Questions of a closed-book row.
    pub fact_questions: usize,
    /// Form of its reading rows.
    pub reading: ReadingForm,
}

impl PretrainSpec {
    /// Refuses settings that cannot be trained with.
    ///
    /// # Errors
    /// [`PretrainError::Setting`], naming the first of them.
    pub fn check(&self) -> Result<(), PretrainError> {
        positive("tokens_per_step", self.tokens_per_step)?;
        positive("micro_batches", self.micro_batches)?;
        positive("eval_steps", self.eval_steps as usize)?;
        positive("eval_questions", self.eval_questions)?;
        positive("final_questions", self.final_questions)?;
        positive("stage", self.stage.len())?;
        for stage in &self.stage {
            range("stage.reading.passages", stage.reading.passages, 9)?;
            range("stage.reading.sentences", stage.reading.sentences, 5)?;
            positive("stage.reading.questions", stage.reading.questions)?;
            positive("stage.fact_questions", stage.fact_questions)?;
        }
        Ok(())
    }
}

fn positive(key: &'static str, value: usize) -> Result<(), PretrainError> {
    if value > 0 { Ok(()) } else { Err(PretrainError::Setting { key, value: value.to_string(), expected: "1 or more" }) }
}

fn range(key: &'static str, (low, high): (usize, usize), most: usize) -> Result<(), PretrainError> {
    if 1 <= low && low <= high && high <= most {
        return Ok(());
    }
    Err(PretrainError::Setting {
        key,
        value: format!("[{low}, {high}]"),
        expected: "a rising pair from 1, at most 9 passages and 5 sentences",
    })
}
