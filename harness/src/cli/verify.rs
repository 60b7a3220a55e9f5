//! `ragft verify`

use std::fmt::Write as _;
use std::path::Path;

use super::args::{Global, VerifyArgs};
use super::failure::Failure;
use super::print;
use super::progress::Progress;
use super::run::{INTERRUPT, listen_to_interrupts};
use crate::measure::plan::RunPlan;
use crate::measure::verify::{Verification, VerifyRequest, verify};
use crate::store::RunFolder;

/// Differences that are listed for people.
const SHOWN: usize = 40;

/// Answers a sample of the run again; exit 1 if anything is not as recorded.
pub fn run(args: &VerifyArgs, global: &Global) -> Result<u8, Failure> {
    listen_to_interrupts()?;
    let folder = RunFolder::open_with_answers(&args.run)?;
    let manifest = folder.read_manifest()?;
    let base = args.base.as_deref().unwrap_or(Path::new(""));
    let mut plan = RunPlan::prepare(manifest.spec, base)?;
    if let Some(shard) = manifest.shard {
        plan.take_share(shard)?;
    }
    let request = VerifyRequest { plan: &plan, folder: &folder, questions: args.questions, seed: args.seed, interrupt: &INTERRUPT };
    let mut progress = Progress::new(global.quiet);
    let result = verify(&request, &mut |event| progress.on(event));
    progress.finish();
    let found = result.map_err(|error| match error {
        error if error.is_interrupted() => Failure::interrupted(&format!("ragft verify {}", args.run.display())),
        error => error.into(),
    })?;
    if global.json {
        print(&format!("{:#}\n", serde_json::to_value(&found).expect("plain data")));
    } else {
        print(&as_text(&found, &args.run));
    }
    Ok(u8::from(!found.is_same()))
}

fn as_text(found: &Verification, run: &Path) -> String {
    let mut text = String::new();
    for difference in found.differences.iter().take(SHOWN) {
        let _ = writeln!(
            text,
            "{} seed {}, {}: {} was {}, is {}",
            difference.variant, difference.seed, difference.sample_id, difference.field, difference.was, difference.is
        );
    }
    if found.differences.len() > SHOWN {
        let _ = writeln!(text, "and {} more fields: `--json` lists all", found.differences.len() - SHOWN);
    }
    for mismatch in &found.mismatches {
        let _ = writeln!(text, "{mismatch}");
    }
    for metric in &found.post_hoc {
        let _ = writeln!(text, "post hoc: `{metric}` is computed by this version and was not declared when the run was planned");
    }
    for note in &found.notes {
        let _ = writeln!(text, "note: {note}");
    }
    if found.is_same() {
        let _ = writeln!(text, "{} answers of {} are the same, byte by byte", found.rows, run.display());
    } else {
        let rows: std::collections::BTreeSet<_> =
            found.differences.iter().map(|difference| (&difference.variant, difference.seed, &difference.sample_id)).collect();
        let _ = writeln!(text, "{} of {} answers of {} differ", rows.len(), found.rows, run.display());
    }
    text
}
