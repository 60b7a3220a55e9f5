//! `ragft merge`

use super::args::{Global, MergeArgs};
use super::failure::Failure;
use super::{print, run};
use crate::measure::merge;
use crate::report;

/// Makes one run of its shards, with tables and report.
pub fn run(args: &MergeArgs, global: &Global) -> Result<(), Failure> {
    let manifest = merge::merge(&args.shards, &args.output).map_err(|error| Failure::of(&error, error.blame()))?;
    let tables = report::write_report(&args.output).map_err(|error| Failure::runtime(&error))?;
    print(&run::outcome(&manifest, &tables, &args.output, global));
    Ok(())
}
