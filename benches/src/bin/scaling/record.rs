//! What was measured: written down point by point, summed up as a table for people and one for programs.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use ragft::report::format;
use ragft::stats::quantile;
use ragft::store::write_atomic;
use serde::{Deserialize, Serialize};

use crate::plan::{Group, plan};
use crate::question::{Question, show};
use crate::work::Measured;

/// First line of a part of `rounds.jsonl`: where the points after it were measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    pub cpu: String,
    pub features: Vec<String>,
    pub os: String,
    pub threads: usize,
    pub rounds: u64,
}

/// Any other line: one point of one round.
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

/// What one run of the command measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub head: Head,
    pub lines: Vec<Line>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Entry {
    Head(Head),
    Line(Line),
}

/// All points in memory, and the file that they are written to while there is one.
#[derive(Debug)]
pub struct Log {
    /// A group's points are in one part.
    pub parts: Vec<Part>,
    file: Option<File>,
}

impl Log {
    /// Starts a part, after those that are `kept`.
    pub fn create(path: &Path, mut kept: Vec<Part>, head: Head) -> Result<Self> {
        kept.push(Part { head, lines: Vec::new() });
        let mut text = String::new();
        for Part { head, lines } in &kept {
            let lines = lines.iter().map(serde_json::to_string);
            for line in std::iter::once(serde_json::to_string(head)).chain(lines) {
                text.push_str(&line?);
                text.push('\n');
            }
        }
        write_atomic(path, text.as_bytes())?;
        let file = OpenOptions::new().append(true).open(path).with_context(|| format!("cannot write `{}`", path.display()))?;
        Ok(Self { parts: kept, file: Some(file) })
    }

    /// Notes a point of the last part; it is on disk when this returns.
    pub fn add(&mut self, line: Line) -> Result<()> {
        if let Some(file) = &mut self.file {
            // In one piece, so that an interruption leaves whole lines.
            let text = serde_json::to_string(&line)? + "\n";
            file.write_all(text.as_bytes()).context("cannot write down a point")?;
        }
        self.parts.last_mut().context("no part was started")?.lines.push(line);
        Ok(())
    }

    /// Reads a file, of a run that may have been interrupted.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let mut parts = Vec::<Part>::new();
        for (index, line) in text.lines().enumerate() {
            let at = || format!("`{}`, line {}", path.display(), index + 1);
            match serde_json::from_str(line).with_context(at)? {
                Entry::Head(head) => parts.push(Part { head, lines: Vec::new() }),
                Entry::Line(line) => {
                    parts.last_mut().with_context(|| format!("{} names no machine before its first point", at()))?.lines.push(line);
                }
            }
        }
        Ok(Self { parts, file: None })
    }

    /// What other groups than these have: whole parts, or what is left of one.
    pub fn without(self, groups: &[Group]) -> Vec<Part> {
        let mut parts = self.parts;
        parts.iter_mut().for_each(|part| part.lines.retain(|line| !groups.contains(&line.group)));
        parts.retain(|part| !part.lines.is_empty());
        parts
    }

    /// The part that has a group's points.
    pub fn part(&self, group: Group) -> Option<&Part> {
        self.parts.iter().find(|part| part.lines.iter().any(|line| line.group == group))
    }

    /// Points of every part.
    pub fn lines(&self) -> impl Iterator<Item = &Line> {
        self.parts.iter().flat_map(|part| &part.lines)
    }

    /// Names of the series that a question is about and that have points, in the order of the plan.
    pub fn series(&self, question: &Question) -> Vec<String> {
        let is_measured = |name: &String| self.lines().any(|line| line.group == question.group && line.series == *name);
        let planned = plan(false).into_iter().filter(|series| series.group == question.group).map(|series| series.name);
        planned.filter(|name| name.starts_with(question.of) && is_measured(name)).collect()
    }

    /// Values of a metric along a series, every round's.
    fn values(&self, group: Group, series: &str, metric: &str) -> BTreeMap<u64, Vec<f64>> {
        let mut values = BTreeMap::<u64, Vec<f64>>::new();
        for line in self.lines().filter(|line| line.group == group && line.series == series) {
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
        for line in self.lines().filter(|line| line.group == question.group && line.series.starts_with(question.of)) {
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
        let rounds = self.lines().map(|line| line.round + 1).max().unwrap_or(0) as usize;
        let columns: String = (1..=rounds).map(|round| format!(",round_{round}")).collect();
        let mut text = format!("group,series,x,metric,n,median,low,high{columns},note\n");
        let mut points: Vec<(Group, &str, u64)> = self.lines().map(|line| (line.group, line.series.as_str(), line.x)).collect();
        points.sort_unstable();
        points.dedup();
        for (group, series, x) in points {
            let lines: Vec<&Line> = self.lines().filter(|line| (line.group, line.series.as_str(), line.x) == (group, series, x)).collect();
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

/// Where the points come from: a sentence per machine and number of rounds.
fn machines(log: &Log) -> String {
    let of = |Part { head: Head { cpu, features, os, threads, rounds }, lines }: &Part| {
        let mut groups: Vec<Group> = lines.iter().map(|line| line.group).collect();
        groups.sort_unstable();
        groups.dedup();
        let names: Vec<&str> = groups.into_iter().map(Group::name).collect();
        let which = if log.parts.len() > 1 { format!("{}: ", names.join(", ")) } else { String::new() };
        format!(
            "{which}{cpu} ({}), {os}, {threads} threads, medians of {rounds} rounds with the lowest and the highest.\n",
            features.join(", ")
        )
    };
    log.parts.iter().map(of).collect::<Vec<_>>().join("\n")
}

/// The figures with their numbers, for a README.
pub fn markdown(log: &Log, questions: &[Question]) -> String {
    let mut text = machines(log);
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
        Log { parts: vec![Part { head: head("CPU"), lines }], file: None }
    }

    fn head(cpu: &str) -> Head {
        Head { cpu: cpu.into(), features: vec!["avx2".into()], os: "Linux".into(), threads: 2, rounds: 3 }
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
        let mut written = Log::create(&path, Vec::new(), head("CPU")).unwrap();
        made.lines().for_each(|line| written.add(line.clone()).unwrap());
        let read = Log::read(&path).unwrap();
        assert_eq!(read.parts, made.parts);
        let page = markdown(&read, &QUESTIONS);
        assert!(page.contains("| 64 | 100 (90.0 to 120) |"), "{page}");
        assert!(page.contains("135M f32 ends before 256: about 9 s"), "{page}");
    }
    #[test]
    fn a_group_measured_again_elsewhere_replaces_its_points_and_keeps_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rounds.jsonl");
        let of = |group, speed| Line { group, ..line(64, 0, speed) };
        let mut first = Log::create(&path, Vec::new(), head("old")).unwrap();
        [of(Group::Prefill, 1.0), of(Group::Decode, 2.0)].into_iter().for_each(|line| first.add(line).unwrap());
        let kept = Log::read(&path).unwrap().without(&[Group::Decode]);
        let mut second = Log::create(&path, kept, head("new")).unwrap();
        second.add(of(Group::Decode, 3.0)).unwrap();
        let read = Log::read(&path).unwrap();
        let part = |cpu, line| Part { head: head(cpu), lines: vec![line] };
        assert_eq!(read.parts, [part("old", of(Group::Prefill, 1.0)), part("new", of(Group::Decode, 3.0))]);
        let page = markdown(&read, &QUESTIONS);
        assert!(page.starts_with("prefill: old (avx2), Linux, 2 threads") && page.contains("\ndecode: new (avx2)"), "{page}");
    }
}
