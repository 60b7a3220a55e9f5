//! How well the embedders find documents, by exact search over whole documents. Figures are printed; bounds are held. The public sets are
//! read from the folder that `RAGFT_TEST_DATA` names, and all-MiniLM-L6-v2 from `RAGFT_TEST_MINILM`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::embed::BertEmbedder;
use super::vector::Vectors;
use super::{Embedder, builtin, exact};
use crate::rng::Rng;
use crate::score::score_ranking;

struct Task {
    ids: Vec<String>,
    passages: Vec<String>,
    questions: Vec<(String, Vec<String>)>,
}

fn folder_of(variable: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: {variable} is not set");
    }
    folder
}

/// Means of recall@1, recall@4, recall@10 and nDCG@10.
fn judge(name: &str, embedder: &dyn Embedder, task: &Task) -> [f64; 4] {
    let texts: Vec<&str> = task.passages.iter().map(String::as_str).collect();
    let questions: Vec<&str> = task.questions.iter().map(|(question, _)| question.as_str()).collect();
    let vectors = Vectors::from_rows(embedder.dimension(), &embedder.embed(&texts).unwrap());
    let found = exact::search_batch(&vectors, &embedder.embed(&questions).unwrap(), 10);
    let keys = ["recall_at_1", "recall_at_4", "recall_at_10", "ndcg_at_10"];
    let mut means = [0.0; 4];
    for (hits, (_, relevant)) in found.iter().zip(&task.questions) {
        let ranked: Vec<&str> = hits.iter().map(|hit| task.ids[hit.chunk].as_str()).collect();
        let scores = score_ranking(&ranked, relevant, &[1, 4, 10]);
        for (mean, key) in means.iter_mut().zip(keys) {
            *mean += scores[key] / questions.len() as f64;
        }
    }
    let [one, four, ten, ndcg] = means;
    eprintln!("{name:<24} recall@1 {one:.3}  recall@4 {four:.3}  recall@10 {ten:.3}  nDCG@10 {ndcg:.3}");
    means
}

fn lines(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap().to_owned()
}

fn passages(documents: &[Value]) -> Vec<String> {
    documents.iter().map(|document| format!("{}\n{}", text(document, "title"), text(document, "text"))).collect()
}

fn xquad(data: &Path) -> Task {
    let folder = data.join("xquad-en-beir");
    let documents = lines(&folder.join("corpus.jsonl"));
    let qrels = std::fs::read_to_string(folder.join("qrels/test.tsv")).unwrap();
    let relevant: BTreeMap<&str, &str> =
        qrels.lines().skip(1).filter_map(|line| line.split_once('\t')).map(|(q, rest)| (q, rest.split('\t').next().unwrap())).collect();
    let question = |query: &Value| (text(query, "text"), vec![relevant[query["_id"].as_str().unwrap()].to_owned()]);
    Task {
        ids: documents.iter().map(|document| text(document, "_id")).collect(),
        passages: passages(&documents),
        questions: lines(&folder.join("queries.jsonl")).iter().map(question).collect(),
    }
}

fn medquad(data: &Path) -> Task {
    let folder = data.join("medquad-a");
    let documents = lines(&folder.join("documents.jsonl"));
    let question = |row: &Value| (text(row, "question"), serde_json::from_value(row["doc_ids"].clone()).unwrap());
    Task {
        ids: documents.iter().map(|document| text(document, "id")).collect(),
        passages: passages(&documents),
        questions: lines(&folder.join("qa_test.jsonl")).iter().map(question).collect(),
    }
}

const SYLLABLES: [&str; 24] = [
    "tor", "vas", "bel", "min", "dor", "das", "ford", "cal", "gen", "kar", "lin", "mor", "ven", "tis", "rak", "sol", "hul", "nim", "per",
    "gar", "zan", "wel", "bri", "osk",
];

fn word(rng: &mut Rng, syllables: usize) -> String {
    let word: String = (0..syllables).map(|_| *rng.choose(&SYLLABLES)).collect();
    word[..1].to_uppercase() + &word[1..]
}

/// 300 people with invented names. Only 40 first and 40 last names, so every name shares each half with seven others or so.
fn invented_names() -> Task {
    let mut rng = Rng::new(1, "invented names");
    let firsts: Vec<String> = (0..40).map(|_| word(&mut rng, 2)).collect();
    let lasts: Vec<String> = (0..40).map(|_| word(&mut rng, 2)).collect();
    let names: Vec<String> =
        rng.sample_indices(1600, 300).into_iter().map(|index| format!("{} {}", firsts[index / 40], lasts[index % 40])).collect();
    let mut task = Task { ids: names.clone(), passages: Vec::new(), questions: Vec::new() };
    for name in &names {
        let (guild, town, home, friend) = (word(&mut rng, 2), word(&mut rng, 3), word(&mut rng, 3), rng.choose(&names).clone());
        task.passages.push(format!(
            "{name}\n{name} works for {guild} Guild. {name} was born in {town}. {name} lives in {home}. A friend of {name} is {friend}."
        ));
        for question in
            [format!("Where was {name} born?"), format!("Who does {name} work for?"), format!("In which town does {name} live?")]
        {
            task.questions.push((question, vec![name.clone()]));
        }
    }
    task
}

#[test]
fn the_builtin_finds_documents_by_invented_names() {
    let [_, recall_at_4, ..] = judge("names builtin", &builtin(), &invented_names());
    assert!(recall_at_4 > 0.9, "recall@4 is {recall_at_4}");
}

#[test]
fn the_builtin_finds_documents_of_public_sets() {
    let Some(data) = folder_of("RAGFT_TEST_DATA") else { return };
    let embedder = builtin();
    assert!(judge("xquad builtin", &embedder, &xquad(&data))[3] > 0.75);
    assert!(judge("medquad builtin", &embedder, &medquad(&data))[3] > 0.65);
}

#[test]
fn the_real_encoder_finds_documents_of_public_sets() {
    let (Some(encoder), Some(data)) = (folder_of("RAGFT_TEST_MINILM"), folder_of("RAGFT_TEST_DATA")) else { return };
    let embedder = BertEmbedder::load(&encoder).unwrap();
    judge("names MiniLM", &embedder, &invented_names());
    assert!(judge("xquad MiniLM", &embedder, &xquad(&data))[3] > 0.85);
    assert!(judge("medquad MiniLM", &embedder, &medquad(&data))[3] > 0.7);
}
