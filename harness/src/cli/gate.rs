//! `ragft gate`

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::args::{GateArgs, Global};
use super::failure::Failure;
use super::print;
use crate::diagnostic::Blame;
use crate::gate::false_alarm::{self, Trial};
use crate::gate::history::{History, HistoryError};
use crate::gate::policy::DEFAULT_POLICY;
use crate::gate::run::Run;
use crate::gate::{self, GateError, Policy, PolicyError, export, render};
use crate::store::{RunFolder, write_atomic};
use crate::table::TableError;

/// Judges, prints, writes what was asked for, and gives the exit code.
pub fn run(args: &GateArgs, global: &Global) -> Result<u8, Failure> {
    if args.print_policy {
        print(DEFAULT_POLICY);
        return Ok(0);
    }
    let policy = match &args.policy {
        Some(path) => Policy::read(path)?,
        None => Policy::default_policy(),
    };
    if let Some(reference) = &args.aa {
        return false_alarms(args, global, reference, &policy);
    }
    let (Some(candidate), Some(against)) = (&args.candidate, &args.against) else {
        return Err(Failure::message(Blame::Request, "the gate needs CANDIDATE and `--against REFERENCE`", None));
    };
    let (candidate, reference) = (read(candidate)?, read(&reference_folder(against)?)?);
    let report = gate::compare_runs(&candidate, &reference, &policy)?;
    write_files(args, &report, &candidate)?;
    let annotations = if args.annotations { render::annotations(&report) } else { String::new() };
    if global.json {
        print(&export::json(&report));
        // The workflow's log is read as a whole, stderr too; stdout stays JSON.
        let _ = std::io::stderr().write_all(annotations.as_bytes());
    } else {
        print(&render::terminal(&report));
        print(&annotations);
    }
    Ok(report.exit_code())
}

fn read(run: &Path) -> Result<Run, Failure> {
    RunFolder::open(run)?;
    Run::read(run).map_err(Failure::from)
}

/// A run folder, or the run that a history has blessed.
fn reference_folder(against: &Path) -> Result<PathBuf, Failure> {
    if History::is_one(against) { Ok(History::at(against).blessed()?.folder) } else { Ok(against.to_owned()) }
}

fn write_files(args: &GateArgs, report: &gate::GateReport, candidate: &Run) -> Result<(), Failure> {
    let write = |path: &Option<PathBuf>, text: &dyn Fn() -> String| match path {
        Some(path) => write_atomic(&std::path::absolute(path).unwrap_or_else(|_| path.clone()), text().as_bytes()),
        None => Ok(()),
    };
    write(&args.junit, &|| export::junit(report))?;
    write(&args.sarif, &|| export::sarif(report))?;
    write(&args.bmf, &|| export::bmf(report, candidate))?;
    if let Some(path) = &args.summary {
        append(path, &render::markdown(report))?;
    }
    Ok(())
}

/// A step's summary is a file that steps add to.
fn append(path: &Path, text: &str) -> Result<(), Failure> {
    let added = std::fs::OpenOptions::new().create(true).append(true).open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    added.map_err(|error| Failure::message(Blame::Runtime, &format!("cannot append to `{}`: {error}", path.display()), None))
}

fn false_alarms(args: &GateArgs, global: &Global, reference: &Path, policy: &Policy) -> Result<u8, Failure> {
    let refuse = |message: String| Err(Failure::message(Blame::Request, &message, None));
    if args.pairs < 20 {
        return refuse(format!("`--pairs` is {}, expected at least 20", args.pairs));
    }
    if !(0.0..=1.0).contains(&args.changed) || args.changed == 0.0 {
        return refuse(format!("`--changed` is {}, expected a share above 0 and at most 1", args.changed));
    }
    if !(0.0..=100.0).contains(&args.effect) {
        return refuse(format!("`--effect` is {}, expected 0 to 100 points", args.effect));
    }
    let run = read(&reference_folder(reference)?)?;
    let trial = Trial { pairs: args.pairs, changed: args.changed, effect: args.effect / 100.0, seed: args.seed };
    let found = false_alarm::measure(&run, policy, &trial)?;
    if global.json {
        print(&format!("{:#}\n", serde_json::to_value(&found).expect("plain data")));
    } else {
        print(&render::false_alarms(&found));
    }
    Ok(u8::from(found.is_too_high()))
}

impl From<PolicyError> for Failure {
    fn from(error: PolicyError) -> Self {
        Self::request(&error)
    }
}

impl From<GateError> for Failure {
    fn from(error: GateError) -> Self {
        Self::request(&error)
    }
}

impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Store(error) => error.into(),
            error => Self::request(&error),
        }
    }
}

impl From<HistoryError> for Failure {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Store(error) => error.into(),
            HistoryError::Table(error) => error.into(),
            HistoryError::Report(_) => Self::runtime(&error),
            error => Self::request(&error),
        }
    }
}
