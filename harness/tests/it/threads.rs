//! `--threads` rules every pool of the process. Read from `/proc`, so on Linux only.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use assert_cmd::cargo::CommandCargoExt as _;

use crate::sandbox::Sandbox;

/// The most threads of each name that the process had at once; numbers at the end of names are left out.
fn most_threads(child: &mut Child) -> BTreeMap<String, usize> {
    let tasks = format!("/proc/{}/task", child.id());
    let mut most = BTreeMap::new();
    let mut before: BTreeMap<String, usize> = BTreeMap::new();
    while child.try_wait().unwrap().is_none() {
        let mut now: BTreeMap<String, usize> = BTreeMap::new();
        let Ok(entries) = fs::read_dir(&tasks) else { break };
        for name in entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("comm")).ok()) {
            *now.entry(name.trim_end().trim_end_matches(|c: char| c.is_ascii_digit()).to_owned()).or_default() += 1;
        }
        // A thread bears its maker's name until it has set its own: what counts was there twice in a row.
        for (name, count) in &now {
            let top = most.entry(name.clone()).or_default();
            *top = (*count).min(before.get(name).copied().unwrap_or(0)).max(*top);
        }
        before = now;
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success());
    most
}

#[test]
fn threads_rules_every_pool() {
    for threads in [1usize, 3] {
        let sandbox = Sandbox::new();
        let mut command = Command::cargo_bin("ragft").unwrap();
        command.current_dir(sandbox.path("")).args(["run", "-o", "out", "--quiet", "--limit", "24", "--set", "finetune.max_steps=2"]);
        command.args(["--set", "measure.latency_samples=1", "--threads", &threads.to_string()]);
        // What the environment says of one library alone does not count.
        command.env("RAYON_NUM_THREADS", "5").env("CANDLE_NUM_THREADS", "6").env("POLARS_MAX_THREADS", "7");
        let most = most_threads(&mut command.stdout(Stdio::null()).spawn().unwrap());
        let count = |name: &str| most.get(name).copied().unwrap_or(0);
        assert_eq!(count("ragft-"), threads, "the pool: {most:?}");
        assert_eq!(count("candle-bp-"), 0, "candle's own workers: {most:?}");
        // Besides the pool: the first thread, which waits for it, the one that waits for Ctrl-C, and polars' pool, which has nothing to do
        // while the model computes.
        assert!(count("polars-") <= threads, "polars' pool: {most:?}");
        let others = most.values().sum::<usize>() - threads;
        assert!(others <= 2 + threads, "threads beside the pool: {most:?}");
    }
}
