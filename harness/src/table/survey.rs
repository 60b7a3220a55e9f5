//! What one pass over the journal tells of all its rows together: sums, errors, times, and which metrics apply to which question.

use std::collections::{BTreeMap, BTreeSet};

use super::TableError;
use super::input::{Observation, RunData, Times};
use crate::spec::VariantKind;
use crate::store::row::Phase;

/// What the queries of a variant used, summed over those that did not fail.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// Queries.
    pub n: usize,
    /// Tokens of whole prompts.
    pub prompt_tokens: f64,
    /// Tokens of the passages within them.
    pub context_tokens: f64,
    /// New tokens.
    pub completion_tokens: f64,
    /// Operations; nothing where a query's are not known.
    pub flops: Option<f64>,
}

impl Default for Usage {
    fn default() -> Self {
        Self { n: 0, prompt_tokens: 0.0, context_tokens: 0.0, completion_tokens: 0.0, flops: Some(0.0) }
    }
}

impl Usage {
    fn add(&mut self, row: &Observation) {
        self.n += 1;
        self.prompt_tokens += f64::from(row.prompt_tokens);
        self.context_tokens += f64::from(row.context_tokens);
        self.completion_tokens += f64::from(row.completion_tokens);
        self.flops = self.flops.zip(row.flops).map(|(sum, flops)| sum + flops);
    }
}

/// A timed query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timed {
    /// The question.
    pub sample: usize,
    /// What it took.
    pub times: Times,
}

/// A yes or no for every question.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks(Vec<u64>);

impl Marks {
    fn set(&mut self, index: usize) {
        if self.0.len() <= index / 64 {
            self.0.resize(index / 64 + 1, 0);
        }
        self.0[index / 64] |= 1 << (index % 64);
    }

    fn has(&self, index: usize) -> bool {
        self.0.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }
}

/// What the pass found.
#[derive(Debug, Clone, Default)]
pub(super) struct Survey {
    usage: BTreeMap<VariantKind, Usage>,
    errors: BTreeMap<VariantKind, BTreeMap<String, usize>>,
    timed: BTreeMap<VariantKind, Vec<Timed>>,
    measured: BTreeMap<VariantKind, BTreeSet<String>>,
    scored: BTreeMap<String, Marks>,
    answered: Marks,
}

impl Survey {
    pub(super) fn of(data: &RunData) -> Result<Self, TableError> {
        let mut survey = Self::default();
        for row in data.rows() {
            survey.add(row?);
        }
        Ok(survey)
    }

    fn add(&mut self, row: Observation) {
        match (row.phase, &row.error) {
            (Phase::Accuracy, None) => self.answer(&row),
            (Phase::Latency, None) => self.timed.entry(row.variant).or_default().push(Timed { sample: row.sample, times: row.times }),
            (Phase::Accuracy, Some(error)) => {
                *self.errors.entry(row.variant).or_default().entry(error.clone()).or_default() += 1;
            }
            (Phase::Latency, Some(_)) => {}
        }
    }

    fn answer(&mut self, row: &Observation) {
        self.usage.entry(row.variant).or_default().add(row);
        self.answered.set(row.sample);
        for metric in row.scores.keys() {
            // The names are few and met with every row: they are looked for before they are copied.
            if !self.measured.get(&row.variant).is_some_and(|known| known.contains(metric)) {
                self.measured.entry(row.variant).or_default().insert(metric.clone());
            }
            match self.scored.get_mut(metric) {
                Some(marks) => marks.set(row.sample),
                None => self.scored.entry(metric.clone()).or_default().set(row.sample),
            }
        }
    }

    pub(super) fn usage(&self, variant: VariantKind) -> Usage {
        self.usage.get(&variant).copied().unwrap_or_default()
    }

    pub(super) fn errors(&self, variant: VariantKind) -> impl Iterator<Item = (&str, usize)> {
        self.errors.get(&variant).into_iter().flatten().map(|(error, count)| (error.as_str(), *count))
    }

    pub(super) fn timed(&self, variant: VariantKind) -> &[Timed] {
        self.timed.get(&variant).map_or(&[], Vec::as_slice)
    }

    /// Metrics of the rows of each variant that did not fail.
    pub(super) fn measured(&self) -> &BTreeMap<VariantKind, BTreeSet<String>> {
        &self.measured
    }

    /// Some variant answered the question.
    pub(super) fn is_answered(&self, sample: usize) -> bool {
        self.answered.has(sample)
    }

    /// Some answer to the question was scored by the metric.
    pub(super) fn is_scored(&self, sample: usize, metric: &str) -> bool {
        self.scored.get(metric).is_some_and(|marks| marks.has(sample))
    }
}
