//! The native folder: `dataset.toml` (optional), `documents.jsonl`, `test.jsonl` and, where there are labels, `train.jsonl` and `validation.jsonl`.

use super::check::{Raw, RawSample};
use super::error::{At, DatasetError, Place, Problems};
use super::files::Files;
use super::row::Row;
use super::rows::for_each_row;
use super::{DatasetInfo, Document, Sample, Split};

pub(super) const INFO: &str = "dataset.toml";
pub(super) const DOCUMENTS: &str = "documents.jsonl";
const DOCUMENT_FIELDS: [&str; 4] = ["id", "title", "text", "date"];
const SAMPLE_FIELDS: [&str; 8] = ["id", "question", "references", "relevant", "choices", "slices", "answerable", "cluster"];

pub(super) fn file_of(split: Split) -> &'static str {
    match split {
        Split::Train => "train.jsonl",
        Split::Validation => "validation.jsonl",
        Split::Test => "test.jsonl",
    }
}

pub(super) fn read(files: &Files, problems: &mut Problems) -> Result<Raw, DatasetError> {
    let mut raw = Raw { info: read_info(files, problems)?, ..Raw::default() };
    if files.has(DOCUMENTS) {
        for_each_row(files, DOCUMENTS, problems, |row| raw.documents.extend(read_document(row)))?;
    } else if !raw.info.closed_book {
        problems.add(
            &Place::file(DOCUMENTS),
            "is missing",
            "add it with one `{\"id\": .., \"text\": ..}` per line, or say `closed_book = true` in `dataset.toml`",
        );
    }
    for split in [Split::Train, Split::Validation, Split::Test] {
        if files.has(file_of(split)) {
            for_each_row(files, file_of(split), problems, |row| raw.samples.extend(read_sample(row, split)))?;
        }
    }
    Ok(raw)
}

fn read_info(files: &Files, problems: &mut Problems) -> Result<DatasetInfo, DatasetError> {
    let unnamed = DatasetInfo { name: files.short_name(), ..DatasetInfo::default() };
    if !files.has(INFO) {
        return Ok(unnamed);
    }
    let Some(text) = files.text(INFO, problems)? else { return Ok(unnamed) };
    Ok(toml::from_str(&text).unwrap_or_else(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        let place = Place { file: INFO.into(), at: At::Line(line) };
        problems.add(
            &place,
            format!("is wrong: {}", error.message().replace('\n', " ")),
            "see `name`, `version`, `licence`, `source`, `slices`",
        );
        unnamed
    }))
}

fn read_document(row: &mut Row<'_>) -> Option<(Document, Place)> {
    let (id, text) = (row.required("id"), row.required("text"));
    let (title, date) = (row.optional("title").unwrap_or_default(), row.optional("date"));
    row.refuse_rest(&DOCUMENT_FIELDS);
    Some((Document { id: id?, title, text: text?, date }, row.place.clone()))
}

fn read_sample(row: &mut Row<'_>, split: Split) -> Option<RawSample> {
    let (id, question) = (row.required("id"), row.required("question"));
    let (references, relevant) = (row.texts("references"), row.texts("relevant"));
    let (choices, slices, cluster) = (row.texts("choices"), row.table("slices"), row.optional("cluster"));
    let answerable = row.flag("answerable").unwrap_or(true);
    row.refuse_rest(&SAMPLE_FIELDS);
    let sample = Sample { id: id?, question: question?, references, relevant, choices, slices, answerable, cluster };
    Some(RawSample { sample, place: row.place.clone(), split: Some(split), group: None })
}
