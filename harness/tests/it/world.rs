//! Pre-training on the fact world, and the model that ships.

use serde_json::Value;

use crate::sandbox::Sandbox;

/// BLAKE3 of the weights that `specs/pretrain-tiny.toml` gives on processors with fused multiply-add.
const TINY_WEIGHTS: &str = "f8bb55e0c520376d62d58482814c4c3c9916652d6532035598f467627bed2b39";

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
