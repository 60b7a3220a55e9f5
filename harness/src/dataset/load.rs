//! From a `[dataset]` section to a checked [`Dataset`].

use std::path::Path;

use serde::Serialize;

use super::check::{self, Raw};
use super::error::{DatasetError, Problem, Problems};
use super::files::Files;
use super::overlap::{self, Overlap, OverlapKind};
use super::{Dataset, Split, beir, jsonl, native, split, squad};
use crate::spec::{DatasetFormat, DatasetSpec, OverlapPolicy};

/// Everything that is to be said about a dataset, good or bad.
#[derive(Debug, Default)]
pub struct Examination {
    /// Every problem, by file and line; with any there is no dataset.
    pub problems: Vec<Problem>,
    /// What train and test share, whatever the policy says of it.
    pub overlaps: Vec<Overlap>,
    /// The dataset, split and limited, with notes.
    pub dataset: Option<Dataset>,
}

/// Reads and checks the dataset that `spec` names; paths are taken from `base_dir`. Splits, limits and nothing else depend on `seed`.
///
/// Fails on the first thing that keeps it from reading, else with all problems at once, else on an overlap that `spec` refuses.
pub fn load(spec: &DatasetSpec, seed: u64, base_dir: &Path) -> Result<Dataset, DatasetError> {
    let files = open(spec, base_dir)?;
    accept(examine(&files, spec, seed, base_dir)?, &files, spec)
}

/// The same for files that are at hand already, for example a folder embedded in the program.
pub fn load_from(files: &Files, spec: &DatasetSpec, seed: u64) -> Result<Dataset, DatasetError> {
    accept(examine(files, spec, seed, Path::new(""))?, files, spec)
}

/// Like [`load`], but hands back every problem and overlap instead of failing on them.
pub fn check(spec: &DatasetSpec, seed: u64, base_dir: &Path) -> Result<Examination, DatasetError> {
    examine(&open(spec, base_dir)?, spec, seed, base_dir)
}

fn open(spec: &DatasetSpec, base_dir: &Path) -> Result<Files, DatasetError> {
    if spec.path == Path::new("builtin") {
        return Ok(super::builtin());
    }
    let path = base_dir.join(&spec.path);
    if path.is_dir() {
        return Files::folder(&path);
    }
    if path.is_file() { Ok(Files::single(&path)) } else { Err(DatasetError::NotFound { path }) }
}

fn accept(examination: Examination, files: &Files, spec: &DatasetSpec) -> Result<Dataset, DatasetError> {
    let Examination { problems, mut overlaps, dataset } = examination;
    let name = files.label().to_owned();
    let Some(dataset) = dataset else { return Err(DatasetError::Invalid { dataset: name, problems }) };
    overlaps.retain(|overlap| overlap.kind != OverlapKind::Document);
    if spec.overlap == OverlapPolicy::Refuse && !overlaps.is_empty() {
        return Err(DatasetError::Overlap { dataset: name, overlaps });
    }
    Ok(dataset)
}

fn examine(files: &Files, spec: &DatasetSpec, seed: u64, base_dir: &Path) -> Result<Examination, DatasetError> {
    if !(spec.test_fraction > 0.0 && spec.test_fraction <= 1.0) {
        return Err(DatasetError::TestFraction { value: spec.test_fraction });
    }
    let mut problems = Problems::default();
    let raw = read(files, spec, base_dir, &mut problems)?;
    check::check(&raw, files.label(), &mut problems);
    if !problems.0.is_empty() {
        return Ok(Examination { problems: problems.sorted(), ..Examination::default() });
    }
    let mut dataset = assemble(raw, spec.test_fraction, seed);
    let overlaps = overlap::find(&dataset);
    dataset.notes.extend(overlaps.iter().map(Overlap::to_string));
    dataset.notes.extend(split::limit(&mut dataset.test, spec.limit, seed, "test"));
    dataset.notes.extend(split::limit(&mut dataset.train, spec.train_limit, seed, "training"));
    Ok(Examination { problems: Vec::new(), overlaps, dataset: Some(dataset) })
}

fn read(files: &Files, spec: &DatasetSpec, base_dir: &Path, problems: &mut Problems) -> Result<Raw, DatasetError> {
    let wrong = |format, expected| DatasetError::WrongShape { path: files.label().to_owned(), format, expected };
    let format = if spec.format == DatasetFormat::Auto { detect(files)? } else { spec.format };
    match (format, files.main()) {
        (DatasetFormat::Native, None) => native::read(files, problems),
        (DatasetFormat::Beir, None) => beir::read(files, problems),
        (DatasetFormat::Jsonl, Some(main)) => jsonl::read(files, main, base_dir, spec, problems),
        (DatasetFormat::Squad, _) if !squad::parts(files).is_empty() => squad::read(files, problems),
        (DatasetFormat::Native, _) => Err(wrong("native", "a folder with `documents.jsonl` and `test.jsonl`")),
        (DatasetFormat::Beir, _) => Err(wrong("beir", "a folder with `corpus.jsonl`, `queries.jsonl` and `qrels/test.tsv`")),
        (DatasetFormat::Jsonl, _) => Err(wrong("jsonl", "a file with one question per line")),
        (DatasetFormat::Squad | DatasetFormat::Auto, _) => {
            Err(wrong("squad", "a `.json` file, or a folder with `train-*.json` and `dev-*.json`"))
        }
    }
}

/// Tells a format by the names of the files.
fn detect(files: &Files) -> Result<DatasetFormat, DatasetError> {
    let ends = |name: &str, extension: &str| Path::new(name).extension().is_some_and(|found| found.eq_ignore_ascii_case(extension));
    match files.main() {
        Some(main) if ends(main, "json") => Ok(DatasetFormat::Squad),
        Some(main) if ends(main, "jsonl") => Ok(DatasetFormat::Jsonl),
        None if files.has(native::INFO) || files.has(native::DOCUMENTS) => Ok(DatasetFormat::Native),
        None if files.has(beir::CORPUS) || files.has(beir::QUERIES) => Ok(DatasetFormat::Beir),
        None if !squad::parts(files).is_empty() => Ok(DatasetFormat::Squad),
        _ => Err(DatasetError::UnknownFormat { path: files.label().to_owned() }),
    }
}

fn assemble(mut raw: Raw, test_fraction: f64, seed: u64) -> Dataset {
    let one_file = raw.samples.iter().any(|raw| raw.split.is_none());
    if one_file {
        split::divide(&mut raw.samples, test_fraction, seed);
    }
    let mut dataset = Dataset { info: raw.info, notes: raw.notes, ..Dataset::default() };
    dataset.documents = raw.documents.into_iter().map(|(document, _)| document).collect();
    for raw in raw.samples {
        match raw.split.expect("every sample has a split by now") {
            Split::Train => dataset.train.push(raw.sample),
            Split::Validation => dataset.validation.push(raw.sample),
            Split::Test => dataset.test.push(raw.sample),
        }
    }
    if one_file {
        let (test, train) = (dataset.test.len(), dataset.train.len());
        dataset.notes.push(format!("one set was split by groups of linked questions: {test} test questions, {train} training questions"));
    }
    dataset.hash = content_hash(&dataset);
    dataset
}

/// BLAKE3 over documents and splits in canonical JSON, before any limit; independent of file names and formats.
pub fn content_hash(dataset: &Dataset) -> String {
    let mut hasher = blake3::Hasher::new();
    update(&mut hasher, "documents", &dataset.documents);
    for (split, samples) in dataset.splits() {
        update(&mut hasher, &format!("{split:?}"), samples);
    }
    hasher.finalize().to_hex().to_string()
}

fn update<T: Serialize>(hasher: &mut blake3::Hasher, label: &str, items: &[T]) {
    hasher.update(format!("{label} {}\n", items.len()).as_bytes());
    for item in items {
        hasher.update(&serde_json::to_vec(item).expect("plain structs serialise"));
        hasher.update(b"\n");
    }
}
