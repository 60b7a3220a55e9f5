//! `ragft dataset`

use std::fmt::Write as _;
use std::path::Path;

use super::args::{DatasetArgs, DatasetSource, DatasetVerb, Global};
use super::failure::Failure;
use super::{print, spec};
use crate::dataset::{self, CORRELATION, Dataset, EFFECT, Examination, Lengths, Reach, Split, SplitSummary};
use crate::diagnostic::{Blame, plural};
use crate::spec::DatasetSpec;

/// Checks, converts or generates a dataset.
pub fn run(args: &DatasetArgs, global: &Global) -> Result<(), Failure> {
    match &args.verb {
        DatasetVerb::Check(source) => check(source, global),
        DatasetVerb::Stats(source) => stats(source, global),
        DatasetVerb::Convert { source, output } => {
            crate::store::RunFolder::check_vacant(output)?;
            dataset::write_native(&load(source)?, output).map_err(|error| Failure::runtime(&error))
        }
        DatasetVerb::World { seed, size, output } => {
            crate::store::RunFolder::check_vacant(output)?;
            let world = dataset::world::generate(&dataset::world::WorldConfig::of((*size).into(), *seed));
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

fn examine(source: &DatasetSource) -> Result<Examination, Failure> {
    dataset::check(&section(source)?, 1, Path::new("")).map_err(|error| Failure::request(&error))
}

fn check(source: &DatasetSource, global: &Global) -> Result<(), Failure> {
    let examination = examine(source)?;
    let summary = examination.dataset.as_ref().map(dataset::summary);
    if global.json {
        let notes = examination.dataset.as_ref().map(|dataset| &dataset.notes);
        print(&format!(
            "{:#}\n",
            serde_json::json!({
                "problems": examination.problems,
                "overlaps": examination.overlaps,
                "leaks": examination.leaks,
                "notes": notes,
                "summary": summary,
            })
        ));
    }
    let dataset = sound(source, &examination)?;
    if !global.json {
        let mut text = dataset::summary(dataset).splits.iter().fold(documents(dataset), |text, split| text + &counts(split));
        for note in &dataset.notes {
            let _ = writeln!(text, "note: {note}");
        }
        if examination.overlaps.is_empty() && examination.leaks.is_empty() {
            text.push_str("train, test and corpus share nothing that they should not\n");
        }
        print(&text);
    }
    Ok(())
}

/// The dataset, or every problem that keeps it from being one.
fn sound<'a>(source: &DatasetSource, examination: &'a Examination) -> Result<&'a Dataset, Failure> {
    examination.dataset.as_ref().ok_or_else(|| {
        let lines: String = examination.problems.iter().map(|problem| format!("\n  {problem}")).collect();
        let message = format!("`{}` has {}{lines}", source.path.display(), plural(examination.problems.len(), "problem"));
        Failure::message(Blame::Request, &message, None)
    })
}

fn stats(source: &DatasetSource, global: &Global) -> Result<(), Failure> {
    let examination = examine(source)?;
    let dataset = sound(source, &examination)?;
    let summary = dataset::summary(dataset);
    if global.json {
        let value = serde_json::json!({ "name": dataset.info.name, "hash": dataset.hash, "summary": summary });
        print(&format!("{value:#}\n"));
        return Ok(());
    }
    let mut text = documents(dataset);
    for split in &summary.splits {
        text.push_str(&counts(split));
        if let Some(sizes) = split.cluster_sizes {
            let _ = writeln!(text, "  questions a cluster: {}", range(&sizes));
        }
        if let Some(reach) = split.reach.as_ref().filter(|_| split.split == Split::Test) {
            text.push_str(&needs(split.questions, reach));
        }
    }
    print(&text);
    Ok(())
}

/// What the test split can show.
fn needs(questions: usize, reach: &Reach) -> String {
    let mut text = format!(
        "  a difference of {:.0} points between two variants (80 % power, 5 % level, correlation {} within clusters: design effect {:.1}):\n",
        100.0 * EFFECT,
        CORRELATION,
        reach.design_effect
    );
    for needed in &reach.needed {
        let verdict = if questions as f64 >= needed.questions { "enough here" } else { "too few here" };
        let _ = writeln!(
            text,
            "    {:.0} questions where they differ on {:.0} % of them: {verdict}",
            needed.questions,
            100.0 * needed.discordance
        );
    }
    text
}

fn documents(dataset: &Dataset) -> String {
    let summary = dataset::summary(dataset);
    format!("{} documents{}\n", summary.documents, lengths("characters", summary.document_chars))
}

fn counts(split: &SplitSummary) -> String {
    let name = match split.split {
        Split::Train => "train",
        Split::Validation => "validation",
        Split::Test => "test",
    };
    let choices = if split.with_choices > 0 { format!(", {} with choices", split.with_choices) } else { String::new() };
    let mut text = format!(
        "{name}: {} questions ({} answerable, {} with relevant documents{choices}) in {} clusters{}{}\n",
        split.questions,
        split.answerable,
        split.with_relevant,
        split.clusters,
        lengths("characters a question", split.question_chars),
        lengths("a reference", split.reference_chars)
    );
    for (slice, values) in &split.slices {
        let values: Vec<String> = values.iter().map(|(value, count)| format!("{value} {count}")).collect();
        let _ = writeln!(text, "  {slice}: {}", values.join(", "));
    }
    text
}

fn lengths(unit: &str, lengths: Option<Lengths>) -> String {
    lengths.map_or_else(String::new, |lengths| format!(", {:.0} to {:.0} {unit} (median {:.0})", lengths.min, lengths.max, lengths.median))
}

fn range(sizes: &Lengths) -> String {
    format!("{:.0} to {:.0} (median {:.0}, 95 % have at most {:.0})", sizes.min, sizes.max, sizes.median, sizes.q95)
}
