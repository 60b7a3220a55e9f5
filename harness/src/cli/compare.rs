//! `ragft compare`

use super::args::{CompareArgs, Global};
use super::failure::Failure;
use super::print;
use super::run::quality_json;
use crate::store::RunFolder;
use crate::{report, table};

/// Prints runs side by side.
pub fn run(args: &CompareArgs, global: &Global) -> Result<(), Failure> {
    let mut tables = Vec::with_capacity(args.runs.len());
    for run in &args.runs {
        RunFolder::open(run)?;
        tables.push(table::read(run).map_err(|error| Failure::request(&error))?);
    }
    if global.json {
        let rows: Vec<_> =
            args.runs.iter().zip(&tables).map(|(run, tables)| serde_json::json!({ "run": run, "quality": quality_json(tables) })).collect();
        print(&format!("{:#}\n", serde_json::Value::Array(rows)));
    } else {
        print(&report::compare(&tables));
    }
    Ok(())
}
