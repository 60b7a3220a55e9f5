//! The ways of searching, over a corpus small enough to know what each must find.

use super::{CrossEncoder, Embedder, Retrieved, Retriever, SearchModels, builtin};
use crate::dataset::Document;
use crate::spec::{self, RetrievalSpec, SearchMethod};

fn spec(change: impl FnOnce(&mut RetrievalSpec)) -> RetrievalSpec {
    let mut spec = spec::read("", &[]).unwrap().retrieval;
    spec.top_k = 3;
    change(&mut spec);
    spec
}

/// Forty towns that differ in their names and numbers alone: words tell them apart, static vectors hardly do.
fn documents() -> Vec<Document> {
    let of = |number: usize| Document {
        id: format!("town{number}"),
        title: format!("Town {number}"),
        text: format!(
            "Town {number} has {} inhabitants and a mayor whose badge has the number X{}Q.",
            1000 + 37 * number,
            7919 * (number + 1)
        ),
        date: None,
    };
    (0..40).map(of).collect()
}

fn fixture(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn build(spec: &RetrievalSpec) -> Retriever {
    let embedder: Box<dyn Embedder> = Box::new(builtin());
    let reranker = spec.reranker().map(|path| (CrossEncoder::load(path).unwrap(), 0.0));
    let models = SearchModels { embedder: embedder.into(), reranker };
    Retriever::build(&documents(), spec, models, &|text| text.split_whitespace().count()).unwrap().0
}

fn badge(number: usize) -> String {
    format!("Whose badge is X{}Q?", 7919 * (number + 1))
}

/// A batch gives what single searches give, but for times and shadows.
fn batch(retriever: &Retriever, questions: &[&str], k: usize) -> Vec<Retrieved> {
    let batch = retriever.search_batch(questions, k).unwrap();
    for (question, from_batch) in questions.iter().zip(&batch) {
        let alone = retriever.search(question, k, false).unwrap();
        assert!(alone.exact.is_empty() && alone.dense_recall.is_none());
        assert_eq!((&alone.hits, alone.flops), (&from_batch.hits, from_batch.flops), "{question}");
        let shadowed = retriever.search(question, k, true).unwrap();
        let timeless = Retrieved { embed_ns: 0, search_ns: 0, lexical_ns: 0, rerank_ns: 0, ..shadowed };
        assert_eq!(&timeless, from_batch, "{question}");
    }
    batch
}

#[test]
fn words_find_what_they_name_and_have_a_stage_of_their_own() {
    let retriever = build(&spec(|spec| spec.search.method = SearchMethod::Bm25));
    for number in [0, 17, 39] {
        let found = retriever.search(&badge(number), 3, false).unwrap();
        assert_eq!(retriever.chunks()[found.hits[0].chunk].document_id, format!("town{number}"));
        assert!(found.lexical_ns > 0 && (found.embed_ns, found.search_ns, found.rerank_ns) == (0, 0, 0));
        assert!(!found.is_plain && found.flops.unwrap() > 0.0);
    }
    // Nothing is approximate, so the shadow is the list itself; a question without known words finds nothing.
    let found = batch(&retriever, &[&badge(3), "zebra"], 3);
    assert_eq!((&found[0].hits, found[0].dense_recall), (&found[0].exact, None));
    assert!(found[1].hits.is_empty() && found[1].exact.is_empty());
}

#[test]
fn a_fused_list_has_what_either_list_has_first() {
    let dense = build(&spec(|_| {}));
    let lexical = build(&spec(|spec| spec.search.method = SearchMethod::Bm25));
    let hybrid = build(&spec(|spec| (spec.search.method, spec.search.candidates) = (SearchMethod::Hybrid, 10)));
    let questions: Vec<String> = [2, 11, 30].map(badge).to_vec();
    let questions: Vec<&str> = questions.iter().map(String::as_str).collect();
    for (question, found) in questions.iter().zip(batch(&hybrid, &questions, 20)) {
        let first = |retriever: &Retriever| retriever.search(question, 1, false).unwrap().hits[0].chunk;
        let top: Vec<usize> = found.hits.iter().map(|hit| hit.chunk).collect();
        assert!(top.contains(&first(&dense)) && top[..3].contains(&first(&lexical)), "{question}: {top:?}");
        // The list of vectors is as long as what is asked for, and the index loses nothing of it here.
        assert_eq!(found.dense_recall, Some((20, 1.0)));
        assert_eq!(found.hits, found.exact);
        assert!(!found.is_plain);
    }
    let times = hybrid.search(questions[0], 3, false).unwrap();
    assert!(times.embed_ns > 0 && times.search_ns > 0 && times.lexical_ns > 0 && times.rerank_ns == 0);
}

#[test]
fn a_reranker_orders_the_candidates_by_its_own_scores() {
    let first = build(&spec(|spec| spec.search.method = SearchMethod::Bm25));
    let reranked = build(&spec(|spec| {
        spec.search.method = SearchMethod::Bm25;
        spec.rerank.model = fixture("retrieval/cross_encoder");
        spec.rerank.candidates = 10;
    }));
    let model = CrossEncoder::load(&fixture("retrieval/cross_encoder")).unwrap();
    for number in [4, 25] {
        let question = badge(number);
        let candidates = first.search(&question, 10, false).unwrap().hits;
        let text = |chunk: usize| format!("{}\n{}", first.chunks()[chunk].title, first.chunks()[chunk].text);
        let mut expected: Vec<(usize, f32)> =
            candidates.iter().map(|hit| (hit.chunk, model.score(&[(&question, &text(hit.chunk))]).unwrap()[0].score)).collect();
        expected.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(&right.0)));
        let found = batch(&reranked, &[&question], 3).remove(0);
        assert_eq!(found.hits.iter().map(|hit| (hit.chunk, hit.score)).collect::<Vec<_>>(), expected[..3]);
        let timed = reranked.search(&question, 3, false).unwrap();
        assert!(timed.rerank_ns > 0 && timed.lexical_ns > 0);
        assert!(timed.flops.unwrap() > 10.0 * model.flops(20), "ten pairs are counted");
    }
}

#[test]
fn vectors_that_are_reranked_are_shadowed_before_the_reranker() {
    let retriever = build(&spec(|spec| {
        spec.rerank.model = fixture("retrieval/cross_encoder");
        spec.rerank.candidates = 12;
    }));
    for found in batch(&retriever, &["Who is the mayor of town 5?", "inhabitants", ""], 3) {
        assert_eq!(found.dense_recall.map(|(length, _)| length), Some(12));
        assert_eq!((found.hits.len(), found.exact.len(), found.is_plain), (3, 3, false));
    }
}

#[test]
fn lists_are_never_longer_than_the_corpus() {
    for method in [SearchMethod::Dense, SearchMethod::Bm25, SearchMethod::Hybrid] {
        let retriever = build(&spec(|spec| {
            spec.search.method = method;
            spec.rerank.model = fixture("retrieval/cross_encoder");
            spec.rerank.candidates = 500;
            spec.search.candidates = 500;
        }));
        assert_eq!(retriever.search("town", 40, true).unwrap().hits.len(), 40, "{method:?}");
        assert!(retriever.search("town", 41, true).is_err());
    }
}
