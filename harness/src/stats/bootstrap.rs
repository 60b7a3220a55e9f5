//! The bootstrap over clusters: percentile and BCa intervals.
//!
//! Questions about one document share their fate, so clusters are resampled, not questions: each resample draws as many clusters as there
//! are, with replacement, and takes every observation of a drawn cluster as often as it was drawn (Davison and Hinkley, Bootstrap Methods,
//! section 3.8). The draws serve every metric and every variant, which makes differences paired and the whole fast: hand several columns
//! over together ([`Resampler::ratios`], [`Resampler::bca`]) and they go through the draws together.
//!
//! What an interval is worth depends on the number of clusters. With a few dozen or more it covers about what it says; with fewer than
//! about ten it is too narrow; with one it is the point itself, which is not certainty but the absence of anything to judge by
//! ([`Resampler::clusters`] tells). For 0/1 scores it is a set of multiples of one over the number of questions, and it has no width when
//! all are right or all are wrong: [`Resampler::share`] mends that.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::distribution::{normal_cdf, normal_quantile, student_quantile};
use super::draws::{Draws, Lanes};
use super::{Estimate, quantile_of, wilson};
use crate::rng::Rng;

/// Draws of clusters for a list of observations. Every list of values given later must be in the order of that list; `None` stands for what
/// was not measured, and is left out of numerator and denominator alike.
#[derive(Debug, Clone)]
pub struct Resampler {
    /// Cluster of each observation.
    cluster_of: Vec<usize>,
    clusters: usize,
    draws: Draws,
    seed: u64,
    resamples: usize,
    confidence: f64,
}

/// How an interval was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntervalMethod {
    /// Bias-corrected and accelerated bootstrap over clusters.
    Bca,
    /// Percentile bootstrap over clusters: BCa's corrections were not finite.
    Percentile,
    /// Cluster-robust error and Student's t: too few clusters to resample.
    StudentT,
    /// The observations do not differ: Wilson's bound on what was never seen.
    NoSpread,
    /// One cluster: no bound can be given.
    Unbounded,
}

impl IntervalMethod {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bca => "bca",
            Self::Percentile => "percentile",
            Self::StudentT => "student_t",
            Self::NoSpread => "no_spread",
            Self::Unbounded => "unbounded",
        }
    }
}

/// Sums by cluster, ready for resampling: a ratio's numerator and denominator.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sums {
    pub(super) numerators: Vec<f64>,
    pub(super) denominators: Vec<f64>,
    pub(super) n: usize,
}

impl Sums {
    pub(super) fn point(&self) -> f64 {
        self.numerators.iter().sum::<f64>() / self.denominators.iter().sum::<f64>()
    }

    /// The ratio without each cluster in turn.
    fn jackknife(&self) -> Vec<f64> {
        let (above, below) = (self.numerators.iter().sum::<f64>(), self.denominators.iter().sum::<f64>());
        self.numerators.iter().zip(&self.denominators).map(|(numerator, denominator)| (above - numerator) / (below - denominator)).collect()
    }
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
        let clusters = index.len();
        let cluster_of = names.iter().map(|name| index[name]).collect();
        Self { cluster_of, clusters, draws: Draws::new(clusters, resamples, seed, draw), seed, resamples, confidence }
    }

    /// Number of clusters: what the intervals stand on.
    pub fn clusters(&self) -> usize {
        self.clusters
    }

    /// Level of the intervals.
    pub fn confidence(&self) -> f64 {
        self.confidence
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn resamples(&self) -> usize {
        self.resamples
    }

    /// Cluster of each observation, by number.
    pub(super) fn cluster_of(&self) -> &[usize] {
        &self.cluster_of
    }

    /// The mean with its percentile interval; nothing if nothing was measured.
    pub fn mean(&self, values: &[Option<f64>]) -> Option<Estimate> {
        self.estimates(&[&self.mean_sums(values)]).remove(0)
    }

    /// The means of several columns with their percentile intervals.
    pub fn means(&self, columns: &[Vec<Option<f64>>]) -> Vec<Option<Estimate>> {
        let sums: Vec<Sums> = columns.iter().map(|values| self.mean_sums(values)).collect();
        self.estimates(&sums.iter().collect::<Vec<_>>())
    }

    /// The mean of scores between 0 and 1. As [`Self::mean`], but if all of them are 0, or all 1, the interval is Wilson's with the clusters
    /// as trials: a bootstrap would claim certainty there.
    pub fn share(&self, values: &[Option<f64>]) -> Option<Estimate> {
        self.estimates_of([(values, true)]).remove(0)
    }

    /// The means of several columns; those that are shares as [`Self::share`] has them, the others as [`Self::mean`]. A column may be made
    /// when it is asked for, and is gone before the next one is.
    pub fn estimates_of<C: AsRef<[Option<f64>]>>(&self, columns: impl IntoIterator<Item = (C, bool)>) -> Vec<Option<Estimate>> {
        let reduce = |(values, is_share): (C, bool)| {
            let values = values.as_ref();
            let all = |end: f64| values.iter().flatten().all(|&value| value == end);
            // Of a share without spread: the clusters, and how many of them are all right.
            let alike = (is_share && (all(0.0) || all(1.0))).then(|| {
                let clusters = self.measured(values);
                (if all(1.0) { clusters } else { 0 }, clusters)
            });
            (self.mean_sums(values), alike)
        };
        let reduced: Vec<(Sums, Option<(usize, usize)>)> = columns.into_iter().map(reduce).collect();
        let estimates = self.estimates(&reduced.iter().map(|(sums, _)| sums).collect::<Vec<_>>());
        let widened = |alike: Option<(usize, usize)>, estimate: Option<Estimate>| {
            let estimate = estimate?;
            let Some((right, clusters)) = alike else { return Some(estimate) };
            Some(Estimate { n: estimate.n, ..wilson(right, clusters, self.confidence)? })
        };
        reduced.iter().zip(estimates).map(|((_, alike), estimate)| widened(*alike, estimate)).collect()
    }

    /// The mean of `left - right` over observations where both were measured, with its percentile interval; both sides see the same draws.
    /// Where the two agree on every observation the interval is `[0, 0]`: that says so of these observations, not of others.
    pub fn difference(&self, left: &[Option<f64>], right: &[Option<f64>]) -> Option<Estimate> {
        let pairs: Vec<_> = left.iter().zip(right).map(|(left, right)| left.zip(*right)).collect();
        self.estimates(&[&self.sums(&pairs, |pair| pair.map(|(left, right)| (left - right, 1.0)))]).remove(0)
    }

    /// The ratio of sums, for example cost per correct answer, over observations where both were measured. Nothing if the denominators sum
    /// to zero; an end is infinite where enough resamples have nothing in the denominator, which is "no bound can be given".
    pub fn ratio(&self, numerator: &[Option<f64>], denominator: &[Option<f64>]) -> Option<Estimate> {
        let pairs: Vec<_> = numerator.iter().zip(denominator).map(|(above, below)| above.zip(*below)).collect();
        self.estimates(&[&self.sums(&pairs, |pair| *pair)]).remove(0).filter(|estimate| estimate.point.is_finite())
    }

    /// The means of several columns with their BCa intervals (Efron, Better bootstrap confidence intervals, JASA 82:171, 1987; the
    /// acceleration from a jackknife over clusters), or percentile ones where BCa's corrections are not finite.
    pub fn bca(&self, columns: &[Vec<Option<f64>>]) -> Vec<Option<(Estimate, IntervalMethod)>> {
        let sums: Vec<Sums> = columns.iter().map(|values| self.mean_sums(values)).collect();
        self.bca_of(&sums.iter().collect::<Vec<_>>(), &vec![self.confidence; sums.len()])
    }

    /// The same of sums, each at a level of its own.
    pub(super) fn bca_of(&self, columns: &[&Sums], confidence: &[f64]) -> Vec<Option<(Estimate, IntervalMethod)>> {
        let of = |((sums, confidence), mut statistics): ((&&Sums, &f64), Vec<f64>)| {
            let point = sums.point();
            let ((ci_low, ci_high), method) = interval(&mut statistics, point, &sums.jackknife(), *confidence);
            (sums.n > 0).then_some((Estimate { point, ci_low, ci_high, n: sums.n }, method))
        };
        columns.par_iter().zip(confidence).zip(self.statistics(columns)).map(of).collect()
    }

    /// Level at which a bootstrap over clusters covers what it says, though it resamples as if the clusters seen were all there are: that of
    /// `t` with `freedom`, widened by the factor that the variance of few clusters lacks (Hesterberg, What teachers should know about the
    /// bootstrap, The American Statistician 69:371, 2015, section 5.4). With hundreds of clusters it is the level itself.
    pub(super) fn expanded(&self, clusters: usize, freedom: f64) -> f64 {
        let count = clusters as f64;
        let reach = (count / (count - 1.0)).sqrt() * student_quantile(0.5 + self.confidence / 2.0, freedom);
        1.0 - 2.0 * normal_cdf(-reach)
    }

    /// A statistic of several columns' means with its BCa interval, for example an interaction in log-odds. `statistic` may be infinite or
    /// not a number, which leaves the resample out. Nothing unless all columns have a mean.
    pub fn bca_of_means(&self, columns: &[Vec<Option<f64>>], statistic: impl Fn(&[f64]) -> f64) -> Option<(Estimate, IntervalMethod)> {
        let sums: Vec<Sums> = columns.iter().map(|values| self.mean_sums(values)).collect();
        let n = sums.iter().map(|sums| sums.n).min().filter(|n| *n > 0)?;
        let across = |lists: Vec<Vec<f64>>| -> Vec<f64> {
            let means = |at: usize| lists.iter().map(|list| list[at]).collect::<Vec<_>>();
            (0..lists[0].len()).map(|at| statistic(&means(at))).collect()
        };
        let point = statistic(&sums.iter().map(Sums::point).collect::<Vec<_>>());
        let jackknife = across(sums.iter().map(Sums::jackknife).collect());
        let mut resampled: Vec<f64> =
            across(self.raw(&sums.iter().collect::<Vec<_>>())).into_iter().filter(|value| value.is_finite()).collect();
        let ((ci_low, ci_high), method) = interval(&mut resampled, point, &jackknife, self.confidence);
        Some((Estimate { point, ci_low, ci_high, n }, method))
    }

    pub(super) fn mean_sums(&self, values: &[Option<f64>]) -> Sums {
        self.sums(values, |value| value.map(|value| (value, 1.0)))
    }

    fn sums<T>(&self, values: &[T], parts: impl Fn(&T) -> Option<(f64, f64)>) -> Sums {
        assert_eq!(values.len(), self.cluster_of.len(), "one value per observation");
        let mut sums = Sums { numerators: vec![0.0; self.clusters], denominators: vec![0.0; self.clusters], n: 0 };
        for ((numerator, denominator), &cluster) in values.iter().zip(&self.cluster_of).filter_map(|(value, at)| Some((parts(value)?, at)))
        {
            sums.numerators[cluster] += numerator;
            sums.denominators[cluster] += denominator;
            sums.n += 1;
        }
        sums
    }

    fn estimates(&self, columns: &[&Sums]) -> Vec<Option<Estimate>> {
        let tail = (1.0 - self.confidence) / 2.0;
        let estimate = |(sums, mut statistics): (&&Sums, Vec<f64>)| {
            let point = sums.point();
            let mut at = |p| quantile_of(&mut statistics, p).unwrap_or(point);
            (sums.n > 0).then(|| Estimate { point, ci_low: at(tail), ci_high: at(1.0 - tail), n: sums.n })
        };
        columns.par_iter().zip(self.statistics(columns)).map(estimate).collect()
    }

    /// Every column's ratio in every resample that has an observation of it (0/0 is none).
    fn statistics(&self, columns: &[&Sums]) -> Vec<Vec<f64>> {
        let mut statistics = self.raw(columns);
        statistics.iter_mut().for_each(|ratios| ratios.retain(|ratio| !ratio.is_nan()));
        statistics
    }

    /// Every column's ratio in every resample. Equal sums go through the draws once: denominators of columns that were measured on the same
    /// observations, and what a metric gives several variants alike, as rankings under one retriever.
    fn raw(&self, columns: &[&Sums]) -> Vec<Vec<f64>> {
        let mut lanes: Vec<&[f64]> = Vec::new();
        let mut places = Vec::with_capacity(columns.len());
        for sums in columns {
            places.push([&sums.numerators, &sums.denominators].map(|sums| {
                lanes.iter().position(|lane| *lane == sums.as_slice()).unwrap_or_else(|| {
                    lanes.push(sums);
                    lanes.len() - 1
                })
            }));
        }
        let weighted = self.draws.weighted(&Lanes::new(&lanes, self.clusters));
        let ratio = |[above, below]: [usize; 2]| weighted.of(above).zip(weighted.of(below)).map(|(above, below)| above / below).collect();
        places.into_par_iter().map(ratio).collect()
    }

    /// Clusters in which something was measured.
    pub(super) fn measured(&self, values: &[Option<f64>]) -> usize {
        let mut seen = vec![false; self.clusters];
        values.iter().zip(&self.cluster_of).filter(|(value, _)| value.is_some()).for_each(|(_, &cluster)| seen[cluster] = true);
        seen.into_iter().filter(|&seen| seen).count()
    }
}

/// Counts how often each cluster is drawn. Both halves of a word draw one (Lemire's method), so a bit is seldom wasted. A count ends at 255,
/// which no draw of more clusters than that ever sees.
fn draw(row: &mut [u8], seed: u64, number: u64) {
    let mut rng = Rng::indexed(seed, "bootstrap", number);
    let clusters = u32::try_from(row.len()).expect("fewer than four thousand million clusters");
    let threshold = clusters.wrapping_neg() % clusters;
    let mut missing = row.len();
    while missing > 0 {
        let bits = rng.bits();
        for half in [bits as u32, (bits >> 32) as u32] {
            let product = u64::from(half) * u64::from(clusters);
            if product as u32 >= threshold && missing > 0 {
                let count = &mut row[(product >> 32) as usize];
                *count = count.saturating_add(1);
                missing -= 1;
            }
        }
    }
}

/// The BCa interval of resampled statistics (in any order, and left in another), or the percentile one where its corrections are not finite:
/// a jackknife without spread, or a point that no resample lies beyond.
pub fn interval(statistics: &mut [f64], point: f64, jackknife: &[f64], confidence: f64) -> ((f64, f64), IntervalMethod) {
    let tail = (1.0 - confidence) / 2.0;
    let levels = levels(statistics, point, jackknife, tail);
    let mut at = |p| quantile_of(statistics, p).unwrap_or(point);
    match levels {
        Some((low, high)) => ((at(low), at(high)), IntervalMethod::Bca),
        None => ((at(tail), at(1.0 - tail)), IntervalMethod::Percentile),
    }
}

/// Quantiles that BCa takes in place of `tail` and `1 - tail`. Ties with the point count by half, as in SciPy.
fn levels(statistics: &[f64], point: f64, jackknife: &[f64], tail: f64) -> Option<(f64, f64)> {
    let below = statistics.iter().filter(|value| **value < point).count();
    let up_to = statistics.iter().filter(|value| **value <= point).count();
    let bias = normal_quantile((below + up_to) as f64 / (2 * statistics.len()) as f64);
    let centre = jackknife.iter().sum::<f64>() / jackknife.len() as f64;
    let moment = |power: i32| jackknife.iter().map(|value| (centre - value).powi(power)).sum::<f64>();
    let acceleration = moment(3) / (6.0 * moment(2).powf(1.5));
    let level = |p: f64| {
        let shifted = bias + normal_quantile(p);
        normal_cdf(bias + shifted / (1.0 - acceleration * shifted))
    };
    let (low, high) = (level(tail), level(1.0 - tail));
    (bias.is_finite() && acceleration.is_finite() && low < high).then_some((low, high))
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
            pool.install(|| resampler(&clusters).draws.rows())
        };
        assert_eq!(with(1), with(3));
    }

    #[test]
    fn bca_leans_to_the_long_tail_where_percentiles_do_not() {
        let mut rng = Rng::new(8, "skewed");
        let values: Vec<Option<f64>> = (0..60).map(|_| Some(-rng.uniform().max(1e-9).ln())).collect();
        let resampler = resampler(&names(60));
        let plain = resampler.mean(&values).unwrap();
        let (leaning, method) = resampler.bca(&[values])[0].unwrap();
        assert_eq!((leaning.point, method), (plain.point, IntervalMethod::Bca));
        assert!(leaning.ci_low > plain.ci_low && leaning.ci_high > plain.ci_high, "{leaning:?} {plain:?}");
    }

    #[test]
    fn without_a_finite_correction_the_interval_is_the_percentile_one() {
        let resampler = resampler(&names(12));
        let found = resampler.bca(&[vec![Some(1.0); 12], vec![None; 12]]);
        let (estimate, method) = found[0].unwrap();
        assert_eq!((estimate.ci_low, estimate.ci_high, method), (1.0, 1.0, IntervalMethod::Percentile));
        assert_eq!(found[1], None);
    }

    #[test]
    fn columns_together_are_columns_alone_and_draws_made_anew_are_the_draws_kept() {
        let mut rng = Rng::new(6, "columns");
        let columns: Vec<Vec<Option<f64>>> =
            (0..21).map(|column| (0..40).map(|row| (row % 7 != column % 9).then(|| rng.normal())).collect()).collect();
        let clusters: Vec<String> = (0..40).map(|row| format!("c{}", row / 3)).collect();
        let resampler = resampler(&clusters);
        let mut forgetful = resampler.clone();
        forgetful.draws.forget();
        for (column, together) in columns.iter().zip(resampler.bca(&columns)) {
            assert_eq!(resampler.bca(std::slice::from_ref(column))[0], together);
        }
        assert_eq!(resampler.bca(&columns), forgetful.bca(&columns));
    }

    #[test]
    fn a_statistic_of_means_is_what_it_says() {
        let resampler = resampler(&names(50));
        let column = |turn: usize| -> Vec<Option<f64>> { (0..50).map(|row| Some(f64::from((row * 7 + turn) % 10 < 4))).collect() };
        let (left, right) = (column(0), column(3));
        let difference: Vec<Option<f64>> = left.iter().zip(&right).map(|(left, right)| Some(left.unwrap() - right.unwrap())).collect();
        let (of_means, _) = resampler.bca_of_means(&[left, right], |means| means[0] - means[1]).unwrap();
        let (direct, _) = resampler.bca(&[difference])[0].unwrap();
        assert!((of_means.ci_low - direct.ci_low).abs() < 0.02 && (of_means.ci_high - direct.ci_high).abs() < 0.02);
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
