//! How well the embedders find documents, by exact search over whole documents. Figures are printed; bounds are held. The public sets are
//! read from the folder that `RAGFT_TEST_DATA` names, and all-MiniLM-L6-v2 from `RAGFT_TEST_MINILM`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::embed::BertEmbedder;
use super::vector::Vectors;
use super::{Embedder, Embedding, Hit, RetrievalError, Retriever, SearchModels, ann_recall, builtin, exact};
use crate::dataset::{self, Dataset};
use crate::rng::Rng;
use crate::score::score_ranking;
use crate::spec::{self, RetrievalSpec, SearchMethod};

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

/// A public set as a run reads it, with the spec's own chunks. The length of a chunk is counted in words, of which 96 are about 128 tokens.
struct Set {
    name: &'static str,
    dataset: Dataset,
}

fn set(name: &'static str, text: &str, data: &Path) -> Set {
    let spec = spec::read(text, &[]).unwrap();
    Set { name, dataset: dataset::load(&spec.dataset, 1, data).unwrap() }
}

fn squad_and_medquad(data: &Path) -> [Set; 2] {
    let medquad = "[dataset]\npath = \"medquad-a/qa_test.jsonl\"\nformat = \"jsonl\"\ndocuments = \"medquad-a/documents.jsonl\"\n\
                   train = \"medquad-a/qa_train.jsonl\"\noverlap = \"report\"\n[dataset.columns]\nreferences = \"answer\"\nrelevant = \"doc_ids\"\n";
    [set("squad2", "[dataset]\npath = \"squad2-dev-a/squad2-dev-a.json\"\nformat = \"squad\"\n", data), set("medquad", medquad, data)]
}

/// Embeds a text once, however many indices are built of it.
struct Remembering {
    inner: Box<dyn Embedder>,
    known: Mutex<BTreeMap<String, Embedding>>,
}

#[derive(Clone)]
struct Shared(Arc<Remembering>);

impl Shared {
    fn new(inner: impl Embedder + 'static) -> Self {
        Self(Arc::new(Remembering { inner: Box::new(inner), known: Mutex::default() }))
    }
}

impl Embedder for Shared {
    fn dimension(&self) -> usize {
        self.0.inner.dimension()
    }

    fn embed_counted(&self, texts: &[&str]) -> Result<Vec<Embedding>, RetrievalError> {
        let mut known = self.0.known.lock().unwrap();
        let new: Vec<&str> = texts.iter().copied().filter(|text| !known.contains_key(*text)).collect();
        let embeddings = self.0.inner.embed_counted(&new)?;
        known.extend(new.into_iter().map(str::to_owned).zip(embeddings));
        Ok(texts.iter().map(|text| known[*text].clone()).collect())
    }

    fn flops(&self, tokens: usize) -> Option<f64> {
        self.0.inner.flops(tokens)
    }

    fn hash(&self) -> &str {
        self.0.inner.hash()
    }
}

fn search_spec(method: SearchMethod, store: &str) -> RetrievalSpec {
    let mut spec = spec::read("", &[]).unwrap().retrieval;
    spec.chunk.max_tokens = 96;
    spec.search.method = method;
    spec.store = store.to_owned().try_into().unwrap();
    spec
}

/// Means of recall@4, MRR, nDCG@4 and exact recall@4, and the recall of the list of vectors; 1 without one.
fn judge_search(set: &Set, label: &str, spec: &RetrievalSpec, embedder: &Shared) -> ([f64; 4], f64) {
    let embedder: Box<dyn Embedder> = Box::new(embedder.clone());
    let models = SearchModels { embedder: embedder.into(), reranker: None };
    let words = |text: &str| text.split_whitespace().count();
    let (retriever, figures) = Retriever::build(&set.dataset.documents, spec, models, &words).unwrap();
    let asked: Vec<_> = set.dataset.test.iter().filter(|sample| !sample.relevant.is_empty()).collect();
    let questions: Vec<&str> = asked.iter().map(|sample| sample.question.as_str()).collect();
    let found = retriever.search_batch(&questions, 4).unwrap();
    let mut means = [0.0; 4];
    for (sample, found) in asked.iter().zip(&found) {
        let ids = |hits: &[Hit]| -> Vec<&str> { hits.iter().map(|hit| retriever.chunks()[hit.chunk].document_id.as_str()).collect() };
        let scores = score_ranking(&ids(&found.hits), &sample.relevant, &[4]);
        let exact = score_ranking(&ids(&found.exact), &sample.relevant, &[4]);
        for (mean, score) in means.iter_mut().zip([scores["recall_at_4"], scores["mrr"], scores["ndcg_at_4"], exact["recall_at_4"]]) {
            *mean += score / asked.len() as f64;
        }
    }
    let recalls: Vec<f64> = found.iter().filter_map(|found| found.dense_recall.map(|(_, recall)| recall)).collect();
    let ann = if recalls.is_empty() { ann_recall(&found, 4).unwrap() } else { recalls.iter().sum::<f64>() / recalls.len() as f64 };
    let mut times: Vec<f64> = questions.iter().take(100).map(|question| milliseconds(&retriever, question)).collect();
    times.sort_by(f64::total_cmp);
    let [recall, mrr, ndcg, exact] = means;
    eprintln!(
        "{:<8} {label:<22} {} questions, {} passages: recall@4 {recall:.4}  MRR {mrr:.4}  nDCG@4 {ndcg:.4}  exact recall@4 {exact:.4}  ANN recall \
         {ann:.4}  median {:.2} ms  set-up {:.1} s embedding, {:.1} s graph, {:.2} s words",
        set.name,
        questions.len(),
        figures.chunks,
        times[times.len() / 2],
        figures.embed_seconds,
        figures.build_seconds,
        figures.lexical.map_or(0.0, |lexical| lexical.seconds),
    );
    (means, ann)
}

/// All stages of one search.
fn milliseconds(retriever: &Retriever, question: &str) -> f64 {
    let found = retriever.search(question, 4, false).unwrap();
    (found.embed_ns + found.search_ns + found.lexical_ns + found.rerank_ns) as f64 / 1e6
}

#[test]
fn ways_of_searching_on_public_sets() {
    let Some(data) = folder_of("RAGFT_TEST_DATA") else { return };
    let mut embedders = vec![("builtin", Shared::new(builtin()), 0.6)];
    embedders.extend(folder_of("RAGFT_TEST_MINILM").map(|folder| ("MiniLM", Shared::new(BertEmbedder::load(&folder).unwrap()), 0.8)));
    for set in squad_and_medquad(&data) {
        let ([lexical, ..], _) = judge_search(&set, "bm25", &search_spec(SearchMethod::Bm25, "memory"), &embedders[0].1);
        assert!(lexical > 0.8);
        for (name, embedder, bound) in &embedders {
            for (label, method) in [("dense", SearchMethod::Dense), ("hybrid", SearchMethod::Hybrid)] {
                let ([recall, ..], ann) = judge_search(&set, &format!("{label} {name}"), &search_spec(method, "memory"), embedder);
                // A list to be fused is 100 passages long, and the index looks at no more candidates than that.
                let least = if method == SearchMethod::Dense { 0.99 } else { 0.97 };
                assert!(recall > *bound && ann > least, "{label} {name}: {recall}, {ann}");
            }
        }
    }
}

/// `RAGFT_TEST_POSTGRES` is the address of a server with pgvector (`harness/tests/fixtures/postgres.py` starts one).
#[test]
fn pgvector_loses_less_than_a_point_of_recall_on_public_sets() {
    let Some(data) = folder_of("RAGFT_TEST_DATA") else { return };
    let Ok(address) = std::env::var("RAGFT_TEST_POSTGRES") else { return eprintln!("skipped: RAGFT_TEST_POSTGRES is not set") };
    let embedder = match folder_of("RAGFT_TEST_MINILM") {
        Some(folder) => Shared::new(BertEmbedder::load(&folder).unwrap()),
        None => Shared::new(builtin()),
    };
    for set in squad_and_medquad(&data) {
        let judge = |label: &str, store: &str| judge_search(&set, label, &search_spec(SearchMethod::Dense, store), &embedder);
        let ([memory, .., exact_in_memory], _) = judge("memory", "memory");
        let (means, ann) = judge("pgvector", &address);
        let [recall, .., exact] = means;
        assert!((recall - exact).abs() < 0.01 && (recall - memory).abs() < 0.01 && ann > 0.99);
        assert!((exact - exact_in_memory).abs() < 2e-3, "one set of vectors, compared by two programs");
        assert_eq!(judge("pgvector, kept", &address), (means, ann), "the index of before answers as before");
    }
}
