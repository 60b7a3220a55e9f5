//! Questions with answers and nothing else, or with their gold passages: NQ-open, WebQuestions, TriviaQA, KILT, CLAPNQ.

use serde_json::Value;

use super::row::{Row, scalar};
use super::table::Reader;
use super::{Sample, Split};

const IDS: [&str; 5] = ["id", "_id", "qId", "question_id", "qid"];
/// Names of the question's field.
pub(super) const QUESTIONS: [&str; 4] = ["question", "input", "qText", "query"];
/// Names of the answers' field.
pub(super) const ANSWERS: [&str; 4] = ["answer", "answers", "output", "short_answers"];

pub(super) fn row(reader: &mut Reader<'_>, row: &mut Row<'_>, split: Option<Split>) {
    let (id, question, answer) = (row.first_of(&IDS), row.first_of(&QUESTIONS), row.first_of(&ANSWERS));
    let (id, question) = (row.id_or_number(id), row.required(question));
    let references = if has_aliases(row, answer) { aliases(row, answer) } else { row.texts(answer) };
    let answerable = row.flag("answerable").unwrap_or(true);
    let mut relevant = Vec::new();
    let mut group = None;
    if let Some(Value::Array(passages)) = row.take("passages") {
        for passage in &passages {
            let (title, text) = (passage["title"].as_str().unwrap_or_default(), passage["text"].as_str());
            let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else {
                row.problem("has a passage without `text`", "write `{\"title\": .., \"text\": ..}`");
                continue;
            };
            relevant.push(reader.paragraphs.document(title, title, text, &row.place, &mut reader.raw.documents));
            // Questions on one page stay on one side.
            group = Some(title.to_owned());
        }
        relevant.dedup();
    }
    let (Some(id), Some(question)) = (id, question) else { return };
    let references = if answerable { references } else { Vec::new() };
    reader.push(Sample { id, question, references, relevant, answerable, ..Sample::default() }, row, split, group);
}

fn has_aliases(row: &Row<'_>, field: &str) -> bool {
    row.get(field).is_some_and(|value| value.get("value").is_some())
}

/// TriviaQA: one answer with other spellings.
fn aliases(row: &mut Row<'_>, field: &str) -> Vec<String> {
    let Some(answer) = row.take(field) else { return Vec::new() };
    let mut texts: Vec<String> = answer.get("value").and_then(scalar).into_iter().collect();
    for alias in answer.get("aliases").and_then(Value::as_array).into_iter().flatten().filter_map(scalar) {
        if !texts.contains(&alias) {
            texts.push(alias);
        }
    }
    texts
}
