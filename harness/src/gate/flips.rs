//! Which questions changed sides.

use serde::Serialize;

use super::run::{Run, Source};
use crate::spec::VariantKind;
use crate::table::TableError;

/// A question that was right and is wrong, or the other way round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Flip {
    /// Whose answer.
    pub variant: VariantKind,
    /// The question's id.
    pub sample: String,
    /// The question.
    pub question: String,
    /// First of the accepted answers.
    pub expected: String,
    /// The reference's answer under its first seed.
    pub reference: String,
    /// The candidate's.
    pub candidate: String,
    /// The candidate lost it.
    pub is_loss: bool,
}

/// All flips under a metric: a question is right from one half on. Losses first within each variant, questions in file order.
pub fn flips(candidate: &Run, reference: &Run, metric: &str) -> Result<Vec<Flip>, TableError> {
    let source = Source::Metric(metric.to_owned());
    let mut found = Vec::new();
    for variant in reference.data.variants() {
        let (of, to) = (candidate.values(variant, &source), reference.values(variant, &source));
        let mut mine = Vec::new();
        for (sample, before) in reference.samples.iter().zip(to) {
            let after = candidate.index_of(&sample.id).and_then(|index| of[index]);
            let Some((was, is)) = before.zip(after).map(|(before, after)| (before >= 0.5, after >= 0.5)) else { continue };
            if was != is {
                mine.push(Flip {
                    variant,
                    sample: sample.id.clone(),
                    question: sample.question.clone(),
                    expected: sample.references.first().cloned().unwrap_or_default(),
                    reference: answer(reference, variant, &sample.id)?,
                    candidate: answer(candidate, variant, &sample.id)?,
                    is_loss: was,
                });
            }
        }
        mine.sort_by_key(|flip| !flip.is_loss);
        found.append(&mut mine);
    }
    Ok(found)
}

fn answer(run: &Run, variant: VariantKind, id: &str) -> Result<String, TableError> {
    let Some(index) = run.index_of(id) else { return Ok(String::new()) };
    let row = run.data.first_row(variant, index)?;
    Ok(row.map_or_else(String::new, |row| row.error.map_or(row.answer, |error| format!("(failed: {error})"))))
}
