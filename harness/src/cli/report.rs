//! `ragft report`

use std::path::Path;

use super::args::{Global, ReportArgs};
use super::failure::Failure;
use super::{colour, print};
use crate::claim;
use crate::report;
use crate::store::{RunFolder, write_atomic};

/// Makes tables, figures and reports again, from the run folder alone.
pub fn run(args: &ReportArgs, global: &Global) -> Result<(), Failure> {
    RunFolder::open(&args.run)?;
    if let Some(file) = &args.claims {
        keep_claims(file, &args.run)?;
    }
    let tables = report::write_report(&args.run).map_err(|error| Failure::request(&error))?;
    if !global.quiet {
        print(&report::terminal_table(&tables, colour()));
        print(&format!("report {}\n", args.run.join("report.html").display()));
    }
    Ok(())
}

/// The claims become the folder's own, if they can be used.
fn keep_claims(file: &Path, run: &Path) -> Result<(), Failure> {
    claim::read(Some(file)).map_err(|error| Failure::request(&error))?;
    let text = std::fs::read(file).map_err(|source| Failure::request(&claim::ClaimError::File { path: file.to_owned(), source }))?;
    Ok(write_atomic(&run.join(claim::FILE), &text)?)
}
