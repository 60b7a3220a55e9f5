//! Texts into vectors: sentence-transformers folders of BERT and RoBERTa class, Model2Vec folders, the built-in static vectors, and servers. And
//! pairs of texts into scores: cross-encoders of the same classes.

mod attention;
mod batch;
mod bert;
mod cross_encoder;
mod distill;
mod encoder;
mod folder;
mod pca;
mod pooling;
mod served;
mod sides;
mod static_vectors;
mod weights;

use std::path::Path;

use serde_json::Value;
use tokenizers::Tokenizer;

pub use bert::BertEmbedder;
pub use cross_encoder::{CrossEncoder, PairScore, check_reranker};
pub use distill::{DistillConfig, Distilled, distill};
pub use sides::{RetrievalEmbedder, prefixes};
pub use static_vectors::{StaticEmbedder, builtin};

use super::error::first_line;
use super::{Embedder, RetrievalError};

/// The name under which the embedder inside the binary is asked for.
pub const BUILTIN: &str = "builtin";

/// The forms that a folder can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Bert,
    Static,
}

/// Loads the embedder named by `retrieval.embedder`: `builtin`, a sentence-transformers folder of BERT class, or a Model2Vec folder.
///
/// # Errors
/// [`RetrievalError::Embedder`] with the file and what is wrong with it.
pub fn load_embedder(path: &Path) -> Result<Box<dyn Embedder>, RetrievalError> {
    if path == Path::new(BUILTIN) {
        return Ok(Box::new(builtin()));
    }
    Ok(match form_of(path)? {
        Form::Bert => Box::new(BertEmbedder::load(path)?),
        Form::Static => Box::new(StaticEmbedder::load(path)?),
    })
}

/// Checks that [`load_embedder`] will find what it needs: files, settings, and shapes from the head of the weight file. Reads no weights.
///
/// # Errors
/// As [`load_embedder`].
pub fn check_embedder(path: &Path) -> Result<(), RetrievalError> {
    if path == Path::new(BUILTIN) {
        return Ok(());
    }
    match form_of(path)? {
        Form::Bert => bert::check(path),
        Form::Static => static_vectors::check(path),
    }
}

fn form_of(path: &Path) -> Result<Form, RetrievalError> {
    if !path.is_dir() {
        return Err(folder::problem(path, "is not a folder"));
    }
    let config: Value = folder::read_json(path, "config.json")?;
    match config["model_type"].as_str() {
        Some("bert") => Ok(Form::Bert),
        kind if encoder::is_roberta(kind) => Ok(Form::Bert),
        Some("model2vec") => Ok(Form::Static),
        Some(other) => Err(folder::problem(
            path,
            format!("model type `{other}` is not supported, expected `bert`, `roberta`, `xlm-roberta` or `model2vec`"),
        )),
        None => Err(folder::problem(path, "`config.json` has no `model_type`")),
    }
}

/// Parses a tokenizer without its own truncation and padding: the embedder sets what it needs.
fn parse_tokenizer(bytes: &[u8], path: &Path) -> Result<Tokenizer, RetrievalError> {
    crate::lm::tokenizer::parse(bytes).map_err(|problem| {
        let line = problem.lines().next().unwrap_or_default();
        folder::problem(path, format!("`tokenizer.json`: {line}"))
    })
}

fn tokenizer_error(error: tokenizers::Error) -> RetrievalError {
    RetrievalError::Tokenizer { problem: first_line(&error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem_of(files: &[(&str, &str)]) -> String {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        match (check_embedder(folder.path()).unwrap_err(), load_embedder(folder.path()).err().unwrap()) {
            (RetrievalError::Embedder { problem, .. }, RetrievalError::Embedder { problem: loading, .. }) => {
                assert_eq!(problem, loading, "check and load disagree");
                problem
            }
            other => panic!("unexpected errors {other:?}"),
        }
    }

    #[test]
    fn unusable_folders_are_refused_with_what_is_wrong() {
        assert_eq!(problem_of(&[]), "has no `config.json`");
        assert!(problem_of(&[("config.json", "{")]).starts_with("`config.json`: EOF"));
        assert_eq!(problem_of(&[("config.json", "{}")]), "`config.json` has no `model_type`");
        assert!(problem_of(&[("config.json", r#"{"model_type": "gpt2"}"#)]).contains("`gpt2` is not supported"));
        assert_eq!(problem_of(&[("config.json", r#"{"model_type": "model2vec"}"#)]), "has no `tokenizer.json`");
    }

    #[test]
    fn a_path_that_is_no_folder_is_refused_and_the_builtin_is_accepted() {
        assert_eq!(check_embedder(Path::new("nowhere/at/all")).unwrap_err().to_string(), "embedder `nowhere/at/all`: is not a folder");
        check_embedder(Path::new(BUILTIN)).unwrap();
        assert_eq!(load_embedder(Path::new(BUILTIN)).unwrap().dimension(), 128);
    }
}
