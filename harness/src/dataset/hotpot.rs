//! Multi-hop questions that carry their paragraphs: HotpotQA, 2WikiMultihopQA, MoreHopQA, MuSiQue; as JSON or as the hub's tables.
//!
//! Every paragraph becomes a document; the relevant ones are those that the supporting facts name.

use serde_json::Value;

use super::row::{Row, scalar};
use super::table::Reader;
use super::{Sample, Split};

/// Fields that become slices.
const SLICES: [&str; 5] = ["type", "level", "no_of_hops", "answer_type", "reasoning_type"];

struct Paragraph {
    title: String,
    text: String,
    supporting: bool,
}

pub(super) fn row(reader: &mut Reader<'_>, row: &mut Row<'_>, split: Option<Split>) {
    let id = row.first_of(&["_id", "id"]);
    let (id, question, references) = (row.id_or_number(id), row.required("question"), row.texts("answer"));
    let aliases = row.texts("answer_aliases");
    let context = row.first_of(&["context", "paragraphs"]);
    let context = structured(row.take(context));
    let Some(paragraphs) = context.as_ref().and_then(paragraphs) else {
        return row.problem(
            "has no `context` of titles and sentences",
            "write `\"context\": [[title, [sentence, ..]], ..]`, or set `dataset.format` to another format",
        );
    };
    let wanted = supporting_titles(row);
    let slices = SLICES.iter().filter_map(|name| Some(((*name).to_owned(), scalar(&row.take(name)?)?))).collect();
    let answerable = row.flag("answerable").unwrap_or(true);
    let mut relevant: Vec<String> = Vec::new();
    for paragraph in &paragraphs {
        if paragraph.text.is_empty() {
            reader.tell("paragraphs are empty and left out");
            continue;
        }
        let id = reader.paragraphs.document(&paragraph.title, &paragraph.title, &paragraph.text, &row.place, &mut reader.raw.documents);
        if (paragraph.supporting || wanted.contains(&paragraph.title)) && !relevant.contains(&id) {
            relevant.push(id);
        }
    }
    let missing = wanted.iter().filter(|title| paragraphs.iter().all(|paragraph| paragraph.title != **title));
    missing.for_each(|_| reader.tell("supporting facts name a paragraph that the question does not carry"));
    let (Some(id), Some(question)) = (id, question) else { return };
    let references = if answerable { references.into_iter().chain(aliases).collect() } else { Vec::new() };
    reader.push(Sample { id, question, references, relevant, slices, answerable, ..Sample::default() }, row, split, None);
}

/// Some tables hold lists as JSON text.
fn structured(value: Option<Value>) -> Option<Value> {
    match value {
        Some(Value::String(text)) => serde_json::from_str(&text).ok(),
        other => other,
    }
}

fn paragraphs(context: &Value) -> Option<Vec<Paragraph>> {
    if let Value::Object(columns) = context {
        let (titles, sentences) = (columns.get("title")?.as_array()?, columns.get("sentences")?.as_array()?);
        let pairs = titles.iter().zip(sentences);
        return pairs.map(|(title, sentences)| paragraph(title.as_str()?, sentences, false)).collect();
    }
    context.as_array()?.iter().map(one_paragraph).collect()
}

fn one_paragraph(item: &Value) -> Option<Paragraph> {
    match item {
        Value::Array(pair) => match pair.as_slice() {
            [title, sentences] => paragraph(title.as_str()?, sentences, false),
            _ => None,
        },
        Value::Object(fields) => {
            let text = ["sentences", "paragraph_text", "text"].iter().find_map(|name| fields.get(*name))?;
            paragraph(fields.get("title")?.as_str()?, text, fields.get("is_supporting").and_then(Value::as_bool).unwrap_or(false))
        }
        _ => None,
    }
}

fn paragraph(title: &str, sentences: &Value, supporting: bool) -> Option<Paragraph> {
    let text = match sentences {
        Value::String(text) => text.trim().to_owned(),
        Value::Array(sentences) => {
            let sentences: Option<Vec<&str>> = sentences.iter().map(|sentence| sentence.as_str().map(str::trim)).collect();
            sentences?.join(" ").trim().to_owned()
        }
        _ => return None,
    };
    Some(Paragraph { title: title.to_owned(), text, supporting })
}

/// Titles that the facts name: pairs of title and sentence, columns of them, or the steps of a decomposition.
fn supporting_titles(row: &mut Row<'_>) -> Vec<String> {
    let mut titles = Vec::new();
    let mut add = |title: Option<&str>| {
        let title = title.filter(|title| !title.is_empty());
        titles.extend(
            title.filter(|title| !titles.iter().any(|known: &String| known == title)).map(str::to_owned).into_iter().collect::<Vec<_>>(),
        );
    };
    match structured(row.take("supporting_facts")) {
        Some(Value::Array(facts)) => facts.iter().for_each(|fact| add(fact.get(0).or_else(|| fact.get("title")).and_then(Value::as_str))),
        Some(Value::Object(columns)) => {
            let names = columns.get("title").and_then(Value::as_array);
            names.into_iter().flatten().for_each(|title| add(title.as_str()));
        }
        _ => {}
    }
    if let Some(Value::Array(steps)) = structured(row.take("question_decomposition")) {
        steps.iter().for_each(|step| add(step.get("paragraph_support_title").and_then(Value::as_str)));
    }
    titles
}
