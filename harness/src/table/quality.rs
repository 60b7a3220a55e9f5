//! Means with intervals per variant, slice and metric.

use std::collections::BTreeMap;

use super::input::RunData;
use super::metric::{Metric, SHARE};
use super::score::{Column, Scores};
use crate::spec::VariantKind;
use crate::stats::{Estimate, Resampler};

/// The slice that holds every sample.
pub const ALL: &str = "all";

/// Samples beyond which only so many columns are held at a time: with their numbers of observations they are eight, which are summed side by
/// side.
const MANY_SAMPLES: usize = 20_000;
const FEW_COLUMNS: usize = 7;

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

/// Some of the samples, with the draws behind every interval over them.
pub(super) struct Slice {
    pub(super) name: String,
    /// Sample indices.
    pub(super) members: Vec<usize>,
    pub(super) resampler: Resampler,
}

impl Slice {
    pub(super) fn of(data: &RunData, name: String, members: Vec<usize>) -> Self {
        let resampler = resampler(data, &members);
        Self { name, members, resampler }
    }

    /// Columns whose values are taken together: all of them share the draws, but of many samples only a few are held at a time. What comes
    /// out is the same.
    pub(super) fn columns_at_a_time(&self) -> usize {
        if self.members.len() > MANY_SAMPLES { FEW_COLUMNS } else { usize::MAX }
    }

    /// The slice's values of a column.
    pub(super) fn values(&self, column: &Column) -> Vec<Option<f64>> {
        self.members.iter().map(|&index| column.get(index).map(|scored| scored.value)).collect()
    }

    /// Samples of the slice that have a failed row.
    pub(super) fn failed(&self, column: &Column) -> usize {
        self.members.iter().filter(|&&index| column.get(index).is_some_and(|scored| scored.failed)).count()
    }
}

/// Draws of clusters for these samples, as the run's spec says; the first seed of the plan seeds them.
pub(super) fn resampler(data: &RunData, members: &[usize]) -> Resampler {
    let spec = &data.manifest.spec;
    let clusters = members.iter().map(|&index| data.samples.cluster_id(index));
    let seed = spec.seeds.first().copied().unwrap_or(0);
    Resampler::new(clusters, seed, spec.measure.bootstrap_resamples, spec.measure.confidence)
}

/// Names of the slices of a run and the samples in each, `all` first.
pub fn members(data: &RunData) -> Vec<(String, Vec<usize>)> {
    let mut tags = BTreeMap::<String, Vec<usize>>::new();
    for index in 0..data.samples.len() {
        for (tag, value) in data.samples.slices(index) {
            tags.entry(format!("{tag}={value}")).or_default().push(index);
        }
    }
    let all = (ALL.to_owned(), (0..data.samples.len()).collect());
    std::iter::once(all).chain(tags).collect()
}

/// The rows of one slice, by variant and metric.
pub(super) fn quality(data: &RunData, scores: &Scores, slice: &Slice) -> Vec<QualityRow> {
    let measured =
        |variant: VariantKind| scores.metrics.iter().filter_map(move |metric| Some((variant, metric, scores.column(variant, &metric.id)?)));
    let cells: Vec<(VariantKind, &Metric, &Column)> = data.variants().into_iter().flat_map(measured).collect();
    let is_share = |cell: &(VariantKind, &Metric, &Column)| cell.1.unit == SHARE;
    let estimate = |cells: &[(VariantKind, &Metric, &Column)]| {
        slice.resampler.estimates_of(cells.iter().map(|cell| (slice.values(cell.2), is_share(cell))))
    };
    let estimates: Vec<Option<Estimate>> = cells.chunks(slice.columns_at_a_time()).flat_map(estimate).collect();
    let row = |((variant, metric, column), estimate): ((VariantKind, &Metric, &Column), Option<Estimate>)| {
        let (slice_name, n_failed) = (slice.name.clone(), slice.failed(column));
        Some(QualityRow { variant, slice: slice_name, metric: metric.clone(), estimate: estimate?, n_failed })
    };
    cells.into_iter().zip(estimates).filter_map(row).collect()
}
