//! What was retrieved, as trec_eval reads it: a run per variant that searches, and the relevance labels.
//!
//! A document that several passages belong to counts once, at its first rank, as in our own scores.

use std::fmt::Write as _;
use std::path::Path;

use super::source::Source;
use super::{ExportError, Exported};
use crate::spec::{ContextSource, VariantKind};

pub(super) fn write(source: &Source, output: &Path) -> Result<Exported, ExportError> {
    let variants: Vec<VariantKind> =
        source.tables.variants().into_iter().filter(|variant| variant.context() == ContextSource::Retrieved).collect();
    let labels = qrels(source);
    if variants.is_empty() || labels.is_empty() {
        let problem = if labels.is_empty() { "no test question has relevance labels" } else { "no variant searches" };
        return Err(ExportError::Nothing { form: "a TREC run", problem });
    }
    let mut exported = Exported::default();
    exported.write(output.join("qrels.txt"), &labels)?;
    for variant in variants {
        exported.write(output.join(format!("run.{}.txt", variant.name())), &run(source, variant)?)?;
    }
    exported
        .notes
        .push("ids with blanks or `%` are written with percent codes; a question that failed has no line: count it with `-c`".into());
    Ok(exported)
}

fn qrels(source: &Source) -> String {
    let mut text = String::new();
    for sample in &source.samples {
        for document in &sample.relevant {
            let _ = writeln!(text, "{} 0 {} 1", id(&sample.id), id(document));
        }
    }
    text
}

/// Under the first seed: the index does not depend on it.
fn run(source: &Source, variant: VariantKind) -> Result<String, ExportError> {
    let mut text = String::new();
    source.for_each_answered(variant, |answers| {
        let (mut seen, mut last) = (Vec::new(), f32::INFINITY);
        for hit in &answers.rows[0].hits {
            if seen.contains(&&hit.document_id) {
                continue;
            }
            seen.push(&hit.document_id);
            // trec_eval orders by score alone, and of equal ones by id: equal scores are written one step apart, in our order.
            last = if hit.score < last { hit.score } else { last.next_down() };
            let (question, document) = (id(&answers.sample.id), id(&hit.document_id));
            let _ = writeln!(text, "{question} Q0 {document} {} {last} ragft-{}", seen.len(), variant.name());
        }
        Ok(())
    })?;
    Ok(text)
}

/// An id without blanks: columns are separated by them.
fn id(text: &str) -> String {
    let encode = |c: char| {
        if c.is_whitespace() || c == '%' { c.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect() } else { c.to_string() }
    };
    text.chars().map(encode).collect()
}
