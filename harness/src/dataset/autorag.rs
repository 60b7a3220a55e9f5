//! AutoRAG's pair of tables: questions with `qid`, `query`, `retrieval_gt`, `generation_gt`, and a corpus with `doc_id` and `contents`.
//!
//! `retrieval_gt` is a list of lists: of each inner list one document suffices. Every document named counts as relevant here.

use serde_json::Value;

use super::flashrag::nested;
use super::row::{Row, scalar};
use super::table::Reader;
use super::{Sample, Split};

pub(super) fn row(reader: &mut Reader<'_>, row: &mut Row<'_>, split: Option<Split>) {
    let (id, question, references) = (row.id_or_number("qid"), row.required("query"), row.texts("generation_gt"));
    let truth = row.take("retrieval_gt").unwrap_or_default();
    if nested(&truth) {
        reader.tell("questions accept one of several documents; all of them count as relevant");
    }
    let mut relevant: Vec<String> = Vec::new();
    let Some(ids) = flat(&truth) else {
        return row.problem("has a `retrieval_gt` that is no list of document ids", "write `[[id, ..], ..]`");
    };
    for id in ids {
        if !relevant.contains(&id) {
            relevant.push(id);
        }
    }
    let (Some(id), Some(question)) = (id, question) else { return };
    reader.push(Sample { id, question, references, relevant, ..Sample::default() }, row, split, None);
}

fn flat(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Null => Some(Vec::new()),
        Value::Array(items) => Some(items.iter().map(flat).collect::<Option<Vec<_>>>()?.concat()),
        single => Some(vec![scalar(single)?]),
    }
}
