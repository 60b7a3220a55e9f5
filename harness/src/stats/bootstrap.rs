//! The percentile bootstrap over clusters.
//!
//! Questions about one document share their fate, so clusters are resampled, not questions: each resample draws as many clusters as there
//! are, with replacement, and takes every observation of a drawn cluster as often as it was drawn (Davison and Hinkley, Bootstrap Methods,
//! section 3.8). The draws are made once and serve every metric and every variant, which makes differences paired and the whole fast.
//!
//! What an interval is worth depends on the number of clusters. With a few dozen or more it covers about what it says; with fewer than
//! about ten it is too narrow; with one it is the point itself, which is not certainty but the absence of anything to judge by
//! ([`Resampler::clusters`] tells). For 0/1 scores it is a set of multiples of one over the number of questions, and it has no width when
//! all are right or all are wrong: [`Resampler::share`] mends that.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::{Estimate, quantile, wilson};
use crate::rng::Rng;

/// Draws of clusters, made once for a list of observations. Every list of values given later must be in the order of that list; `None`
/// stands for what was not measured, and is left out of numerator and denominator alike.
#[derive(Debug, Clone)]
pub struct Resampler {
    /// Cluster of each observation.
    cluster_of: Vec<usize>,
    clusters: usize,
    /// How often each cluster was drawn: one row of `clusters` counts per resample.
    draws: Vec<u16>,
    confidence: f64,
}

/// Sums over one cluster.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    numerator: f64,
    denominator: f64,
}

impl Resampler {
    /// Draws `resamples` times for observations that belong to `clusters`, by name. Draws depend on the seed and the set of names alone,
    /// not on the order of observations or the number of threads. Intervals are of the level `confidence`.
    pub fn new<'a>(clusters: impl IntoIterator<Item = &'a str>, seed: u64, resamples: usize, confidence: f64) -> Self {
        let names: Vec<&str> = clusters.into_iter().collect();
        let mut index: BTreeMap<&str, usize> = names.iter().map(|name| (*name, 0)).collect();
        for (position, number) in index.values_mut().enumerate() {
            *number = position;
        }
        let count = index.len();
        let mut draws = vec![0; count * resamples];
        // Every resample has a stream of its own, so threads cannot change it.
        draws.par_chunks_mut(count.max(1)).enumerate().for_each(|(number, row)| draw(row, seed, number as u64));
        Self { cluster_of: names.iter().map(|name| index[name]).collect(), clusters: count, draws, confidence }
    }

    /// Number of clusters: what the intervals stand on.
    pub fn clusters(&self) -> usize {
        self.clusters
    }

    /// The mean with its percentile interval; nothing if nothing was measured.
    pub fn mean(&self, values: &[Option<f64>]) -> Option<Estimate> {
        self.ratio_of(values, |value| value.map(|value| (value, 1.0)))
    }

    /// The mean of scores between 0 and 1. As [`Self::mean`], but if all of them are 0, or all 1, the interval is Wilson's with the clusters
    /// as trials: a bootstrap would claim certainty there.
    pub fn share(&self, values: &[Option<f64>]) -> Option<Estimate> {
        let estimate = self.mean(values)?;
        let all = |end: f64| values.iter().flatten().all(|&value| value == end);
        if !all(0.0) && !all(1.0) {
            return Some(estimate);
        }
        let clusters = self.measured(values);
        let wilson = wilson(if all(1.0) { clusters } else { 0 }, clusters, self.confidence)?;
        Some(Estimate { n: estimate.n, ..wilson })
    }

    /// The mean of `left - right` over observations where both were measured, with its percentile interval; both sides see the same draws.
    /// Where the two agree on every observation the interval is `[0, 0]`: that says so of these observations, not of others.
    pub fn difference(&self, left: &[Option<f64>], right: &[Option<f64>]) -> Option<Estimate> {
        let pairs: Vec<_> = left.iter().zip(right).map(|(left, right)| left.zip(*right)).collect();
        self.ratio_of(&pairs, |pair| pair.map(|(left, right)| (left - right, 1.0)))
    }

    /// The ratio of sums, for example cost per correct answer, over observations where both were measured. Nothing if the denominators sum
    /// to zero; an end is infinite where enough resamples have nothing in the denominator, which is "no bound can be given".
    pub fn ratio(&self, numerator: &[Option<f64>], denominator: &[Option<f64>]) -> Option<Estimate> {
        let pairs: Vec<_> = numerator.iter().zip(denominator).map(|(above, below)| above.zip(*below)).collect();
        self.ratio_of(&pairs, |pair| *pair).filter(|estimate| estimate.point.is_finite())
    }

    fn ratio_of<T>(&self, values: &[T], parts: impl Fn(&T) -> Option<(f64, f64)>) -> Option<Estimate> {
        assert_eq!(values.len(), self.cluster_of.len(), "one value per observation");
        let mut sums = vec![Sums::default(); self.clusters];
        let mut n = 0;
        for ((numerator, denominator), &cluster) in values.iter().zip(&self.cluster_of).filter_map(|(value, at)| Some((parts(value)?, at)))
        {
            sums[cluster].numerator += numerator;
            sums[cluster].denominator += denominator;
            n += 1;
        }
        let all = sums.iter().fold(Sums::default(), |total, sum| Sums {
            numerator: total.numerator + sum.numerator,
            denominator: total.denominator + sum.denominator,
        });
        (n > 0).then(|| self.estimate(&sums, all.numerator / all.denominator, n))
    }

    fn estimate(&self, sums: &[Sums], point: f64, n: usize) -> Estimate {
        let mut statistics: Vec<f64> = self.draws.chunks(self.clusters).filter_map(|row| statistic(row, sums)).collect();
        statistics.sort_by(f64::total_cmp);
        let tail = (1.0 - self.confidence) / 2.0;
        let at = |p| quantile(&statistics, p).unwrap_or(point);
        Estimate { point, ci_low: at(tail), ci_high: at(1.0 - tail), n }
    }

    /// Clusters in which something was measured.
    fn measured(&self, values: &[Option<f64>]) -> usize {
        let mut seen = vec![false; self.clusters];
        values.iter().zip(&self.cluster_of).filter(|(value, _)| value.is_some()).for_each(|(_, &cluster)| seen[cluster] = true);
        seen.into_iter().filter(|&seen| seen).count()
    }
}

fn draw(row: &mut [u16], seed: u64, number: u64) {
    let mut rng = Rng::indexed(seed, "bootstrap", number);
    for _ in 0..row.len() {
        let cluster = rng.below(row.len());
        row[cluster] = row[cluster].saturating_add(1);
    }
}

/// The ratio of weighted sums; nothing if the resample has no observation (0/0).
fn statistic(row: &[u16], sums: &[Sums]) -> Option<f64> {
    let (mut numerator, mut denominator) = (0.0, 0.0);
    for (&weight, sum) in row.iter().zip(sums) {
        numerator += f64::from(weight) * sum.numerator;
        denominator += f64::from(weight) * sum.denominator;
    }
    Some(numerator / denominator).filter(|value| !value.is_nan())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Rng;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("c{number:04}")).collect()
    }

    fn resampler(clusters: &[String]) -> Resampler {
        Resampler::new(clusters.iter().map(String::as_str), 1, 2000, 0.95)
    }

    fn some(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    #[test]
    fn of_two_values_a_quarter_of_the_resamples_is_each_end() {
        let resampler = Resampler::new(["a", "b"], 1, 4000, 0.4);
        // Means 0, 1/2, 1 with chances 1/4, 1/2, 1/4: the middle 40 % lie within the half.
        let estimate = resampler.mean(&some(&[0.0, 1.0])).unwrap();
        assert_eq!((estimate.point, estimate.ci_low, estimate.ci_high, estimate.n), (0.5, 0.5, 0.5, 2));
        let wide = Resampler::new(["a", "b"], 1, 4000, 0.6).mean(&some(&[0.0, 1.0])).unwrap();
        assert_eq!((wide.ci_low, wide.ci_high), (0.0, 1.0));
    }

    #[test]
    fn the_interval_of_a_mean_is_about_two_standard_errors_wide() {
        let mut rng = Rng::new(5, "values");
        let values: Vec<f64> = (0..400).map(|_| rng.normal()).collect();
        let mean = values.iter().sum::<f64>() / 400.0;
        let error = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 400.0).sqrt() / 20.0;
        let estimate = resampler(&names(400)).mean(&some(&values)).unwrap();
        assert!((estimate.point - mean).abs() < 1e-12);
        for (end, expected) in [(estimate.ci_low, mean - 1.96 * error), (estimate.ci_high, mean + 1.96 * error)] {
            assert!((end - expected).abs() < 0.15 * error, "{end} against {expected}");
        }
    }

    #[test]
    fn copies_within_a_cluster_add_no_certainty() {
        let single: Vec<f64> = (0..30).map(|number| f64::from(number % 3 == 0)).collect();
        let alone = resampler(&names(30)).mean(&some(&single)).unwrap();
        let copied: Vec<f64> = single.iter().flat_map(|&value| [value; 5]).collect();
        let clusters: Vec<String> = names(30).iter().flat_map(|name| vec![name.clone(); 5]).collect();
        let clustered = resampler(&clusters).mean(&some(&copied)).unwrap();
        assert_eq!(clustered.n, 150);
        assert!((clustered.ci_low - alone.ci_low).abs() < 1e-12 && (clustered.ci_high - alone.ci_high).abs() < 1e-12);
    }

    #[test]
    fn what_was_not_measured_is_left_out() {
        let resampler = resampler(&names(4));
        assert_eq!(resampler.mean(&[None; 4]), None);
        assert_eq!(Resampler::new([], 1, 100, 0.95).mean(&[]), None);
        let estimate = resampler.mean(&[Some(1.0), None, None, Some(3.0)]).unwrap();
        assert_eq!((estimate.point, estimate.n), (2.0, 2));
        let difference = resampler.difference(&[Some(1.0), Some(5.0), None, Some(3.0)], &[Some(0.5), None, None, Some(1.5)]).unwrap();
        assert_eq!((difference.point, difference.n), (1.0, 2));
    }

    #[test]
    fn one_observation_or_one_cluster_has_an_interval_without_width() {
        let one = resampler(&names(1)).mean(&[Some(7.0)]).unwrap();
        assert_eq!((one.ci_low, one.ci_high), (7.0, 7.0));
        let resampler = Resampler::new(["c", "c", "c"], 1, 100, 0.95);
        let estimate = resampler.mean(&some(&[1.0, 2.0, 6.0])).unwrap();
        assert_eq!((estimate.point, estimate.ci_low, estimate.ci_high, resampler.clusters()), (3.0, 3.0, 3.0, 1));
    }

    #[test]
    fn a_share_of_all_or_nothing_still_has_a_width() {
        let clusters = names(10);
        let none = resampler(&clusters).share(&[Some(0.0); 10]).unwrap();
        assert_eq!((none.point, none.ci_low), (0.0, 0.0));
        assert!((none.ci_high - 0.277_532_798).abs() < 1e-8);
        let all = resampler(&clusters).share(&[Some(1.0); 10]).unwrap();
        assert_eq!((all.point, all.ci_high), (1.0, 1.0));
        let mixed: Vec<_> = (0..10).map(|number| Some(f64::from(number % 2))).collect();
        assert_eq!(resampler(&clusters).share(&mixed), resampler(&clusters).mean(&mixed));
    }

    #[test]
    fn pairing_sees_what_two_separate_intervals_hide() {
        let mut rng = Rng::new(2, "pairs");
        let left: Vec<f64> = (0..200).map(|_| rng.normal() * 10.0).collect();
        let right: Vec<f64> = left.iter().map(|value| value - 0.5).collect();
        let resampler = resampler(&names(200));
        let difference = resampler.difference(&some(&left), &some(&right)).unwrap();
        assert!(difference.ci_low > 0.49 && difference.ci_high < 0.51);
        let (left, right) = (resampler.mean(&some(&left)).unwrap(), resampler.mean(&some(&right)).unwrap());
        assert!(left.ci_low < right.ci_high);
    }

    #[test]
    fn a_ratio_is_one_of_sums_and_may_be_unbounded() {
        let resampler = resampler(&names(3));
        let cost = some(&[2.0, 4.0, 6.0]);
        let estimate = resampler.ratio(&cost, &some(&[1.0, 1.0, 1.0])).unwrap();
        assert_eq!(estimate.point, 4.0);
        assert_eq!((estimate.ci_low, estimate.ci_high), (2.0, 6.0));
        // (2/3)^3 = 30 % of the resamples have no correct answer.
        let rare = resampler.ratio(&cost, &some(&[0.0, 1.0, 0.0])).unwrap();
        assert_eq!(rare.point, 12.0);
        assert!(rare.ci_low.is_finite() && rare.ci_high == f64::INFINITY);
        assert_eq!(resampler.ratio(&cost, &some(&[0.0; 3])), None);
    }

    #[test]
    fn threads_do_not_change_the_draws() {
        let clusters = names(50);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| resampler(&clusters).draws)
        };
        assert_eq!(with(1), with(3));
    }

    #[test]
    fn a_table_of_twenty_metrics_over_six_hundred_questions_is_quick() {
        let watch = crate::clock::Stopwatch::start();
        let resampler = resampler(&names(600));
        let mut rng = Rng::new(4, "table");
        for _ in 0..20 {
            let values: Vec<_> = (0..600).map(|_| Some(rng.uniform())).collect();
            assert!(resampler.mean(&values).is_some());
        }
        eprintln!("2000 resamples, 600 clusters, 20 metrics: {:?}", watch.elapsed());
    }

    proptest! {
        #[test]
        fn an_interval_lies_within_the_range_of_the_values_and_holds_whatever_their_order(
            values in prop::collection::vec(-5.0f64..5.0, 1..30), turn in 0usize..30,
        ) {
            let clusters = names(values.len());
            let estimate = Resampler::new(clusters.iter().map(String::as_str), 3, 200, 0.9).mean(&some(&values)).unwrap();
            let (low, high) = values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &value| (low.min(value), high.max(value)));
            prop_assert!(low - 1e-9 <= estimate.ci_low && estimate.ci_low <= estimate.ci_high && estimate.ci_high <= high + 1e-9);

            let (mut clusters, mut values) = (clusters, values);
            let turn = turn % values.len();
            clusters.rotate_left(turn);
            values.rotate_left(turn);
            prop_assert_eq!(Resampler::new(clusters.iter().map(String::as_str), 3, 200, 0.9).mean(&some(&values)).unwrap(), estimate);
        }
    }
}
