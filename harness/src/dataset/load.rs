//! From a `[dataset]` section to a checked [`Dataset`].

use std::path::Path;

use serde::Serialize;

use super::check::{self, Raw};
use super::error::{DatasetError, Problem, Problems};
use super::files::Files;
use super::overlap::{self, Overlap, OverlapKind};
use super::rows::RowFile;
use super::{Dataset, Leak, Split, beir, leak, native, rows, split, squad, table};
use crate::spec::{DatasetFormat, DatasetSpec, NoReference, OverlapPolicy};

/// Everything that is to be said about a dataset, good or bad.
#[derive(Debug, Default)]
pub struct Examination {
    /// Every problem, by file and line; with any there is no dataset.
    pub problems: Vec<Problem>,
    /// What train and test share, whatever the policy says of it.
    pub overlaps: Vec<Overlap>,
    /// Texts that stand where they should not; never refused, only told.
    pub leaks: Vec<Leak>,
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
    let Examination { problems, mut overlaps, dataset, .. } = examination;
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
    let mut raw = read(files, spec, base_dir, &mut problems)?;
    if spec.no_reference == NoReference::Unanswerable && !raw.info.retrieval_only {
        for raw in raw.samples.iter_mut().filter(|raw| raw.sample.references.is_empty()) {
            raw.sample.answerable = false;
        }
    }
    check::check(&raw, files.label(), &mut problems);
    if !problems.0.is_empty() {
        return Ok(Examination { problems: problems.sorted(), ..Examination::default() });
    }
    let mut dataset = assemble(raw, spec.test_fraction, seed);
    let overlaps = overlap::find(&dataset);
    dataset.notes.extend(overlaps.iter().map(Overlap::to_string));
    let leaks = leak::find(&dataset, &spec.leak);
    dataset.notes.extend(leaks.iter().map(Leak::to_string));
    dataset.notes.extend(split::limit(&mut dataset.test, spec.limit, seed, "test"));
    dataset.notes.extend(split::limit(&mut dataset.train, spec.train_limit, seed, "training"));
    Ok(Examination { problems: Vec::new(), overlaps, leaks, dataset: Some(dataset) })
}

fn read(files: &Files, spec: &DatasetSpec, base_dir: &Path, problems: &mut Problems) -> Result<Raw, DatasetError> {
    let wrong = |format, expected| DatasetError::WrongShape { path: files.label().to_owned(), format, expected };
    let format = if spec.format == DatasetFormat::Auto { detect(files, spec)? } else { spec.format };
    let is_file = files.main().is_some();
    match format {
        DatasetFormat::Native if !is_file => native::read(files, problems),
        DatasetFormat::Native => Err(wrong("native", "a folder with `documents.jsonl` and `test.jsonl`")),
        DatasetFormat::Beir if !is_file => beir::read(files, problems),
        DatasetFormat::Beir => Err(wrong("beir", "a folder with `corpus.jsonl`, `queries.jsonl` and `qrels/test.tsv`")),
        DatasetFormat::Jsonl if !is_file => Err(wrong("jsonl", "a file with one question per line")),
        DatasetFormat::Squad if is_nested(files, true)? => squad::read(files, problems),
        DatasetFormat::Auto => unreachable!("a format was found or the set refused"),
        _ if holds_rows(files) => table::read(files, format, base_dir, spec, problems),
        DatasetFormat::Squad => Err(wrong("squad", "a `.json` file, or a folder with `train-*.json` and `dev-*.json`")),
        _ => Err(wrong("rows", "a file of rows (`.jsonl`, `.json`, `.csv`, `.tsv`, `.parquet`, `.arrow`) or a folder with one per split")),
    }
}

fn holds_rows(files: &Files) -> bool {
    let layout = table::layout(files);
    let all_rows = layout.questions.iter().all(|(name, _)| RowFile::of(name).is_some());
    all_rows && !(layout.questions.is_empty() && layout.configurations.is_empty())
}

/// Whether the set is SQuAD's own tree of articles, paragraphs and questions, not a table of rows; `unclear` where no row can be read.
fn is_nested(files: &Files, unclear: bool) -> Result<bool, DatasetError> {
    let parts = squad::parts(files);
    let Some((name, _)) = parts.first().filter(|(name, _)| RowFile::of(name).is_none_or(|kind| kind == RowFile::List)) else {
        return Ok(false);
    };
    Ok(rows::first_row(files, name)?.map_or(unclear, |fields| fields.contains_key("paragraphs")))
}

/// Tells a format by the names of the files and by what their first rows hold.
fn detect(files: &Files, spec: &DatasetSpec) -> Result<DatasetFormat, DatasetError> {
    if files.main().is_none() {
        if files.has(native::INFO) || files.has(native::DOCUMENTS) {
            return Ok(DatasetFormat::Native);
        }
        if files.has(beir::CORPUS) && (files.has(beir::QUERIES) || files.has(beir::QRELS)) || files.has(beir::QUERIES) {
            return Ok(DatasetFormat::Beir);
        }
    }
    if !squad::parts(files).is_empty() && is_nested(files, false)? {
        return Ok(DatasetFormat::Squad);
    }
    table::detect(files, &spec.columns)?.ok_or_else(|| DatasetError::UnknownFormat { path: files.label().to_owned() })
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
