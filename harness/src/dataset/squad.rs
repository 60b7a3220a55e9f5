//! SQuAD 1.1 and 2.0 JSON: one file, or a folder with `train-*.json` and `dev-*.json` (or `test-*.json`).
//!
//! A paragraph becomes a document, titled by its article and named `<title>/<number>`; a paragraph that occurs twice under one title is
//! one document. A question's `relevant` is its paragraph, also where it has no answer (a retriever should still find what it was asked
//! about); the paragraph is also its cluster in the statistics. One file is split by *article*:
//! paragraphs of one article tell of the same things, so train and test must not share one. Statistics cluster more finely than that,
//! because a file of eight articles would leave an interval nothing to stand on; so intervals speak about these articles, not about
//! articles at large.
//!
//! Answer offsets are not used; where one does not point at its answer, a note says how many.

use std::path::Path;

use serde_json::Value;

use super::check::{Raw, RawSample};
use super::error::{At, DatasetError, Place, Problems};
use super::files::Files;
use super::paragraphs::Paragraphs;
use super::row::{Row, reason};
use super::{DatasetInfo, Sample, Split, table};

/// The files to read and the split each is; no split means that one file must serve for all.
pub(super) fn parts(files: &Files) -> Vec<(String, Option<Split>)> {
    if let Some(main) = files.main() {
        return vec![(main.to_owned(), None)];
    }
    let is_json = |name: &str| Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let json = || files.names().filter(|name| is_json(name) && !name.contains('/'));
    let of = |prefix: &str, split| json().find(|name| name.starts_with(prefix)).map(|name| (name.to_owned(), Some(split)));
    let (train, dev, test) = (of("train", Split::Train), of("dev", Split::Validation), of("test", Split::Test));
    match (train, dev, test) {
        (Some(train), Some((dev, _)), None) => vec![train, (dev, Some(Split::Test))],
        (Some(train), dev, Some(test)) => [Some(train), dev, Some(test)].into_iter().flatten().collect(),
        _ => json().map(|name| (name.to_owned(), None)).collect(),
    }
}

pub(super) fn read(files: &Files, problems: &mut Problems) -> Result<Raw, DatasetError> {
    let info = DatasetInfo { name: files.short_name(), ..DatasetInfo::default() };
    let mut reader = Reader { raw: Raw { info, ..Raw::default() }, ..Reader::default() };
    for (name, split) in parts(files) {
        let Some(text) = files.text(&name, problems)? else { continue };
        reader.split = split;
        match serde_json::from_str::<Value>(&text) {
            Ok(value) => reader.file(value, &name, problems),
            Err(error) => {
                let place = Place { file: name.as_str().into(), at: At::Column(error.line(), error.column()) };
                problems.add(&place, format!("is not valid JSON ({})", reason(&error)), "mend the file at that point");
            }
        }
    }
    Ok(reader.finish())
}

#[derive(Default)]
struct Reader {
    raw: Raw,
    split: Option<Split>,
    paragraphs: Paragraphs,
    answers: usize,
    misplaced: usize,
}

impl Reader {
    fn file(&mut self, value: Value, name: &str, problems: &mut Problems) {
        let file = Place::file(name);
        let Some(mut root) = Row::element(value, file.clone(), problems) else { return };
        if let Some(version) = root.optional("version") {
            self.raw.info.version = version;
        }
        for (index, article) in root.list("data").into_iter().enumerate() {
            let place = element(&file, format!("data[{index}]"));
            let Some(mut row) = Row::element(article, place.clone(), problems) else { continue };
            let title = row.optional("title").unwrap_or_default().replace('_', " ");
            let paragraphs = row.list("paragraphs");
            // Articles without a title are told apart by their number.
            let group = if title.is_empty() { format!("{name}:{index}") } else { title.clone() };
            for (number, paragraph) in paragraphs.into_iter().enumerate() {
                self.paragraph(paragraph, &title, &group, &within(&place, &format!("paragraphs[{number}]")), problems);
            }
        }
    }

    fn paragraph(&mut self, value: Value, title: &str, group: &str, place: &Place, problems: &mut Problems) {
        let Some(mut row) = Row::element(value, place.clone(), problems) else { return };
        let (context, questions) = (row.required("context"), row.list("qas"));
        let Some(context) = context else { return };
        let document = self.paragraphs.document(group, title, &context, place, &mut self.raw.documents);
        for (number, question) in questions.into_iter().enumerate() {
            let place = within(place, &format!("qas[{number}]"));
            let Some(row) = Row::element(question, place, problems) else { continue };
            let sample = self.question(row, &context, &document);
            let split = self.split;
            self.raw.samples.extend(sample.map(|(sample, place)| RawSample { sample, place, split, group: Some(group.to_owned()) }));
        }
    }

    fn question(&mut self, mut row: Row<'_>, context: &str, document: &str) -> Option<(Sample, Place)> {
        let (id, question) = (row.required("id"), row.required("question"));
        let impossible = row.flag("is_impossible").unwrap_or(false);
        let answers = row.list("answers");
        self.count_offsets(&answers, context);
        let mut references: Vec<String> = Vec::new();
        for answer in &answers {
            match answer.get("text").and_then(Value::as_str).map(str::trim) {
                Some(text) if text.is_empty() || references.iter().any(|known| known == text) => {}
                Some(text) => references.push(text.to_owned()),
                None => row.problem("has an answer without `text`", "write `{\"text\": .., \"answer_start\": ..}`"),
            }
        }
        let sample = Sample {
            id: id?,
            question: question?.trim().to_owned(),
            references: if impossible { Vec::new() } else { references },
            relevant: vec![document.to_owned()],
            answerable: !impossible,
            ..Sample::default()
        };
        Some((sample, row.place))
    }

    /// `answer_start` counts Unicode code points.
    fn count_offsets(&mut self, answers: &[Value], context: &str) {
        for answer in answers {
            let (Some(text), Some(start)) = (answer["text"].as_str(), answer["answer_start"].as_u64()) else { continue };
            self.answers += 1;
            let at = context.char_indices().nth(start as usize).map_or(context.len(), |(at, _)| at);
            self.misplaced += usize::from(!context[at..].starts_with(text));
        }
    }

    fn finish(mut self) -> Raw {
        if self.misplaced > 0 {
            self.raw.notes.push(format!(
                "{} of {} answers do not stand at their `answer_start`; their texts are used, their offsets are not",
                self.misplaced, self.answers
            ));
        }
        if self.paragraphs.repeated > 0 {
            self.raw.notes.push(format!(
                "{} paragraphs repeat an earlier one of their article and became one document with it",
                self.paragraphs.repeated
            ));
        }
        self.raw
    }
}

/// A question as the hub's tables have it: `context` beside `question`, `answers` as an object of lists.
pub(super) fn row(reader: &mut table::Reader<'_>, row: &mut Row<'_>, split: Option<Split>) {
    let (id, question, context) = (row.id_or_number("id"), row.required("question"), row.required("context"));
    let title = row.optional("title").unwrap_or_default().replace('_', " ");
    let references = row.texts("answers");
    // In tables an unanswerable question has empty lists.
    let answerable = !row.flag("is_impossible").unwrap_or(references.is_empty());
    let (Some(id), Some(question), Some(context)) = (id, question, context) else { return };
    let document = reader.paragraphs.document(&title, &title, &context, &row.place, &mut reader.raw.documents);
    let references = if answerable { references.iter().map(|text| text.trim().to_owned()).collect() } else { Vec::new() };
    let group = (!title.is_empty()).then_some(title);
    let sample = Sample { id, question: question.trim().to_owned(), references, relevant: vec![document], answerable, ..Sample::default() };
    reader.push(sample, row, split, group);
}

fn element(file: &Place, path: String) -> Place {
    Place { file: file.file.clone(), at: At::Element(path) }
}

fn within(place: &Place, part: &str) -> Place {
    match &place.at {
        At::Element(path) => element(place, format!("{path}.{part}")),
        _ => element(place, part.to_owned()),
    }
}
