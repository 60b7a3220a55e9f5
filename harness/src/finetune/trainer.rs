//! The loop: micro-batches in, one optimizer step and one [`TrainingRow`] out; evaluation, early stopping, checkpoints, interruption.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{Tensor, Var};
use rayon::prelude::*;

use super::batch::MicroBatch;
use super::checkpoint::{Checkpoint, Progress};
use super::error::TrainingError;
use super::objective::Objective;
use super::optimizer::{Gradients, Optimizer, Parameters};
use super::schedule::LearningRate;
use super::{BatchSource, TrainingRow, TrainingSequence};

/// Settings of the loop.
#[derive(Debug, Clone)]
pub struct TrainerConfig {
    /// Written into every row.
    pub variant: String,
    /// Written into every row.
    pub seed: u64,
    /// Factor on the groups' rates.
    pub schedule: LearningRate,
    /// Largest global norm of the gradients; 0 does not clip.
    pub max_grad_norm: f64,
    /// Optimizer steps between validation losses, if there are validation rows; 0 evaluates after the last step only.
    pub eval_steps: u64,
    /// Evaluations without a lower loss after which training stops and the best weights come back; 0 trains to the end and keeps the last.
    pub patience: u64,
    /// Optimizer steps between checkpoints; 0 writes one only when interrupted.
    pub checkpoint_steps: u64,
    /// Where checkpoints go; without it there are none.
    pub checkpoint: Option<PathBuf>,
    /// Hash of what is trained on what: a checkpoint with another is refused.
    pub fingerprint: String,
}

/// One training: what moves, what it is moved by, and on which rows.
pub struct Trainer<'a> {
    /// The weights that are trained.
    pub parameters: &'a Parameters,
    /// What is minimised.
    pub objective: &'a dyn Objective,
    /// Rows to train on.
    pub batches: &'a dyn BatchSource,
    /// Micro-batches of rows to evaluate on; may be empty.
    pub validation: &'a [Vec<TrainingSequence>],
    /// Set from outside to stop after the current step.
    pub interrupt: &'a AtomicBool,
    /// Settings.
    pub config: TrainerConfig,
}

/// A training in memory.
struct State {
    progress: Progress,
    optimizer: Optimizer,
    best: Option<BTreeMap<String, Tensor>>,
}

impl Trainer<'_> {
    /// Trains to the end, from the checkpoint if there is one; each step is told to `events` (a resumed training does not repeat the rows
    /// up to its checkpoint, they are in the result).
    ///
    /// # Errors
    /// [`TrainingError::Interrupted`] when the flag was set: what was done is in the checkpoint.
    pub fn run(&self, optimizer: Optimizer, events: &mut dyn FnMut(&TrainingRow)) -> Result<Progress, TrainingError> {
        let mut state = self.resume(optimizer)?;
        let steps = self.batches.steps();
        while state.progress.step < steps && !state.progress.stopped_early {
            if self.interrupt.load(Ordering::Relaxed) {
                self.save(&state)?;
                return Err(TrainingError::Interrupted { step: state.progress.step, steps });
            }
            let row = self.advance(&mut state)?;
            events(&row);
            state.progress.rows.push(row);
            let every = self.config.checkpoint_steps;
            if every > 0 && state.progress.step.is_multiple_of(every) && state.progress.step < steps {
                self.save(&state)?;
            }
        }
        if let Some(best) = &state.best {
            self.set_weights(best).map_err(|problem| self.damaged(problem))?;
        }
        Ok(state.progress)
    }

    /// One optimizer step, evaluated if it is due.
    fn advance(&self, state: &mut State) -> Result<TrainingRow, TrainingError> {
        let watch = crate::clock::Stopwatch::start();
        let mut row = self.train_step(state)?;
        row.step_ns = watch.elapsed_ns();
        if self.evaluation_due(state.progress.step) {
            let loss = self.evaluate()?;
            row.eval_loss = Some(loss);
            self.judge(state, loss)?;
        }
        state.progress.seconds += watch.elapsed().as_secs_f64();
        Ok(row)
    }

    fn train_step(&self, state: &mut State) -> Result<TrainingRow, TrainingError> {
        let index = state.progress.step;
        let micro_batches = self.micro_batches(&self.batches.batches(index))?;
        let weight_sum: f64 = micro_batches.iter().map(|batch| batch.weight_sum).sum();
        if weight_sum <= 0.0 {
            return Err(TrainingError::NoLoss { step: index + 1 });
        }
        let (train_loss, gradients) = self.gradients(&micro_batches, weight_sum, state.progress.micro_step)?;
        let grad_norm = global_norm(&gradients);
        if !(train_loss.is_finite() && grad_norm.is_finite()) {
            return Err(TrainingError::Diverged { step: index + 1, loss: train_loss, grad_norm });
        }
        let limit = self.config.max_grad_norm;
        // The small term is PyTorch's (`clip_grad_norm_`).
        let scale = if limit > 0.0 { (limit / (grad_norm + 1e-6)).min(1.0) } else { 1.0 };
        let factor = self.config.schedule.factor(index);
        state.optimizer.step(&gradients, scale, factor)?;
        // A row of L tokens takes L - 1 positions.
        let tokens = micro_batches.iter().flat_map(|batch| &batch.lengths).map(|length| *length as u64 + 1).sum();
        let flops = micro_batches.iter().map(|batch| self.objective.flops(batch)).sum();
        state.progress.step += 1;
        state.progress.micro_step += micro_batches.len() as u64;
        state.progress.tokens += tokens;
        state.progress.flops += flops;
        Ok(TrainingRow {
            variant: self.config.variant.clone(),
            seed: self.config.seed,
            step: index + 1,
            epoch: self.batches.epoch(index + 1),
            train_loss,
            eval_loss: None,
            learning_rate: state.optimizer.learning_rate() * factor,
            grad_norm,
            tokens,
            flops,
            step_ns: 0,
        })
    }

    fn micro_batches(&self, rows: &[Vec<TrainingSequence>]) -> Result<Vec<MicroBatch>, TrainingError> {
        Ok(rows.iter().map(|rows| MicroBatch::new(rows, self.objective.device())).collect::<candle_core::Result<_>>()?)
    }

    /// Loss and gradients of a step. Every micro-batch is normalised by the weights of the whole step, so that how rows are packed into
    /// micro-batches does not change what is minimised.
    fn gradients(&self, micro_batches: &[MicroBatch], weight_sum: f64, micro_step: u64) -> Result<(f64, Gradients), TrainingError> {
        let counted: Vec<_> = micro_batches.iter().enumerate().filter(|(_, batch)| batch.weight_sum != 0.0).collect();
        // Side by side where the caller's pool has threads; summed in order, so that the sums do not depend on it.
        let parts: Vec<Result<(f64, Gradients), TrainingError>> = counted
            .par_iter()
            .map(|(offset, batch)| self.objective.gradients(self.parameters, batch, weight_sum, Some(micro_step + *offset as u64)))
            .collect();
        let mut total = 0.0;
        let mut sums = Gradients::new();
        for part in parts {
            let (loss, gradients) = part?;
            total += loss;
            gradients.into_iter().for_each(|(name, gradient)| add(&mut sums, &name, gradient));
        }
        Ok((total, sums))
    }

    fn evaluation_due(&self, step: u64) -> bool {
        let every = self.config.eval_steps;
        !self.validation.is_empty() && (step == self.batches.steps() || (every > 0 && step.is_multiple_of(every)))
    }

    /// Weighted mean cross-entropy over the validation rows, without dropout.
    pub fn evaluate(&self) -> Result<f64, TrainingError> {
        let (mut loss, mut weight) = (0.0, 0.0);
        for rows in self.validation {
            let batch = MicroBatch::new(rows, self.objective.device())?;
            if batch.weight_sum != 0.0 {
                loss += self.objective.value(&batch, 1.0)?;
                weight += batch.weight_sum;
            }
        }
        Ok(if weight > 0.0 { loss / weight } else { 0.0 })
    }

    /// Notes a validation loss: a new best, or one more without.
    fn judge(&self, state: &mut State, loss: f64) -> Result<(), TrainingError> {
        let progress = &mut state.progress;
        if progress.best_eval_loss.is_none_or(|best| loss < best) {
            progress.best_eval_loss = Some(loss);
            progress.evals_without_better = 0;
            if self.config.patience > 0 {
                state.best = Some(self.weights()?);
            }
        } else {
            progress.evals_without_better += 1;
            progress.stopped_early = self.config.patience > 0 && progress.evals_without_better >= self.config.patience;
        }
        Ok(())
    }

    /// A copy of the weights as they stand.
    fn weights(&self) -> Result<BTreeMap<String, Tensor>, TrainingError> {
        let copy = |(name, var): (&String, &Var)| Ok((name.clone(), var.as_tensor().copy()?.detach()));
        self.parameters.iter().map(copy).collect()
    }

    fn set_weights(&self, weights: &BTreeMap<String, Tensor>) -> Result<(), String> {
        for (name, var) in self.parameters {
            let tensor = weights.get(name).ok_or_else(|| format!("weight `{name}` is missing"))?;
            var.set(tensor).map_err(|_| format!("weight `{name}` has another shape"))?;
        }
        Ok(())
    }

    fn damaged(&self, problem: String) -> TrainingError {
        let path = self.config.checkpoint.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        TrainingError::Checkpoint { path, problem }
    }

    fn save(&self, state: &State) -> Result<(), TrainingError> {
        let Some(folder) = &self.config.checkpoint else { return Ok(()) };
        let (optimizer, _) = state.optimizer.state()?;
        let checkpoint = Checkpoint { progress: state.progress.clone(), weights: self.weights()?, optimizer, best: state.best.clone() };
        checkpoint.save(folder)
    }

    fn resume(&self, mut optimizer: Optimizer) -> Result<State, TrainingError> {
        let loaded = match &self.config.checkpoint {
            Some(folder) => Checkpoint::load(folder, self.objective.device())?,
            None => None,
        };
        let Some(checkpoint) = loaded else {
            let progress = Progress { fingerprint: self.config.fingerprint.clone(), ..Progress::default() };
            return Ok(State { progress, optimizer, best: None });
        };
        if checkpoint.progress.fingerprint != self.config.fingerprint {
            return Err(self.damaged("it belongs to another training (other settings, data or base weights)".into()));
        }
        self.set_weights(&checkpoint.weights).map_err(|problem| self.damaged(problem))?;
        optimizer
            .restore(&checkpoint.optimizer, checkpoint.progress.step)
            .map_err(|name| self.damaged(format!("optimizer state `{name}` is missing or has another length")))?;
        Ok(State { progress: checkpoint.progress, optimizer, best: checkpoint.best })
    }
}

fn add(sums: &mut Gradients, name: &str, gradient: Vec<f32>) {
    match sums.get_mut(name) {
        Some(sum) => sum.iter_mut().zip(&gradient).for_each(|(sum, g)| *sum += g),
        None => {
            sums.insert(name.to_owned(), gradient);
        }
    }
}

/// L2 norm over all gradients, summed in f64 by weight and then in the order of names.
fn global_norm(gradients: &Gradients) -> f64 {
    let squares = |gradient: &Vec<f32>| gradient.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>();
    let sums: Vec<f64> = gradients.values().collect::<Vec<_>>().into_par_iter().map(squares).collect();
    sums.iter().sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::super::objective::NextToken;
    use super::super::optimizer::{ParameterGroup, UpdateRule};
    use super::super::schedule::Decay;
    use super::super::testing::{self, FixedBatches};
    use super::*;

    fn config(steps: u64) -> TrainerConfig {
        TrainerConfig {
            variant: "finetuned".into(),
            seed: 1,
            schedule: LearningRate { warmup_steps: 2, total_steps: steps, decay: Decay::Linear },
            max_grad_norm: 1.0,
            eval_steps: 0,
            patience: 0,
            checkpoint_steps: 0,
            checkpoint: None,
            fingerprint: "f".into(),
        }
    }

    fn group(rule: UpdateRule) -> ParameterGroup {
        ParameterGroup { rule, learning_rate: 0.01, weight_decay: 0.01 }
    }

    /// Muon for matrices between hidden layers, AdamW for the rest.
    fn mixed(name: &str, shape: &[usize]) -> ParameterGroup {
        let hidden = shape.len() == 2 && name.contains("layers");
        group(if hidden { UpdateRule::MUON } else { UpdateRule::ADAMW })
    }

    /// Trains a tiny decoder in full, all weights being the same at the start; gives the rows and the weights at the end.
    fn train(
        batches: &FixedBatches,
        validation: &[Vec<TrainingSequence>],
        config: TrainerConfig,
        stop_after: u64,
    ) -> (Result<Progress, TrainingError>, Vec<f32>) {
        let (decoder, parameters) = testing::trainable(testing::config(), 3);
        let interrupt = AtomicBool::new(false);
        let objective = NextToken::new(&decoder, None);
        let trainer = Trainer { parameters: &parameters, objective: &objective, batches, validation, interrupt: &interrupt, config };
        let result = trainer.run(Optimizer::new(&parameters, mixed), &mut |row| interrupt.store(row.step == stop_after, Ordering::Relaxed));
        let weights = parameters.values().flat_map(|var| var.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect();
        (result, weights)
    }

    fn untimed(progress: Progress) -> Vec<TrainingRow> {
        progress.rows.into_iter().map(|row| TrainingRow { step_ns: 0, ..row }).collect()
    }

    #[test]
    fn a_resumed_training_goes_on_bit_for_bit() {
        let batches = FixedBatches::random(6, 2, 3);
        let validation = batches.batches(0);
        let folder = tempfile::tempdir().unwrap();
        let config = TrainerConfig { eval_steps: 2, patience: 10, ..config(6) };
        let (straight, expected) = train(&batches, &validation, config.clone(), 99);
        let resumable = TrainerConfig { checkpoint: Some(folder.path().join("checkpoint")), ..config };
        let (interrupted, halfway) = train(&batches, &validation, resumable.clone(), 3);
        assert!(matches!(interrupted, Err(TrainingError::Interrupted { step: 3, steps: 6 })));
        assert_ne!(halfway, expected);
        let (resumed, got) = train(&batches, &validation, resumable.clone(), 99);
        assert_eq!(got, expected);
        assert_eq!(untimed(resumed.unwrap()), untimed(straight.unwrap()));
        let other = TrainerConfig { fingerprint: "other".into(), ..resumable };
        assert!(matches!(train(&batches, &validation, other, 99).0, Err(TrainingError::Checkpoint { .. })));
    }

    #[test]
    fn packing_rows_into_other_micro_batches_changes_nothing_but_rounding() {
        let rows = FixedBatches::random(1, 1, 4);
        let apart = FixedBatches(rows.0.iter().map(|step| step[0].chunks(1).map(<[_]>::to_vec).collect()).collect());
        let loss = |batches| train(batches, &[], config(1), 99).0.unwrap().rows[0].clone();
        let (together, apart) = (loss(&rows), loss(&apart));
        assert!((together.train_loss - apart.train_loss).abs() < 1e-5, "{together:?} {apart:?}");
        assert!((together.grad_norm - apart.grad_norm).abs() < 1e-4, "{together:?} {apart:?}");
        assert_eq!((together.tokens, together.flops), (apart.tokens, apart.flops));
    }

    #[test]
    fn early_stopping_brings_back_the_best_weights() {
        // Validation rows contradict the training rows, so the loss on them rises at once or soon.
        let batches = FixedBatches::constant(40, &[1, 2, 3, 4, 5]);
        let validation = FixedBatches::constant(1, &[1, 2, 9, 9, 9]).batches(0);
        let patient = TrainerConfig { eval_steps: 1, patience: 2, ..config(40) };
        let (progress, weights) = train(&batches, &validation, patient, 99);
        let progress = progress.unwrap();
        assert!(progress.stopped_early && progress.step < 40, "{} steps", progress.step);
        let best_step = progress.rows.iter().min_by(|a, b| a.eval_loss.unwrap().total_cmp(&b.eval_loss.unwrap())).unwrap().step;
        assert_eq!(best_step + 2, progress.step);
        // The weights are those that a training interrupted right after the best step would have.
        let folder = tempfile::tempdir().unwrap();
        let stopped = TrainerConfig { checkpoint: Some(folder.path().join("c")), ..config(40) };
        let (_, expected) = train(&batches, &[], stopped, best_step);
        assert_eq!(weights, expected);
    }

    #[test]
    fn a_step_without_loss_and_a_diverging_one_are_errors() {
        let silent = FixedBatches(vec![vec![vec![TrainingSequence { tokens: vec![1, 2, 3], loss_weights: vec![0.0; 3] }]]]);
        assert!(matches!(train(&silent, &[], config(1), 99).0, Err(TrainingError::NoLoss { step: 1 })));
        let nan = FixedBatches(vec![vec![vec![TrainingSequence { tokens: vec![1, 2, 3], loss_weights: vec![f32::INFINITY; 3] }]]]);
        assert!(matches!(train(&nan, &[], config(1), 99).0, Err(TrainingError::Diverged { .. })));
    }

    #[test]
    fn every_trainable_weight_gets_a_gradient_that_is_not_zero() {
        let (decoder, parameters) = testing::trainable(testing::config(), 3);
        let objective = NextToken::new(&decoder, None);
        let batch = MicroBatch::new(&FixedBatches::random(1, 1, 3).batches(0)[0], objective.device()).unwrap();
        let grads = objective.loss(&batch, batch.weight_sum, None).unwrap().backward().unwrap();
        for (name, var) in &parameters {
            let gradient = grads.get(var).unwrap_or_else(|| panic!("`{name}` got none"));
            assert!(gradient.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() > 0.0, "`{name}` got zeros");
        }
    }

    #[test]
    fn weights_do_not_depend_on_the_number_of_threads() {
        let wide = crate::lm::config::DecoderConfig {
            hidden_size: 96,
            intermediate_size: 256,
            head_dim: 24,
            vocab_size: 300,
            ..testing::config()
        };
        let row = |i: u32| TrainingSequence { tokens: (0..64).map(|t| (t * 7 + i * 31) % 300).collect(), loss_weights: vec![1.0; 64] };
        let batches = FixedBatches(vec![vec![(0..8).map(row).collect()]; 3]);
        let hash = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (decoder, parameters) = testing::trainable(wide.clone(), 3);
                let objective = NextToken::new(&decoder, None);
                let interrupt = AtomicBool::new(false);
                let trainer = Trainer {
                    parameters: &parameters,
                    objective: &objective,
                    batches: &batches,
                    validation: &[],
                    interrupt: &interrupt,
                    config: config(3),
                };
                trainer.run(Optimizer::new(&parameters, mixed), &mut |_| ()).unwrap();
                blake3::hash(&testing::bits(&decoder).into_iter().flat_map(u32::to_le_bytes).collect::<Vec<u8>>()).to_hex().to_string()
            })
        };
        let (one, three) = (hash(1), hash(3));
        eprintln!("weights after three steps: {one}");
        assert_eq!(one, three);
    }
}
