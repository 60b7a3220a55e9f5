//! One fine-tuning from labels to tuned weights; `folder` keeps them on disk.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};

use crate::lm::decoder::Decoder;
use crate::lm::lora::LoraWeights;
use crate::spec::{FinetuneMethod, FinetuneSpec};

use super::checkpoint::Progress;
use super::error::TrainingError;
use super::examples::{self, EpochSource, Example, FittedRows};
use super::objective::NextToken;
use super::optimizer::{Optimizer, ParameterGroup, Parameters, UpdateRule};
use super::schedule::LearningRate;
use super::trainer::{Trainer, TrainerConfig};
use super::{TrainingRow, TrainingSequence, folder, full, lora};

/// What to train.
pub struct TrainingRequest<'a> {
    /// Base weights; they are not changed.
    pub base: &'a Decoder,
    /// Written into the adapter: where its base came from.
    pub base_name: &'a str,
    /// Hash of the base weights: a finished adapter or a checkpoint of another base is refused.
    pub base_hash: &'a str,
    /// Settings.
    pub spec: &'a FinetuneSpec,
    /// Labels.
    pub train: &'a [Example],
    /// Labels for the validation loss; when empty, `spec.validation_fraction` of `train` is held out by cluster.
    pub validation: &'a [Example],
    /// Seed of initialisation, order, dropout and hold-out.
    pub seed: u64,
    /// Written into every row.
    pub variant: &'a str,
    /// Where the adapter goes; the checkpoint stands beside it.
    pub folder: &'a Path,
    /// Set from outside to stop after the current step.
    pub interrupt: &'a AtomicBool,
}

/// Fine-tuned weights, ready to answer.
#[derive(Debug, Clone)]
pub enum TunedWeights {
    /// To be passed beside the base.
    Lora(LoraWeights),
    /// To be used in its place.
    Full(Box<Decoder>),
}

/// What a training cost; the fields mean what they mean in `store::manifest::TrainingRecord`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "named as in the manifest")]
pub struct TrainingFigures {
    pub method: String,
    pub labels: usize,
    pub dropped: usize,
    pub cut: usize,
    pub trainable_parameters: u64,
    pub steps: u64,
    pub tokens: u64,
    pub flops: f64,
    pub seconds: f64,
    pub bytes: u64,
    pub best_eval_loss: Option<f64>,
    /// Patience ended it before its last step.
    pub stopped_early: bool,
}

/// A finished training.
#[derive(Debug)]
pub struct TrainingOutcome {
    /// The weights.
    pub weights: TunedWeights,
    /// What they cost.
    pub figures: TrainingFigures,
    /// Every step, those before an interruption included: `training.jsonl` is these rows.
    pub rows: Vec<TrainingRow>,
    /// BLAKE3 of the weights file.
    pub hash: String,
}

/// Trains the adapter, goes on from its checkpoint, or loads it if it is finished. Each step that is computed now is told to `events`.
///
/// # Errors
/// [`TrainingError::Interrupted`] when the flag was set; the same call later goes on. A folder that belongs to another request is an
/// error and is not overwritten.
pub fn train_adapter(request: &TrainingRequest, events: &mut dyn FnMut(&TrainingRow)) -> Result<TrainingOutcome, TrainingError> {
    check(request.spec)?;
    if let Some(outcome) = folder::load_finished(request)? {
        return Ok(outcome);
    }
    let data = Data::new(request)?;
    let (weights, parameters, progress) = match request.spec.method {
        FinetuneMethod::Lora => train_lora(request, &data, events)?,
        FinetuneMethod::Full => train_full(request, &data, events)?,
    };
    let figures = figures(request, &data, &parameters, &progress);
    folder::write_finished(request, weights, figures, progress.rows)
}

fn check(spec: &FinetuneSpec) -> Result<(), TrainingError> {
    let sizes = [
        ("rank", spec.rank),
        ("micro_batch", spec.micro_batch),
        ("grad_accum_steps", spec.grad_accum_steps),
        ("max_length", spec.max_length),
    ];
    match sizes.into_iter().find(|(_, value)| *value == 0) {
        Some((key, value)) => Err(TrainingError::Setting { key, value: value.to_string(), expected: "1 or more" }),
        None if spec.target_modules.is_empty() => {
            Err(TrainingError::Setting { key: "target_modules", value: "empty".into(), expected: "at least one linear layer" })
        }
        None => Ok(()),
    }
}

/// Rows of a request.
struct Data {
    source: EpochSource,
    validation: Vec<Vec<TrainingSequence>>,
    labels: usize,
    dropped: usize,
    cut: usize,
}

impl Data {
    fn new(request: &TrainingRequest) -> Result<Self, TrainingError> {
        let spec = request.spec;
        let held_out;
        let (train, validation) = if request.validation.is_empty() {
            held_out = examples::hold_out(request.train, spec.validation_fraction, request.seed);
            (held_out.0.as_slice(), held_out.1.as_slice())
        } else {
            (request.train, request.validation)
        };
        let max_length = spec.max_length.min(request.base.config.max_position_embeddings);
        let (train, validation) = (examples::fit(train, max_length), examples::fit(validation, max_length));
        let examples = request.train.len() + request.validation.len();
        let labels = request.train.iter().chain(request.validation).filter(|example| example.is_label).count();
        let count = |number: fn(&FittedRows) -> usize| number(&train) + number(&validation);
        let (dropped, cut) = (count(|fitted| fitted.dropped), count(|fitted| fitted.cut));
        if train.rows.is_empty() {
            return Err(TrainingError::NoExamples { examples, dropped, max_length });
        }
        Ok(Self {
            source: EpochSource::new(train.rows, spec.micro_batch, spec.grad_accum_steps, spec.epochs, spec.max_steps, request.seed),
            validation: examples::evaluation_batches(validation.rows, spec.micro_batch),
            labels,
            dropped,
            cut,
        })
    }
}

type Trained = (TunedWeights, Parameters, Progress);

fn train_lora(request: &TrainingRequest, data: &Data, events: &mut dyn FnMut(&TrainingRow)) -> Result<Trained, TrainingError> {
    let base = request.base;
    let (adapter, parameters) = lora::fresh(&base.config, &request.spec.into(), request.seed, base.embedding.device())?;
    let recompute = request.spec.gradient_checkpointing;
    let objective = NextToken { dropout: request.spec.dropout, seed: request.seed, recompute, ..NextToken::new(base, Some(&adapter)) };
    let progress = fit_parameters(request, data, &parameters, &objective, events)?;
    Ok((TunedWeights::Lora(lora::frozen(&adapter)?), parameters, progress))
}

fn train_full(request: &TrainingRequest, data: &Data, events: &mut dyn FnMut(&TrainingRow)) -> Result<Trained, TrainingError> {
    let (decoder, parameters) = full::trainable(request.base)?;
    let objective = NextToken { recompute: request.spec.gradient_checkpointing, ..NextToken::new(&decoder, None) };
    let progress = fit_parameters(request, data, &parameters, &objective, events)?;
    Ok((TunedWeights::Full(Box::new(full::frozen(&decoder)?)), parameters, progress))
}

fn fit_parameters(
    request: &TrainingRequest,
    data: &Data,
    parameters: &Parameters,
    objective: &NextToken,
    events: &mut dyn FnMut(&TrainingRow),
) -> Result<Progress, TrainingError> {
    let spec = request.spec;
    let steps = super::BatchSource::steps(&data.source);
    let config = TrainerConfig {
        variant: request.variant.to_owned(),
        seed: request.seed,
        schedule: LearningRate::new(steps, spec.warmup_ratio, spec.schedule.into()),
        max_grad_norm: spec.max_grad_norm,
        eval_steps: if spec.eval_steps > 0 { spec.eval_steps } else { data.source.steps_per_epoch() },
        patience: spec.patience,
        checkpoint_steps: spec.checkpoint_steps,
        checkpoint: Some(folder::checkpoint(request)),
        fingerprint: folder::request_hash(request),
    };
    let group = ParameterGroup { rule: UpdateRule::ADAMW, learning_rate: spec.learning_rate, weight_decay: spec.weight_decay };
    let trainer =
        Trainer { parameters, objective, batches: &data.source, validation: &data.validation, interrupt: request.interrupt, config };
    trainer.run(Optimizer::new(parameters, |_, _| group), events)
}

fn figures(request: &TrainingRequest, data: &Data, parameters: &Parameters, progress: &Progress) -> TrainingFigures {
    TrainingFigures {
        method: method_name(request.spec.method).to_owned(),
        labels: data.labels,
        dropped: data.dropped,
        cut: data.cut,
        trainable_parameters: parameters.values().map(|var| var.elem_count() as u64).sum(),
        steps: progress.step,
        tokens: progress.tokens,
        flops: progress.flops,
        seconds: progress.seconds,
        bytes: 0,
        best_eval_loss: progress.best_eval_loss,
        stopped_early: progress.stopped_early,
    }
}

fn method_name(method: FinetuneMethod) -> &'static str {
    match method {
        FinetuneMethod::Lora => "lora",
        FinetuneMethod::Full => "full",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::Ordering;

    use super::super::testing;
    use super::*;
    use crate::lm::ComputeDevice;
    use crate::spec::{DeviceName, Schedule, TargetModule};

    fn spec(method: FinetuneMethod) -> FinetuneSpec {
        FinetuneSpec {
            method,
            examples: crate::spec::TrainingExamples::Qa,
            rank: 4,
            alpha: 8.0,
            dropout: 0.1,
            target_modules: vec![TargetModule::QProj, TargetModule::VProj, TargetModule::DownProj],
            epochs: 4.0,
            max_steps: 0,
            learning_rate: 0.01,
            schedule: Schedule::Cosine,
            warmup_ratio: 0.1,
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            micro_batch: 2,
            grad_accum_steps: 2,
            max_length: 12,
            gradient_checkpointing: false,
            validation_fraction: 0.2,
            eval_steps: 0,
            patience: 0,
            checkpoint_steps: 2,
        }
    }

    fn examples(count: u32) -> Vec<Example> {
        let example = |i: u32| Example {
            prompt: vec![1, 2 + i % 15, 3 + i % 7],
            answer: vec![4 + i % 11, 5 + i % 13, 0],
            cluster: i.to_string(),
            is_label: true,
        };
        (0..count).map(example).collect()
    }

    struct Bench {
        base: Decoder,
        spec: FinetuneSpec,
        train: Vec<Example>,
        folder: tempfile::TempDir,
        interrupt: AtomicBool,
    }

    impl Bench {
        fn new(spec: FinetuneSpec, count: u32) -> Self {
            let base = testing::decoder(testing::config(), 3);
            Self { base, spec, train: examples(count), folder: tempfile::tempdir().unwrap(), interrupt: AtomicBool::new(false) }
        }

        fn train(&self, events: &mut dyn FnMut(&TrainingRow)) -> Result<TrainingOutcome, TrainingError> {
            let folder = self.folder.path().join("finetuned-seed1");
            let request = TrainingRequest {
                base: &self.base,
                base_name: "tiny",
                base_hash: "h",
                spec: &self.spec,
                train: &self.train,
                validation: &[],
                seed: 1,
                variant: "finetuned",
                folder: &folder,
                interrupt: &self.interrupt,
            };
            train_adapter(&request, events)
        }

        fn logits(&self, outcome: &TrainingOutcome) -> Vec<f32> {
            let tokens = [vec![1, 2, 3, 4], vec![1, 5, 6, 7]];
            match &outcome.weights {
                TunedWeights::Lora(adapter) => testing::logits(&self.base, Some(adapter), &tokens),
                TunedWeights::Full(decoder) => testing::logits(decoder, None, &tokens),
            }
        }
    }

    fn untimed(rows: &[TrainingRow]) -> Vec<TrainingRow> {
        rows.iter().map(|row| TrainingRow { step_ns: 0, ..row.clone() }).collect()
    }

    #[track_caller]
    fn check_interrupted_run(method: FinetuneMethod) {
        let straight = Bench::new(spec(method), 20);
        let before = testing::bits(&straight.base);
        let expected = straight.train(&mut |_| ()).unwrap();
        assert_eq!(testing::bits(&straight.base), before, "training moved the base");
        assert_eq!(expected.figures.steps, 16);
        assert_eq!(expected.rows.iter().filter(|row| row.eval_loss.is_some()).count(), 4);
        let broken = Bench::new(spec(method), 20);
        let error = broken.train(&mut |row| broken.interrupt.store(row.step == 5, Ordering::Relaxed)).unwrap_err();
        assert!(matches!(error, TrainingError::Interrupted { step: 5, steps: 16 }), "{error}");
        broken.interrupt.store(false, Ordering::Relaxed);
        let mut told = 0;
        let resumed = broken.train(&mut |_| told += 1).unwrap();
        assert_eq!(told, 11);
        assert_eq!((&resumed.hash, broken.logits(&resumed)), (&expected.hash, straight.logits(&expected)));
        assert_eq!(untimed(&resumed.rows), untimed(&expected.rows));
        let loaded = broken.train(&mut |_| panic!("a finished training was repeated")).unwrap();
        assert_eq!((&loaded.hash, broken.logits(&loaded), &loaded.figures), (&expected.hash, straight.logits(&expected), &resumed.figures));
        assert_eq!(fs::read_dir(broken.folder.path()).unwrap().count(), 1, "the checkpoint is gone");
    }

    #[test]
    fn an_interrupted_lora_run_ends_with_the_same_adapter() {
        check_interrupted_run(FinetuneMethod::Lora);
    }

    #[test]
    fn an_interrupted_full_run_ends_with_the_same_weights() {
        check_interrupted_run(FinetuneMethod::Full);
    }

    #[test]
    fn on_a_gpu_a_training_that_is_resumed_has_the_same_losses() {
        let Ok(device) = ComputeDevice::open(DeviceName::Cuda(0)) else {
            eprintln!("skipped: no GPU in this build or on this machine");
            return;
        };
        for method in [FinetuneMethod::Lora, FinetuneMethod::Full] {
            let on_cpu = Bench::new(spec(method), 20).train(&mut |_| ()).unwrap();
            let mut bench = Bench::new(spec(method), 20);
            let weights = full::weights(&bench.base);
            bench.base = Decoder::new(&testing::config(), device.candle(), |name, _| weights[name].to_device(device.candle())).unwrap();
            bench.train(&mut |row| bench.interrupt.store(row.step == 5, Ordering::Relaxed)).unwrap_err();
            bench.interrupt.store(false, Ordering::Relaxed);
            let trained = bench.train(&mut |_| ()).unwrap();
            for (found, expected) in trained.rows.iter().zip(&on_cpu.rows) {
                let losses = [(Some(found.train_loss), Some(expected.train_loss)), (found.eval_loss, expected.eval_loss)];
                for (found, expected) in losses.into_iter().filter_map(|(found, expected)| found.zip(expected)) {
                    assert!((found - expected).abs() < 1e-3, "{method:?}: loss {found}, on the CPU {expected}");
                }
            }
            let loaded = bench.train(&mut |_| panic!("a finished training was repeated")).unwrap();
            assert_eq!((loaded.rows.len(), &loaded.hash), (on_cpu.rows.len(), &trained.hash));
        }
    }

    #[test]
    fn four_samples_can_be_overfitted() {
        for method in [FinetuneMethod::Lora, FinetuneMethod::Full] {
            let settings = FinetuneSpec {
                target_modules: vec![
                    TargetModule::QProj,
                    TargetModule::VProj,
                    TargetModule::GateProj,
                    TargetModule::UpProj,
                    TargetModule::DownProj,
                ],
                dropout: 0.0,
                weight_decay: 0.0,
                validation_fraction: 0.0,
                micro_batch: 4,
                grad_accum_steps: 1,
                epochs: 150.0,
                learning_rate: 0.02,
                ..spec(method)
            };
            let mut bench = Bench::new(settings, 4);
            // A frozen head of small weights bounds the logits, and with them what LoRA can learn.
            bench.base.head = (&bench.base.head * 5.0).unwrap();
            let outcome = bench.train(&mut |_| ()).unwrap();
            let losses: Vec<f64> = outcome.rows.iter().map(|row| row.train_loss).collect();
            eprintln!("four samples, {method:?}: loss {:.2} to {:.4}", losses[0], losses[149]);
            assert!(losses[0] > 1.5 && losses[149] < 0.02, "{method:?}: {} to {}", losses[0], losses[149]);
        }
    }

    #[test]
    fn other_settings_do_not_overwrite_a_finished_adapter() {
        let mut bench = Bench::new(FinetuneSpec { max_steps: 1, ..spec(FinetuneMethod::Lora) }, 20);
        bench.train(&mut |_| ()).unwrap();
        bench.spec.learning_rate = 0.5;
        assert!(matches!(bench.train(&mut |_| ()), Err(TrainingError::Adapter { .. })));
    }

    #[test]
    fn labels_that_do_not_fit_are_counted_or_refused() {
        let mut bench = Bench::new(FinetuneSpec { max_steps: 1, max_length: 5, ..spec(FinetuneMethod::Lora) }, 20);
        bench.train[0].prompt = vec![1; 9];
        let figures = bench.train(&mut |_| ()).unwrap().figures;
        assert_eq!((figures.labels, figures.dropped, figures.cut), (20, 1, 19));
        let short = Bench::new(FinetuneSpec { max_length: 3, ..spec(FinetuneMethod::Lora) }, 20);
        assert!(matches!(short.train(&mut |_| ()), Err(TrainingError::NoExamples { examples: 20, dropped: 20, max_length: 3 })));
        let zero = Bench::new(FinetuneSpec { micro_batch: 0, ..spec(FinetuneMethod::Lora) }, 20);
        assert!(matches!(zero.train(&mut |_| ()), Err(TrainingError::Setting { key: "micro_batch", .. })));
    }
}
