//! In words: how passages were found, and what is kept for it.

use crate::report::format;
use crate::spec::{RetrievalSpec, SearchMethod};
use crate::store::manifest::{IndexRecord, Manifest};

/// What the retrieval section says before its table.
pub(super) fn paragraphs(manifest: &Manifest) -> Vec<String> {
    let spec = &manifest.spec.retrieval;
    let mut paragraphs = Vec::new();
    paragraphs.extend(method(spec));
    if spec.search.method.is_dense() {
        paragraphs.push(
            "ANN recall is the share of passages from the index that exact search over the same vectors has too: what the index itself loses."
                .to_owned(),
        );
    }
    if let Some(index) = &manifest.index {
        paragraphs.extend(vectors(index));
        paragraphs.extend(words(index));
    }
    paragraphs
}

/// How passages were ranked, where it is not by an index of vectors alone.
fn method(spec: &RetrievalSpec) -> Option<String> {
    let (search, bm25) = (&spec.search, &spec.bm25);
    let words = format!("BM25 (k1 {}, b {})", bm25.k1, bm25.b);
    let first = match search.method {
        SearchMethod::Dense => "the similarity of vectors".to_owned(),
        SearchMethod::Bm25 => words,
        SearchMethod::Hybrid => {
            let (candidates, constant) = (search.candidates, search.rrf_k);
            format!(
                "reciprocal rank fusion (constant {constant}) of {candidates} passages by the similarity of vectors and {candidates} by {words}"
            )
        }
    };
    match (spec.reranker(), search.method) {
        (None, SearchMethod::Dense) => None,
        (None, _) => Some(format!("Passages are ranked by {first}.")),
        (Some(model), _) => Some(format!(
            "The first {} passages by {first} are ranked anew by the cross-encoder {}, which reads each together with the question.",
            spec.rerank.candidates,
            model.display()
        )),
    }
}

fn vectors(index: &IndexRecord) -> Option<String> {
    let passages = format::count(index.chunks as f64);
    let bytes = format::bytes(index.bytes as f64);
    match &index.store {
        _ if index.dimension == 0 => None,
        None => Some(format!(
            "The index holds {passages} passages as vectors of {} numbers in {bytes}; {} of them cannot be reached by any search.",
            index.dimension, index.unreachable
        )),
        Some(store) => Some(format!(
            "The index holds {passages} passages as vectors of {} numbers in {bytes}, texts included, in table {} of {} ({}){}. How many of them \
             no search can reach is not known there.",
            index.dimension,
            store.name,
            store.address,
            store.server,
            if store.reused { ", built by an earlier run" } else { "" }
        )),
    }
}

fn words(index: &IndexRecord) -> Option<String> {
    let lexical = index.lexical.as_ref()?;
    Some(format!(
        "The index of words holds {} distinct words, {} entries, in {}; it took {} to build.",
        format::count(lexical.terms as f64),
        format::count(lexical.postings as f64),
        format::bytes(lexical.bytes as f64),
        format::duration(lexical.seconds)
    ))
}

/// One line for the facts of a run.
pub(super) fn settings(spec: &RetrievalSpec) -> String {
    let hnsw = &spec.hnsw;
    let mut text = format!("{} passages per question", spec.top_k);
    if spec.search.method.is_dense() {
        let embedder =
            if spec.endpoint.is_set() { format!("{} behind a server", spec.endpoint.model) } else { spec.embedder.display().to_string() };
        text.push_str(&format!(
            ", embedder {embedder}, HNSW m {}, ef_construction {}, ef_search {}",
            hnsw.m, hnsw.ef_construction, hnsw.ef_search
        ));
    }
    if !spec.store.is_memory() {
        text.push_str(&format!(", vectors in {}", spec.store));
    }
    if spec.search.method.is_lexical() {
        text.push_str(&format!(", BM25 k1 {}, b {}", spec.bm25.k1, spec.bm25.b));
    }
    if spec.search.method == SearchMethod::Hybrid {
        text.push_str(&format!(", fused from {} each, constant {}", spec.search.candidates, spec.search.rrf_k));
    }
    if let Some(model) = spec.reranker() {
        text.push_str(&format!(", {} reranked by {}", spec.rerank.candidates, model.display()));
    }
    text
}
