//! Means with intervals per variant, slice and metric, and paired differences between variants.

use std::collections::BTreeMap;

use super::input::RunData;
use super::metric::{Kind, Metric, SHARE};
use super::score::{Column, Scored, Scores};
use crate::spec::VariantKind;
use crate::stats::{Estimate, Resampler};

/// The slice that holds every sample.
pub const ALL: &str = "all";

/// One line of the quality table.
#[derive(Debug, Clone, PartialEq)]
pub struct QualityRow {
    /// The variant.
    pub variant: VariantKind,
    /// `all`, or a tag and its value as `knowledge=fresh`.
    pub slice: String,
    /// The metric, with unit and direction.
    pub metric: Metric,
    /// Mean over samples of the mean over seeds.
    pub estimate: Estimate,
    /// Samples among `estimate.n` of which a row failed; they score zero.
    pub n_failed: usize,
}

/// One line of the contrasts: a mean paired difference.
#[derive(Debug, Clone, PartialEq)]
pub struct ContrastRow {
    /// What is subtracted from: a variant, or `hybrid-rag` in the interaction.
    pub left: String,
    /// What is subtracted.
    pub right: String,
    /// As in [`QualityRow::slice`].
    pub slice: String,
    /// The metric.
    pub metric: Metric,
    /// Mean over samples that both sides answered, left minus right.
    pub difference: Estimate,
    /// Samples among them of which a row failed.
    pub n_failed: usize,
}

impl ContrastRow {
    /// `higher`, `lower`, or `no_difference_shown` where the interval holds zero.
    pub fn verdict(&self) -> &'static str {
        if self.difference.ci_low > 0.0 {
            "higher"
        } else if self.difference.ci_high < 0.0 {
            "lower"
        } else {
            "no_difference_shown"
        }
    }
}

/// Some of the samples, with the draws behind every interval over them.
pub(super) struct Slice {
    pub(super) name: String,
    /// Sample indices.
    members: Vec<usize>,
    resampler: Resampler,
}

impl Slice {
    fn of(data: &RunData, name: String, members: Vec<usize>) -> Self {
        let resampler = resampler(data, &members);
        Self { name, members, resampler }
    }

    /// The mean of a column over the slice, and how many of its samples failed.
    fn mean(&self, column: &Column, is_share: bool) -> Option<(Estimate, usize)> {
        let values: Vec<Option<f64>> = self.members.iter().map(|&index| column[index].map(|scored| scored.value)).collect();
        let estimate = if is_share { self.resampler.share(&values) } else { self.resampler.mean(&values) }?;
        let n_failed = self.members.iter().filter(|&&index| column[index].is_some_and(|scored| scored.failed)).count();
        Some((estimate, n_failed))
    }
}

/// Draws of clusters for these samples, as the run's spec says; the first seed of the plan seeds them.
pub(super) fn resampler(data: &RunData, members: &[usize]) -> Resampler {
    let spec = &data.manifest.spec;
    let clusters = members.iter().map(|&index| data.samples[index].cluster_id());
    let seed = spec.seeds.first().copied().unwrap_or(0);
    Resampler::new(clusters, seed, spec.measure.bootstrap_resamples, spec.measure.confidence)
}

/// Names of the slices of a run and the samples in each, `all` first.
pub fn members(data: &RunData) -> Vec<(String, Vec<usize>)> {
    let mut tags = BTreeMap::<String, Vec<usize>>::new();
    for (index, sample) in data.samples.iter().enumerate() {
        for (tag, value) in &sample.slices {
            tags.entry(format!("{tag}={value}")).or_default().push(index);
        }
    }
    let all = (ALL.to_owned(), (0..data.samples.len()).collect());
    std::iter::once(all).chain(tags).collect()
}

/// The slices of a run with their draws.
pub(super) fn slices(data: &RunData) -> Vec<Slice> {
    members(data).into_iter().map(|(name, members)| Slice::of(data, name, members)).collect()
}

/// The quality table: by variant, slice and metric.
pub(super) fn quality(data: &RunData, scores: &Scores, slices: &[Slice]) -> Vec<QualityRow> {
    let mut rows = Vec::new();
    for variant in data.variants() {
        for slice in slices {
            for metric in &scores.metrics {
                let Some(column) = scores.column(variant, &metric.id) else { continue };
                let Some((estimate, n_failed)) = slice.mean(column, metric.unit == SHARE) else { continue };
                rows.push(QualityRow { variant, slice: slice.name.clone(), metric: metric.clone(), estimate, n_failed });
            }
        }
    }
    rows
}

/// The differences that a run declares before it starts: effects of either factor with and without the other, and retrieval against
/// fine-tuning.
const PAIRS: [(VariantKind, VariantKind); 5] = [
    (VariantKind::Rag, VariantKind::Baseline),
    (VariantKind::Finetuned, VariantKind::Baseline),
    (VariantKind::Hybrid, VariantKind::Rag),
    (VariantKind::Hybrid, VariantKind::Finetuned),
    (VariantKind::Rag, VariantKind::Finetuned),
];

/// Names of the two sides, and each variant's sign in the difference.
type Side = (String, String, Vec<(VariantKind, f64)>);

/// Paired differences for the declared pairs, and the interaction: what fine-tuning adds on top of retrieval, less what it adds alone.
pub(super) fn contrasts(data: &RunData, scores: &Scores, slices: &[Slice]) -> Vec<ContrastRow> {
    let variants = data.variants();
    let has = |variant: VariantKind| variants.contains(&variant);
    let mut sides: Vec<Side> = PAIRS
        .into_iter()
        .filter(|(left, right)| has(*left) && has(*right))
        .map(|(left, right)| (left.name().to_owned(), right.name().to_owned(), vec![(left, 1.0), (right, -1.0)]))
        .collect();
    let square = [(VariantKind::Hybrid, 1.0), (VariantKind::Rag, -1.0), (VariantKind::Finetuned, -1.0), (VariantKind::Baseline, 1.0)];
    if square.iter().all(|(variant, _)| has(*variant)) {
        sides.push(("hybrid-rag".to_owned(), "finetuned-baseline".to_owned(), square.to_vec()));
    }
    let mut rows = Vec::new();
    for (left, right, terms) in &sides {
        for slice in slices {
            for metric in scores.metrics.iter().filter(|metric| metric.kind != Kind::Diagnostic) {
                let Some(column) = combine(scores, metric, terms) else { continue };
                let Some((difference, n_failed)) = slice.mean(&column, false) else { continue };
                let (left, right, slice) = (left.clone(), right.clone(), slice.name.clone());
                rows.push(ContrastRow { left, right, slice, metric: metric.clone(), difference, n_failed });
            }
        }
    }
    rows
}

/// The signed sum of the variants' scores, on samples that all of them have.
fn combine(scores: &Scores, metric: &Metric, terms: &[(VariantKind, f64)]) -> Option<Column> {
    let columns: Option<Vec<(&Column, f64)>> =
        terms.iter().map(|(variant, sign)| Some((scores.column(*variant, &metric.id)?, *sign))).collect();
    let columns = columns?;
    let length = columns.first()?.0.len();
    let at = |index: usize| {
        columns.iter().try_fold(Scored { value: 0.0, failed: false }, |sum, (column, sign)| {
            let scored = column[index]?;
            Some(Scored { value: sum.value + sign * scored.value, failed: sum.failed || scored.failed })
        })
    };
    Some((0..length).map(at).collect())
}
