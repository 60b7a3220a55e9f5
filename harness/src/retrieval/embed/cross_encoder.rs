//! Cross-encoders: a question and a passage are read together, as one pair, and get one score (Nogueira and Cho 2019).
//!
//! The encoder is that of the embedders. Its state of the first token goes through a dense layer, tanh, and a layer with one output: BERT's pooler
//! and classifier, or RoBERTa's classification head, which differ in their names alone.

use std::path::Path;

use candle_transformers::models::bert::Config;
use rayon::prelude::*;
use serde_json::Value;
use tokenizers::Tokenizer;

use super::super::RetrievalError;
use super::super::vector::dot;
use super::batch;
use super::bert::{bounded_tokenizer, check_encoder, encoder_flops, max_tokens, read_config};
use super::encoder::{Encoder, Row, is_roberta};
use super::folder;
use super::weights::{Weights, prefix_of};
use super::{parse_tokenizer, tokenizer_error};

/// A pair as its reranker sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairScore {
    /// What pairs are ordered by: the model's output as it is.
    pub logit: f32,
    /// The output after the folder's activation, as sentence-transformers gives it.
    pub score: f32,
    /// Tokens read.
    pub tokens: usize,
}

/// What a folder makes of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Activation {
    Sigmoid,
    Identity,
}

impl Activation {
    fn of(self, logit: f32) -> f32 {
        match self {
            Self::Sigmoid => 1.0 / (1.0 + (-logit).exp()),
            Self::Identity => logit,
        }
    }
}

/// Names of the head's two layers.
struct HeadNames {
    dense: String,
    output: &'static str,
}

impl HeadNames {
    fn of(config: &Config, prefix: &str) -> Self {
        if is_roberta(config.model_type.as_deref()) {
            Self { dense: "classifier.dense".to_owned(), output: "classifier.out_proj" }
        } else {
            Self { dense: format!("{prefix}pooler.dense"), output: "classifier" }
        }
    }
}

/// From the first token's state to a logit.
struct Head {
    /// `[hidden, hidden]`.
    dense: Vec<f32>,
    dense_bias: Vec<f32>,
    /// `[1, hidden]`.
    output: Vec<f32>,
    output_bias: f32,
}

impl Head {
    fn load(weights: &Weights, names: &HeadNames, hidden: usize) -> Result<Self, RetrievalError> {
        let take = |layer: &str, kind: &str, shape: &[usize]| weights.take_of_head(&format!("{layer}.{kind}"), shape);
        Ok(Self {
            dense: take(&names.dense, "weight", &[hidden, hidden])?,
            dense_bias: take(&names.dense, "bias", &[hidden])?,
            output: take(names.output, "weight", &[1, hidden])?,
            output_bias: take(names.output, "bias", &[1])?[0],
        })
    }

    fn logit(&self, state: &[f32]) -> f32 {
        let rows = self.dense.chunks_exact(state.len()).zip(&self.dense_bias);
        let pooled: Vec<f32> = rows.map(|(row, bias)| (dot(row, state) + bias).tanh()).collect();
        dot(&self.output, &pooled) + self.output_bias
    }
}

/// A loaded cross-encoder.
pub struct CrossEncoder {
    encoder: Encoder,
    head: Head,
    activation: Activation,
    tokenizer: Tokenizer,
    config: Config,
    bytes: u64,
    hash: String,
}

impl CrossEncoder {
    /// Loads a folder of BERT or RoBERTa class with a head of one label. Weights become 32-bit floats.
    ///
    /// # Errors
    /// [`RetrievalError::Reranker`] when a file is missing, unusable, or does not fit the others.
    pub fn load(path: &Path) -> Result<Self, RetrievalError> {
        read(path).map_err(RetrievalError::of_reranker)
    }

    /// The score of every pair of a question and a passage, in order. A pair's score does not depend on the others by a bit.
    ///
    /// # Errors
    /// Of the tokenizer.
    pub fn score(&self, pairs: &[(&str, &str)]) -> Result<Vec<PairScore>, RetrievalError> {
        let encoded: Vec<Encoded> = pairs.par_iter().map(|pair| self.encode(*pair)).collect::<Result<_, _>>()?;
        let rows: Vec<Row> = encoded.iter().map(|pair| Row { ids: &pair.ids, second: pair.second }).collect();
        let hidden = self.config.hidden_size;
        let logits = batch::read_states(&self.encoder, &rows, &|states: &[f32]| self.head.logit(&states[..hidden]))?;
        let score = |(logit, pair): (Option<f32>, &Encoded)| {
            let logit = logit.unwrap_or(f32::NEG_INFINITY);
            PairScore { logit, score: self.activation.of(logit), tokens: pair.ids.len() }
        };
        Ok(logits.into_iter().zip(&encoded).map(score).collect())
    }

    /// Operations to read a pair of `tokens` tokens: the encoder's, and the head's.
    pub fn flops(&self, tokens: usize) -> f64 {
        let hidden = self.config.hidden_size as f64;
        encoder_flops(&self.config, tokens) + 2.0 * (hidden * hidden + hidden)
    }

    /// Bytes of the weight file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// BLAKE3 over weights, tokenizer and settings.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    fn encode(&self, (question, passage): (&str, &str)) -> Result<Encoded, RetrievalError> {
        let encoding = self.tokenizer.encode_fast((question, passage), true).map_err(tokenizer_error)?;
        let second = encoding.get_type_ids().iter().position(|&kind| kind == 1).unwrap_or(encoding.len());
        Ok(Encoded { ids: encoding.get_ids().to_vec(), second })
    }
}

/// A pair as token ids.
struct Encoded {
    ids: Vec<u32>,
    second: usize,
}

fn read(path: &Path) -> Result<CrossEncoder, RetrievalError> {
    check(path)?;
    let config = read_config(path)?;
    let activation = activation(path)?;
    let tokenizer_bytes = folder::read(path, "tokenizer.json")?;
    let bytes = folder::read(path, "model.safetensors")?;
    let weights = Weights::open(path, &bytes)?;
    let names = HeadNames::of(&config, weights.prefix());
    let longest = max_tokens(&config, longest_input(path)?);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes).update(blake3::hash(&tokenizer_bytes).as_bytes());
    hasher.update(format!("{config:?} {activation:?} {longest}").as_bytes());
    Ok(CrossEncoder {
        encoder: Encoder::load(&weights, &config)?,
        head: Head::load(&weights, &names, config.hidden_size)?,
        activation,
        tokenizer: bounded_tokenizer(&tokenizer_bytes, path, longest)?,
        config,
        bytes: bytes.len() as u64,
        hash: hasher.finalize().to_string(),
    })
}

/// Checks that [`CrossEncoder::load`] will find what it needs: files, settings, and shapes from the head of the weight file. Reads no weights.
///
/// # Errors
/// As [`CrossEncoder::load`].
pub fn check_reranker(path: &Path) -> Result<(), RetrievalError> {
    check(path).map_err(RetrievalError::of_reranker)
}

fn check(path: &Path) -> Result<(), RetrievalError> {
    if !path.is_dir() {
        return Err(folder::problem(path, "is not a folder"));
    }
    let value: Value = folder::read_json(path, "config.json")?;
    let kind = value["model_type"].as_str();
    if kind != Some("bert") && !is_roberta(kind) {
        let kind = kind.unwrap_or("none");
        return Err(folder::problem(path, format!("model type `{kind}` is not supported, expected `bert`, `roberta` or `xlm-roberta`")));
    }
    refuse_modules(path)?;
    folder::read(path, "tokenizer.json").and_then(|bytes| parse_tokenizer(&bytes, path))?;
    activation(path)?;
    let config = read_config(path)?;
    let header = folder::read_tensor_header(path)?;
    check_encoder(path, &header, &config)?;
    let names = HeadNames::of(&config, prefix_of(|name| header.contains_key(name)));
    let hidden = config.hidden_size;
    let output = format!("{}.weight", names.output);
    match header.get(&output).map(|tensor| tensor.shape.as_slice()) {
        None => {
            return Err(folder::problem(path, format!("`model.safetensors` has no tensor `{output}`: it is an encoder without a score")));
        }
        Some([labels, _]) if *labels != 1 => {
            return Err(folder::problem(path, format!("gives {labels} labels, and a reranker gives one score")));
        }
        Some(_) => {}
    }
    for (name, shape) in [
        (format!("{}.weight", names.dense), vec![hidden, hidden]),
        (format!("{}.bias", names.dense), vec![hidden]),
        (output, vec![1, hidden]),
        (format!("{}.bias", names.output), vec![1]),
    ] {
        folder::expect_shape(path, &header, &name, &shape)?;
    }
    Ok(())
}

/// A folder of newer sentence-transformers names its modules; all but the transformer itself would be left out.
fn refuse_modules(path: &Path) -> Result<(), RetrievalError> {
    let modules: Vec<Value> = folder::read_json_if_there(path, "modules.json")?.unwrap_or_default();
    let kinds = modules.iter().filter_map(|module| module["type"].as_str());
    match kinds.map(|kind| kind.rsplit('.').next().unwrap_or_default()).find(|kind| *kind != "Transformer") {
        Some(other) => Err(folder::problem(path, format!("module `{other}` is not supported in a reranker"))),
        None => Ok(()),
    }
}

/// What the folder makes of its output; sigmoid where it does not say.
fn activation(path: &Path) -> Result<Activation, RetrievalError> {
    let config: Value = folder::read_json(path, "config.json")?;
    let sentence: Value = folder::read_json_if_there(path, "config_sentence_transformers.json")?.unwrap_or_default();
    let named =
        [&config["sentence_transformers"]["activation_fn"], &config["sbert_ce_default_activation_function"], &sentence["activation_fn"]];
    match named.into_iter().find_map(Value::as_str).map(|name| name.rsplit('.').next().unwrap_or_default()) {
        None | Some("Sigmoid") => Ok(Activation::Sigmoid),
        Some("Identity") => Ok(Activation::Identity),
        Some(other) => Err(folder::problem(path, format!("activation `{other}` is not supported, expected Sigmoid or Identity"))),
    }
}

/// Longest input in tokens, where the folder bounds it.
fn longest_input(path: &Path) -> Result<Option<usize>, RetrievalError> {
    let sentence: Value = folder::read_json_if_there(path, "sentence_bert_config.json")?.unwrap_or_default();
    match sentence["max_seq_length"].as_u64() {
        Some(length) => Ok(Some(length as usize)),
        None => super::pooling::tokenizer_length(path),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/retrieval").join(name)
    }

    /// A copy of a fixture in which files can be changed.
    fn copied(name: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
            std::fs::copy(fixture(name).join(file), folder.path().join(file)).unwrap();
        }
        folder
    }

    fn change(folder: &Path, change: impl FnOnce(&mut Value)) {
        let mut config: Value = folder::read_json(folder, "config.json").unwrap();
        change(&mut config);
        std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    }

    fn expected() -> Value {
        folder::read_json(&fixture(""), "cross_encoder.json").unwrap()
    }

    fn pairs(expected: &Value) -> Vec<(&str, &str)> {
        expected["pairs"].as_array().unwrap().iter().map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap())).collect()
    }

    #[track_caller]
    fn close(scores: &[PairScore], expected: &Value) {
        let expected: Vec<f32> = serde_json::from_value(expected.clone()).unwrap();
        for (index, (ours, theirs)) in scores.iter().zip(&expected).enumerate() {
            assert!((ours.score - theirs).abs() < 1e-5, "pair {index}: {} is not {theirs}", ours.score);
        }
        assert_eq!(scores.len(), expected.len());
    }

    /// `cross_encoder.json` holds the scores of sentence-transformers' `CrossEncoder.predict`, cut pairs and empty texts among them.
    #[test]
    fn scores_equal_those_of_sentence_transformers_in_both_classes_and_activations() {
        let expected = expected();
        for name in ["cross_encoder", "cross_encoder_roberta"] {
            let folder = copied(name);
            check_reranker(folder.path()).unwrap();
            let scores = CrossEncoder::load(folder.path()).unwrap().score(&pairs(&expected)).unwrap();
            close(&scores, &expected[name]);
            assert!(scores.iter().all(|pair| pair.tokens >= 3 && pair.tokens <= 24));
            change(folder.path(), |config| {
                config["sentence_transformers"] = serde_json::json!({"activation_fn": "torch.nn.modules.linear.Identity"});
            });
            let raw = CrossEncoder::load(folder.path()).unwrap().score(&pairs(&expected)).unwrap();
            close(&raw, &expected[format!("{name}_identity")]);
            assert!(raw.iter().zip(&scores).all(|(raw, score)| raw.logit == score.logit && raw.score == raw.logit));
        }
    }

    #[test]
    fn a_score_does_not_depend_on_the_other_pairs_by_a_bit() {
        let expected = expected();
        let model = CrossEncoder::load(&fixture("cross_encoder")).unwrap();
        let together = model.score(&pairs(&expected)).unwrap();
        for (pair, score) in pairs(&expected).iter().zip(&together) {
            assert_eq!(model.score(&[*pair]).unwrap(), [*score]);
        }
        assert!(model.score(&[]).unwrap().is_empty());
    }

    #[test]
    fn folders_that_give_no_single_score_are_refused() {
        let problem = |change_config: fn(&mut Value)| {
            let folder = copied("cross_encoder");
            change(folder.path(), change_config);
            let error = check_reranker(folder.path()).unwrap_err();
            assert_eq!(error.to_string(), CrossEncoder::load(folder.path()).err().unwrap().to_string());
            error.to_string()
        };
        assert!(problem(|config| config["model_type"] = "modernbert".into()).contains("`modernbert` is not supported"));
        assert!(
            problem(|config| config["sentence_transformers"] = serde_json::json!({"activation_fn": "x.Tanh"}))
                .contains("activation `Tanh`")
        );
        assert!(problem(|config| config["num_hidden_layers"] = 3.into()).contains("no tensor `bert.encoder.layer.2"));
        let embedder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/embedder");
        let error = check_reranker(&embedder).unwrap_err().to_string();
        assert!(error.starts_with("reranker `") && error.contains("module `Pooling` is not supported in a reranker"), "{error}");
        assert!(check_reranker(Path::new("nowhere/at/all")).unwrap_err().to_string().contains("is not a folder"));
    }
}
