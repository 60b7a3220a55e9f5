//! `ragft dataset`

use std::fmt::Write as _;
use std::path::Path;

use super::args::{DatasetArgs, DatasetSource, DatasetVerb, Global};
use super::failure::Failure;
use super::{print, spec};
use crate::dataset::{self, Dataset, Lengths, Split, Summary};
use crate::diagnostic::Blame;
use crate::spec::DatasetSpec;

/// Checks, converts or generates a dataset.
pub fn run(args: &DatasetArgs, global: &Global) -> Result<(), Failure> {
    match &args.verb {
        DatasetVerb::Check(source) => check(source, global),
        DatasetVerb::Convert { source, output } => {
            crate::store::RunFolder::check_vacant(output)?;
            dataset::write_native(&load(source)?, output).map_err(|error| Failure::runtime(&error))
        }
        DatasetVerb::World { seed, output } => {
            crate::store::RunFolder::check_vacant(output)?;
            let world = dataset::world::generate(&dataset::world::WorldConfig { seed: *seed, ..dataset::world::WorldConfig::default() });
            dataset::write_native(&world.dataset, output).map_err(|error| Failure::runtime(&error))
        }
    }
}

fn section(source: &DatasetSource) -> Result<DatasetSpec, Failure> {
    let text = source.spec.as_deref().map(spec::read).transpose()?.unwrap_or_default();
    let mut section = crate::spec::read(&text, &spec::anchored(&source.set))?.dataset;
    section.path.clone_from(&source.path);
    Ok(section)
}

fn load(source: &DatasetSource) -> Result<Dataset, Failure> {
    dataset::load(&section(source)?, 1, Path::new("")).map_err(|error| Failure::request(&error))
}

fn check(source: &DatasetSource, global: &Global) -> Result<(), Failure> {
    let examination = dataset::check(&section(source)?, 1, Path::new("")).map_err(|error| Failure::request(&error))?;
    let summary = examination.dataset.as_ref().map(dataset::summary);
    if global.json {
        print(&format!("{:#}\n", serde_json::json!({ "problems": examination.problems, "summary": summary })));
    }
    let (Some(dataset), Some(summary)) = (examination.dataset, summary) else {
        let lines: String = examination.problems.iter().map(|problem| format!("\n  {problem}")).collect();
        let message = format!("`{}` has {} problems{lines}", source.path.display(), examination.problems.len());
        return Err(Failure::message(Blame::Request, &message, None));
    };
    if global.json {
        return Ok(());
    }
    let mut text = figures(&summary);
    for note in &dataset.notes {
        let _ = writeln!(text, "note: {note}");
    }
    print(&text);
    Ok(())
}

fn figures(summary: &Summary) -> String {
    let mut text = format!("{} documents{}\n", summary.documents, lengths("characters", summary.document_chars));
    for split in &summary.splits {
        let name = match split.split {
            Split::Train => "train",
            Split::Validation => "validation",
            Split::Test => "test",
        };
        let _ = writeln!(
            text,
            "{name}: {} questions ({} answerable, {} with relevant documents) in {} clusters{}",
            split.questions,
            split.answerable,
            split.with_relevant,
            split.clusters,
            lengths("characters a reference", split.reference_chars)
        );
        for (slice, values) in &split.slices {
            let values: Vec<String> = values.iter().map(|(value, count)| format!("{value} {count}")).collect();
            let _ = writeln!(text, "  {slice}: {}", values.join(", "));
        }
    }
    text
}

fn lengths(unit: &str, lengths: Option<Lengths>) -> String {
    lengths.map_or_else(String::new, |lengths| format!(", {:.0} to {:.0} {unit} (median {:.0})", lengths.min, lengths.max, lengths.median))
}
