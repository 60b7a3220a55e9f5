//! Where the model comes from: embedded in the program, or a folder that was checked and is not loaded yet.

use std::path::Path;

use crate::lm::config::DecoderConfig;
use crate::lm::folder::{CheckedFolder, check_folder};
use crate::lm::local::LocalModel;
use crate::lm::tokenizer::Tokenizer;
use crate::lm::{ComputeDevice, ModelError, builtin};

/// A model that can be loaded.
pub enum ModelSource {
    /// The reference model; small enough to be loaded at once.
    Builtin(Box<LocalModel>),
    /// A Hugging Face folder, its files checked.
    Folder(Box<CheckedFolder>),
}

impl ModelSource {
    /// Opens `builtin` or a folder (relative to `base`); loads no weights from a folder.
    pub fn open(path: &Path, base: &Path) -> Result<Self, ModelError> {
        if path == Path::new("builtin") {
            Ok(Self::Builtin(Box::new(builtin::load_builtin(0, &ComputeDevice::cpu())?)))
        } else {
            Ok(Self::Folder(Box::new(check_folder(&base.join(path))?)))
        }
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        match self {
            Self::Builtin(model) => &model.tokenizer,
            Self::Folder(folder) => &folder.tokenizer,
        }
    }

    /// The model's shape.
    pub fn config(&self) -> &DecoderConfig {
        match self {
            Self::Builtin(model) => &model.decoder.config,
            Self::Folder(folder) => &folder.config,
        }
    }

    /// BLAKE3 of the weight files.
    pub fn weights_hash(&self) -> Result<String, ModelError> {
        match self {
            Self::Builtin(model) => Ok(model.weights_hash.clone()),
            Self::Folder(folder) => folder.weights.hash(),
        }
    }

    /// Loads the weights onto a device, with a window of `context_length` tokens.
    pub fn load(&self, context_length: usize, device: &ComputeDevice) -> Result<LocalModel, ModelError> {
        match self {
            Self::Builtin(_) => builtin::load_builtin(context_length, device),
            Self::Folder(folder) => LocalModel::load_checked(folder, context_length, device.candle()),
        }
    }
}
