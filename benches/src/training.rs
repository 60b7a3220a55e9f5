//! Optimizer steps of the harness's own trainer on random rows.

use std::sync::atomic::AtomicBool;

use candle_core::Device;
use ragft::finetune::objective::NextToken;
use ragft::finetune::optimizer::{Optimizer, ParameterGroup, Parameters, UpdateRule};
use ragft::finetune::schedule::{Decay, LearningRate};
use ragft::finetune::trainer::{Trainer, TrainerConfig};
use ragft::finetune::{BatchSource, TrainingError, TrainingSequence, full, lora};
use ragft::lm::config::Module;
use ragft::lm::decoder::Decoder;
use ragft::lm::lora::LoraWeights;
use ragft::rng::Rng;

use crate::SEED;

/// What moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Rank 16 on all seven linear layers.
    Lora,
    /// Every weight.
    Full,
}

/// A model and what is trained of it.
pub struct Training {
    decoder: Decoder,
    adapter: Option<LoraWeights>,
    parameters: Parameters,
}

/// Rows of random ids, every position counted; the same at every step.
struct Rows {
    rows: Vec<TrainingSequence>,
    steps: u64,
}

impl BatchSource for Rows {
    fn batches(&self, _step: u64) -> Vec<Vec<TrainingSequence>> {
        vec![self.rows.clone()]
    }

    fn steps(&self) -> u64 {
        self.steps
    }
}

impl Training {
    /// Trains `decoder`, or a fresh adapter beside it.
    ///
    /// # Errors
    /// A failed tensor operation.
    pub fn new(decoder: Decoder, method: Method) -> Result<Self, TrainingError> {
        if method == Method::Full {
            let (decoder, parameters) = full::trainable(&decoder)?;
            return Ok(Self { decoder, adapter: None, parameters });
        }
        let config = lora::LoraConfig { rank: 16, alpha: 32.0, dropout: 0.0, rank_stabilised: false, target_modules: Module::ALL.to_vec() };
        let (adapter, parameters) = lora::fresh(&decoder.config, &config, SEED, &Device::Cpu)?;
        Ok(Self { decoder, adapter: Some(adapter), parameters })
    }

    /// Seconds of each of `steps` steps over `batch` rows of `length` positions: batch to tensors, forward, backward, clipping at norm 1,
    /// AdamW. A next call goes on with the weights, and with fresh moments.
    ///
    /// # Errors
    /// A failed step.
    pub fn steps(&self, batch: usize, length: usize, steps: u64) -> Result<Vec<f64>, TrainingError> {
        let (rows, interrupt) = (rows(batch, length, self.decoder.config.vocab_size, steps), AtomicBool::new(false));
        let objective = NextToken::new(&self.decoder, self.adapter.as_ref());
        let config = TrainerConfig {
            variant: "finetuned".into(),
            seed: SEED,
            schedule: LearningRate { warmup_steps: 0, total_steps: u64::MAX, decay: Decay::Constant },
            max_grad_norm: 1.0,
            eval_steps: 0,
            patience: 0,
            checkpoint_steps: 0,
            checkpoint: None,
            fingerprint: String::new(),
        };
        // Small, so that many repeated steps on the same random rows stay finite.
        let group = ParameterGroup { rule: UpdateRule::ADAMW, learning_rate: 1e-5, weight_decay: 0.01 };
        let trainer =
            Trainer { parameters: &self.parameters, objective: &objective, batches: &rows, validation: &[], interrupt: &interrupt, config };
        let progress = trainer.run(Optimizer::new(&self.parameters, |_, _| group), &mut |_| ())?;
        Ok(progress.rows.iter().map(|row| row.step_ns as f64 / 1e9).collect())
    }
}

/// A row of L positions takes L + 1 tokens, the last being a target only.
fn rows(batch: usize, length: usize, vocabulary: usize, steps: u64) -> Rows {
    let mut rng = Rng::new(SEED, "training rows");
    let mut row =
        || TrainingSequence { tokens: (0..=length).map(|_| rng.below(vocabulary) as u32).collect(), loss_weights: vec![1.0; length + 1] };
    Rows { rows: (0..batch).map(|_| row()).collect(), steps }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{random_decoder, shape_tiny};
    use ragft::lm::config::DecoderConfig;

    #[test]
    fn both_methods_take_the_steps_that_are_asked_for() {
        let config = DecoderConfig { num_hidden_layers: 1, ..shape_tiny() };
        for method in [Method::Lora, Method::Full] {
            let training = Training::new(random_decoder(&config).unwrap(), method).unwrap();
            let seconds = training.steps(2, 16, 3).unwrap();
            assert!(seconds.len() == 3 && seconds.iter().all(|seconds| *seconds > 0.0));
        }
    }
}
