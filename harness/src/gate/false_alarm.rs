//! How often the gate cries wolf: pairs of runs that differ by luck alone, made from the clusters of one recorded run, and judged as if they
//! were a candidate and its reference.
//!
//! Every cluster of a pair is filled with the answers of a cluster of the run that has the same slices: with chance `1 - changed` both sides
//! take the same one (nothing changed), else each takes one of its own. So the sides are exchangeable, questions of one document keep
//! together, and all metrics of a question move together; but a changed question differs as much as two questions do, which is more than a
//! re-run would change it. Exact counts are left out: luck does not move them. The same pairs with answers spoilt on one side give the power.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use super::judge::{Outcome, Pairs, overall};
use super::policy::{Policy, PolicyError};
use super::quantity::{Kind, Quantity, quantities};
use super::run::{Run, Values};
use super::times::Times;
use super::{GateError, Origin, comparable, judge_of};
use crate::rng::Rng;
use crate::spec::VariantKind;
use crate::stats::{Assumptions, Estimate, wilson};
use crate::table::{ALL, primary_of};

/// Draws behind bounds and tests of a simulated pair: fewer than of a real one, for there are hundreds.
const RESAMPLES: usize = 2000;

/// What is simulated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trial {
    /// Pairs of runs.
    pub pairs: usize,
    /// Share of clusters that luck changes.
    pub changed: f64,
    /// Loss in the leading metric that is planted for the power, as a share; zero measures no power.
    pub effect: f64,
    /// Of the draws.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FalseAlarms {
    /// The run behind the pairs.
    pub run: Origin,
    /// Simulated pairs.
    pub pairs: usize,
    /// Share of clusters that luck changed.
    pub changed: f64,
    /// Level of the policy.
    pub alpha: f64,
    /// Tests per pair.
    pub tests: usize,
    /// Pairs in which something regressed.
    pub alarms: usize,
    /// Their share with a 95 % interval (Wilson).
    pub rate: Estimate,
    /// Pairs that were undecided.
    pub inconclusive: usize,
    /// Alarms by what they were about.
    pub by_kind: BTreeMap<&'static str, usize>,
    /// How often a real loss is found.
    pub power: Option<Power>,
}

impl FalseAlarms {
    /// The rate is shown to be above the level.
    pub fn is_too_high(&self) -> bool {
        self.rate.ci_low > self.alpha
    }
}

/// How often a planted loss is found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Power {
    /// Who lost.
    pub variant: VariantKind,
    /// In which metric.
    pub metric: String,
    /// How much, as a share.
    pub effect: f64,
    /// Share of pairs in which the gate named that variant and metric, over all questions or in a slice.
    pub gate: Estimate,
    /// Share of pairs in which the one test over all questions, read alone, was significant.
    pub alone: Estimate,
    /// The same as the planner has it, from the discordance and design effect of the pairs.
    pub planned: f64,
}

/// Simulates pairs and judges them.
pub fn measure(run: &Run, policy: &Policy, trial: &Trial) -> Result<FalseAlarms, GateError> {
    let reasons = comparable::reasons(run, run, policy);
    if !reasons.is_empty() {
        return Err(GateError::NotComparable(reasons));
    }
    let mut tested = quantities(run, policy, &Times::steady()).map_err(PolicyError::Problems)?;
    tested.retain(Quantity::is_tested);
    let values: Vec<Values> = tested.iter().map(|quantity| run.values(quantity.variant, &quantity.source)).collect();
    let judge = judge_of(&tested, run, policy, 1.0, RESAMPLES.min(policy.resamples));
    let donors = Donors::of(run, &tested, &values);
    let simulate = |number: usize| {
        let mut rng = Rng::indexed(trial.seed, "false alarms", number as u64);
        let null = donors.pairs(&tested, &values, trial.changed, &mut rng);
        let checks = judge.checks(&null);
        let alarmed = checks.iter().filter(|check| check.outcome == Outcome::Regressed).map(|check| check.kind.name()).collect();
        (overall(&checks), alarmed, null, rng)
    };
    let planted = Planted::of(run, &tested, &values, trial.effect);
    let results: Vec<Simulated> = (0..trial.pairs)
        .into_par_iter()
        .map(|number| {
            let (outcome, alarmed, null, mut rng) = simulate(number);
            let found = planted.as_ref().map(|planted| planted.find(&judge, null, &tested, policy, &mut rng));
            Simulated { outcome, alarmed, found }
        })
        .collect();
    Ok(summary(run, policy, trial, tested.len(), &results, planted.as_ref()))
}

/// One pair, judged.
struct Simulated {
    outcome: Outcome,
    alarmed: Vec<&'static str>,
    found: Option<Found>,
}

/// What became of a planted loss.
#[derive(Clone, Copy)]
struct Found {
    by_gate: bool,
    alone: bool,
    discordance: f64,
    n: usize,
    design_effect: f64,
}

fn summary(run: &Run, policy: &Policy, trial: &Trial, tests: usize, results: &[Simulated], planted: Option<&Planted>) -> FalseAlarms {
    let count = |is: &dyn Fn(&Simulated) -> bool| results.iter().filter(|result| is(result)).count();
    let share = |hits: usize| wilson(hits, results.len(), 0.95).unwrap_or(Estimate { point: 0.0, ci_low: 0.0, ci_high: 1.0, n: 0 });
    let alarms = count(&|result| result.outcome == Outcome::Regressed);
    let mut by_kind = BTreeMap::new();
    for result in results {
        let kinds: std::collections::BTreeSet<&str> = result.alarmed.iter().copied().collect();
        kinds.into_iter().for_each(|kind| *by_kind.entry(kind).or_insert(0) += 1);
    }
    let power = planted.map(|planted| {
        let found: Vec<Found> = results.iter().filter_map(|result| result.found).collect();
        let mean = |of: &dyn Fn(&Found) -> f64| found.iter().map(of).sum::<f64>() / found.len().max(1) as f64;
        let (size, effect) = (cluster_size(run), mean(&|found| found.design_effect));
        // One-sided, as the gate tests.
        let assumed = Assumptions {
            base_rate: 0.5,
            discordance: mean(&|found| found.discordance),
            correlation: if size > 1.0 { ((effect - 1.0) / (size - 1.0)).clamp(0.0, 1.0) } else { 0.0 },
            cluster_size: size,
            seed_deviation: 0.0,
            alpha: (2.0 * policy.alpha).min(1.0),
            power: 0.8,
        };
        Power {
            variant: planted.variant,
            metric: planted.metric.clone(),
            effect: trial.effect,
            gate: share(found.iter().filter(|found| found.by_gate).count()),
            alone: share(found.iter().filter(|found| found.alone).count()),
            planned: assumed.chance(mean(&|found| found.n as f64), trial.effect),
        }
    });
    FalseAlarms {
        run: Origin::of(run),
        pairs: results.len(),
        changed: trial.changed,
        alpha: policy.alpha,
        tests,
        alarms,
        rate: share(alarms),
        inconclusive: count(&|result| result.outcome == Outcome::Inconclusive),
        by_kind,
        power,
    }
}

/// Questions per cluster, as they weigh in the design effect: the sum of squared sizes over the number of questions.
fn cluster_size(run: &Run) -> f64 {
    let mut sizes = BTreeMap::<&str, f64>::new();
    run.samples.iter().for_each(|sample| *sizes.entry(sample.cluster_id()).or_default() += 1.0);
    let (squares, sum) = sizes.values().fold((0.0, 0.0), |(squares, sum), size| (squares + size * size, sum + size));
    if sum > 0.0 { squares / sum } else { 1.0 }
}

/// Who may stand in for whom: questions with scores, and those with times.
struct Donors {
    scored: Clusters,
    timed: Clusters,
}

/// Clusters of some questions, and for each the clusters with the same slices.
struct Clusters {
    questions: Vec<Vec<usize>>,
    alike: Vec<Vec<usize>>,
}

impl Donors {
    fn of(run: &Run, tested: &[Quantity], values: &[Values]) -> Self {
        let is_timed = |question: &usize| {
            let mut times = tested.iter().zip(values).filter(|(quantity, _)| quantity.is_timed());
            times.any(|(_, values)| values[*question].is_some())
        };
        let all: Vec<usize> = (0..run.samples.len()).collect();
        let timed = all.iter().copied().filter(is_timed).collect();
        Self { scored: Clusters::of(run, all), timed: Clusters::of(run, timed) }
    }

    /// A pair of runs between which nothing is worse.
    fn pairs(&self, tested: &[Quantity], values: &[Values], changed: f64, rng: &mut Rng) -> Vec<Pairs> {
        let n = values.first().map_or(0, Vec::len);
        let (scored, timed) = (self.scored.draw(n, changed, rng), self.timed.draw(n, changed, rng));
        let of = |(quantity, values): (&Quantity, &Values)| {
            let map = if quantity.is_timed() { &timed } else { &scored };
            let taken = |side: fn(&(usize, usize)) -> usize| map.iter().map(|donors| values[side(donors.as_ref()?)]).collect();
            Pairs { candidate: taken(|donors| donors.0), reference: taken(|donors| donors.1), by_seed: Vec::new() }
        };
        tested.iter().zip(values).map(of).collect()
    }
}

impl Clusters {
    fn of(run: &Run, questions: Vec<usize>) -> Self {
        let mut by_cluster = BTreeMap::<&str, Vec<usize>>::new();
        for question in questions {
            by_cluster.entry(run.samples[question].cluster_id()).or_default().push(question);
        }
        let questions: Vec<Vec<usize>> = by_cluster.into_values().collect();
        let kind = |questions: &[usize]| {
            let mut slices: Vec<_> = questions.iter().map(|question| &run.samples[*question].slices).collect();
            slices.sort();
            slices.dedup();
            slices
        };
        let mut by_kind = BTreeMap::<_, Vec<usize>>::new();
        for (number, members) in questions.iter().enumerate() {
            by_kind.entry(kind(members)).or_default().push(number);
        }
        let alike = questions.iter().map(|members| by_kind[&kind(members)].clone()).collect();
        Self { questions, alike }
    }

    /// For every question whose answers the candidate and the reference take.
    fn draw(&self, n: usize, changed: f64, rng: &mut Rng) -> Vec<Option<(usize, usize)>> {
        let mut map = vec![None; n];
        for (questions, alike) in self.questions.iter().zip(&self.alike) {
            let left = &self.questions[*rng.choose(alike)];
            let right = if rng.chance(changed) { &self.questions[*rng.choose(alike)] } else { left };
            for (place, question) in questions.iter().enumerate() {
                map[*question] = Some((left[place % left.len()], right[place % right.len()]));
            }
        }
        map
    }
}

/// A loss of the variant that has most to lose in the leading metric.
struct Planted {
    index: usize,
    variant: VariantKind,
    metric: String,
    /// Chance that a right answer is spoilt.
    chance: f64,
}

impl Planted {
    fn of(run: &Run, tested: &[Quantity], values: &[Values], effect: f64) -> Option<Self> {
        let metric = primary_of(&run.scores.metrics, run.data.mean_reference_words())?.id.clone();
        let mean = |values: &Values| values.iter().flatten().sum::<f64>() / values.iter().flatten().count().max(1) as f64;
        let own = tested.iter().enumerate().filter(|(_, quantity)| quantity.metric == metric && quantity.slice == ALL);
        let (index, quantity) = own.max_by(|left, right| mean(&values[left.0]).total_cmp(&mean(&values[right.0])))?;
        let level = mean(&values[index]);
        (effect > 0.0 && level > 0.0).then(|| Self { index, variant: quantity.variant, metric, chance: (effect / level).min(1.0) })
    }

    fn find(&self, judge: &super::judge::Judge, mut pairs: Vec<Pairs>, tested: &[Quantity], policy: &Policy, rng: &mut Rng) -> Found {
        let is_own = |quantity: &Quantity| quantity.variant == self.variant && quantity.metric == self.metric;
        let n = pairs[self.index].candidate.len();
        let spoilt: Vec<bool> = (0..n).map(|_| rng.chance(self.chance)).collect();
        for (_, pairs) in tested.iter().zip(&mut pairs).filter(|(quantity, _)| is_own(quantity)) {
            let values = pairs.candidate.iter_mut().zip(&spoilt);
            values.filter(|(_, spoilt)| **spoilt).for_each(|(value, _)| *value = value.map(|_| 0.0));
        }
        let both: Vec<f64> = pairs[self.index]
            .candidate
            .iter()
            .zip(&pairs[self.index].reference)
            .filter_map(|(left, right)| Some(left.as_ref()? - right.as_ref()?))
            .collect();
        let checks = judge.checks(&pairs);
        let own = |check: &&super::Check| check.variant == self.variant && check.metric == self.metric;
        let whole = checks.iter().filter(own).find(|check| check.slice == ALL);
        Found {
            by_gate: checks.iter().filter(own).any(|check| check.outcome == Outcome::Regressed && check.kind == Kind::Accuracy),
            alone: whole.and_then(|check| check.p).is_some_and(|p| p <= policy.alpha),
            discordance: both.iter().map(|difference| difference * difference).sum::<f64>() / both.len().max(1) as f64,
            n: both.len(),
            design_effect: whole.and_then(|check| check.design_effect).unwrap_or(1.0),
        }
    }
}
