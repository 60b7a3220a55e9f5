//! What every form is made from: the tables of a run, the prompts written out again, and names by which others know the model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{ExportError, hexadecimal};
use crate::dataset::Sample;
use crate::retrieval::Chunk;
use crate::spec::VariantKind;
use crate::store::manifest::Manifest;
use crate::store::{RunFolder, read_jsonl};
use crate::table::metric::Kind;
use crate::table::{self, Column, Metric, Observation, Tables};
use crate::variant::prompt::{Passage, PromptTemplate};

/// A run to be exported.
pub struct Source {
    /// Its folder.
    pub folder: PathBuf,
    /// Its tables.
    pub tables: Tables,
    /// Its questions, in file order.
    pub samples: Vec<Sample>,
    template: PromptTemplate,
    passages: BTreeMap<String, Chunk>,
}

/// Names that a run folder does not hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The model as `OWNER/NAME`; without it, made from the spec's path.
    pub model: Option<String>,
    /// Who ran the evaluation.
    pub organization: Option<String>,
}

impl Names {
    /// `OWNER/NAME-variant`: every variant of a run is a system of its own to other tools.
    pub fn system(&self, manifest: &Manifest, variant: VariantKind) -> String {
        format!("{}-{}", self.model(manifest), variant.name())
    }

    /// `OWNER/NAME`.
    pub fn model(&self, manifest: &Manifest) -> String {
        if let Some(model) = &self.model {
            return model.clone();
        }
        if manifest.model.served.is_some() {
            let name = manifest.spec.model_name();
            return if name.split('/').count() == 2 { name } else { format!("served/{}", name.replace('/', "-")) };
        }
        let path = manifest.spec.model.path.display().to_string();
        let hub = path.strip_prefix("hub:").map(|name| name.split('@').next().unwrap_or(name).to_owned());
        match (path.as_str(), hub) {
            ("builtin", _) => "ragft/reference".to_owned(),
            (_, Some(name)) if name.split('/').count() == 2 => name,
            _ => format!("local/{}", path.trim_end_matches('/').rsplit('/').next().unwrap_or("model")),
        }
    }
}

/// The rows of one question, one per training seed.
pub struct Answers<'a> {
    /// Index of the question.
    pub index: usize,
    /// The question.
    pub sample: &'a Sample,
    /// By seed.
    pub rows: &'a [Observation],
}

impl Source {
    /// Reads a complete run.
    ///
    /// # Errors
    /// [`ExportError::Incomplete`] for a run without a result hash, and for a shard.
    pub fn read(run: &Path) -> Result<Self, ExportError> {
        let tables = table::read(run)?;
        if tables.manifest().result_hash.is_none() || tables.manifest().shard.is_some() {
            return Err(ExportError::Incomplete);
        }
        let samples = tables.data.samples.all()?;
        let chunks: Vec<Chunk> = read_jsonl(&RunFolder::at(run).passages())?;
        let passages = chunks.into_iter().map(|chunk| (chunk.id.clone(), chunk)).collect();
        let template = PromptTemplate::new(&tables.manifest().spec.prompt.template)?;
        Ok(Self { folder: run.to_owned(), tables, samples, template, passages })
    }

    pub(super) fn manifest(&self) -> &Manifest {
        self.tables.manifest()
    }

    /// Calls `each` with the answers of a variant in the accuracy pass, by question.
    pub(super) fn for_each_answered(
        &self,
        variant: VariantKind,
        mut each: impl FnMut(&Answers) -> Result<(), ExportError>,
    ) -> Result<(), ExportError> {
        self.tables.data.for_each_question(variant, |index, rows| each(&Answers { index, sample: &self.samples[index], rows }))
    }

    /// The text of a row's prompt, from the run's template and passages.
    pub(super) fn prompt(&self, sample: &Sample, row: &Observation) -> Result<String, ExportError> {
        let shown = row.hits.iter().filter(|hit| hit.in_prompt);
        let chunks = shown.filter_map(|hit| self.passages.get(&hit.chunk_id));
        let passages: Vec<Passage> = chunks.map(|chunk| Passage { title: &chunk.title, text: &chunk.text }).collect();
        Ok(self.template.render(&sample.question, &passages)?)
    }

    /// Metrics of answers and of retrieval that a variant has, with its scores by question.
    pub(super) fn scores(&self, variant: VariantKind) -> Vec<(&Metric, &Column)> {
        let scores = &self.tables.scores;
        let judged = scores.metrics.iter().filter(|metric| metric.kind != Kind::Diagnostic);
        judged.filter_map(|metric| Some((metric, scores.column(variant, &metric.id)?))).collect()
    }

    /// UTC seconds since 1970 when the run was started.
    pub(super) fn started_at(&self) -> i64 {
        self.manifest().started_at.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second)
    }

    /// Seconds of a phase.
    pub(super) fn seconds(&self, phase: &str) -> f64 {
        self.manifest().phases.iter().filter(|record| record.name == phase).map(|record| record.seconds).sum()
    }
}

/// The first reference, or nothing for a question without an answer.
pub(super) fn target(sample: &Sample) -> &str {
    sample.references.first().map_or("", String::as_str)
}

/// SHA-256 in hexadecimal: the hash that the other forms name.
pub(super) fn sha256(text: &str) -> String {
    hexadecimal(&Sha256::digest(text.as_bytes()))
}
