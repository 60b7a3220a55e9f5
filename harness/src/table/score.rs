//! One score per variant, metric and sample: the mean over training seeds, with failures counted as zero.

use std::collections::{BTreeMap, BTreeSet};

use super::input::{Observation, RunData};
use super::metric::{ANN_RECALL, ANSWER_CUT, CITATION_PRECISION, CITATION_RECALL, CONTEXT_CUT, EXPLAINED, Kind, Metric};
use crate::spec::{ContextSource, VariantKind};
use crate::store::row::{AuditRow, Phase};

/// A sample's score under one metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Mean over seeds; a failed row adds zero.
    pub value: f64,
    /// A row of the sample failed.
    pub failed: bool,
}

/// Scores of a variant under a metric, by sample; nothing where the metric does not apply or the sample has no row.
pub type Column = Vec<Option<Scored>>;

/// Scores by training seed and sample.
pub type BySeed = BTreeMap<u64, Vec<Option<f64>>>;

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
    pub fn of(data: &RunData) -> Self {
        let applies = Applicability::of(data);
        let mut columns = BTreeMap::new();
        let mut by_seed = BTreeMap::new();
        for variant in data.variants() {
            let by_sample = rows_by_sample(data, variant);
            let seeds: BTreeSet<u64> = by_sample.iter().flatten().map(|row| row.seed).collect();
            for number in applies.measured(variant) {
                let id = data.metric_ids.name(number);
                let score = |sample: usize, row: &Observation| match row.error {
                    Some(_) => applies.to(data, sample, number).then_some(0.0),
                    None => row.score(number),
                };
                insert_if_measured(&mut columns, variant, id, column(&by_sample, score));
                if seeds.len() > 1 {
                    let of_seed = |seed: &u64| (*seed, column_of_seed(&by_sample, *seed, score));
                    by_seed.insert((variant, id.to_owned()), seeds.iter().map(of_seed).collect());
                }
            }
            for (id, of_row) in diagnostics(data, variant) {
                let column = column(&by_sample, |_, row| if row.error.is_some() { None } else { of_row(row) });
                insert_if_measured(&mut columns, variant, &id, column);
            }
        }
        audited(data, &mut columns);
        let ids: BTreeSet<&str> = columns.keys().map(|(_, id)| id.as_str()).collect();
        let mut metrics: Vec<Metric> = ids.into_iter().map(Metric::of).collect();
        metrics.sort_by(|left, right| left.order().cmp(&right.order()));
        Self { metrics, columns, by_seed }
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
}

fn insert_if_measured(columns: &mut BTreeMap<(VariantKind, String), Column>, variant: VariantKind, id: &str, column: Column) {
    if column.iter().any(Option::is_some) {
        columns.insert((variant, id.to_owned()), column);
    }
}

type OfAudit = fn(&AuditRow) -> Option<f64>;

/// What the explanation audit found, on the questions that it looked at.
fn audited(data: &RunData, columns: &mut BTreeMap<(VariantKind, String), Column>) {
    let by_id: BTreeMap<&str, usize> = data.samples.iter().enumerate().map(|(index, sample)| (sample.id.as_str(), index)).collect();
    let metrics: [(&str, OfAudit); 3] = [
        (EXPLAINED, |row| row.explained),
        (CITATION_PRECISION, |row| row.citation_precision),
        (CITATION_RECALL, |row| row.citation_recall),
    ];
    for variant in data.variants() {
        for (id, of) in metrics {
            let mut column: Column = vec![None; data.samples.len()];
            for row in data.audit.iter().filter(|row| row.variant == variant.name()) {
                if let Some(&index) = by_id.get(row.sample_id.as_str()) {
                    column[index] = of(row).map(|value| Scored { value, failed: false });
                }
            }
            insert_if_measured(columns, variant, id, column);
        }
    }
}

fn rows_by_sample(data: &RunData, variant: VariantKind) -> Vec<Vec<&Observation>> {
    let mut by_sample = vec![Vec::new(); data.samples.len()];
    for row in data.rows_of(variant, Phase::Accuracy) {
        by_sample[row.sample].push(row);
    }
    by_sample
}

fn column(by_sample: &[Vec<&Observation>], score: impl Fn(usize, &Observation) -> Option<f64>) -> Column {
    let of_sample = |(sample, rows): (usize, &Vec<&Observation>)| {
        let scores: Vec<f64> = rows.iter().filter_map(|row| score(sample, row)).collect();
        let failed = rows.iter().any(|row| row.error.is_some());
        (!scores.is_empty()).then(|| Scored { value: scores.iter().sum::<f64>() / scores.len() as f64, failed })
    };
    by_sample.iter().enumerate().map(of_sample).collect()
}

/// Scores of one seed's rows, the mean where a sample has several.
fn column_of_seed(by_sample: &[Vec<&Observation>], seed: u64, score: impl Fn(usize, &Observation) -> Option<f64>) -> Vec<Option<f64>> {
    let of_sample = |(sample, rows): (usize, &Vec<&Observation>)| {
        let scores: Vec<f64> = rows.iter().filter(|row| row.seed == seed).filter_map(|row| score(sample, row)).collect();
        (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
    };
    by_sample.iter().enumerate().map(of_sample).collect()
}

/// Which metrics a failed row has scored zero under: those its variant is measured by, on samples that they apply to.
struct Applicability {
    measured: BTreeMap<VariantKind, BTreeSet<u32>>,
    scored: BTreeSet<(usize, u32)>,
    answered: BTreeSet<usize>,
}

impl Applicability {
    fn of(data: &RunData) -> Self {
        let mut applies = Self { measured: BTreeMap::new(), scored: BTreeSet::new(), answered: BTreeSet::new() };
        let answered = data.rows.iter().filter(|row| row.phase == Phase::Accuracy && row.error.is_none());
        for row in answered {
            applies.answered.insert(row.sample);
            for (number, _) in row.scores.iter() {
                applies.measured.entry(row.variant).or_default().insert(*number);
                applies.scored.insert((row.sample, *number));
            }
        }
        applies.add_variants_that_only_failed(data);
        applies
    }

    fn add_variants_that_only_failed(&mut self, data: &RunData) {
        let is_answer = |number: &u32| Metric::of(data.metric_ids.name(*number)).kind == Kind::Answer;
        let answer_metrics: BTreeSet<u32> = self.measured.values().flatten().copied().filter(is_answer).collect();
        for variant in data.variants() {
            self.measured.entry(variant).or_insert_with(|| answer_metrics.clone());
        }
    }

    fn measured(&self, variant: VariantKind) -> BTreeSet<u32> {
        self.measured.get(&variant).cloned().unwrap_or_default()
    }

    /// Whether the metric applies to the sample: another row says so, or, where every row failed, the dataset does.
    fn to(&self, data: &RunData, sample: usize, number: u32) -> bool {
        if self.answered.contains(&sample) {
            return self.scored.contains(&(sample, number));
        }
        Metric::of(data.metric_ids.name(number)).kind == Kind::Answer || !data.samples[sample].relevant.is_empty()
    }
}

type OfRow<'a> = Box<dyn Fn(&Observation) -> Option<f64> + 'a>;

/// Quantities that are counted from rows, not scored: index loss, cut contexts, cut answers.
fn diagnostics<'a>(data: &'a RunData, variant: VariantKind) -> Vec<(String, OfRow<'a>)> {
    let share = |is: bool| Some(f64::from(u8::from(is)));
    let mut list: Vec<(String, OfRow<'a>)> = Vec::new();
    if variant.is_predicted() {
        return list;
    }
    if variant.context() == ContextSource::Retrieved {
        let id = format!("{ANN_RECALL}_at_{}", data.manifest.spec.retrieval.top_k);
        // Where lists were fused or reranked, rows carry the recall of the list of vectors themselves.
        if data.metric_ids.find(&id).is_none() {
            list.push((id, Box::new(ann_recall)));
        }
    }
    if variant.context() != ContextSource::None {
        list.push((CONTEXT_CUT.to_owned(), Box::new(move |row| share(row.context_cut))));
    }
    let length = data.ids.find("length");
    list.push((ANSWER_CUT.to_owned(), Box::new(move |row| share(Some(row.finish_reason) == length))));
    list
}

/// Share of the row's passages that exact search has too.
fn ann_recall(row: &Observation) -> Option<f64> {
    let shadowed: Vec<bool> = row.hits.iter().filter_map(|hit| hit.in_exact).collect();
    let found = shadowed.iter().filter(|in_exact| **in_exact).count();
    (!shadowed.is_empty()).then(|| found as f64 / shadowed.len() as f64)
}
