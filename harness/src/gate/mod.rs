//! The gate: a candidate run against a reference run, question by question.
//!
//! First whether the two can be compared at all ([`GateError::NotComparable`] names every reason against it), then one [`Check`] per
//! variant, slice and quantity. A check has regressed when the candidate is worse by more than the policy's margin *and* that is not luck:
//! paired tests over clusters, read together so that a candidate in which nothing is worse is stopped with a chance of at most
//! `alpha`. [`false_alarm`] measures that chance. Exact counts (tokens, operations) need no test. The same folders and policy give the same
//! report; no clock, no model.

pub mod comparable;
pub mod export;
pub mod false_alarm;
pub mod flips;
pub mod history;
pub mod judge;
pub mod policy;
pub mod quantity;
pub mod render;
pub mod run;
#[cfg(test)]
mod tests;
mod times;

use std::path::Path;

use serde::Serialize;

pub use flips::Flip;
pub use judge::{Check, Outcome};
use judge::{Judge, Pairs, overall};
pub use policy::{OnInconclusive, Policy, PolicyError};
use quantity::{Quantity, quantities};
use run::{Run, Source, Values};
use times::Times;

use crate::diagnostic::Hint;
use crate::spec::VariantKind;
use crate::table::{ALL, TableError, primary_of, slices_of};

/// Why two runs were not judged.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// A folder cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The runs differ in what they must share.
    #[error("the runs cannot be compared:{}", .0.iter().map(|reason| format!("\n  {reason}")).collect::<String>())]
    NotComparable(Vec<String>),
}

impl Hint for GateError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Table(error) => error.hint(),
            Self::Policy(error) => error.hint(),
            Self::NotComparable(_) => Some("record a new reference, or take from `require` in the policy what may differ".into()),
        }
    }
}

/// Where a run came from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Origin {
    /// Its folder as given.
    pub folder: String,
    /// Its name in the spec.
    pub name: String,
    /// Hash of its plan.
    pub run_id: String,
    /// Hash of its results.
    pub result_hash: Option<String>,
    /// Commit, if known.
    pub git_commit: Option<String>,
    /// UTC, ISO 8601.
    pub started_at: String,
}

impl Origin {
    fn of(run: &Run) -> Self {
        let manifest = run.manifest();
        Self {
            folder: run.path.display().to_string(),
            name: manifest.spec.name.clone(),
            run_id: manifest.run_id.clone(),
            result_hash: manifest.result_hash.clone(),
            git_commit: manifest.git_commit.clone(),
            started_at: manifest.started_at.clone(),
        }
    }
}

/// What the gate says, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateReport {
    /// Of all checks.
    pub outcome: Outcome,
    /// One sentence.
    pub headline: String,
    /// The run under test.
    pub candidate: Origin,
    /// What it is held against.
    pub reference: Origin,
    /// By variant; within it scores by slice, counters, times.
    pub checks: Vec<Check>,
    /// Metric by which a question is right or wrong.
    pub flip_metric: Option<String>,
    /// Questions that changed sides.
    pub flips: Vec<Flip>,
    /// What a reader must know, in words.
    pub notes: Vec<String>,
    /// As used.
    pub policy: Policy,
}

impl GateReport {
    /// 0, or 1 for a regression, or 3 if nothing is decided and the policy says to stop.
    pub fn exit_code(&self) -> u8 {
        match (self.outcome, self.policy.on_inconclusive) {
            (Outcome::Pass, _) | (Outcome::Inconclusive, OnInconclusive::Pass) => 0,
            (Outcome::Regressed, _) => 1,
            (Outcome::Inconclusive, OnInconclusive::Fail) => 3,
        }
    }

    /// Checks with this outcome.
    pub fn with(&self, outcome: Outcome) -> impl Iterator<Item = &Check> {
        self.checks.iter().filter(move |check| check.outcome == outcome)
    }
}

/// Holds the candidate's folder against the reference's.
pub fn compare(candidate: &Path, reference: &Path, policy: &Policy) -> Result<GateReport, GateError> {
    compare_runs(&Run::read(candidate)?, &Run::read(reference)?, policy)
}

/// The same of runs that were read.
pub fn compare_runs(candidate: &Run, reference: &Run, policy: &Policy) -> Result<GateReport, GateError> {
    let reasons = comparable::reasons(candidate, reference, policy);
    if !reasons.is_empty() {
        return Err(GateError::NotComparable(reasons));
    }
    let times = Times::of(candidate, reference);
    let quantities = quantities(reference, policy, &times).map_err(PolicyError::Problems)?;
    let pairs: Vec<Pairs> = quantities.iter().map(|quantity| paired(quantity, candidate, reference, times.scale)).collect();
    let checks = judge_of(&quantities, reference, policy, times.unsteadiness, policy.resamples).checks(&pairs);
    let metric = primary_of(&reference.scores.metrics, reference.data.mean_reference_words()).map(|metric| metric.id.clone());
    let outcome = overall(&checks);
    Ok(GateReport {
        outcome,
        headline: headline(outcome, &checks),
        candidate: Origin::of(candidate),
        reference: Origin::of(reference),
        checks,
        flips: metric.as_ref().map_or_else(|| Ok(Vec::new()), |metric| flips::flips(candidate, reference, metric))?,
        flip_metric: metric,
        notes: notes(candidate, reference, times.notes),
        policy: policy.clone(),
    })
}

/// The judge over the questions of a run.
fn judge_of<'a>(quantities: &'a [Quantity], run: &Run, policy: &'a Policy, unsteadiness: f64, resamples: usize) -> Judge<'a> {
    let slices = slices_of(&run.data);
    let clusters: Vec<&str> = run.samples.iter().map(crate::dataset::Sample::cluster_id).collect();
    let members = |quantity: &Quantity| {
        let questions = slices.iter().find(|(name, _)| *name == quantity.slice).map_or_else(Vec::new, |(_, questions)| questions.clone());
        if !quantity.is_timed() {
            return questions;
        }
        // The latency pass asks some of the questions only.
        let timed = run.values(quantity.variant, &quantity.source);
        questions.into_iter().filter(|question| timed[*question].is_some()).collect()
    };
    Judge::new(quantities, policy, unsteadiness, &clusters, resamples, members)
}

/// Values of both runs in the order of the reference's questions.
fn paired(quantity: &Quantity, candidate: &Run, reference: &Run, scale: f64) -> Pairs {
    let scale = if matches!(quantity.source, Source::Stage(_)) { scale } else { 1.0 };
    let aligned = |of: &Values| -> Values {
        let value = |id: &str| candidate.index_of(id).and_then(|index| of[index]).map(|value| value * scale);
        reference.samples.iter().map(|sample| value(&sample.id)).collect()
    };
    Pairs {
        candidate: aligned(&candidate.values(quantity.variant, &quantity.source)),
        reference: reference.values(quantity.variant, &quantity.source),
        by_seed: match &quantity.source {
            Source::Metric(metric) => by_seed(quantity.variant, metric, candidate, reference, aligned),
            _ => Vec::new(),
        },
    }
}

/// Values by training seed, if both runs have the same ones.
fn by_seed(
    variant: VariantKind,
    metric: &str,
    candidate: &Run,
    reference: &Run,
    aligned: impl Fn(&Values) -> Values,
) -> Vec<(Values, Values)> {
    let seeds = candidate.scores.by_seed(variant, metric).zip(reference.scores.by_seed(variant, metric));
    let Some((of, to)) = seeds.filter(|(of, to)| of.keys().eq(to.keys())) else { return Vec::new() };
    of.values().zip(to.values()).map(|(of, to)| (aligned(&of.values()), to.values())).collect()
}

fn notes(candidate: &Run, reference: &Run, mut notes: Vec<String>) -> Vec<String> {
    let (of, to) = (candidate.manifest(), reference.manifest());
    if of.result_hash == to.result_hash {
        notes.insert(0, "the result hashes are equal: nothing but times can differ".to_owned());
    } else if of.run_id == to.run_id && of.machine.features == to.machine.features && of.machine.device == to.machine.device {
        notes.push("the plan is the same and the results differ: the code has changed, or something is not deterministic".to_owned());
    }
    for name in ["model", "tokenizer", "embedder", "prompt", "dataset"] {
        if of.hashes.get(name) != to.hashes.get(name) {
            notes.push(format!("the {name} differs"));
        }
    }
    if let (Some(of), Some(to)) = (&of.model.served, &to.model.served)
        && !(of.fingerprints.is_empty() || to.fingerprints.is_empty() || of.fingerprints == to.fingerprints)
    {
        let (of, to) = (of.fingerprints.join(", "), to.fingerprints.join(", "));
        notes.push(format!(
            "the server calls itself otherwise (candidate {of}, reference {to}): its model, software or settings may have changed"
        ));
    }
    let is_retrained = of.hashes.iter().any(|(name, hash)| name.starts_with("adapter/") && to.hashes.get(name) != Some(hash));
    if is_retrained && to.spec.seeds.len() == 1 {
        notes.push(
            "trained anew with one seed: what training luck does to the tuned variants is not told from what the change does".to_owned(),
        );
    }
    let more = candidate.data.variants().into_iter().filter(|variant| !reference.data.variants().contains(variant));
    notes.extend(more.map(|variant| format!("`{}` is in the candidate only and is not gated", variant.name())));
    if of.spec.dataset.limit > 0 {
        notes.push(format!("limited to {} questions: not for reporting", of.spec.dataset.limit));
    }
    notes.extend(candidate.data.notes.iter().map(|note| format!("candidate: {note}")));
    notes.extend(reference.data.notes.iter().map(|note| format!("reference: {note}")));
    notes
}

fn headline(outcome: Outcome, checks: &[Check]) -> String {
    let names = |outcome: Outcome| checks.iter().filter(move |check| check.outcome == outcome);
    let list = |outcome: Outcome| {
        let all: Vec<String> =
            names(outcome).filter(|check| outcome == Outcome::Regressed || check.slice == ALL).map(Check::name).collect();
        let shown = all.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        if all.len() > 5 { format!("{shown} and {} more", all.len() - 5) } else { shown }
    };
    match outcome {
        Outcome::Regressed => format!("regressed: {}", list(Outcome::Regressed)),
        Outcome::Inconclusive if checks.is_empty() => "inconclusive: there is nothing to compare".to_owned(),
        Outcome::Inconclusive => format!("inconclusive: {}", list(Outcome::Inconclusive)),
        Outcome::Pass => match names(Outcome::Inconclusive).count() {
            0 => format!("pass: {} checks, none worse", checks.len()),
            open => format!("pass: {} checks, none worse over all questions; {open} slices are too small to tell", checks.len()),
        },
    }
}
