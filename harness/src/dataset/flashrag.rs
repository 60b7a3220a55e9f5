//! FlashRAG: `id`, `question`, `golden_answers`, `metadata`; its corpus has `id` and `contents`, whose first line is the title.

use serde_json::Value;

use super::choices::right_choice;
use super::row::{Row, scalar};
use super::table::Reader;
use super::{Sample, Split};

pub(super) fn row(reader: &mut Reader<'_>, row: &mut Row<'_>, split: Option<Split>) {
    let (id, question) = (row.id_or_number("id"), row.required("question"));
    let (mut references, choices) = (row.texts("golden_answers"), row.texts("choices"));
    if !choices.is_empty() {
        let labelled: Vec<(String, String)> = choices.iter().map(|text| (String::new(), text.clone())).collect();
        let right: Option<Vec<String>> = references.iter().map(|answer| Some(choices[right_choice(&labelled, answer)?].clone())).collect();
        match right {
            Some(right) => references = right,
            None => row.problem("has a golden answer that names none of its choices", "give the place of the choice from 0, or its text"),
        }
    }
    let metadata = row.take("metadata");
    let slice = |name: &str| Some((name.to_owned(), scalar(metadata.as_ref()?.get(name)?)?));
    let slices = ["type", "level", "subject", "category"].iter().filter_map(|name| slice(name)).collect();
    let (Some(id), Some(question)) = (id, question) else { return };
    reader.push(Sample { id, question, references, choices, slices, ..Sample::default() }, row, split, None);
}

/// Parts `contents` at its first line end, if what stands before is a title.
pub(super) fn title_and_text(contents: String) -> (String, String) {
    match contents.split_once('\n') {
        Some((title, text)) if !title.trim().is_empty() && !text.trim().is_empty() => {
            (title.trim().trim_matches('"').to_owned(), text.trim().to_owned())
        }
        _ => (String::new(), contents),
    }
}

/// Whether a value is a list of lists: alternatives within a list, all of the lists needed.
pub(super) fn nested(value: &Value) -> bool {
    value.as_array().is_some_and(|outer| outer.iter().any(|inner| inner.as_array().is_some_and(|inner| inner.len() > 1)))
}
