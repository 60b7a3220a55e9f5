//! Sentence encoders of BERT and RoBERTa class from sentence-transformers folders.

use std::collections::BTreeMap;
use std::path::Path;

use candle_transformers::models::bert::Config;
use rayon::prelude::*;
use serde_json::{Value, json};
use tokenizers::{Tokenizer, TruncationParams};

use super::super::error::first_line;
use super::super::vector::normalise;
use super::super::{Embedder, Embedding, RetrievalError};
use super::batch;
use super::encoder::{Encoder, Row, first_position, is_roberta};
use super::folder::{self, TensorInfo};
use super::pooling::SentenceSettings;
use super::weights::{Weights, norm_names, prefix_of};
use super::{parse_tokenizer, tokenizer_error};

/// A loaded BERT-class sentence encoder.
pub struct BertEmbedder {
    encoder: Encoder,
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
        let (config, settings) = (read_config(path)?, SentenceSettings::read(path)?);
        let tokenizer_bytes = folder::read(path, "tokenizer.json")?;
        let weights = folder::read(path, "model.safetensors")?;
        let hash = hash_of(&weights, &tokenizer_bytes, &config, &settings);
        let encoder = Encoder::load(&Weights::open(path, &weights)?, &config)?;
        let tokenizer = bounded_tokenizer(&tokenizer_bytes, path, max_tokens(&config, settings.max_tokens))?;
        Ok(Self { encoder, tokenizer, config, settings, hash })
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

    /// One pooled vector, not normalised, per row of ids; zeros for an empty row.
    pub(super) fn pool_rows(&self, rows: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, RetrievalError> {
        let rows: Vec<Row> = rows.iter().map(Row::from).collect();
        let pooled = batch::read_states(&self.encoder, &rows, &|states: &[f32]| self.pool(states))?;
        Ok(pooled.into_iter().map(|vector| vector.unwrap_or_else(|| vec![0.0; self.config.hidden_size])).collect())
    }

    fn pool(&self, states: &[f32]) -> Vec<f32> {
        self.settings.pooling.pool(states, self.config.hidden_size)
    }
}

impl Embedder for BertEmbedder {
    fn dimension(&self) -> usize {
        self.config.hidden_size
    }

    fn embed_counted(&self, texts: &[&str]) -> Result<Vec<Embedding>, RetrievalError> {
        let rows: Vec<Vec<u32>> = texts.par_iter().map(|text| self.encode(text)).collect::<Result<_, _>>()?;
        let vectors = self.pool_rows(&rows)?;
        Ok(rows.iter().zip(vectors).map(|(row, vector)| Embedding { vector: unit(vector), tokens: row.len() }).collect())
    }

    fn flops(&self, tokens: usize) -> Option<f64> {
        Some(encoder_flops(&self.config, tokens))
    }

    fn hash(&self) -> &str {
        &self.hash
    }
}

/// Matrix products of all layers, two operations per multiply-add: projections and feed-forward, linear in the tokens, and attention,
/// quadratic in them.
pub(super) fn encoder_flops(config: &Config, tokens: usize) -> f64 {
    let (tokens, hidden, inner) = (tokens as f64, config.hidden_size as f64, config.intermediate_size as f64);
    let linear = 2.0 * tokens * (4.0 * hidden * hidden + 2.0 * hidden * inner);
    let attention = 4.0 * tokens * tokens * hidden;
    config.num_hidden_layers as f64 * (linear + attention)
}

fn unit(mut vector: Vec<f32>) -> Vec<f32> {
    normalise(&mut vector);
    vector
}

/// Checks files, settings and the shapes in the head of the weight file.
pub fn check(path: &Path) -> Result<(), RetrievalError> {
    folder::read(path, "tokenizer.json").and_then(|bytes| parse_tokenizer(&bytes, path))?;
    let config = read_config(path)?;
    SentenceSettings::read(path)?;
    check_encoder(path, &folder::read_tensor_header(path)?, &config)
}

/// Checks the shapes of an encoder's weights.
pub(super) fn check_encoder(path: &Path, header: &BTreeMap<String, TensorInfo>, config: &Config) -> Result<(), RetrievalError> {
    let prefix = prefix_of(|name| header.contains_key(name));
    for (name, shape) in expected_shapes(config, |name| header.contains_key(&format!("{prefix}{name}"))) {
        folder::expect_shape(path, header, &format!("{prefix}{name}"), &shape)?;
    }
    refuse_more_layers(path, header, prefix, config.num_hidden_layers)
}

/// All tensors that are read, with their shapes.
fn expected_shapes(config: &Config, has: impl Fn(&str) -> bool) -> Vec<(String, Vec<usize>)> {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let norm = |name: &str| norm_names(name, &has).map(|name| (name, vec![hidden]));
    let linear = |name: String, outputs: usize, inputs: usize| {
        [(format!("{name}.weight"), vec![outputs, inputs]), (format!("{name}.bias"), vec![outputs])]
    };
    let mut shapes = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![config.vocab_size, hidden]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![config.max_position_embeddings, hidden]),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![config.type_vocab_size, hidden]),
    ];
    shapes.extend(norm("embeddings.LayerNorm"));
    for layer in 0..config.num_hidden_layers {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        for part in ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"] {
            shapes.extend(linear(name(part), hidden, hidden));
        }
        shapes.extend(linear(name("intermediate.dense"), inner, hidden));
        shapes.extend(linear(name("output.dense"), hidden, inner));
        shapes.extend(norm(&name("attention.output.LayerNorm")));
        shapes.extend(norm(&name("output.LayerNorm")));
    }
    shapes
}

fn refuse_more_layers(path: &Path, header: &BTreeMap<String, TensorInfo>, prefix: &str, layers: usize) -> Result<(), RetrievalError> {
    let beyond = format!("{prefix}encoder.layer.{layers}.output.dense.weight");
    if header.contains_key(&beyond) {
        return Err(folder::problem(path, format!("`model.safetensors` has more layers than the {layers} of `config.json`")));
    }
    Ok(())
}

/// `config.json` with the defaults of the architecture where a key is absent.
pub(super) fn read_config(path: &Path) -> Result<Config, RetrievalError> {
    let mut value: Value = folder::read_json(path, "config.json")?;
    let padding = u32::from(is_roberta(value["model_type"].as_str()));
    let defaults = json!({
        "hidden_act": "gelu", "hidden_dropout_prob": 0.0, "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": padding,
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
    Ok(config)
}

/// Tokens of the longest input: as the folder says (`asked`), and no more than there are positions.
pub(super) fn max_tokens(config: &Config, asked: Option<usize>) -> usize {
    asked.unwrap_or(usize::MAX).min(config.max_position_embeddings.saturating_sub(first_position(config)))
}

/// A tokenizer that cuts its input: the longer text of a pair first.
pub(super) fn bounded_tokenizer(bytes: &[u8], path: &Path, max_length: usize) -> Result<Tokenizer, RetrievalError> {
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
    use super::batch::{group, read_group};
    use super::*;
    use crate::kernel::Team;

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

    /// Rows of ids of many lengths, in no order.
    fn rows() -> Vec<Vec<u32>> {
        (0..60u32).map(|row| (0..=row * 29 % 48).map(|at| 4 + (row * 31 + at * 17) % 106).collect()).collect()
    }

    #[test]
    fn a_vector_does_not_depend_on_its_batch_by_a_bit() {
        let embedder = BertEmbedder::load(&fixture()).unwrap();
        let together = embedder.embed(&["the sun", "the moon is warm and the stars", "", "the sun"]).unwrap();
        assert_eq!(together[0], together[3]);
        assert_eq!(together[..1], embedder.embed(&["the sun"]).unwrap());
        assert_eq!(together[2..3], embedder.embed(&[""]).unwrap());

        let rows = rows();
        let borrowed: Vec<Row> = rows.iter().map(Row::from).collect();
        let pool_group =
            |group: &[usize]| read_group(&embedder.encoder, &borrowed, group, &Team::solo(), &|states: &[f32]| embedder.pool(states));
        let alone: Vec<Vec<f32>> = (0..rows.len()).map(|row| pool_group(&[row]).remove(0)).collect();
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                assert_eq!(embedder.pool_rows(&rows).unwrap(), alone, "{threads} threads");
                for (row, alone) in rows.iter().zip(&alone) {
                    assert_eq!(&embedder.pool_rows(std::slice::from_ref(row)).unwrap()[0], alone, "{threads} threads, a text alone");
                }
            });
        }
        let lengths: Vec<usize> = rows.iter().map(Vec::len).collect();
        for most in [1, 50, 97, 100_000] {
            for group in group(&lengths, most) {
                for (index, vector) in group.iter().zip(pool_group(&group)) {
                    assert_eq!(vector, alone[*index], "groups of {most}");
                }
            }
        }
    }

    #[test]
    fn groups_hold_every_text_once_and_no_more_tokens_than_asked_for() {
        let lengths = [3, 0, 9, 2, 2, 4];
        assert_eq!(group(&lengths, 6), [vec![2], vec![5], vec![0, 3], vec![4]]);
        assert_eq!(group(&lengths, 100), [vec![2, 5, 0, 3, 4]]);
        assert!(group(&[0, 0], 5).is_empty() && group(&[], 0).is_empty());
    }

    /// The slow reference: candle's model, one text a pass.
    fn pooled_by_candle(embedder: &BertEmbedder, folder: &Path, rows: &[Vec<u32>]) -> Vec<Vec<f32>> {
        use candle_core::{DType, Device, Tensor};
        let weights = folder::read(folder, "model.safetensors").unwrap();
        let builder = candle_nn::VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu).unwrap();
        let model = candle_transformers::models::bert::BertModel::load(builder, &embedder.config).unwrap();
        let pool = |row: &Vec<u32>| {
            let ids = Tensor::new(row.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
            let states = model.forward(&ids, &ids.zeros_like().unwrap(), None).unwrap();
            let states = states.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            embedder.settings.pooling.pool(&states, embedder.config.hidden_size)
        };
        rows.iter().map(pool).collect()
    }

    #[test]
    fn every_activation_gives_what_candle_gives() {
        for activation in ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu"] {
            let folder = copied();
            change(folder.path(), "config.json", "\"gelu\"", &format!("\"{activation}\""));
            let embedder = BertEmbedder::load(folder.path()).unwrap();
            let (ours, candle) = (embedder.pool_rows(&rows()).unwrap(), pooled_by_candle(&embedder, folder.path(), &rows()));
            let largest = ours.iter().flatten().zip(candle.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(largest < 2e-5, "{activation} is off by {largest}");
        }
    }

    #[test]
    fn weights_are_read_in_half_precision_and_with_older_names() {
        use safetensors::{Dtype, SafeTensors, tensor::TensorView};
        let whole = BertEmbedder::load(&fixture()).unwrap().pool_rows(&rows()).unwrap();
        let bytes = folder::read(&fixture(), "model.safetensors").unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        for (dtype, tolerance) in [(Dtype::F16, 0.02), (Dtype::BF16, 0.2)] {
            let narrow = |value: f32| match dtype {
                Dtype::F16 => half::f16::from_f32(value).to_le_bytes(),
                _ => half::bf16::from_f32(value).to_le_bytes(),
            };
            let convert = |(name, view): (String, TensorView)| {
                let name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
                let values = folder::floats(&fixture(), &name, &view).unwrap();
                (format!("bert.{name}"), view.shape().to_vec(), values.into_iter().flat_map(narrow).collect::<Vec<u8>>())
            };
            let narrowed: Vec<_> = tensors.tensors().into_iter().map(convert).collect();
            let views = narrowed.iter().map(|(name, shape, data)| (name, TensorView::new(dtype, shape.clone(), data).unwrap()));
            let folder = copied();
            std::fs::write(folder.path().join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
            let halved = BertEmbedder::load(folder.path()).unwrap().pool_rows(&rows()).unwrap();
            assert_ne!(halved, whole, "{dtype:?}");
            let largest = halved.iter().flatten().zip(whole.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(largest < tolerance, "{dtype:?} is off by {largest}");
        }
    }

    #[test]
    fn a_token_without_weights_is_refused() {
        let refused = BertEmbedder::load(&fixture()).unwrap().pool_rows(&[vec![2, 110, 3]]).unwrap_err();
        assert_eq!(refused.to_string(), "the embedder's tokenizer gave token 110, but its weights have only 110 tokens");
    }

    #[test]
    fn tokens_are_counted_with_the_special_ones_and_bounded() {
        let embedder = BertEmbedder::load(&fixture()).unwrap();
        let embeddings = embedder.embed_counted(&["the sun is warm", "", &"the moon ".repeat(40)]).unwrap();
        assert_eq!(embeddings.iter().map(|embedding| embedding.tokens).collect::<Vec<_>>(), [6, 2, 24]);
        assert_eq!(embedder.special_tokens().unwrap(), (vec![2], vec![3]));
        // Two layers; 10 tokens: projections and feed-forward 2 * 10 * (4 * 32 * 32 + 2 * 32 * 64), attention 4 * 100 * 32.
        assert_eq!(embedder.flops(10), Some(2.0 * (163_840.0 + 12_800.0)));
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
