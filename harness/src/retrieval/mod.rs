//! From a question to passages: chunk, embed, index, search; exact search shadows the index on every query.

use serde::{Deserialize, Serialize};

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
    /// Cosine similarity to the question.
    pub score: f32,
}

/// What one search gave, and how long its stages took.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Retrieved {
    /// Best first, from the index in use.
    pub hits: Vec<Hit>,
    /// Best first, from exact search over the same vectors (empty in a timed search, which does not pay for the shadow).
    pub exact: Vec<Hit>,
    /// Time to embed the question.
    pub embed_ns: u64,
    /// Time to search the index.
    pub search_ns: u64,
}

/// Turns texts into unit vectors of one dimension.
pub trait Embedder: Send + Sync {
    /// Length of a vector.
    fn dimension(&self) -> usize;

    /// One unit-length vector per text, in order. Equal texts give equal vectors whatever else is in the batch.
    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, RetrievalError>;

    /// Number of tokens the embedder reads of a text (after its own truncation): the unit of its cost.
    fn count_tokens(&self, text: &str) -> usize;

    /// Floating-point operations to embed a text of `tokens` tokens.
    fn flops(&self, tokens: usize) -> f64;

    /// BLAKE3 over weights, tokenizer and pooling settings.
    fn hash(&self) -> &str;
}

/// What can go wrong between a corpus and its passages.
#[derive(Debug, thiserror::Error)]
pub enum RetrievalError {
    /// The embedder's folder is unusable.
    #[error("embedder `{path}`: {problem}")]
    Embedder {
        /// Folder or name.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A tensor operation failed.
    #[error("embedding failed")]
    Tensor(#[source] candle_core::Error),
}
