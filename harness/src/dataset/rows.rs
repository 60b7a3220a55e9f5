//! Files of rows, whatever their form: JSON lines, a JSON list, CSV, TSV, Parquet, Arrow. Readers above see rows only.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::columnar::{self, Columnar};
use super::error::{At, DatasetError, Place, Problems};
use super::files::Files;
use super::row::{Row, reason};

/// What a file of rows looks like, by its extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowFile {
    Lines,
    List,
    Separated(u8),
    Columns(Columnar),
}

impl RowFile {
    pub(super) fn of(name: &str) -> Option<Self> {
        let extension = Path::new(name).extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "jsonl" | "ndjson" => Some(Self::Lines),
            "json" => Some(Self::List),
            "csv" => Some(Self::Separated(b',')),
            "tsv" | "tab" => Some(Self::Separated(b'\t')),
            "parquet" => Some(Self::Columns(Columnar::Parquet)),
            "arrow" | "feather" | "ipc" => Some(Self::Columns(Columnar::Ipc)),
            _ => None,
        }
    }
}

/// Calls `each` for every row of the file; what is no row is a problem, and reading goes on.
pub(super) fn for_each_row(
    files: &Files,
    name: &str,
    problems: &mut Problems,
    mut each: impl FnMut(&mut Row<'_>),
) -> Result<(), DatasetError> {
    visit(files, name, usize::MAX, problems, &mut each)
}

/// The fields of the first row, if there is a sound one: what a format is told by.
pub(super) fn first_row(files: &Files, name: &str) -> Result<Option<Map<String, Value>>, DatasetError> {
    let mut first = None;
    visit(files, name, 1, &mut Problems::default(), &mut |row| first = first.take().or_else(|| Some(row.fields())))?;
    Ok(first)
}

type Each<'a> = dyn FnMut(&mut Row<'_>) + 'a;

fn visit(files: &Files, name: &str, limit: usize, problems: &mut Problems, each: &mut Each<'_>) -> Result<(), DatasetError> {
    if let Some(RowFile::Columns(kind)) = RowFile::of(name) {
        return columns(files, name, kind, limit, problems, each);
    }
    let Some(text) = files.text(name, problems)? else { return Ok(()) };
    let file = Place::file(name).file;
    match RowFile::of(name) {
        Some(RowFile::List) => list(&text, &file, limit, problems, each),
        Some(RowFile::Separated(delimiter)) => separated(&text, delimiter, &file, limit, problems, each),
        _ => lines(&text, &file, limit, problems, each),
    }
    Ok(())
}

/// One object per line. A line ends at `\n` only: texts may hold other separators.
fn lines(text: &str, file: &Arc<str>, limit: usize, problems: &mut Problems, each: &mut Each<'_>) {
    let written = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    for (index, line) in written.take(limit) {
        let place = Place { file: file.clone(), at: At::Line(index + 1) };
        match serde_json::from_str(line) {
            Ok(Value::Object(fields)) => each(&mut Row::new(fields, place, index + 1, problems)),
            Ok(_) => problems.add(&place, "is not a JSON object", "write one `{..}` per line"),
            Err(error) => {
                let place = Place { file: file.clone(), at: At::Column(index + 1, error.column()) };
                problems.add(&place, format!("is not valid JSON ({})", reason(&error)), "write one complete object per line");
            }
        }
    }
}

/// One JSON list of objects, perhaps below a key `data`.
fn list(text: &str, file: &Arc<str>, limit: usize, problems: &mut Problems, each: &mut Each<'_>) {
    let value = match serde_json::from_str::<Value>(text) {
        Ok(value) => value,
        Err(error) => {
            let place = Place { file: file.clone(), at: At::Column(error.line(), error.column()) };
            return problems.add(&place, format!("is not valid JSON ({})", reason(&error)), "mend the file at that point");
        }
    };
    let (items, below) = match value {
        Value::Array(items) => (items, ""),
        Value::Object(mut fields) => match fields.remove("data") {
            Some(Value::Array(items)) => (items, "data"),
            _ => return problems.add(&Place::file(file), "is not a list of objects", "write `[{..}, {..}]`"),
        },
        _ => return problems.add(&Place::file(file), "is not a list of objects", "write `[{..}, {..}]`"),
    };
    for (index, item) in items.into_iter().enumerate().take(limit) {
        let place = Place { file: file.clone(), at: At::Element(format!("{below}[{index}]")) };
        match item {
            Value::Object(fields) => each(&mut Row::new(fields, place, index + 1, problems)),
            _ => problems.add(&place, "is not a JSON object", "write an object here"),
        }
    }
}

/// A header and rows with as many cells. A cell that is a JSON list or object is taken as one; an empty cell is an absent field.
fn separated(text: &str, delimiter: u8, file: &Arc<str>, limit: usize, problems: &mut Problems, each: &mut Each<'_>) {
    let first_line = text.lines().next().unwrap_or_default();
    // As spreadsheets write it where the comma is the decimal sign.
    let delimiter = if delimiter == b',' && !first_line.contains(',') && first_line.contains(';') { b';' } else { delimiter };
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).has_headers(true).from_reader(text.as_bytes());
    let header_place = Place { file: file.clone(), at: At::Line(1) };
    let names: Vec<String> = match reader.headers() {
        Ok(names) => names.iter().map(|name| name.trim().to_owned()).collect(),
        Err(error) => return problems.add(&header_place, format!("has no header ({error})"), "begin the file with the columns' names"),
    };
    if names.iter().all(String::is_empty) {
        return problems.add(&header_place, "has no header", "begin the file with the columns' names");
    }
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            problems.add(&header_place, format!("names the column `{name}` twice"), "give every column its own name");
        }
    }
    let mut record = csv::StringRecord::new();
    let mut number = 0;
    while number < limit {
        match reader.read_record(&mut record) {
            Ok(true) => number += 1,
            Ok(false) => break,
            Err(error) => {
                return problems.add(&Place::file(file), format!("is not a table of text ({error})"), "mend the file at that point");
            }
        }
        let line = record.position().map_or(0, |position| position.line() as usize);
        let place = Place { file: file.clone(), at: At::Line(line) };
        if record.len() != names.len() {
            let what = format!("has {} cells, the header has {}", record.len(), names.len());
            problems.add(&place, what, "quote cells that hold separators or line breaks, and close every quote");
            continue;
        }
        let fields = names.iter().zip(&record).filter_map(|(name, cell)| Some((name.clone(), cell_value(cell)?))).collect();
        each(&mut Row::new(fields, place, number, problems));
    }
}

fn cell_value(cell: &str) -> Option<Value> {
    let trimmed = cell.trim();
    if trimmed.is_empty() {
        return None;
    }
    let structured = trimmed.starts_with(['[', '{']).then(|| serde_json::from_str(trimmed).ok()).flatten();
    Some(structured.unwrap_or_else(|| Value::String(cell.to_owned())))
}

fn columns(
    files: &Files,
    name: &str,
    kind: Columnar,
    limit: usize,
    problems: &mut Problems,
    each: &mut Each<'_>,
) -> Result<(), DatasetError> {
    let bytes = files.bytes(name)?;
    let file = Place::file(name).file;
    let mut number = 0;
    let outcome = columnar::for_each_row(kind, bytes.into_owned(), limit, &mut |fields| {
        number += 1;
        let place = Place { file: file.clone(), at: At::Row(number) };
        each(&mut Row::new(fields, place, number, problems));
    });
    if let Err(reason) = outcome {
        let place = if number == 0 { Place::file(name) } else { Place { file, at: At::Row(number + 1) } };
        let what = format!("cannot be read as {} ({reason})", kind.name());
        problems.add(&place, what, format!("write the file again, as {}", kind.advice()));
    }
    Ok(())
}
