//! What a comparison can show, before and after it is made: detectable effects and numbers of questions.
//!
//! Two forms. From a standard error that was observed: `(t[1 - alpha/2] + t[power]) x error`. From assumptions on yes/no scores of the same
//! questions: Connor's formula for McNemar's test (Sample size for testing differences in proportions for the paired-sample design,
//! Biometrics 43:207, 1987), where `discordance` is the share of questions that exactly one side gets right.

use super::distribution::{normal_cdf, normal_quantile, student_quantile};

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

    /// What it takes to find `effect` (a share); nothing if the discordance does not allow one that large.
    pub fn requirement(&self, effect: f64) -> Option<Requirement> {
        let independent = paired_needed(effect, self.discordance, self.alpha, self.power)?;
        let questions = independent * self.design_effect();
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

    /// The smallest difference that `questions` find.
    pub fn detectable(&self, questions: usize) -> Option<f64> {
        paired_detectable(questions as f64 / self.design_effect(), self.discordance, self.alpha, self.power)
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
        assert!((together.questions / alone.questions - 1.9).abs() < 0.01);
        assert_eq!((alone.seeds, together.seeds), (1.0, 5.0));
        assert!(together.questions_tuned > together.questions && alone.questions_unpaired > 2.0 * alone.questions);
    }
}
