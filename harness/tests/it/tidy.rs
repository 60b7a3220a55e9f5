//! House rules that the compiler does not know: layers, fences, and documents that name files which exist.

use std::fs;
use std::path::{Path, PathBuf};

use crate::sandbox::project_root;

/// Modules by layer; a module may use its own layer and those above it in this list.
const LAYERS: &[&[&str]] = &[
    &["stats", "diagnostic", "clock", "fence", "kernel", "rng"],
    &["spec"],
    &["store"],
    &["dataset", "score"],
    &["lm"],
    &["finetune", "retrieval"],
    &["variant"],
    &["measure"],
    &["table"],
    &["cost"],
    &["claim"],
    &["report", "gate"],
    &["export"],
    &["cli"],
];

/// Crates that may be named in these places only.
const FENCES: &[(&str, &[&str])] = &[
    ("candle_core", &["lm", "finetune", "retrieval"]),
    ("candle_nn", &["lm", "finetune", "retrieval"]),
    ("candle_transformers", &["lm", "retrieval"]),
    ("hf_hub", &["dataset/hub.rs", "lm/hub.rs"]),
    ("hnsw_rs", &["retrieval/hnsw.rs"]),
    ("postgres", &["retrieval/pgvector_store.rs"]),
    ("pgvector", &["retrieval/pgvector_store.rs"]),
    ("rustls", &["retrieval/pgvector_tls.rs"]),
    ("rust_stemmers", &["retrieval/words.rs"]),
    ("polars", &["table", "dataset/columnar.rs"]),
    ("polars_arrow", &["dataset/columnar.rs"]),
    ("polars_parquet", &["dataset/columnar.rs"]),
    ("csv", &["dataset/rows.rs"]),
    ("html2text", &["dataset/plain.rs"]),
    ("pdf_extract", &["dataset/plain.rs"]),
    ("plotters", &["report/plot"]),
    ("ureq", &["export/mlflow.rs", "export/s3/client.rs", "lm/remote", "lm/hub.rs", "dataset/hub"]),
];

fn sources() -> Vec<(String, String)> {
    let root = project_root().join("harness/src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

/// What stands before the tests at the foot of a file.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod ").next().unwrap()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[test]
fn modules_import_from_lower_layers_only() {
    let mut upward = Vec::new();
    for (name, text) in sources() {
        let module = name.split('/').next().unwrap().trim_end_matches(".rs");
        let Some(own) = layer(module) else { continue };
        for rest in without_tests(&text).split("crate::").skip(1) {
            let used: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if layer(&used).is_some_and(|used| used > own) {
                upward.push(format!("{name} uses crate::{used}"));
            }
        }
    }
    assert!(upward.is_empty(), "upward imports:\n{}", upward.join("\n"));
}

#[test]
fn fenced_crates_stay_behind_their_fences() {
    let mut escaped = Vec::new();
    for (name, text) in sources() {
        for (fenced, homes) in FENCES {
            let at_home = homes.iter().any(|home| name == *home || name.starts_with(&format!("{home}/")));
            if !at_home && without_tests(&text).contains(&format!("{fenced}::")) {
                escaped.push(format!("{name} names {fenced}"));
            }
        }
    }
    assert!(escaped.is_empty(), "outside the fence:\n{}", escaped.join("\n"));
}

/// Work that stays in main memory whatever `model.device` says, or that decides on the device.
const ON_THE_CPU: &[&str] = &[
    "lm/device.rs",
    "lm/gguf/",
    "lm/local.rs",
    "lm/device_tests.rs",
    "lm/shape_tests.rs",
    "lm/tests.rs",
    "finetune/muon.rs",
    "finetune/optimizer.rs",
    "finetune/pretrain",
    "finetune/testing.rs",
    "finetune/reference.rs",
    "lm/ops/check.rs",
    "retrieval/",
];

#[test]
fn tensors_follow_the_device_of_the_model() {
    let names_the_cpu = |(name, text): &(String, String)| {
        without_tests(text).contains("Device::Cpu") && !ON_THE_CPU.iter().any(|home| name.starts_with(home))
    };
    let found: Vec<String> = sources().into_iter().filter(names_the_cpu).map(|(name, _)| name).collect();
    assert!(found.is_empty(), "take the device from a tensor instead of naming the CPU: {found:?}");
}

#[test]
fn one_file_knows_how_the_program_was_built() {
    let asks = |(name, text): &(String, String)| text.contains("feature = \"cuda\"") && name != "lm/device.rs";
    let found: Vec<String> = sources().into_iter().filter(asks).map(|(name, _)| name).collect();
    assert!(found.is_empty(), "`cfg(feature = \"cuda\")` belongs into lm/device.rs: {found:?}");
}

#[test]
fn documents_name_files_that_exist() {
    let mut missing = Vec::new();
    for document in ["README.md", "ARCHITECTURE.md", "METHODOLOGY.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(project_root().join(document)).unwrap();
        for word in text.split('`').skip(1).step_by(2) {
            let is_path = word.contains('/') && !word.contains(' ') && !word.contains(['<', '*', ':', '{', '$', '(']);
            let known = ["harness/", "datasets/", "reports/", "benches/", "specs/"].iter().any(|top| word.starts_with(top));
            if is_path && known && !Path::exists(&project_root().join(word)) {
                missing.push(format!("{document}: {word}"));
            }
        }
    }
    assert!(missing.is_empty(), "documents name what does not exist:\n{}", missing.join("\n"));
}
