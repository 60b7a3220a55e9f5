//! A training on disk: weights, optimizer state and progress in one folder that is replaced as a whole.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::TrainingRow;
use super::error::TrainingError;
use super::tensors;

/// Everything about a training besides its tensors.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Hash of what is trained on what; a checkpoint of another training is refused.
    pub fingerprint: String,
    /// Optimizer steps done.
    pub step: u64,
    /// Micro-batches done: names the dropout masks.
    pub micro_step: u64,
    /// Tokens seen, padding not counted.
    pub tokens: u64,
    /// Analytic operations.
    pub flops: f64,
    /// Wall time, over all parts of an interrupted training.
    pub seconds: f64,
    /// Lowest validation loss so far, whatever is kept.
    pub best_eval_loss: Option<f64>,
    /// Evaluations since then.
    pub evals_without_better: u64,
    /// Patience is at its end.
    pub stopped_early: bool,
    /// One per step.
    pub rows: Vec<TrainingRow>,
}

/// A resumable state.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Counters and rows.
    pub progress: Progress,
    /// Trainable weights.
    pub weights: BTreeMap<String, Tensor>,
    /// Moments.
    pub optimizer: BTreeMap<String, Tensor>,
    /// Weights of the lowest validation loss, when they are kept.
    pub best: Option<BTreeMap<String, Tensor>>,
}

const PROGRESS: &str = "progress.json";
const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const BEST: &str = "best.safetensors";

impl Checkpoint {
    /// Writes the folder beside its place, then swaps. A kill at any moment leaves a whole checkpoint to [`Self::load`].
    pub fn save(&self, folder: &Path) -> Result<(), TrainingError> {
        let fresh = beside(folder, "new");
        remove(&fresh)?;
        fs::create_dir_all(&fresh).map_err(TrainingError::file(&fresh))?;
        tensors::save(&fresh.join(WEIGHTS), &self.weights)?;
        tensors::save(&fresh.join(OPTIMIZER), &self.optimizer)?;
        if let Some(best) = &self.best {
            tensors::save(&fresh.join(BEST), best)?;
        }
        let progress = serde_json::to_vec(&self.progress).expect("plain data");
        let path = fresh.join(PROGRESS);
        fs::write(&path, progress).map_err(TrainingError::file(&path))?;
        replace_folder(&fresh, folder)
    }

    /// The checkpoint in `folder`, if there is one.
    pub fn load(folder: &Path, device: &Device) -> Result<Option<Self>, TrainingError> {
        // Between the two renames of a swap only the old folder is there.
        let Some(folder) = [folder.to_path_buf(), beside(folder, "old")].into_iter().find(|folder| folder.join(PROGRESS).is_file()) else {
            return Ok(None);
        };
        let damaged = |problem: String| TrainingError::Checkpoint { path: folder.display().to_string(), problem };
        let path = folder.join(PROGRESS);
        let progress = fs::read(&path).map_err(TrainingError::file(&path))?;
        let load = |name: &str| tensors::load(&folder.join(name), device).map_err(damaged);
        Ok(Some(Self {
            progress: serde_json::from_slice(&progress).map_err(|error| damaged(format!("`{PROGRESS}`: {error}")))?,
            weights: load(WEIGHTS)?,
            optimizer: load(OPTIMIZER)?,
            best: if folder.join(BEST).is_file() { Some(load(BEST)?) } else { None },
        }))
    }

    /// Deletes the checkpoint, if there is one.
    pub fn delete(folder: &Path) -> Result<(), TrainingError> {
        remove(&beside(folder, "new"))?;
        remove(&beside(folder, "old"))?;
        remove(folder)
    }
}

/// Puts the finished folder `fresh` in the place of `folder`.
pub(super) fn replace_folder(fresh: &Path, folder: &Path) -> Result<(), TrainingError> {
    let old = beside(folder, "old");
    if folder.exists() {
        remove(&old)?;
        fs::rename(folder, &old).map_err(TrainingError::file(folder))?;
    }
    fs::rename(fresh, folder).map_err(TrainingError::file(fresh))?;
    remove(&old)
}

/// `folder` with `.suffix` added to its name.
pub(super) fn beside(folder: &Path, suffix: &str) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(suffix);
    folder.with_file_name(name)
}

pub(super) fn remove(folder: &Path) -> Result<(), TrainingError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(TrainingError::file(folder)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(step: u64) -> Checkpoint {
        let tensor = Tensor::from_slice(&[step as f32, 0.1], 2, &Device::Cpu).unwrap();
        let weights = BTreeMap::from([("w".to_owned(), tensor)]);
        let progress = Progress { step, best_eval_loss: Some(0.1 + 0.2), ..Progress::default() };
        Checkpoint { progress, optimizer: weights.clone(), best: Some(weights.clone()), weights }
    }

    #[test]
    fn a_saved_checkpoint_replaces_the_last_one_and_comes_back_exactly() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("checkpoint");
        checkpoint(1).save(&place).unwrap();
        checkpoint(2).save(&place).unwrap();
        let loaded = Checkpoint::load(&place, &Device::Cpu).unwrap().unwrap();
        assert_eq!(loaded.progress, checkpoint(2).progress);
        assert_eq!(loaded.weights["w"].to_vec1::<f32>().unwrap(), [2.0, 0.1]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_kill_between_the_renames_leaves_the_old_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("checkpoint");
        checkpoint(1).save(&place).unwrap();
        fs::rename(&place, beside(&place, "old")).unwrap();
        assert_eq!(Checkpoint::load(&place, &Device::Cpu).unwrap().unwrap().progress.step, 1);
        Checkpoint::delete(&place).unwrap();
        assert!(Checkpoint::load(&place, &Device::Cpu).unwrap().is_none());
    }

    #[test]
    fn a_damaged_checkpoint_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("checkpoint");
        checkpoint(1).save(&place).unwrap();
        fs::write(place.join(WEIGHTS), b"torn").unwrap();
        let error = Checkpoint::load(&place, &Device::Cpu).unwrap_err();
        assert!(matches!(error, TrainingError::Checkpoint { .. }), "{error}");
    }
}
