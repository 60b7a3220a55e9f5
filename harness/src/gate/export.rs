//! A report for machines: JUnit XML, SARIF, Bencher Metric Format, JSON.

use std::path::Path;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde_json::{Map, Value, json};

use super::GateReport;
use super::judge::{Check, Outcome, Unit};
use super::run::{Run, Source};
use crate::stats::{Estimate, Resampler, quantile_interval};
use crate::table::Stage;
use crate::table::metric::SHARE;

/// GitHub stores 5,000 results of an upload and drops the rest.
const SARIF_RESULTS: usize = 5000;

/// The report as JSON, every check and every flip.
pub fn json(report: &GateReport) -> String {
    format!("{:#}\n", serde_json::to_value(report).expect("a report is plain data"))
}

/// JUnit XML: a suite per variant and slice, a case per check. A regression is a failure; an undecided check is skipped, or a failure where the
/// policy stops at it, so that the file and the exit code say the same.
pub fn junit(report: &GateReport) -> String {
    let mut junit = Report::new("ragft gate");
    let mut suites: Vec<(String, TestSuite)> = Vec::new();
    for check in &report.checks {
        let name = format!("{}.{}", check.variant.name(), check.slice);
        let place = suites.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            suites.push((name.clone(), TestSuite::new(name.clone())));
            suites.len() - 1
        });
        suites[place].1.add_test_case(case(report, check, &name));
    }
    junit.add_test_suites(suites.into_iter().map(|(_, suite)| suite));
    junit.to_string().expect("a report is text")
}

fn case(report: &GateReport, check: &Check, suite: &str) -> TestCase {
    let stops = check.outcome == Outcome::Inconclusive && !check.is_slice() && report.exit_code() == 3;
    let mut status = match check.outcome {
        Outcome::Regressed => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Outcome::Inconclusive if stops => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Outcome::Inconclusive => TestCaseStatus::skipped(),
        Outcome::Pass => TestCaseStatus::success(),
    };
    if check.outcome != Outcome::Pass {
        status.set_message(check.reason.clone());
        status.set_type(check.outcome.name());
    }
    let mut case = TestCase::new(check.metric.clone(), status);
    case.set_classname(format!("ragft.{suite}"));
    case.set_system_out(check.reason.clone());
    case
}

/// SARIF 2.1.0: a rule per kind of check, a result per check that did not pass. The location is the candidate's manifest, for the format needs
/// one and a score has no line.
pub fn sarif(report: &GateReport) -> String {
    let mut kinds: Vec<super::quantity::Kind> = report.checks.iter().map(|check| check.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let rule = |kind: &super::quantity::Kind| {
        let text = format!("The candidate's {} must not be worse than the reference's by more than the policy's margin", kind.name());
        json!({ "id": format!("ragft/{}", kind.name()), "name": kind.name(), "shortDescription": { "text": text } })
    };
    let rules: Vec<Value> = kinds.iter().map(rule).collect();
    let mut open: Vec<&Check> = report.checks.iter().filter(|check| check.outcome != Outcome::Pass).collect();
    open.sort_by_key(|check| std::cmp::Reverse(check.outcome));
    let results: Vec<Value> = open.into_iter().take(SARIF_RESULTS).map(|check| result(report, check)).collect();
    let driver = json!({ "name": "ragft", "semanticVersion": env!("CARGO_PKG_VERSION"), "rules": rules });
    let run = json!({ "tool": { "driver": driver }, "results": results, "columnKind": "unicodeCodePoints" });
    let log = json!({ "$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run] });
    format!("{log:#}\n")
}

fn result(report: &GateReport, check: &Check) -> Value {
    let level = match check.outcome {
        Outcome::Regressed => "error",
        Outcome::Inconclusive => "warning",
        Outcome::Pass => "none",
    };
    let folder = report.candidate.folder.replace('\\', "/").replace('%', "%25").replace(' ', "%20");
    let root = if Path::new(&report.candidate.folder).is_absolute() { "file://" } else { "" };
    let uri = format!("{root}{}/manifest.json", folder.trim_end_matches('/'));
    let location = json!({ "artifactLocation": { "uri": uri }, "region": { "startLine": 1 } });
    // One alert per check, whatever its figures are next time.
    let fingerprint = blake3::hash(check.name().as_bytes()).to_hex();
    json!({
        "ruleId": format!("ragft/{}", check.kind.name()),
        "level": level,
        "message": { "text": format!("{} {}: {}", check.name(), check.outcome.name(), check.reason) },
        "locations": [{ "physicalLocation": location }],
        "partialFingerprints": { "ragftCheck/v1": fingerprint.as_str() },
        "properties": { "worse_by": check.worse_by, "margin": check.margin, "p_adjusted": check.p_adjusted },
    })
}

/// Bencher Metric Format: the candidate's own figures, by variant and slice: gated scores with their intervals, counters, median times.
/// Measures are named as in tables; Bencher draws them over time.
pub fn bmf(report: &GateReport, candidate: &Run) -> String {
    let mut benchmarks = Map::new();
    for check in &report.checks {
        let name = if check.is_slice() { format!("{}/{}", check.variant.name(), check.slice) } else { check.variant.name().to_owned() };
        let Some((measure, figures)) = figures(check, candidate) else { continue };
        let measures = benchmarks.entry(name).or_insert_with(|| Value::Object(Map::new()));
        measures.as_object_mut().expect("just made").insert(measure, figures);
    }
    format!("{:#}\n", Value::Object(benchmarks))
}

fn figures(check: &Check, candidate: &Run) -> Option<(String, Value)> {
    let metric = |estimate: Estimate| json!({ "value": estimate.point, "lower_value": estimate.ci_low, "upper_value": estimate.ci_high });
    let confidence = candidate.manifest().spec.measure.confidence;
    if check.unit == Unit::Percent {
        return Some((check.metric.clone(), json!({ "value": check.candidate })));
    }
    if check.unit == Unit::Ratio {
        let stage = Stage::ALL.into_iter().find(|stage| check.metric == format!("{}_ms", stage.name()))?;
        let mut times: Vec<f64> = candidate.values(check.variant, &Source::Stage(stage)).into_iter().flatten().collect();
        times.sort_by(f64::total_cmp);
        return Some((format!("{}_p50_ms", stage.name()), metric(quantile_interval(&times, 0.5, confidence)?)));
    }
    if check.metric == "stalled_queries" {
        return None;
    }
    let values = candidate.values(check.variant, &Source::of_metric(&check.metric));
    let members = crate::table::slices_of(&candidate.data).into_iter().find(|(name, _)| *name == check.slice)?.1;
    let chosen: Vec<Option<f64>> = members.iter().map(|question| values[*question]).collect();
    let spec = &candidate.manifest().spec;
    let clusters = members.iter().map(|question| candidate.samples[*question].cluster_id());
    let resampler = Resampler::new(clusters, spec.seeds.first().copied().unwrap_or(0), spec.measure.bootstrap_resamples, confidence);
    let is_share = crate::table::Metric::of(&check.metric).unit == SHARE;
    let estimate = if is_share { resampler.share(&chosen) } else { resampler.mean(&chosen) };
    Some((check.metric.clone(), metric(estimate?)))
}
