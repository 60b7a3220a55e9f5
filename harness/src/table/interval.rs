//! How this module asks for intervals: settings of the run, values with their cluster.

use crate::rng::Rng;
use crate::stats::Estimate;
use crate::store::manifest::Manifest;

/// Settings behind every interval of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Intervals {
    seed: u64,
    resamples: usize,
    confidence: f64,
}

impl Intervals {
    /// As the run's spec says; the first seed of the plan seeds the resampling.
    pub fn of(manifest: &Manifest) -> Self {
        let measure = &manifest.spec.measure;
        Self {
            seed: manifest.spec.seeds.first().copied().unwrap_or(0),
            resamples: measure.bootstrap_resamples,
            confidence: measure.confidence,
        }
    }

    /// The level, for example 0.95.
    pub fn confidence(&self) -> f64 {
        self.confidence
    }

    /// Mean of the values with an interval that resamples whole clusters; nothing if there are no values.
    pub fn mean(&self, values: &[(usize, f64)]) -> Option<Estimate> {
        let sums = cluster_sums(values);
        let means: Vec<f64> = (0..self.resamples)
            .map(|index| {
                let mut rng = Rng::indexed(self.seed, "bootstrap", index as u64);
                let (sum, count) = (0..sums.len()).fold((0.0, 0.0), |(sum, count), _| {
                    let drawn = rng.choose(&sums);
                    (sum + drawn.0, count + drawn.1)
                });
                sum / count
            })
            .collect();
        let point = values.iter().map(|(_, value)| value).sum::<f64>() / values.len() as f64;
        self.estimate(point, means, values.len())
    }

    /// Median of independent values with its interval; nothing if there are none.
    pub fn median(&self, sorted: &[f64]) -> Option<Estimate> {
        self.estimate(quantile(sorted, 0.5)?, sorted.to_vec(), sorted.len())
    }

    fn estimate(&self, point: f64, mut draws: Vec<f64>, n: usize) -> Option<Estimate> {
        if n == 0 {
            return None;
        }
        draws.sort_by(f64::total_cmp);
        let tail = (1.0 - self.confidence) / 2.0;
        Some(Estimate { point, ci_low: quantile(&draws, tail)?, ci_high: quantile(&draws, 1.0 - tail)?, n })
    }
}

/// The `p`-quantile of sorted values; nothing if there are none.
pub fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = p * last as f64;
    let below = (at.floor() as usize).min(last);
    let above = (below + 1).min(last);
    Some(sorted[below] + (at - below as f64) * (sorted[above] - sorted[below]))
}

fn cluster_sums(values: &[(usize, f64)]) -> Vec<(f64, f64)> {
    let mut sums = std::collections::BTreeMap::new();
    for (cluster, value) in values {
        let entry = sums.entry(*cluster).or_insert((0.0, 0.0));
        entry.0 += value;
        entry.1 += 1.0;
    }
    sums.into_values().collect()
}
