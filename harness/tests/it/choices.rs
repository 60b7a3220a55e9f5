//! Multiple choice: the most likely choice is the answer, whatever form the set comes in.

use std::fs;

use crate::sandbox::Sandbox;

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
