//! Answers of another system get the same scores, statistics, report and gate; with or without a model beside them.

use std::fs;
use std::path::PathBuf;

use crate::sandbox::{Printed, Sandbox};

const IDS: [&str; 4] = ["q1", "q2", "q3", "q4"];

/// A native dataset of four test questions on four documents.
fn dataset(sandbox: &Sandbox) {
    let lines = |line: &dyn Fn(usize, &str) -> String| IDS.iter().enumerate().map(|(index, id)| line(index, id)).collect::<String>();
    let document = |index: usize, _: &str| format!("{{\"id\":\"d{index}\",\"text\":\"Person {index} was born in Town{index}.\"}}\n");
    let question = |index: usize, id: &str| {
        format!(
            "{{\"id\":\"{id}\",\"question\":\"Where was person {index} born?\",\"references\":[\"Town{index}\"],\"relevant\":[\"d{index}\"]}}\n"
        )
    };
    sandbox.write("data/documents.jsonl", &lines(&document));
    sandbox.write("data/test.jsonl", &lines(&question));
}

fn answers(right: usize, extra: &str) -> String {
    let answer = |(index, id): (usize, &&str)| {
        let text = if index < right { format!("Town{index}") } else { "nowhere".to_owned() };
        format!("{{\"id\":\"{id}\",\"answer\":\"{text}\"{extra}}}\n")
    };
    IDS.iter().enumerate().map(answer).collect()
}

const ALONE: &str = "variants = []\n[dataset]\npath = \"data\"\n[predictions]\nother = \"other.jsonl\"\n\"third-1.0\" = \"third.jsonl\"\n";

#[track_caller]
fn cell(sandbox: &Sandbox, table: &str, starts: &str) -> String {
    let text = fs::read_to_string(sandbox.path(&format!("out/tables/{table}.csv"))).unwrap();
    text.lines().find(|line| line.starts_with(starts)).unwrap_or_else(|| panic!("no `{starts}` in\n{text}")).to_owned()
}

#[track_caller]
fn refused(sandbox: &Sandbox, args: &[&str], parts: &[&str]) -> Printed {
    let printed = sandbox.run(2, args);
    for part in parts {
        assert!(printed.err.contains(part), "no {part:?} in:\n{}", printed.err);
    }
    assert!(!sandbox.path("out").exists(), "something was written");
    printed
}

#[test]
fn two_systems_are_compared_without_any_model() {
    let sandbox = Sandbox::new();
    dataset(&sandbox);
    sandbox.write("spec.toml", ALONE);
    sandbox.write("other.jsonl", &answers(3, ",\"latency_ms\":20,\"completion_tokens\":4,\"retrieved\":[\"d0\",\"d1\"]"));
    sandbox.write("third.jsonl", &answers(1, ""));
    let printed = sandbox.run(0, &["run", "spec.toml", "-o", "out", "--quiet"]);
    assert!(printed.out.contains("other") && printed.out.contains("third-1.0"), "{}", printed.out);
    assert!(cell(&sandbox, "quality", "other,all,exact_match").contains(",0.75,"));
    assert!(cell(&sandbox, "quality", "third-1.0,all,exact_match").contains(",0.25,"));
    assert!(cell(&sandbox, "quality", "other,all,recall_at_4").contains(",0.5,"), "documents are scored where they are given");
    assert!(cell(&sandbox, "contrasts", "third-1.0,other,all,exact_match").contains("-0.5"));
    assert!(cell(&sandbox, "latency", "other,e2e").contains(",20"));
    assert!(cell(&sandbox, "cost", "other,query,completion_tokens").ends_with(",given"));
    let report = fs::read_to_string(sandbox.path("out/report.md")).unwrap();
    for part in ["no model, only given answers", "times of `other` were given", "answered the same questions elsewhere"] {
        assert!(report.contains(part), "no `{part}` in the report");
    }
    assert!(fs::read_to_string(sandbox.path("out/report.html")).unwrap().contains("none: all answers were given"));
    assert!(!report.contains("context cut"), "nothing is said of prompts that nobody saw");
    assert!(sandbox.run(0, &["verify", "out"]).out.contains("are the same, byte by byte"));
    let shown = sandbox.run(0, &["show", "out", "--sample", "q4"]).out;
    assert!(shown.contains("other (seed 1)") && shown.contains("\"nowhere\""), "{shown}");
    assert!(sandbox.run(0, &["plan", "spec.toml"]).out.contains("1 declared differences"));
}

#[test]
fn the_gate_holds_new_answers_against_old_ones() {
    let sandbox = Sandbox::new();
    dataset(&sandbox);
    sandbox.write("spec.toml", "variants = []\n[dataset]\npath = \"data\"\n");
    for (run, right) in [("old", 4), ("new", 4), ("worse", 0)] {
        let file = format!("{run}.jsonl");
        sandbox.write(&file, &answers(right, ""));
        sandbox.run(0, &["run", "spec.toml", "--predictions", &format!("mine={file}"), "-o", run, "--quiet"]);
    }
    let gate = |candidate: &str, code| sandbox.run(code, &["gate", candidate, "--against", "old"]).out;
    assert!(gate("new", 0).contains("pass: 3 checks, none worse"), "equal answers pass");
    // Four questions decide nothing by a test; that all of them flip is told all the same.
    let told = gate("worse", 0);
    assert!(told.contains("inconclusive: mine exact_match") && told.matches("lost mine").count() == 4, "{told}");
}

#[test]
fn answers_stand_beside_the_model_and_a_run_resumes_with_them() {
    let sandbox = Sandbox::new();
    dataset(&sandbox);
    sandbox.write(
        "spec.toml",
        "variants = [\"baseline\"]\n[dataset]\npath = \"data\"\n[measure]\nlatency_samples = 0\nnoise_samples = 0\naudit_samples = 0\n",
    );
    sandbox.write("mine.jsonl", &answers(2, ""));
    let run = ["run", "spec.toml", "--predictions", "mine=mine.jsonl", "-o", "out", "--quiet"];
    sandbox.run(0, &run);
    let journal = fs::read_to_string(sandbox.path("out/journal.jsonl")).unwrap();
    assert_eq!(journal.lines().count(), 8);
    assert!(cell(&sandbox, "contrasts", "mine,baseline,all,exact_match").contains("mine"));
    let half: String = journal.lines().take(3).map(|line| format!("{line}\n")).collect();
    fs::write(sandbox.path("out/journal.jsonl"), half).unwrap();
    sandbox.run(0, &[&run[..], &["--resume"]].concat());
    let again = fs::read_to_string(sandbox.path("out/journal.jsonl")).unwrap();
    assert_eq!(again.lines().count(), 8);
    sandbox.write("mine.jsonl", &answers(3, ""));
    let printed = sandbox.run(2, &[&run[..], &["--resume"]].concat());
    assert!(printed.err.contains("the predictions/mine has changed"), "{}", printed.err);
}

#[test]
fn ids_that_do_not_fit_are_named_with_their_mend() {
    let sandbox = Sandbox::new();
    dataset(&sandbox);
    sandbox.write("spec.toml", "variants = []\n[dataset]\npath = \"data\"\n");
    let run = |text: &str, parts: &[&str]| {
        sandbox.write("p.jsonl", text);
        refused(&sandbox, &["run", "spec.toml", "--predictions", "mine=p.jsonl", "-o", "out"], parts);
    };
    let whole = answers(4, "");
    let first = whole.lines().next().unwrap();
    run(first, &["predictions `mine` lack 3 of 4 test questions: `q2`, `q3`, `q4`", "hint: add a line for each", "\"error\""]);
    run(&whole.replace("q2", "Q2"), &["answer 1 questions that the dataset does not have: `Q2`", "may be meant for `q2`"]);
    run(
        &answers(4, ",\"retrieved\":[\"d0\",\"x9\"]"),
        &["name 1 retrieved documents that the corpus does not have: `x9`", "of the document"],
    );
    run("{\"id\": \"q1\"}\n", &["cannot read predictions `mine`", "line 1 has no `answer`; write the answer as text"]);
    refused(
        &sandbox,
        &["run", "spec.toml", "--predictions", "mine=nowhere.jsonl", "-o", "out"],
        &["nowhere.jsonl", "those of `--predictions` from here"],
    );
    refused(
        &sandbox,
        &["run", "spec.toml", "--predictions", "rag=p.jsonl", "-o", "out"],
        &["`rag` is a variant that ragft answers itself"],
    );
    refused(&sandbox, &["run", "spec.toml", "-o", "out"], &["`variants` is empty"]);
    sandbox.write("named.toml", "variants = [\"vllm\"]\n");
    refused(&sandbox, &["run", "named.toml", "-o", "out"], &["`variants` names `vllm`", "go under `[predictions]`"]);
}

#[test]
fn a_failed_answer_counts_as_wrong_and_stays_in_n() {
    let sandbox = Sandbox::new();
    dataset(&sandbox);
    sandbox.write("spec.toml", "variants = []\n[dataset]\npath = \"data\"\n[predictions]\nother = \"p.jsonl\"\n");
    sandbox.write("p.jsonl", &answers(4, "").replace("\"answer\":\"Town1\"", "\"error\":\"timed out\""));
    sandbox.run(0, &["run", "spec.toml", "-o", "out", "--quiet"]);
    let row = cell(&sandbox, "quality", "other,all,exact_match");
    assert!(row.contains(",0.75,") && row.contains(",4,1"), "{row}");
}

/// Published answers to XQuAD get the figures that the official scorer printed for them.
#[test]
fn published_predictions_get_the_official_figures() {
    let Ok(folder) = std::env::var("RAGFT_TEST_DATA").map(PathBuf::from) else {
        eprintln!("skipped: RAGFT_TEST_DATA is not set");
        return;
    };
    let (squad, vectors) = (folder.join("xquad/xquad.en.json"), folder.join("scorer-vectors/squad-v1.1"));
    let expected: serde_json::Value = serde_json::from_slice(&fs::read(vectors.join("expected.json")).unwrap()).unwrap();
    let sandbox = Sandbox::new();
    let given = vectors.join("predictions.bert-ensemble.json");
    sandbox.write(
        "spec.toml",
        &format!("variants = []\n[dataset]\npath = {squad:?}\ntest_fraction = 1.0\n[predictions]\nbert = {given:?}\n[measure]\nbootstrap_resamples = 100\n"),
    );
    sandbox.run(0, &["run", "spec.toml", "-o", "out", "--quiet"]);
    let official = &expected["scores"]["bert-ensemble"];
    for (metric, key) in [("exact_match", "exact_match"), ("token_f1", "f1")] {
        let row = cell(&sandbox, "quality", &format!("bert,all,{metric}"));
        let found: f64 = row.split(',').find_map(|cell| cell.parse().ok()).unwrap();
        let wanted = official[key].as_f64().unwrap_or_else(|| panic!("{expected}"));
        assert!((100.0 * found - wanted).abs() < 1e-6, "{metric}: {found} and {wanted}");
    }
    let lacking = vectors.join("predictions.logistic-regression.json");
    let printed = sandbox.run(2, &["run", "spec.toml", "--predictions", &format!("lr={}", lacking.display()), "-o", "out2"]);
    assert!(printed.err.contains("predictions `lr` lack 2 of 1190 test questions"), "{}", printed.err);
}
