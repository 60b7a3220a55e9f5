//! BEIR folders: `corpus.jsonl`, `queries.jsonl`, `qrels/test.tsv`.
//!
//! Queries have no answers, so such a set is `retrieval_only`: samples have no references and answer metrics are not measured. The
//! questions tested are those that `qrels/test.tsv` judges. Relevance is binary here: a positive score counts as relevant.

use std::collections::BTreeMap;

use super::check::{Raw, RawSample};
use super::error::{At, DatasetError, Place, Problems};
use super::files::Files;
use super::row::Row;
use super::rows::for_each_row;
use super::{DatasetInfo, Document, Sample, Split};

pub(super) const CORPUS: &str = "corpus.jsonl";
pub(super) const QUERIES: &str = "queries.jsonl";
pub(super) const QRELS: &str = "qrels/test.tsv";

pub(super) fn read(files: &Files, problems: &mut Problems) -> Result<Raw, DatasetError> {
    let info = DatasetInfo { name: files.short_name(), retrieval_only: true, ..DatasetInfo::default() };
    let mut raw = Raw { info, ..Raw::default() };
    let missing: Vec<&str> = [CORPUS, QUERIES, QRELS].into_iter().filter(|name| !files.has(name)).collect();
    for name in &missing {
        problems.add(&Place::file(name), "is missing", "a BEIR folder has `corpus.jsonl`, `queries.jsonl` and `qrels/test.tsv`");
    }
    if !missing.is_empty() {
        return Ok(raw);
    }
    for_each_row(files, CORPUS, problems, |row| raw.documents.extend(read_document(row)))?;
    let mut queries = BTreeMap::new();
    for_each_row(files, QUERIES, problems, |row| read_query(row, &mut queries))?;
    raw.samples = read_qrels(files, &queries, problems)?;
    if files.names().any(|name| matches!(name, "qrels/train.tsv" | "qrels/dev.tsv")) {
        raw.notes.push("judgements for training are not used: the set has no answers to fine-tune on".into());
    }
    Ok(raw)
}

/// Some corpora leave the text of a bare heading empty; the heading is then the text.
fn read_document(row: &mut Row<'_>) -> Option<(Document, Place)> {
    let (id, title) = (row.required("_id"), row.optional("title").unwrap_or_default());
    let text = row.optional("text").filter(|text| !text.trim().is_empty()).unwrap_or_else(|| title.clone());
    if text.trim().is_empty() {
        row.problem("has an empty `text`", "fill it in or drop the row");
    }
    Some((Document { id: id?, title, text, date: None }, row.place.clone()))
}

fn read_query(row: &mut Row<'_>, queries: &mut BTreeMap<String, String>) {
    let (Some(id), Some(text)) = (row.required("_id"), row.required("text")) else { return };
    if queries.insert(id.clone(), text).is_some() {
        row.problem(format!("repeats the id `{id}`"), "give every query its own `_id`");
    }
}

fn read_qrels(files: &Files, queries: &BTreeMap<String, String>, problems: &mut Problems) -> Result<Vec<RawSample>, DatasetError> {
    let Some(text) = files.text(QRELS, problems)? else { return Ok(Vec::new()) };
    let mut samples: Vec<RawSample> = Vec::new();
    let mut position: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let place = Place { file: QRELS.into(), at: At::Line(index + 1) };
        let columns: Vec<&str> = line.split('\t').collect();
        let judged = columns.get(2).and_then(|score| score.trim().parse::<f64>().ok());
        match (columns.as_slice(), judged) {
            ([query, document, _], Some(score)) => {
                let Some(question) = queries.get(*query) else {
                    problems.add(
                        &place,
                        format!("judges the query `{query}`, which `{QUERIES}` does not have"),
                        "drop the line or add the query",
                    );
                    continue;
                };
                let at = *position.entry(query).or_insert_with(|| {
                    samples.push(new_sample(query, question, place));
                    samples.len() - 1
                });
                if score > 0.0 {
                    samples[at].sample.relevant.push((*document).to_owned());
                }
            }
            _ if index == 0 || line.trim().is_empty() => {}
            _ => problems.add(&place, "is not `query-id`, `corpus-id`, `score` between tabs", "write three columns, the last a number"),
        }
    }
    Ok(samples)
}

fn new_sample(id: &str, question: &str, place: Place) -> RawSample {
    let sample = Sample { id: id.to_owned(), question: question.to_owned(), ..Sample::default() };
    RawSample { sample, place, split: Some(Split::Test), group: None }
}
