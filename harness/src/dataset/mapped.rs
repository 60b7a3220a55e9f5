//! Rows with a column map, from any kind of file.
//!
//! Fields that the map does not name are ignored, except `answerable`, `cluster`, `choices` and a document's `date`, which mean what they
//! mean in the native folder. Without a column of ids the rows are numbered.

use super::row::Row;
use super::table::Reader;
use super::{Sample, Split};

pub(super) fn row(reader: &mut Reader<'_>, row: &mut Row<'_>, split: Option<Split>) {
    let columns = &reader.spec.columns;
    let id = if columns.id.is_empty() { row.id_or_number("") } else { row.required(&columns.id) };
    let question = row.required(&columns.question);
    let (references, relevant) = (row.texts(&columns.references), row.texts(&columns.relevant));
    let slices = columns.slices.iter().filter_map(|name| Some((name.clone(), row.optional(name)?))).collect();
    let (answerable, cluster, choices) = (row.flag("answerable").unwrap_or(true), row.optional("cluster"), row.texts("choices"));
    let (Some(id), Some(question)) = (id, question) else { return };
    reader.push(Sample { id, question, references, relevant, choices, slices, answerable, cluster }, row, split, None);
}
