//! Where the model comes from: embedded in the program, or a folder, file or name on the hub that was checked and is not loaded yet.

use std::path::Path;

use crate::lm::config::DecoderConfig;
use crate::lm::folder::{CheckedFolder, check_model};
use crate::lm::hub::{self, HubName, HubSettings};
use crate::lm::local::LocalModel;
use crate::lm::tokenizer::Tokenizer;
use crate::lm::{ComputeDevice, ModelError, builtin};

/// A model that can be loaded.
pub enum ModelSource {
    /// The reference model; small enough to be loaded at once.
    Builtin(Box<LocalModel>),
    /// A Hugging Face folder or a GGUF file, checked.
    Folder(Box<CheckedFolder>, Option<String>),
}

impl ModelSource {
    /// Opens `builtin`, a folder or GGUF file (relative to `base`) or a name on the hub; loads no weights from them. An empty `tokenizer` leaves
    /// its place to the model.
    pub fn open(path: &Path, tokenizer: &Path, base: &Path) -> Result<Self, ModelError> {
        if path == Path::new("builtin") {
            return Ok(Self::Builtin(Box::new(builtin::load_builtin(0, &ComputeDevice::cpu())?)));
        }
        let apart = (!tokenizer.as_os_str().is_empty()).then(|| base.join(tokenizer));
        match path.to_str().and_then(HubName::parse).transpose()? {
            Some(name) => {
                let found = hub::fetch(&name, &HubSettings::from_env(|variable| std::env::var(variable).ok()))?;
                Ok(Self::Folder(Box::new(check_model(&found.path, apart.as_deref())?), Some(found.commit)))
            }
            None => Ok(Self::Folder(Box::new(check_model(&base.join(path), apart.as_deref())?), None)),
        }
    }

    /// The commit that a name on the hub stood for.
    pub fn revision(&self) -> Option<&str> {
        match self {
            Self::Builtin(_) => None,
            Self::Folder(_, commit) => commit.as_deref(),
        }
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        match self {
            Self::Builtin(model) => &model.tokenizer,
            Self::Folder(folder, _) => &folder.tokenizer,
        }
    }

    /// The model's shape.
    pub fn config(&self) -> &DecoderConfig {
        match self {
            Self::Builtin(model) => &model.decoder.config,
            Self::Folder(folder, _) => &folder.config,
        }
    }

    /// BLAKE3 of the weight files.
    pub fn weights_hash(&self) -> Result<String, ModelError> {
        match self {
            Self::Builtin(model) => Ok(model.weights_hash.clone()),
            Self::Folder(folder, _) => folder.weights.hash(),
        }
    }

    /// Writes the built-in model as a Hugging Face folder; a folder is one already.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), ModelError> {
        match self {
            Self::Builtin(_) => builtin::write_builtin(folder),
            Self::Folder(..) => Ok(()),
        }
    }

    /// Loads the weights onto a device, with a window of `context_length` tokens.
    pub fn load(&self, context_length: usize, device: &ComputeDevice) -> Result<LocalModel, ModelError> {
        match self {
            Self::Builtin(_) => builtin::load_builtin(context_length, device),
            Self::Folder(folder, _) => LocalModel::load_checked(folder, context_length, device.candle()),
        }
    }
}
