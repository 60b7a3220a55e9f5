//! `ragft report`

use super::args::{FolderArgs, Global};
use super::failure::Failure;
use super::{colour, print};
use crate::report;
use crate::store::RunFolder;

/// Makes tables, figures and reports again, from the run folder alone.
pub fn run(args: &FolderArgs, global: &Global) -> Result<(), Failure> {
    RunFolder::open(&args.run)?;
    let tables = report::write_report(&args.run).map_err(|error| Failure::request(&error))?;
    if !global.quiet {
        print(&report::terminal_table(&tables, colour()));
        print(&format!("report {}\n", args.run.join("report.html").display()));
    }
    Ok(())
}
