//! A run in shards, and the schedulers that start them.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::sandbox::{Sandbox, project_root};

/// A few questions, a few steps: every phase runs.
const SMALL: &[&str] = &[
    "--limit",
    "40",
    "--set",
    "finetune.max_steps=6",
    "--set",
    "finetune.checkpoint_steps=2",
    "--set",
    "measure.latency_samples=2",
    "--set",
    "measure.noise_samples=2",
    "--set",
    "measure.audit_samples=2",
];

/// Questions and nothing else: a shard takes a moment.
const BARE: &[&str] = &[
    "--limit",
    "12",
    "--set",
    "variants=[\"baseline\"]",
    "--set",
    "measure.latency_samples=0",
    "--set",
    "measure.noise_samples=0",
    "--set",
    "measure.audit_samples=0",
];

fn run<'a>(settings: &[&'a str], output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "-o", output, "--quiet"], settings, more].concat()
}

fn manifest(sandbox: &Sandbox, run: &str) -> Value {
    serde_json::from_slice(&fs::read(sandbox.path(run).join("manifest.json")).unwrap()).unwrap()
}

/// Kills the command outright after each of these times, then lets it end.
fn kill_and_finish(sandbox: &Sandbox, output: &str, more: &[&str], milliseconds: &[u64]) {
    let resume = || if sandbox.path(output).join("manifest.json").exists() { vec!["--resume"] } else { Vec::new() };
    for &after in milliseconds {
        let _ = sandbox.command(&run(SMALL, output, &[more, &resume()].concat())).timeout(Duration::from_millis(after)).output();
    }
    sandbox.run(0, &run(SMALL, output, &[more, &resume()].concat()));
}

#[test]
fn shards_that_were_killed_at_random_make_the_undivided_run() {
    let sandbox = Sandbox::new();
    sandbox.run(0, &run(SMALL, "whole", &[]));
    let trained = sandbox.run(0, &run(SMALL, "trained", &["--train-only"])).out;
    assert!(trained.contains("finetuned-seed1") && !sandbox.path("trained/tables").exists(), "{trained}");

    // Two shards train by themselves, two take what was trained; times from a fixed sequence, so that a failure can be had again.
    let mut state = 20261125u64;
    let mut random = |least: u64, most: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        least + (state >> 33) % (most - least)
    };
    for index in 1..=4 {
        let (output, shard) = (format!("shard-{index}"), format!("{index}/4"));
        let taken: &[&str] = if index > 2 { &["--adapters-from", "trained"] } else { &[] };
        let times: Vec<u64> = (0..3).map(|_| random(200, 2500)).collect();
        kill_and_finish(&sandbox, &output, &[&["--shard", &shard], taken].concat(), &times);
    }
    let merged = sandbox.run(0, &["merge", "shard-3", "shard-1", "shard-4", "shard-2", "-o", "merged", "--quiet"]).out;

    let (whole, made) = (manifest(&sandbox, "whole"), manifest(&sandbox, "merged"));
    let hash = whole["result_hash"].as_str().unwrap();
    assert_eq!(made["result_hash"], hash);
    assert!(merged.contains(hash), "{merged}");
    for same in ["run_id", "spec", "hashes", "dataset", "model", "noise", "caveats"] {
        assert_eq!(whole[same], made[same], "{same}");
    }
    for table in ["quality.csv", "contrasts.csv", "ladder.csv"] {
        let read = |run: &str| fs::read_to_string(sandbox.path(run).join("tables").join(table)).unwrap();
        assert_eq!(read("whole"), read("merged"), "{table}");
    }
    let shards = made["shards"].as_array().unwrap();
    assert_eq!(shards.iter().map(|shard| shard["questions"].as_u64().unwrap()).collect::<Vec<_>>(), [10, 10, 10, 10]);
    let verified = sandbox.run(0, &["verify", "merged", "--questions", "3", "--quiet"]).out;
    assert!(verified.contains("byte by byte"), "{verified}");
    sandbox.run(0, &["verify", "shard-2", "--questions", "2", "--quiet"]);
}

#[test]
fn a_merged_run_keeps_the_server_scenario_of_its_first_shard() {
    let sandbox = Sandbox::new();
    let server = ["--set", "measure.server.rate=1000", "--set", "measure.server.queries=6"];
    for (output, shard) in [("one", "1/2"), ("two", "2/2")] {
        sandbox.run(0, &run(BARE, output, &[&server[..], &["--shard", shard]].concat()));
    }
    sandbox.run(0, &["merge", "one", "two", "-o", "merged"]);
    let served = |run: &str| fs::read_to_string(sandbox.path(run).join("server.jsonl")).unwrap();
    assert_eq!(served("merged"), served("one"));
    assert_eq!(served("merged").lines().count(), 6);
    assert!(fs::read_to_string(sandbox.path("merged/report.md")).unwrap().contains("Server: 1,000 queries per second"));
}

#[test]
fn what_does_not_belong_together_is_named() {
    let sandbox = Sandbox::new();
    sandbox.run(0, &run(BARE, "one", &["--shard", "1/3"]));
    let told = sandbox.run(0, &run(BARE, "two", &["--shard", "2/3", "--json"])).out;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["questions"], &told["shard"]["index"]), (&Value::from(4), &Value::from(2)));
    let refused = sandbox.run(2, &["merge", "one", "two", "-o", "merged"]).err;
    assert!(refused.contains("shard 3/3 is missing"), "{refused}");

    sandbox.run(0, &run(BARE, "other", &["--shard", "3/3", "--set", "generation.max_new_tokens=8"]));
    sandbox.run(0, &run(BARE, "whole", &[]));
    let refused = sandbox.run(2, &["merge", "one", "two", "other", "two", "whole", "-o", "merged"]).err;
    assert!(refused.contains("`other` (shard 3/3) has `generation.max_new_tokens` 8, `one` (shard 1/3) has 16"), "{refused}");
    assert!(refused.contains("shard 2/3 is given 2 times: `two`, `two`"), "{refused}");
    assert!(refused.contains("`whole` is a whole run, not a shard"), "{refused}");
    assert!(!sandbox.path("merged").exists());

    // A shard goes on as that shard only, and one row less is seen.
    let refused = sandbox.run(2, &run(BARE, "one", &["--shard", "2/3", "--resume"])).err;
    assert!(refused.contains("the folder holds shard 1/3, asked for is shard 2/3"), "{refused}");
    sandbox.run(0, &run(BARE, "three", &["--shard", "3/3"]));
    let journal = fs::read_to_string(sandbox.path("two/journal.jsonl")).unwrap();
    let shorter = journal.split_inclusive('\n').skip(1).collect::<String>();
    sandbox.write("two/journal.jsonl", &shorter);
    let refused = sandbox.run(2, &["merge", "one", "two", "three", "-o", "merged"]).err;
    assert!(refused.contains("the journal of `two` (shard 2/3) does not give its result hash"), "{refused}");
    sandbox.write("two/journal.jsonl", &journal);
    sandbox.run(0, &["merge", "one", "two", "three", "-o", "merged"]);
    assert_eq!(manifest(&sandbox, "merged")["result_hash"], manifest(&sandbox, "whole")["result_hash"]);
}

#[test]
fn more_shards_than_questions_and_adapters_from_nowhere_are_refused() {
    let sandbox = Sandbox::new();
    let refused = sandbox.run(2, &run(BARE, "a", &["--shard", "1/400"])).err;
    assert!(refused.contains("12 test questions cannot be split into 400 shards"), "{refused}");
    let refused = sandbox.run(2, &run(SMALL, "a", &["--adapters-from", "nowhere"])).err;
    assert!(refused.contains("holds no finished adapter") && refused.contains("--train-only"), "{refused}");
    let refused = sandbox.run(2, &run(BARE, "b", &["--shard", "auto"])).err;
    assert!(refused.contains("SLURM_ARRAY_TASK_ID"), "{refused}");
}

/// What must agree within the manifest; what Kubernetes makes of it is tested by its own schema, opt-in.
#[test]
fn the_kubernetes_job_has_as_many_pods_as_shards() {
    let text = fs::read_to_string(project_root().join("harness/assets/kubernetes-job.yaml")).unwrap();
    let after = |key: &str| text.split(key).nth(1).unwrap_or_else(|| panic!("no {key}")).split_whitespace().next().unwrap().to_owned();
    let count = after("completions: ");
    assert_eq!(after("completionMode: "), "Indexed");
    assert_eq!(after("parallelism: "), count);
    assert!(text.contains(&format!("auto/{count}")), "shards are as many as pods");
    let merged = text.split("[ragft, merge, ").nth(1).unwrap().split(", -o").next().unwrap();
    assert_eq!(merged.split(", ").count(), count.parse::<usize>().unwrap());
    // Jobs, their pods' restart policy and the claim stand where they must: `RAGFT_OUT_PYTHON` names a Python with `kubernetes-validate`.
    let Ok(python) = std::env::var("RAGFT_OUT_PYTHON") else {
        return eprintln!("skipped against Kubernetes' schema: RAGFT_OUT_PYTHON is not set");
    };
    let script = "import sys, yaml, kubernetes_validate as k\nfor d in yaml.safe_load_all(open(sys.argv[1])): k.validate(d, k.latest_version(), strict=True)";
    let manifest = project_root().join("harness/assets/kubernetes-job.yaml");
    let output = std::process::Command::new(python).args(["-c", script]).arg(manifest).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// `RAGFT_TEST_SLURM=1`: this host has a Slurm that runs jobs.
#[test]
fn a_slurm_array_leaves_the_undivided_run() {
    if std::env::var("RAGFT_TEST_SLURM").is_err() {
        return eprintln!("skipped: RAGFT_TEST_SLURM is not set");
    }
    let sandbox = Sandbox::new();
    sandbox.run(0, &run(SMALL, "whole", &[]));
    let script = project_root().join("harness/assets/slurm-array.sh");
    let mut submit = std::process::Command::new(script);
    submit.current_dir(sandbox.path("")).env("RAGFT", assert_cmd::cargo::cargo_bin("ragft")).args(["3", "out"]).args(SMALL);
    let output = submit.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for _ in 0..240 {
        if sandbox.path("out/run/report.html").exists() {
            break;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    assert!(
        sandbox.path("out/run/report.html").exists(),
        "no run after four minutes: see the logs in {}",
        sandbox.path("out/logs").display()
    );
    assert_eq!(manifest(&sandbox, "out/run")["result_hash"], manifest(&sandbox, "whole")["result_hash"]);
}
