//! What is compared: one quantity per variant, slice and metric, and how much worse one question is on the candidate's side.

use serde::Serialize;

use super::policy::{Counter, FAILED, FORMAT_FAILURE, PRIMARY, Policy, stem};
use super::run::{Run, Source};
use super::times::Times;
use crate::diagnostic::nearest;
use crate::spec::{SpecProblem, VariantKind};
use crate::table::{ALL, Direction, Kind as MetricKind, Metric, Stage, primary_of, slices_of};

/// What a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Answers against references.
    Accuracy,
    /// Passages against relevant documents, and against exact search.
    Retrieval,
    /// Form of answers and prompts.
    Format,
    /// Questions without an answer.
    Failures,
    /// Exact counters.
    Cost,
    /// Times.
    Latency,
}

impl Kind {
    /// Name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Retrieval => "retrieval",
            Self::Format => "format",
            Self::Failures => "failures",
            Self::Cost => "cost",
            Self::Latency => "latency",
        }
    }

    fn of_metric(name: &str) -> Self {
        match (name, Metric::of(name).kind) {
            (FAILED, _) => Self::Failures,
            (FORMAT_FAILURE, _) => Self::Format,
            (_, MetricKind::Answer) => Self::Accuracy,
            (_, MetricKind::Retrieval) => Self::Retrieval,
            (name, MetricKind::Diagnostic) if name.starts_with("ann_recall") => Self::Retrieval,
            (_, MetricKind::Diagnostic) => Self::Format,
        }
    }
}

/// How two values of one question are held against each other. Every form changes its sign when the runs change places.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Form {
    /// Difference of scores.
    Points {
        /// Whether more is better.
        is_higher_better: bool,
    },
    /// Growth of an exact count; no test.
    Growth,
    /// Logarithm of the ratio of two times; both the ratio and the difference must be large.
    Ratio {
        /// Milliseconds that do not matter.
        min_ms: f64,
    },
    /// Whether the query stalled in one run and not in the other.
    Stall {
        /// More than this many times as long ..
        ratio: f64,
        /// .. and more than this much longer, after
        ms: f64,
        /// the other run's time was taken this many times as long, for the machine's sake.
        unsteadiness: f64,
    },
}

/// One thing that is compared.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantity {
    /// What it is about.
    pub kind: Kind,
    /// Whose.
    pub variant: VariantKind,
    /// `all`, or a tag and its value.
    pub slice: String,
    /// Id of the metric, counter or stage.
    pub metric: String,
    /// Where values come from.
    pub source: Source,
    /// How they are compared.
    pub form: Form,
    /// Worsening that does not matter: a share, or the logarithm of a ratio.
    pub margin: f64,
}

impl Quantity {
    /// How much worse the candidate is on one question.
    pub fn worsening(&self, candidate: f64, reference: f64) -> f64 {
        match self.form {
            Form::Points { is_higher_better: true } => reference - candidate,
            Form::Points { is_higher_better: false } | Form::Growth => candidate - reference,
            Form::Ratio { .. } => candidate.max(f64::MIN_POSITIVE).ln() - reference.max(f64::MIN_POSITIVE).ln(),
            Form::Stall { ratio, ms, unsteadiness } => {
                let stalled = |here: f64, there: f64| here > there * unsteadiness * ratio && here - there * unsteadiness > ms;
                f64::from(i8::from(stalled(candidate, reference)) - i8::from(stalled(reference, candidate)))
            }
        }
    }

    /// It is tested, not counted.
    pub fn is_tested(&self) -> bool {
        self.form != Form::Growth
    }

    /// It is of the latency pass, which asks some of the questions only.
    pub fn is_timed(&self) -> bool {
        matches!(self.source, Source::Stage(_))
    }

    /// It is within a slice.
    pub fn is_slice(&self) -> bool {
        self.slice != ALL
    }
}

/// Everything that the policy asks for and the reference measures. Times are in it only if they can be compared.
///
/// # Errors
/// Names of the policy that mean nothing for these runs.
pub(super) fn quantities(run: &Run, policy: &Policy, timing: &Times) -> Result<Vec<Quantity>, Vec<SpecProblem>> {
    let problems = unknown_names(run, policy);
    if !problems.is_empty() {
        return Err(problems);
    }
    let is_gated = |variant: &VariantKind| policy.variants.is_empty() || policy.variants.contains(variant);
    let mut found = Vec::new();
    for variant in run.data.variants().into_iter().filter(is_gated) {
        found.extend(scores(run, policy, variant));
        let counters = policy.counters.iter().map(|counter| of_counter(policy, variant, *counter));
        found.extend(counters);
        // Given times were taken elsewhere, and the calibration of this run says nothing of them.
        if !variant.is_predicted() {
            found.extend(times(policy, variant, timing));
        }
    }
    let is_measured = |quantity: &Quantity| {
        // What was not given with the answers stands as zero.
        let may_be_missing = quantity.variant.is_predicted() && matches!(quantity.source, Source::Counter(_));
        let may_be_zero = !(quantity.is_timed() || may_be_missing);
        run.values(quantity.variant, &quantity.source).iter().any(|value| value.is_some_and(|value| value != 0.0 || may_be_zero))
    };
    found.retain(is_measured);
    Ok(found)
}

fn scores(run: &Run, policy: &Policy, variant: VariantKind) -> Vec<Quantity> {
    let mut found = Vec::new();
    for (slice, _) in slices_of(&run.data) {
        let is_all = slice == ALL;
        if !is_all && !policy.slices.iter().any(|pattern| matches(pattern, &slice)) {
            continue;
        }
        let names = if is_all { &policy.metrics } else { &policy.slice_metrics };
        let mut metrics: Vec<String> = names.iter().flat_map(|name| resolve(run, name)).collect();
        let mut seen = std::collections::BTreeSet::new();
        metrics.retain(|metric| seen.insert(metric.clone()));
        found.extend(metrics.into_iter().map(|metric| {
            let is_higher_better =
                ![FAILED, FORMAT_FAILURE].contains(&metric.as_str()) && Metric::of(&metric).direction == Direction::Higher;
            Quantity {
                kind: Kind::of_metric(&metric),
                variant,
                slice: slice.clone(),
                source: Source::of_metric(&metric),
                form: Form::Points { is_higher_better },
                margin: policy.margin_of(&metric, !is_all),
                metric,
            }
        }));
    }
    found
}

fn of_counter(policy: &Policy, variant: VariantKind, counter: Counter) -> Quantity {
    Quantity {
        kind: Kind::Cost,
        variant,
        slice: ALL.to_owned(),
        metric: counter.name().to_owned(),
        source: Source::Counter(counter),
        form: Form::Growth,
        margin: policy.growth_of(counter),
    }
}

fn times(policy: &Policy, variant: VariantKind, timing: &Times) -> Vec<Quantity> {
    let latency = &policy.latency;
    let of = |metric: String, stage: Stage, form: Form, margin: f64| Quantity {
        kind: Kind::Latency,
        variant,
        slice: ALL.to_owned(),
        metric,
        source: Source::Stage(stage),
        form,
        margin,
    };
    let ratio = Form::Ratio { min_ms: latency.min_ms };
    let stages = policy
        .stages()
        .filter(|stage| timing.has(*stage))
        .map(|stage| of(format!("{}_ms", stage.name()), stage, ratio, latency.ratio.ln()));
    let mut found: Vec<Quantity> = stages.collect();
    if !found.is_empty() {
        let stall = Form::Stall { ratio: latency.ratio, ms: latency.stall_ms, unsteadiness: timing.unsteadiness };
        found.push(of("stalled_queries".to_owned(), Stage::E2e, stall, latency.stall_share / 100.0));
    }
    found
}

/// Metrics of the run that a name of the policy means.
fn resolve(run: &Run, name: &str) -> Vec<String> {
    match name {
        PRIMARY => primary_of(&run.scores.metrics, run.data.mean_reference_words()).map(|metric| metric.id.clone()).into_iter().collect(),
        FAILED | FORMAT_FAILURE => vec![name.to_owned()],
        _ => run.scores.metrics.iter().map(|metric| &metric.id).filter(|id| *id == name || stem(id) == name).cloned().collect(),
    }
}

/// `*` means every slice, `knowledge=*` every value of one tag.
fn matches(pattern: &str, slice: &str) -> bool {
    pattern == "*" || pattern == slice || pattern.strip_suffix('*').is_some_and(|prefix| prefix.ends_with('=') && slice.starts_with(prefix))
}

fn unknown_names(run: &Run, policy: &Policy) -> Vec<SpecProblem> {
    let mut problems = Vec::new();
    let mut add = |key: &str, name: &str, what: &str, valid: Vec<&str>| {
        let near = nearest(name, valid.iter().copied())
            .map_or_else(|| format!("it has {}", valid.join(", ")), |near| format!("did you mean `{near}`?"));
        problems.push(SpecProblem {
            key: key.to_owned(),
            line: None,
            message: format!("names `{name}`, which is no {what} of the reference; {near}"),
        });
    };
    for (key, names) in [("metrics", &policy.metrics), ("slice_metrics", &policy.slice_metrics)] {
        for name in names.iter().filter(|name| !policy.knows(name) && resolve(run, name).is_empty()) {
            let measured = run.scores.metrics.iter().map(|metric| metric.id.as_str());
            add(key, name, "metric", measured.chain(policy.known()).collect());
        }
    }
    let slices: Vec<String> = slices_of(&run.data).into_iter().map(|(name, _)| name).filter(|name| name != ALL).collect();
    for pattern in policy.slices.iter().filter(|pattern| *pattern != "*" && !slices.iter().any(|slice| matches(pattern, slice))) {
        add("slices", pattern, "slice", slices.iter().map(String::as_str).collect());
    }
    for variant in policy.variants.iter().filter(|variant| !run.data.variants().contains(variant)) {
        add("variants", variant.name(), "variant", run.data.variants().into_iter().map(VariantKind::name).collect());
    }
    problems
}
