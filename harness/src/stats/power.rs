//! What a comparison can show, before and after it is made: detectable effects and numbers of questions.
//!
//! Two forms. From a standard error that was observed: `(t[1 - alpha/2] + t[power]) x error`. From assumptions on yes/no scores of the same
//! questions, where `discordance` is the share of questions that exactly one side gets right: the power of the test that will be made, which
//! is exact for McNemar's mid-p, and for clustered questions that of sign flips under a model of clusters ([`Assumptions::chance`]). Connor's
//! formula (Sample size for testing differences in proportions for the paired-sample design, Biometrics 43:207, 1987) is where searches
//! begin; it is off by up to ten points with few discordant questions or few clusters.

use rayon::prelude::*;
use statrs::distribution::{Binomial, Discrete as _, DiscreteCDF as _};

use super::distribution::{normal_cdf, normal_quantile, student_quantile};
use super::mcnemar::mcnemar_mid;
use super::permutation::sign_flip_exact;
use crate::rng::Rng;

/// The smallest true difference that a two-sided test at `alpha` finds with chance `power`, for an estimate with this standard error.
pub fn detectable(error: f64, freedom: f64, alpha: f64, power: f64) -> f64 {
    (student_quantile(1.0 - alpha / 2.0, freedom) + student_quantile(power, freedom)) * error
}

/// Observations with which a difference of `effect` is found with chance `power`, when one observation adds `variance`.
pub fn needed(effect: f64, variance: f64, alpha: f64, power: f64) -> f64 {
    variance / variance_allowed(effect, alpha, power)
}

/// The largest variance of an estimate under which `effect` is found with chance `power`.
pub fn variance_allowed(effect: f64, alpha: f64, power: f64) -> f64 {
    (effect / (normal_quantile(1.0 - alpha / 2.0) + normal_quantile(power))).powi(2)
}

/// Independent questions with which McNemar's test finds a difference of `effect`. Nothing if so few questions are discordant that the
/// difference cannot be that large.
pub fn paired_needed(effect: f64, discordance: f64, alpha: f64, power: f64) -> Option<f64> {
    let effect = effect.abs();
    let spread = discordance - effect * effect;
    (effect > 0.0 && effect <= discordance).then(|| {
        let reach = normal_quantile(1.0 - alpha / 2.0) * discordance.sqrt() + normal_quantile(power) * spread.max(0.0).sqrt();
        (reach / effect).powi(2)
    })
}

/// The smallest difference that McNemar's test finds with `n` independent questions; nothing if even one as large as the discordance is
/// not found.
pub fn paired_detectable(n: f64, discordance: f64, alpha: f64, power: f64) -> Option<f64> {
    let is_found = |effect: f64| paired_needed(effect, discordance, alpha, power).is_some_and(|needed| needed <= n);
    if !is_found(discordance) {
        return None;
    }
    let (mut low, mut high) = (0.0, discordance);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if is_found(middle) { high = middle } else { low = middle }
    }
    Some(high)
}

/// Chance that McNemar's test at `alpha` finds a true difference of `effect` with `n` independent questions.
pub fn paired_power(n: f64, effect: f64, discordance: f64, alpha: f64) -> f64 {
    let spread = (discordance - effect * effect).max(f64::MIN_POSITIVE);
    normal_cdf((effect.abs() * n.sqrt() - normal_quantile(1.0 - alpha / 2.0) * discordance.sqrt()) / spread.sqrt())
}

/// Chance that McNemar's mid-p test at `alpha` (two-sided) finds a true difference of `effect` with `n` independent questions: exact, over all
/// numbers of discordant questions and the ways in which they may fall.
pub fn mcnemar_power(n: usize, effect: f64, discordance: f64, alpha: f64) -> f64 {
    let (effect, discordance) = (effect.abs().min(discordance), discordance.min(1.0));
    if n == 0 || discordance <= 0.0 {
        return 0.0;
    }
    let wins = f64::midpoint(1.0, effect / discordance).min(1.0);
    let (middle, reach) = (n as f64 * discordance, 8.0 * (n as f64 * discordance * (1.0 - discordance)).sqrt() + 8.0);
    let (first, last) = ((middle - reach).max(1.0) as usize, ((middle + reach) as usize).min(n));
    let discordant = Binomial::new(discordance, n as u64).expect("a discordance is a share");
    let mut power = 0.0;
    // The largest smaller side with which the test is significant rises with the number of discordant questions.
    let mut most = None;
    for count in first..=last {
        while is_significant(most.map_or(0, |most: usize| most + 1), count, alpha) {
            most = Some(most.map_or(0, |most| most + 1));
        }
        while most.is_some_and(|most| !is_significant(most, count, alpha)) {
            most = most.filter(|most| *most > 0).map(|most| most - 1);
        }
        let Some(most) = most else { continue };
        let law = Binomial::new(wins, count as u64).expect("a share");
        // Found with either sign, as the test is two-sided.
        let found = law.cdf(most as u64) + law.sf((count - most) as u64 - 1);
        power += discordant.pmf(count as u64) * found;
    }
    power
}

fn is_significant(smaller: usize, discordant: usize, alpha: f64) -> bool {
    2 * smaller < discordant && mcnemar_mid(smaller, discordant - smaller) <= alpha
}

/// Clusters beyond which sums are normal enough for a formula.
const MANY_CLUSTERS: usize = 1500;
/// Simulated sets of clusters: the standard error of a power is at most half a point.
const SIMULATIONS: u64 = 10_000;

/// Additions that the exact test of a simulated set of clusters may take.
const QUICK: f64 = 20_000.0;

/// Clusters of questions with alike outcomes: a question takes its cluster's outcome with chance `share`, else one of its own.
struct ClusterModel {
    /// Chances that a cluster's sum is at most `index - size`, for the two whole sizes around the mean one.
    laws: [Vec<f64>; 2],
    /// Part of the clusters that has the larger size.
    larger: f64,
}

impl ClusterModel {
    fn new(size: f64, effect: f64, discordance: f64, correlation: f64) -> Self {
        let (wins, losses) = (f64::midpoint(discordance, effect), (discordance - effect) / 2.0);
        let chances = [losses, 1.0 - discordance, wins];
        let whole = size.floor().max(1.0);
        let law = |size: usize| cumulated(&sum_law(size, chances, correlation.clamp(0.0, 1.0).sqrt()));
        // Of sizes a and a + 1, mixed so that the sum of squares over the sum is the size asked for.
        let part = (size - whole).clamp(0.0, 1.0);
        let larger = part * whole / (whole + 1.0 - part);
        Self { laws: [law(whole as usize), law(whole as usize + 1)], larger }
    }

    /// Mean questions per cluster.
    fn size(&self) -> f64 {
        (self.laws[0].len() / 2) as f64 + self.larger
    }

    /// Whether sign flips of so many clusters would find the difference at `alpha`. The test itself where it is quick; else its normal law,
    /// given squares and fourth powers of the sums, for a sum that moves in steps of two.
    fn finds(&self, clusters: usize, alpha: f64, rng: &mut Rng) -> bool {
        let mut sums = Vec::new();
        for _ in 0..clusters {
            let law = &self.laws[usize::from(self.larger > 0.0 && rng.chance(self.larger))];
            let at = rng.uniform();
            let place = law.iter().position(|chance| at < *chance).unwrap_or(law.len() - 1);
            let sum = place as f64 - (law.len() / 2) as f64;
            if sum != 0.0 {
                sums.push(sum);
            }
        }
        let moment = |power: i32| sums.iter().map(|sum| sum.abs().powi(power)).sum::<f64>();
        if moment(1) * sums.len() as f64 <= QUICK {
            return sign_flip_exact(&sums).is_some_and(|p| p <= alpha);
        }
        let squares = moment(2);
        let (normal, kurtosis) = (normal_quantile(1.0 - alpha / 2.0), -2.0 * moment(4) / (squares * squares));
        let critical = normal + (normal.powi(3) - 3.0 * normal) * kurtosis / 24.0;
        (sums.iter().sum::<f64>().abs() - 1.0) / squares.sqrt() >= critical
    }
}

/// Law of a cluster's sum, from minus to plus its size, where each question loses, ties or wins with these chances.
fn sum_law(size: usize, chances: [f64; 3], share: f64) -> Vec<f64> {
    let mut law = vec![0.0; 2 * size + 1];
    for (outcome, common) in [-1.0, 0.0, 1.0].into_iter().zip(chances) {
        // Given the common outcome, questions are independent of each other.
        let mut step = chances.map(|chance| (1.0 - share) * chance);
        step[(outcome + 1.0) as usize] += share;
        let mut given = vec![1.0];
        for _ in 0..size {
            let mut next = vec![0.0; given.len() + 2];
            for (place, chance) in given.iter().enumerate() {
                step.iter().enumerate().for_each(|(shift, step)| next[place + shift] += chance * step);
            }
            given = next;
        }
        law.iter_mut().zip(given).for_each(|(sum, chance)| *sum += common * chance);
    }
    law
}

fn cumulated(law: &[f64]) -> Vec<f64> {
    let mut sum = 0.0;
    law.iter()
        .map(|chance| {
            sum += chance;
            sum
        })
        .collect()
}

/// Questions per side with which two runs over different questions would show the same: what pairing saves.
pub fn unpaired_needed(effect: f64, share: f64, alpha: f64, power: f64) -> f64 {
    let other = (share + effect).clamp(0.0, 1.0);
    needed(effect, share * (1.0 - share) + other * (1.0 - other), alpha, power)
}

/// What a comparison of two variants is assumed to look like before anything runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Assumptions {
    /// Share of questions that the weaker side gets right.
    pub base_rate: f64,
    /// Share of questions that exactly one side gets right.
    pub discordance: f64,
    /// Correlation of differences within a cluster.
    pub correlation: f64,
    /// Questions per cluster: the sum of squared sizes over the number of questions.
    pub cluster_size: f64,
    /// Standard deviation of a tuned variant's score between trainings.
    pub seed_deviation: f64,
    /// Level of the test.
    pub alpha: f64,
    /// Chance of finding the effect.
    pub power: f64,
}

/// What it takes to show an effect.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Requirement {
    /// Questions, one training seed's luck left out.
    pub questions: f64,
    /// Clusters of them.
    pub clusters: f64,
    /// Trainings, so that their luck is at most a fifth of the variance that the effect allows.
    pub seeds: f64,
    /// Questions when that part is taken by trainings.
    pub questions_tuned: f64,
    /// Questions per side if the sides were asked different questions.
    pub questions_unpaired: f64,
}

/// Part of the allowed variance that is left to the luck of training.
const SEEDS_PART: f64 = 0.2;

impl Assumptions {
    /// Times as many questions as independent ones.
    pub fn design_effect(&self) -> f64 {
        super::design_effect(self.cluster_size, self.correlation)
    }

    /// Chance of finding a true difference of `effect` with so many questions: exact where every question is its own cluster; else by
    /// simulated clusters of one size, in which a question takes its cluster's outcome with chance `sqrt(correlation)`. The same draws stand
    /// behind every number of clusters and every effect, so that searches over them are steady.
    pub fn chance(&self, questions: f64, effect: f64) -> f64 {
        let effect = effect.abs();
        if effect > self.discordance {
            return 0.0;
        }
        if self.cluster_size <= 1.0 + 1e-9 {
            return mcnemar_power(questions.round() as usize, effect, self.discordance, self.alpha);
        }
        let model = ClusterModel::new(self.cluster_size, effect, self.discordance, self.correlation);
        let clusters = (questions / model.size()).round() as usize;
        if clusters > MANY_CLUSTERS {
            let critical = normal_quantile(1.0 - self.alpha / 2.0);
            let variance = (self.discordance - effect * effect).max(0.0) * self.design_effect() / questions;
            let flipped = variance + effect * effect / clusters as f64;
            return normal_cdf((effect - 1.0 / questions - critical * flipped.sqrt()) / variance.sqrt().max(f64::MIN_POSITIVE));
        }
        let found = |number: u64| model.finds(clusters, self.alpha, &mut Rng::indexed(1, "planned clusters", number));
        (0..SIMULATIONS).into_par_iter().filter(|number| found(*number)).count() as f64 / SIMULATIONS as f64
    }

    /// The fewest questions with which `effect` is found with the power asked for, to a two-hundredth of them.
    fn questions(&self, effect: f64) -> Option<f64> {
        let first = paired_needed(effect, self.discordance, self.alpha, self.power)? * self.design_effect();
        // Whole clusters.
        let size = self.cluster_size.max(1.0);
        let is_enough = |clusters: f64| self.chance(clusters * size, effect) >= self.power;
        let (mut low, mut high) = ((0.8 * first / size).floor(), (first / size).ceil().max(1.0));
        while !is_enough(high) {
            (low, high) = (high, (1.15 * high).ceil() + 1.0);
            if high > 100.0 * first {
                return None;
            }
        }
        while low > 0.0 && is_enough(low) {
            (low, high) = ((0.8 * low).floor(), low);
        }
        while high - low > (high / 200.0).max(1.0) {
            let middle = f64::midpoint(low, high).round();
            if is_enough(middle) { high = middle } else { low = middle }
        }
        Some(high * size)
    }

    /// What it takes to find `effect` (a share); nothing if the discordance does not allow one that large.
    pub fn requirement(&self, effect: f64) -> Option<Requirement> {
        let questions = self.questions(effect)?;
        let allowed = variance_allowed(effect, self.alpha, self.power);
        let is_lucky = self.seed_deviation > 0.0;
        let seeds = if is_lucky { self.seed_deviation.powi(2) / (SEEDS_PART * allowed) } else { 1.0 };
        Some(Requirement {
            questions: questions.ceil(),
            clusters: (questions / self.cluster_size).ceil(),
            seeds: seeds.ceil().max(1.0),
            questions_tuned: if is_lucky { (questions / (1.0 - SEEDS_PART)).ceil() } else { questions.ceil() },
            questions_unpaired: (unpaired_needed(effect, self.base_rate, self.alpha, self.power) * self.design_effect()).ceil(),
        })
    }

    /// The smallest difference that `questions` find; nothing if even one as large as the discordance is not found.
    pub fn detectable(&self, questions: usize) -> Option<f64> {
        let is_found = |effect: f64| self.chance(questions as f64, effect) >= self.power;
        if !is_found(self.discordance) {
            return None;
        }
        let first = paired_detectable(questions as f64 / self.design_effect(), self.discordance, self.alpha, self.power);
        let (mut low, mut high) = (0.0, self.discordance);
        for near in first.iter().flat_map(|first| [0.8 * first, 1.25 * first]).filter(|near| *near < self.discordance) {
            if is_found(near) { high = high.min(near) } else { low = near.max(low) }
        }
        while high - low > 1e-3 * high {
            let middle = f64::midpoint(low, high);
            if is_found(middle) { high = middle } else { low = middle }
        }
        Some(high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points detectable at 80 % power and a level of 5 %, by `(2.8016 / sqrt(n)) sqrt(discordance)`, which neglects the effect in the
    /// variance: a tenth of a point to half a point above Connor's.
    #[test]
    fn detectable_differences_are_those_of_the_usual_table() {
        for (n, discordance, points) in
            [(100.0, 0.3, 15.2), (100.0, 0.2, 12.4), (300.0, 0.2, 7.2), (300.0, 0.1, 5.1), (1000.0, 0.2, 4.0), (5000.0, 0.1, 1.3)]
        {
            let found = 100.0 * paired_detectable(n, discordance, 0.05, 0.8).unwrap();
            assert!(found <= points + 0.05 && found > points - 0.35, "{n} {discordance}: {found} against {points}");
        }
        assert_eq!(paired_detectable(30.0, 0.1, 0.05, 0.8), None);
    }

    #[test]
    fn needed_and_detectable_and_power_are_one_formula() {
        let n = paired_needed(0.03, 0.2, 0.05, 0.8).unwrap();
        assert!((n - 1741.0).abs() < 2.0, "{n}");
        assert!((paired_detectable(n, 0.2, 0.05, 0.8).unwrap() - 0.03).abs() < 1e-9);
        assert!((paired_power(n, 0.03, 0.2, 0.05) - 0.8).abs() < 1e-9);
        assert_eq!(paired_needed(0.3, 0.2, 0.05, 0.8), None);
    }

    /// Five discordant questions of five, all falling one way: p = 1/16 exact, 1/32 mid-p; by hand over all falls.
    #[test]
    fn exact_power_is_the_sum_over_all_falls() {
        // All of five questions are discordant: significant only where they fall alike.
        let (effect, wins) = (0.6, 0.8f64);
        let by_hand = wins.powi(5) + (1.0 - wins).powi(5);
        assert!((mcnemar_power(5, effect, 1.0, 0.05) - by_hand).abs() < 1e-12);
        assert_eq!(mcnemar_power(4, 1.0, 1.0, 0.05), 0.0);
        assert!((mcnemar_power(5, 1.0, 1.0, 0.05) - 1.0).abs() < 1e-12);
        // SciPy, summed over binomials: harness/tests/fixtures/make_comparisons.py states the same law.
        assert!((mcnemar_power(100, 0.1, 0.2, 0.05) - 0.618).abs() < 1e-3);
        assert!((mcnemar_power(40, 0.25, 0.25, 0.05) - 0.984).abs() < 1e-3);
    }

    #[test]
    fn sums_of_clusters_have_the_variance_of_the_design_effect() {
        let (effect, discordance, correlation) = (0.05, 0.3, 0.36);
        let law = sum_law(4, [0.125, 0.7, 0.175], f64::sqrt(correlation));
        let moment = |power: i32| law.iter().enumerate().map(|(place, chance)| (place as f64 - 4.0).powi(power) * chance).sum::<f64>();
        assert!((moment(0) - 1.0).abs() < 1e-12 && (moment(1) - 4.0 * effect).abs() < 1e-12);
        let variance = moment(2) - moment(1) * moment(1);
        let expected = 4.0 * (discordance - effect * effect) * super::super::design_effect(4.0, correlation);
        assert!((variance - expected).abs() < 1e-12, "{variance} {expected}");
    }

    #[test]
    fn an_observed_error_gives_the_same_as_its_variance() {
        let (error, n) = (0.02, 500.0);
        let effect = detectable(error, f64::INFINITY, 0.05, 0.8);
        assert!((needed(effect, error * error * n, 0.05, 0.8) - n).abs() < 1e-6);
    }

    #[test]
    fn clusters_and_trainings_cost_questions() {
        let alone = Assumptions {
            base_rate: 0.6,
            discordance: 0.2,
            correlation: 0.0,
            cluster_size: 1.0,
            seed_deviation: 0.0,
            alpha: 0.05,
            power: 0.8,
        };
        let together = Assumptions { correlation: 0.3, cluster_size: 4.0, seed_deviation: 0.01, ..alone };
        let (alone, together) = (alone.requirement(0.03).unwrap(), together.requirement(0.03).unwrap());
        // The design effect is 1.9; the test over fewer clusters than questions has fewer degrees of freedom, which costs a little more.
        let ratio = together.questions / alone.questions;
        assert!((1.9..2.0).contains(&ratio), "{} {}", together.questions, alone.questions);
        assert_eq!((alone.seeds, together.seeds), (1.0, 5.0));
        assert!(together.questions_tuned > together.questions && alone.questions_unpaired > 2.0 * alone.questions);
    }
}
