//! From the user's text to a [`RunSpec`]: laid over the defaults, every unknown key and every ill-typed value named at once.

use std::fmt;
use std::str::FromStr;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::{DEFAULT_SPEC, RunSpec};
use crate::diagnostic::{Hint, nearest, plural};

/// One `--set key=value`.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// Dotted path, such as `finetune.rank`.
    pub key: String,
    /// As TOML; a bare word is a string.
    pub value: Value,
}

impl FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not of the form key=value"))?;
        let (key, value) = (key.trim(), value.trim());
        let parsed = format!("v = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("v"));
        Ok(Self { key: key.to_owned(), value: parsed.unwrap_or_else(|| Value::String(value.to_owned())) })
    }
}

/// One thing wrong with a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecProblem {
    /// Dotted path of the key.
    pub key: String,
    /// Line in the spec file; `None` for `--set` and for defaults.
    pub line: Option<usize>,
    /// What is wrong, and what is expected.
    pub message: String,
}

impl fmt::Display for SpecProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        write!(f, "`{}` {}", self.key, self.message)
    }
}

/// Why a spec cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file is not there or not readable.
    #[error("cannot read spec `{path}`")]
    Unreadable {
        /// As given.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML.
    #[error("spec is not valid TOML\n{0}")]
    Syntax(String),
    /// Keys or values that mean nothing.
    #[error("{}", list(.0))]
    Problems(Vec<SpecProblem>),
}

fn list(problems: &[SpecProblem]) -> String {
    let lines: Vec<String> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
    format!("the spec has {}{}", plural(problems.len(), "problem"), lines.concat())
}

impl Hint for SpecError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Unreadable { .. } => Some("`ragft init DIR` writes a commented spec to start from".into()),
            Self::Syntax(_) => None,
            Self::Problems(_) => Some("`ragft init --print` shows every key with its default".into()),
        }
    }
}

/// Lays `text` and then `overrides` over the defaults.
///
/// # Errors
/// [`SpecError::Problems`] with every unknown key (and the nearest valid one) and every value of the wrong type.
pub fn read(text: &str, overrides: &[Override]) -> Result<RunSpec, SpecError> {
    read_over(DEFAULT_SPEC, text, overrides)
}

/// The same for any settings whose defaults are a TOML text with every key.
pub fn read_over<T: DeserializeOwned>(defaults: &str, text: &str, overrides: &[Override]) -> Result<T, SpecError> {
    let user: Table = text.parse().map_err(|error: toml::de::Error| SpecError::Syntax(error.to_string()))?;
    let defaults: Table = defaults.parse().expect("defaults parse");
    let mut leaves = Vec::new();
    let mut problems = Vec::new();
    collect(&user, &defaults, &mut Vec::new(), &mut leaves, &mut problems);
    for problem in &mut problems {
        problem.line = line_of(text, &problem.key);
    }
    let from_file = leaves.len();
    for entry in overrides {
        leaves.push((parts(&defaults, &entry.key), entry.value.clone()));
        if let Err(message) = known(&defaults, &entry.key) {
            problems.push(SpecProblem { key: entry.key.clone(), line: None, message });
            leaves.pop();
        }
    }
    let mut merged = defaults.clone();
    for (index, (path, value)) in leaves.iter().enumerate() {
        let mut alone = defaults.clone();
        put(&mut alone, path, value.clone());
        if let Err(error) = Value::Table(alone).try_into::<T>() {
            let key = path.join(".");
            let line = if index < from_file { line_of(text, &key) } else { None };
            let message = format!("is {value}: {}", error.message().trim_end());
            problems.push(SpecProblem { key, line, message });
        }
        put(&mut merged, path, value.clone());
    }
    if !problems.is_empty() {
        return Err(SpecError::Problems(problems));
    }
    Value::Table(merged).try_into().map_err(|error: toml::de::Error| SpecError::Syntax(error.to_string()))
}

/// The JSON schema of a spec.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(RunSpec).to_value()
}

/// Walks the user's table beside the defaults: leaves to set, and unknown keys.
fn collect(
    user: &Table,
    defaults: &Table,
    path: &mut Vec<String>,
    leaves: &mut Vec<(Vec<String>, Value)>,
    problems: &mut Vec<SpecProblem>,
) {
    for (key, value) in user {
        path.push(key.clone());
        match (value, defaults.get(key)) {
            (_, None) => {
                problems.push(SpecProblem { key: path.join("."), line: None, message: unknown(key, defaults) });
            }
            (Value::Table(inner), Some(Value::Table(expected))) if !is_free(expected) => collect(inner, expected, path, leaves, problems),
            (Value::Table(inner), Some(Value::Table(_))) => {
                leaves.extend(inner.iter().map(|(name, value)| ([path.as_slice(), std::slice::from_ref(name)].concat(), value.clone())));
            }
            _ => leaves.push((path.clone(), value.clone())),
        }
        path.pop();
    }
}

/// A section whose keys are the user's own has none by default.
fn is_free(section: &Table) -> bool {
    section.is_empty()
}

/// The parts of a dotted key; names of the user's own may hold dots.
fn parts(defaults: &Table, dotted: &str) -> Vec<String> {
    match dotted.split_once('.') {
        Some((section, name)) if defaults.get(section).and_then(Value::as_table).is_some_and(is_free) => {
            vec![section.to_owned(), name.to_owned()]
        }
        _ => dotted.split('.').map(str::to_owned).collect(),
    }
}

fn unknown(key: &str, defaults: &Table) -> String {
    match nearest(key, defaults.keys().map(String::as_str)) {
        Some(near) => format!("is not a setting; did you mean `{near}`?"),
        None => format!("is not a setting; valid here: {}", defaults.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")),
    }
}

fn known(defaults: &Table, dotted: &str) -> Result<(), String> {
    let mut table = defaults;
    let parts = parts(defaults, dotted);
    let mut parts = parts.iter().map(String::as_str).peekable();
    while let Some(part) = parts.next() {
        match table.get(part) {
            Some(Value::Table(inner)) if is_free(inner) && parts.peek().is_some() => return Ok(()),
            None => return Err(unknown(part, table)),
            Some(Value::Table(inner)) if parts.peek().is_some() => table = inner,
            Some(Value::Table(_)) => return Err("is a section, not a setting".into()),
            Some(_) if parts.peek().is_some() => return Err(format!("does not exist: `{part}` is a setting, not a section")),
            Some(_) => return Ok(()),
        }
    }
    Err("is empty".into())
}

/// A spec that an earlier version recorded as JSON, with the defaults of the keys that it did not know yet.
pub fn with_defaults(recorded: serde_json::Value) -> serde_json::Value {
    let defaults: Table = DEFAULT_SPEC.parse().expect("defaults parse");
    let mut whole = serde_json::to_value(defaults).expect("TOML is plain data");
    lay_over(&mut whole, recorded);
    whole
}

fn lay_over(under: &mut serde_json::Value, over: serde_json::Value) {
    match (under, over) {
        (serde_json::Value::Object(under), serde_json::Value::Object(over)) => {
            for (key, value) in over {
                lay_over(under.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

fn put(table: &mut Table, path: &[String], value: Value) {
    let (last, sections) = path.split_last().expect("a path has a key");
    let mut table = table;
    for section in sections {
        table = table.get_mut(section).and_then(Value::as_table_mut).expect("sections were checked against the defaults");
    }
    // `alpha = 32` means 32.0.
    let value = match (table.get(last), value) {
        (Some(Value::Float(_)), Value::Integer(whole)) => Value::Float(whole as f64),
        (_, value) => value,
    };
    table.insert(last.clone(), value);
}

/// Line (from 1) on which the dotted key stands in the text.
fn line_of(text: &str, dotted: &str) -> Option<usize> {
    let (section, key) = dotted.rsplit_once('.').unwrap_or(("", dotted));
    let mut current = String::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            header.0.trim().clone_into(&mut current);
            if current == dotted {
                return Some(index + 1);
            }
        }
        let name = line.split('=').next().unwrap_or_default().trim();
        if line.contains('=') && (current == section && name == key || current.is_empty() && name == dotted) {
            return Some(index + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str, overrides: &[&str]) -> Vec<String> {
        let overrides: Vec<Override> = overrides.iter().map(|text| text.parse().unwrap()).collect();
        match read(text, &overrides) {
            Err(SpecError::Problems(problems)) => problems.iter().map(ToString::to_string).collect(),
            other => panic!("expected problems, got {other:?}"),
        }
    }

    #[test]
    fn an_empty_spec_is_the_default_spec() {
        let spec = read("", &[]).unwrap();
        assert_eq!(spec.finetune.rank, 16);
        assert_eq!(spec, read(DEFAULT_SPEC, &[]).unwrap());
    }

    #[test]
    fn a_spec_recorded_before_a_setting_is_read_with_its_default() {
        let mut recorded = serde_json::to_value(read("[finetune]\nrank = 3\n", &[]).unwrap()).unwrap();
        recorded["cost"].as_object_mut().unwrap().remove("usage");
        recorded["prompt"].as_object_mut().unwrap().remove("chat");
        let spec: RunSpec = serde_json::from_value(with_defaults(recorded)).unwrap();
        assert_eq!(spec, read("[finetune]\nrank = 3\n", &[]).unwrap());
    }

    #[test]
    fn every_unknown_key_is_named_with_line_and_nearest() {
        assert_eq!(
            problems("name = \"x\"\n[finetune]\nrnak = 8\n[retrival]\ntop_k = 2\n", &["finetune.epoch=1"]),
            [
                "line 3: `finetune.rnak` is not a setting; did you mean `rank`?",
                "line 4: `retrival` is not a setting; did you mean `retrieval`?",
                "`finetune.epoch` is not a setting; did you mean `epochs`?",
            ]
        );
    }

    #[test]
    fn ill_typed_values_are_named_with_their_line() {
        let found = problems("[finetune]\nmethod = \"lorra\"\nrank = \"big\"\n", &[]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("line 2: `finetune.method` is \"lorra\": unknown variant `lorra`"), "{found:?}");
        assert!(found[1].starts_with("line 3: `finetune.rank` is \"big\": invalid type"), "{found:?}");
    }

    #[test]
    fn a_section_of_the_users_own_names_takes_any() {
        let overrides = ["predictions.vllm-0.9=other.jsonl"].map(|text| text.parse().unwrap());
        let spec = read("[predictions]\nmine = \"answers.jsonl\"\n", &overrides).unwrap();
        let names: Vec<&str> = spec.predictions.keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["mine", "vllm-0.9"]);
        assert_eq!(problems("[predictions]\nrag = \"a.jsonl\"\nok = 3\n", &[]).len(), 2, "a name that is taken, and a path that is none");
    }

    #[test]
    fn overrides_win_and_bare_words_are_strings() {
        let overrides = ["finetune.rank=4", "finetune.alpha=8", "name=quick", "seeds=[1,2]"].map(|text| text.parse().unwrap());
        let spec = read("[finetune]\nrank = 8\n", &overrides).unwrap();
        assert_eq!((spec.finetune.rank, spec.finetune.alpha, spec.name.as_str()), (4, 8.0, "quick"));
        assert_eq!(spec.seeds, [1, 2]);
    }
}
