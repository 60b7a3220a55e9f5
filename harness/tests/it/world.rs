//! The fact world by its commands: generated, checked, run on, and pre-trained on.

use std::time::Instant;

use serde_json::Value;

use crate::sandbox::Sandbox;

/// BLAKE3 of the weights that `specs/pretrain-tiny.toml` gives on processors with fused multiply-add.
const TINY_WEIGHTS: &str = "f72179bedfe1c2e66737c9de90220686f50ab55b7b5cd5c4b3e5490847a00ccd";

#[test]
fn a_tiny_world_is_generated_checked_and_run_on_in_seconds() {
    let sandbox = Sandbox::new();
    sandbox.run(0, &["dataset", "world", "--size", "tiny", "--seed", "7", "-o", "world"]);
    let checked = sandbox.run(0, &["dataset", "check", "world"]).out;
    assert!(checked.contains("cell: ") && checked.contains("unstated/lookup"), "{checked}");
    std::fs::write(sandbox.path("spec.toml"), "variants = [\"baseline\", \"rag\", \"finetuned\", \"hybrid\"]\n[dataset]\npath = \"world\"\n").unwrap();
    let start = Instant::now();
    let short = ["--set", "finetune.max_steps=4", "--set", "measure.latency_samples=2", "--set", "generation.max_new_tokens=12"];
    sandbox.run(0, &[&["run", "spec.toml", "-o", "run", "--quiet"][..], &short].concat());
    eprintln!("the tiny world ran in {:.1} s", start.elapsed().as_secs_f64());
    let report = std::fs::read_to_string(sandbox.path("run/report.md")).unwrap();
    assert!(report.contains("factworld"));
}

/// Two rebuilds are told apart by nothing, and the weights are those that everybody else gets.
#[test]
fn a_pre_training_gives_the_committed_weights() {
    let sandbox = Sandbox::new();
    let spec = format!("{}/../specs/pretrain-tiny.toml", env!("CARGO_MANIFEST_DIR"));
    sandbox.run(0, &["model", "pretrain", &spec, "-o", "model", "--quiet"]);
    for file in ["config.json", "tokenizer.json", "pretrain.jsonl", "exposures.jsonl", "training.jsonl", "plots/pretrain-reading.svg"] {
        assert!(sandbox.path("model").join(file).is_file(), "{file} is missing");
    }
    let inspected: Value = serde_json::from_str(&sandbox.run(0, &["model", "inspect", "model"]).out).unwrap();
    if cfg!(target_arch = "x86_64") {
        assert_eq!(inspected["weights_hash"], TINY_WEIGHTS);
    }
}

/// The card that ships with the built-in model names its weights.
#[test]
fn the_model_card_names_the_weights_that_ship() {
    let inspected: Value = serde_json::from_str(&Sandbox::new().run(0, &["model", "inspect", "builtin"]).out).unwrap();
    let card = std::fs::read_to_string(format!("{}/assets/model/README.md", env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert!(card.contains(inspected["weights_hash"].as_str().unwrap()), "{}", inspected["weights_hash"]);
}
