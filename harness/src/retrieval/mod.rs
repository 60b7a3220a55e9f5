//! From a question to passages: chunk, embed, index, search, rerank; exact search shadows the index on every query.

pub mod bm25;
pub mod chunk;
pub mod embed;
mod error;
pub mod exact;
pub mod fuse;
pub mod hnsw;
mod index;
pub mod pgvector_store;
mod pgvector_tls;
#[cfg(test)]
mod quality_tests;
mod search;
#[cfg(test)]
mod search_tests;
pub mod store;
pub mod vector;
mod words;

use serde::{Deserialize, Serialize};

pub use embed::{
    BUILTIN, CrossEncoder, DistillConfig, Distilled, PairScore, RetrievalEmbedder, StaticEmbedder, builtin, check_embedder, check_reranker,
    distill, load_embedder, prefixes,
};
pub use error::RetrievalError;
pub use index::{IndexFigures, SearchModels, check_store};
pub use search::{Retriever, ann_recall};

/// A retrieved piece of a document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// `document_id` and the chunk's number in it, as `doc#3`.
    pub id: String,
    /// The document it was cut from.
    pub document_id: String,
    /// The document's title.
    pub title: String,
    /// The chunk's text, without the title.
    pub text: String,
}

/// One search result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hit {
    /// Index into the chunk list of the retriever that made it.
    pub chunk: usize,
    /// By what ranked it: cosine similarity, BM25, the fused sum of reciprocal ranks, or the reranker's score.
    pub score: f32,
}

/// What one search gave, and how long its stages took.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Retrieved {
    /// Best first, from the index in use.
    pub hits: Vec<Hit>,
    /// Best first, from the same search with the vectors compared exactly (empty in a timed search, which does not pay for the shadow).
    pub exact: Vec<Hit>,
    /// Vectors alone decided, so `hits` and `exact` have scores of one kind and can be compared one by one.
    pub is_plain: bool,
    /// Where they did not: length of the list of vectors that was fused or reranked, and the share of the exact one that it had.
    pub dense_recall: Option<(usize, f64)>,
    /// Time to embed the question; zero in a batch, which is not timed.
    pub embed_ns: u64,
    /// Time to search the index; zero in a batch, which is not timed.
    pub search_ns: u64,
    /// Time to search by words and to fuse both lists; zero without them and in a batch.
    pub lexical_ns: u64,
    /// Time to read the candidates again; zero without a reranker and in a batch.
    pub rerank_ns: u64,
    /// Floating-point operations of embedding the question (analytic), of searching (distances counted, two operations per dimension each;
    /// weights of words added) and of reranking (analytic); those of the shadow are left out. Nothing where a server embeds.
    pub flops: Option<f64>,
}

/// A text as its embedder sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// Of unit length. A text in which the embedder knows nothing may give the zero vector, which resembles no other.
    pub vector: Vec<f32>,
    /// Number of tokens read (after the embedder's own truncation): the unit of its cost.
    pub tokens: usize,
}

/// Turns texts into unit vectors of one dimension.
pub trait Embedder: Send + Sync {
    /// Length of a vector.
    fn dimension(&self) -> usize;

    /// One embedding per text, in order. Equal texts give equal vectors whatever else is in the batch.
    fn embed_counted(&self, texts: &[&str]) -> Result<Vec<Embedding>, RetrievalError>;

    /// [`Embedder::embed_counted`], the vectors alone.
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, RetrievalError> {
        Ok(self.embed_counted(texts)?.into_iter().map(|embedding| embedding.vector).collect())
    }

    /// Floating-point operations to embed a text of `tokens` tokens; nothing where they are not known.
    fn flops(&self, tokens: usize) -> Option<f64>;

    /// BLAKE3 over weights, tokenizer and pooling settings; of a server, over what it is asked.
    fn hash(&self) -> &str;

    /// Tokens that a server counted so far; nothing where no server embeds.
    fn tokens_charged(&self) -> Option<u64> {
        None
    }
}
