//! Static vectors from a sentence encoder, in the Model2Vec manner: every token of the vocabulary is embedded alone, the vectors are reduced
//! to their principal components, and frequent tokens are weighed down.

use std::path::Path;

use serde_json::{Value, json};

use super::super::RetrievalError;
use super::bert::BertEmbedder;
use super::folder;
use super::pca::Principal;
use super::static_vectors;

/// Tokens embedded in one forward pass.
const BATCH: usize = 256;

/// How to distil.
#[derive(Debug, Clone, PartialEq)]
pub struct DistillConfig {
    /// Length of the static vectors, at most that of the encoder's.
    pub dimension: usize,
    /// Smooth inverse frequency (Arora et al., 2017): a token of probability `p` weighs `sif / (sif + p)`.
    pub sif: f64,
}

impl Default for DistillConfig {
    fn default() -> Self {
        Self { dimension: 128, sif: 3e-5 }
    }
}

/// What a distillation gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Distilled {
    /// Tokens kept.
    pub vocabulary: usize,
    /// Length of the vectors.
    pub dimension: usize,
    /// Part of the variance that the principal components keep, 0 to 1.
    pub kept_variance: f64,
}

/// Distils the encoder in `encoder` (a sentence-transformers folder of BERT class) into a Model2Vec folder at `target`. Reserved tokens
/// (`[unused0]`...) are dropped; all others, single characters and continuations among them, are kept, so every text that the encoder's
/// tokenizer can spell can still be spelt.
///
/// # Errors
/// [`RetrievalError::Embedder`] for an unusable encoder or a dimension above its own; [`RetrievalError::File`] when `target` cannot be written.
pub fn distill(encoder: &Path, target: &Path, config: &DistillConfig) -> Result<Distilled, RetrievalError> {
    let bert = BertEmbedder::load(encoder)?;
    let own = super::super::Embedder::dimension(&bert);
    if config.dimension == 0 || config.dimension > own {
        return Err(folder::problem(encoder, format!("has vectors of {own} components, cannot keep {}", config.dimension)));
    }
    let mut tokenizer: Value = folder::read_json(encoder, "tokenizer.json")?;
    let kept = reduce_vocabulary(encoder, &mut tokenizer)?;
    let states = embed_tokens(&bert, &kept)?;
    let principal = Principal::fit(&states, config.dimension);
    let weights = sif_weights(kept.len(), config.sif);
    let vectors: Vec<Vec<f32>> = states
        .iter()
        .zip(&weights)
        .map(|(state, weight)| principal.project(state).into_iter().map(|value| value * *weight as f32).collect())
        .collect();
    let form = json!({
        "model_type": "model2vec", "architectures": ["StaticModel"], "apply_pca": config.dimension,
        "sif_coefficient": config.sif, "hidden_dim": config.dimension, "seq_length": 1_000_000, "normalize": true,
        "embedding_dtype": "int8"
    });
    static_vectors::write(target, &vectors, &tokenizer, &form)?;
    Ok(Distilled { vocabulary: kept.len(), dimension: config.dimension, kept_variance: principal.kept_variance })
}

/// Drops reserved tokens from the tokenizer's description and numbers the others anew; gives the old ids in the new order.
fn reduce_vocabulary(encoder: &Path, tokenizer: &mut Value) -> Result<Vec<u32>, RetrievalError> {
    let no_vocabulary = || folder::problem(encoder, "`tokenizer.json` has no WordPiece vocabulary");
    let vocabulary = tokenizer["model"]["vocab"].as_object().ok_or_else(no_vocabulary)?;
    let mut tokens: Vec<(u32, String)> = vocabulary
        .iter()
        .filter(|(token, _)| !token.starts_with("[unused"))
        .filter_map(|(token, id)| Some((u32::try_from(id.as_u64()?).ok()?, token.clone())))
        .collect();
    tokens.sort();
    if tokens.is_empty() {
        return Err(no_vocabulary());
    }
    let renumbered: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(new, (_, token))| (token.clone(), new.into())).collect();
    if let Some(added) = tokenizer["added_tokens"].as_array_mut() {
        added.retain(|token| token["content"].as_str().is_some_and(|content| renumbered.contains_key(content)));
        for token in added {
            let content = token["content"].as_str().unwrap_or_default();
            token["id"] = renumbered[content].clone();
        }
    }
    tokenizer["model"]["vocab"] = Value::Object(renumbered);
    // Static vectors are looked up for the text's own tokens only, however long it is.
    for part in ["post_processor", "truncation", "padding"] {
        tokenizer[part] = Value::Null;
    }
    Ok(tokens.into_iter().map(|(old, _)| old).collect())
}

/// Pooled vectors of each token between the encoder's special tokens.
fn embed_tokens(bert: &BertEmbedder, tokens: &[u32]) -> Result<Vec<Vec<f32>>, RetrievalError> {
    let (before, after) = bert.special_tokens()?;
    let frame = |&token: &u32| [&before[..], &[token], &after[..]].concat();
    let mut states = Vec::with_capacity(tokens.len());
    for batch in tokens.chunks(BATCH) {
        states.extend(bert.pool_rows(&batch.iter().map(frame).collect::<Vec<_>>())?);
    }
    Ok(states)
}

/// Weights by rank: WordPiece vocabularies stand in order of frequency, and Zipf's law gives a rank its probability.
fn sif_weights(tokens: usize, sif: f64) -> Vec<f64> {
    let inverse_rank = |id: usize| 1.0 / (id + 2) as f64;
    let total: f64 = (0..tokens).map(inverse_rank).sum();
    (0..tokens).map(|id| sif / (sif + inverse_rank(id) / total)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::Embedder as _;
    use super::super::super::vector::dot;
    use super::*;

    #[test]
    fn reserved_tokens_go_and_the_rest_close_ranks() {
        let mut tokenizer = json!({
            "truncation": {"max_length": 4}, "post_processor": {"type": "x"},
            "added_tokens": [{"id": 3, "content": "[UNK]"}, {"id": 0, "content": "[unused0]"}],
            "model": {"vocab": {"[unused0]": 0, "b": 2, "a": 1, "[UNK]": 3, "##c": 4}}
        });
        assert_eq!(reduce_vocabulary(Path::new("x"), &mut tokenizer).unwrap(), [1, 2, 3, 4]);
        assert_eq!(tokenizer["model"]["vocab"], json!({"a": 0, "b": 1, "[UNK]": 2, "##c": 3}));
        assert_eq!(tokenizer["added_tokens"], json!([{"id": 2, "content": "[UNK]"}]));
        assert!(tokenizer["truncation"].is_null() && tokenizer["post_processor"].is_null());
    }

    #[test]
    fn frequent_tokens_weigh_less() {
        let weights = sif_weights(1000, 1e-4);
        assert!(weights.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(weights[0] < 0.01 && weights[999] < 1.0);
    }

    #[test]
    fn distilling_the_encoder_again_gives_the_builtin() {
        let Some(encoder) = std::env::var_os("RAGFT_TEST_MINILM") else {
            eprintln!("skipped: RAGFT_TEST_MINILM does not name an all-MiniLM-L6-v2 folder");
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let distilled = distill(Path::new(&encoder), folder.path(), &DistillConfig::default()).unwrap();
        assert_eq!((distilled.vocabulary, distilled.dimension), (29528, 128));
        // Another processor may round a value the other way, so directions are compared, not bytes.
        let texts = ["Torvas Belmin", "How do volcanoes form?", "naïve café 漢字", "a"];
        let again = super::static_vectors::StaticEmbedder::load(folder.path()).unwrap().embed(&texts).unwrap();
        let shipped = super::static_vectors::builtin().embed(&texts).unwrap();
        for (left, right) in again.iter().zip(&shipped) {
            assert!(dot(left, right) > 0.9999, "cosine {}", dot(left, right));
        }
    }
}
