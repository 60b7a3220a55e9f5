//! What can go wrong between a corpus and its passages.

use crate::diagnostic::{Blame, Hint};
use crate::lm::remote::RemoteError;

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
    /// The server that embeds gave no answer.
    #[error("`retrieval.endpoint` cannot be used")]
    Remote(#[from] RemoteError),
    /// The reranker's folder is unusable.
    #[error("reranker `{path}`: {problem}")]
    Reranker {
        /// Folder.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The store of vectors cannot be used.
    #[error("store `{address}` {problem}")]
    Store {
        /// The address, its password hidden.
        address: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        mend: String,
    },
    /// A vector has fewer components than are to be kept.
    #[error("retrieval.embedding.dimensions is {asked}, but the embedder's vectors have {own}")]
    Dimensions {
        /// `retrieval.embedding.dimensions`.
        asked: usize,
        /// There are.
        own: usize,
    },
    /// A file of the embedder cannot be read or written.
    #[error("cannot access `{path}`")]
    File {
        /// The file.
        path: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The overlap would leave no room for new text.
    #[error("chunks of {max_tokens} tokens cannot overlap by {overlap_tokens}")]
    Overlap {
        /// `retrieval.chunk.max_tokens`.
        max_tokens: usize,
        /// `retrieval.chunk.overlap_tokens`.
        overlap_tokens: usize,
    },
    /// No document holds any text.
    #[error("the corpus of {documents} documents holds no text to retrieve from")]
    NoText {
        /// Documents looked at.
        documents: usize,
    },
    /// More passages are asked for than there are.
    #[error("retrieval.top_k is {top_k} but the corpus has only {chunks} chunks")]
    TopK {
        /// Asked for.
        top_k: usize,
        /// There are.
        chunks: usize,
    },
    /// A graph cannot be built with this many links.
    #[error("retrieval.hnsw.m is {m}, expected 2 to 256")]
    Links {
        /// `retrieval.hnsw.m`.
        m: usize,
    },
    /// The embedder gave a vector that is not finite.
    #[error("the embedder gave a vector with an infinite or undefined component for text {index}")]
    NotFinite {
        /// Index of the text in the order given.
        index: usize,
    },
    /// The tokenizer refused a text.
    #[error("tokenizer of the embedder failed: {problem}")]
    Tokenizer {
        /// What the tokenizer says, one line.
        problem: String,
    },
    /// The tokenizer knows a token that the weights do not.
    #[error("the embedder's tokenizer gave token {token}, but its weights have only {vocabulary} tokens")]
    Token {
        /// The token's id.
        token: u32,
        /// Rows of the embedding.
        vocabulary: usize,
    },
}

impl RetrievalError {
    /// Whether the request or the run is at fault.
    pub fn blame(&self) -> Blame {
        match self {
            Self::NotFinite { .. } | Self::Tokenizer { .. } | Self::Remote(_) => Blame::Runtime,
            _ => Blame::Request,
        }
    }

    /// The server's error after which no other text would fare better.
    pub fn stops(&self) -> Option<&RemoteError> {
        match self {
            Self::Remote(error) if error.is_final() => Some(error),
            _ => None,
        }
    }

    /// An unusable embedder.
    pub(super) fn embedder(path: impl std::fmt::Display, problem: impl Into<String>) -> Self {
        Self::Embedder { path: path.to_string(), problem: problem.into() }
    }

    /// The same for a reranker, whose folder is read by the same means.
    pub(super) fn of_reranker(self) -> Self {
        match self {
            Self::Embedder { path, problem } => Self::Reranker { path, problem },
            other => other,
        }
    }
}

impl Hint for RetrievalError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Embedder { .. } => Some(
                "`retrieval.embedder` is `builtin`, a sentence-transformers folder of BERT or RoBERTa class (`config.json`, `tokenizer.json`, \
                 `model.safetensors`, `modules.json`, `1_Pooling/config.json`) or a Model2Vec folder"
                    .into(),
            ),
            Self::Remote(error) => error.hint(),
            Self::Reranker { .. } => Some(
                "`retrieval.rerank.model` is a sentence-transformers cross-encoder folder of BERT or RoBERTa class with one label \
                 (`config.json`, `tokenizer.json`, `model.safetensors`), or empty for none"
                    .into(),
            ),
            Self::Store { mend, .. } => Some(mend.clone()),
            Self::Dimensions { own, .. } => Some(format!("set `retrieval.embedding.dimensions` to {own} or less, or to 0 for all")),
            Self::Overlap { max_tokens, .. } => Some(format!("set `retrieval.chunk.overlap_tokens` below {max_tokens}")),
            Self::NoText { .. } => Some("give the documents a `text`, or map the column that holds it with `dataset.columns.text`".into()),
            Self::TopK { chunks, .. } => {
                Some(format!("set `retrieval.top_k` to {chunks} or less, or make more chunks with a smaller `retrieval.chunk.max_tokens`"))
            }
            Self::Token { .. } => Some("take `tokenizer.json` and `model.safetensors` from one model".into()),
            Self::Links { .. } => Some("16 suits most corpora".into()),
            Self::File { .. } | Self::NotFinite { .. } | Self::Tokenizer { .. } => None,
        }
    }
}

/// The first line of a library's error: some carry a backtrace after it.
pub(super) fn first_line(error: &dyn std::fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
