//! Where vectors lie and are searched. A store keeps the vectors of a corpus under a name and answers with an index over them; the one in memory
//! is here, and a server's is a file of its own beside it (`pgvector_store.rs`).

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::embed::RetrievalEmbedder;
use super::hnsw::{Found, HnswIndex};
use super::vector::Vectors;
use super::{Hit, RetrievalError, exact};
use crate::clock::Stopwatch;
use crate::spec::HnswSpec;

/// A place that keeps vectors.
pub trait VectorStore {
    /// The index that an earlier run left under this name, if the store keeps indices and has it whole.
    fn find(&self, name: &str) -> Result<Option<OpenIndex>, RetrievalError>;

    /// Embeds all passages, keeps their vectors under `name` and builds the graph over them.
    fn build(&self, name: &str, passages: &mut EmbeddedPassages) -> Result<OpenIndex, RetrievalError>;
}

/// Vectors that can be searched. Rows are numbered in the order in which the passages were given.
pub trait VectorIndex: Send + Sync {
    /// About the `k` rows most similar to a unit vector, best first, ties by row.
    fn search(&self, query: &[f32], k: usize) -> Result<Found, RetrievalError>;

    /// [`VectorIndex::search`] for every query, in order.
    fn search_batch(&self, queries: &[Vec<f32>], k: usize) -> Result<Vec<Found>, RetrievalError>;

    /// The `k` most similar rows for every query, by comparing with all.
    fn exact(&self, queries: &[Vec<f32>], k: usize) -> Result<Vec<Vec<Hit>>, RetrievalError>;
}

/// An index, and what it is and cost.
pub struct OpenIndex {
    /// To be searched.
    pub index: Box<dyn VectorIndex>,
    /// What it is and cost when it was built.
    pub figures: DenseFigures,
    /// Where a server keeps it; nothing for memory.
    pub kept: Option<Kept>,
}

/// What a server keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The server's own name and version.
    pub server: String,
    /// The table or collection.
    pub name: String,
    /// It was there already: its figures are those of the run that built it.
    pub reused: bool,
}

/// What an index over vectors is and cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DenseFigures {
    /// Length of a vector.
    pub dimension: usize,
    /// Tokens that the embedder read.
    pub embed_tokens: u64,
    /// Operations of embedding the corpus; nothing where a server embeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embed_flops: Option<f64>,
    /// Wall time of embedding.
    pub embed_seconds: f64,
    /// Operations of building the graph, where they can be counted, else zero.
    pub build_flops: f64,
    /// Wall time of storing the vectors and building the graph.
    pub build_seconds: f64,
    /// Vectors and graph.
    pub bytes: u64,
    /// Rows that no search from the entry point can reach, where it can be known, else zero.
    pub unreachable: usize,
    /// BLAKE3 of the graph's links, or of the vectors where the graph cannot be seen.
    pub hash: String,
}

/// The passages of a corpus on their way to a store: embedded when they are asked for, a batch at a time.
pub struct EmbeddedPassages<'a> {
    embedder: &'a RetrievalEmbedder,
    texts: &'a [&'a str],
    next: usize,
    tokens: u64,
    flops: Option<f64>,
    seconds: f64,
    spec: &'a HnswSpec,
}

impl<'a> EmbeddedPassages<'a> {
    /// All of `texts`, for an index with these settings.
    pub fn new(embedder: &'a RetrievalEmbedder, texts: &'a [&'a str], spec: &'a HnswSpec) -> Self {
        Self { embedder, texts, next: 0, tokens: 0, flops: Some(0.0), seconds: 0.0, spec }
    }

    /// Passages, embedded or not.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Length of a vector.
    pub fn dimension(&self) -> usize {
        self.embedder.dimension()
    }

    /// Settings of the graph.
    pub fn hnsw(&self) -> &HnswSpec {
        self.spec
    }

    /// The vectors of the next `count` passages, fewer at the end, none after it.
    pub fn next(&mut self, count: usize) -> Result<Vec<Vec<f32>>, RetrievalError> {
        let watch = Stopwatch::start();
        let batch = &self.texts[self.next..self.texts.len().min(self.next.saturating_add(count))];
        let embeddings = self.embedder.passages(batch)?;
        self.next += batch.len();
        for embedding in &embeddings {
            self.tokens += embedding.tokens as u64;
            self.flops = self.flops.zip(self.embedder.flops(embedding.tokens)).map(|(before, more)| before + more);
        }
        self.seconds += watch.elapsed().as_secs_f64();
        Ok(embeddings.into_iter().map(|embedding| embedding.vector).collect())
    }

    /// What has been embedded so far, the store's own figures left at zero.
    pub fn figures(&self) -> DenseFigures {
        DenseFigures {
            dimension: self.dimension(),
            embed_tokens: self.tokens,
            embed_flops: self.flops,
            embed_seconds: self.seconds,
            build_flops: 0.0,
            build_seconds: 0.0,
            bytes: 0,
            unreachable: 0,
            hash: String::new(),
        }
    }
}

/// This process's memory: vectors, and a graph of `hnsw_rs` over them. It keeps nothing.
pub struct Memory;

struct MemoryIndex {
    vectors: Vectors,
    graph: HnswIndex,
}

impl VectorStore for Memory {
    fn find(&self, _name: &str) -> Result<Option<OpenIndex>, RetrievalError> {
        Ok(None)
    }

    fn build(&self, _name: &str, passages: &mut EmbeddedPassages) -> Result<OpenIndex, RetrievalError> {
        let rows = passages.next(usize::MAX)?;
        let mut watch = Stopwatch::start();
        let vectors = Vectors::from_rows(passages.dimension(), &rows);
        drop(rows);
        let copy_seconds = watch.lap().as_secs_f64();
        let graph = HnswIndex::build(&vectors, passages.hnsw())?;
        let build_seconds = watch.lap().as_secs_f64();
        let embedded = passages.figures();
        let figures = DenseFigures {
            embed_seconds: embedded.embed_seconds + copy_seconds,
            build_flops: distance_flops(graph.build_distances(), vectors.dimension()),
            build_seconds,
            bytes: vectors.bytes() + graph.bytes(&vectors),
            unreachable: graph.unreachable().len(),
            hash: graph.hash(),
            ..embedded
        };
        Ok(OpenIndex { index: Box::new(MemoryIndex { vectors, graph }), figures, kept: None })
    }
}

impl VectorIndex for MemoryIndex {
    fn search(&self, query: &[f32], k: usize) -> Result<Found, RetrievalError> {
        Ok(self.graph.search(&self.vectors, query, k))
    }

    fn search_batch(&self, queries: &[Vec<f32>], k: usize) -> Result<Vec<Found>, RetrievalError> {
        Ok(queries.par_iter().map(|query| self.graph.search(&self.vectors, query, k)).collect())
    }

    fn exact(&self, queries: &[Vec<f32>], k: usize) -> Result<Vec<Vec<Hit>>, RetrievalError> {
        Ok(match queries {
            [query] => vec![exact::search(&self.vectors, query, k)],
            queries => exact::search_batch(&self.vectors, queries, k),
        })
    }
}

/// Operations of computing distances.
pub(super) fn distance_flops(distances: u64, dimension: usize) -> f64 {
    distances as f64 * 2.0 * dimension as f64
}
