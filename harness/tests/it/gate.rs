//! The gate, the verification and the history, as they are typed.

use serde_json::Value;

use crate::sandbox::{Sandbox, project_root};

const SMALL: &[&str] =
    &["--limit", "24", "--set", "finetune.max_steps=4", "--set", "measure.latency_samples=2", "--set", "measure.noise_samples=0"];

fn run<'a>(output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "-o", output, "--quiet", "--set", "variants=[\"rag\",\"finetuned\"]"], SMALL, more].concat()
}

/// Changes every accuracy row of a variant in a recorded journal.
fn edit(sandbox: &Sandbox, run: &str, variant: &str, change: impl Fn(&mut Value)) {
    let path = sandbox.path(run).join("journal.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    let line = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        if row["variant"] == variant && row["phase"] == "accuracy" {
            change(&mut row);
        }
        row.to_string() + "\n"
    };
    std::fs::write(path, text.lines().map(line).collect::<String>()).unwrap();
}

#[test]
fn another_thread_count_passes_every_check_and_a_changed_journal_none() {
    let sandbox = Sandbox::new();
    sandbox.run(0, &run("one", &["--threads", "1"]));
    sandbox.run(0, &run("two", &["--threads", "2"]));

    let passed = sandbox
        .run(0, &["gate", "two", "--against", "one", "--junit", "out/junit.xml", "--sarif", "out/gate.sarif", "--bmf", "out/bmf.json"])
        .out;
    assert!(
        passed.contains("the result hashes are equal")
            && passed.contains("times are not compared: threads differ (candidate 2, reference 1)"),
        "{passed}"
    );
    for file in ["out/junit.xml", "out/gate.sarif", "out/bmf.json"] {
        assert!(sandbox.path(file).is_file(), "{file} is missing");
    }
    let same = sandbox.run(0, &["verify", "one", "--questions", "3", "--quiet"]).out;
    assert!(same.contains("6 answers of one are the same, byte by byte"), "{same}");

    sandbox.run(0, &["history", "add", "history", "one"]);
    sandbox.run(2, &["history", "add", "history", "one"]);
    sandbox.run(2, &["gate", "two", "--against", "history"]);
    sandbox.run(0, &["history", "bless", "history", "one"]);
    sandbox.run(0, &["gate", "two", "--against", "history"]);
    let trend = sandbox.run(0, &["history", "trend", "history"]).out;
    assert!(trend.contains("[reference]") && sandbox.path("history/trend-exact_match.svg").is_file(), "{trend}");

    edit(&sandbox, "two", "rag", |row| row["prompt_tokens"] = Value::from(row["prompt_tokens"].as_u64().unwrap() + 50));
    let stopped = sandbox.run(1, &["gate", "two", "--against", "one", "--annotations", "--summary", "summary.md"]);
    assert!(stopped.out.contains("::error title=ragft gate%3A rag prompt_tokens regressed::"), "{}", stopped.out);
    assert!(std::fs::read_to_string(sandbox.path("summary.md")).unwrap().contains("### ragft gate: regressed: rag prompt"));
    let json: Value = serde_json::from_str(&sandbox.run(1, &["gate", "two", "--against", "one", "--json"]).out).unwrap();
    assert_eq!((json["outcome"].as_str(), json["headline"].as_str()), (Some("regressed"), Some("regressed: rag prompt_tokens")));
    let differs = sandbox.run(1, &["verify", "two", "--questions", "2", "--quiet"]).out;
    assert!(
        differs.contains("prompt_tokens was ") && differs.contains("a row was changed or lost") && differs.contains("2 of 4 answers"),
        "{differs}"
    );

    std::fs::remove_dir_all(sandbox.path("one/adapters")).unwrap();
    let refused = sandbox.run(2, &["verify", "one", "--quiet"]).err;
    assert!(refused.contains("holds no finished adapter"), "{refused}");
}

#[test]
fn the_workflow_to_copy_uses_options_that_exist() {
    let workflow = std::fs::read_to_string(project_root().join("harness/assets/github-gate.yml")).unwrap();
    let help = Sandbox::new().run(0, &["gate", "--help"]).out;
    let lines: Vec<&str> =
        workflow.lines().map(str::trim).filter(|line| !line.starts_with('#') && !line.starts_with("run: cargo")).collect();
    let options: Vec<&str> = lines.iter().flat_map(|line| line.split_whitespace()).filter(|word| word.starts_with("--")).collect();
    assert!(options.len() > 6);
    assert!(options.iter().all(|option| help.contains(*option)), "{options:?}\n{help}");
}

#[test]
fn wrong_requests_are_refused_with_the_mend() {
    let sandbox = Sandbox::new();
    assert!(sandbox.run(2, &["gate", "x"]).err.contains("--against"));
    assert!(sandbox.run(2, &["gate", "x", "--against", "y"]).err.contains("`x` is not a run folder"));
    let recorded = project_root().join("reports/quickstart");
    let bare = sandbox.run(2, &["gate", recorded.to_str().unwrap(), "--against", recorded.to_str().unwrap()]).err;
    assert!(bare.contains("holds no answers: `samples.jsonl` is missing") && bare.contains("copy the whole run folder"), "{bare}");
    sandbox.write("policy.toml", "alhpa = 0.1\n");
    let refused = sandbox.run(2, &["gate", "x", "--against", "y", "--policy", "policy.toml"]).err;
    assert!(refused.contains("line 1: `alhpa` is not a setting; did you mean `alpha`?"), "{refused}");
    assert!(sandbox.run(0, &["gate", "--print-policy"]).out.contains("on_inconclusive = \"pass\""));
    assert!(sandbox.run(2, &["history", "trend", "nowhere"]).err.contains("`nowhere` is not a history"));
}
