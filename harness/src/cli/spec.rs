//! From arguments to a spec and the folder its paths start from.

use std::path::{Path, PathBuf};

use super::args::SpecArgs;
use super::failure::Failure;
use crate::spec::{self, Override, RunSpec, SpecError};

/// The quickstart's spec: what `ragft run` does without one.
pub const QUICKSTART: &str = include_str!("../../quickstart.toml");

/// A spec as written and changed by `--set`, and where its relative paths start: at its own folder.
pub fn load(args: &SpecArgs) -> Result<(RunSpec, PathBuf), Failure> {
    let (text, base) = match &args.spec {
        Some(path) => (read(path)?, path.parent().unwrap_or(Path::new("")).to_owned()),
        None => (QUICKSTART.to_owned(), PathBuf::new()),
    };
    let mut spec = spec::read(&text, &anchored(&args.set))?;
    if let Some(limit) = args.limit {
        spec.dataset.limit = limit;
    }
    for given in &args.predictions {
        let path = std::path::absolute(&given.path).unwrap_or_else(|_| given.path.clone());
        spec.predictions.insert(given.name, path);
    }
    Ok((spec, base))
}

/// The file's text.
pub fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|source| SpecError::Unreadable { path: path.display().to_string(), source })
        .map_err(Failure::from)
}

/// Paths given on the command line start where the command is called, not at the spec.
pub fn anchored(overrides: &[Override]) -> Vec<Override> {
    const PATHS: [&str; 10] = [
        "dataset.path",
        "dataset.documents",
        "dataset.train",
        "model.path",
        "model.tokenizer",
        "prompt.chat",
        "finetune.adapter",
        "hybrid.adapter",
        "retrieval.embedder",
        "retrieval.rerank.model",
    ];
    const NAMES: [&str; 3] = ["builtin", "none", "auto"];
    let anchor = |entry: &Override| {
        let mut entry = entry.clone();
        if let (true, toml::Value::String(text)) = (PATHS.contains(&entry.key.as_str()), &entry.value)
            && !text.is_empty()
            && !NAMES.contains(&text.as_str())
            && !text.starts_with("hub:")
            && let Ok(path) = std::path::absolute(text)
        {
            entry.value = toml::Value::String(path.display().to_string());
        }
        entry
    };
    overrides.iter().map(anchor).collect()
}
