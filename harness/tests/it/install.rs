//! The program as it is installed: one file that needs no other.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::sandbox::{Sandbox, project_root};

/// The quickstart, as short as it gets.
const QUICK: &[&str] = &[
    "run",
    "-o",
    "out",
    "--quiet",
    "--limit",
    "12",
    "--set",
    "finetune.max_steps=1",
    "--set",
    "measure.latency_samples=1",
    "--set",
    "measure.noise_samples=1",
    "--set",
    "measure.audit_samples=1",
];

/// A command that runs the rest of its arguments where the sources are hidden, if this system lets us do that.
fn without_the_sources() -> Command {
    let hidden = || {
        let mut command = Command::new("unshare");
        let root = project_root().display();
        command.args(["-rm", "sh", "-c", &format!("mount -t tmpfs none '{root}' && exec \"$@\""), "sh"]);
        command
    };
    if hidden().arg("true").output().is_ok_and(|output| output.status.success()) {
        return hidden();
    }
    eprintln!("the sources could not be hidden: only the working folder and the environment are empty");
    Command::new("env")
}

#[test]
fn a_copied_program_runs_the_quickstart_in_an_empty_folder() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("empty")).unwrap();
    let program = sandbox.path("ragft");
    fs::copy(assert_cmd::cargo::cargo_bin("ragft"), &program).unwrap();
    let mut command = without_the_sources();
    command.current_dir(sandbox.path("empty")).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let output = command.arg(&program).args(QUICK).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(sandbox.path("empty/out/report.html").is_file());
}

#[test]
fn it_tells_its_size_and_brings_man_pages_and_completions() {
    let sandbox = Sandbox::new();
    let about: Value = serde_json::from_str(&sandbox.run(0, &["about", "--json"]).out).unwrap();
    let bytes = fs::metadata(assert_cmd::cargo::cargo_bin("ragft")).unwrap().len();
    assert_eq!(about["bytes"].as_u64().unwrap(), bytes);
    assert!(about["start_up_ms"].as_f64().unwrap() > 0.0);

    sandbox.run(0, &["man", "-o", "man", "--quiet"]);
    for (page, holds) in [("ragft.1", "ragft\\-run(1)"), ("ragft-run.1", "\\-\\-shard"), ("ragft-dataset-check.1", ".TH")] {
        let text = fs::read_to_string(sandbox.path("man").join(page)).unwrap();
        assert!(text.contains(holds), "{page} lacks {holds}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = sandbox.run(0, &["completions", shell]).out;
        assert!(script.contains("adapters-from"), "{shell}");
    }
}
