//! An embedder as a spec asks for it: something before every question, something before every passage, and how much of a vector is kept.

use std::path::Path;
use std::sync::Arc;

use super::super::vector::normalise;
use super::super::{Embedder, Embedding, RetrievalError};
use super::served::ServedEmbedder;
use super::{BUILTIN, load_embedder, pooling};
use crate::lm::remote::Budget;
use crate::spec::{EmbeddingEndpointSpec, EmbeddingSpec};

/// The prefix that means "as the embedder's folder says".
const AS_THE_FOLDER_SAYS: &str = "folder";

/// An embedder that may treat questions and passages differently.
pub struct RetrievalEmbedder {
    embedder: Box<dyn Embedder>,
    sides: Sides,
    hash: String,
}

/// What is put before texts, and the components that are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sides {
    query_prefix: String,
    passage_prefix: String,
    dimension: usize,
}

impl From<Box<dyn Embedder>> for RetrievalEmbedder {
    /// The embedder as it is: nothing is put before a text, and vectors are whole.
    fn from(embedder: Box<dyn Embedder>) -> Self {
        let sides = Sides { query_prefix: String::new(), passage_prefix: String::new(), dimension: embedder.dimension() };
        let hash = embedder.hash().to_owned();
        Self { embedder, sides, hash }
    }
}

impl RetrievalEmbedder {
    /// Loads `retrieval.embedder`, to be used as `retrieval.embedding` says.
    ///
    /// # Errors
    /// [`RetrievalError::Embedder`] as [`load_embedder`], and for prefixes or dimensions that the embedder cannot have.
    pub fn load(path: &Path, spec: &EmbeddingSpec) -> Result<Self, RetrievalError> {
        let prefixes = prefixes(path, spec)?;
        Self::with(load_embedder(path)?, prefixes, spec)
    }

    /// The embedder behind an endpoint, to be used as `retrieval.embedding` says. There is no folder whose prefixes could be taken.
    ///
    /// # Errors
    /// [`RetrievalError::Remote`], and for dimensions that its vectors do not have.
    pub fn served(endpoint: &EmbeddingEndpointSpec, spec: &EmbeddingSpec, budget: Arc<Budget>) -> Result<Self, RetrievalError> {
        let prefixes = chosen([String::new(), String::new()], spec);
        Self::with(Box::new(ServedEmbedder::open(endpoint, budget)?), prefixes, spec)
    }

    fn with(embedder: Box<dyn Embedder>, prefixes: [String; 2], spec: &EmbeddingSpec) -> Result<Self, RetrievalError> {
        let [query_prefix, passage_prefix] = prefixes;
        let whole = Self::from(embedder);
        let own = whole.dimension();
        if spec.dimensions > own {
            return Err(RetrievalError::Dimensions { asked: spec.dimensions, own });
        }
        let dimension = if spec.dimensions == 0 { own } else { spec.dimensions };
        let sides = Sides { query_prefix, passage_prefix, dimension };
        if sides == whole.sides {
            return Ok(whole);
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(whole.hash.as_bytes()).update(format!("{sides:?}").as_bytes());
        Ok(Self { embedder: whole.embedder, sides, hash: hasher.finalize().to_string() })
    }

    /// Length of a vector.
    pub fn dimension(&self) -> usize {
        self.sides.dimension
    }

    /// One embedding per question, in order.
    pub fn queries(&self, questions: &[&str]) -> Result<Vec<Embedding>, RetrievalError> {
        self.embed(&self.sides.query_prefix, questions)
    }

    /// One embedding per passage, in order.
    pub fn passages(&self, passages: &[&str]) -> Result<Vec<Embedding>, RetrievalError> {
        self.embed(&self.sides.passage_prefix, passages)
    }

    /// Floating-point operations to embed a text of `tokens` tokens; nothing where they are not known.
    pub fn flops(&self, tokens: usize) -> Option<f64> {
        self.embedder.flops(tokens)
    }

    /// BLAKE3 over the embedder's own hash and what is done to its texts and vectors; the embedder's own where nothing is.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// Tokens that a server counted so far; nothing where no server embeds.
    pub fn tokens_charged(&self) -> Option<u64> {
        self.embedder.tokens_charged()
    }

    fn embed(&self, prefix: &str, texts: &[&str]) -> Result<Vec<Embedding>, RetrievalError> {
        let mut embeddings = if prefix.is_empty() {
            self.embedder.embed_counted(texts)?
        } else {
            let prefixed: Vec<String> = texts.iter().map(|text| format!("{prefix}{text}")).collect();
            self.embedder.embed_counted(&prefixed.iter().map(String::as_str).collect::<Vec<_>>())?
        };
        if self.sides.dimension < self.embedder.dimension() {
            for embedding in &mut embeddings {
                embedding.vector.truncate(self.sides.dimension);
                normalise(&mut embedding.vector);
            }
        }
        match embeddings.iter().position(|embedding| !embedding.vector.iter().all(|value| value.is_finite())) {
            Some(index) => Err(RetrievalError::NotFinite { index }),
            None => Ok(embeddings),
        }
    }
}

/// What goes before questions and passages. Reads the folder's settings, no weights.
///
/// # Errors
/// [`RetrievalError::Embedder`] when the folder's prompts are to be used and cannot be.
pub fn prefixes(path: &Path, spec: &EmbeddingSpec) -> Result<[String; 2], RetrievalError> {
    let of_folder = if path == Path::new(BUILTIN) { [String::new(), String::new()] } else { pooling::prompts(path)? };
    let prefixes = chosen(of_folder, spec);
    if path != Path::new(BUILTIN) && prefixes.iter().any(|prefix| !prefix.is_empty()) {
        pooling::refuse_unpooled_prompt(path)?;
    }
    Ok(prefixes)
}

/// What the spec says of each side, or what the embedder brings.
fn chosen([query, passage]: [String; 2], spec: &EmbeddingSpec) -> [String; 2] {
    let choose = |own: String, asked: &String| if asked == AS_THE_FOLDER_SAYS { own } else { asked.clone() };
    [choose(query, &spec.query_prefix), choose(passage, &spec.passage_prefix)]
}

#[cfg(test)]
mod tests {
    use super::super::super::vector::dot;
    use super::super::builtin;
    use super::*;

    fn spec(query: &str, passage: &str, dimensions: usize) -> EmbeddingSpec {
        EmbeddingSpec { query_prefix: query.into(), passage_prefix: passage.into(), dimensions }
    }

    fn load(spec: &EmbeddingSpec) -> RetrievalEmbedder {
        RetrievalEmbedder::load(Path::new(BUILTIN), spec).unwrap()
    }

    #[test]
    fn by_default_an_embedder_is_as_it_is() {
        let embedder = load(&spec("folder", "folder", 0));
        assert_eq!((embedder.hash(), embedder.dimension()), (builtin().hash(), 128));
        let own = builtin().embed_counted(&["where is the sun"]).unwrap();
        assert_eq!(embedder.queries(&["where is the sun"]).unwrap(), own);
        assert_eq!(embedder.passages(&["where is the sun"]).unwrap(), own);
    }

    #[test]
    fn a_prefix_is_read_and_counted_with_the_text() {
        let embedder = load(&spec("query: ", "", 0));
        assert_eq!(embedder.queries(&["sun"]).unwrap(), builtin().embed_counted(&["query: sun"]).unwrap());
        assert_eq!(embedder.passages(&["sun"]).unwrap(), builtin().embed_counted(&["sun"]).unwrap());
        assert_ne!(embedder.hash(), builtin().hash());
        assert_ne!(embedder.hash(), load(&spec("", "query: ", 0)).hash());
    }

    #[test]
    fn the_first_components_are_scaled_to_unit_length() {
        let embedder = load(&spec("", "", 32));
        let short = embedder.passages(&["the sun is warm"]).unwrap().remove(0).vector;
        let whole = builtin().embed(&["the sun is warm"]).unwrap().remove(0);
        let length = dot(&whole[..32], &whole[..32]).sqrt();
        assert_eq!((short.len(), embedder.dimension()), (32, 32));
        assert!(short.iter().zip(&whole).all(|(short, whole)| (short - whole / length).abs() < 1e-6));
    }

    #[test]
    fn more_components_than_there_are_are_refused() {
        let error = RetrievalEmbedder::load(Path::new(BUILTIN), &spec("", "", 129)).err().unwrap();
        assert_eq!(error.to_string(), "retrieval.embedding.dimensions is 129, but the embedder's vectors have 128");
    }

    fn fixture(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
    }

    #[track_caller]
    fn close(ours: &[Embedding], theirs: &serde_json::Value) {
        let theirs: Vec<Vec<f32>> = serde_json::from_value(theirs.clone()).unwrap();
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let largest = ours.vector.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(ours.vector.len() == theirs.len() && largest < 1e-5, "off by {largest}");
        }
    }

    /// `sides.json` holds what sentence-transformers' `encode_query` and `encode_document` give for a folder with prompts.
    #[test]
    fn prompts_and_first_components_equal_those_of_sentence_transformers() {
        let expected: serde_json::Value = serde_json::from_str(include_str!("../../../tests/fixtures/retrieval/sides.json")).unwrap();
        let texts: Vec<&str> = expected["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        let folder = tempfile::tempdir().unwrap();
        for name in ["config.json", "tokenizer.json", "model.safetensors", "sentence_bert_config.json"] {
            std::fs::copy(fixture("embedder").join(name), folder.path().join(name)).unwrap();
        }
        let config = serde_json::json!({"prompts": expected["prompts"], "default_prompt_name": null});
        std::fs::write(folder.path().join("config_sentence_transformers.json"), config.to_string()).unwrap();
        let load = |dimensions| RetrievalEmbedder::load(folder.path(), &spec("folder", "folder", dimensions)).unwrap();
        close(&load(0).queries(&texts).unwrap(), &expected["queries"]);
        close(&load(0).passages(&texts).unwrap(), &expected["passages"]);
        close(&load(12).passages(&texts).unwrap(), &expected["passages_first_12"]);
        let written = RetrievalEmbedder::load(folder.path(), &spec("three. ", "one two: ", 0)).unwrap();
        close(&written.queries(&texts).unwrap(), &expected["passages"]);
        let roberta = RetrievalEmbedder::load(&fixture("retrieval/cross_encoder_roberta"), &spec("folder", "folder", 0)).unwrap();
        close(&roberta.passages(&texts).unwrap(), &expected["roberta"]);
    }
}
