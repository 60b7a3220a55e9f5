//! A run in the forms of other tools: each module writes one form. Like a report, an export is a function of the run folder: no clock, no
//! model; only [`mlflow`] and [`s3`] talk to a network, and only to the server that they are told.

mod every_eval_ever;
mod hugging_face;
mod lm_eval;
pub mod mlflow;
pub mod s3;
mod source;
#[cfg(test)]
mod tests;
mod trec;

use std::path::{Path, PathBuf};

use crate::diagnostic::Hint;
use crate::gate::{self, GateError, Policy};
use crate::store::{StoreError, write_atomic};
use crate::table::TableError;
use crate::variant::prompt::PromptError;

pub use source::{Names, Source};

/// What can go wrong between a run folder and another tool's files.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The run cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A file cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The run's figures cannot be made.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// A prompt cannot be written out again.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The run has nothing of the kind that the form holds.
    #[error("the run has nothing to export as {form}: {problem}")]
    Nothing {
        /// The form.
        form: &'static str,
        /// What is not there.
        problem: &'static str,
    },
    /// The run is not complete.
    #[error("the run is not complete: it has no result hash")]
    Incomplete,
    /// The server did not do what it was asked.
    #[error("the MLflow server at `{uri}` did not {action}: {problem}")]
    Server {
        /// Its address.
        uri: String,
        /// What was asked.
        action: &'static str,
        /// What it or the connection said.
        problem: String,
    },
    /// A bucket did not get the tables.
    #[error(transparent)]
    S3(#[from] s3::S3Error),
}

impl Hint for ExportError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Table(error) => error.hint(),
            Self::Store(error) => error.hint(),
            Self::Gate(error) => error.hint(),
            Self::Prompt(error) => error.hint(),
            Self::S3(error) => error.hint(),
            Self::Nothing { .. } => None,
            Self::Incomplete => Some("finish it with `ragft run .. --resume`; a shard is merged first: `ragft merge`".into()),
            Self::Server { .. } => Some("check `--uri` and `MLFLOW_TRACKING_TOKEN`; the same command again sends what is missing".into()),
        }
    }
}

/// The file forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `results_*.json` and `samples_*.jsonl` of lm-evaluation-harness, a folder per variant.
    LmEval,
    /// A TREC run per variant that searches, and the relevance labels.
    Trec,
    /// Every Eval Ever: an aggregate and an instance file per variant.
    EveryEvalEver,
    /// Bencher Metric Format.
    Bencher,
    /// The `model-index` of a model card on the Hugging Face hub.
    HuggingFace,
}

/// What was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    /// In the order written.
    pub files: Vec<PathBuf>,
    /// What a reader must know, in words.
    pub notes: Vec<String>,
}

impl Exported {
    fn write(&mut self, path: PathBuf, text: &str) -> Result<(), StoreError> {
        write_atomic(&path, text.as_bytes())?;
        self.files.push(path);
        Ok(())
    }
}

/// Writes the run in a form into a folder; files of the same names are replaced.
pub fn export(source: &Source, form: Form, names: &Names, output: &Path) -> Result<Exported, ExportError> {
    match form {
        Form::LmEval => lm_eval::write(source, names, output),
        Form::Trec => trec::write(source, output),
        Form::EveryEvalEver => every_eval_ever::write(source, names, output),
        Form::HuggingFace => hugging_face::write(source, names, output),
        Form::Bencher => bencher(source, output),
    }
}

/// A text as one part of an address' path.
fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(encode).collect()
}

/// Two digits per byte.
fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The figures that the gate would judge, of the run alone.
fn bencher(source: &Source, output: &Path) -> Result<Exported, ExportError> {
    let run = gate::run::Run::read(&source.folder)?;
    // Held against itself, nothing is judged and everything is listed.
    let listed = gate::compare_runs(&run, &run, &Policy::default_policy())?;
    let mut exported = Exported::default();
    exported.write(output.join("bencher.json"), &gate::export::bmf(&listed, &run))?;
    Ok(exported)
}
