//! Multiple choice: MMLU, ARC, CommonsenseQA, OpenBookQA, HellaSwag, RACE and what looks like them.
//!
//! The right choice is the reference, all choices are kept beside the question. How a set names the right one differs: by its place from 0,
//! by its letter, by a label of its own, or by its text.

use serde_json::Value;

use super::row::{Row, scalar};
use super::table::Reader;
use super::{Sample, Split};

const IDS: [&str; 3] = ["id", "_id", "question_id"];
const SLICES: [&str; 3] = ["subject", "category", "type"];
const MEND: &str = "name the right choice by its place from 0, its letter, its label or its text";

pub(super) fn row(reader: &mut Reader<'_>, row: &mut Row<'_>, split: Option<Split>) {
    let id = row.first_of(&IDS);
    let id = row.id_or_number(id);
    let mut nested = None;
    // CommonsenseQA keeps stem and choices together.
    let question = if let Some(Value::Object(mut fields)) = row.get("question").cloned() {
        row.take("question");
        nested = fields.remove("choices");
        fields.get("stem").and_then(Value::as_str).map(str::to_owned)
    } else {
        let field = row.first_of(&["question", "question_stem", "ctx", "query"]);
        row.required(field)
    };
    let field = row.first_of(&["choices", "options", "endings"]);
    let found = nested.or_else(|| row.take(field)).as_ref().and_then(labelled);
    let Some(choices) = found.filter(|choices| choices.len() >= 2) else {
        return row.problem("has no list of at least two choices", "write `\"choices\": [\"..\", \"..\"]`");
    };
    let field = row.first_of(&["answer", "answerKey", "answer_index", "label", "gold"]);
    let Some(answer) = row.take(field).as_ref().and_then(scalar) else {
        return row.problem(format!("has no `{field}`"), MEND);
    };
    let Some(right) = right_choice(&choices, &answer) else {
        return row.problem(format!("has the answer `{answer}`, which names none of its {} choices", choices.len()), MEND);
    };
    let slices = SLICES.iter().filter_map(|name| Some(((*name).to_owned(), scalar(&row.take(name)?)?))).collect();
    let (Some(id), Some(question)) = (id, question) else { return };
    let references = vec![choices[right].1.clone()];
    let choices = choices.into_iter().map(|(_, text)| text).collect();
    reader.push(Sample { id, question, references, choices, slices, ..Sample::default() }, row, split, None);
}

/// Choices as pairs of label and text; a label is empty where there is none.
fn labelled(value: &Value) -> Option<Vec<(String, String)>> {
    match value {
        Value::Object(columns) => {
            let texts = columns.get("text")?.as_array()?;
            let labels = columns.get("label").and_then(Value::as_array);
            let label = |index: usize| labels.and_then(|labels| labels.get(index)).and_then(scalar).unwrap_or_default();
            texts.iter().enumerate().map(|(index, text)| Some((label(index), scalar(text)?))).collect()
        }
        Value::Array(items) => items.iter().map(one_choice).collect(),
        _ => None,
    }
}

fn one_choice(item: &Value) -> Option<(String, String)> {
    match item {
        Value::Object(fields) => Some((fields.get("label").and_then(scalar).unwrap_or_default(), scalar(fields.get("text")?)?)),
        text => Some((String::new(), scalar(text)?)),
    }
}

/// The place of the right choice: its label, else its text, else a place from 0, else a letter.
pub(super) fn right_choice(choices: &[(String, String)], answer: &str) -> Option<usize> {
    let answer = answer.trim();
    let by = |same: &dyn Fn(&(String, String)) -> bool| choices.iter().position(same);
    let within = |place: &usize| *place < choices.len();
    let letter = || {
        let mut letters = answer.chars();
        let first = letters.next().filter(char::is_ascii_alphabetic)?.to_ascii_uppercase();
        letters.next().is_none().then_some(first as usize - 'A' as usize)
    };
    by(&|(label, _)| !label.is_empty() && label == answer)
        .or_else(|| answer.parse().ok().filter(within).filter(|_| choices.iter().all(|(label, _)| label.is_empty())))
        .or_else(|| by(&|(_, text)| text.trim() == answer))
        .or_else(|| letter().filter(within))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_choice_is_found_by_label_place_text_or_letter() {
        let plain = |texts: &[&str]| texts.iter().map(|text| (String::new(), (*text).to_owned())).collect::<Vec<_>>();
        let numbered = [("1".to_owned(), "one".to_owned()), ("2".to_owned(), "two".to_owned())];
        assert_eq!(right_choice(&plain(&["x", "y"]), "1"), Some(1));
        assert_eq!(right_choice(&numbered, "1"), Some(0), "a label goes before a place");
        assert_eq!(right_choice(&plain(&["x", "y"]), "B"), Some(1));
        assert_eq!(right_choice(&plain(&["B", "y"]), "B"), Some(0), "a text goes before a letter");
        assert_eq!(right_choice(&plain(&["x", "y"]), "y"), Some(1));
        assert_eq!(right_choice(&plain(&["x", "y"]), "E"), None);
        assert_eq!(right_choice(&plain(&["x", "y"]), "7"), None);
    }
}
