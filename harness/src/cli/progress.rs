//! Draws run events: bars with rate and time left on a terminal, plain lines elsewhere, nothing when quiet.

use std::io::{IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressStyle};

use crate::clock::Stopwatch;
use crate::measure::events::RunEvent;

/// A listener for a person.
pub struct Progress {
    mode: Mode,
    bar: ProgressBar,
    phase: String,
    total: u64,
    done: u64,
    unit: &'static str,
    watch: Stopwatch,
    told: Stopwatch,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Silent,
    Lines,
    Bars,
}

/// Seconds between two plain lines of one phase.
const LINE_SECONDS: f64 = 10.0;

impl Progress {
    /// Bars on a terminal, lines elsewhere or with `CI` set.
    pub fn new(quiet: bool) -> Self {
        let mode = match (quiet, std::io::stderr().is_terminal() && std::env::var_os("CI").is_none()) {
            (true, _) => Mode::Silent,
            (false, true) => Mode::Bars,
            (false, false) => Mode::Lines,
        };
        let (watch, told) = (Stopwatch::start(), Stopwatch::start());
        Self { mode, bar: ProgressBar::hidden(), phase: String::new(), total: 0, done: 0, unit: "", watch, told }
    }

    /// Takes an event.
    pub fn on(&mut self, event: RunEvent) {
        if self.mode == Mode::Silent {
            return;
        }
        match event {
            RunEvent::Phase { name, detail, total, unit } => self.start(format!("{name} {detail}"), total, unit),
            RunEvent::Advance(units) => self.advance(units),
            RunEvent::Step(row) => self.bar.set_message(format!("loss {:.3}", row.train_loss)),
            RunEvent::Note(text) => self.line(text),
        }
    }

    /// Ends the last phase.
    pub fn finish(&mut self) {
        if self.phase.is_empty() || self.mode == Mode::Silent {
            return;
        }
        self.bar.finish_and_clear();
        let seconds = self.watch.elapsed().as_secs_f64();
        let count = if self.done > 0 { format!(": {} {} in", self.done, self.unit) } else { ":".to_owned() };
        let phase = std::mem::take(&mut self.phase);
        self.line(&format!("{phase}{count} {seconds:.1} s"));
    }

    fn start(&mut self, phase: String, total: u64, unit: &'static str) {
        self.finish();
        (self.phase, self.total, self.done, self.unit) = (phase, total, 0, unit);
        (self.watch, self.told) = (Stopwatch::start(), Stopwatch::start());
        if self.mode == Mode::Bars {
            self.bar = if total > 0 { ProgressBar::new(total) } else { ProgressBar::new_spinner() };
            let template =
                if total > 0 { "{prefix} [{bar:30}] {pos}/{len} {per_sec} {eta} left {msg}" } else { "{prefix} {spinner} {pos} {msg}" };
            self.bar.set_style(ProgressStyle::with_template(template).expect("a valid template").progress_chars("=> "));
            self.bar.set_prefix(self.phase.clone());
        }
    }

    fn advance(&mut self, units: u64) {
        self.done += units;
        self.bar.inc(units);
        if self.mode == Mode::Lines && self.told.elapsed().as_secs_f64() >= LINE_SECONDS {
            self.told = Stopwatch::start();
            let of = if self.total > 0 { format!("/{}", self.total) } else { String::new() };
            let rate = self.done as f64 / self.watch.elapsed().as_secs_f64();
            let text = format!("{}: {}{of} {}, {rate:.1}/s", self.phase, self.done, self.unit);
            self.line(&text);
        }
    }

    fn line(&self, text: &str) {
        self.bar.suspend(|| {
            let _ = writeln!(std::io::stderr(), "{text}");
        });
    }
}
