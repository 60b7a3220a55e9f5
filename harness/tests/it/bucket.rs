//! A run's tables in a bucket, read back there by another reader of Parquet.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::sandbox::{Printed, Sandbox, project_root};

/// Variables that decide where a bucket is and who asks; none of the tests' host is passed on.
const VARIABLES: [&str; 8] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_MAX_ATTEMPTS",
];
const PROXIES: [&str; 6] = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];

/// Two runs over given answers, with passages: `run` and `other`.
fn two_runs() -> Sandbox {
    let sandbox = Sandbox::new();
    let lines = |line: &dyn Fn(usize) -> String| (0..6).map(|index| line(index) + "\n").collect::<String>();
    sandbox.write("data/documents.jsonl", &lines(&|i| format!("{{\"id\":\"d{i}\",\"text\":\"Person {i} was born in Town{i}.\"}}")));
    let question = |i: usize| {
        format!("{{\"id\":\"q{i}\",\"question\":\"Where was person {i} born?\",\"references\":[\"Town{i}\"],\"relevant\":[\"d{i}\"]}}")
    };
    sandbox.write("data/test.jsonl", &lines(&question));
    sandbox.write("spec.toml", "variants = []\n[dataset]\npath = \"data\"\n[predictions]\ntheirs = \"theirs.jsonl\"\n");
    for (name, right) in [("run", 4), ("other", 2)] {
        let answer =
            |i: usize| format!("{{\"id\":\"q{i}\",\"answer\":\"Town{}\",\"retrieved\":[\"d{i}\",\"d{}\"]}}", i % right, (i + 1) % 6);
        sandbox.write("theirs.jsonl", &lines(&answer));
        sandbox.run(0, &["run", "spec.toml", "-o", name, "--quiet"]);
    }
    sandbox
}

fn to(place: &str) -> [&str; 6] {
    ["run", "--to", "s3", "-o", place, "--json"]
}

#[track_caller]
fn export(sandbox: &Sandbox, code: i32, args: &[&str], set: &[(&str, &str)]) -> Printed {
    let mut command = sandbox.command(&[&["export"], args].concat());
    for name in VARIABLES.iter().chain(&PROXIES) {
        command.env_remove(name);
    }
    let output = command.envs(set.iter().copied()).env("RUST_LOG", "trace").output().unwrap();
    let printed =
        Printed { out: String::from_utf8_lossy(&output.stdout).into_owned(), err: String::from_utf8_lossy(&output.stderr).into_owned() };
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{}\n{}", printed.out, printed.err);
    printed
}

#[test]
fn a_bucket_that_cannot_be_asked_is_said() {
    let sandbox = two_runs();
    let key = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_MAX_ATTEMPTS", "1")];
    let refused = export(&sandbox, 2, &to("s3://runs"), &key[1..]).err;
    assert!(
        refused.contains("the environment variable `AWS_ACCESS_KEY_ID` is not set") && refused.contains("export-credentials"),
        "{refused}"
    );
    let refused = export(&sandbox, 2, &to("out"), &key).err;
    assert!(refused.contains("`out` does not begin with `s3://`") && refused.contains("s3://BUCKET/PREFIX"), "{refused}");
    let refused = export(&sandbox, 2, &to("s3://runs")[..3], &key).err;
    assert!(refused.contains("`--to s3` needs a bucket"), "{refused}");
    let refused = export(&sandbox, 2, &["run", "--to", "trec", "-o", "s3://runs"], &key).err;
    assert!(refused.contains("`--to trec` writes into a folder") && refused.contains("`--to s3`"), "{refused}");
    let nowhere = [&key[..], &[("AWS_ENDPOINT_URL", "http://127.0.0.1:9")]].concat();
    let gone = export(&sandbox, 4, &to("s3://runs/a"), &nowhere).err;
    assert!(gone.contains("bucket `runs` at 127.0.0.1:9 did not read `s3://runs/a/manifest.json` in 1 attempts"), "{gone}");
}

/// A server that ends with the test.
struct Store {
    process: Child,
    told: Value,
}

impl Store {
    fn start(python: &str) -> Self {
        let script = project_root().join("harness/tests/fixtures/serve_s3.py");
        let mut command = Command::new(python);
        command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        for name in VARIABLES.iter().chain(&PROXIES) {
            command.env_remove(name);
        }
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { process, told: serde_json::from_str(&line).expect("the server starts") }
    }

    /// The environment of one of its users.
    fn user(&self, name: &str) -> Vec<(&str, &str)> {
        let mut set = vec![("AWS_ENDPOINT_URL", self.told["endpoint"].as_str().unwrap()), ("AWS_MAX_ATTEMPTS", "2")];
        set.extend(self.told[name].as_object().unwrap().iter().map(|(key, value)| (key.as_str(), value.as_str().unwrap())));
        set
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// Every object under a prefix, by pyarrow's own client; a table is compared with the local one of its name.
const READ_BACK: &str = "
import json, os, sys
import pyarrow.parquet as parquet
from pyarrow.fs import FileSelector, S3FileSystem
endpoint, place, run = sys.argv[1:]
scheme, host = endpoint.split('://')
store = S3FileSystem(endpoint_override=host, scheme=scheme, region='us-east-1')
found = {}
for info in store.get_file_info(FileSelector(place, recursive=True, allow_not_found=True)):
    if not info.is_file: continue
    name = info.path.removeprefix(place + '/')
    with store.open_input_file(info.path) as file: bytes = file.read()
    whole = bytes == open(os.path.join(run, name), 'rb').read()
    if name.endswith('.parquet'):
        table = parquet.read_table(info.path, filesystem=store)
        whole = whole and table.num_columns > 0 and table.equals(parquet.read_table(os.path.join(run, name)))
    found[name] = whole
print(json.dumps(found))
";

/// `RAGFT_S3_PYTHON` names a Python with moto[server] and pyarrow.
#[test]
fn a_bucket_has_the_tables_whole_or_no_manifest() {
    let Ok(python) = std::env::var("RAGFT_S3_PYTHON") else { return eprintln!("skipped: RAGFT_S3_PYTHON is not set") };
    let store = Store::start(&python);
    let sandbox = two_runs();
    let mut tables: Vec<String> = fs::read_dir(sandbox.path("run/tables"))
        .unwrap()
        .map(|entry| format!("tables/{}", entry.unwrap().file_name().to_string_lossy()))
        .filter(|name| name.ends_with(".parquet"))
        .collect();
    tables.sort();
    assert!(tables.len() >= 9, "{tables:?}");
    let there = |place: &str| -> Vec<String> {
        let mut command = Command::new(&python);
        command.args(["-c", READ_BACK, store.told["endpoint"].as_str().unwrap(), place]).arg(sandbox.path("run"));
        for name in VARIABLES.iter().chain(&PROXIES) {
            command.env_remove(name);
        }
        let output = command.envs(store.user("owner")).env_remove("AWS_ENDPOINT_URL").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        let found = found.as_object().unwrap();
        assert!(found.values().all(|whole| whole == true), "{place}: {found:?}");
        let mut names: Vec<String> = found.keys().cloned().collect();
        names.sort();
        names
    };
    let whole: Vec<String> = [&["manifest.json".to_owned()], tables.as_slice()].concat();
    let mut printed = Vec::new();

    for (user, place, key) in [("owner", "s3://runs/a b/ü+1/", "runs/a b/ü+1"), ("guest", "s3://runs/guest", "runs/guest")] {
        let told = export(&sandbox, 0, &to(place), &store.user(user));
        let sent: Value = serde_json::from_str(&told.out).unwrap();
        let files: Vec<&str> = sent["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
        assert_eq!((files.len(), files.last().copied()), (whole.len(), Some(format!("s3://{key}/manifest.json").as_str())), "{sent}");
        assert_eq!(sent["notes"], serde_json::json!([]));
        assert_eq!(there(key), whole);
        printed.push(told);
    }
    // Once more, and another run.
    printed.push(export(&sandbox, 0, &to("s3://runs/guest"), &store.user("owner")));
    assert_eq!(there("runs/guest"), whole);
    let occupied = export(&sandbox, 2, &["other", "--to", "s3", "-o", "s3://runs/guest"], &store.user("owner"));
    assert!(occupied.err.contains("`s3://runs/guest` holds the run `") && occupied.err.contains("a prefix of its own"), "{}", occupied.err);
    assert_eq!(there("runs/guest"), whole);

    // A table is refused: what is there is not whole, and no manifest says that it was, not even an earlier one.
    for place in ["partly", "guest"] {
        let refused = export(&sandbox, 4, &to(&format!("s3://runs/{place}")), &store.user("partly"));
        assert!(
            refused.err.contains(&format!("did not take `s3://runs/{place}/tables/hits.parquet`: status 403 AccessDenied: ")),
            "{}",
            refused.err
        );
        assert!(!there(&format!("runs/{place}")).contains(&"manifest.json".to_owned()));
        printed.push(refused);
    }
    // Less is allowed than would be good.
    for (user, place, note) in [("writer", "writer", "could not be read"), ("keeper", "keeper", ""), ("keeper", "keeper", "may not delete")]
    {
        let told = export(&sandbox, 0, &to(&format!("s3://runs/{place}")), &store.user(user));
        let sent: Value = serde_json::from_str(&told.out).unwrap();
        assert_eq!(sent["notes"].as_array().unwrap().len(), usize::from(!note.is_empty()), "{sent}");
        assert!(sent["notes"].to_string().contains(note), "{sent}");
        assert_eq!(there(&format!("runs/{place}")), whole);
    }

    let owner = store.user("owner");
    let with = |name: &str, value: &'static str| -> Vec<(&str, &str)> {
        owner.iter().map(|(key, old)| (*key, if *key == name { value } else { *old })).collect()
    };
    for (place, set, said, hint) in [
        ("s3://nothing", owner.clone(), "bucket `nothing` at 127.0.0.1:", "aws s3 mb s3://nothing"),
        ("s3://runs/x", with("AWS_ACCESS_KEY_ID", "AKIAUNKNOWN"), "403 InvalidAccessKeyId", "must be of one key"),
        ("s3://runs/x", with("AWS_SECRET_ACCESS_KEY", "wrong"), "403 SignatureDoesNotMatch", "must be of one key"),
        ("s3://runs/x", store.user("reader"), "403 AccessDenied", "s3:PutObject"),
    ] {
        let refused = export(&sandbox, 4, &to(place), &set);
        assert!(refused.err.contains(said) && refused.err.contains(hint), "{place}: {}", refused.err);
        printed.push(refused);
    }
    assert!(there("runs/x").is_empty());

    // Nothing secret is printed, logged or left in the run folder.
    let mut secrets = Vec::new();
    for user in ["owner", "guest", "partly", "reader"] {
        secrets.extend(store.told[user].as_object().unwrap().iter().map(|(_, value)| value.as_str().unwrap()));
    }
    for secret in secrets {
        assert!(printed.iter().all(|printed| !printed.out.contains(secret) && !printed.err.contains(secret)));
        let found = Command::new("grep").args(["-rqF", "-e", secret]).arg(sandbox.path("run")).status().unwrap();
        assert_eq!(found.code(), Some(1), "a secret stands in the run folder");
    }
}
