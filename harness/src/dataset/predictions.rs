//! Answers of another system: a file of rows with `id` and `answer`, or one JSON object from ids to answers (SQuAD's form).
//!
//! Beside the answer a row may have `latency_ms`, `ttft_ms`, `prompt_tokens`, `completion_tokens`, `retrieved` (ids of documents, best
//! first), or an `error` instead of an answer. Other fields are ignored, unless they look like one of these misspelt.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::error::{At, DatasetError, Place, Problems};
use super::files::Files;
use super::row::{Row, scalar};
use super::rows::{RowFile, for_each_row};

const FIELDS: [&str; 8] = ["id", "answer", "latency_ms", "ttft_ms", "prompt_tokens", "completion_tokens", "retrieved", "error"];
const MEND: &str = "write the answer as text, `\"\"` where the system said nothing, or `error` where it failed";

/// One answer as given.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Prediction {
    /// The question's id.
    pub id: String,
    /// What was answered; empty where there is an error, or where nothing was said.
    pub answer: String,
    /// Why there is no answer.
    pub error: Option<String>,
    /// From question to last token.
    pub latency_ms: Option<f64>,
    /// From question to first token.
    pub ttft_ms: Option<f64>,
    /// Tokens of the prompt.
    pub prompt_tokens: Option<u32>,
    /// New tokens.
    pub completion_tokens: Option<u32>,
    /// Ids of documents, best first; nothing where the row does not say.
    pub retrieved: Option<Vec<String>>,
}

/// Reads a file of predictions.
///
/// # Errors
/// The file cannot be read, or all problems in it at once.
pub fn read_predictions(path: &Path) -> Result<Vec<Prediction>, DatasetError> {
    if !path.is_file() {
        return Err(DatasetError::NotFound { path: path.to_owned() });
    }
    let files = Files::single(path);
    let name = files.label().to_owned();
    let mut problems = Problems::default();
    let predictions = match by_id(&files, &name, &mut problems)? {
        Some(predictions) => predictions,
        None => rows(&files, &name, &mut problems)?,
    };
    if predictions.is_empty() && problems.0.is_empty() {
        problems.add(&Place::file(&name), "holds no answer", "write one `{\"id\": .., \"answer\": ..}` per line");
    }
    if problems.0.is_empty() { Ok(predictions) } else { Err(DatasetError::Invalid { dataset: name, problems: problems.sorted() }) }
}

/// `{"id": "answer", ..}`, if the file is one such object.
fn by_id(files: &Files, name: &str, problems: &mut Problems) -> Result<Option<Vec<Prediction>>, DatasetError> {
    if RowFile::of(name) != Some(RowFile::List) {
        return Ok(None);
    }
    let Some(text) = files.text(name, problems)? else { return Ok(Some(Vec::new())) };
    // What is no JSON is told by the reader of rows, with its place.
    let Ok(Value::Object(fields)) = serde_json::from_str(&text) else { return Ok(None) };
    if fields.get("data").is_some_and(Value::is_array) {
        return Ok(None);
    }
    let mut predictions = Vec::with_capacity(fields.len());
    for (id, value) in fields {
        if let Some(answer) = scalar(&value) {
            predictions.push(Prediction { id, answer, ..Prediction::default() });
        } else {
            let place = Place { file: name.into(), at: At::Element(format!("[{id:?}]")) };
            problems.add(&place, "is not an answer", MEND);
        }
    }
    Ok(Some(predictions))
}

fn rows(files: &Files, name: &str, problems: &mut Problems) -> Result<Vec<Prediction>, DatasetError> {
    let mut predictions: Vec<Prediction> = Vec::new();
    let mut seen = BTreeSet::new();
    for_each_row(files, name, problems, |row| {
        let Some(prediction) = prediction(row) else { return };
        if seen.insert(prediction.id.clone()) {
            predictions.push(prediction);
        } else {
            row.problem(format!("answers `{}` a second time", prediction.id), "keep one answer per question");
        }
    })?;
    Ok(predictions)
}

fn prediction(row: &mut Row<'_>) -> Option<Prediction> {
    let (id, error) = (row.required("id"), row.optional("error").filter(|error| !error.trim().is_empty()));
    let answer = match (row.take("answer").as_ref().map(scalar), &error) {
        (Some(Some(answer)), None) => answer,
        (None, Some(_)) => String::new(),
        (Some(Some(answer)), Some(_)) if answer.trim().is_empty() => String::new(),
        (Some(Some(_)), Some(_)) => {
            row.problem("has an `answer` and an `error`", "keep one of the two");
            String::new()
        }
        (Some(None), _) => {
            row.problem("has an `answer` that is not text", MEND);
            String::new()
        }
        (None, None) => {
            row.missing_of("answer", MEND);
            String::new()
        }
    };
    let prediction = Prediction {
        answer,
        error,
        latency_ms: row.quantity("latency_ms"),
        ttft_ms: row.quantity("ttft_ms"),
        prompt_tokens: row.count("prompt_tokens"),
        completion_tokens: row.count("completion_tokens"),
        retrieved: row.has("retrieved").then(|| row.texts("retrieved")),
        id: id?,
    };
    row.refuse_misspelt(&FIELDS);
    Some(prediction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Vec<Prediction>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        read_predictions(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn a_row_may_say_more_than_its_answer() {
        let text = "{\"id\": 1, \"answer\": \"Belm\", \"latency_ms\": 12.5, \"ttft_ms\": 3, \"completion_tokens\": 4, \"retrieved\": [\"d2\", \"d1\"], \"trace\": {}}\n\
                    {\"id\": \"b\", \"error\": \"timed out\"}\n{\"id\": \"c\", \"answer\": \"\"}\n";
        let found = read("p.jsonl", text).unwrap();
        assert_eq!((found[0].id.as_str(), found[0].latency_ms, found[0].completion_tokens), ("1", Some(12.5), Some(4)));
        assert_eq!(found[0].retrieved.as_deref().unwrap(), ["d2", "d1"]);
        assert_eq!((found[1].error.as_deref(), found[2].error.as_deref(), found[2].answer.as_str()), (Some("timed out"), None, ""));
        let table = read("p.csv", "id,answer,latency_ms\n1,Belm,12.5\n").unwrap();
        assert_eq!((table[0].answer.as_str(), table[0].latency_ms), ("Belm", Some(12.5)));
    }

    #[test]
    fn squads_form_reads_as_well() {
        let found = read("p.json", "{\"a\": \"Belm\", \"b\": \"\"}").unwrap();
        assert_eq!((found.len(), found[0].answer.as_str()), (2, "Belm"));
        assert!(read("p.json", "{\"a\": [\"Belm\"]}").unwrap_err().contains("[\"a\"] is not an answer; write the answer as text"));
        assert!(read("p.json", "{\"a\": ").unwrap_err().contains("is not valid JSON"));
    }

    #[test]
    fn everything_wrong_is_named_with_its_line() {
        let text = "{\"id\": \"a\", \"answr\": \"x\"}\n{\"answer\": \"x\"}\n{\"id\": \"a\", \"answer\": \"x\"}\n{\"id\": \"a\", \"answer\": \"y\"}\n\
                    {\"id\": \"d\", \"answer\": \"x\", \"latency_ms\": -1, \"completion_tokens\": 1.5, \"retreived\": []}\n{\"id\": \"e\", \"answer\": {}}\n{\"id\"\n";
        let error = read("p.jsonl", text).unwrap_err();
        for part in [
            "line 1 has no `answer`; did you mean the field `answr`?",
            "line 2 has no `id`",
            "line 4 answers `a` a second time",
            "line 5 has a `latency_ms` that is not a number from 0 on",
            "line 5 has a `completion_tokens` that is not a whole number",
            "line 5 has a field `retreived`; did you mean `retrieved`?",
            "line 6 has an `answer` that is not text",
            "line 7 column",
        ] {
            assert!(error.contains(part), "no `{part}` in {error}");
        }
        assert!(read("p.jsonl", "\n").unwrap_err().contains("holds no answer"));
    }
}
