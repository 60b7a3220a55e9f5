//! One row, taken apart field by field; whatever is wrong with it is noted and reading goes on.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::{Place, Problems};
use crate::diagnostic::nearest;

/// The fields of one row and where it stands.
pub(super) struct Row<'a> {
    pub(super) place: Place,
    /// Number of the row in its file, from 1.
    pub(super) number: usize,
    pub(super) problems: &'a mut Problems,
    fields: Map<String, Value>,
}

/// What the parser says, without its own line and column.
pub(super) fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

impl<'a> Row<'a> {
    pub(super) fn new(fields: Map<String, Value>, place: Place, number: usize, problems: &'a mut Problems) -> Self {
        Self { place, number, problems, fields }
    }

    /// Whether the field is there and not null.
    pub(super) fn has(&self, field: &str) -> bool {
        self.fields.get(field).is_some_and(|value| !value.is_null())
    }

    /// A field as it is.
    pub(super) fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    /// All fields, taken out.
    pub(super) fn fields(&mut self) -> Map<String, Value> {
        std::mem::take(&mut self.fields)
    }

    /// Takes a field out as it is.
    pub(super) fn take(&mut self, field: &str) -> Option<Value> {
        self.fields.remove(field).filter(|value| !value.is_null())
    }

    /// The first of `names` that is there; if none is, the first.
    pub(super) fn first_of<'n>(&self, names: &[&'n str]) -> &'n str {
        names.iter().find(|name| self.has(name)).unwrap_or(&names[0])
    }

    /// The string of `field`, or a name made of the file's and the row's number.
    pub(super) fn id_or_number(&mut self, field: &str) -> Option<String> {
        if self.has(field) {
            return self.required(field);
        }
        let stem = std::path::Path::new(&*self.place.file).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        Some(format!("{}:{}", stem.unwrap_or_default(), self.number))
    }

    /// An element of a larger JSON document; anything but an object is a problem.
    pub(super) fn element(value: Value, place: Place, problems: &'a mut Problems) -> Option<Self> {
        if let Value::Object(fields) = value {
            return Some(Self::new(fields, place, 0, problems));
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
        self.missing_of(field, &format!("add `{field}`"));
        None
    }

    /// Says that a field is not there, and which one may have been meant; otherwise the mend.
    pub(super) fn missing_of(&mut self, field: &str, mend: &str) {
        let near = nearest(field, self.fields.keys().map(String::as_str)).map(str::to_owned);
        // The misspelt field is not to be told of a second time, as unknown.
        near.iter().for_each(|near| drop(self.fields.remove(near)));
        let mend = near.map_or_else(|| mend.to_owned(), |near| format!("did you mean the field `{near}`?"));
        self.problem(format!("has no `{field}`"), mend);
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

    /// A number from 0 on if the field is there; as text from a table of text.
    pub(super) fn quantity(&mut self, field: &str) -> Option<f64> {
        let text = self.optional(field)?;
        let value = text.trim().parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0);
        value.or_else(|| self.wrong_type(field, "a number from 0 on"))
    }

    /// A whole number if the field is there.
    pub(super) fn count(&mut self, field: &str) -> Option<u32> {
        let text = self.optional(field)?;
        text.trim().parse().ok().or_else(|| self.wrong_type(field, "a whole number"))
    }

    /// Fields left over are none of the reader's, unless they look like one of these.
    pub(super) fn refuse_misspelt(&mut self, known: &[&str]) {
        for field in std::mem::take(&mut self.fields).keys() {
            let near = nearest(field, known.iter().copied()).filter(|near| strsim::damerau_levenshtein(near, field) <= 2);
            if let Some(near) = near {
                self.problem(format!("has a field `{field}`"), format!("did you mean `{near}`?"));
            }
        }
    }

    /// A truth value if the field is there.
    pub(super) fn flag(&mut self, field: &str) -> Option<bool> {
        match self.fields.remove(field) {
            None | Some(Value::Null) => None,
            Some(Value::Bool(value)) => Some(value),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Some(true),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Some(false),
            Some(_) => self.wrong_type(field, "`true` or `false`"),
        }
    }

    /// A string, or a list of strings or of objects with a `text` or `answer`; absent gives an empty list. Blank ones and repeats are left out.
    pub(super) fn texts(&mut self, field: &str) -> Vec<String> {
        let items = match self.fields.remove(field) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(items)) => items,
            Some(Value::Object(mut columns)) if columns.get("text").is_some_and(Value::is_array) => match columns.remove("text") {
                // As tables store SQuAD's answers: an object of lists.
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            },
            Some(single) => vec![single],
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            let item = item.get("text").or_else(|| item.get("answer")).unwrap_or(&item);
            match scalar(item) {
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
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
