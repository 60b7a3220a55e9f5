//! A wrong request fails early, whole, says the mend, exits with 2 and leaves nothing behind.

use crate::sandbox::Sandbox;

/// Runs a spec that must be refused; gives what stderr says.
#[track_caller]
fn refused(sandbox: &Sandbox, spec: &str) -> String {
    sandbox.write("spec.toml", spec);
    let printed = sandbox.run(2, &["run", "spec.toml", "-o", "out", "--quiet"]);
    assert!(printed.out.is_empty(), "{}", printed.out);
    assert!(!sandbox.path("out").exists(), "something was written");
    printed.err
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}

/// A native dataset of one document and two questions; `edit` may spoil its files by name.
fn dataset(sandbox: &Sandbox, edit: impl Fn(&str, String) -> String) -> String {
    let files = [
        ("dataset.toml", "name = \"small\"\n".to_owned()),
        ("documents.jsonl", "{\"id\":\"d1\",\"title\":\"Ada\",\"text\":\"Ada was born in Belm.\"}\n{\"id\":\"d2\",\"title\":\"Carl\",\"text\":\"Carl was born in Dor.\"}\n".to_owned()),
        ("train.jsonl", "{\"id\":\"t1\",\"question\":\"Where was Carl born?\",\"references\":[\"Dor\"],\"relevant\":[\"d2\"]}\n".to_owned()),
        ("test.jsonl", "{\"id\":\"q1\",\"question\":\"Where was Ada born?\",\"references\":[\"Belm\"],\"relevant\":[\"d1\"]}\n".to_owned()),
    ];
    for (name, text) in files {
        sandbox.write(&format!("data/{name}"), &edit(name, text));
    }
    "[dataset]\npath = \"data\"\n[retrieval]\ntop_k = 1\n".to_owned()
}

#[track_caller]
fn spoilt(file: &str, from: &str, to: &str) -> String {
    let sandbox = Sandbox::new();
    let spec = dataset(&sandbox, |name, text| if name == file { text.replace(from, to) } else { text });
    refused(&sandbox, &spec)
}

#[test]
fn a_misspelt_key_is_named_with_its_line_and_the_nearest() {
    says(
        &refused(&Sandbox::new(), "[finetune]\nlearning_rat = 1\n"),
        &["line 2", "finetune.learning_rat", "did you mean `learning_rate`?"],
    );
}

#[test]
fn a_missing_spec_says_how_to_get_one() {
    says(&Sandbox::new().run(2, &["run", "none.toml"]).err, &["none.toml", "ragft init"]);
}

#[test]
fn a_missing_dataset_is_named() {
    says(&refused(&Sandbox::new(), "[dataset]\npath = \"nowhere\"\n"), &["nowhere"]);
}

#[test]
fn invalid_json_is_named_with_its_line() {
    says(&spoilt("test.jsonl", "{\"id\":\"q1\"", "{\"id\":\"q0\",\n{\"id\":\"q1\""), &["test.jsonl", "line 1"]);
}

#[test]
fn duplicate_ids_are_named() {
    says(&spoilt("documents.jsonl", "\"d2\"", "\"d1\""), &["documents.jsonl", "line 2", "d1"]);
}

#[test]
fn a_question_without_references_is_named() {
    says(&spoilt("test.jsonl", "[\"Belm\"]", "[]"), &["test.jsonl", "line 1", "references"]);
}

#[test]
fn relevant_ids_must_name_documents() {
    says(&spoilt("test.jsonl", "\"d1\"", "\"d9\""), &["test.jsonl", "line 1", "d9"]);
}

#[test]
fn an_empty_corpus_is_refused() {
    let sandbox = Sandbox::new();
    let spec = dataset(&sandbox, |name, text| if name == "documents.jsonl" { String::new() } else { text });
    says(&refused(&sandbox, &spec), &["empty corpus", "add at least one document"]);
}

#[test]
fn train_and_test_must_not_overlap() {
    says(&spoilt("train.jsonl", "Where was Carl born?", "Where was Ada born?"), &["overlap", "`q1`", "dataset.overlap"]);
}

#[test]
fn top_k_larger_than_the_corpus_is_refused() {
    let sandbox = Sandbox::new();
    let spec = dataset(&sandbox, |_, text| text).replace("top_k = 1", "top_k = 50\n[retrieval.hnsw]\nef_search = 64");
    says(&refused(&sandbox, &spec), &["retrieval.top_k", "50", "at most 2"]);
}

#[test]
fn a_prompt_that_cannot_fit_is_refused() {
    let sandbox = Sandbox::new();
    let spec = dataset(&sandbox, |_, text| text) + "[model]\nmax_context = 20\n[generation]\nmax_new_tokens = 16\n";
    says(&refused(&sandbox, &spec), &["do not fit", "q1", "max_new_tokens"]);
}

#[test]
fn a_model_folder_must_be_whole() {
    let sandbox = Sandbox::new();
    let spec = dataset(&sandbox, |_, text| text) + "[model]\npath = \"model\"\n";
    sandbox.write("model/config.json", "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"vocab_size\":8,\"hidden_size\":8,\"intermediate_size\":8,\"num_hidden_layers\":1,\"num_attention_heads\":1,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":64}");
    says(&refused(&sandbox, &spec), &["tokenizer.json"]);
    sandbox.write(
        "model/config.json",
        "{\"architectures\":[\"MambaForCausalLM\"],\"model_type\":\"mamba\",\"vocab_size\":8,\"hidden_size\":8}",
    );
    says(&refused(&sandbox, &spec), &["MambaForCausalLM", "LlamaForCausalLM"]);
}

#[test]
fn a_full_output_folder_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.write("out/mine.txt", "keep");
    let printed = sandbox.run(2, &["run", "-o", "out"]);
    says(&printed.err, &["`out` is not empty", "--resume"]);
    assert_eq!(std::fs::read_dir(sandbox.path("out")).unwrap().count(), 1);
}

#[test]
fn an_unknown_device_is_named_with_its_line_and_the_nearest() {
    says(
        &refused(&Sandbox::new(), "[model]\ndevice = \"cudda\"\n"),
        &["line 2", "`model.device` is \"cudda\"", "did you mean `cuda`?", "cuda:N"],
    );
}

#[test]
fn a_gpu_that_cannot_be_had_is_refused_and_never_replaced() {
    // No machine has a hundred GPUs, so this holds with CUDA built in as well.
    let text = refused(&Sandbox::new(), "[model]\ndevice = \"cuda:99\"\n");
    says(&text, &["`model.device` is `cuda:99`"]);
    let ways = ["cargo build --release --features cuda", "nvidia-smi", "the last one is `cuda:"];
    assert!(ways.iter().any(|way| text.contains(way)), "{text}");
}

#[test]
fn no_threads_at_all_are_refused() {
    says(&Sandbox::new().run(2, &["run", "-o", "out", "--threads", "0"]).err, &["`--threads` is 0", "at least 1"]);
}

#[test]
fn a_schema_knows_the_devices() {
    let schema = Sandbox::new().run(0, &["init", "--schema"]).out;
    says(&schema, &["cuda(:[0-9]+)?"]);
}

#[test]
fn a_store_that_is_gone_is_named_with_the_mend_and_without_its_password() {
    let sandbox = Sandbox::new();
    let spec = dataset(&sandbox, |_, text| text).replace("top_k = 1", "top_k = 1\nstore = \"postgres://me:s3cr3t@127.0.0.1:1/db\"");
    let error = refused(&sandbox, &spec);
    says(&error, &["store `postgres://me:***@127.0.0.1:1/db` cannot connect", "see that the server runs"]);
    assert!(!error.contains("s3cr3t"), "{error}");
    let spec = spec.replace("postgres://me:s3cr3t@127.0.0.1:1/db", "mysql://host/db");
    says(&refused(&sandbox, &spec), &["`retrieval.store` is \"mysql://host/db\"", "postgres://USER@HOST:PORT/DATABASE"]);
}

#[test]
fn a_reranker_must_be_a_folder_that_scores_pairs() {
    let sandbox = Sandbox::new();
    let spec = dataset(&sandbox, |_, text| text) + "[retrieval.rerank]\nmodel = \"nowhere\"\n";
    says(&refused(&sandbox, &spec), &["reranker `nowhere`: is not a folder", "retrieval.rerank.model"]);
}

#[test]
fn lists_shorter_than_top_k_and_unknown_methods_are_refused() {
    let sandbox = Sandbox::new();
    let spec = dataset(&sandbox, |_, text| text) + "[retrieval.search]\nmethod = \"hybrid\"\ncandidates = 0\n[retrieval.bm25]\nb = 1.5\n";
    says(&refused(&sandbox, &spec), &["`retrieval.search.candidates` is 0, expected at least top_k (1)", "`retrieval.bm25.b` is 1.5"]);
    says(&refused(&sandbox, &spec.replace("hybrid", "bm52")), &["`retrieval.search.method` is \"bm52\"", "`bm25`"]);
}
