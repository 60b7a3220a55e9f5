//! Readers, checks and policies end to end, over files in memory; and over published sets where `RAGFT_TEST_DATA` names their folder.

use std::path::{Path, PathBuf};

use super::*;
use crate::diagnostic::Hint as _;
use crate::spec::{ColumnSpec, DatasetSpec, OverlapPolicy};

pub(super) fn spec() -> DatasetSpec {
    DatasetSpec { path: "set".into(), ..crate::spec::read("", &[]).unwrap().dataset }
}

const DOCUMENTS: &str = r#"{"id": "d1", "title": "One", "text": "The first text."}
{"id": "d2", "text": "The second text."}
"#;

fn native(documents: &'static str, train: &'static str, test: &'static str) -> Files {
    Files::embedded("set", &[("documents.jsonl", documents.as_bytes()), ("train.jsonl", train.as_bytes()), ("test.jsonl", test.as_bytes())])
}

fn message(files: &Files) -> String {
    load_from(files, &spec(), 1).unwrap_err().to_string()
}

#[test]
fn a_native_folder_loads_whole() {
    let info = "name = \"tiny\"\nlicence = \"CC0-1.0\"\n[slices]\nkind = \"what is asked for\"\n";
    let test = r#"{"id": "t1", "question": "Which?", "references": ["first"], "relevant": ["d1"], "slices": {"kind": "lookup"}}
{"id": "t2", "question": "None?", "answerable": false}
"#;
    let train = r#"{"id": "n1", "question": "What?", "references": "second", "relevant": "d2", "cluster": "c"}"#;
    let files = Files::embedded(
        "set",
        &[
            ("dataset.toml", info.as_bytes()),
            ("documents.jsonl", DOCUMENTS.as_bytes()),
            ("test.jsonl", test.as_bytes()),
            ("train.jsonl", train.as_bytes()),
        ],
    );
    let dataset = load_from(&files, &spec(), 1).unwrap();
    assert_eq!(dataset.info.name, "tiny");
    assert_eq!((dataset.documents.len(), dataset.train.len(), dataset.test.len()), (2, 1, 2));
    assert_eq!(dataset.test[0].slices["kind"], "lookup");
    assert!(!dataset.test[1].answerable);
    assert_eq!(dataset.train[0].cluster_id(), "c");
    assert_eq!(dataset.test[0].cluster_id(), "d1");
    assert!(dataset.notes.is_empty(), "{:?}", dataset.notes);

    let summary = summary(&dataset);
    assert_eq!(summary.splits[2].answerable, 1);
    assert_eq!(summary.splits[2].slices["kind"]["lookup"], 1);
    assert_eq!(summary.document_chars.unwrap().max, 16.0);
}

#[test]
fn everything_wrong_is_listed_at_once_with_its_place() {
    let documents = "{\"id\": \"d1\", \"text\": \"x\"}\n{\"id\": \"d1\", \"text\": \"y\"}\n{\"id\": \"d3\", \"text\": \"  \"}\n[1]\n";
    let train = "{\"id\": \"t1\", \"question\": \"?\", \"references\": [\"a\"]}\n";
    let test = concat!(
        "{\"id\": \"t1\", \"question\": \"Which?\", \"references\": [\"a\"], \"relevant\": [\"d9\"]}\n",
        "{\"id\": \"t2\", \"question\": \"Which\", \n",
        "\n",
        "{\"id\": \"t3\", \"question\": \"Which one?\", \"references\": []}\n",
        "{\"id\": \"t4\", \"qestion\": \"Which two?\", \"references\": [\"b\"]}\n",
        "{\"id\": \"t5\", \"question\": \"Which three?\", \"references\": [\"b\"], \"anserable\": true}\n",
        "{\"id\": \"t6\", \"question\": \"Which four?\", \"references\": [\"b\"], \"answerable\": false}\n",
    );
    let text = message(&native(documents, train, test));
    for expected in [
        "dataset `set` has 10 problems",
        "`documents.jsonl` line 2 repeats the document id `d1` of `documents.jsonl` line 1",
        "`documents.jsonl` line 3 has an empty `text`",
        "`documents.jsonl` line 4 is not a JSON object",
        "`test.jsonl` line 1 repeats the question id `t1` of `train.jsonl` line 1",
        "`test.jsonl` line 1 names the relevant document `d9`, which the corpus does not have",
        "`test.jsonl` line 2 column 34 is not valid JSON",
        "`test.jsonl` line 4 question `t3` has no references",
        "`test.jsonl` line 5 has no `question`; did you mean the field `qestion`?",
        "`test.jsonl` line 6 has an unknown field `anserable`; did you mean `answerable`?",
        "`test.jsonl` line 7 question `t6` is not answerable but has references",
    ] {
        assert!(text.contains(expected), "no `{expected}` in\n{text}");
    }
}

#[test]
fn twenty_problems_are_printed_and_the_rest_counted() {
    let test: String = (0..25).map(|id| format!("{{\"id\": \"q{id}\", \"question\": \"?\", \"references\": []}}\n")).collect();
    let files = native(DOCUMENTS, "", test.leak());
    let error = load_from(&files, &spec(), 1).unwrap_err();
    let text = error.to_string();
    assert_eq!(text.lines().count(), 22);
    assert!(text.ends_with("and 5 more"));
    assert_eq!(error.hint().unwrap(), "run `ragft dataset check set` to list every problem");
}

#[test]
fn an_empty_corpus_and_a_missing_test_split_are_problems() {
    let text = message(&native("", "{\"id\": \"t1\", \"question\": \"?\", \"references\": [\"a\"]}\n", ""));
    assert!(text.contains("`set` has an empty corpus") && text.contains("`set` has no test questions"), "{text}");
}

#[test]
fn overlap_is_refused_or_reported() {
    let train = "{\"id\": \"n1\", \"question\": \"WHICH one\", \"references\": [\"a\"], \"relevant\": [\"d1\"]}\n";
    let test = concat!(
        "{\"id\": \"t1\", \"question\": \"Which one?\", \"references\": [\"a\"], \"relevant\": [\"d2\"]}\n",
        "{\"id\": \"t2\", \"question\": \"Which other?\", \"references\": [\"a\"], \"relevant\": [\"d1\"]}\n",
        "{\"id\": \"t3\", \"question\": \"Which third?\", \"references\": [\"a\"], \"relevant\": [\"d1\"], \"cluster\": \"own\"}\n",
    );
    let files = native(DOCUMENTS, train, test);
    let error = load_from(&files, &spec(), 1).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("1 of 3 test questions share their wording with a training question (for example `t1`)"), "{text}");
    assert!(text.contains("1 of 3 test questions share a cluster with a training question (for example `t2`)"), "{text}");
    assert!(!text.contains("relevant document"), "{text}");
    assert!(error.hint().unwrap().contains("overlap = \"report\""));

    let reported = load_from(&files, &DatasetSpec { overlap: OverlapPolicy::Report, ..spec() }, 1).unwrap();
    assert_eq!(reported.notes.len(), 3, "{:?}", reported.notes);
    assert!(reported.notes[2].contains("`t3`"));
}

const SQUAD: &str = r#"{"version": "v2.0", "data": [
 {"title": "Some_Title", "paragraphs": [
  {"context": "Ada wrote it in 1843.", "qas": [
   {"id": "a", "question": " Who wrote it?", "answers": [{"text": "Ada", "answer_start": 0}, {"text": "Ada", "answer_start": 0}], "is_impossible": false},
   {"id": 7, "question": "Where?", "answers": [], "plausible_answers": [{"text": "1843", "answer_start": 16}], "is_impossible": true}]},
  {"context": "It ran.", "qas": [{"id": "b", "question": "Did it?", "answers": [{"text": "ran", "answer_start": 2}]}]}]},
 {"title": "Other", "paragraphs": [{"context": "No.", "qas": [{"id": "c", "question": "Yes?", "answers": [{"text": "No", "answer_start": 0}]}]}]}]}"#;

#[test]
fn squad_paragraphs_become_documents_and_articles_are_not_divided() {
    let files = Files::embedded("set", &[("squad.json", SQUAD.as_bytes())]);
    for seed in 0..8 {
        let dataset = load_from(&files, &spec(), seed).unwrap();
        assert_eq!(dataset.documents.len(), 3);
        assert_eq!((dataset.documents[0].id.as_str(), dataset.documents[0].title.as_str()), ("Some Title/0", "Some Title"));
        let all: Vec<&Sample> = dataset.train.iter().chain(&dataset.test).collect();
        assert_eq!(all.len(), 4);
        let find = |id: &str| all.iter().find(|sample| sample.id == id).unwrap();
        assert_eq!(find("a").references, ["Ada"]);
        assert_eq!(find("a").question, "Who wrote it?");
        assert!(!find("7").answerable);
        let in_test = |id: &str| dataset.test.iter().any(|sample| sample.id == id);
        assert!(in_test("a") == in_test("b") && in_test("a") != in_test("c"));
        assert!(dataset.notes[0].starts_with("1 of 4 answers do not stand at their `answer_start`"), "{:?}", dataset.notes);
    }
}

#[test]
fn squad_train_and_dev_files_are_the_splits() {
    let dev = SQUAD.replace("\"a\"", "\"a2\"").replace("\"id\": 7", "\"id\": 8").replace("\"b\"", "\"b2\"").replace("\"c\"", "\"c2\"");
    let files = Files::embedded("set", &[("train-v2.0.json", SQUAD.as_bytes()), ("dev-v2.0.json", dev.leak().as_bytes())]);
    let error = load_from(&files, &spec(), 1).unwrap_err();
    assert!(matches!(error, DatasetError::Overlap { .. }), "{error}");
    let dataset = load_from(&files, &DatasetSpec { overlap: OverlapPolicy::Report, ..spec() }, 1).unwrap();
    assert_eq!((dataset.train.len(), dataset.test.len(), dataset.documents.len()), (4, 4, 3));
}

#[test]
fn squad_problems_name_the_element() {
    let text = message(&Files::embedded(
        "set",
        &[("x.json", br#"{"data": [{"title": "T", "paragraphs": [{"context": "c", "qas": [{"id": "a", "question": "?", "answers": [{}]}, {"id": "b", "answers": []}]}]}]}"#)],
    ));
    assert!(text.contains("`x.json` data[0].paragraphs[0].qas[0] has an answer without `text`"), "{text}");
    assert!(text.contains("`x.json` data[0].paragraphs[0].qas[1] has no `question`"), "{text}");
    assert!(text.contains("question `a` has no references"), "{text}");
    let text = message(&Files::embedded("set", &[("x.json", b"{\"data\": [\n}")]));
    assert!(text.contains("`x.json` line 2 column 1 is not valid JSON"), "{text}");
}

#[test]
fn beir_folders_are_for_retrieval_only() {
    let files = Files::embedded(
        "set",
        &[
            ("corpus.jsonl", b"{\"_id\": \"A b\", \"title\": \"\", \"text\": \"x\"}\n{\"_id\": \"d2\", \"title\": \"Heading\", \"text\": \"\", \"metadata\": {}}\n"),
            ("queries.jsonl", b"{\"_id\": \"q1\", \"text\": \"who?\"}\n{\"_id\": \"q2\", \"text\": \"unjudged?\"}\n"),
            ("qrels/test.tsv", b"query-id\tcorpus-id\tscore\nq1\tA b\t1\nq1\td2\t0\n"),
        ],
    );
    let dataset = load_from(&files, &spec(), 1).unwrap();
    assert!(dataset.info.retrieval_only);
    assert_eq!(dataset.documents[1].text, "Heading");
    assert_eq!((dataset.test.len(), dataset.test[0].relevant.as_slice()), (1, ["A b".to_owned()].as_slice()));

    let text = message(&Files::embedded(
        "set",
        &[
            ("corpus.jsonl", b"{\"_id\": \"d\", \"text\": \"x\"}\n"),
            ("queries.jsonl", b"{\"_id\": \"q\", \"text\": \"?\"}\n"),
            ("qrels/test.tsv", b"q\tz\t1\nnone\td\t1\nq d 1\n"),
        ],
    ));
    for expected in ["line 1 names the relevant document `z`", "line 2 judges the query `none`", "line 3 is not `query-id`"] {
        assert!(text.contains(expected), "no `{expected}` in\n{text}");
    }
}

#[test]
fn an_unknown_folder_and_a_wrong_fraction_are_refused() {
    let files = Files::embedded("set", &[("notes.txt", b"x")]);
    assert!(matches!(load_from(&files, &spec(), 1), Err(DatasetError::UnknownFormat { .. })));
    let wrong = DatasetSpec { test_fraction: 0.0, ..spec() };
    assert!(matches!(load_from(&files, &wrong, 1), Err(DatasetError::TestFraction { .. })));
    let missing = load(&DatasetSpec { path: "nowhere".into(), ..spec() }, 1, Path::new("/nonexistent"));
    assert!(matches!(missing, Err(DatasetError::NotFound { .. })));
}

#[test]
fn check_hands_back_what_load_fails_on() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    put("documents.jsonl", DOCUMENTS);
    put("train.jsonl", "{\"id\": \"n\", \"question\": \"Which?\", \"references\": [\"a\"]}\n");
    put("test.jsonl", "{\"id\": \"t\", \"question\": \"which\", \"references\": [\"a\"]}\n");
    let spec = DatasetSpec { path: ".".into(), ..spec() };
    assert!(matches!(load(&spec, 1, dir.path()), Err(DatasetError::Overlap { .. })));
    let examination = check(&spec, 1, dir.path()).unwrap();
    assert!(examination.dataset.is_some() && examination.problems.is_empty());
    assert_eq!((examination.overlaps[0].kind, examination.overlaps[0].count), (OverlapKind::Question, 1));

    put("dataset.toml", "name = \"x\"\nlicense = \"MIT\"\n");
    std::fs::write(dir.path().join("test.jsonl"), b"\xff").unwrap();
    let examination = check(&spec, 1, dir.path()).unwrap();
    let problems: Vec<String> = examination.problems.iter().map(ToString::to_string).collect();
    assert!(examination.dataset.is_none());
    assert!(problems.iter().any(|problem| problem.starts_with("`dataset.toml` line 2 is wrong: unknown field `license`")), "{problems:?}");
    assert!(problems.iter().any(|problem| problem.starts_with("`test.jsonl` is not UTF-8 (byte 0)")), "{problems:?}");
}

#[test]
fn jsonl_maps_columns_and_a_conversion_reads_back_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    put("docs.jsonl", "{\"key\": 1, \"head\": \"H\", \"body\": \"b\", \"url\": \"u\"}\n{\"key\": 2, \"body\": \"c\"}\n");
    put(
        "qa.jsonl",
        "{\"n\": 1, \"q\": \"one?\", \"a\": \"x\", \"docs\": [1], \"type\": \"t\"}\n{\"n\": 2, \"q\": \"two?\", \"a\": [{\"text\": \"y\"}], \"docs\": 2}\n",
    );
    let columns = ColumnSpec {
        id: "n".into(),
        question: "q".into(),
        references: "a".into(),
        relevant: "docs".into(),
        slices: vec!["type".into()],
        document_id: "key".into(),
        title: "head".into(),
        text: "body".into(),
    };
    let spec = DatasetSpec { path: "qa.jsonl".into(), documents: "docs.jsonl".into(), columns, ..spec() };
    let dataset = load(&spec, 3, dir.path()).unwrap();
    assert_eq!((dataset.train.len(), dataset.test.len()), (1, 1));
    let first = dataset.train.iter().chain(&dataset.test).find(|sample| sample.id == "1").unwrap();
    assert_eq!((first.references[0].as_str(), first.relevant[0].as_str(), first.slices["type"].as_str()), ("x", "1", "t"));

    let out = dir.path().join("native");
    write_native(&dataset, &out).unwrap();
    assert!(matches!(write_native(&dataset, &out), Err(DatasetError::Exists { .. })));
    let back = load(&DatasetSpec { path: "native".into(), ..self::spec() }, 9, dir.path()).unwrap();
    assert_eq!((&back.documents, &back.train, &back.test, &back.hash), (&dataset.documents, &dataset.train, &dataset.test, &dataset.hash));
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "nothing else is left behind: {names:?}");
}

#[test]
fn a_limit_takes_nothing_from_the_hash() {
    let test: String = (0..9).map(|id| format!("{{\"id\": \"q{id}\", \"question\": \"{id}?\", \"references\": [\"a\"]}}\n")).collect();
    let files = native(DOCUMENTS, "", test.leak());
    let whole = load_from(&files, &spec(), 1).unwrap();
    let limited = load_from(&files, &DatasetSpec { limit: 4, ..spec() }, 1).unwrap();
    assert_eq!((limited.test.len(), &limited.hash), (4, &whole.hash));
    assert_eq!(limited.notes, ["limited to a seeded sample of 4 of 9 test questions"]);
}

/// The folder of published sets, if there is one.
pub(super) fn published() -> Option<PathBuf> {
    let folder = std::env::var_os("RAGFT_TEST_DATA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("RAGFT_TEST_DATA is not set: published sets are not read");
    }
    folder
}

#[test]
fn published_sets_load_with_the_counts_their_authors_state() {
    let Some(folder) = published() else { return };
    for (path, documents, questions, unanswerable) in [
        ("squad2-dev-a", 316, 2904, 1564),
        ("xquad/xquad.en.json", 240, 1190, 0),
        ("policyqa-dev", 574, 3809, 0),
        ("covid-qa", 91, 1205, 0),
        ("limit-small", 46, 1000, 0),
        ("xquad-en-beir", 240, 1190, 0),
    ] {
        let watch = crate::clock::Stopwatch::start();
        let spec = DatasetSpec { path: path.into(), overlap: OverlapPolicy::Report, ..spec() };
        let dataset = load(&spec, 1, &folder).unwrap_or_else(|error| panic!("{path}: {error}"));
        let all: Vec<&Sample> = dataset.train.iter().chain(&dataset.test).collect();
        eprintln!(
            "{path}: {} documents, {} train, {} test, {:?}, {:?}",
            dataset.documents.len(),
            dataset.train.len(),
            dataset.test.len(),
            watch.elapsed(),
            dataset.notes
        );
        assert_eq!((dataset.documents.len(), all.len()), (documents, questions), "{path}");
        assert_eq!(all.iter().filter(|sample| !sample.answerable).count(), unanswerable, "{path}");
    }
}

#[test]
fn medquad_loads_through_a_column_map_and_shares_documents() {
    let Some(folder) = published() else { return };
    let mut spec = DatasetSpec {
        path: "medquad-a/qa_test.jsonl".into(),
        documents: "medquad-a/documents.jsonl".into(),
        train: "medquad-a/qa_train.jsonl".into(),
        ..spec()
    };
    spec.columns.references = "answer".into();
    spec.columns.relevant = "doc_ids".into();
    spec.columns.slices = vec!["type".into()];
    assert!(matches!(load(&spec, 1, &folder), Err(DatasetError::Overlap { .. })));
    spec.overlap = OverlapPolicy::Report;
    let watch = crate::clock::Stopwatch::start();
    let dataset = load(&spec, 1, &folder).unwrap();
    eprintln!("medquad-a: {:?}, {:?}", watch.elapsed(), dataset.notes);
    assert_eq!((dataset.documents.len(), dataset.train.len(), dataset.test.len()), (424, 1862, 418));
}
