//! An embedder behind a server's `/embeddings`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::super::vector::normalise;
use super::super::{Embedder, Embedding, RetrievalError};
use crate::lm::remote::{Budget, Client, Connection, RemoteError, Usage, all, each};
use crate::spec::EmbeddingEndpointSpec;

/// Texts in, vectors of unit length out. What the weights are is not known here: the hash is over what is asked.
#[derive(Debug)]
pub struct ServedEmbedder {
    client: Client,
    spec: EmbeddingEndpointSpec,
    dimension: usize,
    hash: String,
    tokens: AtomicU64,
    budget: Arc<Budget>,
}

impl ServedEmbedder {
    /// Reads the key and asks for one vector, for its length. What is spent goes to the budget.
    ///
    /// # Errors
    /// [`RetrievalError::Remote`]
    pub fn open(spec: &EmbeddingEndpointSpec, budget: Arc<Budget>) -> Result<Self, RetrievalError> {
        let connection =
            Connection { url: &spec.url, key_env: &spec.key_env, timeout: Duration::from_secs_f64(spec.timeout_s), retries: spec.retries };
        let client = Client::open(&connection)?;
        let hash = blake3::hash(format!("served {} {}", spec.model, spec.dimensions).as_bytes()).to_hex().to_string();
        let mut embedder = Self { client, spec: spec.clone(), dimension: 0, hash, tokens: AtomicU64::new(0), budget };
        let trial = embedder.embed_counted(&["dimension"])?;
        embedder.dimension = trial[0].vector.len();
        embedder.tokens.store(0, Ordering::Relaxed);
        if spec.dimensions > 0 && embedder.dimension != spec.dimensions {
            return Err(embedder.malformed(format!("has vectors of {} components, asked for were {}", embedder.dimension, spec.dimensions)));
        }
        Ok(embedder)
    }

    /// The most that texts may have in tokens, with two around each for those that a server adds.
    fn estimate(&self, texts: &[&str]) -> Usage {
        let tokens = |text: &&str| (text.chars().count() as f64 / self.spec.chars_per_token).ceil() as u64 + 2;
        Usage { prompt_tokens: texts.iter().map(tokens).sum(), completion_tokens: 0 }
    }

    fn malformed(&self, problem: impl Into<String>) -> RetrievalError {
        RemoteError::Malformed { host: self.client.host().to_owned(), problem: problem.into() }.into()
    }

    fn vectors(&self, answer: &Value, texts: &[&str]) -> Result<Vec<Embedding>, RetrievalError> {
        let data = answer["data"].as_array().ok_or_else(|| self.malformed("has no `data`"))?;
        let mut vectors: Vec<Option<Vec<f32>>> = vec![None; texts.len()];
        for (place, entry) in data.iter().enumerate() {
            // In order, whatever order they come in.
            let index = entry["index"].as_u64().map_or(place, |index| index as usize);
            let values: Option<Vec<f32>> = entry["embedding"]
                .as_array()
                .and_then(|values| values.iter().map(|value| value.as_f64().map(|value| value as f32)).collect());
            let mut vector = values
                .filter(|values| !values.is_empty())
                .ok_or_else(|| self.malformed("has an `embedding` that is no list of numbers"))?;
            if self.dimension > 0 && vector.len() != self.dimension {
                return Err(self.malformed(format!("has a vector of {} components after one of {}", vector.len(), self.dimension)));
            }
            normalise(&mut vector);
            *vectors.get_mut(index).ok_or_else(|| self.malformed("has more vectors than texts"))? = Some(vector);
        }
        let vectors: Option<Vec<Vec<f32>>> = vectors.into_iter().collect();
        let vectors = vectors.ok_or_else(|| self.malformed(format!("has {} vectors for {} texts", data.len(), texts.len())))?;
        let counted = counted(answer).unwrap_or(0);
        self.tokens.fetch_add(counted, Ordering::Relaxed);
        let shares = shares(counted as usize, texts);
        Ok(vectors.into_iter().zip(shares).map(|(vector, tokens)| Embedding { vector, tokens }).collect())
    }
}

impl Embedder for ServedEmbedder {
    fn dimension(&self) -> usize {
        self.dimension
    }

    fn embed_counted(&self, texts: &[&str]) -> Result<Vec<Embedding>, RetrievalError> {
        let batches: Vec<&[&str]> = texts.chunks(self.spec.batch).collect();
        let answers = each(self.spec.concurrency, &batches, |batch, stop| {
            let mut body = json!({"model": self.spec.model, "input": batch, "encoding_format": "float"});
            if self.spec.dimensions > 0 {
                body["dimensions"] = json!(self.spec.dimensions);
            }
            let most = self.estimate(batch);
            let aside = self.budget.set_aside(most)?;
            let answer = self.client.post("embeddings", &body, batch.first().unwrap_or(&""), stop)?;
            aside.settle(counted(&answer).map_or(most, |prompt_tokens| Usage { prompt_tokens, completion_tokens: 0 }));
            Ok(answer)
        });
        let mut embeddings = Vec::with_capacity(texts.len());
        for (answer, batch) in all(answers)?.iter().zip(batches) {
            embeddings.extend(self.vectors(answer, batch)?);
        }
        Ok(embeddings)
    }

    fn flops(&self, _: usize) -> Option<f64> {
        None
    }

    fn hash(&self) -> &str {
        &self.hash
    }

    fn tokens_charged(&self) -> Option<u64> {
        Some(self.tokens.load(Ordering::Relaxed))
    }
}

/// The tokens of a request, where the server counts them.
fn counted(answer: &Value) -> Option<u64> {
    answer["usage"]["prompt_tokens"].as_u64().or_else(|| answer["usage"]["total_tokens"].as_u64())
}

/// The tokens of a request by text, in proportion to their bytes; the sum is the server's.
fn shares(tokens: usize, texts: &[&str]) -> Vec<usize> {
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    let (mut read, mut given) = (0, 0);
    let share = |text: &&str| {
        read += text.len();
        let so_far = if bytes == 0 { tokens } else { (tokens as u128 * read as u128 / bytes as u128) as usize };
        let share = so_far - given;
        given = so_far;
        share
    };
    texts.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_shared_out_whole() {
        assert_eq!(shares(10, &["aaaa", "a", "", "aaaaa"]), [4, 1, 0, 5]);
        assert_eq!(shares(3, &["a", "a", "a", "a"]).iter().sum::<usize>(), 3);
        assert_eq!(shares(2, &["", ""]), [2, 0]);
        assert!(shares(0, &[]).is_empty());
    }
}
