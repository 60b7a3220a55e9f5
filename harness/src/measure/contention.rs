//! What else does the machine do? Time that other processes and other machines on the same hardware took during the latency pass, from Linux'
//! own accounts. Where there are none, the calibration loop alone tells whether the machine was steady.

use super::counters;
use crate::clock::Stopwatch;
use crate::store::manifest::ContentionRecord;

/// Ticks of Linux' accounts per second, on every architecture.
const TICKS: f64 = 100.0;

/// An open account.
#[derive(Debug)]
pub struct Contention {
    accounts: Option<Accounts>,
    cpu_seconds: f64,
    watch: Stopwatch,
}

/// Time of all processors together since the system started, in ticks.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Accounts {
    busy: f64,
    steal: f64,
    all: f64,
}

impl Contention {
    /// Begins now.
    pub fn start() -> Self {
        Self { accounts: accounts(), cpu_seconds: counters::cpu_seconds(), watch: Stopwatch::start() }
    }

    /// What it came to; nothing where the system does not tell, or too little time has passed for its ticks.
    pub fn record(&self) -> Option<ContentionRecord> {
        let own = (counters::cpu_seconds() - self.cpu_seconds) * TICKS;
        shares(self.accounts?, accounts()?, own, self.watch.elapsed().as_secs_f64())
    }
}

fn shares(before: Accounts, now: Accounts, own: f64, seconds: f64) -> Option<ContentionRecord> {
    let all = now.all - before.all;
    (all >= 10.0).then(|| ContentionRecord {
        other_share: ((now.busy - before.busy - own) / all).clamp(0.0, 1.0),
        steal_share: ((now.steal - before.steal) / all).clamp(0.0, 1.0),
        seconds,
    })
}

fn accounts() -> Option<Accounts> {
    parse(&std::fs::read_to_string("/proc/stat").ok()?)
}

/// The first line: `cpu` user nice system idle iowait irq softirq steal; guests are counted among the users.
fn parse(text: &str) -> Option<Accounts> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<f64> = line.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
    let [user, nice, system, idle, iowait, irq, softirq, steal] = ticks.try_into().ok()?;
    let busy = user + nice + system + irq + softirq;
    Some(Accounts { busy, steal, all: busy + idle + iowait + steal })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_busy_and_not_ours_is_others() {
        let before = parse("cpu  100 0 50 800 10 0 5 35 0 0\ncpu0 1 2 3\n").unwrap();
        let now = parse("cpu  220 0 70 1100 20 0 5 85 0 0\n").unwrap();
        assert_eq!((before.busy, before.all), (155.0, 1000.0));
        // Of 500 ticks 140 were busy, 100 of them ours, and 50 were stolen.
        let found = shares(before, now, 100.0, 2.5).unwrap();
        assert!((found.other_share - 0.08).abs() < 1e-12 && (found.steal_share - 0.1).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn other_systems_and_short_times_tell_nothing() {
        assert_eq!(parse("intr 1 2 3\n"), None);
        assert_eq!(parse("cpu 1 2 3\n"), None);
        let now = parse("cpu  1 0 0 5 0 0 0 0\n").unwrap();
        assert_eq!(shares(now, now, 0.0, 0.01), None);
    }
}
