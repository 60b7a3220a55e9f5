//! Every format: read from a real file of its kind, refused when malformed; and from published sets where `RAGFT_TEST_DATA` names their folder.

use std::path::{Path, PathBuf};

use super::tests::{published, spec};
use super::*;
use crate::spec::{ColumnSpec, DatasetFormat, DatasetSpec, NoReference, OverlapPolicy};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data")
}

fn at(path: &str) -> DatasetSpec {
    DatasetSpec { path: path.into(), overlap: OverlapPolicy::Report, test_fraction: 1.0, ..spec() }
}

#[track_caller]
fn read(spec: &DatasetSpec) -> Dataset {
    load(spec, 1, &fixtures()).unwrap_or_else(|error| panic!("{}: {error}", spec.path.display()))
}

fn of<'a>(dataset: &'a Dataset, id: &str) -> &'a Sample {
    dataset.splits().into_iter().flat_map(|(_, samples)| samples).find(|sample| sample.id == id).unwrap_or_else(|| panic!("no `{id}`"))
}

/// What is wrong with a set of one file.
#[track_caller]
fn faults(name: &str, text: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(name), text).unwrap();
    let examination = check(&at(name), 1, dir.path()).unwrap();
    assert!(examination.dataset.is_none(), "`{name}` is taken for sound");
    examination.problems.iter().map(|problem| format!("{problem}\n")).collect()
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no `{part}` in\n{text}");
    }
}

#[test]
fn open_questions_have_answers_and_no_documents() {
    let dataset = read(&at("nq-open.jsonl"));
    assert!(dataset.info.closed_book && dataset.documents.is_empty());
    assert_eq!(dataset.test.len(), 3);
    assert_eq!(of(&dataset, "nq-open:1").references, ["14 December 1972 UTC", "December 1972"]);
    let dataset = read(&at("webquestions.json"));
    assert_eq!(of(&dataset, "wqs000000").references.len(), 2);

    let broken = b"{\"question\": \"a?\", \"answer\": [\"x\"]}\n{\"question\": \"b?\"}\n{\"question\": \"c?\", \"answer\": {\"x\": 1}}\n{\"question\": \n";
    says(
        &faults("nq.jsonl", broken),
        &[
            "line 2 question `nq:2` has no references; add an accepted answer",
            "line 3 has a `answer` that is not a string or a list of strings",
            "line 4 column 13 is not valid JSON",
        ],
    );
}

#[test]
fn passages_beside_a_question_become_its_documents() {
    let dataset = read(&at("clapnq.jsonl"));
    assert_eq!((dataset.documents.len(), dataset.test.len()), (2, 2));
    assert_eq!(dataset.test.iter().filter(|sample| sample.answerable).count(), 1);
    assert!(dataset.test.iter().all(|sample| sample.relevant.len() == 1));
}

#[test]
fn multi_hop_questions_bring_their_paragraphs() {
    let dataset = read(&at("hotpot.parquet"));
    assert_eq!((dataset.documents.len(), dataset.test.len()), (4, 2), "a paragraph that two questions carry is one document");
    let first = of(&dataset, "h1");
    assert_eq!(first.relevant, ["Ada/0", "Belm/0"]);
    assert_eq!(dataset.documents[0].text, "Ada was born in Belm. She wrote.");
    assert_eq!((first.slices["type"].as_str(), first.slices["level"].as_str()), ("bridge", "hard"));
    let dataset = read(&at("morehopqa.json"));
    assert_eq!(dataset.test.len(), 2);
    assert!(dataset.test.iter().all(|sample| sample.relevant.len() == 2), "steps name their paragraphs");

    let broken = br#"[{"_id": "a", "question": "?", "answer": "x", "supporting_facts": [["T", 0]], "context": [["T"]]}, 7]"#;
    says(&faults("hotpot.json", broken), &["[0] has no `context` of titles and sentences", "[1] is not a JSON object"]);
}

#[test]
fn choices_are_kept_and_the_right_one_is_the_reference() {
    let dataset = read(&at("mmlu.parquet"));
    let first = of(&dataset, "mmlu:1");
    assert_eq!((first.choices.len(), first.references[0].as_str(), first.slices["subject"].as_str()), (4, "four", "arithmetic"));
    let dataset = read(&at("arc.jsonl"));
    assert_eq!((of(&dataset, "A1").references[0].as_str(), of(&dataset, "A2").references[0].as_str()), ("iron", "cork"));

    let broken = b"{\"question\": \"?\", \"choices\": [\"a\", \"b\"], \"answer\": 2}\n{\"question\": \"?\", \"choices\": [\"a\"], \"answer\": 0}\n{\"question\": \"?\", \"choices\": [\"a\", \"b\"]}\n";
    says(
        &faults("mc.jsonl", broken),
        &[
            "line 1 has the answer `2`, which names none of its 2 choices",
            "line 2 has no list of at least two choices",
            "line 3 has no `answer`; name the right choice by",
        ],
    );
}

#[test]
fn conversations_in_four_forms_become_questions() {
    let dataset = read(&at("chat.jsonl"));
    assert_eq!(dataset.test.len(), 4);
    assert_eq!((of(&dataset, "chat:1").question.as_str(), of(&dataset, "chat:1").references[0].as_str()), ("Where was Ada born?", "Belm"));
    assert_eq!(of(&dataset, "chat:2").question, "user: Hello\nassistant: Hi\nuser: Where was Carl born?");
    assert_eq!(of(&dataset, "chat:3").references, ["Belm"]);
    assert_eq!(of(&dataset, "chat:4").question, "Translate.\nHaus");
    assert!(dataset.notes.iter().any(|note| note.starts_with("1 conversations begin with a system message")), "{:?}", dataset.notes);

    let broken =
        b"{\"messages\": [{\"role\": \"user\", \"content\": \"?\"}]}\n{\"messages\": [{\"role\": \"user\"}]}\n{\"messages\": \"hello\"}\n";
    says(
        &faults("chat.jsonl", broken),
        &["line 1 has no answer of the assistant", "line 2 has a message without `role` or text `content`", "line 3 has no `messages`"],
    );
}

#[test]
fn flashrag_rows_read_with_their_corpus() {
    let dataset = read(&DatasetSpec { documents: "flashrag-corpus.jsonl".into(), ..at("flashrag.jsonl") });
    assert_eq!((dataset.documents[0].title.as_str(), dataset.documents[0].text.as_str()), ("Ada", "Ada was born in Belm."));
    assert_eq!(dataset.documents[1].text, "A text without a title.");
    assert_eq!(of(&dataset, "test_0").slices["type"], "bridge");
    assert_eq!(of(&dataset, "test_1").references, ["four"]);
    says(&faults("f.jsonl", b"{\"id\": \"a\", \"golden_answers\": [\"x\"]}\n"), &["line 1 has no `question`"]);
}

#[test]
fn autorag_pairs_read_as_a_folder() {
    let dataset = read(&at("autorag"));
    assert_eq!((dataset.documents.len(), dataset.test.len()), (3, 2));
    assert_eq!(of(&dataset, "q2").relevant, ["d2", "d3"]);
    assert!(dataset.notes.iter().any(|note| note.contains("accept one of several documents")), "{:?}", dataset.notes);
}

#[test]
fn hub_folders_read_by_their_shards() {
    let dataset = load(&DatasetSpec { overlap: OverlapPolicy::Report, ..at("squad-hub") }, 1, &fixtures()).unwrap();
    assert_eq!(
        (dataset.train.len(), dataset.test.len(), dataset.documents.len()),
        (2, 1, 2),
        "validation is tested where there is no test"
    );
    assert_eq!(of(&dataset, "a1").references, ["1843", "in 1843"]);
    assert!(!of(&dataset, "a2").answerable);
    assert_eq!((dataset.documents[0].title.as_str(), dataset.info.licence.as_str()), ("Ada Lovelace", "cc-by-sa-4.0"));

    let dir = tempfile::tempdir().unwrap();
    for name in ["en", "es"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
        std::fs::copy(fixtures().join("mmlu.parquet"), dir.path().join(name).join("test-00000-of-00001.parquet")).unwrap();
    }
    let error = load(&at("."), 1, dir.path()).unwrap_err().to_string();
    says(&error, &["has several configurations: `en`, `es`; name the folder of one of them in `dataset.path`"]);
    assert_eq!(load(&at("es"), 1, dir.path()).unwrap().test.len(), 2);
}

fn mapped(path: &str) -> DatasetSpec {
    let columns = ColumnSpec {
        id: "key".into(),
        question: "q".into(),
        references: "a".into(),
        relevant: "docs".into(),
        slices: vec!["kind".into()],
        ..spec().columns
    };
    DatasetSpec { columns, ..at(path) }
}

#[test]
fn tables_of_every_kind_read_through_one_column_map() {
    let dataset = read(&mapped("rows.csv"));
    let first = of(&dataset, "1");
    assert_eq!(first.question, "Who, and\nwhen?");
    assert_eq!(first.references, ["Ada", "1843"], "a cell that is a JSON list is one");
    assert_eq!(first.slices["kind"], "odd");
    assert!(dataset.notes.iter().any(|note| note.contains("2 questions name relevant documents")), "{:?}", dataset.notes);
    assert_eq!(of(&read(&mapped("rows.tsv")), "2").references, ["Belm"]);
    for path in ["rows.arrow", "stream.arrow"] {
        let mut spec = mapped(path);
        spec.columns.id = "n".into();
        spec.columns.slices = vec!["kind".into(), "day".into()];
        let dataset = read(&spec);
        assert_eq!(of(&dataset, "1").references, ["x", "y"], "{path}");
        assert_eq!((of(&dataset, "2").slices["kind"].as_str(), of(&dataset, "2").slices["day"].as_str()), ("even", "2024-05-01"), "{path}");
        spec.columns.id = String::new();
        assert_eq!(read(&spec).test.len(), 2, "rows without ids are numbered");
    }
}

#[test]
fn malformed_tables_are_refused_with_their_line() {
    let rows = "question,references\n\"one?\",a,b\ntwo?,b\n\"three?,c\nfour?,d\n";
    let text = faults("t.csv", rows.as_bytes());
    says(&text, &["line 2 has 3 cells, the header has 2; quote cells", "line 4 has 1 cells"]);
    says(&faults("t.csv", b"question,question,references\na?,b?,c\n"), &["line 1 names the column `question` twice"]);
    says(
        &faults("t.csv", b"qestion,references\na?,c\n"),
        &["line 2 has no `id`", "line 2 has no `question`; did you mean the field `qestion`?"],
    );
    says(&faults("t.csv", b"question,references\n\xff,c\n"), &["is not UTF-8 (byte 20); save it as UTF-8"]);
    says(&faults("t.csv", b""), &["has no header"]);
    says(&faults("t.parquet", b"PAR1 nothing of the kind PAR1"), &["t.parquet` cannot be read as Parquet"]);
    says(&faults("t.arrow", b"ARROW1 nothing of the kind"), &["t.arrow` cannot be read as Arrow"]);
    let whole = std::fs::read(fixtures().join("mmlu.parquet")).unwrap();
    says(&faults("t.parquet", &whole[..whole.len() / 2]), &["cannot be read as Parquet"]);
    let packed = std::fs::read(fixtures().join("packed.feather")).unwrap();
    says(&faults("t.feather", &packed), &["cannot be read as Arrow", "without compression, or as Parquet"]);
    says(&faults("t.json", b"{\"rows\": []}"), &["is not a list of objects"]);
}

#[test]
fn plain_documents_are_a_corpus() {
    let spec = DatasetSpec { documents: "documents".into(), ..at("nq-open.jsonl") };
    let dataset = read(&spec);
    let ids: Vec<&str> = dataset.documents.iter().map(|document| document.id.as_str()).collect();
    assert_eq!(ids, ["bread.md", "deep/note.txt", "ferries.html", "lighthouse.pdf"]);
    assert_eq!((dataset.documents[0].title.as_str(), dataset.documents[2].title.as_str()), ("Bread", "On Ferries"));
    assert!(dataset.documents[3].text.contains("The lighthouse stands on the reef."), "{}", dataset.documents[3].text);
    assert!(dataset.notes.iter().any(|note| note.ends_with("left out of the corpus: 1 with .png")), "{:?}", dataset.notes);
    assert!(!dataset.info.closed_book);

    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("docs")).unwrap();
    std::fs::write(dir.path().join("docs/a.txt"), b"\xff\xfe").unwrap();
    std::fs::write(dir.path().join("docs/b.pdf"), b"%PDF-1.7 torn").unwrap();
    std::fs::write(dir.path().join("docs/c.md"), b" \n").unwrap();
    std::fs::write(dir.path().join("q.jsonl"), b"{\"question\": \"?\", \"answer\": \"x\"}\n").unwrap();
    let spec = DatasetSpec { documents: "docs".into(), ..at("q.jsonl") };
    let error = load(&spec, 1, dir.path()).unwrap_err().to_string();
    says(&error, &["`a.txt` is not UTF-8", "`b.pdf` cannot be read as PDF", "`c.md` holds no text; leave it out"]);
}

#[test]
fn every_format_converts_to_a_native_folder_that_reads_back_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let others = [mapped("rows.csv"), DatasetSpec { documents: "flashrag-corpus.jsonl".into(), ..at("flashrag.jsonl") }];
    let plain = ["nq-open.jsonl", "webquestions.json", "clapnq.jsonl", "morehopqa.json", "hotpot.parquet", "mmlu.parquet", "arc.jsonl"];
    let folders = ["chat.jsonl", "autorag", "squad-hub"];
    for (index, spec) in plain.into_iter().chain(folders).map(at).chain(others).enumerate() {
        let dataset = read(&spec);
        let out = format!("out{index}");
        write_native(&dataset, &dir.path().join(&out)).unwrap();
        let back = load(&at(&out), 7, dir.path()).unwrap_or_else(|error| panic!("{}: {error}", spec.path.display()));
        assert_eq!(back.hash, dataset.hash, "{}", spec.path.display());
    }
}

#[test]
fn published_sets_of_rows_load_with_the_counts_their_authors_state() {
    let Some(folder) = published() else { return };
    let with = |path: &str, change: fn(&mut DatasetSpec)| {
        let mut spec = at(path);
        change(&mut spec);
        spec
    };
    let webquestions: fn(&mut DatasetSpec) = |spec| spec.train = "webquestions/trainmodel.json".into();
    let pubmed: fn(&mut DatasetSpec) = |spec| {
        (spec.documents, spec.train) = ("pubmedqa-l/documents.jsonl".into(), "pubmedqa-l/qa_train.jsonl".into());
        (spec.columns.references, spec.columns.relevant) = ("decision".into(), "doc_ids".into());
    };
    let timeqa: fn(&mut DatasetSpec) = |spec| {
        spec.documents = "timeqa-human-a/documents.jsonl".into();
        (spec.columns.references, spec.columns.relevant) = ("answers".into(), "doc_id".into());
        spec.no_reference = NoReference::Unanswerable;
    };
    let none: fn(&mut DatasetSpec) = |_| {};
    for (path, change, documents, train, test) in [
        ("nq-open/NQ-open.dev.jsonl", none, 0, 0, 3610),
        ("nq-open", none, 0, 0, 3610),
        ("webquestions/test.json", webquestions, 0, 2834, 2032),
        ("webquestions/val.json", none, 0, 0, 755),
        ("webquestions/devtest.json", none, 0, 0, 189),
        // Three of its 416 passages stand there twice; 235 of the 300 paragraphs differ.
        ("clapnq-a", none, 413, 0, 416),
        ("morehopqa-150", none, 235, 0, 150),
        ("pubmedqa-l/qa_test.jsonl", pubmed, 1000, 500, 500),
        ("timeqa-human-a/questions.jsonl", timeqa, 110, 0, 394),
        ("xquad/xquad.es.json", none, 240, 0, 1190),
    ] {
        let watch = crate::clock::Stopwatch::start();
        let dataset = load(&with(path, change), 1, &folder).unwrap_or_else(|error| panic!("{path}: {error}"));
        eprintln!("{path}: {} documents, {:?}, {:?}", dataset.documents.len(), watch.elapsed(), dataset.notes);
        assert_eq!((dataset.documents.len(), dataset.train.len(), dataset.test.len()), (documents, train, test), "{path}");
    }
}

#[test]
fn an_explicit_format_goes_before_what_the_rows_look_like() {
    let spec = DatasetSpec { format: DatasetFormat::Table, ..at("nq-open.jsonl") };
    let error = load(&spec, 1, &fixtures()).unwrap_err().to_string();
    says(&error, &["3 problems", "line 1 has no `id`; add `id`"]);
    let spec = DatasetSpec { format: DatasetFormat::Hotpot, ..at("nq-open.jsonl") };
    says(&load(&spec, 1, &fixtures()).unwrap_err().to_string(), &["has no `context` of titles and sentences"]);
}
