//! The ways of searching, through the whole program: what a run of each leaves.

use std::path::Path;

use serde_json::Value;

use crate::sandbox::{Sandbox, project_root};

/// A few questions, retrieval alone.
const SMALL: &[&str] = &[
    "--quiet",
    "--limit",
    "12",
    "--set",
    "variants=[\"rag\"]",
    "--set",
    "measure.latency_samples=2",
    "--set",
    "measure.noise_samples=0",
    "--set",
    "measure.audit_samples=0",
];

fn run<'a>(output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "-o", output], SMALL, more].concat()
}

fn manifest(sandbox: &Sandbox, run: &str) -> Value {
    serde_json::from_slice(&std::fs::read(sandbox.path(run).join("manifest.json")).unwrap()).unwrap()
}

fn rows(sandbox: &Sandbox, run: &str) -> Vec<Value> {
    let journal = std::fs::read_to_string(sandbox.path(run).join("journal.jsonl")).unwrap();
    journal.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(sandbox: &Sandbox, file: &str) -> String {
    std::fs::read_to_string(sandbox.path(file)).unwrap()
}

#[test]
fn a_fused_and_reranked_run_shows_its_stages_costs_and_recall() {
    let sandbox = Sandbox::new();
    let reranker = project_root().join("harness/tests/fixtures/retrieval/cross_encoder");
    let model = format!("retrieval.rerank.model={}", reranker.display());
    let settings = [
        "--set",
        "retrieval.search.method=hybrid",
        "--set",
        &model,
        "--set",
        "retrieval.rerank.candidates=20",
        "--set",
        "retrieval.search.candidates=30",
    ];
    sandbox.run(0, &run("a", &settings));
    let (timed, scored): (Vec<Value>, Vec<Value>) = rows(&sandbox, "a").into_iter().partition(|row| row["phase"] == "latency");
    for row in &timed {
        let stage = |name: &str| row["stage_ns"][name].as_u64().unwrap();
        let before = ["embed", "search", "lexical", "rerank", "prompt", "prefill"].map(stage);
        assert!(before.iter().all(|time| *time > 0), "{row}");
        assert_eq!(row["ttft_ns"].as_u64().unwrap(), before.iter().sum::<u64>());
    }
    for row in &scored {
        assert!(row["scores"]["ann_recall_at_30"].as_f64().unwrap() > 0.9, "{row}");
        assert!(row["hits"][0].get("in_exact").is_none());
    }
    // Not every question has a document that answers it.
    let judged = scored.iter().filter(|row| row["scores"]["recall_at_4"].is_f64()).count();
    assert!(2 * judged > scored.len(), "{judged} of {}", scored.len());
    let manifest = manifest(&sandbox, "a");
    assert!(manifest["index"]["lexical"]["postings"].as_u64().unwrap() > 1000 && manifest["index"]["reranker"]["load_seconds"].is_f64());
    assert!(manifest["hashes"]["reranker"].is_string());
    for stage in ["rag,lexical,", "rag,rerank,"] {
        assert!(text(&sandbox, "a/tables/latency.csv").contains(stage), "{stage}");
    }
    for quantity in ["lexical_seconds", "lexical_bytes", "reranker_load_seconds"] {
        assert!(text(&sandbox, "a/tables/cost.csv").contains(quantity), "{quantity}");
    }
    let report = text(&sandbox, "a/report.html");
    assert!(report.contains("reciprocal rank fusion (constant 60) of 30 passages") && report.contains("ranked anew by the cross-encoder"));
    assert!(report.contains("ANN recall@30"));

    let same = sandbox.run(0, &["verify", "a"]).out;
    assert!(same.contains("byte by byte"), "{same}");
    let refused = sandbox.run(2, &run("a", &["--resume", "--set", "retrieval.search.method=bm25"])).err;
    assert!(refused.contains("`retrieval.search.method` was \"hybrid\", is \"bm25\""), "{refused}");
}

#[test]
fn words_alone_need_no_vectors_and_threads_do_not_change_the_result() {
    let sandbox = Sandbox::new();
    for (output, threads) in [("one", "1"), ("two", "2")] {
        sandbox.run(0, &run(output, &["--threads", threads, "--set", "retrieval.search.method=bm25"]));
    }
    let (one, two) = (manifest(&sandbox, "one"), manifest(&sandbox, "two"));
    assert_eq!((&one["result_hash"], &one["hashes"]["index"]), (&two["result_hash"], &two["hashes"]["index"]));
    assert!(one["result_hash"].is_string());
    assert_eq!((&one["index"]["dimension"], &one["index"]["embed_tokens"]), (&0.into(), &0.into()));
    assert!(rows(&sandbox, "one").iter().all(|row| row["scores"].get("ann_recall_at_4").is_none()));
    assert!(text(&sandbox, "one/report.html").contains("Passages are ranked by BM25 (k1 1.2, b 0.75)."));
}

/// Every file of a folder, as text where it is text.
fn all_text(folder: &Path) -> String {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { all_text(&path) } else { String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned() })
        .collect()
}

#[test]
fn a_server_keeps_the_vectors_and_no_file_has_its_password() {
    let Ok(address) = std::env::var("RAGFT_TEST_POSTGRES") else { return eprintln!("skipped: RAGFT_TEST_POSTGRES is not set") };
    let sandbox = Sandbox::new();
    let store = format!("retrieval.store={}", address.replace("postgres:@", "postgres:s3cr3t@"));
    let settings = ["--set", &store];
    sandbox.run(0, &run("a", &settings));
    sandbox.run(0, &run("b", &settings));
    sandbox.run(0, &run("memory", &[]));
    let (a, b) = (manifest(&sandbox, "a"), manifest(&sandbox, "b"));
    assert_eq!((&a["result_hash"], &a["run_id"]), (&b["result_hash"], &b["run_id"]));
    assert_eq!(b["index"]["store"]["reused"], true);
    assert_ne!(a["run_id"], manifest(&sandbox, "memory")["run_id"]);
    assert!(rows(&sandbox, "b").iter().filter(|row| row["phase"] == "accuracy").all(|row| row["hits"][0]["in_exact"] == true));
    assert!(!all_text(&sandbox.path("a")).contains("s3cr3t"));
    assert!(text(&sandbox, "b/report.html").contains("built by an earlier run"));
    let same = sandbox.run(0, &["verify", "b"]).out;
    assert!(same.contains("byte by byte"), "{same}");
}
