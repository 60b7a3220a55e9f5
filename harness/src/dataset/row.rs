//! One JSON object, taken apart field by field; whatever is wrong with it is noted and reading goes on.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::{At, DatasetError, Place, Problems};
use super::files::Files;
use crate::diagnostic::nearest;

/// A JSON object and where it stands.
pub(super) struct Row<'a> {
    pub(super) place: Place,
    pub(super) problems: &'a mut Problems,
    fields: Map<String, Value>,
}

/// Calls `each` for every non-blank line of a JSONL file that holds an object.
pub(super) fn for_each_row(
    files: &Files,
    name: &str,
    problems: &mut Problems,
    mut each: impl FnMut(&mut Row<'_>),
) -> Result<(), DatasetError> {
    let Some(text) = files.text(name, problems)? else { return Ok(()) };
    let file = Place::file(name).file;
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let place = Place { file: file.clone(), at: At::Line(index + 1) };
        match serde_json::from_str(line) {
            Ok(Value::Object(fields)) => each(&mut Row { place, problems, fields }),
            Ok(_) => problems.add(&place, "is not a JSON object", "write one `{..}` per line"),
            Err(error) => {
                let place = Place { file: file.clone(), at: At::Column(index + 1, error.column()) };
                problems.add(&place, format!("is not valid JSON ({})", reason(&error)), "write one complete object per line");
            }
        }
    }
    Ok(())
}

/// What the parser says, without its own line and column.
pub(super) fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

impl<'a> Row<'a> {
    /// An element of a larger JSON document; anything but an object is a problem.
    pub(super) fn element(value: Value, place: Place, problems: &'a mut Problems) -> Option<Self> {
        if let Value::Object(fields) = value {
            return Some(Self { place, problems, fields });
        }
        problems.add(&place, "is not a JSON object", "write an object here");
        None
    }

    pub(super) fn problem(&mut self, what: impl Into<String>, mend: impl Into<String>) {
        self.problems.add(&self.place, what, mend);
    }

    /// A non-blank string (or a number, as text).
    pub(super) fn required(&mut self, field: &str) -> Option<String> {
        match self.fields.remove(field) {
            None | Some(Value::Null) => self.missing(field),
            Some(value) => match scalar(&value) {
                Some(text) if text.trim().is_empty() => {
                    self.problem(format!("has an empty `{field}`"), "fill it in or drop the row");
                    None
                }
                Some(text) => Some(text),
                None => self.wrong_type(field, "a string"),
            },
        }
    }

    fn missing(&mut self, field: &str) -> Option<String> {
        let near = nearest(field, self.fields.keys().map(String::as_str)).map(str::to_owned);
        // The misspelt field is not to be told of a second time, as unknown.
        near.iter().for_each(|near| drop(self.fields.remove(near)));
        let mend = near.map_or_else(|| format!("add `{field}`"), |near| format!("did you mean the field `{near}`?"));
        self.problem(format!("has no `{field}`"), mend);
        None
    }

    fn wrong_type<T>(&mut self, field: &str, expected: &str) -> Option<T> {
        self.problem(format!("has a `{field}` that is not {expected}"), format!("write {expected}"));
        None
    }

    /// A string if the field is there.
    pub(super) fn optional(&mut self, field: &str) -> Option<String> {
        match self.fields.remove(field) {
            None | Some(Value::Null) => None,
            Some(value) => scalar(&value).or_else(|| self.wrong_type(field, "a string")),
        }
    }

    /// A truth value if the field is there.
    pub(super) fn flag(&mut self, field: &str) -> Option<bool> {
        match self.fields.remove(field) {
            None | Some(Value::Null) => None,
            Some(Value::Bool(value)) => Some(value),
            Some(_) => self.wrong_type(field, "`true` or `false`"),
        }
    }

    /// A string, or a list of strings or of objects with a `text`; absent gives an empty list. Blank ones and repeats are left out.
    pub(super) fn texts(&mut self, field: &str) -> Vec<String> {
        let items = match self.fields.remove(field) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(items)) => items,
            Some(single) => vec![single],
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match scalar(item.get("text").unwrap_or(&item)) {
                Some(text) if text.trim().is_empty() || texts.contains(&text) => {}
                Some(text) => texts.push(text),
                None => return self.wrong_type(field, "a string or a list of strings").unwrap_or_default(),
            }
        }
        texts
    }

    /// An object of strings.
    pub(super) fn table(&mut self, field: &str) -> BTreeMap<String, String> {
        match self.fields.remove(field) {
            None | Some(Value::Null) => BTreeMap::new(),
            Some(Value::Object(fields)) => {
                let table: BTreeMap<_, _> = fields.iter().filter_map(|(key, value)| Some((key.clone(), scalar(value)?))).collect();
                if table.len() < fields.len() {
                    self.problem(format!("has a `{field}` with a value that is not a string"), "write strings");
                }
                table
            }
            Some(_) => self.wrong_type(field, "an object of strings").unwrap_or_default(),
        }
    }

    /// A list; absent or of another type is a problem.
    pub(super) fn list(&mut self, field: &str) -> Vec<Value> {
        match self.fields.remove(field) {
            Some(Value::Array(items)) => items,
            None => self.missing(field).map(|_| Vec::new()).unwrap_or_default(),
            Some(_) => self.wrong_type(field, "a list").unwrap_or_default(),
        }
    }

    /// Whatever has not been asked for is unknown.
    pub(super) fn refuse_rest(&mut self, known: &[&str]) {
        for field in std::mem::take(&mut self.fields).keys() {
            let near = nearest(field, known.iter().copied());
            let mend = near.map_or_else(|| format!("known fields are `{}`", known.join("`, `")), |near| format!("did you mean `{near}`?"));
            self.problem(format!("has an unknown field `{field}`"), mend);
        }
    }
}

/// A string, or a number or truth value as text.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
