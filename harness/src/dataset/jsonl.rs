//! JSONL with a column map: one file of questions, with documents and (perhaps) training questions beside it.
//!
//! Fields that the map does not name are ignored, except `answerable`, `cluster` and a document's `date`, which mean what they mean in
//! the native folder.

use std::collections::BTreeMap;
use std::path::Path;

use super::check::{Raw, RawSample};
use super::error::{DatasetError, Place, Problems};
use super::files::Files;
use super::row::{Row, for_each_row};
use super::{DatasetInfo, Document, Sample, Split};
use crate::spec::{ColumnSpec, DatasetSpec};

pub(super) fn read(files: &Files, main: &str, base_dir: &Path, spec: &DatasetSpec, problems: &mut Problems) -> Result<Raw, DatasetError> {
    let mut files = files.clone();
    let mut raw = Raw { info: DatasetInfo { name: files.short_name(), ..DatasetInfo::default() }, ..Raw::default() };
    if spec.documents.as_os_str().is_empty() {
        problems.add(&Place::file(main), "comes without documents", "name a JSONL file in `dataset.documents`");
    } else {
        let name = files.beside(&base_dir.join(&spec.documents));
        for_each_row(&files, &name, problems, |row| raw.documents.extend(read_document(row, &spec.columns)))?;
    }
    let mut test = None;
    if !spec.train.as_os_str().is_empty() {
        let name = files.beside(&base_dir.join(&spec.train));
        for_each_row(&files, &name, problems, |row| raw.samples.extend(read_sample(row, &spec.columns, Some(Split::Train))))?;
        test = Some(Split::Test);
    }
    for_each_row(&files, main, problems, |row| raw.samples.extend(read_sample(row, &spec.columns, test)))?;
    Ok(raw)
}

fn read_document(row: &mut Row<'_>, columns: &ColumnSpec) -> Option<(Document, Place)> {
    let (id, text) = (row.required(&columns.document_id), row.required(&columns.text));
    let (title, date) = (row.optional(&columns.title).unwrap_or_default(), row.optional("date"));
    Some((Document { id: id?, title, text: text?, date }, row.place.clone()))
}

fn read_sample(row: &mut Row<'_>, columns: &ColumnSpec, split: Option<Split>) -> Option<RawSample> {
    let (id, question) = (row.required(&columns.id), row.required(&columns.question));
    let (references, relevant) = (row.texts(&columns.references), row.texts(&columns.relevant));
    let slices: BTreeMap<_, _> = columns.slices.iter().filter_map(|name| Some((name.clone(), row.optional(name)?))).collect();
    let (answerable, cluster) = (row.flag("answerable").unwrap_or(true), row.optional("cluster"));
    let sample = Sample { id: id?, question: question?, references, relevant, slices, answerable, cluster };
    Some(RawSample { sample, place: row.place.clone(), split, group: None })
}
