//! BERT-class sentence encoders from sentence-transformers folders, computed by candle-transformers.
//!
//! Every text is its own forward pass, and texts run in parallel. So a text is never padded, and its vector cannot depend, to the last bit,
//! on what else is embedded with it, on the order, or on the number of threads.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use rayon::prelude::*;
use serde_json::{Value, json};
use tokenizers::{Tokenizer, TruncationParams};

use super::super::error::first_line;
use super::super::vector::normalise;
use super::super::{Embedder, RetrievalError};
use super::folder::{self, TensorInfo};
use super::pooling::SentenceSettings;
use super::{parse_tokenizer, tensor_error, tokenizer_error};

/// A loaded BERT-class sentence encoder.
pub struct BertEmbedder {
    model: BertModel,
    tokenizer: Tokenizer,
    config: Config,
    settings: SentenceSettings,
    hash: String,
}

impl BertEmbedder {
    /// Loads a sentence-transformers folder: transformer, pooling, lengths and tokenizer. Weights become 32-bit floats.
    ///
    /// # Errors
    /// [`RetrievalError::Embedder`] when a file is missing, unusable, or does not fit the others.
    pub fn load(path: &Path) -> Result<Self, RetrievalError> {
        check(path)?;
        let (config, settings) = read_settings(path)?;
        let tokenizer_bytes = folder::read(path, "tokenizer.json")?;
        let weights = folder::read(path, "model.safetensors")?;
        let hash = hash_of(&weights, &tokenizer_bytes, &config, &settings);
        let refused = |error: candle_core::Error| folder::problem(path, format!("`model.safetensors`: {}", first_line(&error)));
        let builder = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu).map_err(refused)?;
        let model = BertModel::load(builder, &config).map_err(refused)?;
        let tokenizer = bounded_tokenizer(&tokenizer_bytes, path, max_tokens(&config, &settings))?;
        Ok(Self { model, tokenizer, config, settings, hash })
    }

    /// What the tokenizer puts before and after a text: the ids around a known token.
    pub(super) fn special_tokens(&self) -> Result<(Vec<u32>, Vec<u32>), RetrievalError> {
        let bare = self.tokenizer.encode_fast("a", false).map_err(tokenizer_error)?;
        let framed = self.encode("a")?;
        let split = framed.windows(bare.len().max(1)).position(|ids| ids == bare.get_ids());
        let start = split.ok_or_else(|| RetrievalError::Tokenizer { problem: "no text between its special tokens".into() })?;
        Ok((framed[..start].to_vec(), framed[start + bare.len()..].to_vec()))
    }

    /// Token ids of a text, special tokens included, cut to the longest input.
    fn encode(&self, text: &str) -> Result<Vec<u32>, RetrievalError> {
        let encoding = if self.settings.lower_case {
            self.tokenizer.encode_fast(text.to_lowercase(), true)
        } else {
            self.tokenizer.encode_fast(text, true)
        };
        Ok(encoding.map_err(tokenizer_error)?.get_ids().to_vec())
    }

    /// One pooled vector, not normalised, per row of ids; the rows must have one length.
    pub(super) fn pool_rows(&self, rows: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, RetrievalError> {
        let (count, length) = (rows.len(), rows[0].len());
        let ids = Tensor::from_vec(rows.concat(), (count, length), &Device::Cpu).map_err(tensor_error)?;
        let types = ids.zeros_like().map_err(tensor_error)?;
        let states =
            self.model.forward(&ids, &types, None).and_then(|states| states.flatten_all()?.to_vec1::<f32>()).map_err(tensor_error)?;
        let dimension = self.config.hidden_size;
        Ok(states.chunks_exact(length * dimension).map(|row| self.settings.pooling.pool(row, dimension)).collect())
    }

    fn embed_one(&self, text: &str) -> Result<Vec<f32>, RetrievalError> {
        let ids = self.encode(text)?;
        if ids.is_empty() {
            return Ok(vec![0.0; self.config.hidden_size]);
        }
        let mut vector = self.pool_rows(&[ids])?.swap_remove(0);
        normalise(&mut vector);
        Ok(vector)
    }
}

impl Embedder for BertEmbedder {
    fn dimension(&self) -> usize {
        self.config.hidden_size
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, RetrievalError> {
        texts.par_iter().map(|text| self.embed_one(text)).collect()
    }

    fn count_tokens(&self, text: &str) -> usize {
        self.encode(text).map_or(0, |ids| ids.len())
    }

    /// Matrix products of all layers, two operations per multiply-add: projections and feed-forward, linear in the tokens, and attention,
    /// quadratic in them.
    fn flops(&self, tokens: usize) -> f64 {
        let (tokens, hidden, inner) = (tokens as f64, self.config.hidden_size as f64, self.config.intermediate_size as f64);
        let linear = 2.0 * tokens * (4.0 * hidden * hidden + 2.0 * hidden * inner);
        let attention = 4.0 * tokens * tokens * hidden;
        self.config.num_hidden_layers as f64 * (linear + attention)
    }

    fn hash(&self) -> &str {
        &self.hash
    }
}

/// Checks files, settings and the shapes in the head of the weight file.
pub fn check(path: &Path) -> Result<(), RetrievalError> {
    folder::read(path, "tokenizer.json").and_then(|bytes| parse_tokenizer(&bytes, path))?;
    let (config, _) = read_settings(path)?;
    let header = folder::read_tensor_header(path)?;
    let prefix = if header.contains_key("bert.embeddings.word_embeddings.weight") { "bert." } else { "" };
    for (name, shape) in expected_shapes(&config) {
        folder::expect_shape(path, &header, &format!("{prefix}{name}"), &shape)?;
    }
    refuse_more_layers(path, &header, prefix, config.num_hidden_layers)
}

/// The tensors whose shapes tie weights and configuration together: embeddings, and in every layer one of each kind of matrix.
fn expected_shapes(config: &Config) -> Vec<(String, Vec<usize>)> {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let mut shapes = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![config.vocab_size, hidden]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![config.max_position_embeddings, hidden]),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![config.type_vocab_size, hidden]),
    ];
    for layer in 0..config.num_hidden_layers {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}.weight");
        for part in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"] {
            shapes.push((name(part), vec![hidden, hidden]));
        }
        shapes.push((name("intermediate.dense"), vec![inner, hidden]));
        shapes.push((name("output.dense"), vec![hidden, inner]));
    }
    shapes
}

fn refuse_more_layers(
    path: &Path,
    header: &std::collections::BTreeMap<String, TensorInfo>,
    prefix: &str,
    layers: usize,
) -> Result<(), RetrievalError> {
    let beyond = format!("{prefix}encoder.layer.{layers}.output.dense.weight");
    if header.contains_key(&beyond) {
        return Err(folder::problem(path, format!("`model.safetensors` has more layers than the {layers} of `config.json`")));
    }
    Ok(())
}

/// `config.json` with the defaults of the architecture where a key is absent, and what surrounds the transformer.
fn read_settings(path: &Path) -> Result<(Config, SentenceSettings), RetrievalError> {
    let mut value: Value = folder::read_json(path, "config.json")?;
    let defaults = json!({
        "hidden_act": "gelu", "hidden_dropout_prob": 0.0, "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0,
        "type_vocab_size": 2, "max_position_embeddings": 512, "position_embedding_type": "absolute", "use_cache": false
    });
    for (key, default) in defaults.as_object().into_iter().flatten() {
        if value[key].is_null() {
            value[key] = default.clone();
        }
    }
    if value["hidden_act"] == "gelu_new" || value["hidden_act"] == "gelu_pytorch_tanh" {
        value["hidden_act"] = "geluapproximate".into();
    }
    let config: Config =
        serde_json::from_value(value).map_err(|error| folder::problem(path, format!("`config.json`: {}", first_line(&error))))?;
    if config.num_attention_heads == 0 || !config.hidden_size.is_multiple_of(config.num_attention_heads) {
        let (hidden, heads) = (config.hidden_size, config.num_attention_heads);
        return Err(folder::problem(path, format!("`config.json`: {hidden} hidden units cannot be split into {heads} heads")));
    }
    Ok((config, SentenceSettings::read(path)?))
}

fn max_tokens(config: &Config, settings: &SentenceSettings) -> usize {
    settings.max_tokens.unwrap_or(usize::MAX).min(config.max_position_embeddings)
}

fn bounded_tokenizer(bytes: &[u8], path: &Path, max_length: usize) -> Result<Tokenizer, RetrievalError> {
    let mut tokenizer = parse_tokenizer(bytes, path)?;
    let bound = TruncationParams { max_length, ..TruncationParams::default() };
    tokenizer.with_truncation(Some(bound)).map_err(tokenizer_error)?;
    Ok(tokenizer)
}

fn hash_of(weights: &[u8], tokenizer: &[u8], config: &Config, settings: &SentenceSettings) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(weights);
    hasher.update(blake3::hash(tokenizer).as_bytes());
    hasher.update(format!("{config:?} {settings:?}").as_bytes());
    hasher.finalize().to_string()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::super::vector::dot;
    use super::*;

    fn fixture() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/embedder")
    }

    /// A copy of the fixture in which files can be changed.
    fn copied() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("1_Pooling")).unwrap();
        for name in
            ["config.json", "tokenizer.json", "model.safetensors", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json"]
        {
            std::fs::copy(fixture().join(name), folder.path().join(name)).unwrap();
        }
        folder
    }

    fn change(folder: &Path, name: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        assert!(text.contains(from), "{from} is not in {name}");
        std::fs::write(folder.join(name), text.replace(from, to)).unwrap();
    }

    fn expected() -> Value {
        folder::read_json(&fixture(), "expected.json").unwrap()
    }

    #[test]
    fn embeddings_equal_those_of_sentence_transformers_in_every_pooling_mode() {
        let expected = expected();
        let texts: Vec<&str> = expected["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        for mode in ["mean_tokens", "cls_token", "max_tokens"] {
            let folder = copied();
            std::fs::write(folder.path().join("1_Pooling/config.json"), format!("{{\"pooling_mode_{mode}\": true}}")).unwrap();
            check(folder.path()).unwrap();
            let vectors = BertEmbedder::load(folder.path()).unwrap().embed(&texts).unwrap();
            for (index, vector) in vectors.iter().enumerate() {
                let reference: Vec<f32> = serde_json::from_value(expected[mode][index].clone()).unwrap();
                let largest = vector.iter().zip(&reference).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(largest < 1e-5, "{mode} of {:?} is off by {largest}", texts[index]);
            }
        }
    }

    #[test]
    fn a_vector_does_not_depend_on_its_batch_by_a_bit() {
        let embedder = BertEmbedder::load(&fixture()).unwrap();
        let together = embedder.embed(&["the sun", "the moon is warm and the stars", "", "the sun"]).unwrap();
        assert_eq!(together[0], together[3]);
        assert_eq!(together[..1], embedder.embed(&["the sun"]).unwrap());
        assert_eq!(together[2..3], embedder.embed(&[""]).unwrap());
    }

    #[test]
    fn tokens_are_counted_with_the_special_ones_and_bounded() {
        let embedder = BertEmbedder::load(&fixture()).unwrap();
        assert_eq!(embedder.count_tokens("the sun is warm"), 6);
        assert_eq!(embedder.count_tokens(""), 2);
        assert_eq!(embedder.count_tokens(&"the moon ".repeat(40)), 24);
        assert_eq!(embedder.special_tokens().unwrap(), (vec![2], vec![3]));
        // Two layers; 10 tokens: projections and feed-forward 2 * 10 * (4 * 32 * 32 + 2 * 32 * 64), attention 4 * 100 * 32.
        assert_eq!(embedder.flops(10), 2.0 * (163_840.0 + 12_800.0));
    }

    #[test]
    fn the_hash_follows_the_pooling() {
        let folder = copied();
        let before = BertEmbedder::load(folder.path()).unwrap().hash().to_owned();
        std::fs::write(folder.path().join("1_Pooling/config.json"), r#"{"pooling_mode_cls_token": true}"#).unwrap();
        assert_ne!(before, BertEmbedder::load(folder.path()).unwrap().hash());
    }

    #[test]
    fn folders_whose_parts_do_not_fit_are_refused() {
        let problem = |name: &str, from: &str, to: &str| {
            let folder = copied();
            change(folder.path(), name, from, to);
            assert!(BertEmbedder::load(folder.path()).is_err());
            check(folder.path()).unwrap_err().to_string()
        };
        assert!(problem("config.json", "\"vocab_size\": 110", "\"vocab_size\": 111").contains("has shape [110, 32]"));
        assert!(problem("config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3").contains("no tensor `encoder.layer.2"));
        assert!(problem("config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1").contains("more layers than the 1"));
        assert!(problem("config.json", "\"num_attention_heads\": 4", "\"num_attention_heads\": 5").contains("into 5 heads"));
        assert!(problem("config.json", "\"gelu\"", "\"mish\"").contains("`config.json`: unknown variant `mish`"));
        assert!(problem("modules.json", "models.Normalize", "models.Dense").contains("module `Dense`"));
    }

    #[test]
    fn a_cut_weight_file_is_refused() {
        let folder = copied();
        let file = folder.path().join("model.safetensors");
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        assert!(check(folder.path()).unwrap_err().to_string().contains("its header promises"));
        std::fs::write(&file, &bytes[..5]).unwrap();
        assert!(check(folder.path()).unwrap_err().to_string().contains("cut short"));
    }

    /// `RAGFT_TEST_MINILM` names an all-MiniLM-L6-v2 folder; `reference.json` beside this test's other fixtures holds sentence-transformers'
    /// vectors for a few texts.
    #[test]
    fn real_weights_give_the_vectors_of_sentence_transformers() {
        let Some(path) = std::env::var_os("RAGFT_TEST_MINILM") else {
            eprintln!("skipped: RAGFT_TEST_MINILM does not name an all-MiniLM-L6-v2 folder");
            return;
        };
        let reference: Value = folder::read_json(&fixture(), "minilm.json").unwrap();
        let texts: Vec<&str> = reference["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        let vectors = BertEmbedder::load(Path::new(&path)).unwrap().embed(&texts).unwrap();
        let mut lowest = 1.0f32;
        for (index, vector) in vectors.iter().enumerate() {
            let mut expected: Vec<f32> = serde_json::from_value(reference["vectors"][index].clone()).unwrap();
            normalise(&mut expected);
            lowest = lowest.min(dot(vector, &expected));
            assert!(lowest > 0.99999, "cosine {lowest} for {:?}", texts[index]);
        }
        eprintln!("lowest cosine {lowest} over {} texts", texts.len());
    }
}
