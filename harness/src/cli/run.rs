//! `ragft run`

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::args::{Global, RunArgs};
use super::failure::Failure;
use super::progress::Progress;
use super::{colour, print, shard, spec};
use crate::diagnostic::Blame;
use crate::lm::remote::give_up_when;
use crate::measure::events::RunEvent;
use crate::measure::plan::RunPlan;
use crate::measure::runner::{self, RunError, RunRequest};
use crate::report;
use crate::store::manifest::{Manifest, Shard};
use crate::store::{RunFolder, StoreError};
use crate::table::Tables;

/// Set by Ctrl-C; looked at between batches and optimizer steps, and while a server is waited for.
pub static INTERRUPT: AtomicBool = AtomicBool::new(false);

/// Runs the experiment and prints its closing table.
pub fn run(args: &RunArgs, global: &Global) -> Result<(), Failure> {
    listen_to_interrupts()?;
    let (spec, base) = spec::load(&args.spec)?;
    let output = match &args.output {
        Some(output) => output.clone(),
        None if args.resume => {
            return Err(Failure::message(Blame::Request, "`--resume` needs the folder of the run", Some("add `-o DIR`")));
        }
        None => free_folder(&spec.name),
    };
    if args.resume {
        RunFolder::open(&output)?;
    } else {
        RunFolder::check_vacant(&output)?;
    }
    let shard = args.shard.as_deref().map(|text| shard::parse(text, |name| std::env::var(name).ok())).transpose();
    let shard = shard.map_err(|problem| Failure::message(Blame::Request, &problem, None))?;
    let mut plan = RunPlan::prepare(spec, &base)?;
    if let Some(shard) = shard {
        plan.take_share(shard)?;
    }
    let mut progress = Progress::new(global.quiet);
    let manifest = execute(&plan, &output, args, &mut progress).map_err(|error| match error {
        RunError::Interrupted => Failure::interrupted(&resume_command(args, shard, &output)),
        error => error.into(),
    })?;
    if args.train_only || shard.is_some() {
        print(&if global.json { part_json(&manifest, &plan, &output) } else { part(&manifest, &plan, &output, args.train_only) });
        return Ok(());
    }
    progress.on(RunEvent::Phase { name: "report", detail: "", total: 0, unit: "" });
    let tables = report::write_report(&output).map_err(|error| Failure::runtime(&error))?;
    progress.finish();
    print(&outcome(&manifest, &tables, &output, global));
    Ok(())
}

/// What is said of a finished run.
pub fn outcome(manifest: &Manifest, tables: &Tables, output: &Path, global: &Global) -> String {
    if global.json { as_json(manifest, tables, output) } else { closing(manifest, tables, output) }
}

/// What is said of a part of a run, which has no tables.
fn part(manifest: &Manifest, plan: &RunPlan, output: &Path, train_only: bool) -> String {
    let folder = output.display();
    if train_only {
        let names: Vec<&str> = manifest.training.iter().map(|record| record.adapter.as_str()).collect();
        let trained = if names.is_empty() { "nothing to train".to_owned() } else { format!("trained {}", names.join(", ")) };
        return format!("{trained}; go on with `--adapters-from {folder}` elsewhere or `-o {folder} --resume` here\n");
    }
    let (questions, whole) = (plan.dataset.test.len(), plan.whole_test());
    let shard = manifest.shard.map_or_else(String::new, |shard| shard.to_string());
    let hash = manifest.result_hash.as_deref().unwrap_or("not set");
    format!(
        "shard {shard} in {folder}: {questions} of {whole} questions\nresult hash of the shard {hash}\n`ragft merge SHARD.. -o DIR` makes the run of all\n"
    )
}

fn part_json(manifest: &Manifest, plan: &RunPlan, output: &Path) -> String {
    let adapters: Vec<&str> = manifest.training.iter().map(|record| record.adapter.as_str()).collect();
    let value = serde_json::json!({
        "run": output.display().to_string(),
        "run_id": manifest.run_id,
        "shard": manifest.shard,
        "questions": plan.dataset.test.len(),
        "adapters": adapters,
        "result_hash": manifest.result_hash,
    });
    format!("{value:#}\n")
}

fn execute(plan: &RunPlan, output: &Path, args: &RunArgs, progress: &mut Progress) -> Result<Manifest, RunError> {
    let request = RunRequest {
        plan,
        output,
        resume: args.resume,
        started_at: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        git_commit: git_commit(),
        adapters_from: args.adapters_from.as_deref(),
        train_only: args.train_only,
        interrupt: &INTERRUPT,
    };
    let result = runner::run(&request, &mut |event| progress.on(event));
    progress.finish();
    result
}

/// Listens to Ctrl-C, once per process.
pub fn listen_to_interrupts() -> Result<(), Failure> {
    give_up_when(&INTERRUPT);
    // A second Ctrl-C ends at once: the journal survives that as well.
    let handler = || {
        if INTERRUPT.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    ctrlc::set_handler(handler).map_err(|error| Failure::message(Blame::Runtime, &format!("cannot listen to Ctrl-C: {error}"), None))
}

/// `runs/NAME`, or the first of `runs/NAME-2`, `runs/NAME-3`, .. that is free.
fn free_folder(name: &str) -> PathBuf {
    let safe: String = name.chars().map(|c| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    let candidate = |number: u32| Path::new("runs").join(if number == 1 { safe.clone() } else { format!("{safe}-{number}") });
    let vacant = |path: &PathBuf| !matches!(RunFolder::check_vacant(path), Err(StoreError::NotEmpty { .. }));
    (1..=u32::MAX).map(candidate).find(vacant).expect("some number is free")
}

fn git_commit() -> Option<String> {
    let output = std::process::Command::new("git").args(["rev-parse", "HEAD"]).stderr(std::process::Stdio::null()).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}

fn resume_command(args: &RunArgs, shard: Option<Shard>, output: &Path) -> String {
    let mut command = "ragft run".to_owned();
    if let Some(spec) = &args.spec.spec {
        let _ = write!(command, " {}", spec.display());
    }
    for entry in &args.spec.set {
        let _ = write!(command, " --set '{}={}'", entry.key, entry.value);
    }
    for given in &args.spec.predictions {
        let _ = write!(command, " --predictions '{}={}'", given.name, given.path.display());
    }
    if let Some(limit) = args.spec.limit {
        let _ = write!(command, " --limit {limit}");
    }
    if let Some(shard) = shard {
        let _ = write!(command, " --shard {shard}");
    }
    if let Some(from) = &args.adapters_from {
        let _ = write!(command, " --adapters-from {}", from.display());
    }
    if args.train_only {
        command.push_str(" --train-only");
    }
    let _ = write!(command, " -o {} --resume", output.display());
    command
}

fn closing(manifest: &Manifest, tables: &Tables, output: &Path) -> String {
    let mut text = report::terminal_table(tables, colour());
    for caveat in &manifest.caveats {
        let _ = writeln!(text, "note: {caveat}");
    }
    if let Some(line) = noise_line(manifest) {
        let _ = writeln!(text, "{line}");
    }
    let _ = writeln!(text, "result hash {}", manifest.result_hash.as_deref().unwrap_or("not set"));
    let _ = writeln!(text, "report {}", output.join("report.html").display());
    text
}

/// How many answers each other way of computing changed, over all variants.
fn noise_line(manifest: &Manifest) -> Option<String> {
    let mut totals: Vec<(&str, usize, usize)> = Vec::new();
    for record in &manifest.noise {
        match totals.iter_mut().find(|(change, ..)| *change == record.change) {
            Some((_, changed, answers)) => {
                *changed += record.changed;
                *answers += record.answers;
            }
            None => totals.push((&record.change, record.changed, record.answers)),
        }
    }
    let parts: Vec<String> = totals.iter().map(|(change, changed, answers)| format!("{changed} of {answers} with {change}")).collect();
    (!parts.is_empty()).then(|| format!("noise floor: answers changed: {}", parts.join(", ")))
}

fn as_json(manifest: &Manifest, tables: &Tables, output: &Path) -> String {
    let value = serde_json::json!({
        "run": output.display().to_string(),
        "run_id": manifest.run_id,
        "result_hash": manifest.result_hash,
        "caveats": manifest.caveats,
        "quality": quality_json(tables),
        "contrasts": contrasts_json(tables),
    });
    format!("{value:#}\n")
}

/// The quality table as JSON rows, columns as in `tables/quality.csv`.
pub fn quality_json(tables: &Tables) -> serde_json::Value {
    let row = |row: &crate::table::QualityRow| {
        serde_json::json!({
            "variant": row.variant.name(),
            "slice": row.slice,
            "metric": row.metric.id,
            "point": row.estimate.point,
            "ci_low": row.estimate.ci_low,
            "ci_high": row.estimate.ci_high,
            "n": row.estimate.n,
            "n_failed": row.n_failed,
        })
    };
    tables.quality.iter().map(row).collect()
}

fn contrasts_json(tables: &Tables) -> serde_json::Value {
    let row = |row: &crate::table::ContrastRow| {
        serde_json::json!({
            "left": row.left,
            "right": row.right,
            "slice": row.slice,
            "metric": row.metric.id,
            "difference": row.difference.point,
            "ci_low": row.difference.ci_low,
            "ci_high": row.difference.ci_high,
            "n": row.difference.n,
        })
    };
    tables.contrasts.iter().map(row).collect()
}
