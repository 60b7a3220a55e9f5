//! Broken input of every kind: no reader panics, hangs or takes memory out of proportion.
//!
//! Sound files are torn, cut, doubled and salted with what parsers trip over. A few dozen cases by default; `PROPTEST_CASES=100000` for a
//! night. A failing case is printed shrunk.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{TestCaseError, TestRunner};
use ragft::dataset;
use ragft::lm::folder::{check_folder, check_model};
use ragft::lm::{ComputeDevice, LocalModel};
use ragft::measure::counters::peak_memory_bytes;
use ragft::spec::{self, DatasetFormat, DatasetSpec};
use ragft::store::journal::Journal;
use ragft::store::row::JournalRow;

use crate::sandbox::project_root;

/// Cases of each test unless `PROPTEST_CASES` says otherwise.
const CASES: u32 = 40;
/// How much the process may grow over all cases of a test: files are a few kilobytes.
const MEMORY: u64 = 1 << 30;
/// Longest time for one case.
const SECONDS: f64 = 20.0;

/// What parsers trip over.
const SALT: [&[u8]; 22] = [
    b"\0",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"[",
    b"]}",
    b",",
    b"\n",
    b"\r",
    b"\t",
    b"null",
    b"-1",
    b"1e999",
    b"99999999999999999999",
    b"[[[[[[[[[[[[[[[[",
    b"<<<<<<<<",
    b"\xe2\x80\xa9",
    b"<div><table><tr><td>",
    b"PAR1",
];

/// One change to the bytes of a file.
#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    Set(Index, u8),
    Cut(Index),
    Drop(Index, usize),
    Salt(Index, usize, usize),
    Double(Index, usize),
    Swap(Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), 0u8..8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        2 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => at().prop_map(Change::Cut),
        2 => (at(), 1usize..64).prop_map(|(at, length)| Change::Drop(at, length)),
        // Now and then thousands in a row: what recurses, recurses deeply.
        4 => (at(), 0..SALT.len(), prop_oneof![5 => 1usize..4, 1 => 1000usize..30_000]).prop_map(|(at, salt, times)| Change::Salt(at, salt, times)),
        2 => (at(), 1usize..200).prop_map(|(at, length)| Change::Double(at, length)),
        1 => (at(), at()).prop_map(|(left, right)| Change::Swap(left, right)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        bytes.push(b'{');
    }
    let length = bytes.len();
    match change {
        Change::Flip(at, bit) => bytes[at.index(length)] ^= 1 << bit,
        Change::Set(at, byte) => bytes[at.index(length)] = *byte,
        Change::Cut(at) => bytes.truncate(at.index(length)),
        Change::Drop(at, count) => {
            let at = at.index(length);
            bytes.drain(at..(at + count).min(length));
        }
        Change::Salt(at, salt, times) => {
            let at = at.index(length);
            bytes.splice(at..at, SALT[*salt].repeat(*times));
        }
        Change::Double(at, count) => {
            let at = at.index(length);
            let part = bytes[at..(at + count).min(length)].to_vec();
            bytes.splice(at..at, part);
        }
        Change::Swap(left, right) => bytes.swap(left.index(length), right.index(length)),
    }
}

/// Hands `changed` bytes of one of the `seeds` to `read`, again and again; checks time and memory.
#[track_caller]
fn fuzz(seeds: usize, bytes: impl Fn(usize) -> Vec<u8>, read: impl Fn(usize, &[u8])) {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner =
        TestRunner::new_with_rng(config, proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha));
    let strategy = (0..seeds, proptest::collection::vec(change(), 0..6));
    let before = peak_memory_bytes();
    let outcome = runner.run(&strategy, |(seed, changes)| {
        let mut changed = bytes(seed);
        changes.iter().for_each(|change| apply(&mut changed, change));
        let watch = ragft::clock::Stopwatch::start();
        read(seed, &changed);
        let seconds = watch.elapsed().as_secs_f64();
        if seconds > SECONDS { Err(TestCaseError::fail(format!("took {seconds:.0} s"))) } else { Ok(()) }
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    if let (Some(before), Some(after)) = (before, peak_memory_bytes()) {
        assert!(after.saturating_sub(before) < MEMORY, "grew by {} MiB", (after - before) >> 20);
    }
}

fn fixtures() -> PathBuf {
    project_root().join("harness/tests/fixtures")
}

/// A set: the folder or file to read, and the file in it that is broken.
struct Set {
    /// Files by name.
    files: Vec<(String, Vec<u8>)>,
    /// What the spec names.
    path: &'static str,
    /// Index of the file to break.
    broken: usize,
    documents: &'static str,
}

fn files_below(folder: &Path, prefix: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = format!("{prefix}{}", path.file_name().unwrap().to_string_lossy());
        if path.is_dir() {
            found.extend(files_below(&path, &format!("{name}/")));
        } else {
            found.push((name, fs::read(&path).unwrap()));
        }
    }
    found
}

/// Every format, in every file of it.
fn sets() -> Vec<Set> {
    let data = fixtures().join("data");
    let text = |files: &[(&str, &str)]| files.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec())).collect::<Vec<_>>();
    let singles = [
        "arc.jsonl",
        "chat.jsonl",
        "clapnq.jsonl",
        "flashrag.jsonl",
        "hotpot.parquet",
        "mmlu.parquet",
        "morehopqa.json",
        "nq-open.jsonl",
        "packed.feather",
        "rows.arrow",
        "rows.csv",
        "rows.tsv",
        "stream.arrow",
        "webquestions.json",
    ];
    let mut sets: Vec<Set> = singles
        .into_iter()
        .map(|name| Set { files: vec![(name.to_owned(), fs::read(data.join(name)).unwrap())], path: name, broken: 0, documents: "" })
        .collect();
    let mut folder = |path: &'static str, files: Vec<(String, Vec<u8>)>, documents: &'static str| {
        for broken in 0..files.len() {
            sets.push(Set { files: files.clone(), path, broken, documents });
        }
    };
    folder("autorag", files_below(&data.join("autorag"), "autorag/"), "");
    folder("squad-hub", files_below(&data.join("squad-hub"), "squad-hub/"), "");
    let mut plain = files_below(&data.join("documents"), "documents/");
    plain.push(("nq.jsonl".to_owned(), fs::read(data.join("nq-open.jsonl")).unwrap()));
    folder("nq.jsonl", plain, "documents");
    folder(
        "native",
        text(&[
            ("native/dataset.toml", "name = \"small\"\nversion = \"1\"\n[slices]\nkind = \"what is asked\"\n"),
            ("native/documents.jsonl", "{\"id\":\"d1\",\"title\":\"Ada\",\"text\":\"Ada was born in Belm.\",\"date\":\"2024-01-01\"}\n"),
            ("native/train.jsonl", "{\"id\":\"t1\",\"question\":\"Where was Carl born?\",\"references\":[\"Dor\"]}\n"),
            (
                "native/test.jsonl",
                "{\"id\":\"q1\",\"question\":\"Where?\",\"references\":[\"Belm\",\"in Belm\"],\"relevant\":[\"d1\"],\"slices\":{\"kind\":\"x\"},\"cluster\":\"c\",\"choices\":[\"Belm\",\"in Belm\"]}\n{\"id\":\"q2\",\"question\":\"Who?\",\"references\":[],\"answerable\":false}\n",
            ),
        ]),
        "",
    );
    folder(
        "beir",
        text(&[
            ("beir/corpus.jsonl", "{\"_id\":\"d1\",\"title\":\"\",\"text\":\"Ada was born in Belm.\"}\n"),
            ("beir/queries.jsonl", "{\"_id\":\"q1\",\"text\":\"Where?\"}\n{\"_id\":\"q2\",\"text\":\"Who?\"}\n"),
            ("beir/qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td1\t0\n"),
        ]),
        "",
    );
    folder(
        "squad.json",
        text(&[(
            "squad.json",
            r#"{"version":"v2.0","data":[{"title":"A_b","paragraphs":[{"context":"Ada was born in Belm.","qas":[{"id":"1","question":"Where?","answers":[{"text":"Belm","answer_start":16}],"is_impossible":false},{"id":"2","question":"When?","answers":[],"is_impossible":true}]}]}]}"#,
        )]),
        "",
    );
    sets
}

const FORMATS: [DatasetFormat; 12] = [
    DatasetFormat::Auto,
    DatasetFormat::Native,
    DatasetFormat::Squad,
    DatasetFormat::Beir,
    DatasetFormat::Jsonl,
    DatasetFormat::Table,
    DatasetFormat::Hotpot,
    DatasetFormat::OpenQa,
    DatasetFormat::Choices,
    DatasetFormat::Chat,
    DatasetFormat::Flashrag,
    DatasetFormat::Autorag,
];

fn spec_of(set: &Set, format: DatasetFormat) -> DatasetSpec {
    let base = spec::read("", &[]).unwrap().dataset;
    DatasetSpec { path: set.path.into(), documents: set.documents.into(), format, ..base }
}

#[test]
fn readers_of_datasets_survive_broken_files() {
    let sets = sets();
    let dir = tempfile::tempdir().unwrap();
    for (number, set) in sets.iter().enumerate() {
        for (name, bytes) in &set.files {
            let path = dir.path().join(number.to_string()).join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
    let read = |number: usize, bytes: &[u8]| {
        let set = &sets[number];
        let base = dir.path().join(number.to_string());
        let path = base.join(&set.files[set.broken].0);
        fs::write(&path, bytes).unwrap();
        // By its own looks, and as one other format, which changes from case to case.
        for format in [DatasetFormat::Auto, FORMATS[bytes.len() % FORMATS.len()]] {
            match dataset::check(&spec_of(set, format), 1, &base) {
                Ok(examination) => {
                    assert!(examination.dataset.is_some() || !examination.problems.is_empty(), "neither a set nor a problem");
                }
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
        fs::write(&path, &set.files[set.broken].1).unwrap();
    };
    // As many cases as there are files, at least: the first ones would otherwise be all that is broken.
    fuzz(sets.len(), |number| sets[number].files[sets[number].broken].1.clone(), read);
}

/// The lowest bit is the sign of Parquet's integers: a page of minus three values made its reader ask for more memory than there is, which ends the
/// process.
#[test]
fn parquet_files_with_any_lowest_bit_turned_are_read_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (file, format) in [("hotpot.parquet", DatasetFormat::Hotpot), ("mmlu.parquet", DatasetFormat::Choices)] {
        let path = dir.path().join(file);
        let spec = DatasetSpec { path: path.clone(), format, ..spec::read("", &[]).unwrap().dataset };
        let sound = fs::read(fixtures().join("data").join(file)).unwrap();
        for at in 0..sound.len() {
            let mut broken = sound.clone();
            broken[at] ^= 1;
            fs::write(&path, broken).unwrap();
            match dataset::check(&spec, 1, dir.path()) {
                Ok(found) => assert!(found.dataset.is_some() || !found.problems.is_empty(), "{file}, byte {at}"),
                Err(error) => assert!(!error.to_string().is_empty(), "{file}, byte {at}"),
            }
        }
    }
}

#[test]
fn predictions_survive_broken_files() {
    let seeds: [(&str, &[u8]); 3] = [
        ("p.jsonl", b"{\"id\": 1, \"answer\": \"Belm\", \"latency_ms\": 12.5, \"retrieved\": [\"d2\"]}\n{\"id\": \"b\", \"error\": \"timed out\"}\n"),
        ("p.json", b"{\"a\": \"Belm\", \"b\": \"\"}"),
        ("p.csv", b"id,answer,latency_ms\n1,Belm,12.5\n"),
    ];
    let dir = tempfile::tempdir().unwrap();
    let read = |seed: usize, bytes: &[u8]| {
        let path = dir.path().join(seeds[seed].0);
        fs::write(&path, bytes).unwrap();
        let _ = dataset::read_predictions(&path);
    };
    fuzz(seeds.len(), |seed| seeds[seed].1.to_vec(), read);
}

#[test]
fn specs_survive_broken_text() {
    let seeds = [spec::DEFAULT_SPEC.to_owned(), fs::read_to_string(project_root().join("harness/quickstart.toml")).unwrap()];
    let read = |_: usize, bytes: &[u8]| {
        if let Ok(spec) = spec::read(&String::from_utf8_lossy(bytes), &[]) {
            let _ = spec::check(&spec);
        }
    };
    fuzz(seeds.len(), |seed| seeds[seed].clone().into_bytes(), read);
}

#[test]
fn journals_survive_broken_lines() {
    let line = r#"{"schema_version":1,"run_id":"r","variant":"rag","seed":1,"sample_id":"q1","repeat":0,"phase":"accuracy","answer":"Belm","finish_reason":"stop","prompt_tokens":20,"context_tokens":5,"completion_tokens":3,"cached_tokens":0,"hits":[{"document_id":"d","chunk_id":"d:0","rank":1,"score":0.5,"in_prompt":true}],"context_cut":false,"scores":{"exact_match":1.0},"stage_ns":{"embed":1,"search":2,"prompt":3,"prefill":4,"decode":5},"ttft_ns":10,"e2e_ns":15,"flops":1e9}"#;
    let sound = format!("{line}\n{line}\n").into_bytes();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal.jsonl");
    let read = |_: usize, bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        if let Ok((mut journal, rows)) = Journal::<JournalRow>::open(&path) {
            // What was kept can be gone on with.
            journal.append(&rows).unwrap();
            drop(journal);
            assert_eq!(Journal::<JournalRow>::open(&path).unwrap().1.len(), 2 * rows.len());
        }
    };
    fuzz(1, |_| sound.clone(), read);
}

/// Reads the weights as well, where the check found nothing wrong: it must have seen whatever could go wrong then, but for values.
fn load(path: &Path) {
    let Ok(checked) = check_model(path, None) else { return };
    LocalModel::load_checked(&checked, 64, ComputeDevice::cpu().candle()).and_then(|model| model.engine()).unwrap();
}

#[test]
fn model_folders_survive_broken_files() {
    let folder = fixtures().join("lm/qwen2");
    let files = files_below(&folder, "");
    let dir = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, bytes)| fs::write(dir.path().join(name), bytes).unwrap());
    check_folder(dir.path()).unwrap();
    let read = |number: usize, bytes: &[u8]| {
        let path = dir.path().join(&files[number].0);
        fs::write(&path, bytes).unwrap();
        load(dir.path());
        fs::write(&path, &files[number].1).unwrap();
    };
    // Half of the cases break the head of the weights: a header that lies is the worst.
    let weights = files.iter().position(|(name, _)| name == "model.safetensors").unwrap();
    let of = |number: usize| if number < files.len() { number } else { weights };
    fuzz(2 * files.len(), |number| files[of(number)].1.clone(), |number, bytes| read(of(number), bytes));
}

/// Headers of safetensors alone, where every change hits.
#[test]
fn safetensors_headers_survive_broken_bytes() {
    let folder = fixtures().join("lm/qwen2");
    let weights = fs::read(folder.join("model.safetensors")).unwrap();
    let length = 8 + u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let dir = tempfile::tempdir().unwrap();
    files_below(&folder, "").iter().for_each(|(name, bytes)| fs::write(dir.path().join(name), bytes).unwrap());
    let read = |_: usize, header: &[u8]| {
        fs::write(dir.path().join("model.safetensors"), [header, &weights[length..]].concat()).unwrap();
        load(dir.path());
    };
    fuzz(1, |_| weights[..length].to_vec(), read);
}

#[test]
fn gguf_files_survive_broken_bytes() {
    let whole = fs::read(fixtures().join("gguf/qwen3.q8_0.gguf")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    fs::write(&path, &whole).unwrap();
    check_model(&path, None).unwrap();
    // Half of the cases change the header alone, before the weights.
    let weights = 7_520;
    let read = |part: usize, bytes: &[u8]| {
        let rest: &[u8] = if part == 0 { &[] } else { &whole[weights..] };
        fs::write(&path, [bytes, rest].concat()).unwrap();
        load(&path);
    };
    fuzz(2, |part| if part == 0 { whole.clone() } else { whole[..weights].to_vec() }, read);
}
