//! Pre-training of the built-in model on the fact world, from a spec file to a Hugging Face folder.
//!
//! Everything follows from the spec: weights, rows and their order. An interrupted pre-training goes on from its checkpoint and ends with
//! the same weights.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use candle_core::{DType, Device, Tensor};

use super::curriculum::Curriculum;
use super::full;
use super::objective::NextToken;
use super::optimizer::{Optimizer, ParameterGroup, UpdateRule};
use super::pretrain_batches::{PretrainBatches, exposures};
use super::pretrain_evaluation::{Evaluation, Evaluator};
use super::pretrain_spec::PretrainSpec;
use super::pretrain_tokenizer::build_tokenizer;
use super::schedule::{Decay, LearningRate};
use super::trainer::{Trainer, TrainerConfig};
use super::{BatchSource, TrainingError, TrainingRow};
use crate::dataset::world;
use crate::lm::config::DecoderConfig;
use crate::lm::decoder::Decoder;
use crate::lm::device::memory_hint;
use crate::lm::{ComputeDevice, DeviceError, ModelError, save_folder};
use crate::rng::Rng;

/// What a pre-training tells while it runs.
#[derive(Debug, Clone, PartialEq)]
pub enum PretrainEvent<'a> {
    /// An optimizer step.
    Step(&'a TrainingRow),
    /// Figures on names that pre-training never uses.
    Evaluation(&'a Evaluation),
}

/// Why a pre-training did not end with a model.
#[derive(Debug, thiserror::Error)]
pub enum PretrainError {
    /// A setting that cannot be trained with.
    #[error("`{key}` is {value}, expected {expected}")]
    Setting {
        /// Key of the spec.
        key: &'static str,
        /// As written.
        value: String,
        /// What would do.
        expected: &'static str,
    },
    /// A file could not be read or written.
    #[error("cannot access `{path}`")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The trainer stopped.
    #[error(transparent)]
    Training(#[from] TrainingError),
    /// Tokenizer or model folder.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// `model.device` cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A tensor operation failed.
    #[error("tensor operation failed")]
    Tensor(#[from] candle_core::Error),
}

impl crate::diagnostic::Hint for PretrainError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Setting { .. } => Some("see `specs/pretrain.toml` for settings that work".into()),
            Self::Training(error) => error.hint(),
            Self::Model(error) => error.hint(),
            Self::Device(error) => error.hint(),
            Self::Tensor(error) => memory_hint(error),
            Self::File { .. } => None,
        }
    }
}

/// Pre-trains to the end and writes the model (f16) to `out_dir`, one line per
/// evaluation in `pretrain.jsonl`, one per optimizer step in `training.jsonl` and one per known entity in `exposures.jsonl`. A second call with the
/// same spec and folder goes on where the first was interrupted.
///
/// # Errors
/// [`TrainingError::Interrupted`] when the flag was set: what was done is in `out_dir/checkpoint`.
pub fn pretrain(
    spec: &PretrainSpec,
    out_dir: &Path,
    events: &mut dyn FnMut(PretrainEvent),
    interrupt: &AtomicBool,
) -> Result<Evaluation, PretrainError> {
    spec.check()?;
    let device = ComputeDevice::open(spec.model.device)?;
    let world = world::generate(&spec.world);
    let tokenizer = build_tokenizer()?;
    let (decoder, parameters) = full::trainable(&initial_decoder(spec, tokenizer.id_count(), device.candle())?)?;
    let batches = PretrainBatches::new(spec, Curriculum::training(&world, &tokenizer, spec.loss));
    let asking = Curriculum::evaluation(&world, &tokenizer, spec.loss);
    let evaluator = Evaluator::new(&asking, spec.eval_questions, spec.seed)?;
    let log = EvaluationLog { path: out_dir.join("pretrain.jsonl") };
    std::fs::create_dir_all(out_dir).map_err(|source| PretrainError::File { path: out_dir.into(), source })?;
    let checkpoint = out_dir.join("checkpoint");
    let objective = NextToken::new(&decoder, None);
    let steps = batches.steps();
    let trainer = Trainer {
        parameters: &parameters,
        objective: &objective,
        batches: &batches,
        validation: &[],
        interrupt,
        config: trainer_config(spec, steps, &tokenizer.hash(), checkpoint.clone()),
    };
    let mut last: Option<Result<Evaluation, PretrainError>> = None;
    let optimizer = Optimizer::new(&parameters, |name, shape| parameter_group(spec, name, shape));
    let progress = trainer.run(optimizer, &mut |row| {
        events(PretrainEvent::Step(row));
        if row.step.is_multiple_of(spec.eval_steps) && row.step < steps && !matches!(last, Some(Err(_))) {
            let scored = evaluator.score(&decoder, row.step).and_then(|scored| log.write(&scored).map(|()| scored));
            if let Ok(scored) = &scored {
                events(PretrainEvent::Evaluation(scored));
            }
            last = Some(scored);
        }
    })?;
    if let Some(Err(error)) = last {
        return Err(error);
    }
    let decoder = full::frozen(&decoder)?;
    let scored = Evaluator::new(&asking, spec.final_questions, spec.seed)?.score(&decoder, progress.step)?;
    log.write(&scored)?;
    events(PretrainEvent::Evaluation(&scored));
    write_lines(&out_dir.join("exposures.jsonl"), &exposures(spec)?)?;
    write_lines(&out_dir.join("training.jsonl"), &progress.rows)?;
    save_folder(out_dir, &decoder, &tokenizer, DType::F16)?;
    if checkpoint.exists() {
        std::fs::remove_dir_all(&checkpoint).map_err(|source| PretrainError::File { path: checkpoint, source })?;
    }
    Ok(scored)
}

fn trainer_config(spec: &PretrainSpec, steps: u64, tokenizer_hash: &str, checkpoint: PathBuf) -> TrainerConfig {
    let settings = &spec.optimizer;
    TrainerConfig {
        variant: "pretrain".into(),
        seed: spec.seed,
        schedule: LearningRate {
            warmup_steps: settings.warmup_steps,
            total_steps: steps,
            decay: Decay::StableThenLinear { fraction: settings.decay_fraction },
        },
        max_grad_norm: settings.max_grad_norm,
        eval_steps: 0,
        patience: 0,
        checkpoint_steps: spec.checkpoint_steps,
        checkpoint: Some(checkpoint),
        fingerprint: blake3::hash(format!("{spec:?}{tokenizer_hash}").as_bytes()).to_hex().to_string(),
    }
}

fn parameter_group(spec: &PretrainSpec, name: &str, shape: &[usize]) -> ParameterGroup {
    let inner = shape.len() == 2 && name.contains(".layers.");
    let (rule, learning_rate) =
        if inner { (UpdateRule::MUON, spec.optimizer.muon_rate) } else { (UpdateRule::ADAMW, spec.optimizer.adamw_rate) };
    ParameterGroup { rule, learning_rate, weight_decay: 0.0 }
}

/// Norms at one, projections back into the residual stream at zero (each block begins as the identity), the rest normal with deviation
/// 0.02.
fn initial_decoder(spec: &PretrainSpec, vocabulary: usize, device: &Device) -> candle_core::Result<Decoder> {
    let shape = &spec.model;
    let config = DecoderConfig {
        architecture: "Qwen3ForCausalLM".into(),
        vocab_size: vocabulary.next_multiple_of(32),
        hidden_size: shape.hidden,
        intermediate_size: shape.intermediate,
        num_hidden_layers: shape.layers,
        num_attention_heads: shape.heads,
        num_key_value_heads: shape.heads,
        head_dim: shape.head_dim,
        rms_norm_eps: 1e-6,
        rope_theta: shape.rope_theta,
        rope_scaling: None,
        unrotated_layers: Vec::new(),
        rotary_dim: None,
        sliding_window: None,
        max_position_embeddings: shape.max_position,
        tie_word_embeddings: true,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        qk_norm: true,
        gemma: None,
    };
    Decoder::new(&config, device, |name, shape| {
        let mut rng = Rng::new(spec.seed, &format!("weights/{name}"));
        let count: usize = shape.iter().product();
        let values: Vec<f32> = if name.ends_with("norm.weight") {
            vec![1.0; count]
        } else if name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight") {
            vec![0.0; count]
        } else {
            (0..count).map(|_| (0.02 * rng.normal()) as f32).collect()
        };
        Tensor::from_vec(values, shape, device)
    })
}

fn write_lines<T: serde::Serialize>(path: &Path, rows: &[T]) -> Result<(), PretrainError> {
    let text: String = rows.iter().map(|row| serde_json::to_string(row).expect("figures serialize") + "\n").collect();
    std::fs::write(path, text).map_err(|source| PretrainError::File { path: path.into(), source })
}

/// What a finished pre-training left behind: its evaluations and its steps.
///
/// # Errors
/// [`PretrainError::File`] where `pretrain.jsonl` or `training.jsonl` cannot be read or is not what it should be.
pub fn read_history(folder: &Path) -> Result<(Vec<Evaluation>, Vec<TrainingRow>), PretrainError> {
    Ok((read_lines(&folder.join("pretrain.jsonl"))?, read_lines(&folder.join("training.jsonl"))?))
}

fn read_lines<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>, PretrainError> {
    let failed = |source| PretrainError::File { path: path.into(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let rows: Result<Vec<T>, serde_json::Error> = text.lines().map(serde_json::from_str).collect();
    rows.map_err(|error| failed(error.into()))
}

/// `pretrain.jsonl`: one line per evaluation, in order of steps.
struct EvaluationLog {
    path: PathBuf,
}

impl EvaluationLog {
    /// Adds a line; lines of later steps, left by an interrupted training that went back to its checkpoint, are dropped.
    fn write(&self, evaluation: &Evaluation) -> Result<(), PretrainError> {
        let failed = |source| PretrainError::File { path: self.path.clone(), source };
        let old = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(failed(error)),
        };
        let earlier = |line: &&str| serde_json::from_str::<Evaluation>(line).is_ok_and(|row| row.step < evaluation.step);
        let mut text: String = old.lines().filter(earlier).flat_map(|line| [line, "\n"]).collect();
        text += &serde_json::to_string(evaluation).expect("figures serialize");
        text.push('\n');
        std::fs::write(&self.path, text).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::Ordering;

    use super::super::pretrain_spec::ModelShape;
    use super::*;
    use crate::dataset::world::{Size, WorldConfig};

    fn shipped() -> PretrainSpec {
        toml::from_str(include_str!("../../../specs/pretrain.toml")).unwrap()
    }

    /// Six steps of a model with two small blocks.
    fn tiny() -> PretrainSpec {
        let mut spec = shipped();
        spec.model = ModelShape { layers: 2, hidden: 16, heads: 2, head_dim: 8, intermediate: 24, ..spec.model };
        (spec.tokens_per_step, spec.checkpoint_steps, spec.eval_steps, spec.eval_questions, spec.final_questions) = (200, 2, 4, 2, 2);
        spec.world = WorldConfig::of(Size::Tiny, 1);
        for stage in &mut spec.stage {
            stage.tokens = 300;
        }
        spec.stage.truncate(3);
        spec
    }

    #[test]
    fn an_interrupted_pre_training_ends_with_the_same_model() {
        let (spec, folder) = (tiny(), tempfile::tempdir().unwrap());
        let (whole, halted) = (folder.path().join("whole"), folder.path().join("halted"));
        let interrupt = AtomicBool::new(false);
        let rows = Mutex::new(0);
        let figures = pretrain(&spec, &whole, &mut |_| *rows.lock().unwrap() += 1, &interrupt).unwrap();
        assert_eq!((figures.step, *rows.lock().unwrap()), (6, 8));
        let mut stop = |event: PretrainEvent| {
            if matches!(event, PretrainEvent::Step(row) if row.step == 3) {
                interrupt.store(true, Ordering::Relaxed);
            }
        };
        let error = pretrain(&spec, &halted, &mut stop, &interrupt).unwrap_err();
        assert!(matches!(error, PretrainError::Training(TrainingError::Interrupted { step: 3, .. })), "{error}");
        interrupt.store(false, Ordering::Relaxed);
        pretrain(&spec, &halted, &mut |_| {}, &interrupt).unwrap();
        for name in ["model.safetensors", "tokenizer.json", "pretrain.jsonl", "exposures.jsonl"] {
            assert!(std::fs::read(whole.join(name)).unwrap() == std::fs::read(halted.join(name)).unwrap(), "`{name}` differs");
        }
        assert!(!halted.join("checkpoint").exists());
    }

    #[test]
    fn a_setting_that_cannot_work_is_named() {
        let mut spec = tiny();
        spec.stage[1].reading.passages = (3, 2);
        let error = pretrain(&spec, Path::new("unused"), &mut |_| {}, &AtomicBool::new(false)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`stage.reading.passages` is [3, 2], expected a rising pair from 1, at most 9 passages and 5 sentences"
        );
        assert!(toml::from_str::<PretrainSpec>("sed = 1").unwrap_err().to_string().contains("unknown field `sed`"));
    }
}
