//! One side of the comparison: a run folder as read, and its values per question.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::policy::{Counter, FAILED, FORMAT_FAILURE};
use crate::dataset::Sample;
use crate::spec::VariantKind;
use crate::store::manifest::Manifest;
use crate::store::row::Phase;
use crate::table::input::RunData;
use crate::table::{Scores, Stage, TableError, milliseconds};

/// By sample, in the order of the run that is asked.
pub type Values = Vec<Option<f64>>;

/// A run folder as read.
#[derive(Debug, Clone)]
pub struct Run {
    /// The folder.
    pub path: PathBuf,
    /// Its files.
    pub data: RunData,
    /// Its scores.
    pub scores: Scores,
    index: BTreeMap<String, usize>,
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
        let scores = Scores::of(&data);
        let index = data.samples.iter().enumerate().map(|(index, sample)| (sample.id.clone(), index)).collect();
        Ok(Self { path: path.to_owned(), data, scores, index })
    }

    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.data.manifest
    }

    /// The question of that id.
    pub fn sample(&self, id: &str) -> Option<&Sample> {
        self.index_of(id).map(|index| &self.data.samples[index])
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
            Source::Failed => self.mean_of_rows(variant, |row| Some(f64::from(u8::from(row.error.is_some())))),
            Source::Counter(counter) => self.mean_of_rows(variant, |row| {
                let value = match counter {
                    Counter::PromptTokens => Some(f64::from(row.prompt_tokens)),
                    Counter::ContextTokens => Some(f64::from(row.context_tokens)),
                    Counter::CompletionTokens => Some(f64::from(row.completion_tokens)),
                    Counter::Flops => row.flops,
                };
                value.filter(|_| row.error.is_none())
            }),
            Source::Stage(stage) => {
                let (by_sample, _) = milliseconds(&self.data, variant, *stage);
                let mut values = vec![None; self.data.samples.len()];
                by_sample.into_iter().for_each(|(sample, time)| values[sample] = Some(time));
                values
            }
        }
    }

    fn metric(&self, variant: VariantKind, id: &str) -> Values {
        let column = self.scores.column(variant, id);
        column.map_or_else(
            || vec![None; self.data.samples.len()],
            |column| column.iter().map(|score| score.map(|score| score.value)).collect(),
        )
    }

    /// Mean over the accuracy rows of each question, one per seed.
    fn mean_of_rows(&self, variant: VariantKind, of: impl Fn(&crate::table::Observation) -> Option<f64>) -> Values {
        let mut sums = vec![(0.0, 0usize); self.data.samples.len()];
        for row in self.data.rows_of(variant, Phase::Accuracy) {
            if let Some(value) = of(row) {
                sums[row.sample].0 += value;
                sums[row.sample].1 += 1;
            }
        }
        sums.into_iter().map(|(sum, count)| (count > 0).then(|| sum / count as f64)).collect()
    }
}
