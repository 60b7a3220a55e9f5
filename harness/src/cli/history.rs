//! `ragft history`

use std::fmt::Write as _;
use std::path::Path;

use super::args::{Global, HistoryArgs, HistoryVerb};
use super::failure::Failure;
use super::print;
use crate::gate::history::{Flaky, History, Trend};
use crate::store::RunFolder;
use crate::table;

/// Flaky questions that are listed for people.
const FLAKY_SHOWN: usize = 20;

/// Adds a run, shows what changed over runs, or makes a run the reference.
pub fn run(args: &HistoryArgs, global: &Global) -> Result<(), Failure> {
    match &args.verb {
        HistoryVerb::Add { dir, run } => add(dir, run, global),
        HistoryVerb::Trend { dir, metric, slice } => trend(dir, metric.as_deref(), slice.as_deref(), global),
        HistoryVerb::Bless { dir, run } => bless(dir, run, global),
    }
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn add(dir: &Path, run: &Path, global: &Global) -> Result<(), Failure> {
    RunFolder::open(run)?;
    let tables = table::read(run)?;
    let entry = History::at(dir).add(run, &tables, &now())?;
    if global.json {
        print(&format!("{:#}\n", serde_json::to_value(&entry).expect("plain data")));
    } else {
        print(&format!("added {} as run {} of {}\n", run.display(), entry.number, dir.display()));
    }
    Ok(())
}

fn bless(dir: &Path, run: &Path, global: &Global) -> Result<(), Failure> {
    let blessing = History::at(dir).bless(run, &now())?;
    if global.json {
        print(&format!("{:#}\n", serde_json::to_value(&blessing).expect("plain data")));
    } else {
        print(&format!("run {} is the reference: `ragft gate CANDIDATE --against {}`\n", blessing.number, dir.display()));
    }
    Ok(())
}

fn trend(dir: &Path, metric: Option<&str>, slice: Option<&str>, global: &Global) -> Result<(), Failure> {
    let history = History::at(dir);
    let trend = history.trend(metric, slice)?;
    let flaky = history.flaky()?;
    let figure = history.draw(&trend)?;
    if global.json {
        print(&format!("{:#}\n", as_json(&trend, &flaky)));
        return Ok(());
    }
    print(&as_text(&trend, &flaky));
    print(&format!("figure {}.svg\n", figure.display()));
    Ok(())
}

fn as_json(trend: &Trend, flaky: &[Flaky]) -> serde_json::Value {
    let line = |line: &crate::report::plot::trend::TrendLine| {
        let points: Vec<_> = line
            .points
            .iter()
            .map(|point| serde_json::json!({ "run": point.number, "point": point.point, "ci_low": point.ci_low, "ci_high": point.ci_high }))
            .collect();
        let change = |change: &crate::stats::ChangePoint| {
            serde_json::json!({
                "run": line.points[change.at].number,
                "before": change.before,
                "after": change.after,
                "p": change.p,
                "is_worse": trend.is_worse(change),
            })
        };
        let changes: Vec<_> = line.changes.iter().map(change).collect();
        serde_json::json!({ "variant": line.variant.name(), "points": points, "changes": changes })
    };
    serde_json::json!({
        "metric": trend.metric,
        "slice": trend.slice,
        "unit": trend.unit,
        "blessed": trend.blessed,
        "runs": trend.entries,
        "lines": trend.lines.iter().map(line).collect::<Vec<_>>(),
        "flaky": flaky,
    })
}

fn as_text(trend: &Trend, flaky: &[Flaky]) -> String {
    let mut text = format!("{} ({}) over {} runs\n", trend.label, trend.slice, trend.entries.len());
    for entry in &trend.entries {
        let of = |line: &crate::report::plot::trend::TrendLine| {
            let point = line.points.iter().find(|point| point.number == entry.number);
            format!("{} {}", line.variant.name(), point.map_or_else(|| "–".to_owned(), |point| trend.shown(point.point)))
        };
        let figures: Vec<String> = trend.lines.iter().map(of).collect();
        let mark = if trend.blessed == Some(entry.number) { " [reference]" } else { "" };
        let commit = entry.git_commit.as_deref().map_or("", |commit| &commit[..commit.len().min(10)]);
        let _ = writeln!(text, "{:>4}  {}  {:<10}  {}{mark}", entry.number, entry.started_at, commit, figures.join(", "));
    }
    let mut has_change = false;
    for line in &trend.lines {
        for change in &line.changes {
            has_change = true;
            let direction = if trend.is_worse(change) { "worse" } else { "better" };
            let (before, after) = (trend.shown(change.before), trend.shown(change.after));
            let run = line.points[change.at].number;
            let _ = writeln!(
                text,
                "{} is {direction} since run {run}: {before} before, {after} after (p {:.3})",
                line.variant.name(),
                change.p
            );
        }
    }
    if !has_change {
        text.push_str("no change of level shown (with fewer than eight runs none can be)\n");
    }
    if flaky.is_empty() {
        text.push_str("no question flips between runs of the same inputs\n");
    } else {
        let _ = writeln!(text, "{} answers change between runs of the same inputs:", flaky.len());
    }
    for question in flaky.iter().take(FLAKY_SHOWN) {
        let Flaky { variant, seed, sample, runs, changes, flips, .. } = question;
        let _ = writeln!(text, "  {} seed {seed}, {sample}: {changes} changes and {flips} flips over {runs} runs", variant.name());
    }
    text
}
