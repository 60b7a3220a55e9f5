//! From paired values to outcomes: how sure, how large, and what is said of it. Knows nothing of run folders.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use super::policy::{Adjustment, Policy};
use super::quantity::{Form, Kind, Quantity};
use super::run::Values;
use crate::spec::VariantKind;
use crate::stats::{self, Comparison, Components, Resampler, Rule};
use crate::table::ALL;

/// Of the draws behind bounds and tests.
const SEED: u64 = 1;

/// What the gate says of a check, and of all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Not worse by more than the margin.
    Pass,
    /// These questions do not tell.
    Inconclusive,
    /// Worse by more than the margin, and not by luck.
    Regressed,
}

impl Outcome {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Inconclusive => "inconclusive",
            Self::Regressed => "regressed",
        }
    }
}

/// What a check's figures are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Hundredths of a score.
    Points,
    /// Per cent of the reference's mean.
    Percent,
    /// Times as much.
    Ratio,
}

/// One comparison with its outcome.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// What it is about.
    pub kind: Kind,
    /// Whose.
    pub variant: VariantKind,
    /// `all`, or a tag and its value.
    pub slice: String,
    /// Id of the metric, counter or stage.
    pub metric: String,
    /// Pass, inconclusive or regressed.
    pub outcome: Outcome,
    /// Why, in words.
    pub reason: String,
    /// Mean of the reference over the paired questions: a score, a count, milliseconds.
    pub reference: f64,
    /// Mean of the candidate; times are divided by the ratio of the calibration loops.
    pub candidate: f64,
    /// Of the next three.
    pub unit: Unit,
    /// How much worse the candidate is; negative if it is better. A ratio above 1 is worse.
    pub worse_by: f64,
    /// The worst that the level leaves open; nothing for exact counts.
    pub at_worst: Option<f64>,
    /// What does not matter.
    pub margin: f64,
    /// One-sided, of no worsening.
    pub p: Option<f64>,
    /// The same, adjusted for all tests of the gate that could have failed.
    pub p_adjusted: Option<f64>,
    /// How it was found.
    pub test: Option<&'static str>,
    /// Paired questions.
    pub n: usize,
    /// Their clusters.
    pub clusters: usize,
    /// Variance over what it would be with independent questions; nothing for exact counts.
    pub design_effect: Option<f64>,
    /// Questions on which the candidate is worse.
    pub n_worse: usize,
    /// Questions on which it is better.
    pub n_better: usize,
}

impl Check {
    /// Some question is not as it was.
    pub fn is_changed(&self) -> bool {
        self.n_worse + self.n_better > 0
    }

    /// It looks at a slice only.
    pub fn is_slice(&self) -> bool {
        self.slice != ALL
    }

    /// `rag exact_match in knowledge=fresh`.
    pub fn name(&self) -> String {
        let place = if self.is_slice() { format!(" in {}", self.slice) } else { String::new() };
        format!("{} {}{place}", self.variant.name(), self.metric)
    }
}

/// The paired values of one quantity, over all questions.
#[derive(Debug, Clone)]
pub struct Pairs {
    /// Candidate, by question of the reference.
    pub candidate: Values,
    /// Reference.
    pub reference: Values,
    /// The same of every training seed, where there are several: candidate and reference.
    pub by_seed: Vec<(Values, Values)>,
}

/// The outcome of all checks: regressed if one is; inconclusive if one over all questions is (a slice can stop the gate; undecided, it
/// decides nothing).
pub fn overall(checks: &[Check]) -> Outcome {
    let of = |check: &Check| if check.outcome == Outcome::Inconclusive && check.is_slice() { Outcome::Pass } else { check.outcome };
    checks.iter().map(of).max().unwrap_or(Outcome::Inconclusive)
}

/// Quantities with the draws behind their bounds: made once, and used for one pair of runs or for hundreds of simulated ones.
pub struct Judge<'a> {
    quantities: &'a [Quantity],
    policy: &'a Policy,
    /// How much the calibration loops of a run disagree: time ratios must be larger by this factor.
    unsteadiness: f64,
    groups: Vec<Group>,
}

/// Quantities over the same questions.
struct Group {
    questions: Vec<usize>,
    /// Cluster of each of them, by number.
    cluster_of: Vec<usize>,
    quantities: Vec<usize>,
    resampler: Resampler,
}

impl Group {
    fn new(questions: Vec<usize>, quantities: Vec<usize>, clusters: &[&str], resamples: usize, confidence: f64) -> Self {
        let names: Vec<&str> = questions.iter().map(|question| clusters[*question]).collect();
        let mut numbers = BTreeMap::new();
        let cluster_of = names.iter().map(|name| {
            let next = numbers.len();
            *numbers.entry(*name).or_insert(next)
        });
        Self { cluster_of: cluster_of.collect(), resampler: Resampler::new(names, SEED, resamples, confidence), questions, quantities }
    }

    /// Clusters whose sum is not zero.
    fn changed_clusters(&self, column: &Values) -> usize {
        let mut sums = vec![0.0; self.resampler.clusters()];
        column.iter().zip(&self.cluster_of).for_each(|(value, cluster)| sums[*cluster] += value.unwrap_or(0.0));
        sums.into_iter().filter(|sum| *sum != 0.0).count()
    }
}

/// A tested quantity before the tests are read together.
struct Tested {
    index: usize,
    /// Of reference and candidate over the questions that both have.
    means: (f64, f64),
    comparison: Comparison,
    /// One-sided.
    p: f64,
    /// With so few changed clusters no outcome could have been significant.
    is_hopeless: bool,
}

impl<'a> Judge<'a> {
    /// `members` gives the questions of a quantity, `clusters` the cluster of every question.
    pub fn new(
        quantities: &'a [Quantity],
        policy: &'a Policy,
        unsteadiness: f64,
        clusters: &[&str],
        resamples: usize,
        members: impl Fn(&Quantity) -> Vec<usize>,
    ) -> Self {
        let mut by_questions = BTreeMap::<Vec<usize>, Vec<usize>>::new();
        for (index, quantity) in quantities.iter().enumerate() {
            by_questions.entry(members(quantity)).or_default().push(index);
        }
        // The interval's upper end is then a bound at the policy's level.
        let confidence = 1.0 - 2.0 * policy.alpha;
        let groups = by_questions.into_iter();
        let groups = groups.map(|(questions, quantities)| Group::new(questions, quantities, clusters, resamples, confidence));
        Self { quantities, policy, unsteadiness, groups: groups.collect() }
    }

    /// One check per quantity that both sides have, in the order of the quantities.
    pub fn checks(&self, pairs: &[Pairs]) -> Vec<Check> {
        let tested: Vec<Tested> = self.groups.par_iter().flat_map_iter(|group| self.test(group, pairs)).collect();
        let adjusted = self.adjusted(&tested);
        let mut checks: Vec<(usize, Check)> =
            tested.iter().zip(adjusted).map(|(tested, p)| (tested.index, self.judge(tested, p))).collect();
        let counted = (0..self.quantities.len()).filter(|index| !self.quantities[*index].is_tested());
        checks.extend(counted.filter_map(|index| Some((index, self.count(index, &pairs[index])?))));
        checks.sort_by_key(|(index, _)| *index);
        checks.into_iter().map(|(_, check)| check).collect()
    }

    fn test(&self, group: &Group, pairs: &[Pairs]) -> Vec<Tested> {
        let tested: Vec<usize> = group.quantities.iter().copied().filter(|index| self.quantities[*index].is_tested()).collect();
        let mut found = Vec::new();
        for is_score in [true, false] {
            let of_kind = |index: &usize| !matches!(self.quantities[*index].form, Form::Ratio { .. }) == is_score;
            let these: Vec<usize> = tested.iter().copied().filter(of_kind).collect();
            let of = |index: &usize| self.worsenings(*index, group, &pairs[*index].candidate, &pairs[*index].reference);
            let columns: Vec<Values> = these.iter().map(of).collect();
            let values = if is_score { stats::Values::Scores } else { stats::Values::Measures };
            let compared = group.resampler.compare(&columns, values);
            found.extend(these.into_iter().zip(columns).zip(compared).filter_map(|((index, column), comparison)| {
                let comparison = self.with_training(comparison?, index, group, &pairs[index]);
                let half = comparison.p / 2.0;
                let p = if comparison.difference.point > 0.0 { half } else { 1.0 - half };
                let least = 0.5f64.powi(group.changed_clusters(&column) as i32 + 1);
                Some(Tested {
                    index,
                    means: means(&self.quantities[index], group, &pairs[index]),
                    comparison,
                    p,
                    is_hopeless: least > self.policy.alpha,
                })
            }));
        }
        found
    }

    fn worsenings(&self, index: usize, group: &Group, candidate: &Values, reference: &Values) -> Values {
        let of = |question: &usize| Some(self.quantities[index].worsening(candidate[*question]?, reference[*question]?));
        group.questions.iter().map(of).collect()
    }

    /// With several trainings, what differs between them is luck that more questions do not average away.
    fn with_training(&self, comparison: Comparison, index: usize, group: &Group, pairs: &Pairs) -> Comparison {
        let of_seed = |(candidate, reference): &(Values, Values)| self.worsenings(index, group, candidate, reference);
        let components = Components::of(&pairs.by_seed.iter().map(of_seed).collect::<Vec<_>>());
        components.map_or(comparison, |components| comparison.with_training(components, group.resampler.confidence()))
    }

    /// Tests that could not have been significant whatever the signs of the changes are left out of the family: how many clusters changed says
    /// nothing about which way (Tarone, A modified Bonferroni method for discrete data, Biometrics 46:515, 1990).
    fn adjusted(&self, tested: &[Tested]) -> Vec<f64> {
        let hopeful: Vec<usize> = (0..tested.len()).filter(|at| !tested[*at].is_hopeless).collect();
        let p: Vec<f64> = hopeful.iter().map(|at| tested[*at].p).collect();
        let adjusted = match self.policy.adjust {
            Adjustment::BenjaminiHochberg => stats::benjamini_hochberg(&p),
            Adjustment::Holm => stats::holm(&p),
        };
        let mut all = vec![1.0; tested.len()];
        hopeful.into_iter().zip(adjusted).for_each(|(at, p)| all[at] = p);
        all
    }

    /// An exact count: its growth is what it is.
    fn count(&self, index: usize, pairs: &Pairs) -> Option<Check> {
        let quantity = &self.quantities[index];
        let both: Vec<(f64, f64)> = pairs.candidate.iter().zip(&pairs.reference).filter_map(|(left, right)| left.zip(*right)).collect();
        let n = both.len();
        let (candidate, reference) =
            (both.iter().map(|pair| pair.0).sum::<f64>() / n as f64, both.iter().map(|pair| pair.1).sum::<f64>() / n as f64);
        let growth = if candidate == reference { 0.0 } else { candidate / reference - 1.0 };
        let count = |is: fn(&(f64, f64)) -> bool| both.iter().filter(|pair| is(pair)).count();
        let (n_worse, n_better) =
            (count(|(candidate, reference)| candidate > reference), count(|(candidate, reference)| candidate < reference));
        let is_regression = growth > quantity.margin;
        let reason = match (n_worse, n_better) {
            (0, 0) => "no question changed".to_owned(),
            _ => format!("{:+.2} % per query over {n} questions ({n_worse} more, {n_better} less); counted, not estimated", 100.0 * growth),
        };
        (n > 0).then(|| Check {
            kind: quantity.kind,
            variant: quantity.variant,
            slice: quantity.slice.clone(),
            metric: quantity.metric.clone(),
            outcome: if is_regression { Outcome::Regressed } else { Outcome::Pass },
            reason,
            reference,
            candidate,
            unit: Unit::Percent,
            worse_by: 100.0 * growth,
            at_worst: None,
            margin: 100.0 * quantity.margin,
            p: None,
            p_adjusted: None,
            test: None,
            n,
            clusters: 0,
            design_effect: None,
            n_worse,
            n_better,
        })
    }

    fn judge(&self, tested: &Tested, p_adjusted: f64) -> Check {
        let quantity = &self.quantities[tested.index];
        let found = &tested.comparison;
        let means = tested.means;
        let unit = if matches!(quantity.form, Form::Ratio { .. }) { Unit::Ratio } else { Unit::Points };
        let shown = |value: f64| match unit {
            Unit::Ratio => value.exp(),
            _ => 100.0 * value,
        };
        // No share can fall by more than all of it, which Student's bound over a few clusters does not know.
        let at_worst = if unit == Unit::Points { found.difference.ci_high.min(1.0) } else { found.difference.ci_high };
        let facts = Facts {
            worse_by: found.difference.point,
            at_worst,
            margin: quantity.margin,
            needed: quantity.margin + if unit == Unit::Ratio { self.unsteadiness.ln() } else { 0.0 },
            is_relevant: match quantity.form {
                Form::Ratio { min_ms } => means.1 - means.0 > min_ms,
                _ => true,
            },
            p_adjusted,
            unit,
        };
        let (outcome, reason) = facts.decide(found, self.policy);
        Check {
            kind: quantity.kind,
            variant: quantity.variant,
            slice: quantity.slice.clone(),
            metric: quantity.metric.clone(),
            outcome,
            reason,
            reference: means.0,
            candidate: means.1,
            unit,
            worse_by: shown(found.difference.point),
            at_worst: Some(shown(at_worst)),
            margin: shown(quantity.margin),
            p: Some(tested.p),
            p_adjusted: Some(p_adjusted),
            test: Some(found.test.name()),
            n: found.difference.n,
            clusters: found.clusters,
            design_effect: found.design_effect,
            n_worse: found.wins,
            n_better: found.losses,
        }
    }
}

/// Means of reference and candidate over the questions that both have; of stalls, their shares.
fn means(quantity: &Quantity, group: &Group, pairs: &Pairs) -> (f64, f64) {
    let both = group.questions.iter().filter_map(|at| pairs.reference[*at].zip(pairs.candidate[*at]));
    let shown = both.map(|(reference, candidate)| match quantity.form {
        Form::Stall { .. } => {
            let worsening = quantity.worsening(candidate, reference);
            ((-worsening).max(0.0), worsening.max(0.0))
        }
        _ => (reference, candidate),
    });
    let (sums, n) = shown.fold(((0.0, 0.0), 0usize), |((left, right), n), pair| ((left + pair.0, right + pair.1), n + 1));
    (sums.0 / n.max(1) as f64, sums.1 / n.max(1) as f64)
}

/// What a decision is made from.
struct Facts {
    worse_by: f64,
    at_worst: f64,
    margin: f64,
    /// The margin, and what the machine's unsteadiness adds to it.
    needed: f64,
    is_relevant: bool,
    p_adjusted: f64,
    unit: Unit,
}

impl Facts {
    fn decide(&self, found: &Comparison, policy: &Policy) -> (Outcome, String) {
        let changes = match self.unit {
            Unit::Ratio => format!("{} of {} queries slower", found.wins, found.difference.n),
            _ => format!("{} questions worse, {} better of {}", found.wins, found.losses, found.difference.n),
        };
        let size = self.words(self.worse_by);
        let is_sure = self.p_adjusted <= policy.alpha;
        if found.wins + found.losses == 0 {
            return (Outcome::Pass, "no question changed".to_owned());
        }
        if found.difference.n < policy.min_n {
            let reason = format!("{} questions, the policy asks for at least {}", found.difference.n, policy.min_n);
            return (Outcome::Inconclusive, reason);
        }
        if !self.is_relevant {
            return (Outcome::Pass, format!("{changes}; {size}, too few milliseconds to matter"));
        }
        if is_sure && self.worse_by > self.needed {
            return (
                Outcome::Regressed,
                format!("{changes}; {size}, margin {}, adjusted p {}", self.words(self.margin), p_words(self.p_adjusted)),
            );
        }
        if self.at_worst <= self.margin {
            return (Outcome::Pass, format!("{changes}; {size}, at worst {}", self.words(self.at_worst)));
        }
        (
            Outcome::Inconclusive,
            format!("{changes}; {size}, at worst {}: {}", self.words(self.at_worst), self.why_open(found, is_sure, policy)),
        )
    }

    fn why_open(&self, found: &Comparison, is_sure: bool, policy: &Policy) -> String {
        if is_sure && self.worse_by > self.margin {
            return "the calibration loop says that the machine was unsteady by more than that".to_owned();
        }
        if is_sure {
            return format!("worse for sure, but perhaps within the margin of {}", self.words(self.margin));
        }
        let rule = Rule { alpha: 2.0 * policy.alpha, power: 0.8, margin: Some(self.margin), comparisons: 1 };
        match found.needed(&rule) {
            Some(needed) if self.unit == Unit::Points && needed.questions > found.difference.n as f64 => {
                format!("not shown to be luck nor loss; about {} questions would tell", needed.questions)
            }
            _ => "not shown to be luck nor loss".to_owned(),
        }
    }

    fn words(&self, value: f64) -> String {
        match self.unit {
            Unit::Ratio => format!("{:.2} times as long", value.exp()),
            _ if value < 0.0 => format!("{:.1} points better", -100.0 * value),
            _ => format!("{:.1} points worse", 100.0 * value),
        }
    }
}

/// `0.0004`, `< 0.0001`.
pub fn p_words(p: f64) -> String {
    if p < 1e-4 { "< 0.0001".to_owned() } else { format!("{p:.4}") }
}
