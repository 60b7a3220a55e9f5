//! What was measured: written down point by point, summed up as a table for people and one for programs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use ragft::report::format;
use ragft::stats::quantile;
use serde::{Deserialize, Serialize};

use crate::plan::{Group, plan};
use crate::question::{Question, show};
use crate::work::Measured;

/// First line of `rounds.jsonl`: where it was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    pub cpu: String,
    pub features: Vec<String>,
    pub os: String,
    pub threads: usize,
    pub rounds: u64,
}

/// Every other line: one point of one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub group: Group,
    pub series: String,
    pub x: u64,
    pub round: u64,
    pub outcome: Outcome,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Measured(Measured),
    /// It and the larger ones were left out, for this reason.
    Skipped(String),
    /// It went wrong, and the larger ones were left out.
    Failed(String),
}

/// The middle of the rounds and their ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub low: f64,
    pub high: f64,
    pub n: usize,
}

impl Spread {
    /// Nothing if there are no values.
    fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self { median: quantile(&sorted, 0.5)?, low: *sorted.first()?, high: *sorted.last()?, n: sorted.len() })
    }
}

/// All points in memory, and the file that they are written to while there is one.
#[derive(Debug)]
pub struct Log {
    pub head: Head,
    pub lines: Vec<Line>,
    file: Option<File>,
}

impl Log {
    /// Starts a new file.
    pub fn create(path: &Path, head: Head) -> Result<Self> {
        let mut file = File::create(path).with_context(|| format!("cannot write `{}`", path.display()))?;
        writeln!(file, "{}", serde_json::to_string(&head)?)?;
        Ok(Self { head, lines: Vec::new(), file: Some(file) })
    }

    /// Notes a point; it is on disk when this returns.
    pub fn add(&mut self, line: Line) -> Result<()> {
        if let Some(file) = &mut self.file {
            // In one piece, so that an interruption leaves whole lines.
            let text = serde_json::to_string(&line)? + "\n";
            file.write_all(text.as_bytes()).context("cannot write down a point")?;
        }
        self.lines.push(line);
        Ok(())
    }

    /// Reads a file, of a run that may have been interrupted.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let mut lines = text.lines();
        let head = lines.next().with_context(|| format!("`{}` is empty", path.display()))?;
        let head = serde_json::from_str(head).with_context(|| format!("the first line of `{}` names no machine", path.display()))?;
        let lines: Vec<Line> =
            lines.map(serde_json::from_str).collect::<Result<_, _>>().with_context(|| format!("`{}`", path.display()))?;
        ensure!(!lines.is_empty(), "`{}` holds no point", path.display());
        Ok(Self { head, lines, file: None })
    }

    /// Names of the series that a question is about and that have points, in the order of the plan.
    pub fn series(&self, question: &Question) -> Vec<String> {
        let is_measured = |name: &String| self.lines.iter().any(|line| line.group == question.group && line.series == *name);
        let planned = plan(false).into_iter().filter(|series| series.group == question.group).map(|series| series.name);
        planned.filter(|name| name.starts_with(question.of) && is_measured(name)).collect()
    }

    /// Values of a metric along a series, every round's.
    fn values(&self, group: Group, series: &str, metric: &str) -> BTreeMap<u64, Vec<f64>> {
        let mut values = BTreeMap::<u64, Vec<f64>>::new();
        for line in self.lines.iter().filter(|line| line.group == group && line.series == series) {
            if let Outcome::Measured(measured) = &line.outcome
                && let Some(value) = measured.values.get(metric)
            {
                values.entry(line.x).or_default().push(*value);
            }
        }
        values
    }

    /// The line of a figure.
    pub fn spreads(&self, question: &Question, series: &str) -> BTreeMap<u64, Spread> {
        let values = self.values(question.group, series, question.metric);
        values.into_iter().filter_map(|(x, values)| Some((x, Spread::of(&values)?))).collect()
    }

    /// Where series of a question ended before their last point, and why.
    pub fn ends(&self, question: &Question) -> Vec<String> {
        let mut ends = Vec::new();
        for line in self.lines.iter().filter(|line| line.group == question.group && line.series.starts_with(question.of)) {
            let why = match &line.outcome {
                Outcome::Measured(_) => continue,
                Outcome::Skipped(why) => why.clone(),
                Outcome::Failed(why) => format!("it failed ({why})"),
            };
            ends.push(format!("{} ends before {}: {why}", line.series, format::count(line.x as f64)));
        }
        ends
    }

    /// One line per point and metric: the median, the spread, and the value of every round.
    pub fn csv(&self) -> String {
        let rounds = self.lines.iter().map(|line| line.round + 1).max().unwrap_or(0) as usize;
        let columns: String = (1..=rounds).map(|round| format!(",round_{round}")).collect();
        let mut text = format!("group,series,x,metric,n,median,low,high{columns},note\n");
        let mut points: Vec<(Group, &str, u64)> = self.lines.iter().map(|line| (line.group, line.series.as_str(), line.x)).collect();
        points.sort_unstable();
        points.dedup();
        for (group, series, x) in points {
            let lines: Vec<&Line> =
                self.lines.iter().filter(|line| (line.group, line.series.as_str(), line.x) == (group, series, x)).collect();
            let point = format!("{},{},{x}", group.name(), cell(series));
            let empty = ",".repeat(rounds);
            for line in &lines {
                let note = match &line.outcome {
                    Outcome::Measured(_) => continue,
                    Outcome::Skipped(why) => format!("left out: {why}"),
                    Outcome::Failed(why) => format!("failed: {why}"),
                };
                text.push_str(&format!("{point},,0,,,{empty},{}\n", cell(&note)));
            }
            for (metric, values) in by_metric(&lines, rounds) {
                let known: Vec<f64> = values.iter().copied().flatten().collect();
                let Some(Spread { median, low, high, n }) = Spread::of(&known) else { continue };
                let each: String =
                    values.iter().map(|value| format!(",{}", value.map_or(String::new(), |value| value.to_string()))).collect();
                text.push_str(&format!("{point},{metric},{n},{median},{low},{high}{each},\n"));
            }
        }
        text
    }
}

/// The value of every round by metric.
fn by_metric<'a>(lines: &[&'a Line], rounds: usize) -> BTreeMap<&'a str, Vec<Option<f64>>> {
    let mut metrics = BTreeMap::<&str, Vec<Option<f64>>>::new();
    for line in lines {
        if let Outcome::Measured(measured) = &line.outcome {
            for (metric, value) in &measured.values {
                metrics.entry(metric).or_insert_with(|| vec![None; rounds])[line.round as usize] = Some(*value);
            }
        }
    }
    metrics
}

fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// The figures with their numbers, for a README.
pub fn markdown(log: &Log, questions: &[Question]) -> String {
    let Head { cpu, features, os, threads, rounds } = &log.head;
    let mut text =
        format!("{cpu} ({}), {os}, {threads} threads. Medians of {rounds} rounds, with the lowest and the highest.\n", features.join(", "));
    for question in questions {
        let table = table(log, question);
        if table.is_empty() {
            continue;
        }
        text.push_str(&format!("\n### {}\n\n![{}]({}.svg)\n\n", question.title, question.title, question.name));
        text.push_str(&format!("{}.\n\n{table}", format::sentence(question.note)));
        let ends = log.ends(question);
        if !ends.is_empty() {
            text.push_str(&format!("\n{}.\n", ends.join("; ")));
        }
    }
    text
}

/// A line per point, a column per series.
fn table(log: &Log, question: &Question) -> String {
    let spreads = |name: String| {
        let line = log.spreads(question, &name);
        (name, line)
    };
    let lines: Vec<(String, BTreeMap<u64, Spread>)> =
        log.series(question).into_iter().map(spreads).filter(|(_, line)| !line.is_empty()).collect();
    if lines.is_empty() {
        return String::new();
    }
    let mut xs: Vec<u64> = lines.iter().flat_map(|(_, line)| line.keys().copied()).collect();
    xs.sort_unstable();
    xs.dedup();
    let mut text = format!("| {} |", question.x);
    lines.iter().for_each(|(name, _)| text.push_str(&format!(" {name} |")));
    text.push_str(&format!("\n|---|{}\n", "---|".repeat(lines.len())));
    for x in xs {
        text.push_str(&format!("| {} |", format::count(x as f64)));
        for (_, line) in &lines {
            text.push_str(&line.get(&x).map_or(" |".to_owned(), |spread| format!(" {} |", shown(question, spread))));
        }
        text.push('\n');
    }
    text
}

fn shown(question: &Question, spread: &Spread) -> String {
    let value = |value| show(question.metric, value);
    let (median, low, high) = (value(spread.median), value(spread.low), value(spread.high));
    if low == high { median } else { format!("{median} ({low} to {high})") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::QUESTIONS;

    fn line(x: u64, round: u64, speed: f64) -> Line {
        let measured = Measured { values: [("tokens_per_second".to_owned(), speed)].into() };
        Line { group: Group::Prefill, series: "135M f32".into(), x, round, outcome: Outcome::Measured(measured) }
    }

    fn log() -> Log {
        let mut lines = vec![line(64, 0, 100.0), line(64, 1, 120.0), line(64, 2, 90.0), line(128, 0, 80.0)];
        let outcome = Outcome::Skipped("about 9 s expected, more than the limit of 8 s".into());
        lines.push(Line { group: Group::Prefill, series: "135M f32".into(), x: 256, round: 0, outcome });
        let head = Head { cpu: "CPU".into(), features: vec!["avx2".into()], os: "Linux".into(), threads: 2, rounds: 3 };
        Log { head, lines, file: None }
    }

    #[test]
    fn a_line_of_the_table_has_the_median_the_spread_every_round_and_what_is_missing() {
        let csv = log().csv();
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines[0], "group,series,x,metric,n,median,low,high,round_1,round_2,round_3,note");
        assert_eq!(lines[1], "prefill,135M f32,64,tokens_per_second,3,100,90,120,100,120,90,");
        assert_eq!(lines[2], "prefill,135M f32,128,tokens_per_second,1,80,80,80,80,,,");
        assert_eq!(lines[3], "prefill,135M f32,256,,0,,,,,,,\"left out: about 9 s expected, more than the limit of 8 s\"");
        let cells = |line: &str| line.split('"').step_by(2).collect::<String>().matches(',').count();
        assert!(lines.iter().all(|line| cells(line) == 11), "{csv}");
    }

    #[test]
    fn a_written_log_is_read_back_and_the_page_says_where_a_series_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rounds.jsonl");
        let made = log();
        let mut written = Log::create(&path, made.head.clone()).unwrap();
        made.lines.iter().for_each(|line| written.add(line.clone()).unwrap());
        let read = Log::read(&path).unwrap();
        assert_eq!((read.head.clone(), read.lines.clone()), (made.head, made.lines));
        let page = markdown(&read, &QUESTIONS);
        assert!(page.contains("| 64 | 100 (90.0 to 120) |"), "{page}");
        assert!(page.contains("135M f32 ends before 256: about 9 s"), "{page}");
    }
}
