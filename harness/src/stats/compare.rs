//! One paired comparison from its per-question differences: interval, p-value, error; and the verdict on it.

use super::bootstrap::{IntervalMethod, Resampler, Sums};
use super::components::Components;
use super::distribution::{normal_quantile, student_cdf, student_quantile, student_two_sided};
use super::equivalence::{tost, tost_without_spread};
use super::mcnemar::mcnemar_mid;
use super::permutation::{sign_flip_drawn, sign_flip_exact};
use super::robust::ClusteredMean;
use super::{Estimate, power, smoothed};

/// With fewer clusters, resampling them makes intervals too narrow (the simulations beside this file show by how much) and Student's t is
/// taken.
pub const FEW_CLUSTERS: usize = 50;

/// What the differences are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// Scores between 0 and 1: what was the same in every question seen may still differ in one unseen.
    Scores,
    /// Exact counts, times or other measures: without spread there is no doubt.
    Measures,
}

/// How a p-value was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// McNemar's mid-p: yes/no scores, one question per cluster.
    McNemarMid,
    /// Sign flips of clusters, all patterns.
    SignFlip,
    /// Sign flips of clusters, random patterns.
    SignFlipDrawn,
    /// Student's t over clusters and training seeds.
    StudentT,
}

impl Test {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::McNemarMid => "mcnemar_mid_p",
            Self::SignFlip => "sign_flip_exact",
            Self::SignFlipDrawn => "sign_flip",
            Self::StudentT => "student_t",
        }
    }
}

/// A mean paired difference with everything that a verdict on it needs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// The mean over questions with its interval.
    pub difference: Estimate,
    /// How the interval was made.
    pub interval: IntervalMethod,
    /// Two-sided, of no difference; not adjusted.
    pub p: f64,
    /// How `p` was found.
    pub test: Test,
    /// Standard error over clusters, and over trainings where there are several; nothing from one cluster.
    pub error: Option<f64>,
    /// Its degrees of freedom.
    pub freedom: f64,
    /// Variance over what it would be with independent questions.
    pub design_effect: Option<f64>,
    /// Clusters with a question.
    pub clusters: usize,
    /// Questions that the left side does better on.
    pub wins: usize,
    /// Questions that the right side does better on.
    pub losses: usize,
    /// Variance that the luck of training adds to the mean; nothing if a single training or none stands behind it.
    pub training: Option<Components>,
    values: Values,
}

impl Resampler {
    /// Compares two sides by their differences per question (left minus right, `None` where one side is not measured), for several pairs of
    /// sides at a time. Nothing where no question has both.
    pub fn compare(&self, columns: &[Vec<Option<f64>>], values: Values) -> Vec<Option<Comparison>> {
        self.compare_each(columns, values)
    }

    /// The same of columns that may be made when they are asked for; each is gone before the next one is.
    pub fn compare_each<C: AsRef<[Option<f64>]>>(&self, columns: impl IntoIterator<Item = C>, values: Values) -> Vec<Option<Comparison>> {
        let reduced: Vec<Reduced> = columns.into_iter().map(|column| self.reduce(column.as_ref())).collect();
        let tests = self.tests(&reduced);
        let intervals = self.intervals(&reduced, values);
        let of = |reduced: &Reduced, (p, test): (f64, Test), interval: Option<(Estimate, IntervalMethod)>| {
            let (difference, interval) = interval?;
            Some(Comparison {
                difference,
                interval,
                p,
                test,
                error: reduced.mean.map(|mean| mean.error),
                freedom: reduced.mean.map_or(f64::NAN, |mean| mean.freedom),
                design_effect: reduced.mean.and_then(|mean| mean.design_effect),
                clusters: reduced.clusters,
                wins: reduced.wins,
                losses: reduced.losses,
                training: None,
                values,
            })
        };
        reduced.iter().zip(tests).zip(intervals).map(|((reduced, test), interval)| of(reduced, test, interval)).collect()
    }

    fn reduce(&self, column: &[Option<f64>]) -> Reduced {
        let sums = self.mean_sums(column);
        let count = |is: fn(&f64) -> bool| column.iter().flatten().filter(|value| is(value)).count();
        Reduced {
            exact: exact(column, &sums),
            mean: self.clustered_mean(column),
            clusters: self.measured(column),
            wins: count(|value| *value > 0.0),
            losses: count(|value| *value < 0.0),
            sums,
        }
    }

    /// The interaction of four variants' shares in log-odds, from the columns hybrid, rag, finetuned, baseline over the questions that all of
    /// them have: point and interval of smoothed shares ([`super::smoothed`]), p by the delta method with cluster-robust errors. Nothing
    /// where no question has all four.
    pub fn compare_log_odds(&self, columns: &[Vec<Option<f64>>; 4]) -> Option<Comparison> {
        const SIGNS: [f64; 4] = [1.0, -1.0, -1.0, 1.0];
        let is_complete = |row: usize| columns.iter().all(|column| column[row].is_some());
        let complete = |column: &Vec<Option<f64>>| (0..column.len()).map(|row| column[row].filter(|_| is_complete(row))).collect();
        let columns: Vec<Vec<Option<f64>>> = columns.iter().map(complete).collect();
        let n = columns[0].iter().flatten().count();
        let log_odds = |shares: &[f64]| {
            let odds = |share: f64| (smoothed(share, n) / (1.0 - smoothed(share, n))).ln();
            shares.iter().zip(SIGNS).map(|(share, sign)| sign * odds(*share)).sum::<f64>()
        };
        let (mut difference, mut interval) = self.bca_of_means(&columns, log_odds)?;
        let means: Vec<f64> = columns.iter().map(|column| column.iter().flatten().sum::<f64>() / n as f64).collect();
        let slope = |mean: f64| 1.0 / (smoothed(mean, n) * (1.0 - smoothed(mean, n)));
        let influence = |row: usize| {
            let part = |(at, column): (usize, &Vec<Option<f64>>)| Some(SIGNS[at] * (column[row]? - means[at]) * slope(means[at]));
            columns.iter().enumerate().map(part).sum::<Option<f64>>()
        };
        let mean = self.clustered_mean(&(0..columns[0].len()).map(influence).collect::<Vec<_>>());
        let half = match mean {
            None => Some((f64::INFINITY, IntervalMethod::Unbounded)),
            Some(mean) if mean.clusters < FEW_CLUSTERS => {
                Some((student_quantile(self.tail(), mean.freedom) * mean.error, IntervalMethod::StudentT))
            }
            Some(_) => None,
        };
        if let Some((half, method)) = half {
            (difference.ci_low, difference.ci_high) = (difference.point - half, difference.point + half);
            interval = method;
        }
        Some(Comparison {
            difference,
            interval,
            p: mean.filter(|mean| mean.error > 0.0).map_or(1.0, |mean| student_two_sided(difference.point / mean.error, mean.freedom)),
            test: Test::StudentT,
            error: mean.map(|mean| mean.error),
            freedom: mean.map_or(f64::NAN, |mean| mean.freedom),
            design_effect: mean.and_then(|mean| mean.design_effect),
            clusters: self.measured(&columns[0]),
            wins: 0,
            losses: 0,
            training: None,
            values: Values::Scores,
        })
    }

    /// The mean of a column with cluster-robust errors; nothing without two clusters.
    pub fn clustered_mean(&self, column: &[Option<f64>]) -> Option<ClusteredMean> {
        let values = column.iter().zip(self.cluster_of()).filter_map(|(value, cluster)| value.map(|value| (value, *cluster)));
        ClusteredMean::of(values, self.clusters())
    }

    /// p of every column: exact where it can be; the rest share their draws.
    fn tests(&self, columns: &[Reduced]) -> Vec<(f64, Test)> {
        let mut found: Vec<Option<(f64, Test)>> = columns.iter().map(|column| column.exact).collect();
        let open: Vec<usize> = (0..columns.len()).filter(|index| found[*index].is_none()).collect();
        let lists: Vec<&[f64]> = open.iter().map(|index| columns[*index].sums.numerators.as_slice()).collect();
        for (index, p) in open.into_iter().zip(sign_flip_drawn(&lists, self.seed(), self.resamples())) {
            found[index] = Some((p, Test::SignFlipDrawn));
        }
        found.into_iter().flatten().collect()
    }

    fn intervals(&self, columns: &[Reduced], values: Values) -> Vec<Option<(Estimate, IntervalMethod)>> {
        let resampled = |mean: &Option<ClusteredMean>| mean.is_some_and(|mean| has_spread(&mean) && mean.clusters >= FEW_CLUSTERS);
        let chosen = || columns.iter().filter(|column| resampled(&column.mean));
        let wanted: Vec<&Sums> = chosen().map(|column| &column.sums).collect();
        let levels = chosen().filter_map(|column| column.mean.map(|mean| self.expanded(mean.clusters, mean.freedom)));
        let mut bca = self.bca_of(&wanted, &levels.collect::<Vec<f64>>()).into_iter();
        let of = |Reduced { sums, mean, .. }: &Reduced| {
            if resampled(mean) {
                return bca.next().flatten();
            }
            let around = |half: f64, method| {
                let point = sums.point();
                Some((Estimate { point, ci_low: point - half, ci_high: point + half, n: sums.n }, method))
            };
            match mean {
                _ if sums.n == 0 => None,
                None => around(f64::INFINITY, IntervalMethod::Unbounded),
                Some(mean) if has_spread(mean) => {
                    around(student_quantile(self.tail(), mean.freedom) * mean.error, IntervalMethod::StudentT)
                }
                Some(_) if values == Values::Measures => around(0.0, IntervalMethod::NoSpread),
                Some(mean) => around(unseen(mean.clusters, self.tail()), IntervalMethod::NoSpread),
            }
        };
        columns.iter().map(of).collect()
    }

    /// Level of the upper end of an interval.
    fn tail(&self) -> f64 {
        0.5 + self.confidence() / 2.0
    }
}

/// A column of differences, reduced to what a comparison looks at.
struct Reduced {
    sums: Sums,
    /// An exact test, where there is one.
    exact: Option<(f64, Test)>,
    mean: Option<ClusteredMean>,
    clusters: usize,
    wins: usize,
    losses: usize,
}

/// McNemar's test where it applies, else sign flips where all patterns can be gone through.
fn exact(column: &[Option<f64>], sums: &Sums) -> Option<(f64, Test)> {
    let is_binary = column.iter().flatten().all(|value| [-1.0, 0.0, 1.0].contains(value));
    let is_alone = sums.denominators.iter().all(|count| *count <= 1.0);
    if is_binary && is_alone {
        let count = |wanted: f64| column.iter().flatten().filter(|value| **value == wanted).count();
        return Some((mcnemar_mid(count(1.0), count(-1.0)), Test::McNemarMid));
    }
    sign_flip_exact(&sums.numerators).map(|p| (p, Test::SignFlip))
}

/// The mean of a cluster moves: what is below is rounding.
fn has_spread(mean: &ClusteredMean) -> bool {
    mean.error > 1e-12 * mean.mean.abs().max(1e-3)
}

/// Share of clusters that may differ though none did: Wilson's upper end for nothing seen.
fn unseen(clusters: usize, tail: f64) -> f64 {
    let square = normal_quantile(tail).powi(2);
    square / (clusters as f64 + square)
}

impl Comparison {
    /// Takes the luck of training into error, interval and p: the variance between seeds over their number is added to that over clusters,
    /// with Satterthwaite's degrees of freedom. The components are those of the same differences, one list per seed.
    pub fn with_training(self, training: Components, confidence: f64) -> Self {
        let Some(questions) = self.error.map(|error| error * error) else { return Self { training: Some(training), ..self } };
        let luck = training.of_mean();
        let variance = questions + luck;
        if luck == 0.0 || variance == 0.0 {
            return Self { training: Some(training), ..self };
        }
        let within = if questions > 0.0 { questions * questions / self.freedom } else { 0.0 };
        let freedom = variance * variance / (within + luck * luck / (training.seeds as f64 - 1.0));
        let error = variance.sqrt();
        let half = student_quantile(0.5 + confidence / 2.0, freedom) * error;
        let point = self.difference.point;
        Self {
            difference: Estimate { ci_low: point - half, ci_high: point + half, ..self.difference },
            interval: IntervalMethod::StudentT,
            p: student_two_sided(point / error, freedom),
            test: Test::StudentT,
            error: Some(error),
            freedom,
            training: Some(training),
            ..self
        }
    }

    /// p of the two one-sided tests that the true difference lies within `margin`; not adjusted.
    pub fn p_equivalence(&self, margin: f64) -> f64 {
        let Some(error) = self.error else { return 1.0 };
        let point = self.difference.point;
        match (self.interval, self.values) {
            (IntervalMethod::NoSpread, Values::Scores) => tost_without_spread(point, self.clusters, margin),
            (IntervalMethod::NoSpread, Values::Measures) => f64::from(point.abs() >= margin),
            _ => tost(point, error, self.freedom, margin),
        }
    }

    /// p of a true difference at or below `bound`, one-sided: small where the difference is surely above it; not adjusted.
    pub fn p_not_above(&self, bound: f64) -> f64 {
        self.one_sided(self.difference.point - bound)
    }

    /// p of a true difference at or above `bound`, one-sided: small where the difference is surely below it; not adjusted.
    pub fn p_not_below(&self, bound: f64) -> f64 {
        self.one_sided(bound - self.difference.point)
    }

    /// p of a true distance of zero or less where `distance` was seen.
    fn one_sided(&self, distance: f64) -> f64 {
        let Some(error) = self.error else { return 1.0 };
        match (self.interval, self.values) {
            (IntervalMethod::NoSpread, Values::Scores) if distance <= 0.0 => 1.0,
            (IntervalMethod::NoSpread, Values::Scores) => (1.0 - distance.min(1.0)).powi(self.clusters as i32),
            (IntervalMethod::NoSpread, Values::Measures) => f64::from(distance <= 0.0),
            _ => student_cdf(-distance / error, self.freedom),
        }
    }

    /// The verdict, by p-values that may be adjusted for other comparisons.
    ///
    /// Equivalence comes first: a difference that is surely within the margin is not called better, however sure its sign is.
    pub fn judge(&self, rule: &Rule, is_higher_better: bool, p: f64, p_equivalence: Option<f64>) -> Judgement {
        let verdict = if p_equivalence.is_some_and(|p| p <= rule.alpha) {
            Verdict::Equivalent
        } else if p > rule.alpha {
            Verdict::Inconclusive
        } else if (self.difference.point > 0.0) == is_higher_better {
            Verdict::Better
        } else {
            Verdict::Worse
        };
        let needed = if verdict == Verdict::Inconclusive { self.needed(rule) } else { None };
        Judgement { verdict, detectable: self.detectable(rule), needed }
    }

    /// The smallest true difference that this comparison would have found with the rule's power, by the error it had.
    pub fn detectable(&self, rule: &Rule) -> Option<f64> {
        match (self.interval, self.error?) {
            (IntervalMethod::NoSpread, _) if self.values == Values::Measures => None,
            (IntervalMethod::NoSpread, _) => Some(1.0 - rule.level().powf(1.0 / self.clusters as f64)),
            (_, error) => Some(power::detectable(error, self.freedom, rule.level(), rule.power)),
        }
    }

    /// What it would take to show a difference as large as the one seen, or as the margin if that is larger.
    pub fn needed(&self, rule: &Rule) -> Option<Needed> {
        let error = self.error?;
        let effect = self.difference.point.abs().max(rule.margin.unwrap_or(0.0));
        if effect == 0.0 {
            return None;
        }
        let per_cluster = self.difference.n as f64 / self.clusters as f64;
        let of = |questions: f64, seeds: usize| {
            Some(Needed { effect, questions: questions.ceil(), clusters: (questions / per_cluster).ceil(), seeds })
        };
        if self.interval == IntervalMethod::NoSpread {
            let clusters = rule.level().ln() / (1.0 - effect).ln();
            return if self.values == Values::Scores && effect < 1.0 { of(clusters * per_cluster, 1) } else { None };
        }
        let allowed = power::variance_allowed(effect, rule.level(), rule.power);
        let (luck, seeds) = self.training.map_or((0.0, 1), |training| (training.seed, training.seeds));
        let questions = error * error - luck / seeds as f64;
        // At least half of the variance that the effect allows is left to the questions.
        let seeds = seeds.max((2.0 * luck / allowed).ceil() as usize);
        of(questions * self.difference.n as f64 / (allowed - luck / seeds as f64), seeds)
    }
}

/// When a difference is called one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// Level of every test.
    pub alpha: f64,
    /// Chance with which a detectable difference is found.
    pub power: f64,
    /// Differences below it do not matter; nothing if none is declared.
    pub margin: Option<f64>,
    /// Comparisons that are read together: detectable differences are those of the strictest step.
    pub comparisons: usize,
}

impl Rule {
    /// The level that the first of the comparisons has to meet.
    fn level(&self) -> f64 {
        self.alpha / self.comparisons.max(1) as f64
    }
}

/// What can be said of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The left side is better.
    Better,
    /// The left side is worse.
    Worse,
    /// The difference lies within the margin.
    Equivalent,
    /// These questions do not tell.
    Inconclusive,
}

impl Verdict {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Equivalent => "equivalent",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// A verdict with what it could have been.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// The smallest true difference that would have been found.
    pub detectable: Option<f64>,
    /// What a verdict would take; for an inconclusive one.
    pub needed: Option<Needed>,
}

/// What it would take to decide.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Needed {
    /// The difference that would be shown.
    pub effect: f64,
    /// Questions.
    pub questions: f64,
    /// Clusters, of the size of those here.
    pub clusters: f64,
    /// Training seeds.
    pub seeds: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { alpha: 0.05, power: 0.8, margin: Some(0.03), comparisons: 1 };

    fn names(count: usize, size: usize) -> Vec<String> {
        (0..count).map(|number| format!("c{:05}", number / size)).collect()
    }

    fn compare(differences: &[f64], size: usize) -> Comparison {
        let names = names(differences.len(), size);
        let resampler = Resampler::new(names.iter().map(String::as_str), 1, 2000, 0.95);
        resampler.compare(&[differences.iter().copied().map(Some).collect()], Values::Scores)[0].unwrap()
    }

    fn judge(found: &Comparison) -> Judgement {
        found.judge(&RULE, true, found.p, Some(found.p_equivalence(0.03)))
    }

    /// Right, wrong and tied questions.
    fn binary(wins: usize, losses: usize, n: usize) -> Vec<f64> {
        [vec![1.0; wins], vec![-1.0; losses], vec![0.0; n - wins - losses]].concat()
    }

    /// The gain on anatomy that Ovadia et al. print, 75 and 77 right of 135, with a fifth of the questions discordant.
    #[test]
    fn two_questions_of_135_are_inconclusive() {
        let found = compare(&binary(14, 12, 135), 1);
        let judged = judge(&found);
        assert_eq!((judged.verdict, found.test), (Verdict::Inconclusive, Test::McNemarMid));
        let points = 100.0 * judged.detectable.unwrap();
        assert!((10.3..11.7).contains(&points), "{points}");
        let needed = judged.needed.unwrap();
        assert_eq!(needed.effect, 0.03);
        assert!((1500.0..1900.0).contains(&needed.questions), "{needed:?}");
    }

    #[test]
    fn verdicts_follow_the_evidence() {
        assert_eq!(judge(&compare(&binary(60, 20, 400), 1)).verdict, Verdict::Better);
        assert_eq!(judge(&compare(&binary(20, 60, 400), 1)).verdict, Verdict::Worse);
        assert_eq!(judge(&compare(&binary(11, 9, 2000), 1)).verdict, Verdict::Equivalent);
        let worse_by_less = compare(&binary(60, 20, 400), 1);
        assert_eq!(worse_by_less.judge(&RULE, false, worse_by_less.p, None).verdict, Verdict::Worse);
        // Sure of its sign, and sure to be small.
        assert_eq!(judge(&compare(&binary(120, 60, 10_000), 1)).verdict, Verdict::Equivalent);
    }

    #[test]
    fn one_sided_tests_are_the_two_halves_of_equivalence() {
        let found = compare(&binary(40, 30, 400), 1);
        let (above, below) = (found.p_not_above(-0.03), found.p_not_below(0.03));
        assert!((found.p_equivalence(0.03) - above.max(below)).abs() < 1e-12);
        assert!(above < 0.01 && below > 0.3 && (found.p_not_above(0.1) + found.p_not_below(0.1) - 1.0).abs() < 1e-12);
        let alike = compare(&[0.0; 99], 1);
        assert!(alike.p_not_above(-0.03) < 0.05 && alike.p_not_above(0.0) == 1.0);
    }

    #[test]
    fn clusters_weaken_the_evidence() {
        let differences: Vec<f64> = [vec![1.0; 24], vec![-1.0; 8], vec![0.0; 88]].concat();
        let (alone, together) = (compare(&differences, 1), compare(&differences, 8));
        assert_eq!((alone.clusters, together.clusters, together.test), (120, 15, Test::SignFlip));
        assert!(alone.p < 0.01 && together.p > 0.2, "{} {}", alone.p, together.p);
        assert_eq!((alone.interval, together.interval), (IntervalMethod::Bca, IntervalMethod::StudentT));
        assert!(together.design_effect.unwrap() > 5.0);
    }

    #[test]
    fn agreement_everywhere_is_no_certainty() {
        let found = compare(&[0.0; 20], 1);
        assert_eq!((found.p, found.interval), (1.0, IntervalMethod::NoSpread));
        assert!(found.difference.ci_low < -0.1 && found.difference.ci_high > 0.1);
        let judged = judge(&found);
        assert_eq!((judged.verdict, judged.needed.unwrap().questions), (Verdict::Inconclusive, 99.0));
        assert_eq!(judge(&compare(&[0.0; 99], 1)).verdict, Verdict::Equivalent);
        assert_eq!(judge(&compare(&[1.0; 20], 1)).verdict, Verdict::Better);
    }

    #[test]
    fn equal_counts_are_equal() {
        let names = names(8, 1);
        let resampler = Resampler::new(names.iter().map(String::as_str), 1, 200, 0.95);
        let found = resampler.compare(&[vec![Some(0.0); 8], vec![None; 8]], Values::Measures);
        let counts = found[0].unwrap();
        assert_eq!((counts.difference.ci_low, counts.difference.ci_high, counts.p_equivalence(0.01)), (0.0, 0.0, 0.0));
        assert_eq!(found[1], None);
    }

    #[test]
    fn one_cluster_gives_no_bound() {
        let found = compare(&[1.0, 1.0, 0.0], 3);
        assert_eq!((found.p, found.interval, found.error), (1.0, IntervalMethod::Unbounded, None));
        let judged = judge(&found);
        assert_eq!((judged.verdict, judged.detectable, judged.needed), (Verdict::Inconclusive, None, None));
    }

    #[test]
    fn the_interaction_in_log_odds_has_an_interval_and_a_test() {
        let names = names(400, 2);
        let resampler = Resampler::new(names.iter().map(String::as_str), 1, 1000, 0.95);
        let column = |right: usize, turn: usize| (0..400).map(|row| Some(f64::from((row * 37 + turn) % 400 < right))).collect();
        // hybrid 90 %, rag 90 %, finetuned 75 %, baseline 50 %: nothing left to add in points, less than it adds alone in odds too.
        let columns: [Vec<Option<f64>>; 4] = [column(360, 0), column(360, 11), column(300, 5), column(200, 3)];
        let found = resampler.compare_log_odds(&columns).unwrap();
        let cells = super::super::Cells { hybrid: 0.9, rag: 0.9, finetuned: 0.75, baseline: 0.5 }.smoothed(400);
        assert!((found.difference.point - cells.log_odds()).abs() < 1e-12);
        assert!(found.difference.ci_high < 0.0 && found.p < 0.001 && found.clusters == 200, "{found:?}");
        // The delta method's error and the bootstrap's agree.
        let width = found.difference.ci_high - found.difference.ci_low;
        assert!((width / (2.0 * 1.97 * found.error.unwrap()) - 1.0).abs() < 0.1, "{found:?}");
    }

    #[test]
    fn lucky_trainings_take_certainty_away() {
        let found = compare(&binary(60, 20, 400), 1);
        let luck = Components { seed: 0.01, question: 0.1, rest: 0.1, seeds: 3, questions: 400 };
        let doubted = found.with_training(luck, 0.95);
        assert!(doubted.p > 0.1 && doubted.freedom < 4.0 && doubted.test == Test::StudentT);
        assert_eq!(judge(&doubted).verdict, Verdict::Inconclusive);
        assert!(judge(&doubted).needed.unwrap().seeds > 3);
        let steady = found.with_training(Components { seed: 0.0, ..luck }, 0.95);
        assert_eq!((steady.p, steady.difference), (found.p, found.difference));
    }
}
