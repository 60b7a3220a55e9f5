//! Training rows of chat models: `messages`, ShareGPT's `conversations`, `prompt` and `completion`, Alpaca's `instruction` and `output`.
//!
//! The last answer of the assistant is the reference; the turns before it are the question. One turn is taken as it is, several are
//! written one below the other with their speakers.

use serde_json::Value;

use super::row::Row;
use super::table::Reader;
use super::{Sample, Split};

struct Turn {
    role: String,
    text: String,
}

const MEND: &str = "write `\"messages\": [{\"role\": \"user\", \"content\": ..}, {\"role\": \"assistant\", \"content\": ..}]`";

pub(super) fn row(reader: &mut Reader<'_>, row: &mut Row<'_>, split: Option<Split>) {
    let id = row.first_of(&["id", "_id"]);
    let id = row.id_or_number(id);
    let Some(mut turns) = turns(row) else { return };
    let system = turns.len();
    turns.retain(|turn| turn.role != "system");
    if turns.len() < system {
        reader.tell("conversations begin with a system message, which is left out: the prompt template says what all variants are told");
    }
    let Some(last) = turns.iter().rposition(|turn| turn.role == "assistant") else {
        return row.problem("has no answer of the assistant", MEND);
    };
    if last == 0 {
        return row.problem("begins with the assistant", MEND);
    }
    if turns.len() > last + 1 {
        reader.tell("conversations go on after the last answer; what follows it is left out");
    }
    let question = if last == 1 {
        turns[0].text.clone()
    } else {
        let lines: Vec<String> = turns[..last].iter().map(|turn| format!("{}: {}", turn.role, turn.text)).collect();
        lines.join("\n")
    };
    let references = vec![turns[last].text.clone()];
    let relevant = row.texts("relevant");
    let Some(id) = id else { return };
    reader.push(Sample { id, question, references, relevant, ..Sample::default() }, row, split, None);
}

/// The turns in any of the forms, or a problem.
fn turns(row: &mut Row<'_>) -> Option<Vec<Turn>> {
    let field = row.first_of(&["messages", "conversations", "prompt", "instruction"]);
    match (field, row.take(field)) {
        ("messages" | "conversations", Some(Value::Array(items))) => conversation(&items, row),
        ("prompt", Some(prompt)) => {
            let completion = row.take("completion");
            let mut turns = side(prompt, "user", row)?;
            turns.append(&mut side(completion.unwrap_or_default(), "assistant", row)?);
            Some(turns)
        }
        ("instruction", Some(Value::String(instruction))) => {
            let input = row.optional("input").filter(|input| !input.trim().is_empty());
            let text = input.map_or_else(|| instruction.clone(), |input| format!("{instruction}\n{input}"));
            let answer = row.required("output")?;
            Some(vec![Turn { role: "user".into(), text }, Turn { role: "assistant".into(), text: answer }])
        }
        _ => {
            row.problem("has no `messages`", MEND);
            None
        }
    }
}

/// Prompt or completion: a text, or messages.
fn side(value: Value, role: &str, row: &mut Row<'_>) -> Option<Vec<Turn>> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(vec![Turn { role: role.to_owned(), text: text.trim().to_owned() }]),
        Value::Array(items) => conversation(&items, row),
        _ => {
            row.problem("has a `prompt` or `completion` that is no text", "write both as text or as messages");
            None
        }
    }
}

fn conversation(items: &[Value], row: &mut Row<'_>) -> Option<Vec<Turn>> {
    let turn = |item: &Value| {
        let role = item.get("role").or_else(|| item.get("from"))?.as_str()?;
        let text = content(item.get("content").or_else(|| item.get("value"))?)?;
        let role = match role {
            "human" => "user",
            "gpt" | "bot" | "model" => "assistant",
            "developer" => "system",
            other => other,
        };
        Some(Turn { role: role.to_owned(), text })
    };
    let turns: Option<Vec<Turn>> = items.iter().map(turn).collect();
    if turns.is_none() {
        row.problem("has a message without `role` or text `content`", MEND);
    }
    turns
}

/// A text, or a list of parts of which the texts count.
fn content(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Array(parts) => {
            let texts: Option<Vec<&str>> = parts.iter().map(|part| part.get("text").and_then(Value::as_str)).collect();
            Some(texts?.join("\n").trim().to_owned())
        }
        _ => None,
    }
}
