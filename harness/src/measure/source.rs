//! Where the model comes from: embedded in the program, a folder, file or name on the hub that was checked and is not loaded yet, or a server.

use std::path::Path;
use std::sync::Arc;

use super::bench::{Ask, Weights};
use crate::lm::config::DecoderConfig;
use crate::lm::folder::{CheckedFolder, check_model};
use crate::lm::hub::{self, HubName, HubSettings};
use crate::lm::local::LocalModel;
use crate::lm::remote::ServedModel;
use crate::lm::tokenizer::{SpecialTokens, Tokenizer};
use crate::lm::{ComputeDevice, Generation, GenerationConfig, ModelError, builtin};
use crate::spec::{ModelSpec, RunSpec};
use crate::variant::prompt::FittedPrompt;

/// A model that can be loaded.
pub enum ModelSource {
    /// The reference model; small enough to be loaded at once.
    Builtin(Box<LocalModel>),
    /// A Hugging Face folder or a GGUF file, checked.
    Folder(Box<CheckedFolder>, Option<String>),
    /// Behind an endpoint.
    Served(Arc<ServedModel>),
}

/// A model that answers.
pub enum Model {
    /// Loaded here.
    Local(Box<LocalModel>),
    /// Behind an endpoint.
    Served(Arc<ServedModel>),
}

impl Model {
    /// The weights, where they are here.
    pub fn local(&self) -> Option<&LocalModel> {
        match self {
            Self::Local(model) => Some(model),
            Self::Served(_) => None,
        }
    }

    /// One generation per prompt (and name of its sampling stream) with the base weights.
    ///
    /// # Errors
    /// Of the model or its server.
    pub fn answer(&self, prompts: &[(FittedPrompt, &str)], config: &GenerationConfig) -> Result<Vec<Generation>, ModelError> {
        let asks: Vec<Ask> = prompts.iter().map(|(prompt, stream)| Ask { prompt, stream }).collect();
        match self {
            Self::Local(model) => Weights::Local(model, None).generate(&asks, config),
            Self::Served(model) => Weights::Served(model, model.name()).generate(&asks, config),
        }
    }
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

    /// The model that a spec names: the one behind its endpoint, or else that at `path`.
    ///
    /// # Errors
    /// As [`ModelSource::open`]; for an endpoint, a tokenizer that cannot be read, or a key that is not there.
    pub fn of(spec: &RunSpec, base: &Path) -> Result<Self, ModelError> {
        if spec.is_served() {
            let model = served_tokenizer(&spec.model, base)
                .and_then(|tokenizer| Ok(ServedModel::open(&spec.model.endpoint, &spec.prompt.system, tokenizer, spec.model.max_context)?));
            return model.map(|model| Self::Served(Arc::new(model)));
        }
        // Without a question for a model, none is asked for by name.
        let path = if spec.uses_model() { &*spec.model.path } else { Path::new("builtin") };
        Self::open(path, &spec.model.tokenizer, base)
    }

    /// The model behind an endpoint.
    pub fn served(&self) -> Option<&ServedModel> {
        match self {
            Self::Served(model) => Some(model),
            Self::Builtin(_) | Self::Folder(..) => None,
        }
    }

    /// The commit that a name on the hub stood for.
    pub fn revision(&self) -> Option<&str> {
        match self {
            Self::Builtin(_) | Self::Served(_) => None,
            Self::Folder(_, commit) => commit.as_deref(),
        }
    }

    /// The model's tokenizer; of a served one, where it is at hand.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        match self {
            Self::Builtin(model) => Some(&model.tokenizer),
            Self::Folder(folder, _) => Some(&folder.tokenizer),
            Self::Served(model) => model.tokenizer(),
        }
    }

    /// The model's shape, which a server does not tell.
    pub fn config(&self) -> Option<&DecoderConfig> {
        match self {
            Self::Builtin(model) => Some(&model.config),
            Self::Folder(folder, _) => Some(&folder.config),
            Self::Served(_) => None,
        }
    }

    /// BLAKE3 of the weight files, which a server does not show.
    pub fn weights_hash(&self) -> Result<Option<String>, ModelError> {
        match self {
            Self::Builtin(_) => Ok(Some(builtin::weights_hash())),
            Self::Folder(folder, _) => folder.weights.hash().map(Some),
            Self::Served(_) => Ok(None),
        }
    }

    /// Writes the built-in model as a Hugging Face folder; a folder is one already, and a server's stays there.
    ///
    /// # Errors
    /// Files that cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), ModelError> {
        match self {
            Self::Builtin(_) => builtin::write_builtin(folder),
            Self::Folder(..) | Self::Served(_) => Ok(()),
        }
    }

    /// Loads the weights onto a device, with a window of `context_length` tokens. A server is asked whether it is there.
    pub fn load(&self, context_length: usize, device: &ComputeDevice) -> Result<Model, ModelError> {
        let local = match self {
            Self::Builtin(_) => builtin::load_builtin(context_length, device)?,
            Self::Folder(folder, _) => LocalModel::load_checked(folder, context_length, device.candle())?,
            Self::Served(model) => {
                model.client().greet()?;
                return Ok(Model::Served(Arc::clone(model)));
            }
        };
        Ok(Model::Local(Box::new(local)))
    }
}

/// The tokenizer of a served model, from the folder that the spec names.
fn served_tokenizer(spec: &ModelSpec, base: &Path) -> Result<Option<Tokenizer>, ModelError> {
    if spec.tokenizer.as_os_str().is_empty() {
        return Ok(None);
    }
    Tokenizer::load_folder(&base.join(&spec.tokenizer), SpecialTokens::default()).map(Some)
}
