//! `--threads` rules every pool of the process. Read from `/proc`, so on Linux only.
#![cfg(target_os = "linux")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use assert_cmd::cargo::CommandCargoExt as _;

use crate::sandbox::Sandbox;

/// The most threads of each name that the process had at once; numbers at the end of names are left out. A thread bears its maker's name
/// until it has set its own, so the last name that was seen of a thread is the one that counts.
fn most_threads(child: &mut Child) -> BTreeMap<String, usize> {
    let tasks = format!("/proc/{}/task", child.id());
    let mut names: BTreeMap<OsString, String> = BTreeMap::new();
    let mut samples: BTreeSet<BTreeSet<OsString>> = BTreeSet::new();
    while child.try_wait().unwrap().is_none() {
        let Ok(entries) = fs::read_dir(&tasks) else { break };
        let mut alive = BTreeSet::new();
        for entry in entries.flatten() {
            let Ok(name) = fs::read_to_string(entry.path().join("comm")) else { continue };
            names.insert(entry.file_name(), name.trim_end().trim_end_matches(|c: char| c.is_ascii_digit()).to_owned());
            alive.insert(entry.file_name());
        }
        samples.insert(alive);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success());
    let mut most: BTreeMap<String, usize> = BTreeMap::new();
    for alive in samples {
        let mut now: BTreeMap<&str, usize> = BTreeMap::new();
        alive.iter().for_each(|thread| *now.entry(&names[thread]).or_default() += 1);
        for (name, count) in now {
            let top = most.entry(name.to_owned()).or_default();
            *top = count.max(*top);
        }
    }
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
