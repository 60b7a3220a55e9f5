//! The main job, small: the built-in experiment over a few questions, its files, its repeatability, its interruption.

use std::time::Duration;

use serde_json::Value;

use crate::sandbox::Sandbox;

/// A few questions, a few steps: every phase runs.
const SMALL: &[&str] =
    &["--limit", "24", "--set", "finetune.max_steps=6", "--set", "measure.latency_samples=2", "--set", "finetune.checkpoint_steps=2"];

fn run<'a>(output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "-o", output, "--quiet"], SMALL, more].concat()
}

fn manifest(sandbox: &Sandbox, run: &str) -> Value {
    serde_json::from_slice(&std::fs::read(sandbox.path(run).join("manifest.json")).unwrap()).unwrap()
}

fn result_hash(sandbox: &Sandbox, run: &str) -> String {
    manifest(sandbox, run)["result_hash"].as_str().expect("a finished run has a result hash").to_owned()
}

#[test]
fn it_leaves_every_file_and_every_row() {
    let sandbox = Sandbox::new();
    sandbox.run(0, &run("a", &[]));
    for file in [
        "manifest.json",
        "samples.jsonl",
        "passages.jsonl",
        "journal.jsonl",
        "training.jsonl",
        "report.html",
        "report.md",
        "tables/predictions.parquet",
        "tables/hits.parquet",
        "tables/latency.parquet",
        "tables/training.parquet",
        "tables/cost.parquet",
        "tables/quality.parquet",
        "tables/quality.csv",
        "tables/latency.csv",
        "tables/cost.csv",
        "adapters/finetuned-seed1/adapter_config.json",
        "adapters/finetuned-seed1/adapter_model.safetensors",
    ] {
        assert!(sandbox.path("a").join(file).is_file(), "{file} is missing");
    }
    let journal = std::fs::read_to_string(sandbox.path("a/journal.jsonl")).unwrap();
    let rows: Vec<Value> = journal.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for variant in ["baseline", "rag", "finetuned", "hybrid"] {
        let of = |phase: &str| rows.iter().filter(|row| row["variant"] == variant && row["phase"] == phase).count();
        assert_eq!((of("accuracy"), of("latency")), (24, 2), "{variant}");
    }
    assert!(rows.iter().all(|row| row.get("error").is_none()));

    let id = rows[0]["sample_id"].as_str().unwrap();
    let shown = sandbox.run(0, &["show", "a", "--sample", id, "--prompts"]).out;
    assert!(shown.contains("Question :") && shown.contains("hybrid (seed 1)"), "{shown}");
    let told: Value = serde_json::from_str(&sandbox.run(0, &["show", "a", "--sample", id, "--prompts", "--json"]).out).unwrap();
    for (row, prompt) in told["rows"].as_array().unwrap().iter().zip(told["prompts"].as_array().unwrap()) {
        let first = prompt.as_str().unwrap().lines().next().unwrap();
        assert!(shown.contains(&format!("| {first}")) && row["sample_id"] == id, "{told:#}");
    }
    let listed: Value = serde_json::from_str(&sandbox.run(0, &["show", "a", "--json"]).out).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 24);
    let again = sandbox.run(0, &["report", "a"]).out;
    assert!(again.contains("report.html"), "{again}");
}

#[test]
fn threads_do_not_change_the_result_and_a_changed_spec_is_not_resumed() {
    let sandbox = Sandbox::new();
    sandbox.run(0, &run("one", &["--threads", "1"]));
    sandbox.run(0, &run("two", &["--threads", "2"]));
    assert_eq!(result_hash(&sandbox, "one"), result_hash(&sandbox, "two"));
    sandbox.run(0, &run("one", &["--resume"]));
    assert_eq!(result_hash(&sandbox, "one"), result_hash(&sandbox, "two"));
    let refused = sandbox.run(2, &run("one", &["--resume", "--set", "finetune.rank=4"])).err;
    assert!(refused.contains("`finetune.rank` was 16, is 4"), "{refused}");
}

#[test]
fn killed_three_times_and_resumed_it_ends_with_the_same_hash() {
    let sandbox = Sandbox::new();
    sandbox.run(0, &run("whole", &[]));
    for (attempt, milliseconds) in [1500, 2500, 3500].into_iter().enumerate() {
        let resume: &[&str] = if sandbox.path("killed/manifest.json").exists() { &["--resume"] } else { &[] };
        // `timeout` of the test command kills the process outright.
        let _ = sandbox.command(&run("killed", resume)).timeout(Duration::from_millis(milliseconds)).output();
        assert!(attempt < 3);
    }
    let resume: &[&str] = if sandbox.path("killed/manifest.json").exists() { &["--resume"] } else { &[] };
    sandbox.run(0, &run("killed", resume));
    assert_eq!(result_hash(&sandbox, "whole"), result_hash(&sandbox, "killed"));
}
