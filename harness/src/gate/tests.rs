//! Planted regressions on made-up run folders: each is caught and named, and what did not get worse passes.

use std::collections::BTreeSet;

use super::false_alarm::{self, Trial};
use super::history::{History, HistoryError};
use super::judge::Unit;
use super::quantity::Kind;
use super::run::Run;
use super::*;
use crate::rng::Rng;
use crate::spec::VariantKind::{self, Baseline, Finetuned, Hybrid, Rag};
use crate::store::manifest::{ServedEmbedderRecord, ServedRecord};
use crate::store::row::{JournalRow, Phase};
use crate::table::testing::{Fixture, calibration, realistic};

const VARIANTS: [VariantKind; 4] = [Baseline, Rag, Finetuned, Hybrid];

fn reference() -> Fixture {
    realistic(&VARIANTS, 300)
}

fn run_of(fixture: &Fixture) -> Run {
    let folder = tempfile::tempdir().unwrap();
    fixture.write(folder.path());
    Run::read(folder.path()).unwrap()
}

/// The same code once more: what is counted is equal, times are not.
fn again() -> Fixture {
    let mut fixture = reference();
    let mut rng = Rng::new(9, "jitter");
    for row in timed(&mut fixture, None) {
        let factor = (0.04 * rng.normal()).exp();
        scale(row, factor);
    }
    fixture
}

fn scale(row: &mut JournalRow, factor: f64) {
    let by = |time: &mut u64| *time = (*time as f64 * factor) as u64;
    let stages = &mut row.stage_ns;
    for time in [&mut stages.embed, &mut stages.search, &mut stages.prompt, &mut stages.prefill, &mut stages.decode] {
        by(time);
    }
    by(&mut row.ttft_ns);
    by(&mut row.e2e_ns);
}

fn timed(fixture: &mut Fixture, variant: Option<VariantKind>) -> impl Iterator<Item = &mut JournalRow> {
    let is_it = move |row: &JournalRow| row.phase == Phase::Latency && variant.is_none_or(|variant| row.variant == variant.name());
    fixture.rows.iter_mut().filter(move |row| is_it(row))
}

/// Every `nth` sound row of the accuracy pass of a variant for which `is` holds.
fn nth<'a>(
    fixture: &'a mut Fixture,
    variant: VariantKind,
    nth: usize,
    is: impl Fn(&JournalRow) -> bool + 'a,
) -> impl Iterator<Item = &'a mut JournalRow> {
    let sound =
        move |row: &&mut JournalRow| row.phase == Phase::Accuracy && row.variant == variant.name() && row.error.is_none() && is(row);
    fixture.rows.iter_mut().filter(sound).step_by(nth)
}

fn is_right(row: &JournalRow) -> bool {
    row.scores["exact_match"] == 1.0
}

fn judged_by(policy: &str, candidate: &Fixture, reference: &Fixture) -> Result<GateReport, GateError> {
    compare_runs(&run_of(candidate), &run_of(reference), &Policy::parse(policy).unwrap())
}

fn judged(mut candidate: Fixture) -> GateReport {
    candidate.manifest.result_hash = Some("c".repeat(64));
    judged_by("", &candidate, &reference()).unwrap()
}

fn regressed(report: &GateReport) -> Vec<String> {
    report.with(Outcome::Regressed).map(Check::name).collect()
}

fn check<'a>(report: &'a GateReport, name: &str) -> &'a Check {
    report.checks.iter().find(|check| check.name() == name).unwrap_or_else(|| panic!("no check `{name}`"))
}

#[test]
fn an_unchanged_run_passes_and_says_so() {
    let report = judged_by("on_inconclusive = \"fail\"", &again(), &reference()).unwrap();
    assert_eq!((report.outcome, report.exit_code()), (Outcome::Pass, 0), "{}", render::terminal(&report));
    assert!(report.flips.is_empty());
    assert_eq!(check(&report, "rag exact_match").reason, "no question changed");
    assert!(report.notes[0].starts_with("the result hashes are equal"), "{:?}", report.notes);
    assert!(report.checks.len() > 60 && report.headline.ends_with("checks, none worse"), "{}", report.headline);
}

#[test]
fn another_thread_count_passes_and_its_times_are_not_compared() {
    let mut candidate = reference();
    candidate.manifest.machine.threads = 1;
    timed(&mut candidate, None).for_each(|row| scale(row, 1.9));
    let report = judged_by("", &candidate, &reference()).unwrap();
    assert_eq!(report.outcome, Outcome::Pass);
    assert!(report.checks.iter().all(|check| check.kind != Kind::Latency));
    assert!(report.notes.contains(&"times are not compared: threads differ (candidate 1, reference 2)".to_owned()), "{:?}", report.notes);
}

#[test]
fn a_loss_in_one_slice_is_named_with_its_questions() {
    let mut candidate = again();
    let fresh: Vec<String> =
        candidate.samples.iter().filter(|sample| sample.slices["knowledge"] == "fresh").map(|sample| sample.id.clone()).collect();
    let lost: Vec<String> = nth(&mut candidate, Rag, 3, move |row| is_right(row) && fresh.contains(&row.sample_id))
        .map(|row| {
            for metric in ["exact_match", "token_f1", "contains"] {
                row.scores.insert(metric.to_owned(), 0.0);
            }
            row.answer = "red".to_owned();
            row.sample_id.clone()
        })
        .collect();
    let report = judged(candidate);
    assert_eq!(report.exit_code(), 1);
    assert!(regressed(&report).contains(&"rag exact_match in knowledge=fresh".to_owned()), "{:?}", regressed(&report));
    assert!(regressed(&report).iter().all(|name| name.starts_with("rag exact_match")), "{:?}", regressed(&report));
    assert!(check(&report, "rag exact_match in knowledge=known").reason.starts_with("no question changed"));
    let flips: Vec<&str> = report.flips.iter().map(|flip| flip.sample.as_str()).collect();
    assert_eq!(flips, lost);
    assert!(report.flips.iter().all(|flip| flip.is_loss && flip.variant == Rag && flip.candidate == "red" && flip.reference == "blue"));
    let text = render::terminal(&report);
    assert!(text.contains("regressed: rag exact_match in knowledge=fresh: ") && text.contains("lost rag"), "{text}");
}

#[test]
fn lost_recall_is_a_retrieval_regression() {
    let mut candidate = again();
    nth(&mut candidate, Hybrid, 6, |row| row.scores["recall_at_4"] == 1.0).for_each(|row| {
        row.scores.insert("recall_at_4".to_owned(), 0.0);
    });
    let report = judged(candidate);
    assert!(regressed(&report).contains(&"hybrid recall_at_4".to_owned()), "{:?}", regressed(&report));
    assert!(report.with(Outcome::Regressed).all(|check| check.kind == Kind::Retrieval && check.variant == Hybrid));
}

#[test]
fn more_tokens_are_a_regression_without_a_test() {
    let mut candidate = again();
    nth(&mut candidate, Baseline, 1, |_| true).for_each(|row| row.prompt_tokens += 1);
    let report = judged(candidate);
    assert_eq!(regressed(&report), ["baseline prompt_tokens"]);
    let found = check(&report, "baseline prompt_tokens");
    assert!((found.worse_by - 100.0 / 22.0).abs() < 1e-9 && found.p.is_none() && found.unit == Unit::Percent);
    let mut within = again();
    nth(&mut within, Baseline, 3, |_| true).for_each(|row| row.prompt_tokens += 1);
    assert_eq!(judged(within).outcome, Outcome::Pass);
}

#[test]
fn a_stall_of_fifty_milliseconds_is_caught_where_it_is() {
    let mut candidate = again();
    timed(&mut candidate, Some(Rag)).for_each(|row| {
        row.stage_ns.search += 50_000_000;
        row.ttft_ns += 50_000_000;
        row.e2e_ns += 50_000_000;
    });
    let names = regressed(&judged(candidate));
    assert_eq!(names, ["rag search_ms", "rag ttft_ms", "rag e2e_ms", "rag stalled_queries"]);
}

#[test]
fn a_stall_in_one_query_of_four_is_caught_too() {
    let mut candidate = again();
    timed(&mut candidate, Some(Finetuned)).step_by(4).for_each(|row| row.e2e_ns += 50_000_000);
    let report = judged(candidate);
    let stalls = check(&report, "finetuned stalled_queries");
    assert_eq!((stalls.reference, stalls.candidate), (0.0, 0.25));
    let names = regressed(&report);
    assert!(names.contains(&"finetuned stalled_queries".to_owned()) && names.iter().all(|name| name.starts_with("finetuned")), "{names:?}");
}

#[test]
fn right_answers_in_the_wrong_form_are_a_format_regression() {
    let mut candidate = again();
    nth(&mut candidate, Rag, 5, is_right).for_each(|row| {
        row.scores.insert("exact_match".to_owned(), 0.0);
        row.answer = "It is blue.".to_owned();
    });
    let report = judged(candidate);
    assert!(regressed(&report).contains(&"rag format_failure".to_owned()), "{:?}", regressed(&report));
    assert_eq!(check(&report, "rag format_failure").kind, Kind::Format);
}

#[test]
fn failed_questions_are_a_regression() {
    let mut candidate = again();
    nth(&mut candidate, Baseline, 20, |_| true).for_each(|row| {
        row.error = Some("out of memory".to_owned());
        row.scores.clear();
    });
    let report = judged(candidate);
    assert!(regressed(&report).contains(&"baseline failed".to_owned()), "{:?}", regressed(&report));
}

#[test]
fn what_gets_better_passes() {
    let mut candidate = again();
    for variant in VARIANTS {
        nth(&mut candidate, variant, 2, |row| !is_right(row)).for_each(|row| {
            for metric in ["exact_match", "token_f1", "contains"] {
                row.scores.insert(metric.to_owned(), 1.0);
            }
        });
    }
    timed(&mut candidate, None).for_each(|row| scale(row, 0.5));
    let report = judged(candidate);
    assert_eq!(report.outcome, Outcome::Pass, "{}", render::terminal(&report));
    assert!(report.flips.iter().all(|flip| !flip.is_loss) && !report.flips.is_empty());
}

#[test]
fn a_slower_machine_is_no_regression_and_slower_code_is() {
    let slow = |calibration_ms: u64| {
        let mut candidate = again();
        timed(&mut candidate, None).for_each(|row| scale(row, 2.0));
        candidate.manifest.calibration = Some(calibration((calibration_ms, calibration_ms), (calibration_ms, calibration_ms)));
        judged_by("", &candidate, &reference()).unwrap()
    };
    assert_eq!(slow(10).outcome, Outcome::Pass);
    let report = slow(5);
    assert!(VARIANTS.iter().all(|variant| regressed(&report).contains(&format!("{} e2e_ms", variant.name()))), "{:?}", regressed(&report));
}

#[test]
fn a_reference_that_shared_its_cores_does_not_make_an_idle_candidate_look_slow() {
    let mut busy = reference();
    // One of two cores was taken: one thread alone was as fast as ever, both together half as fast, queries in between.
    timed(&mut busy, None).for_each(|row| scale(row, 1.4));
    busy.manifest.calibration = Some(calibration((5, 5), (10, 10)));
    let idle = again();
    assert_eq!(judged_by("", &idle, &busy).unwrap().outcome, Outcome::Pass);
    assert_eq!(judged_by("", &busy, &idle).unwrap().outcome, Outcome::Pass);
    let mut slower = again();
    timed(&mut slower, None).for_each(|row| scale(row, 1.5));
    assert_eq!(judged_by("", &slower, &busy).unwrap().outcome, Outcome::Inconclusive);
}

#[test]
fn times_of_runs_without_a_calibration_figure_need_one_processor() {
    let mut candidate = again();
    candidate.manifest.calibration = None;
    let report = judged_by("", &candidate, &reference()).unwrap();
    assert!(
        report.checks.iter().any(|check| check.kind == Kind::Latency)
            && report.notes.iter().any(|note| note.contains("times are compared as they are"))
    );
    candidate.manifest.machine.cpu = "Other CPU".to_owned();
    let report = judged_by("", &candidate, &reference()).unwrap();
    assert!(report.checks.iter().all(|check| check.kind != Kind::Latency));
}

#[test]
fn times_of_a_server_are_compared_as_they_are_and_only_with_its_own() {
    let served = |host: &str, fingerprint: &str| {
        let mut run = again();
        run.manifest.model.served = Some(ServedRecord {
            host: host.to_owned(),
            interface: "completions".to_owned(),
            fingerprints: vec![fingerprint.to_owned()],
            requests: 0,
            retries: 0,
            prompt_tokens: 0,
            completion_tokens: 0,
            uncounted: 0,
            money: 0.0,
        });
        run.manifest.machine.device = "a server".to_owned();
        run.manifest.calibration = None;
        run
    };
    let reference = served("gpu:8000", "v1");
    let mut slower = served("gpu:8001", "v2");
    timed(&mut slower, None).for_each(|row| scale(row, 2.0));
    let report = judged_by("", &slower, &reference).unwrap();
    assert!(regressed(&report).contains(&"rag e2e_ms".to_owned()), "{:?}", regressed(&report));
    for part in [
        "the server at gpu:8001 (reference gpu:8000)",
        "no calibration tells a slower model from a busier server",
        "candidate v2, reference v1",
    ] {
        assert!(report.notes.iter().any(|note| note.contains(part)), "no {part:?} in {:#?}", report.notes);
    }
    assert!(report.notes.iter().all(|note| !note.contains("processor has one name")), "{:#?}", report.notes);

    let stages = |report: &GateReport| -> BTreeSet<String> {
        report.checks.iter().filter(|check| check.kind == Kind::Latency).map(|check| check.metric.clone()).collect()
    };
    assert!(stages(&report).contains("search_ms"));
    // The server's times are of no machine here.
    slower.manifest.machine.cpu = "Other CPU".to_owned();
    slower.manifest.machine.threads += 1;
    let report = judged_by("", &slower, &reference).unwrap();
    assert_eq!(stages(&report), ["decode_ms", "e2e_ms", "prefill_ms", "stalled_queries", "ttft_ms"].map(str::to_owned).into());
    let elsewhere = judged_by("", &served("other:8000", "v1"), &reference).unwrap();
    assert!(stages(&elsewhere).is_empty(), "{:?}", stages(&elsewhere));
    assert!(elsewhere.notes.iter().any(|note| note.contains("different servers (candidate other:8000, reference gpu:8000)")));

    // A served embedder beside a model of this machine.
    let mut embedded = again();
    embedded.manifest.index.as_mut().unwrap().embedder =
        Some(ServedEmbedderRecord { host: "gpu:9000".to_owned(), model: "m".to_owned(), question_tokens: 9.0 });
    let report = judged_by("", &embedded, &again()).unwrap();
    assert!(stages(&report).contains("search_ms") && !stages(&report).contains("embed_ms"));
    assert!(report.notes.iter().any(|note| note.contains("a server embedded the questions")));
}

#[test]
fn an_unsteady_machine_decides_nothing_about_times() {
    let mut candidate = again();
    timed(&mut candidate, None).for_each(|row| scale(row, 1.5));
    candidate.manifest.calibration = Some(calibration((4, 6), (4, 6)));
    let report = judged_by("metrics = [\"primary\"]\n[latency]\nstages = [\"e2e\"]", &candidate, &reference()).unwrap();
    assert_eq!((report.outcome, report.exit_code()), (Outcome::Inconclusive, 0));
    assert!(check(&report, "rag e2e_ms").reason.contains("the machine was unsteady"), "{}", check(&report, "rag e2e_ms").reason);
}

#[test]
fn what_is_not_comparable_is_refused_by_every_name() {
    let mut candidate = reference();
    candidate.manifest.hashes.insert("dataset".to_owned(), "other".to_owned());
    candidate.manifest.hashes.insert("prompt".to_owned(), "other".to_owned());
    candidate.manifest.spec.generation.temperature = 0.7;
    candidate.manifest.spec.generation.batch_size = 4;
    candidate.manifest.spec.seeds = vec![2];
    candidate.manifest.spec.dataset.limit = 300;
    candidate.manifest.result_hash = None;
    candidate.samples[3].question = "What is it now?".to_owned();
    candidate.rows.retain(|row| row.variant != Hybrid.name());
    candidate.rows.iter_mut().for_each(|row| {
        row.scores.remove("mrr");
    });
    let Err(GateError::NotComparable(reasons)) = judged_by("", &candidate, &reference()) else { panic!("the gate must refuse") };
    let names: Vec<&str> = reasons.iter().map(|reason| reason.split(':').next().unwrap()).collect();
    let expected = ["the candidate is not complete", "dataset", "metrics", "variants", "seeds", "limit", "prompt", "decoding", "samples"];
    assert_eq!(names, expected, "{reasons:#?}");
    assert_eq!(reasons[2], "metrics: the candidate lacks `mrr`");
    assert!(reasons[8].contains("first: `q0003`"), "{}", reasons[8]);
}

#[test]
fn what_must_be_shared_is_the_policys_to_say() {
    let mut candidate = reference();
    candidate.manifest.hashes.insert("model".to_owned(), "other".to_owned());
    candidate.manifest.spec.retrieval.top_k = 3;
    let report = judged_by("", &candidate, &reference()).unwrap();
    assert!(report.notes.contains(&"the model differs".to_owned()));
    let Err(GateError::NotComparable(reasons)) = judged_by("require = [\"model\", \"retrieval\"]", &candidate, &reference()) else {
        panic!("the gate must refuse")
    };
    assert!(reasons[0].starts_with("model: ") && reasons[1].starts_with("retrieval: "), "{reasons:?}");
}

/// Three trainings of one variant, each right on its own share of the questions.
fn trained(shares: [f64; 3]) -> Fixture {
    let mut fixture = realistic(&[Finetuned], 200);
    fixture.manifest.spec.seeds = vec![1, 2, 3];
    fixture.rows.retain(|row| row.phase == Phase::Latency);
    for index in 0..200 {
        let id = fixture.samples[index].id.clone();
        // A question that an able training gets wrong, a less able one does too.
        let hardness = (index as f64 * 0.618).fract();
        for (seed, share) in (1..).zip(shares) {
            fixture.answer(Finetuned, seed, &id, f64::from(u8::from(hardness < share)));
        }
    }
    fixture
}

#[test]
fn luck_of_training_is_not_taken_for_a_regression() {
    let policy = "slices = []\nmetrics = [\"primary\"]\ncounters = []\n[latency]\nstages = []";
    let judge = |shares| judged_by(policy, &trained(shares), &trained([0.6, 0.6, 0.6])).unwrap();
    let lucky = judge([0.4, 0.65, 0.6]);
    assert_eq!(lucky.outcome, Outcome::Inconclusive, "{}", render::terminal(&lucky));
    assert_eq!(judge([0.54, 0.55, 0.56]).outcome, Outcome::Regressed);
}

#[test]
fn too_few_questions_decide_nothing_and_the_policy_may_stop_at_that() {
    let small = realistic(&[Rag], 12);
    let mut candidate = realistic(&[Rag], 12);
    candidate.rows.iter_mut().filter(|row| row.scores.get("exact_match") == Some(&1.0)).for_each(|row| {
        row.scores.insert("exact_match".to_owned(), 0.0);
    });
    let policy = "counters = []\n[latency]\nstages = []";
    let report = judged_by(policy, &candidate, &small).unwrap();
    assert_eq!((report.outcome, report.exit_code()), (Outcome::Inconclusive, 0));
    let strict = judged_by(&format!("on_inconclusive = \"fail\"\n{policy}"), &candidate, &small).unwrap();
    assert_eq!(strict.exit_code(), 3);
    assert_eq!(check(&strict, "rag exact_match").reason, "12 questions, the policy asks for at least 20");
    assert!(
        render::annotations(&strict).starts_with("::error title=ragft gate%3A rag exact_match is inconclusive::12 questions, the policy")
    );
}

#[test]
fn a_loss_that_may_be_luck_is_inconclusive_and_says_how_many_questions_would_tell() {
    let mut candidate = again();
    nth(&mut candidate, Rag, 20, is_right).for_each(|row| {
        row.scores.insert("exact_match".to_owned(), 0.0);
        row.scores.insert("contains".to_owned(), 0.0);
    });
    nth(&mut candidate, Rag, 20, |row| !is_right(row)).for_each(|row| {
        row.scores.insert("exact_match".to_owned(), 1.0);
    });
    let report = judged(candidate);
    let found = check(&report, "rag exact_match");
    assert_eq!(found.outcome, Outcome::Inconclusive, "{}", found.reason);
    assert!(found.n_worse > found.n_better && found.reason.contains("questions would tell"), "{}", found.reason);
}

#[test]
fn no_more_than_everything_can_be_lost() {
    let rare = |mut fixture: Fixture| {
        for sample in fixture.samples.iter_mut().take(4) {
            sample.slices.insert("rarity".to_owned(), "rare".to_owned());
        }
        fixture
    };
    let (mut candidate, mut reference) = (rare(again()), rare(reference()));
    let names: Vec<String> = reference.samples[..4].iter().map(|sample| sample.id.clone()).collect();
    for (fixture, scores) in [(&mut reference, [1.0, 1.0, 0.0, 1.0]), (&mut candidate, [0.0, 0.0, 1.0, 0.0])] {
        for row in nth(fixture, Rag, 1, |_| true) {
            if let Some(place) = names.iter().position(|name| *name == row.sample_id) {
                row.scores.insert("exact_match".to_owned(), scores[place]);
            }
        }
    }
    let report = judged_by("min_n = 2", &candidate, &reference).unwrap();
    let found = check(&report, "rag exact_match in rarity=rare");
    assert_eq!((found.n, found.n_worse, found.at_worst), (4, 3, Some(100.0)), "{}", found.reason);
}

#[test]
fn names_that_mean_nothing_for_these_runs_are_refused() {
    let problem = |policy: &str| match judged_by(policy, &reference(), &reference()) {
        Err(GateError::Policy(error)) => error.to_string(),
        other => panic!("expected a refusal, got {other:?}"),
    };
    assert!(
        problem("metrics = [\"exact_mach\"]")
            .ends_with("`metrics` names `exact_mach`, which is no metric of the reference; did you mean `exact_match`?")
    );
    assert!(problem("slices = [\"knowledge=frsh\"]").ends_with("which is no slice of the reference; did you mean `knowledge=fresh`?"));
    assert!(problem("variants = [\"oracle\"]").contains("names `oracle`, which is no variant of the reference"));
    let report = judged_by("slices = [\"task=*\"]\nvariants = [\"rag\"]", &reference(), &reference()).unwrap();
    assert!(report.checks.iter().all(|check| check.variant == Rag && (check.slice == ALL || check.slice.starts_with("task="))));
}

/// A run in which questions of a document share their fate.
fn clustered(n: usize, size: usize) -> Fixture {
    let mut fixture = realistic(&[Baseline, Rag], n);
    for index in 0..n {
        fixture.samples[index].relevant = vec![format!("doc{:03}", index / size)];
        fixture.samples[index].slices.insert("knowledge".to_owned(), ["known", "fresh"][index / size % 2].to_owned());
        fixture.samples[index].slices.insert("task".to_owned(), "lookup".to_owned());
    }
    let mut rng = Rng::new(21, "fates");
    let fates: Vec<f64> = (0..n.div_ceil(size)).map(|_| f64::from(u8::from(rng.chance(0.6)))).collect();
    for row in fixture.rows.iter_mut().filter(|row| row.phase == Phase::Accuracy && row.error.is_none()) {
        let index: usize = row.sample_id[1..].parse().unwrap();
        let shares = rng.chance(0.8);
        if shares {
            row.scores.insert("exact_match".to_owned(), fates[index / size]);
        }
    }
    fixture
}

#[test]
fn false_alarms_keep_to_the_policys_level() {
    for (label, fixture, changed) in
        [("alone", realistic(&[Baseline, Rag], 160), 0.4), ("clustered", clustered(200, 4), 0.4), ("all changed", clustered(160, 4), 1.0)]
    {
        let trial = Trial { pairs: 400, changed, effect: 0.0, seed: 1 };
        let policy = Policy::parse("resamples = 1000").unwrap();
        let found = false_alarm::measure(&run_of(&fixture), &policy, &trial).unwrap();
        eprintln!("{label}: {} alarms in {} pairs, {} undecided, {:?}", found.alarms, found.pairs, found.inconclusive, found.by_kind);
        assert_eq!(found.pairs, 400);
        // Three standard errors of a share of 400.
        assert!(found.rate.point <= 0.05 + 3.0 * (0.05f64 * 0.95 / 400.0).sqrt(), "{label}: {found:?}");
        assert!(!found.is_too_high());
    }
}

#[test]
fn a_real_loss_is_found_as_often_as_the_planner_says() {
    let mut fixture = realistic(&[Rag], 800);
    fixture.samples.iter_mut().for_each(|sample| sample.relevant = vec![format!("doc-{}", sample.id)]);
    let trial = Trial { pairs: 3000, changed: 0.2, effect: 0.025, seed: 2 };
    let policy = Policy::parse("resamples = 1000\nslices = []\nmetrics = [\"primary\"]\n[latency]\nstages = []").unwrap();
    let found = false_alarm::measure(&run_of(&fixture), &policy, &trial).unwrap();
    let power = found.power.unwrap();
    eprintln!("{power:?}");
    assert!((0.6..0.95).contains(&power.planned) && (power.alone.point - power.planned).abs() < 0.02, "{power:?}");
    assert!(power.gate.point > 0.5, "{power:?}");
}

#[test]
fn a_real_loss_among_clusters_is_found_as_often_as_the_planner_says() {
    let fixture = clustered(800, 4);
    let trial = Trial { pairs: 3000, changed: 0.2, effect: 0.04, seed: 2 };
    let policy = Policy::parse("resamples = 1000\nslices = []\nmetrics = [\"primary\"]\n[latency]\nstages = []").unwrap();
    let power = false_alarm::measure(&run_of(&fixture), &policy, &trial).unwrap().power.unwrap();
    eprintln!("{power:?}");
    assert!((0.4..0.97).contains(&power.planned) && (power.alone.point - power.planned).abs() < 0.02, "{power:?}");
}

#[test]
fn simulations_do_not_depend_on_threads() {
    let run = run_of(&clustered(80, 4));
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let trial = Trial { pairs: 20, changed: 0.5, effect: 0.05, seed: 3 };
        pool.install(|| false_alarm::measure(&run, &Policy::parse("resamples = 1000").unwrap(), &trial).unwrap())
    };
    assert_eq!(with(1), with(3));
}

#[test]
fn machines_read_the_same_verdict() {
    let mut candidate = again();
    nth(&mut candidate, Baseline, 1, |_| true).for_each(|row| row.prompt_tokens += 1);
    nth(&mut candidate, Rag, 2, is_right).for_each(|row| {
        row.scores.insert("exact_match".to_owned(), 0.0);
        row.answer = "<script>alert(1)</script> | `x` ::error::".to_owned();
    });
    candidate.manifest.result_hash = Some("c".repeat(64));
    let run = run_of(&candidate);
    let report = compare_runs(&run, &run_of(&reference()), &Policy::default_policy()).unwrap();

    let junit = export::junit(&report);
    let failures = report.with(Outcome::Regressed).count();
    assert_eq!(junit.matches("<testsuite name=\"rag.all\"").count(), 1);
    assert!(junit.starts_with("<?xml") && junit.contains(&format!("failures=\"{failures}\"")), "{junit}");
    assert!(junit.contains("<testcase name=\"prompt_tokens\" classname=\"ragft.baseline.all\">"), "{junit}");

    let sarif: serde_json::Value = serde_json::from_str(&export::sarif(&report)).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    assert_eq!(results.iter().filter(|result| result["level"] == "error").count(), failures);
    let rules: Vec<&str> =
        sarif["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap().iter().map(|rule| rule["id"].as_str().unwrap()).collect();
    assert!(results.iter().all(|result| rules.contains(&result["ruleId"].as_str().unwrap())));

    let bmf: serde_json::Value = serde_json::from_str(&export::bmf(&report, &run)).unwrap();
    let figure = &bmf["rag"]["exact_match"];
    let (low, value, high) =
        (figure["lower_value"].as_f64().unwrap(), figure["value"].as_f64().unwrap(), figure["upper_value"].as_f64().unwrap());
    assert!(low <= value && value <= high && value == check(&report, "rag exact_match").candidate);
    assert!(bmf["rag"]["e2e_p50_ms"]["value"].as_f64().unwrap() > 0.0 && bmf["baseline"]["prompt_tokens"]["value"] == 23.0);
    assert!(bmf["rag/knowledge=fresh"]["exact_match"].is_object());

    let json: serde_json::Value = serde_json::from_str(&export::json(&report)).unwrap();
    assert_eq!((json["outcome"].as_str(), json["checks"].as_array().unwrap().len()), (Some("regressed"), report.checks.len()));

    let markdown = render::markdown(&report);
    assert!(!markdown.contains("<script>") && markdown.contains("&lt;script&gt;alert(1)&lt;/script&gt; \\| \\`x\\`"), "{markdown}");
    let table: Vec<&str> = markdown.lines().filter(|line| line.starts_with("| ✅") || line.starts_with("| ❌")).collect();
    assert!(table.iter().all(|line| line.replace("\\|", "").matches('|').count() == 10), "{markdown}");

    let annotations = render::annotations(&report);
    assert!(
        annotations.lines().any(|line| line.starts_with("::error title=ragft gate%3A baseline prompt_tokens regressed::+4.55 %25")),
        "{annotations}"
    );
    assert!(annotations.lines().all(|line| line.starts_with("::error title=") || line.starts_with("::warning title=")), "{annotations}");
}

/// A finished run at a time, with this share of right answers spoilt.
fn recorded(folder: &Path, day: usize, spoil: usize) {
    let mut fixture = realistic(&[Baseline, Rag], 60);
    fixture.manifest.started_at = format!("2026-11-{day:02}T00:00:00Z");
    fixture.manifest.result_hash = Some(format!("{day:064}"));
    fixture.manifest.spec.measure.bootstrap_resamples = 100;
    nth(&mut fixture, Rag, 1, is_right).take(spoil).for_each(|row| {
        row.scores.insert("exact_match".to_owned(), 0.0);
        row.answer = "red".to_owned();
    });
    fixture.write(folder);
}

#[test]
fn a_history_keeps_runs_finds_the_change_and_names_what_flips() {
    let temp = tempfile::tempdir().unwrap();
    let history = History::at(&temp.path().join("history"));
    assert!(matches!(history.entries(), Err(HistoryError::Empty { .. })));
    for day in 1..=10 {
        let folder = temp.path().join(format!("run{day}"));
        recorded(&folder, day, if day > 5 { 12 } else { usize::from(day == 3) });
        let tables = crate::table::read(&folder).unwrap();
        assert_eq!(history.add(&folder, &tables, "2026-11-25T00:00:00Z").unwrap().number, day);
        assert!(matches!(history.add(&folder, &tables, "now"), Err(HistoryError::Known { number, .. }) if number == day));
    }
    let trend = history.trend(None, None).unwrap();
    assert_eq!((trend.metric.as_str(), trend.lines.len(), trend.entries.len()), ("exact_match", 2, 10));
    let rag = trend.lines.iter().find(|line| line.variant == Rag).unwrap();
    assert_eq!(rag.changes.len(), 1, "{:?}", rag.changes);
    assert_eq!(rag.points[rag.changes[0].at].number, 6);
    assert!(trend.is_worse(&rag.changes[0]) && trend.lines.iter().all(|line| line.variant == Rag || line.changes.is_empty()));
    let tokens = history.trend(Some("prompt_tokens"), None).unwrap();
    assert!(tokens.is_lower_better && tokens.unit == "tokens" && tokens.lines.iter().all(|line| line.changes.is_empty()));
    assert!(history.trend(Some("e2e_p50_calibrated"), None).is_ok() && history.trend(None, Some("knowledge=fresh")).is_ok());
    let unknown = history.trend(Some("exact_mach"), None).unwrap_err();
    assert_eq!(unknown.hint().as_deref(), Some("did you mean `exact_match`?"));

    let figure = history.draw(&trend).unwrap();
    let svg = std::fs::read_to_string(format!("{}.svg", figure.display())).unwrap();
    assert!(svg.contains("Exact match over 10 runs") && Path::new(&format!("{}.png", figure.display())).exists());

    let flaky = history.flaky().unwrap();
    assert_eq!(flaky.len(), 12);
    assert_eq!((flaky[0].variant, flaky[0].runs, flaky[0].flips), (Rag, 10, 3), "spoilt on day 3, mended on day 4, spoilt on day 6");

    assert!(matches!(history.blessed(), Err(HistoryError::NoneBlessed { .. })));
    history.bless(&temp.path().join("run4"), "2026-11-25T00:00:00Z").unwrap();
    assert_eq!(history.bless(&temp.path().join("run5"), "2026-11-25T00:00:00Z").unwrap().number, 5);
    assert!(history.blessed().unwrap().folder.ends_with("run5") && History::is_one(&temp.path().join("history")));
}
