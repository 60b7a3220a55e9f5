//! One score per variant, metric and sample: the mean over training seeds, with failures counted as zero.

use std::collections::{BTreeMap, BTreeSet};

use super::TableError;
use super::input::{Observation, RunData};
use super::metric::{ANN_RECALL, ANSWER_CUT, CITATION_PRECISION, CITATION_RECALL, CONTEXT_CUT, EXPLAINED, Kind, Metric};
use crate::spec::{ContextSource, VariantKind};
use crate::store::row::AuditRow;

/// A sample's score under one metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Mean over seeds; a failed row adds zero.
    pub value: f64,
    /// A row of the sample failed.
    pub failed: bool,
}

/// Scores of a variant under a metric, by sample; nothing where the metric does not apply or the sample has no row.
///
/// Few values are distinct, so each stands once and samples have its number: a byte each for up to 255 of them, two for up to 65,535.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    numbers: Numbers,
    /// The value of number 1, 2, and so on; 0 is none.
    values: Vec<Scored>,
}

/// Whole numbers in as many bytes as the largest takes.
#[derive(Debug, Clone, PartialEq)]
enum Numbers {
    Bytes(Vec<u8>),
    Shorts(Vec<u16>),
    Words(Vec<u32>),
}

impl Numbers {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(list) => list.len(),
            Self::Shorts(list) => list.len(),
            Self::Words(list) => list.len(),
        }
    }

    fn get(&self, index: usize) -> usize {
        match self {
            Self::Bytes(list) => list[index] as usize,
            Self::Shorts(list) => list[index] as usize,
            Self::Words(list) => list[index] as usize,
        }
    }

    fn set(&mut self, index: usize, number: usize) {
        match self {
            Self::Bytes(list) if number > usize::from(u8::MAX) => {
                *self = Self::Shorts(list.iter().map(|byte| u16::from(*byte)).collect());
                self.set(index, number);
            }
            Self::Shorts(list) if number > usize::from(u16::MAX) => {
                *self = Self::Words(list.iter().map(|short| u32::from(*short)).collect());
                self.set(index, number);
            }
            Self::Bytes(list) => list[index] = number as u8,
            Self::Shorts(list) => list[index] = number as u16,
            Self::Words(list) => list[index] = number as u32,
        }
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        match self {
            Self::Bytes(list) => list.len(),
            Self::Shorts(list) => 2 * list.len(),
            Self::Words(list) => 4 * list.len(),
        }
    }
}

impl Column {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A sample's score.
    pub fn get(&self, sample: usize) -> Option<Scored> {
        self.values.get(self.numbers.get(sample).checked_sub(1)?).copied()
    }

    /// All scores, by sample.
    pub fn iter(&self) -> impl Iterator<Item = Option<Scored>> {
        (0..self.len()).map(|sample| self.get(sample))
    }

    /// The values, by sample.
    pub fn values(&self) -> Vec<Option<f64>> {
        self.iter().map(|scored| scored.map(|scored| scored.value)).collect()
    }

    /// Bytes that the samples take in memory.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.numbers.bytes() + self.values.len() * size_of::<Scored>()
    }
}

/// A column that is being filled.
struct Filling {
    column: Column,
    known: BTreeMap<(u64, bool), usize>,
}

impl Filling {
    fn of(samples: usize) -> Self {
        Self { column: Column { numbers: Numbers::Bytes(vec![0; samples]), values: Vec::new() }, known: BTreeMap::new() }
    }

    fn set(&mut self, sample: usize, scored: Option<Scored>) {
        let number = scored.map_or(0, |scored| {
            let values = &mut self.column.values;
            *self.known.entry((scored.value.to_bits(), scored.failed)).or_insert_with(|| {
                values.push(scored);
                values.len()
            })
        });
        self.column.numbers.set(sample, number);
    }

    /// The column, if it has any score.
    fn measured(self) -> Option<Column> {
        let has_any = self.column.iter().any(|scored| scored.is_some());
        has_any.then_some(self.column)
    }
}

/// Scores by training seed and sample.
pub type BySeed = BTreeMap<u64, Column>;

/// All scores of a run's accuracy pass.
#[derive(Debug, Clone, Default)]
pub struct Scores {
    /// In the order of tables.
    pub metrics: Vec<Metric>,
    columns: BTreeMap<(VariantKind, String), Column>,
    /// The same by seed, of variants with more than one.
    by_seed: BTreeMap<(VariantKind, String), BySeed>,
}

impl Scores {
    /// Collects the scores of the accuracy pass.
    pub fn of(data: &RunData) -> Result<Self, TableError> {
        let applies = Applicability::of(data);
        let mut scores = Self::default();
        for variant in data.variants() {
            scores.collect(data, &applies, variant)?;
        }
        audited(data, &mut scores.columns);
        let ids: BTreeSet<&str> = scores.columns.keys().map(|(_, id)| id.as_str()).collect();
        let mut metrics: Vec<Metric> = ids.into_iter().map(Metric::of).collect();
        metrics.sort_by(|left, right| left.order().cmp(&right.order()));
        Ok(Self { metrics, ..scores })
    }

    /// The scores of one variant, in one pass over its rows.
    fn collect(&mut self, data: &RunData, applies: &Applicability, variant: VariantKind) -> Result<(), TableError> {
        let samples = data.samples.len();
        let seeds = data.seeds(variant);
        let seeds = if seeds.len() > 1 { seeds } else { Vec::new() };
        let measured = applies.measured(variant);
        let mut filling: Vec<Filling> = measured.iter().map(|_| Filling::of(samples)).collect();
        let mut seeded: Vec<Vec<Filling>> = measured.iter().map(|_| seeds.iter().map(|_| Filling::of(samples)).collect()).collect();
        let diagnostics = diagnostics(data, variant);
        let mut diagnosed: Vec<Filling> = diagnostics.iter().map(|_| Filling::of(samples)).collect();
        data.for_each_question(variant, |sample, rows| {
            let failed = rows.iter().any(|row| row.error.is_some());
            let scored = |scores: Vec<f64>, failed: bool| mean(&scores).map(|value| Scored { value, failed });
            for ((metric, filling), seeded) in measured.iter().zip(&mut filling).zip(&mut seeded) {
                let score = |row: &Observation| match row.error {
                    Some(_) => applies.to(sample, metric).then_some(0.0),
                    None => row.score(metric),
                };
                filling.set(sample, scored(rows.iter().filter_map(score).collect(), failed));
                for (seed, filling) in seeds.iter().zip(seeded) {
                    filling.set(sample, scored(rows.iter().filter(|row| row.seed == *seed).filter_map(score).collect(), false));
                }
            }
            for ((_, of_row), filling) in diagnostics.iter().zip(&mut diagnosed) {
                let score = |row: &Observation| if row.error.is_some() { None } else { of_row(row) };
                filling.set(sample, scored(rows.iter().filter_map(score).collect(), failed));
            }
            Ok::<(), TableError>(())
        })?;
        let ids = measured.iter().cloned().chain(diagnostics.iter().map(|(id, _)| id.clone()));
        for (id, filling) in ids.zip(filling.into_iter().chain(diagnosed)) {
            self.columns.extend(filling.measured().map(|column| ((variant, id), column)));
        }
        if !seeds.is_empty() {
            for (id, seeded) in measured.into_iter().zip(seeded) {
                let columns = seeds.iter().copied().zip(seeded.into_iter().map(|filling| filling.column)).collect();
                self.by_seed.insert((variant, id), columns);
            }
        }
        Ok(())
    }

    /// The scores of one variant under one metric, if it was measured.
    pub fn column(&self, variant: VariantKind, metric: &str) -> Option<&Column> {
        self.columns.get(&(variant, metric.to_owned()))
    }

    /// The scores of one variant under one metric by seed; nothing for a variant with one seed.
    pub fn by_seed(&self, variant: VariantKind, metric: &str) -> Option<&BySeed> {
        self.by_seed.get(&(variant, metric.to_owned()))
    }

    /// The same with metrics of one kind only, for tests of order and for lists in reports.
    pub fn metrics_of(&self, kind: Kind) -> impl Iterator<Item = &Metric> {
        self.metrics.iter().filter(move |metric| metric.kind == kind)
    }

    /// Bytes that the scores take in memory.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let seeded = self.by_seed.values().flat_map(BTreeMap::values);
        self.columns.values().chain(seeded).map(Column::bytes).sum()
    }
}

fn mean(scores: &[f64]) -> Option<f64> {
    (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
}

type OfAudit = fn(&AuditRow) -> Option<f64>;

/// What the explanation audit found, on the questions that it looked at.
fn audited(data: &RunData, columns: &mut BTreeMap<(VariantKind, String), Column>) {
    if data.audit.is_empty() {
        return;
    }
    let by_id = data.samples.finder();
    let metrics: [(&str, OfAudit); 3] = [
        (EXPLAINED, |row| row.explained),
        (CITATION_PRECISION, |row| row.citation_precision),
        (CITATION_RECALL, |row| row.citation_recall),
    ];
    for variant in data.variants() {
        for (id, of) in metrics {
            let mut filling = Filling::of(data.samples.len());
            for row in data.audit.iter().filter(|row| row.variant == variant.name()) {
                if let Some(index) = by_id.find(&row.sample_id) {
                    filling.set(index, of(row).map(|value| Scored { value, failed: false }));
                }
            }
            columns.extend(filling.measured().map(|column| ((variant, id.to_owned()), column)));
        }
    }
}

/// Which metrics a failed row has scored zero under: those its variant is measured by, on samples that they apply to.
struct Applicability<'a> {
    data: &'a RunData,
    /// Of variants whose every row failed.
    answer_metrics: BTreeSet<String>,
}

impl<'a> Applicability<'a> {
    fn of(data: &'a RunData) -> Self {
        let metrics = data.survey.measured().values().flatten();
        let answer_metrics = metrics.filter(|id| Metric::of(id).kind == Kind::Answer).cloned().collect();
        Self { data, answer_metrics }
    }

    fn measured(&self, variant: VariantKind) -> BTreeSet<String> {
        self.data.survey.measured().get(&variant).unwrap_or(&self.answer_metrics).clone()
    }

    /// Whether the metric applies to the sample: another row says so, or, where every row failed, the dataset does.
    fn to(&self, sample: usize, metric: &str) -> bool {
        if self.data.survey.is_answered(sample) {
            return self.data.survey.is_scored(sample, metric);
        }
        Metric::of(metric).kind == Kind::Answer || self.data.samples.is_labelled(sample)
    }
}

type OfRow = Box<dyn Fn(&Observation) -> Option<f64>>;

/// Quantities that are counted from rows, not scored: index loss, cut contexts, cut answers.
fn diagnostics(data: &RunData, variant: VariantKind) -> Vec<(String, OfRow)> {
    let share = |is: bool| Some(f64::from(u8::from(is)));
    let mut list: Vec<(String, OfRow)> = Vec::new();
    if variant.is_predicted() {
        return list;
    }
    if variant.context() == ContextSource::Retrieved {
        let id = format!("{ANN_RECALL}_at_{}", data.manifest.spec.retrieval.top_k);
        // Where lists were fused or reranked, rows carry the recall of the list of vectors themselves.
        if !data.metric_ids.contains(&id) {
            list.push((id, Box::new(ann_recall)));
        }
    }
    if variant.context() != ContextSource::None {
        list.push((CONTEXT_CUT.to_owned(), Box::new(move |row| share(row.context_cut))));
    }
    list.push((ANSWER_CUT.to_owned(), Box::new(move |row| share(row.finish_reason == "length"))));
    list
}

/// Share of the row's passages that exact search has too.
fn ann_recall(row: &Observation) -> Option<f64> {
    let shadowed: Vec<bool> = row.hits.iter().filter_map(|hit| hit.in_exact).collect();
    let found = shadowed.iter().filter(|in_exact| **in_exact).count();
    (!shadowed.is_empty()).then(|| found as f64 / shadowed.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_gives_back_what_was_put_in_however_many_values_there_are() {
        for (distinct, width) in [(3, 1), (255, 1), (256, 2), (65_535, 2), (65_536, 4)] {
            let count = distinct + 7;
            let mut filling = Filling::of(count + 1);
            let scored = |index: usize| Scored { value: (index % distinct) as f64 / 7.0, failed: false };
            (0..count).for_each(|index| filling.set(index, Some(scored(index))));
            filling.set(1, None);
            let column = filling.measured().unwrap();
            let is_right = |index: usize| column.get(index) == (index != 1).then(|| scored(index));
            assert!((0..count).all(is_right) && column.get(count).is_none() && column.len() == count + 1, "{distinct}");
            assert_eq!(column.numbers.bytes(), width * (count + 1), "{distinct}");
        }
    }

    #[test]
    fn values_that_differ_in_their_last_bit_or_in_failing_stay_apart() {
        let scores = [(0.1 + 0.2, false), (0.3, false), (0.3, true), (0.0, false), (-0.0, false)];
        let mut filling = Filling::of(scores.len());
        for (index, (value, failed)) in scores.into_iter().enumerate() {
            filling.set(index, Some(Scored { value, failed }));
        }
        let column = filling.measured().unwrap();
        let bits = |(value, failed): (f64, bool)| (value.to_bits(), failed);
        assert!(column.iter().flatten().map(|scored| bits((scored.value, scored.failed))).eq(scores.into_iter().map(bits)));
        assert!(Filling::of(4).measured().is_none());
    }
}
