//! The tensors of an encoder's `model.safetensors`, with errors that name them.

use std::path::Path;

use safetensors::SafeTensors;

use super::super::RetrievalError;
use super::super::error::first_line;
use super::folder;
use crate::kernel::{Packed, WeightForm};

/// What names begin with in files that were saved with a task's head.
const PREFIXES: [&str; 2] = ["bert.", "roberta."];

/// The prefix of a file's names, told by the one tensor that every encoder has.
pub(super) fn prefix_of(has: impl Fn(&str) -> bool) -> &'static str {
    PREFIXES.into_iter().find(|prefix| has(&format!("{prefix}embeddings.word_embeddings.weight"))).unwrap_or("")
}

/// The names of a layer norm's factor and shift: older files say gamma and beta.
pub(super) fn norm_names(name: &str, has: impl Fn(&str) -> bool) -> [String; 2] {
    [("weight", "gamma"), ("bias", "beta")].map(|(new, old)| {
        let old = format!("{name}.{old}");
        if has(&old) { old } else { format!("{name}.{new}") }
    })
}

/// An open weight file.
pub(super) struct Weights<'a> {
    folder: &'a Path,
    tensors: SafeTensors<'a>,
    prefix: &'static str,
}

impl<'a> Weights<'a> {
    /// Reads the head of the file's bytes.
    pub(super) fn open(folder: &'a Path, bytes: &'a [u8]) -> Result<Self, RetrievalError> {
        let refused = |error| folder::problem(folder, format!("`model.safetensors`: {}", first_line(&error)));
        let tensors = SafeTensors::deserialize(bytes).map_err(refused)?;
        let prefix = prefix_of(|name| tensors.tensor(name).is_ok());
        Ok(Self { folder, tensors, prefix })
    }

    /// What the names of the encoder's tensors begin with.
    pub(super) fn prefix(&self) -> &'static str {
        self.prefix
    }

    /// Whether there is such a tensor.
    pub(super) fn has(&self, name: &str) -> bool {
        self.tensors.tensor(&format!("{}{name}", self.prefix)).is_ok()
    }

    /// The values of a tensor of the encoder as f32.
    pub(super) fn take(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, RetrievalError> {
        self.take_of_head(&format!("{}{name}", self.prefix), shape)
    }

    /// The values of a tensor of a task's head, whose names have no prefix.
    pub(super) fn take_of_head(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, RetrievalError> {
        let missing = |_| folder::problem(self.folder, format!("`model.safetensors` has no tensor `{name}`"));
        let tensor = self.tensors.tensor(name).map_err(missing)?;
        if tensor.shape() != shape {
            let has = tensor.shape();
            return Err(folder::problem(self.folder, format!("tensor `{name}` has shape {has:?}, `config.json` asks for {shape:?}")));
        }
        folder::floats(self.folder, name, &tensor)
    }

    /// Packs the weights of linear layers that share their input.
    pub(super) fn pack(&self, parts: &[Vec<f32>], inputs: usize) -> Result<Packed, RetrievalError> {
        let parts: Vec<&[f32]> = parts.iter().map(Vec::as_slice).collect();
        Packed::new(&parts, inputs, WeightForm::F32)
            .map_err(|error| folder::problem(self.folder, format!("no memory for packed weights: {error}")))
    }
}
