//! One side of the comparison: a run folder as read, and its values per question.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::policy::{Counter, FAILED, FORMAT_FAILURE};
use crate::dataset::Sample;
use crate::spec::VariantKind;
use crate::store::manifest::Manifest;
use crate::store::row::Phase;
use crate::table::input::RunData;
use crate::table::{Column, Observation, Scores, Stage, TableError, milliseconds};

/// By sample, in the order of the run that is asked.
pub type Values = Vec<Option<f64>>;

/// A run folder as read.
#[derive(Debug, Clone)]
pub struct Run {
    /// The folder.
    pub path: PathBuf,
    /// Its files.
    pub data: RunData,
    /// Its questions, in file order.
    pub samples: Vec<Sample>,
    /// What counts of the rows of the accuracy pass, by variant and in the order of tables.
    counted: BTreeMap<VariantKind, Vec<Counted>>,
    /// Its scores.
    pub scores: Scores,
    index: BTreeMap<String, usize>,
}

/// A row of the accuracy pass without its texts.
#[derive(Debug, Clone, Copy)]
struct Counted {
    sample: usize,
    is_failed: bool,
    prompt_tokens: u32,
    context_tokens: u32,
    completion_tokens: u32,
    flops: Option<f64>,
}

impl Counted {
    fn of(row: &Observation) -> Self {
        Self {
            sample: row.sample,
            is_failed: row.error.is_some(),
            prompt_tokens: row.prompt_tokens,
            context_tokens: row.context_tokens,
            completion_tokens: row.completion_tokens,
            flops: row.flops,
        }
    }
}

/// Where a value per question comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A metric of the journal, or a diagnostic of the tables.
    Metric(String),
    /// Right content in the wrong form: `contains` without `exact_match`.
    FormatFailure,
    /// No answer.
    Failed,
    /// Counted per query.
    Counter(Counter),
    /// Milliseconds of the latency pass.
    Stage(Stage),
}

impl Source {
    /// What a metric of this name is made from.
    pub fn of_metric(name: &str) -> Self {
        match name {
            FORMAT_FAILURE => Self::FormatFailure,
            FAILED => Self::Failed,
            other => Self::Metric(other.to_owned()),
        }
    }
}

impl Run {
    /// Reads a run folder.
    pub fn read(path: &Path) -> Result<Self, TableError> {
        let data = RunData::read(path)?;
        let scores = Scores::of(&data)?;
        let samples = data.samples.all()?;
        let index = samples.iter().enumerate().map(|(index, sample)| (sample.id.clone(), index)).collect();
        let mut counted = BTreeMap::new();
        for variant in data.variants() {
            let rows = data.rows_of(variant, Phase::Accuracy).map(|row| row.map(|row| Counted::of(&row)));
            counted.insert(variant, rows.collect::<Result<Vec<Counted>, TableError>>()?);
        }
        Ok(Self { path: path.to_owned(), data, samples, counted, scores, index })
    }

    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.data.manifest
    }

    /// The question of that id.
    pub fn sample(&self, id: &str) -> Option<&Sample> {
        self.index_of(id).map(|index| &self.samples[index])
    }

    /// Its number.
    pub fn index_of(&self, id: &str) -> Option<usize> {
        self.index.get(id).copied()
    }

    /// The values of one variant.
    pub fn values(&self, variant: VariantKind, source: &Source) -> Values {
        match source {
            Source::Metric(id) => self.metric(variant, id),
            Source::FormatFailure => {
                let pairs = self.metric(variant, "contains").into_iter().zip(self.metric(variant, "exact_match"));
                pairs.map(|(relaxed, strict)| Some((relaxed? - strict?).max(0.0))).collect()
            }
            Source::Failed => self.mean_of_rows(variant, |row| Some(f64::from(u8::from(row.is_failed)))),
            Source::Counter(counter) => self.mean_of_rows(variant, |row| {
                let value = match counter {
                    Counter::PromptTokens => Some(f64::from(row.prompt_tokens)),
                    Counter::ContextTokens => Some(f64::from(row.context_tokens)),
                    Counter::CompletionTokens => Some(f64::from(row.completion_tokens)),
                    Counter::Flops => row.flops,
                };
                value.filter(|_| !row.is_failed)
            }),
            Source::Stage(stage) => {
                let (by_sample, _) = milliseconds(&self.data, variant, *stage);
                let mut values = vec![None; self.samples.len()];
                by_sample.into_iter().for_each(|(sample, time)| values[sample] = Some(time));
                values
            }
        }
    }

    fn metric(&self, variant: VariantKind, id: &str) -> Values {
        let column = self.scores.column(variant, id);
        column.map_or_else(|| vec![None; self.samples.len()], Column::values)
    }

    /// Mean over the accuracy rows of each question, one per seed.
    fn mean_of_rows(&self, variant: VariantKind, of: impl Fn(&Counted) -> Option<f64>) -> Values {
        let mut sums = vec![(0.0, 0usize); self.samples.len()];
        for row in self.counted.get(&variant).into_iter().flatten() {
            if let Some(value) = of(row) {
                sums[row.sample].0 += value;
                sums[row.sample].1 += 1;
            }
        }
        sums.into_iter().map(|(sum, count)| (count > 0).then(|| sum / count as f64)).collect()
    }
}
