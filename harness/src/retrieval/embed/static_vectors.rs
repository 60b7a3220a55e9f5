//! Static subword vectors: one vector per token of the vocabulary, averaged over a text. Reads and writes the Model2Vec folder form
//! (`config.json`, `tokenizer.json`, `model.safetensors`), and holds the embedder that ships inside the binary.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;
use tokenizers::Tokenizer;

use super::super::error::first_line;
use super::super::vector::normalise;
use super::super::{Embedder, Embedding, RetrievalError};
use super::{folder, parse_tokenizer, tokenizer_error};

/// Tokens read of a text, as in Model2Vec.
const MAX_TOKENS: usize = 512;

/// One vector per token.
pub struct StaticEmbedder {
    tokenizer: Tokenizer,
    unknown: Option<u32>,
    /// Row after row, weights multiplied in.
    table: Vec<f32>,
    /// Row of each token id.
    rows: Vec<usize>,
    dimension: usize,
    hash: String,
}

/// The embedder inside the binary: 128 dimensions, distilled from all-MiniLM-L6-v2 (see `assets/embedder/README.md`).
pub fn builtin() -> StaticEmbedder {
    let (tokenizer, weights) =
        (include_bytes!("../../../assets/embedder/tokenizer.json"), include_bytes!("../../../assets/embedder/model.safetensors"));
    StaticEmbedder::from_bytes(Path::new(super::BUILTIN), tokenizer, weights).expect("the embedder in the binary is loaded by a test")
}

impl StaticEmbedder {
    /// Loads a Model2Vec folder.
    ///
    /// # Errors
    /// [`RetrievalError::Embedder`] when a file is missing, unusable, or does not fit the others.
    pub fn load(path: &Path) -> Result<Self, RetrievalError> {
        Self::from_bytes(path, &folder::read(path, "tokenizer.json")?, &folder::read(path, "model.safetensors")?)
    }

    fn from_bytes(path: &Path, tokenizer_bytes: &[u8], weights: &[u8]) -> Result<Self, RetrievalError> {
        let tokenizer = parse_tokenizer(tokenizer_bytes, path)?;
        let tensors = SafeTensors::deserialize(weights)
            .map_err(|error| folder::problem(path, format!("`model.safetensors`: {}", first_line(&error))))?;
        let (table, rows, dimension) = read_table(path, &tensors)?;
        if rows.len() < tokenizer.get_vocab_size(true) {
            let (rows, tokens) = (rows.len(), tokenizer.get_vocab_size(true));
            return Err(folder::problem(path, format!("has {rows} vectors for {tokens} tokens")));
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(weights).update(blake3::hash(tokenizer_bytes).as_bytes());
        let unknown = unknown_token(&tokenizer, tokenizer_bytes);
        Ok(Self { tokenizer, unknown, table, rows, dimension, hash: hasher.finalize().to_string() })
    }

    /// Ids of the tokens that have a vector, in order.
    fn encode(&self, text: &str) -> Result<Vec<u32>, RetrievalError> {
        let encoding = self.tokenizer.encode_fast(text, false).map_err(tokenizer_error)?;
        Ok(encoding.get_ids().iter().copied().filter(|&id| Some(id) != self.unknown).take(MAX_TOKENS).collect())
    }

    /// The unit vector along the sum of the tokens' vectors (the direction of their mean); zero for a text without known tokens.
    fn embed_one(&self, text: &str) -> Result<Embedding, RetrievalError> {
        let ids = self.encode(text)?;
        let mut vector = vec![0.0; self.dimension];
        for &id in &ids {
            let row = &self.table[self.rows[id as usize] * self.dimension..][..self.dimension];
            vector.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        normalise(&mut vector);
        Ok(Embedding { vector, tokens: ids.len() })
    }
}

impl Embedder for StaticEmbedder {
    fn dimension(&self) -> usize {
        self.dimension
    }

    fn embed_counted(&self, texts: &[&str]) -> Result<Vec<Embedding>, RetrievalError> {
        texts.par_iter().map(|text| self.embed_one(text)).collect()
    }

    /// One addition per token and dimension, and the scaling to unit length.
    fn flops(&self, tokens: usize) -> Option<f64> {
        Some((tokens + 3) as f64 * self.dimension as f64)
    }

    fn hash(&self) -> &str {
        &self.hash
    }
}

/// Checks files and the shapes in the head of the weight file.
pub fn check(path: &Path) -> Result<(), RetrievalError> {
    let tokenizer = folder::read(path, "tokenizer.json").and_then(|bytes| parse_tokenizer(&bytes, path))?;
    let header = folder::read_tensor_header(path)?;
    let Some(embeddings) = header.get("embeddings") else {
        return Err(folder::problem(path, "`model.safetensors` has no tensor `embeddings`"));
    };
    let rows = header.get("mapping").unwrap_or(embeddings).shape.first().copied().unwrap_or(0);
    if embeddings.shape.len() != 2 || rows < tokenizer.get_vocab_size(true) {
        let tokens = tokenizer.get_vocab_size(true);
        return Err(folder::problem(path, format!("`embeddings` has shape {:?} for {tokens} tokens", embeddings.shape)));
    }
    Ok(())
}

/// The token that stands for what the tokenizer does not know: its average would say nothing, so it is left out.
fn unknown_token(tokenizer: &Tokenizer, bytes: &[u8]) -> Option<u32> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let unknown = value["model"]["unk_token"].as_str()?;
    tokenizer.token_to_id(unknown)
}

/// The table with `weights` multiplied in, the row of each token (`mapping`, else its id), and the dimension.
fn read_table(path: &Path, tensors: &SafeTensors) -> Result<(Vec<f32>, Vec<usize>, usize), RetrievalError> {
    let embeddings = tensors.tensor("embeddings").map_err(|_| folder::problem(path, "`model.safetensors` has no tensor `embeddings`"))?;
    let [vectors, dimension] = *embeddings.shape() else {
        return Err(folder::problem(path, format!("`embeddings` has shape {:?}, expected two lengths", embeddings.shape())));
    };
    let table = folder::floats(path, "embeddings", &embeddings)?;
    let rows = match tensors.tensor("mapping") {
        Ok(mapping) => folder::floats(path, "mapping", &mapping)?.into_iter().map(|row| row as usize).collect(),
        Err(_) => (0..vectors).collect::<Vec<_>>(),
    };
    if dimension == 0 || rows.iter().any(|&row| row >= vectors) {
        return Err(folder::problem(path, "`mapping` names a row that `embeddings` does not have"));
    }
    match tensors.tensor("weights") {
        Ok(weights) => Ok(weighted(&table, rows, &folder::floats(path, "weights", &weights)?, dimension)),
        Err(_) => Ok((table, rows, dimension)),
    }
}

/// Token weights belong to ids, and several ids may share a row: every id gets a row of its own.
fn weighted(table: &[f32], rows: Vec<usize>, weights: &[f32], dimension: usize) -> (Vec<f32>, Vec<usize>, usize) {
    let row_of = |(id, row): (usize, &usize)| {
        let weight = weights.get(id).copied().unwrap_or(1.0);
        table[row * dimension..][..dimension].iter().map(move |value| value * weight)
    };
    let own = rows.iter().enumerate().flat_map(row_of).collect();
    (own, (0..rows.len()).collect(), dimension)
}

/// Writes a Model2Vec folder: 8-bit vectors, each scaled to its own largest component, and the scale times the weight as the token's weight.
///
/// # Errors
/// [`RetrievalError::File`] when the folder cannot be written.
pub(super) fn write(path: &Path, vectors: &[Vec<f32>], tokenizer: &Value, config: &Value) -> Result<(), RetrievalError> {
    let scale_of = |vector: &Vec<f32>| vector.iter().fold(0.0f32, |best, value| best.max(value.abs())) / 127.0;
    let scales: Vec<f32> = vectors.iter().map(scale_of).collect();
    let bytes: Vec<u8> = vectors
        .iter()
        .zip(&scales)
        .flat_map(|(vector, &scale)| vector.iter().map(move |value| if scale > 0.0 { (value / scale).round() as i8 as u8 } else { 0 }))
        .collect();
    let scale_bytes: Vec<u8> = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
    let view = |dtype, shape, data| TensorView::new(dtype, shape, data).expect("shape and bytes belong together");
    let tensors = [
        ("embeddings", view(Dtype::I8, vec![vectors.len(), vectors[0].len()], &bytes)),
        ("weights", view(Dtype::F32, vec![vectors.len()], &scale_bytes)),
    ];
    let weights = safetensors::serialize(tensors, None).expect("two sound tensors");
    let fail = |file: PathBuf| move |source| RetrievalError::File { path: file.display().to_string(), source };
    std::fs::create_dir_all(path).map_err(fail(path.to_owned()))?;
    let put = |name: &str, bytes: &[u8]| std::fs::write(path.join(name), bytes).map_err(fail(path.join(name)));
    put("model.safetensors", &weights)?;
    put("tokenizer.json", tokenizer.to_string().as_bytes())?;
    put("config.json", format!("{config:#}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::super::vector::dot;
    use super::*;
    use serde_json::json;

    fn tiny_tokenizer() -> Value {
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": {"type": "Lowercase"},
            "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
                      "vocab": {"[UNK]": 0, "sun": 1, "moon": 2, "##s": 3}}
        })
    }

    fn tiny(folder: &Path) -> StaticEmbedder {
        let vectors = [vec![9.0, 9.0], vec![3.0, 0.0], vec![0.0, 4.0], vec![0.0, 0.0]];
        write(folder, &vectors, &tiny_tokenizer(), &json!({"model_type": "model2vec"})).unwrap();
        check(folder).unwrap();
        StaticEmbedder::load(folder).unwrap()
    }

    #[test]
    fn a_text_is_the_direction_of_its_tokens_mean() {
        let folder = tempfile::tempdir().unwrap();
        let embedder = tiny(folder.path());
        let embeddings = embedder.embed_counted(&["Sun moons", "sun", "??", "", "sun ?? sun"]).unwrap();
        let (vectors, tokens): (Vec<_>, Vec<_>) = embeddings.into_iter().map(|embedding| (embedding.vector, embedding.tokens)).unzip();
        assert!((vectors[0][0] - 0.6).abs() < 1e-6 && (vectors[0][1] - 0.8).abs() < 1e-6, "{:?}", vectors[0]);
        assert_eq!(vectors[1], [1.0, 0.0]);
        assert_eq!(vectors[2], [0.0, 0.0], "no known token");
        assert_eq!(vectors[3], [0.0, 0.0]);
        assert_eq!(vectors[4], [1.0, 0.0], "an unknown token weighs nothing");
        assert_eq!((tokens, embedder.dimension()), (vec![3, 1, 0, 0, 2], 2));
    }

    #[test]
    fn rows_may_be_shared_by_a_mapping_and_every_float_width_is_read() {
        let folder = tempfile::tempdir().unwrap();
        tiny(folder.path());
        let halves: Vec<u8> = [0.0f32, 1.0, 1.0, 0.0].iter().flat_map(|&value| half::f16::from_f32(value).to_le_bytes()).collect();
        let mapping: Vec<u8> = [0i64, 0, 1, 1].iter().flat_map(|row| row.to_le_bytes()).collect();
        let tensors = [
            ("embeddings", TensorView::new(Dtype::F16, vec![2, 2], &halves).unwrap()),
            ("mapping", TensorView::new(Dtype::I64, vec![4], &mapping).unwrap()),
        ];
        std::fs::write(folder.path().join("model.safetensors"), safetensors::serialize(tensors, None).unwrap()).unwrap();
        check(folder.path()).unwrap();
        let embedder = StaticEmbedder::load(folder.path()).unwrap();
        assert_eq!(embedder.embed(&["sun", "moon"]).unwrap(), [[0.0, 1.0], [1.0, 0.0]]);
    }

    #[test]
    fn fewer_vectors_than_tokens_and_a_cut_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &[vec![1.0]], &tiny_tokenizer(), &json!({"model_type": "model2vec"})).unwrap();
        assert!(check(folder.path()).unwrap_err().to_string().contains("for 4 tokens"));
        assert!(StaticEmbedder::load(folder.path()).is_err());
        let file = folder.path().join("model.safetensors");
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
        assert!(check(folder.path()).unwrap_err().to_string().contains("its header promises"));
    }

    #[test]
    fn the_builtin_knows_that_a_question_is_about_its_document() {
        let embedder = builtin();
        let vectors = embedder
            .embed(&["Who discovered penicillin?", "Alexander Fleming found penicillin in 1928.", "The stock market fell on Monday."])
            .unwrap();
        assert!(dot(&vectors[0], &vectors[1]) > dot(&vectors[0], &vectors[2]) + 0.2);
        assert!((dot(&vectors[0], &vectors[0]) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn the_builtin_has_a_vector_for_every_letter_and_continuation() {
        let embedder = builtin();
        for letter in 'a'..='z' {
            assert!(embedder.tokenizer.token_to_id(&letter.to_string()).is_some());
            assert!(embedder.tokenizer.token_to_id(&format!("##{letter}")).is_some());
        }
        assert_eq!(embedder.embed(&["Torvas Belmin", "Torvas Belmin"]).unwrap()[0], embedder.embed(&["torvas belmin"]).unwrap()[0]);
    }
}
