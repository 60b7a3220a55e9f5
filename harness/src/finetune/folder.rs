//! A finished training on disk.
//!
//! ```text
//! adapters/<variant>-seed<k>/             training.json, and
//!                                         adapter_config.json + adapter_model.safetensors (lora), as PEFT has them, or
//!                                         full_config.json + model.safetensors (full): all weights, by their Hugging Face names
//! adapters/<variant>-seed<k>.checkpoint/  while it is being trained
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::lm::config::DecoderConfig;
use crate::lm::decoder::Decoder;
use crate::spec::FinetuneMethod;

use super::checkpoint::{Checkpoint, beside, remove, replace_folder};
use super::error::TrainingError;
use super::lora::LoraConfig;
use super::run::{TrainingFigures, TrainingOutcome, TrainingRequest, TunedWeights};
use super::{TrainingRow, full, peft, tensors};

/// `training.json` in the adapter folder: what makes a finished training recognisable.
#[derive(Debug, Serialize, Deserialize)]
struct TrainingFile {
    request_hash: String,
    figures: TrainingFigures,
    rows: Vec<TrainingRow>,
}

const TRAINING_FILE: &str = "training.json";
const FULL_WEIGHTS_FILE: &str = "model.safetensors";
const FULL_CONFIG_FILE: &str = "full_config.json";

/// `full_config.json`: what `model.safetensors` beside it is.
#[derive(Debug, Serialize, Deserialize)]
struct FullConfig {
    base_model_name_or_path: String,
    decoder: DecoderConfig,
}

/// Where a training keeps its checkpoint.
pub(super) fn checkpoint(request: &TrainingRequest) -> PathBuf {
    beside(request.folder, "checkpoint")
}

/// BLAKE3 over everything that the trained weights depend on.
pub(super) fn request_hash(request: &TrainingRequest) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut put = |bytes: &[u8]| {
        // Lengths keep neighbouring fields from running into each other.
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    put(request.base_hash.as_bytes());
    put(&serde_json::to_vec(request.spec).expect("plain data"));
    put(&request.seed.to_le_bytes());
    put(request.variant.as_bytes());
    for side in [request.train, request.validation] {
        put(&(side.len() as u64).to_le_bytes());
        for example in side {
            put(example.cluster.as_bytes());
            for tokens in [&example.prompt, &example.answer] {
                put(&tokens.iter().flat_map(|token| token.to_le_bytes()).collect::<Vec<u8>>());
            }
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// Writes the adapter folder as a whole, then deletes the checkpoint.
pub(super) fn write_finished(
    request: &TrainingRequest,
    weights: TunedWeights,
    mut figures: TrainingFigures,
    rows: Vec<TrainingRow>,
) -> Result<TrainingOutcome, TrainingError> {
    let fresh = beside(request.folder, "new");
    remove(&fresh)?;
    fs::create_dir_all(&fresh).map_err(TrainingError::file(&fresh))?;
    let weights_file = match &weights {
        TunedWeights::Lora(adapter) => {
            peft::write(&fresh, adapter, &LoraConfig::from(request.spec), request.base_name)?;
            peft::WEIGHTS_FILE
        }
        TunedWeights::Full(decoder) => {
            write_full(&fresh, decoder, request.base_name)?;
            FULL_WEIGHTS_FILE
        }
    };
    let path = fresh.join(weights_file);
    let bytes = fs::read(&path).map_err(TrainingError::file(&path))?;
    figures.bytes = bytes.len() as u64;
    let hash = blake3::hash(&bytes).to_hex().to_string();
    let file = TrainingFile { request_hash: request_hash(request), figures, rows };
    let path = fresh.join(TRAINING_FILE);
    fs::write(&path, serde_json::to_vec(&file).expect("plain data")).map_err(TrainingError::file(&path))?;
    replace_folder(&fresh, request.folder)?;
    Checkpoint::delete(&checkpoint(request))?;
    Ok(TrainingOutcome { weights, figures: file.figures, rows: file.rows, hash })
}

/// Whether the folder holds a finished training, of whatever request.
pub fn is_finished(folder: &Path) -> bool {
    folder.join(TRAINING_FILE).is_file()
}

/// The adapter, if the folder holds a finished one of this very request.
pub(super) fn load_finished(request: &TrainingRequest) -> Result<Option<TrainingOutcome>, TrainingError> {
    let folder = request.folder;
    let path = folder.join(TRAINING_FILE);
    if !path.is_file() {
        return Ok(None);
    }
    let wrong = |problem: String| TrainingError::Adapter { path: folder.display().to_string(), problem };
    let text = fs::read(&path).map_err(TrainingError::file(&path))?;
    let file: TrainingFile = serde_json::from_slice(&text).map_err(|error| wrong(format!("`{TRAINING_FILE}`: {error}")))?;
    if file.request_hash != request_hash(request) {
        return Err(wrong("it was trained with other settings, data or base weights".into()));
    }
    let device = request.base.embedding.device();
    let (weights, weights_file) = match request.spec.method {
        FinetuneMethod::Lora => (TunedWeights::Lora(peft::read(folder, &request.base.config, device)?.0), peft::WEIGHTS_FILE),
        FinetuneMethod::Full => (TunedWeights::Full(Box::new(read_full(folder, request.base).map_err(wrong)?)), FULL_WEIGHTS_FILE),
    };
    let path = folder.join(weights_file);
    let hash = blake3::hash(&fs::read(&path).map_err(TrainingError::file(&path))?).to_hex().to_string();
    Ok(Some(TrainingOutcome { weights, figures: file.figures, rows: file.rows, hash }))
}

/// The fully tuned decoder in `folder`, in the shape of `base`; the error is what is wrong.
fn read_full(folder: &Path, base: &Decoder) -> Result<Decoder, String> {
    let text = fs::read(folder.join(FULL_CONFIG_FILE)).map_err(|error| format!("cannot read `{FULL_CONFIG_FILE}`: {error}"))?;
    let config: FullConfig = serde_json::from_slice(&text).map_err(|error| format!("`{FULL_CONFIG_FILE}`: {error}"))?;
    if config.decoder != base.config {
        return Err(format!("`{FULL_CONFIG_FILE}` describes another decoder than the base"));
    }
    let mut named = tensors::load(&folder.join(FULL_WEIGHTS_FILE), base.embedding.device())?;
    full::map_weights(base, |name, weight| match named.remove(name) {
        Some(tuned) if tuned.dims() == weight.dims() => Ok(tuned),
        Some(tuned) => Err(format!("`{name}` has shape {:?}, the model expects {:?}", tuned.dims(), weight.dims())),
        None => Err(format!("`{name}` is missing")),
    })
}

fn write_full(folder: &Path, decoder: &Decoder, base_name: &str) -> Result<(), TrainingError> {
    let config = FullConfig { base_model_name_or_path: base_name.to_owned(), decoder: decoder.config.clone() };
    let path = folder.join(FULL_CONFIG_FILE);
    fs::write(&path, serde_json::to_string_pretty(&config).expect("plain data") + "\n").map_err(TrainingError::file(&path))?;
    tensors::save(&folder.join(FULL_WEIGHTS_FILE), &full::weights(decoder))
}
