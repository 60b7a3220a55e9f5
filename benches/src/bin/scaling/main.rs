//! How cost grows: speed and peak memory of prefill, decode, training and search over length, batch and corpus size, as figures.
//!
//! Every point of every round is a process of its own (this binary started again with `--point`), so that its peak memory is that of the
//! point. Rounds go through all points before the next one begins. What a point gave is written down at once (`rounds.jsonl`), and everything
//! else is made from that file.

mod draw;
mod plan;
mod question;
mod record;
mod work;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use ragft::clock::Stopwatch;
use ragft::measure::counters;
use ragft::report::plot::render;
use ragft::rng::Rng;
use ragft::store::write_atomic;
use ragft_benches::SEED;

use plan::{Group, Series};
use question::QUESTIONS;
use record::{Head, Line, Log, Outcome};
use work::{Measured, Work};

/// A process that takes so many times the limit is ended.
const PATIENCE: f64 = 3.0;

/// Measure how cost grows, and draw it.
#[derive(Debug, Parser)]
struct Args {
    /// Folder for `rounds.jsonl`, `scaling.csv`, `scaling.md` and the figures
    #[arg(short, long, required_unless_present = "point")]
    output: Option<PathBuf>,
    /// Rounds over all points
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// Few and small points: does it run at all?
    #[arg(long)]
    quick: bool,
    /// Measure these only; what the output folder holds of the others stays
    #[arg(long, value_delimiter = ',')]
    only: Vec<Group>,
    /// A point that is expected to take longer than this ends its series, which the figures say
    #[arg(long, default_value_t = 180.0, value_name = "SECONDS")]
    limit: f64,
    /// Threads of the kernels; 0 takes one per core
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Draw again from the output folder's `rounds.jsonl`; measure nothing
    #[arg(long)]
    render: bool,
    /// Measure one point and print it: what the command starts itself with
    #[arg(long, hide = true, value_name = "JSON", requires = "models")]
    point: Option<String>,
    /// Folder with the models of points
    #[arg(long, hide = true)]
    models: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::from(4)
        }
    }
}

fn run(args: &Args) -> Result<()> {
    if let (Some(point), Some(models)) = (&args.point, &args.models) {
        return measure_here(point, models, args.threads);
    }
    let output = args.output.as_deref().context("`--output` names no folder")?;
    let journal = output.join("rounds.jsonl");
    if !args.render {
        ensure!(args.rounds > 0, "`--rounds` is 0, expected at least 1");
        std::fs::create_dir_all(output).with_context(|| format!("cannot make `{}`", output.display()))?;
        measure_all(args, &journal)?;
    }
    write_results(&Log::read(&journal)?, output)
}

/// The hidden half: one point, on standard output.
fn measure_here(point: &str, models: &Path, threads: usize) -> Result<()> {
    let work: Work = serde_json::from_str(point).context("`--point` is no work")?;
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("cannot start threads")?;
    let measured = serde_json::to_string(&work.measure(models)?)?;
    writeln!(std::io::stdout(), "{measured}").context("cannot answer")
}

fn measure_all(args: &Args, journal: &Path) -> Result<()> {
    let is_wanted = |series: &Series| args.only.is_empty() || args.only.contains(&series.group);
    let mut series: Vec<Series> = plan::plan(args.quick).into_iter().filter(is_wanted).collect();
    let threads = if args.threads == 0 { rayon::current_num_threads() } else { args.threads };
    let machine = counters::machine("cpu");
    let head = Head { cpu: machine.cpu, features: machine.features, os: machine.os, threads, rounds: args.rounds };
    let is_added = !args.only.is_empty() && journal.exists();
    let kept = if is_added { Log::read(journal)?.without(&args.only) } else { Vec::new() };
    let mut log = Log::create(journal, kept, head)?;
    let models = tempfile::tempdir().context("cannot make a folder for the models")?;
    for round in 0..args.rounds {
        // Another order every round, so that no series always runs after the same neighbour.
        Rng::indexed(SEED, "order of series", round).shuffle(&mut series);
        for series in &mut series {
            run_series(series, round, args, (threads, models.path()), &mut log)?;
        }
    }
    Ok(())
}

/// One round of a series, from its smallest point up.
fn run_series(series: &mut Series, round: u64, args: &Args, (threads, models): (usize, &Path), log: &mut Log) -> Result<()> {
    let mut last: Option<(u64, f64)> = None;
    for index in 0..series.points.len() {
        let (x, work) = series.points[index].clone();
        let expected = last.map_or(0.0, |(before, seconds)| seconds * (x as f64 / before as f64).powf(series.growth));
        let line = |outcome| Line { group: series.group, series: series.name.clone(), x, round, outcome };
        if expected > args.limit {
            let why = format!("about {expected:.0} s expected, more than the limit of {:.0} s", args.limit);
            say(&format!("round {}: {} stops before {x}: {why}", round + 1, series.name));
            log.add(line(Outcome::Skipped(why)))?;
            // The rounds that follow end where this one did, so that every point has as many rounds as the others.
            series.points.truncate(index);
            return Ok(());
        }
        work.prepare(models)?;
        let watch = Stopwatch::start();
        let outcome = measure_apart(&work, (threads, models), args.limit * PATIENCE);
        let seconds = watch.elapsed().as_secs_f64();
        say(&format!("round {}: {} {}, {x}: {}", round + 1, series.group.name(), series.name, told(&outcome, seconds)));
        last = Some((x, seconds));
        let failed = outcome.is_err();
        log.add(line(outcome.map_or_else(|error| Outcome::Failed(format!("{error:#}")), Outcome::Measured)))?;
        if failed {
            series.points.truncate(index);
            return Ok(());
        }
    }
    Ok(())
}

fn told(outcome: &Result<Measured>, seconds: f64) -> String {
    match outcome {
        Ok(measured) => {
            let values: Vec<String> = measured.values.iter().map(|(metric, value)| format!("{metric} {value:.4}")).collect();
            format!("{} ({seconds:.1} s)", values.join(", "))
        }
        Err(error) => format!("failed: {error:#}"),
    }
}

/// Measures a point in a process of its own, which is ended after `patience` seconds.
fn measure_apart(work: &Work, (threads, models): (usize, &Path), patience: f64) -> Result<Measured> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let point = serde_json::to_string(work)?;
    let mut command = Command::new(program);
    command.args(["--point", &point, "--threads", &threads.to_string()]).arg("--models").arg(models).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start a process")?;
    let watch = Stopwatch::start();
    while child.try_wait()?.is_none() {
        if watch.elapsed().as_secs_f64() > patience {
            child.kill().and_then(|()| child.wait()).context("cannot end a process")?;
            bail!("not done after {patience:.0} s");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "the process ended with {}", output.status);
    serde_json::from_slice(&output.stdout).context("a process answered something else")
}

fn write_results(log: &Log, output: &Path) -> Result<()> {
    ensure!(log.lines().next().is_some(), "`rounds.jsonl` in `{}` holds no point", output.display());
    write_atomic(&output.join("scaling.csv"), log.csv().as_bytes())?;
    for question in &QUESTIONS {
        if let Some(scene) = draw::figure(log, question) {
            let path = output.join(question.name);
            write_atomic(&path.with_extension("svg"), render::svg(&scene, question.title)?.as_bytes())?;
            render::write_png(&scene, &path.with_extension("png"))?;
        }
    }
    let text = record::markdown(log, &QUESTIONS);
    write_atomic(&output.join("scaling.md"), text.as_bytes())?;
    write!(std::io::stdout(), "{text}").context("cannot print")
}

/// Progress goes to standard error; if nobody reads it, the measuring goes on.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
