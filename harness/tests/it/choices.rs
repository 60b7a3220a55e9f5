//! Multiple choice: the most likely choice is the answer, whatever form the set comes in.

use std::fs;

use serde_json::{Value, json};

use crate::sandbox::{Sandbox, project_root};

const ROWS: &str = "{\"question\":\"What is the capital of Dor?\",\"choices\":[\"Belm\",\"a river\",\"seven\"],\"answer\":0}\n\
                    {\"question\":\"Which of these is a number?\",\"choices\":[\"Belm\",\"a river\",\"seven\"],\"answer\":\"C\"}\n\
                    {\"question\":\"Which of these is wet?\",\"choices\":[\"Belm\",\"a river\",\"seven\"],\"answer\":\"a river\"}\n";

#[test]
fn the_most_likely_choice_is_the_answer_and_is_scored_twice() {
    let sandbox = Sandbox::new();
    sandbox.write("mc.jsonl", ROWS);
    sandbox.write(
        "spec.toml",
        "variants = [\"baseline\"]\n[dataset]\npath = \"mc.jsonl\"\ntest_fraction = 1.0\n[measure]\nlatency_samples = 2\nnoise_samples = 3\naudit_samples = 3\n",
    );
    sandbox.run(0, &["run", "spec.toml", "-o", "out", "--quiet"]);
    let journal = fs::read_to_string(sandbox.path("out/journal.jsonl")).unwrap();
    let rows: Vec<serde_json::Value> = journal.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let accuracy: Vec<&serde_json::Value> = rows.iter().filter(|row| row["phase"] == "accuracy").collect();
    assert_eq!(accuracy.len(), 3);
    for row in accuracy {
        assert!(["Belm", "a river", "seven"].contains(&row["answer"].as_str().unwrap()), "{row}");
        assert_eq!(row["scores"]["acc"], row["scores"]["exact_match"], "{row}");
        assert!(row["scores"]["acc_norm"].is_number() && row["completion_tokens"].as_u64() > Some(3), "{row}");
    }
    let quality = fs::read_to_string(sandbox.path("out/tables/quality.csv")).unwrap();
    assert!(quality.contains("baseline,all,acc,share") && quality.contains("baseline,all,acc_norm,share"), "{quality}");
    assert!(sandbox.run(0, &["verify", "out"]).out.contains("are the same, byte by byte"));
    let again = Sandbox::new();
    again.write("mc.jsonl", ROWS);
    again.write("spec.toml", &fs::read_to_string(sandbox.path("spec.toml")).unwrap());
    again.run(0, &["run", "spec.toml", "-o", "out", "--quiet", "--threads", "1"]);
    let hash = |sandbox: &Sandbox| {
        let manifest: serde_json::Value = serde_json::from_slice(&fs::read(sandbox.path("out/manifest.json")).unwrap()).unwrap();
        manifest["result_hash"].clone()
    };
    assert_eq!(hash(&sandbox), hash(&again), "whatever the number of threads");
}

/// A Python with `lm_eval` scores the same questions under the same prompts. `RAGFT_LM_EVAL_PYTHON` names it.
#[test]
fn lm_evaluation_harness_takes_the_same_choices() {
    let Ok(python) = std::env::var("RAGFT_LM_EVAL_PYTHON") else {
        eprintln!("skipped: RAGFT_LM_EVAL_PYTHON is not set");
        return;
    };
    let sandbox = Sandbox::new();
    sandbox.run(0, &["dataset", "world", "-o", "world", "--size", "tiny"]);
    let asked: Vec<Value> = lines(&fs::read_to_string(sandbox.path("world/test.jsonl")).unwrap());
    let asked: Vec<&Value> = asked.iter().filter(|row| row["references"][0].is_string()).collect();
    let rows: Vec<Value> = (0..asked.len())
        .map(|index| {
            let mut choices: Vec<&str> =
                [0, 7, 13, 29].map(|step| asked[(index + step) % asked.len()]["references"][0].as_str().unwrap()).to_vec();
            choices.sort_unstable();
            choices.dedup();
            json!({"id": asked[index]["id"], "question": asked[index]["question"], "choices": choices, "answer": asked[index]["references"][0]})
        })
        .collect();
    let text = |rows: &[Value]| rows.iter().map(|row| format!("{row}\n")).collect::<String>();
    sandbox.write("mc.jsonl", &text(&rows));
    sandbox.write(
        "spec.toml",
        "variants = [\"baseline\"]\n[dataset]\npath = \"mc.jsonl\"\ntest_fraction = 1.0\n[measure]\nlatency_samples = 2\n",
    );
    sandbox.run(0, &["run", "spec.toml", "-o", "out", "--quiet"]);

    let (mut prompts, mut ours) = (Vec::new(), Vec::new());
    for row in &rows {
        let shown = sandbox.run(0, &["show", "out", "--sample", row["id"].as_str().unwrap(), "--prompts", "--json"]).out;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let gold = row["choices"].as_array().unwrap().iter().position(|choice| choice == &row["answer"]);
        prompts.push(json!({"prompt": shown["prompts"][0], "choices": row["choices"], "gold": gold}));
        ours.push(shown["rows"][0].clone());
    }
    sandbox.write("prompts.jsonl", &text(&prompts));
    let script = project_root().join("harness/tests/fixtures/check_choices.py");
    let mut command = std::process::Command::new(python);
    command.arg(script).arg(project_root().join("harness/assets/model")).arg(sandbox.path("prompts.jsonl"));
    command.env("HF_HUB_OFFLINE", "1").env("HF_HOME", sandbox.path("hub")).current_dir(sandbox.path(""));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(theirs.len(), ours.len());
    assert!(theirs.len() > 80, "{}", theirs.len());
    for ((ours, theirs), row) in ours.iter().zip(&theirs).zip(&rows) {
        for metric in ["acc", "acc_norm"] {
            assert_eq!(ours["scores"][metric].as_f64(), theirs[metric].as_f64(), "{metric} of {row}: {theirs}");
        }
        let likelihoods: Vec<f64> = theirs["log_likelihoods"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
        let largest = (0..likelihoods.len()).max_by(|left, right| likelihoods[*left].total_cmp(&likelihoods[*right])).unwrap();
        assert_eq!(ours["answer"], row["choices"][largest], "{row}: {theirs}");
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
