//! Models and embedders behind a server: the same answers as in process, whatever goes wrong on the way, and no key in any file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use ragft::finetune::load_given;
use ragft::lm::ComputeDevice;
use ragft::lm::builtin::{load_builtin, write_builtin};
use ragft::lm::lora::LoraWeights;
use serde_json::Value;

use crate::sandbox::{Printed, Sandbox};
use crate::server::{Fault, Server};

const KEY: &str = "sk-test-51b1e9d0c7-never-written";
/// A variable of the tests alone.
const KEY_VARIABLE: &str = "RAGFT_ENDPOINT_TEST_KEY";

/// The built-in model's tokenizer beside the spec, so that prompts are fitted as in process.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    write_builtin(&sandbox.path("tokenizer")).unwrap();
    sandbox
}

/// A run with whatever proxies the tests' host has left out.
#[track_caller]
fn run(sandbox: &Sandbox, code: i32, args: &[&str], key: Option<&str>) -> Printed {
    let mut command = sandbox.command(args);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(name);
    }
    if let Some(key) = key {
        command.env(KEY_VARIABLE, key);
    }
    let output = command.output().unwrap();
    let printed =
        Printed { out: String::from_utf8_lossy(&output.stdout).into_owned(), err: String::from_utf8_lossy(&output.stderr).into_owned() };
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{}\n{}", printed.out, printed.err);
    printed
}

/// Settings of a run over a few questions, as text of a spec.
fn spec(variants: &str, more: &str) -> String {
    format!(
        "variants = [{variants}]\n[dataset]\nlimit = 20\n[finetune]\nmax_steps = 4\nlearning_rate = 5e-3\n[generation]\nmax_new_tokens = 16\n\
         [measure]\nlatency_samples = 2\nwarmup = 1\nnoise_samples = 4\naudit_samples = 2\nbootstrap_resamples = 100\n{more}"
    )
}

fn endpoint(url: &str, more: &str) -> String {
    format!(
        "[model]\nmax_context = 1024\ntokenizer = \"tokenizer\"\n[model.endpoint]\nurl = \"{url}\"\nmodel = \"reference\"\nkind = \"completions\"\ntimeout_s = 20.0\n{more}"
    )
}

fn journal(sandbox: &Sandbox, run: &str) -> Vec<Value> {
    let text = fs::read_to_string(sandbox.path(run).join("journal.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn manifest(sandbox: &Sandbox, run: &str) -> Value {
    serde_json::from_slice(&fs::read(sandbox.path(run).join("manifest.json")).unwrap()).unwrap()
}

/// What must be equal of the accuracy pass, by variant and question.
fn answers(sandbox: &Sandbox, run: &str) -> BTreeMap<(String, String), Value> {
    let rows = journal(sandbox, run).into_iter().filter(|row| row["phase"] == "accuracy");
    let key = |row: &Value| (row["variant"].as_str().unwrap().to_owned(), row["sample_id"].as_str().unwrap().to_owned());
    let fields =
        ["answer", "finish_reason", "prompt_tokens", "context_tokens", "completion_tokens", "hits", "scores", "context_cut", "error"];
    rows.map(|row| (key(&row), fields.map(|field| row[field].clone()).into_iter().collect())).collect()
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn adapter(sandbox: &Sandbox, folder: &str) -> LoraWeights {
    let device = ComputeDevice::cpu();
    let model = load_builtin(0, &device).unwrap();
    load_given(&sandbox.path(folder), &model.config, &model.tokenizer, device.candle()).unwrap().weights
}

#[test]
fn a_served_quickstart_equals_the_one_in_process_whatever_goes_wrong() {
    let sandbox = sandbox();
    let variants = "\"baseline\", \"rag\", \"finetuned\", \"hybrid\"";
    sandbox.write("local.toml", &spec(variants, ""));
    run(&sandbox, 0, &["run", "local.toml", "-o", "local", "--quiet"], None);
    let tuned = adapter(&sandbox, "local/adapters/finetuned-seed1");
    // Of every seven requests three fail, each in another way; two say nothing for longer than is waited.
    let server = Server::with(Some(KEY), BTreeMap::from([("tuned".to_owned(), tuned)]), |number| match number {
        30 | 31 => Some(Fault::Silence(Duration::from_secs(30))),
        _ => match number % 7 {
            1 => Some(Fault::Status(429, Some("0"))),
            3 => Some(Fault::Status(500, None)),
            5 => Some(Fault::Cut),
            _ => None,
        },
    });
    let settings = format!("adapter = \"tuned\"\nkey_env = \"{KEY_VARIABLE}\"\nretries = 12\nprice_input = 2.0\nprice_output = 8.0\n");
    sandbox.write("served.toml", &spec(variants, &endpoint(&server.url, &settings)));
    run(&sandbox, 0, &["run", "served.toml", "-o", "served", "--quiet"], Some(KEY));
    assert!(server.faulted() > 30, "{} of {} requests were spoilt", server.faulted(), server.requests());

    let (here, there) = (answers(&sandbox, "local"), answers(&sandbox, "served"));
    assert_eq!((here.len(), there.len()), (80, 80), "no row is lost");
    for (question, answer) in &here {
        assert_eq!(answer, &there[question], "{question:?}");
    }
    let rows = journal(&sandbox, "served");
    let timed: Vec<&Value> = rows.iter().filter(|row| row["phase"] == "latency").collect();
    assert_eq!(timed.len(), 8);
    assert!(timed.iter().all(|row| row["ttft_ns"].as_u64() > Some(0) && row["e2e_ns"].as_u64() >= row["ttft_ns"].as_u64()), "{timed:?}");
    assert!(rows.iter().all(|row| row.get("flops").is_none() && row.get("resources").is_none()), "what is not known here is not told");

    let manifest = manifest(&sandbox, "served");
    let served = &manifest["model"]["served"];
    assert_eq!(served["host"], server.url.trim_start_matches("http://").trim_end_matches("/v1"));
    assert_eq!((&served["fingerprints"], &served["interface"]), (&serde_json::json!(["built-in"]), &Value::from("completions")));
    assert!(served["retries"].as_u64() > Some(30) && served["money"].as_f64() > Some(0.0), "{served}");
    assert!(manifest["hashes"].get("model").is_none() && manifest["machine"]["device"] == "a server");
    let cost = fs::read_to_string(sandbox.path("served/tables/cost.csv")).unwrap();
    assert!(cost.contains("rag,query,token_money") && !cost.contains("query,total_flops") && !cost.contains("resident_bytes"), "{cost}");
    assert!(!cost.contains("finetuned,setup,total"), "the training's cost is not known: {cost}");
    let report = fs::read_to_string(sandbox.path("served/report.md")).unwrap();
    assert!(report.contains("a server answered: its weights are not known here"), "{report}");
    assert!(!report.contains("a model of 0 parameters"), "{report}");

    // Where the key would be, if it was anywhere.
    for file in files(&sandbox.path("served")) {
        let bytes = fs::read(&file).unwrap();
        assert!(!bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes()), "the key is in {}", file.display());
    }
    let wrong = "sk-wrong-8d1c22-never-shown";
    let printed = run(&sandbox, 4, &["run", "served.toml", "-o", "denied", "--quiet"], Some(wrong));
    assert!(printed.err.contains("refuses with status 401") && printed.err.contains("***"), "{}", printed.err);
    assert!(!printed.err.contains(wrong) && !printed.out.contains(wrong), "{}", printed.err);
    let unset = run(&sandbox, 2, &["run", "served.toml", "-o", "unset", "--quiet"], None);
    assert!(unset.err.contains(&format!("`{KEY_VARIABLE}`, which is to hold the key, is not set")), "{}", unset.err);
    assert!(!sandbox.path("unset").exists());
}

#[test]
fn with_the_server_gone_it_stops_and_resumes() {
    let sandbox = sandbox();
    let undisturbed = Server::start(|_| None);
    let settings = |url: &str| spec("\"baseline\", \"rag\"", &endpoint(url, "concurrency = 2\nretries = 1\n"));
    sandbox.write("whole.toml", &settings(&undisturbed.url));
    run(&sandbox, 0, &["run", "whole.toml", "-o", "whole", "--quiet"], None);

    let dying = Server::start(|number| (number >= 25).then_some(Fault::Gone));
    sandbox.write("spec.toml", &settings(&dying.url));
    let stopped = run(&sandbox, 4, &["run", "spec.toml", "-o", "out", "--quiet"], None);
    for part in ["the model failed", "gives no answer after 2 attempts", "--resume"] {
        assert!(stopped.err.contains(part), "no {part:?} in {}", stopped.err);
    }
    let kept = journal(&sandbox, "out").len();
    assert!((16..40).contains(&kept), "{kept} rows were kept");
    assert!(journal(&sandbox, "out").iter().all(|row| row.get("error").is_none()), "a server that is gone is no fault of a question");
    let spent = |run: &str| manifest(&sandbox, run)["model"]["served"]["completion_tokens"].as_u64().unwrap();
    let before = spent("out");

    // Back at another port, the server is the same to the run.
    sandbox.write("spec.toml", &settings(&undisturbed.url));
    run(&sandbox, 0, &["run", "spec.toml", "-o", "out", "--resume", "--quiet"], None);
    assert_eq!(answers(&sandbox, "out"), answers(&sandbox, "whole"));
    let ids: BTreeSet<String> =
        journal(&sandbox, "out").iter().map(|row| format!("{} {} {}", row["phase"], row["variant"], row["sample_id"])).collect();
    assert_eq!((journal(&sandbox, "out").len(), ids.len()), (44, 44), "every row once");
    assert!(before > 0 && spent("out") > before);
    assert!(sandbox.run(0, &["report", "out"]).out.contains("report.html"), "a report needs no server");
    let verified = run(&sandbox, 0, &["verify", "out", "--questions", "3"], None);
    assert!(verified.out.contains("are the same, byte by byte"), "{}", verified.out);
}

/// Runs until the server has had so many requests, presses Ctrl-C, and gives what was printed then.
#[cfg(unix)]
#[track_caller]
fn interrupted(sandbox: &Sandbox, server: &Server, requests: usize, args: &[&str]) -> String {
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("ragft"));
    command.current_dir(sandbox.path("")).env("NO_COLOR", "1").args(args);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(name);
    }
    let mut child = Process(command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap());
    while server.requests() < requests {
        assert!(child.0.try_wait().unwrap().is_none(), "it ended before");
        std::thread::sleep(Duration::from_millis(10));
    }
    // The last one is on its way.
    std::thread::sleep(Duration::from_millis(100));
    let pressed = ragft::clock::Stopwatch::start();
    assert!(std::process::Command::new("kill").arg("-INT").arg(child.0.id().to_string()).status().unwrap().success());
    let mut text = String::new();
    std::io::Read::read_to_string(child.0.stderr.as_mut().unwrap(), &mut text).unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(130), "{text}");
    assert!(pressed.elapsed() < Duration::from_secs(10), "it went on for {:?}", pressed.elapsed());
    assert!(text.contains("interrupted: everything so far is kept"), "{text}");
    text
}

#[cfg(unix)]
#[test]
fn ctrl_c_waits_for_no_server_and_loses_no_answer() {
    let sandbox = sandbox();
    let settings = |url: &str| spec("\"baseline\"", &endpoint(url, "concurrency = 2\n").replace("timeout_s = 20.0", "timeout_s = 600.0"));
    let run_args = ["run", "spec.toml", "-o", "out", "--quiet"];
    // Ten answers, one that is nearly there, and one that never comes.
    let silent = Server::start(|number| match number {
        0..10 => None,
        10 => Some(Fault::Late(Duration::from_millis(400))),
        _ => Some(Fault::Silence(Duration::from_mins(10))),
    });
    sandbox.write("spec.toml", &settings(&silent.url));
    let printed = interrupted(&sandbox, &silent, 12, &run_args);
    assert!(printed.contains("ragft run spec.toml -o out --resume"), "{printed}");
    assert_eq!((silent.requests(), journal(&sandbox, "out").len()), (12, 11), "no new request, and the late answer is kept");
    assert!(manifest(&sandbox, "out")["model"]["served"]["completion_tokens"].as_u64() > Some(10));

    let resume = [&run_args[..], &["--resume"]].concat();
    let busy = Server::start(|number| (number >= 3).then_some(Fault::Status(503, Some("500"))));
    sandbox.write("spec.toml", &settings(&busy.url));
    interrupted(&sandbox, &busy, 5, &resume);
    assert_eq!(journal(&sandbox, "out").len(), 14, "a wait of minutes is cut short");

    let undisturbed = Server::start(|_| None);
    sandbox.write("spec.toml", &settings(&undisturbed.url));
    run(&sandbox, 0, &resume, None);
    run(&sandbox, 0, &["run", "spec.toml", "-o", "whole", "--quiet"], None);
    assert_eq!(answers(&sandbox, "out"), answers(&sandbox, "whole"));
    assert!(journal(&sandbox, "out").iter().all(|row| row.get("error").is_none()));
}

#[test]
fn a_spent_budget_stops_the_run_and_a_raised_one_goes_on() {
    let sandbox = sandbox();
    let server = Server::start(|_| None);
    sandbox.write("spec.toml", &spec("\"baseline\"", &endpoint(&server.url, "price_input = 1.0\nmax_total_tokens = 300\n")));
    let stopped = run(&sandbox, 4, &["run", "spec.toml", "-o", "out", "--quiet"], None);
    assert!(
        stopped.err.contains("the budget is spent") && stopped.err.contains("raise `model.endpoint.max_total_tokens`"),
        "{}",
        stopped.err
    );
    let used = |run: &str| {
        let served = manifest(&sandbox, run)["model"]["served"].clone();
        served["prompt_tokens"].as_u64().unwrap() + served["completion_tokens"].as_u64().unwrap()
    };
    assert!((200..=300).contains(&used("out")), "{} tokens", used("out"));
    let again = run(&sandbox, 4, &["run", "spec.toml", "-o", "out", "--resume", "--quiet"], None);
    assert!(again.err.contains("the budget is spent"), "a resumed run has spent what it spent before: {}", again.err);
    let more = ["run", "spec.toml", "-o", "out", "--resume", "--quiet", "--set", "model.endpoint.max_total_tokens=0", "--set"];
    let money = run(&sandbox, 4, &[&more[..], &["model.endpoint.max_total_cost=0.0004"]].concat(), None);
    assert!(money.err.contains("`model.endpoint.max_total_cost` is 0.0004"), "{}", money.err);
    run(&sandbox, 0, &[&more[..], &["model.endpoint.max_total_cost=1.0"]].concat(), None);
    assert_eq!(answers(&sandbox, "out").len(), 20);
}

#[test]
fn vectors_from_a_server_find_what_the_embedder_in_process_finds() {
    let sandbox = sandbox();
    let server = Server::with(Some(KEY), BTreeMap::new(), |number| match number % 5 {
        1 => Some(Fault::Status(503, Some("0"))),
        3 => Some(Fault::Cut),
        _ => None,
    });
    sandbox.write("local.toml", &spec("\"rag\"", ""));
    let embedder = format!(
        "[retrieval.endpoint]\nurl = \"{}/\"\nmodel = \"vectors\"\nkey_env = \"{KEY_VARIABLE}\"\nbatch = 20\nprice_input = 1.0\n",
        server.url
    );
    sandbox.write("served.toml", &spec("\"rag\"", &embedder));
    run(&sandbox, 0, &["run", "local.toml", "-o", "local", "--quiet"], None);
    run(&sandbox, 0, &["run", "served.toml", "-o", "served", "--quiet"], Some(KEY));
    assert!(server.faulted() > 3);
    let documents = |run: &str| -> BTreeMap<(String, String), Vec<Value>> {
        let hits = |row: Value| row["hits"].as_array().unwrap().iter().map(|hit| hit["chunk_id"].clone()).collect();
        let rows = journal(&sandbox, run).into_iter().filter(|row| row["phase"] == "accuracy");
        rows.map(|row| ((row["variant"].to_string(), row["sample_id"].to_string()), hits(row))).collect()
    };
    assert_eq!(documents("local"), documents("served"));
    let (here, there) = (manifest(&sandbox, "local"), manifest(&sandbox, "served"));
    assert_eq!(here["index"]["embed_tokens"], there["index"]["embed_tokens"], "the server's counts add up");
    assert!(
        there["index"].get("embed_flops").is_none() && there["index"]["embedder"]["question_tokens"].as_f64() > Some(1.0),
        "{}",
        there["index"]
    );
    assert!(journal(&sandbox, "served").iter().all(|row| row.get("flops").is_none()));
    let cost = fs::read_to_string(sandbox.path("served/tables/cost.csv")).unwrap();
    assert!(
        cost.contains("rag,setup,index_embedding_money") && cost.contains("rag,query,token_money") && !cost.contains("total_flops"),
        "{cost}"
    );
    drop(server);
    let gone = run(&sandbox, 4, &["run", "served.toml", "-o", "gone", "--quiet", "--set", "retrieval.endpoint.retries=0"], Some(KEY));
    assert!(gone.err.contains("gives no answer after 1 attempts"), "{}", gone.err);
    for file in files(&sandbox.path("served")) {
        assert!(!String::from_utf8_lossy(&fs::read(&file).unwrap()).contains(KEY), "the key is in {}", file.display());
    }
}

#[test]
fn a_served_embedder_has_a_budget_of_its_own() {
    let sandbox = sandbox();
    let server = Server::start(|_| None);
    let embedder = format!("[retrieval.endpoint]\nurl = \"{}\"\nmodel = \"vectors\"\nbatch = 64\nprice_input = 2.0\n", server.url);
    sandbox.write("spec.toml", &spec("\"rag\"", &embedder));
    let free = ["run", "spec.toml", "-o", "free", "--quiet"];
    run(&sandbox, 0, &free, None);
    let tokens = |run: &str| manifest(&sandbox, run)["embedder_tokens"].as_u64().unwrap();
    let all = tokens("free");
    assert!(all > 1000, "{all} tokens");
    let limited = |code: i32, key: &str, limit: &str, resume: &[&str]| {
        let set = format!("retrieval.endpoint.{key}={limit}");
        run(&sandbox, code, &[&["run", "spec.toml", "-o", "out", "--quiet", "--set", &set], resume].concat(), None)
    };
    let stopped = limited(4, "max_total_tokens", &(all / 2).to_string(), &[]);
    let key = "`retrieval.endpoint.max_total_tokens`";
    assert!(stopped.err.contains("the budget is spent") && stopped.err.contains(&format!("raise {key}")), "{}", stopped.err);
    let first = tokens("out");
    assert!((all / 4..=all / 2).contains(&first), "{first} of {all} tokens");
    let again = limited(4, "max_total_tokens", &(all / 2).to_string(), &["--resume"]);
    assert!(again.err.contains("the budget is spent"), "a resumed run has spent what it spent before: {}", again.err);
    let cost = 2.0 * (all / 2) as f64 / 1e6;
    let dear = limited(4, "max_total_cost", &cost.to_string(), &["--resume"]);
    assert!(dear.err.contains("raise `retrieval.endpoint.max_total_cost`"), "{}", dear.err);
    // The corpus is embedded again.
    limited(0, "max_total_tokens", &(4 * all).to_string(), &["--resume"]);
    assert_eq!(answers(&sandbox, "out"), answers(&sandbox, "free"));
    assert!(tokens("out") >= all + first, "{} tokens", tokens("out"));
    let report = fs::read_to_string(sandbox.path("out/report.html")).unwrap();
    for told in ["tokens read in all", "embedder vectors behind a server"] {
        assert!(report.contains(told), "the report does not say `{told}`");
    }
    let free = run(
        &sandbox,
        2,
        &["run", "spec.toml", "-o", "no", "--set", "retrieval.endpoint.price_input=0", "--set", "retrieval.endpoint.max_total_cost=1"],
        None,
    );
    assert!(free.err.contains("nothing would ever be charged"), "{}", free.err);
}

#[test]
fn conversations_have_a_system_turn_and_choices_need_completions() {
    let sandbox = sandbox();
    let server = Server::start(|_| None);
    let chat = endpoint(&server.url, "").replace("completions", "chat").replace("tokenizer = \"tokenizer\"\n", "");
    sandbox.write("chat.toml", &spec("\"baseline\"", &format!("{chat}[prompt]\nsystem = \"Answer in a word.\"\n")));
    run(&sandbox, 0, &["run", "chat.toml", "-o", "chat", "--quiet"], None);
    let bodies = server.bodies();
    assert!(bodies.iter().all(|body| body["messages"][0]["content"] == "Answer in a word." && body["messages"][1]["role"] == "user"));
    assert!(bodies.iter().any(|body| body["stream"] == true) && bodies.iter().any(|body| body.get("stream").is_none()));
    sandbox.write("plain.toml", &spec("\"baseline\"", ""));
    run(&sandbox, 0, &["run", "plain.toml", "-o", "plain", "--quiet"], None);
    let texts =
        |run: &str| answers(&sandbox, run).into_iter().map(|(question, row)| (question, row[0].clone())).collect::<BTreeMap<_, _>>();
    assert_eq!(texts("chat"), texts("plain"));
    let report = fs::read_to_string(sandbox.path("chat/report.md")).unwrap();
    assert!(report.contains("at 3 characters per token"), "estimates are told");

    sandbox.write(
        "mc.jsonl",
        "{\"question\":\"What is wet?\",\"choices\":[\"Belm\",\"a river\",\"seven\"],\"answer\":1}\n{\"question\":\"What is a number?\",\"choices\":[\"Belm\",\"seven\"],\"answer\":1}\n",
    );
    let of = |endpoint: &str| {
        format!(
            "variants = [\"baseline\"]\n[dataset]\npath = \"mc.jsonl\"\ntest_fraction = 1.0\n[measure]\nlatency_samples = 0\nnoise_samples = 0\naudit_samples = 0\n{endpoint}"
        )
    };
    sandbox.write("mc-chat.toml", &of(&chat));
    let refused = run(&sandbox, 2, &["run", "mc-chat.toml", "-o", "mc", "--quiet"], None);
    assert!(refused.err.contains("a chat endpoint tells none"), "{}", refused.err);
    sandbox.write("mc.toml", &of(&endpoint(&server.url, "")));
    sandbox.write("mc-local.toml", &of(""));
    run(&sandbox, 0, &["run", "mc.toml", "-o", "mc", "--quiet"], None);
    run(&sandbox, 0, &["run", "mc-local.toml", "-o", "mc-local", "--quiet"], None);
    assert_eq!(answers(&sandbox, "mc"), answers(&sandbox, "mc-local"));
}

#[test]
fn what_a_served_model_cannot_be_is_refused_with_its_mend() {
    let sandbox = sandbox();
    let refused = |text: &str, parts: &[&str]| {
        sandbox.write("spec.toml", text);
        let printed = run(&sandbox, 2, &["run", "spec.toml", "-o", "out", "--quiet"], None);
        for part in parts {
            assert!(printed.err.contains(part), "no {part:?} in:\n{}", printed.err);
        }
        assert!(!sandbox.path("out").exists(), "something was written");
        printed
    };
    let url = "http://127.0.0.1:9/v1";
    refused(
        &spec("\"finetuned\", \"hybrid_raft\"", &endpoint(url, "")),
        &["`variants` names `finetuned`", "with `model.endpoint.adapter`", "names `hybrid_raft`", "with `model.endpoint.hybrid_adapter`"],
    );
    refused(
        &spec("\"baseline\"", &endpoint(url, "max_total_cost = 1.0\n")),
        &["`model.endpoint.max_total_cost`", "nothing would ever be charged"],
    );
    refused(&spec("\"baseline\"", &endpoint(url, "extra = \"[]\"\n")), &["`model.endpoint.extra` is no JSON object"]);
    refused(
        &spec("\"baseline\"", &endpoint(url, "").replace("max_context = 1024", "max_context = 0")),
        &["expected the served model's window"],
    );
    let printed = refused(&spec("\"baseline\"", &endpoint("https://me:s3cret@host/v1", "")), &["`model.endpoint.url` is no plain address"]);
    assert!(!printed.err.contains("s3cret"));
    let printed = refused(&spec("\"baseline\"", &endpoint(url, "key_env = \"sk-abc-123\"\n")), &["no name of an environment variable"]);
    assert!(!printed.err.contains("sk-abc-123"), "{}", printed.err);
    let server = Server::start(|_| None);
    sandbox.write("spec.toml", &spec("\"baseline\"", &endpoint(&server.url, "").replace("\"reference\"", "\"referenc\"")));
    let unknown = run(&sandbox, 4, &["run", "spec.toml", "-o", "unknown", "--quiet"], None);
    assert!(unknown.err.contains("status 404: no such model") && unknown.err.contains("`reference`"), "{}", unknown.err);
}

/// A server that is ended with the test.
struct Process(std::process::Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Opt-in: `RAGFT_LLAMA_PYTHON` names a Python with `xllamacpp`, which has llama.cpp's server in it, and `gguf`.
#[test]
fn a_llama_cpp_server_gives_the_greedy_answers_of_the_model_in_process() {
    let Some(python) = std::env::var_os("RAGFT_LLAMA_PYTHON") else {
        eprintln!("skipped: RAGFT_LLAMA_PYTHON does not name a Python with xllamacpp");
        return;
    };
    let imports = std::process::Command::new(&python).args(["-c", "import gguf, xllamacpp"]).output().unwrap();
    if !imports.status.success() {
        eprintln!("skipped: the Python of RAGFT_LLAMA_PYTHON has no xllamacpp or no gguf");
        return;
    }
    let sandbox = sandbox();
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/serve_llama.py");
    let mut command = std::process::Command::new(&python);
    command.arg(script).arg(sandbox.path("tokenizer")).arg(sandbox.path("model.gguf")).arg(port.to_string());
    let log = fs::File::create(sandbox.path("server.log")).unwrap();
    command.stdin(std::process::Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
    let mut server = Process(command.spawn().unwrap());
    let up = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(200));
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() || server.0.try_wait().unwrap().is_some()
    });
    assert!(up && server.0.try_wait().unwrap().is_none(), "{}", fs::read_to_string(sandbox.path("server.log")).unwrap());
    let text = |more: &str| spec("\"baseline\", \"rag\"", more).replace("limit = 20", "limit = 200");
    sandbox.write("local.toml", &text(""));
    run(&sandbox, 0, &["run", "local.toml", "-o", "local", "--quiet"], None);
    let here = answers(&sandbox, "local");
    assert_eq!(here.len(), 400);
    for kind in ["completions", "chat"] {
        let settings =
            endpoint(&format!("http://127.0.0.1:{port}/v1"), "concurrency = 1\n").replace("timeout_s = 20.0", "timeout_s = 120.0");
        let settings = settings.replace("kind = \"completions\"", &format!("kind = \"{kind}\""));
        sandbox.write("served.toml", &text(&settings));
        run(&sandbox, 0, &["run", "served.toml", "-o", kind, "--quiet"], None);
        let there = answers(&sandbox, kind);
        let apart: Vec<_> = here.iter().filter(|(question, row)| row[0] != there[*question][0]).collect();
        for (question, row) in &apart {
            eprintln!("{kind}, {question:?}: in process {}, served {}", row[0], there[*question][0]);
        }
        eprintln!("{kind}: {} of {} answers are the same", here.len() - apart.len(), here.len());
        assert!(apart.len() * 100 <= here.len(), "{kind}: {} of {} answers differ", apart.len(), here.len());
        let tokens = here.iter().filter(|(question, row)| row[2] != there[*question][2]).count();
        assert_eq!(tokens, 0, "{kind}: the server read as many tokens of every prompt");
    }
}
