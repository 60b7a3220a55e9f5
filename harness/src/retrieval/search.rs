//! From a question to its passages: one list or two, fused, and read again by a reranker.
//!
//! Every stage is timed apart. Beside every search over vectors stands its exact shadow: the same search with nothing but the index replaced by a
//! comparison with all vectors.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::bm25::{Bm25Index, Matches};
use super::embed::{CrossEncoder, PairScore, RetrievalEmbedder};
use super::fuse::fuse;
use super::hnsw::Found;
use super::index::check_top_k;
use super::store::{VectorIndex, distance_flops};
use super::{Chunk, Hit, RetrievalError, Retrieved};
use crate::clock::Stopwatch;
use crate::spec::{RetrievalSpec, SearchMethod};

/// Questions whose pairs are scored at a time: enough to fill every thread, few enough to lie in memory.
const QUESTIONS: usize = 32;

/// Operations per entry of a word's list: a weight is added.
const FLOPS_PER_POSTING: f64 = 1.0;

/// What can be searched, with the models behind it.
pub struct Retriever {
    pub(super) chunks: Vec<Chunk>,
    /// What a reranker reads of every chunk; empty without one.
    pub(super) passages: Vec<String>,
    pub(super) embedder: RetrievalEmbedder,
    pub(super) dense: Option<Box<dyn VectorIndex>>,
    pub(super) lexical: Option<Bm25Index>,
    pub(super) reranker: Option<CrossEncoder>,
    pub(super) spec: RetrievalSpec,
}

/// How many passages go from stage to stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Depths {
    /// Of each list.
    pub list: usize,
    /// Of what is left after fusing: what a reranker reads, or what is asked for.
    pub keep: usize,
}

impl Depths {
    /// To find `k` passages among `chunks`.
    pub fn of(spec: &RetrievalSpec, k: usize, chunks: usize) -> Self {
        let keep = if spec.reranker().is_some() { spec.rerank.candidates.max(k) } else { k };
        let list = if spec.search.method == SearchMethod::Hybrid { spec.search.candidates.max(k) } else { keep };
        Self { list: list.min(chunks), keep: keep.min(chunks) }
    }
}

/// The passages of one question before a reranker reads them.
struct Candidates {
    hits: Vec<Hit>,
    /// The same if the vectors had been searched exactly; empty without a shadow.
    exact: Vec<Hit>,
    dense_recall: Option<(usize, f64)>,
    flops: Option<f64>,
}

impl Retriever {
    /// All chunks; a [`Hit`] indexes into them.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// The embedder in use.
    pub fn embedder(&self) -> &RetrievalEmbedder {
        &self.embedder
    }

    /// The `k` best passages for one question, timed by stage. With `shadow`, exact search follows, outside of the times.
    ///
    /// # Errors
    /// [`RetrievalError::TopK`] when there are fewer than `k` chunks, and what the models and the store refuse.
    pub fn search(&self, question: &str, k: usize, shadow: bool) -> Result<Retrieved, RetrievalError> {
        check_top_k(k, self.chunks.len())?;
        let depths = Depths::of(&self.spec, k, self.chunks.len());
        let mut watch = Stopwatch::start();
        let mut times = Retrieved::default();
        let (mut found, mut matches, mut tokens, mut query) = (Found::default(), Matches::default(), 0, None);
        if let Some(index) = &self.dense {
            let embedding = self.embedder.queries(&[question])?.swap_remove(0);
            times.embed_ns = nanoseconds(&mut watch);
            found = index.search(&embedding.vector, depths.list)?;
            times.search_ns = nanoseconds(&mut watch);
            tokens = embedding.tokens;
            query = Some((index, embedding.vector));
        }
        if let Some(index) = &self.lexical {
            matches = index.search(question, depths.list);
        }
        let mut candidates = self.candidates(depths, &found, None, &matches, tokens);
        if self.lexical.is_some() {
            times.lexical_ns = nanoseconds(&mut watch);
        }
        let mut scores = self.pair_scores(&[(question, &candidates)])?.swap_remove(0);
        if self.reranker.is_some() {
            times.rerank_ns = nanoseconds(&mut watch);
        }
        if shadow {
            let exact = match query {
                Some((index, vector)) => index.exact(&[vector], depths.list)?.swap_remove(0),
                None => Vec::new(),
            };
            candidates = self.candidates(depths, &found, Some(&exact), &matches, tokens);
            scores = self.pair_scores(&[(question, &candidates)])?.swap_remove(0);
        }
        let Retrieved { embed_ns, search_ns, lexical_ns, rerank_ns, .. } = times;
        Ok(Retrieved { embed_ns, search_ns, lexical_ns, rerank_ns, ..self.retrieved(candidates, &scores, k) })
    }

    /// The `k` best passages for every question, in order, each with its exact shadow. Not timed: its times are zero.
    ///
    /// # Errors
    /// As [`Retriever::search`].
    pub fn search_batch(&self, questions: &[&str], k: usize) -> Result<Vec<Retrieved>, RetrievalError> {
        check_top_k(k, self.chunks.len())?;
        let depths = Depths::of(&self.spec, k, self.chunks.len());
        let n = questions.len();
        let (mut found, mut exact, mut tokens) = (vec![Found::default(); n], vec![Vec::new(); n], vec![0; n]);
        if let Some(index) = &self.dense {
            let (queries, counts): (Vec<_>, Vec<_>) =
                self.embedder.queries(questions)?.into_iter().map(|embedding| (embedding.vector, embedding.tokens)).unzip();
            found = index.search_batch(&queries, depths.list)?;
            exact = index.exact(&queries, depths.list)?;
            tokens = counts;
        }
        let matches: Vec<Matches> = match &self.lexical {
            Some(index) => questions.par_iter().map(|question| index.search(question, depths.list)).collect(),
            None => vec![Matches::default(); n],
        };
        let each = found.iter().zip(&exact).zip(&matches).zip(tokens);
        let candidates: Vec<Candidates> =
            each.map(|(((found, exact), matches), tokens)| self.candidates(depths, found, Some(exact), matches, tokens)).collect();
        let mut asked: Vec<(&str, Candidates)> = questions.iter().copied().zip(candidates).collect();
        let mut results = Vec::with_capacity(n);
        while !asked.is_empty() {
            let block: Vec<(&str, Candidates)> = asked.drain(..QUESTIONS.min(asked.len())).collect();
            let borrowed: Vec<(&str, &Candidates)> = block.iter().map(|(question, candidates)| (*question, candidates)).collect();
            let scores = self.pair_scores(&borrowed)?;
            results.extend(block.into_iter().zip(scores).map(|((_, candidates), scores)| self.retrieved(candidates, &scores, k)));
        }
        Ok(results)
    }

    /// What the search method makes of the lists. `exact` is the shadow of `found`, if there is to be one; `tokens` are the question's, as the
    /// embedder counts them.
    fn candidates(&self, depths: Depths, found: &Found, exact: Option<&[Hit]>, matches: &Matches, tokens: usize) -> Candidates {
        let words = matches.postings as f64 * FLOPS_PER_POSTING;
        let flops = match &self.dense {
            Some(_) => {
                self.embedder.flops(tokens).map(|embed| words + (embed + distance_flops(found.distances, self.embedder.dimension())))
            }
            None => Some(words),
        };
        let dense_recall =
            exact.filter(|_| !self.is_plain()).and_then(|exact| Some((exact.len(), recall(&found.hits, exact, exact.len())?)));
        let list = |dense: &[Hit]| match self.spec.search.method {
            SearchMethod::Dense => dense.to_vec(),
            // Nothing in it is approximate.
            SearchMethod::Bm25 => matches.hits.clone(),
            SearchMethod::Hybrid => fuse(&[dense, &matches.hits], self.spec.search.rrf_k, depths.keep),
        };
        let (hits, exact) = (list(&found.hits), exact.map(list).unwrap_or_default());
        Candidates { hits, exact, dense_recall, flops }
    }

    /// The index alone decides: no second list, no reranker.
    fn is_plain(&self) -> bool {
        self.spec.search.method == SearchMethod::Dense && self.reranker.is_none()
    }

    /// The reranker's score of every candidate of every question, by chunk; nothing without a reranker.
    fn pair_scores(&self, asked: &[(&str, &Candidates)]) -> Result<Vec<BTreeMap<usize, PairScore>>, RetrievalError> {
        let Some(reranker) = &self.reranker else { return Ok(vec![BTreeMap::new(); asked.len()]) };
        let chunks_of = |candidates: &Candidates| -> Vec<usize> {
            let mut chunks: Vec<usize> = candidates.hits.iter().chain(&candidates.exact).map(|hit| hit.chunk).collect();
            chunks.sort_unstable();
            chunks.dedup();
            chunks
        };
        let chunks: Vec<Vec<usize>> = asked.iter().map(|(_, candidates)| chunks_of(candidates)).collect();
        let mut pairs: Vec<(&str, &str)> = Vec::new();
        for ((question, _), chunks) in asked.iter().zip(&chunks) {
            pairs.extend(chunks.iter().map(|&chunk| (*question, self.passages[chunk].as_str())));
        }
        let mut scores = reranker.score(&pairs)?.into_iter();
        Ok(chunks.into_iter().map(|chunks| chunks.into_iter().zip(scores.by_ref()).collect()).collect())
    }

    /// The `k` best candidates, by the reranker's scores where there are some.
    fn retrieved(&self, candidates: Candidates, scores: &BTreeMap<usize, PairScore>, k: usize) -> Retrieved {
        let mut flops = candidates.flops;
        let mut top = |mut hits: Vec<Hit>, count: bool| {
            if let Some(reranker) = &self.reranker {
                if count {
                    let read: f64 = hits.iter().map(|hit| reranker.flops(scores[&hit.chunk].tokens)).sum();
                    flops = flops.map(|before| before + read);
                }
                let order = |hit: &Hit| scores[&hit.chunk];
                hits.sort_by(|left, right| order(right).logit.total_cmp(&order(left).logit).then(left.chunk.cmp(&right.chunk)));
                hits.iter_mut().for_each(|hit| hit.score = scores[&hit.chunk].score);
            }
            hits.truncate(k);
            hits
        };
        let (hits, exact) = (top(candidates.hits, true), top(candidates.exact, false));
        Retrieved { hits, exact, is_plain: self.is_plain(), dense_recall: candidates.dense_recall, flops, ..Retrieved::default() }
    }
}

fn nanoseconds(watch: &mut Stopwatch) -> u64 {
    u64::try_from(watch.lap().as_nanos()).unwrap_or(u64::MAX)
}

/// Mean over searches of the part of the exact top `k` that the index found, or nothing when no search had a shadow. A hit counts when it
/// scores no worse than the last of the exact ones, so equal scores cannot make a miss.
pub fn ann_recall(searches: &[Retrieved], k: usize) -> Option<f64> {
    let recalls: Vec<f64> = searches.iter().filter_map(|search| recall(&search.hits, &search.exact, k)).collect();
    (!recalls.is_empty()).then(|| recalls.iter().sum::<f64>() / recalls.len() as f64)
}

fn recall(hits: &[Hit], exact: &[Hit], k: usize) -> Option<f64> {
    let wanted = &exact[..k.min(exact.len())];
    let worst = wanted.last()?.score;
    let found = hits.iter().take(wanted.len()).filter(|hit| hit.score >= worst).count();
    Some(found as f64 / wanted.len() as f64)
}
