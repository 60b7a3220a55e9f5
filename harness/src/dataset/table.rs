//! Sets that come as rows, in one file or a file per split: what they share, from the layout of the folder to the corpus beside the questions.
//!
//! A format of rows is a function that turns one row into a question (and perhaps documents); a new one is a file with such a function and
//! a line in [`Reader::row`] and in [`format_of`].

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::check::{Raw, RawSample};
use super::error::{DatasetError, Place, Problems};
use super::files::Files;
use super::paragraphs::Paragraphs;
use super::row::Row;
use super::rows::{RowFile, first_row, for_each_row};
use super::{DatasetInfo, Document, Sample, Split, autorag, chat, choices, flashrag, hotpot, mapped, open_qa, plain, squad};
use crate::spec::{ColumnSpec, DatasetFormat, DatasetSpec};

/// Names that a folder of rows gives its splits, by how they begin.
const SPLITS: [(&str, Split); 5] = [
    ("train", Split::Train),
    ("validation", Split::Validation),
    ("valid", Split::Validation),
    ("dev", Split::Validation),
    ("test", Split::Test),
];
/// Files that belong to a folder of rows and are none.
const BESIDE: [&str; 5] = ["dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json"];

/// Which files hold what.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// Files of questions and the split each is; no split means that one file must serve for all.
    pub(super) questions: Vec<(String, Option<Split>)>,
    /// Files of documents.
    pub(super) corpus: Vec<String>,
    /// Configurations found, where there is more than one: the user must choose.
    pub(super) configurations: Vec<String>,
}

/// Sorts the files of a set by their names.
pub(super) fn layout(files: &Files) -> Layout {
    if let Some(main) = files.main() {
        return Layout { questions: vec![(main.to_owned(), None)], ..Layout::default() };
    }
    let mut layout = Layout::default();
    let mut by_folder: BTreeMap<String, Vec<(String, Option<Split>)>> = BTreeMap::new();
    for name in files.names().filter(|name| RowFile::of(name).is_some()) {
        let file = name.rsplit('/').next().unwrap_or(name);
        if BESIDE.contains(&file) || file.starts_with('.') {
            continue;
        }
        if file.starts_with("corpus.") || file.starts_with("documents.") {
            layout.corpus.push(name.to_owned());
            continue;
        }
        let (folder, split) = place_of(name);
        by_folder.entry(folder).or_default().push((name.to_owned(), split));
    }
    // A folder's other files (an index, predictions) are none of the set where some are named after splits.
    if by_folder.values().flatten().any(|(_, split)| split.is_some()) {
        by_folder.values_mut().for_each(|found| found.retain(|(_, split)| split.is_some()));
        by_folder.retain(|_, found| !found.is_empty());
    }
    if by_folder.len() > 1 {
        layout.configurations = by_folder.into_keys().map(|name| if name.is_empty() { ".".to_owned() } else { name }).collect();
        return layout;
    }
    layout.questions = by_folder.into_values().next().unwrap_or_default();
    settle(&mut layout.questions);
    layout
}

/// The folder of a file without the part that names a split, and the split.
fn place_of(name: &str) -> (String, Option<Split>) {
    let mut parts: Vec<&str> = name.split('/').collect();
    let file = parts.pop().unwrap_or_default();
    let named = |part: &str| SPLITS.iter().find(|(start, _)| part.to_ascii_lowercase().starts_with(start)).map(|(_, split)| *split);
    // `qa_train.jsonl`, `squad-dev.json`: the split may stand behind.
    let inner = |file: &str| file.split(['.', '-', '_']).find_map(named);
    let split = inner(file).or_else(|| parts.last().and_then(|folder| named(folder)));
    if split.is_some() && parts.last().is_some_and(|folder| named(folder).is_some()) {
        parts.pop();
    }
    (parts.join("/"), split)
}

/// Where there is no test split, validation is tested; where there is only one, it serves for all.
fn settle(questions: &mut [(String, Option<Split>)]) {
    let has = |questions: &[(String, Option<Split>)], split| questions.iter().any(|(_, found)| *found == Some(split));
    if !has(questions, Split::Test) && has(questions, Split::Validation) {
        let validation = questions.iter_mut().filter(|(_, split)| *split == Some(Split::Validation));
        validation.for_each(|(_, split)| *split = Some(Split::Test));
    }
    if !has(questions, Split::Test) {
        questions.iter_mut().for_each(|(_, split)| *split = None);
    }
}

/// Tells the format of rows by the fields of the first one; what no format claims goes by the column map.
pub(super) fn format_of(fields: &Map<String, Value>, columns: &ColumnSpec) -> DatasetFormat {
    let has = |name: &str| fields.get(name).is_some_and(|value| !value.is_null());
    let is_text = |name: &str| fields.get(name).is_some_and(Value::is_string);
    let nested = |name: &str, inner: &str| fields.get(name).is_some_and(|value| value.get(inner).is_some());
    if has(&columns.question) && has(&columns.references) {
        DatasetFormat::Table
    } else if has("retrieval_gt") && has("query") {
        DatasetFormat::Autorag
    } else if has("golden_answers") {
        DatasetFormat::Flashrag
    } else if has("messages") || has("conversations") || has("prompt") && has("completion") || has("instruction") && has("output") {
        DatasetFormat::Chat
    } else if has("choices") || has("options") || has("endings") || nested("question", "choices") {
        DatasetFormat::Choices
    } else if has("supporting_facts") || has("context") && !is_text("context") && has("question") || has("paragraphs") && has("question") {
        DatasetFormat::Hotpot
    } else if is_text("context") && has("question") && has("answers") {
        DatasetFormat::Squad
    } else if open_qa::QUESTIONS.iter().any(|name| has(name)) && open_qa::ANSWERS.iter().any(|name| has(name)) {
        DatasetFormat::OpenQa
    } else {
        DatasetFormat::Table
    }
}

/// What the first row of the first file of questions looks like.
pub(super) fn detect(files: &Files, columns: &ColumnSpec) -> Result<Option<DatasetFormat>, DatasetError> {
    let layout = layout(files);
    if !layout.configurations.is_empty() {
        return Ok(Some(DatasetFormat::Table));
    }
    let Some((name, _)) = layout.questions.first() else { return Ok(None) };
    if RowFile::of(name).is_none() {
        return Ok(None);
    }
    Ok(Some(first_row(files, name)?.map_or(DatasetFormat::Table, |fields| {
        if fields.contains_key("paragraphs") && !fields.contains_key("question") {
            DatasetFormat::Squad
        } else {
            format_of(&fields, columns)
        }
    })))
}

/// A set in the making.
pub(super) struct Reader<'a> {
    pub(super) raw: Raw,
    pub(super) paragraphs: Paragraphs,
    pub(super) spec: &'a DatasetSpec,
    /// Things to tell once with their count, by what is told.
    pub(super) told: BTreeMap<&'static str, usize>,
    format: DatasetFormat,
}

impl Reader<'_> {
    fn row(&mut self, row: &mut Row<'_>, split: Option<Split>) {
        match self.format {
            DatasetFormat::Hotpot => hotpot::row(self, row, split),
            DatasetFormat::OpenQa => open_qa::row(self, row, split),
            DatasetFormat::Choices => choices::row(self, row, split),
            DatasetFormat::Chat => chat::row(self, row, split),
            DatasetFormat::Flashrag => flashrag::row(self, row, split),
            DatasetFormat::Autorag => autorag::row(self, row, split),
            DatasetFormat::Squad => squad::row(self, row, split),
            _ => mapped::row(self, row, split),
        }
    }

    /// Adds a question.
    pub(super) fn push(&mut self, sample: Sample, row: &Row<'_>, split: Option<Split>, group: Option<String>) {
        self.raw.samples.push(RawSample { sample, place: row.place.clone(), split, group });
    }

    /// Counts something to tell of in a note.
    pub(super) fn tell(&mut self, what: &'static str) {
        *self.told.entry(what).or_default() += 1;
    }

    fn finish(mut self) -> Raw {
        if self.raw.documents.is_empty() {
            self.raw.info.closed_book = true;
            self.raw.notes.push("the set has no documents: only variants without passages can be measured on it".into());
            let labelled = self.raw.samples.iter_mut().filter(|raw| !raw.sample.relevant.is_empty());
            let dropped = labelled.map(|raw| raw.sample.relevant.clear()).count();
            if dropped > 0 {
                self.raw.notes.push(format!("{dropped} questions name relevant documents, which are left out with the corpus"));
            }
        }
        self.raw.notes.extend(self.told.iter().map(|(what, count)| format!("{count} {what}")));
        self.raw
    }
}

/// Reads a set of rows.
pub(super) fn read(
    files: &Files,
    format: DatasetFormat,
    base_dir: &Path,
    spec: &DatasetSpec,
    problems: &mut Problems,
) -> Result<Raw, DatasetError> {
    let mut files = files.clone();
    let layout = layout(&files);
    let info = DatasetInfo { name: files.short_name(), licence: licence(&files, problems)?, ..DatasetInfo::default() };
    let raw = Raw { info, ..Raw::default() };
    let mut reader = Reader { raw, paragraphs: Paragraphs::default(), spec, told: BTreeMap::new(), format };
    if !layout.configurations.is_empty() {
        let names = layout.configurations.join("`, `");
        problems.add(
            &Place::file(files.label()),
            format!("has several configurations: `{names}`"),
            "name the folder of one of them in `dataset.path`",
        );
        return Ok(reader.raw);
    }
    let corpus_given = !spec.documents.as_os_str().is_empty();
    let before = problems.0.len();
    if corpus_given {
        read_corpus_at(&mut reader, &mut files, &base_dir.join(&spec.documents), problems)?;
    } else {
        for name in &layout.corpus {
            for_each_row(&files, name, problems, |row| reader.raw.documents.extend(read_document(row, &spec.columns)))?;
        }
    }
    let mut alone = None;
    if !spec.train.as_os_str().is_empty() {
        let name = files.beside(&base_dir.join(&spec.train));
        for_each_row(&files, &name, problems, |row| reader.row(row, Some(Split::Train)))?;
        alone = Some(Split::Test);
    }
    for (name, split) in &layout.questions {
        for_each_row(&files, name, problems, |row| reader.row(row, split.or(alone)))?;
    }
    if corpus_given && reader.raw.documents.is_empty() {
        // An empty corpus is told of where it stands, and not taken for a set without one.
        if problems.0.len() == before {
            problems.add(&Place::file(&spec.documents.display().to_string()), "holds no document", "add at least one document");
        }
        return Ok(reader.raw);
    }
    Ok(reader.finish())
}

/// The corpus that the spec names: a file of rows, a plain document or a folder of plain documents.
fn read_corpus_at(reader: &mut Reader<'_>, files: &mut Files, path: &Path, problems: &mut Problems) -> Result<(), DatasetError> {
    if path.is_dir() || RowFile::of(&path.display().to_string()).is_none() {
        let found = plain::read(path, problems)?;
        reader.raw.documents.extend(found.documents);
        reader.raw.notes.extend(found.notes);
        return Ok(());
    }
    let name = files.beside(path);
    let columns = &reader.spec.columns;
    for_each_row(files, &name, problems, |row| reader.raw.documents.extend(read_document(row, columns)))
}

/// A document by the column map, or by the names that BEIR, AutoRAG and FlashRAG give its parts.
fn read_document(row: &mut Row<'_>, columns: &ColumnSpec) -> Option<(Document, Place)> {
    let id = row.first_of(&[columns.document_id.as_str(), "_id", "doc_id", "docid"]);
    let text = row.first_of(&[columns.text.as_str(), "contents", "content", "passage"]);
    let (id, body) = (row.required(id), row.required(text));
    let (mut title, date) = (row.optional(&columns.title).unwrap_or_default(), row.optional("date"));
    let mut body = body?;
    if text == "contents" && title.is_empty() {
        (title, body) = flashrag::title_and_text(body);
    }
    Some((Document { id: id?, title, text: body, date }, row.place.clone()))
}

/// The licence that a dataset card (`README.md` with a header) states.
fn licence(files: &Files, problems: &mut Problems) -> Result<String, DatasetError> {
    if !files.has("README.md") {
        return Ok(String::new());
    }
    let Some(card) = files.text("README.md", problems)? else { return Ok(String::new()) };
    let Some(header) = card.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---")).map(|(header, _)| header) else {
        return Ok(String::new());
    };
    let mut lines = header.lines();
    let stated = lines.by_ref().find_map(|line| line.strip_prefix("license:")).map(str::trim).unwrap_or_default();
    let mut first_item = || lines.next().and_then(|line| line.trim().strip_prefix("- ")).unwrap_or_default();
    Ok(if stated.is_empty() { first_item().to_owned() } else { stated.trim_matches(['"', '\'']).to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_told_by_the_names_of_files_and_folders() {
        let place = |name| place_of(name);
        assert_eq!(place("data/train-00000-of-00001.parquet"), ("data".into(), Some(Split::Train)));
        assert_eq!(place("plain_text/validation-00000-of-00002.parquet"), ("plain_text".into(), Some(Split::Validation)));
        assert_eq!(place("en/test/0000.parquet"), ("en".into(), Some(Split::Test)));
        assert_eq!(place("qa_dev.jsonl"), (String::new(), Some(Split::Validation)));
        assert_eq!(place("questions.csv"), (String::new(), None));
    }

    #[test]
    fn validation_is_tested_where_there_is_no_test() {
        let mut questions = vec![("a".to_owned(), Some(Split::Train)), ("b".to_owned(), Some(Split::Validation))];
        settle(&mut questions);
        assert_eq!(questions[1].1, Some(Split::Test));
        let mut alone = vec![("a".to_owned(), Some(Split::Train))];
        settle(&mut alone);
        assert_eq!(alone[0].1, None);
    }
}
