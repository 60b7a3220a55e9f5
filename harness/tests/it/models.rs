//! Models and adapters from elsewhere, through the command: chat templates, GGUF files, the hub's cache, given adapters, exports, merging.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::sandbox::{Sandbox, project_root};

const SMALL: &[&str] = &[
    "--quiet",
    "--limit",
    "12",
    "--set",
    "finetune.max_steps=3",
    "--set",
    "measure.latency_samples=0",
    "--set",
    "measure.noise_samples=0",
    "--set",
    "measure.audit_samples=0",
];

fn run<'a>(output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["run", "-o", output], SMALL, more].concat()
}

fn fixture(name: &str) -> PathBuf {
    project_root().join("harness/tests/fixtures").join(name)
}

fn manifest(sandbox: &Sandbox, run: &str) -> Value {
    serde_json::from_slice(&std::fs::read(sandbox.path(run).join("manifest.json")).unwrap()).unwrap()
}

/// What was answered to what, without what names the run.
fn answers(sandbox: &Sandbox, run: &str) -> Vec<[Value; 5]> {
    let text = std::fs::read_to_string(sandbox.path(run).join("journal.jsonl")).unwrap();
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.map(|row| ["variant", "sample_id", "prompt_tokens", "answer", "error"].map(|key| row[key].clone())).collect()
}

/// Prints what the plain prompt is, with the beginning token that the tokenizer adds otherwise.
const PLAIN: &str = "{{ bos_token }}{% for m in messages %}{{ m.content if m.role == 'user' else ' ' + m.content + '\\n' }}{% endfor %}";

#[test]
fn a_template_that_prints_the_plain_prompt_changes_no_answer_and_no_training() {
    let sandbox = Sandbox::new();
    sandbox.write("plain.jinja", PLAIN);
    let variants = ["--set", "variants=[\"rag\",\"finetuned\",\"hybrid_raft\"]"];
    sandbox.run(0, &run("none", &variants));
    sandbox.run(0, &run("chat", &[&variants[..], &["--set", "prompt.chat=plain.jinja"]].concat()));
    assert_eq!(answers(&sandbox, "none"), answers(&sandbox, "chat"));
    let adapter = |run: &str| std::fs::read(sandbox.path(run).join("adapters/finetuned-seed1/adapter_model.safetensors")).unwrap();
    assert_eq!(adapter("none"), adapter("chat"));
    assert!(manifest(&sandbox, "chat")["hashes"]["chat"].is_string() && manifest(&sandbox, "none")["hashes"]["chat"].is_null());
    let shown = sandbox.run(0, &["plan", "--limit", "12", "--set", "prompt.chat=plain.jinja"]).out;
    assert!(shown.contains("equals that of answering, token by token"), "{shown}");
    let refused = sandbox.run(2, &run("chat", &[&variants[..], &["--resume"]].concat())).err;
    assert!(refused.contains("`prompt.chat` was") && refused.contains("is \"none\""), "{refused}");
}

#[test]
fn a_template_with_another_prompt_in_training_is_refused_before_anything_runs() {
    let sandbox = Sandbox::new();
    sandbox.write("uneven.jinja", "{{ '?' if add_generation_prompt else '!' }}{% for m in messages %}{{ m.content }}{% endfor %}");
    let refused = sandbox.run(2, &run("r", &["--set", "prompt.chat=uneven.jinja"])).err;
    assert!(refused.contains("token 1 is `?` when answering and `!` in training"), "{refused}");
    sandbox.write(
        "strict.jinja",
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}{{ messages[0].content }}",
    );
    let refused = sandbox.run(2, &run("r", &["--set", "prompt.chat=strict.jinja", "--set", "prompt.system=Be brief"])).err;
    assert!(refused.contains("no system here") && refused.contains("prompt.system"), "{refused}");
    let refused = sandbox.run(2, &run("r", &["--set", "prompt.chat=absent.jinja"])).err;
    assert!(refused.contains("absent.jinja"), "{refused}");
    assert!(!sandbox.path("r").exists());
}

#[test]
fn an_adapter_comes_back_by_its_path_and_nothing_is_trained() {
    let sandbox = Sandbox::new();
    let variants = ["--set", "variants=[\"baseline\",\"finetuned\"]"];
    sandbox.run(0, &run("trained", &variants));
    let given = [&variants[..], &["--set", "finetune.adapter=trained/adapters/finetuned-seed1"]].concat();
    sandbox.run(0, &run("given", &given));
    assert_eq!(answers(&sandbox, "trained"), answers(&sandbox, "given"));
    let manifest = manifest(&sandbox, "given");
    assert_eq!(manifest["training"].as_array().unwrap().len(), 0);
    assert!(manifest["caveats"].to_string().contains("the adapter of finetuned was given"), "{}", manifest["caveats"]);
    sandbox.run(0, &["verify", "given", "--questions", "4", "--quiet"]);
    let other = format!("finetune.adapter={}", fixture("adapters/plain").display());
    let wrong = [&variants[..], &["--set", &other]].concat();
    let refused = sandbox.run(2, &run("wrong", &wrong)).err;
    assert!(refused.contains("`finetune.adapter`") && refused.contains("shape"), "{refused}");
    let many = [&given[..], &["--set", "seeds=[1,2]"]].concat();
    assert!(sandbox.run(2, &run("wrong", &many)).err.contains("one adapter has one training seed"));
}

fn lines(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn exported_sets_hold_the_same_rows_in_three_forms() {
    let sandbox = Sandbox::new();
    let spec = ["--limit", "12", "--set", "dataset.train_limit=40", "--set", "variants=[\"finetuned\",\"hybrid_raft\"]"];
    let printed = sandbox.run(0, &[&["finetune", "export", "-o", "sets", "--quiet", "--json"], &spec[..]].concat()).out;
    let sets: Vec<Value> = serde_json::from_str(&printed).unwrap();
    assert_eq!(sets.len(), 2);
    for set in &sets {
        let folder = sandbox.path(set["folder"].as_str().unwrap());
        let read = |name: &str| lines(&folder.join(name));
        let (messages, completions, tokens) =
            (read("train.messages.jsonl"), read("train.prompt_completion.jsonl"), read("train.tokens.jsonl"));
        assert_eq!((messages.len(), completions.len(), tokens.len() as u64), (tokens.len(), tokens.len(), set["train"].as_u64().unwrap()));
        assert!(set["validation"].as_u64().unwrap() > 0);
        let prompt = completions[0]["prompt"].as_str().unwrap();
        assert_eq!(messages[0]["messages"][0]["content"], prompt);
        assert_eq!(prompt.contains("Passage 1 :"), folder.ends_with("hybrid_raft"));
        assert_eq!(completions[0]["completion"], format!(" {}\n", messages[0]["messages"][1]["content"].as_str().unwrap()));
        let labels: Vec<i64> = tokens[0]["labels"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect();
        let ids: Vec<i64> = tokens[0]["input_ids"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect();
        let answer = labels.iter().position(|&label| label != -100).unwrap();
        assert!(answer > 4 && labels[answer..] == ids[answer..], "{labels:?}");
        assert!(folder.join("base/model.safetensors").is_file());
        compile(&folder);
    }
    assert!(
        sandbox
            .run(2, &["finetune", "export", "-o", "none", "--set", "variants=[\"rag\"]"])
            .err
            .contains("no variant of the spec is tuned")
    );
}

/// The exported scripts are Python, where there is one to ask.
fn compile(folder: &Path) {
    let scripts = ["train.py", "train_trl.py"].map(|script| folder.join(script));
    assert!(scripts.iter().all(|script| script.is_file()));
    let python = std::env::var_os("RAGFT_PYTHON").unwrap_or_else(|| "python3".into());
    match std::process::Command::new(python).args(["-m", "py_compile"]).args(&scripts).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => eprintln!("skipped: no Python to compile the scripts with: {error}"),
    }
}

/// Opt-in: `RAGFT_PYTHON` names a Python with torch, transformers and peft; with trl as well, both scripts train.
#[test]
fn the_exported_scripts_train_adapters_that_come_back() {
    let Some(python) = std::env::var_os("RAGFT_PYTHON") else {
        eprintln!("skipped: RAGFT_PYTHON does not name a Python with peft");
        return;
    };
    let has_trl = std::process::Command::new(&python).args(["-c", "import trl"]).output().unwrap().status.success();
    let sandbox = Sandbox::new();
    let spec = ["--limit", "12", "--set", "dataset.train_limit=64", "--set", "variants=[\"baseline\",\"finetuned\"]"];
    sandbox.run(0, &[&["finetune", "export", "-o", "sets", "--quiet"], &spec[..]].concat());
    let mut losses = Vec::new();
    for (script, adapter) in [("train.py", "peft"), ("train_trl.py", "trl")] {
        if adapter == "trl" && !has_trl {
            eprintln!("skipped: RAGFT_PYTHON does not name a Python with trl");
            continue;
        }
        let output = std::process::Command::new(&python)
            .current_dir(sandbox.path("sets/finetuned"))
            .args([script, "--max-steps", "4", "--output", adapter])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        losses.push(final_loss(&String::from_utf8_lossy(&output.stdout)));
        let given = format!("finetune.adapter=sets/finetuned/{adapter}");
        sandbox.run(0, &run(adapter, &[&spec[2..], &["--set", &given]].concat()));
        let rows = answers(&sandbox, adapter);
        assert!(rows.len() == 24 && rows.iter().all(|row| row[4].is_null()));
    }
    // The same tokens count in both.
    assert!(losses.windows(2).all(|pair| (pair[0] - pair[1]).abs() < 0.02 * pair[0]), "{losses:?}");
}

/// What transformers prints as `train_loss` at the end.
fn final_loss(printed: &str) -> f64 {
    let number = printed.rsplit_once("'train_loss':").map(|(_, rest)| rest.trim_start_matches([' ', '\'']));
    let number = number.and_then(|rest| rest.split(['\'', ',', '}']).next());
    number.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("no loss in {printed}"))
}

#[test]
fn merging_says_how_far_the_logits_moved() {
    let sandbox = Sandbox::new();
    let (model, adapter) = (fixture("lm/llama-gqa-tied"), fixture("adapters/plain"));
    let merge = |output: &str| {
        sandbox.run(0, &["finetune", "merge", model.to_str().unwrap(), adapter.to_str().unwrap(), "-o", output, "--json"]).out
    };
    let merged: Value = serde_json::from_str(&merge("merged")).unwrap();
    assert_eq!(merged["layers"], 14);
    assert!(merged["largest_difference"].as_f64().unwrap() < 1e-4);
    assert!(sandbox.run(0, &["model", "inspect", "merged"]).out.contains("LlamaForCausalLM"));
}

#[test]
fn a_gguf_file_and_a_cached_name_of_the_hub_are_models() {
    let sandbox = Sandbox::new();
    let inspect = |path: &str| -> Value { serde_json::from_str(&sandbox.run(0, &["model", "inspect", path]).out).unwrap() };
    let gguf = inspect(fixture("gguf/llama-gqa-tied.q8_0.gguf").to_str().unwrap());
    let folder = inspect(fixture("lm/llama-gqa-tied").to_str().unwrap());
    assert_eq!((&gguf["parameters"], &gguf["tokens"]), (&folder["parameters"], &folder["tokens"]));

    let commit = "89abcdef0123456789abcdef0123456789abcdef";
    let repository = sandbox.path("home/hub/models--tiny--llama");
    let snapshot = repository.join("snapshots").join(commit);
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(repository.join("refs")).unwrap();
    std::fs::write(repository.join("refs/main"), commit).unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        std::fs::copy(fixture("lm/llama-gqa-tied").join(file), snapshot.join(file)).unwrap();
    }
    let home = sandbox.path("home");
    let named = |name: &str| {
        let mut command = sandbox.command(&["model", "inspect", name]);
        command.env("HF_HOME", &home).env("HF_HUB_OFFLINE", "1").env_remove("HF_HUB_CACHE").output().unwrap()
    };
    let found: Value = serde_json::from_slice(&named("hub:tiny/llama").stdout).unwrap();
    assert_eq!((found["revision"].as_str(), &found["weights_hash"]), (Some(commit), &folder["weights_hash"]));
    let refused = named("hub:tiny/llama@v2");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("`HF_HUB_OFFLINE` is set"));
}
