//! A Hugging Face model folder: checked whole before anything large is read, and written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use serde_json::{Value, json};

use super::ModelError;
use super::config::{DecoderConfig, RopeScaling};
use super::config_file;
use super::decoder::Decoder;
use super::gguf::{CheckedGguf, GgufFile};
use super::layout::{named_tensors, stored, stored_offset};
use super::tokenizer::Tokenizer;
use super::weights::{StoredWeights, WeightFiles};

/// A folder (or GGUF file) whose configuration, tokenizer and weight headers fit together.
#[derive(Debug, Clone)]
pub struct CheckedFolder {
    /// The folder or file.
    pub path: PathBuf,
    /// Shape of the decoder.
    pub config: DecoderConfig,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The weights, not yet read.
    pub weights: StoredWeights,
}

/// Checks a folder or a GGUF file. `tokenizer` names a folder for the tokenizer of a GGUF file; without it, `tokenizer.json` beside the file
/// is taken, or else what the file itself carries.
///
/// # Errors
/// As [`check_folder`].
pub fn check_model(path: &Path, tokenizer: Option<&Path>) -> Result<CheckedFolder, ModelError> {
    if path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("gguf")) {
        return match tokenizer {
            None => check_folder(path),
            Some(_) => Err(ModelError::Folder {
                path: path.display().to_string(),
                problem: "has a tokenizer of its own: `model.tokenizer` is for GGUF files".into(),
            }),
        };
    }
    let CheckedGguf { file, config } = GgufFile::check(path)?;
    let beside = path.with_file_name("tokenizer.json");
    let tokenizer = match tokenizer {
        Some(apart) => Tokenizer::load_apart(apart, file.special())?,
        None if beside.is_file() => Tokenizer::load_apart(&beside, file.special())?,
        None => file.tokenizer()?,
    };
    check_vocabulary(&tokenizer, &config).map_err(|problem| ModelError::Folder { path: path.display().to_string(), problem })?;
    Ok(CheckedFolder { path: path.into(), config, tokenizer, weights: StoredWeights::Gguf(file) })
}

/// Checks a model folder without reading a tensor: configuration, tokenizer, presence, shapes and length of the weights.
///
/// # Errors
/// [`ModelError`] naming what is missing or does not fit.
pub fn check_folder(path: &Path) -> Result<CheckedFolder, ModelError> {
    let label = path.display().to_string();
    let problem = |problem: String| ModelError::Folder { path: label.clone(), problem };
    if !path.is_dir() {
        return Err(problem("is not a folder".into()));
    }
    let text = std::fs::read(path.join("config.json")).map_err(|error| problem(format!("`config.json`: {error}")))?;
    let file = config_file::parse(&text, &label)?;
    let tokenizer = Tokenizer::load_folder(path, file.special.clone())?;
    let config = file.decoder;
    check_vocabulary(&tokenizer, &config).map_err(problem)?;
    let weights = StoredWeights::Safetensors(WeightFiles::check(path, &config)?);
    Ok(CheckedFolder { path: path.into(), config, tokenizer, weights })
}

/// Every token must have a row in the embedding.
pub(super) fn check_vocabulary(tokenizer: &Tokenizer, config: &DecoderConfig) -> Result<(), String> {
    let (ids, rows) = (tokenizer.id_count(), config.vocab_size);
    if ids > rows {
        return Err(format!("`tokenizer.json` has ids up to {}, `config.json` a vocabulary of {rows}", ids - 1));
    }
    match tokenizer.special().eos.iter().find(|&&id| id as usize >= rows) {
        Some(id) => Err(format!("end token {id} is outside the vocabulary of {rows}")),
        None => Ok(()),
    }
}

/// Writes a folder that [`check_folder`] accepts and transformers loads. `dtype` is F32, F16 or BF16. `config.json` comes last, so a folder
/// that was interrupted is refused for lacking it.
///
/// # Errors
/// [`ModelError::Io`], or a failed conversion.
pub fn save_folder(dir: &Path, decoder: &Decoder, tokenizer: &Tokenizer, dtype: DType) -> Result<(), ModelError> {
    if matches!(decoder.config.rope_scaling, Some(RopeScaling::Each { .. })) {
        let problem = "the rotary divisors of a GGUF file have no form in `config.json`; start from the Hugging Face folder".into();
        return Err(ModelError::Config { path: dir.display().to_string(), problem });
    }
    std::fs::create_dir_all(dir).map_err(|source| ModelError::Io { path: dir.display().to_string(), source })?;
    write(dir, "model.safetensors", &weight_bytes(decoder, dtype)?)?;
    write(dir, "tokenizer.json", tokenizer.json())?;
    write_json(dir, "tokenizer_config.json", &tokenizer_config(tokenizer, &decoder.config))?;
    let special = tokenizer.special();
    let ids = json!({"bos_token_id": special.bos, "eos_token_id": special.eos_value(), "pad_token_id": special.pad, "do_sample": false});
    write_json(dir, "generation_config.json", &ids)?;
    let name = match dtype {
        DType::F16 => "float16",
        DType::BF16 => "bfloat16",
        _ => "float32",
    };
    write_json(dir, "config.json", &config_file::render(&decoder.config, special, name))
}

/// The bytes of `model.safetensors`.
pub fn weight_bytes(decoder: &Decoder, dtype: DType) -> Result<Vec<u8>, ModelError> {
    let config = config_file::written_as(&decoder.config);
    // Parts of one matrix follow each other, in the order of its rows.
    let mut parts: BTreeMap<String, Vec<Tensor>> = BTreeMap::new();
    for (name, tensor) in named_tensors(decoder) {
        let values = match stored_offset(&config, &name) {
            0.0 => tensor.detach(),
            offset => (tensor.detach() - offset)?,
        };
        parts.entry(stored(&config, &name).name).or_default().push(values.to_dtype(dtype)?);
    }
    let whole = |(name, parts): (String, Vec<Tensor>)| Ok((name, Tensor::cat(&parts, 0)?.contiguous()?));
    let tensors: BTreeMap<String, Tensor> = parts.into_iter().map(whole).collect::<Result<_, candle_core::Error>>()?;
    let metadata = Some([("format".to_string(), "pt".to_string())].into());
    Ok(safetensors::serialize(&tensors, metadata).map_err(candle_core::Error::wrap)?)
}

fn tokenizer_config(tokenizer: &Tokenizer, config: &DecoderConfig) -> Value {
    let special = tokenizer.special();
    let mut value = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config.max_position_embeddings,
        "clean_up_tokenization_spaces": false,
    });
    let named = [("bos_token", special.bos), ("eos_token", special.eos.first().copied()), ("pad_token", special.pad)];
    for (key, id) in named {
        if let Some(token) = id.and_then(|id| tokenizer.token(id)) {
            value[key] = token.into();
        }
    }
    if let Some(chat) = tokenizer.chat(None) {
        value["chat_template"] = chat.template.into();
    }
    value
}

fn write_json(dir: &Path, name: &str, value: &Value) -> Result<(), ModelError> {
    write(dir, name, format!("{value:#}\n").as_bytes())
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), ModelError> {
    let path = dir.join(name);
    std::fs::write(&path, bytes).map_err(|source| ModelError::Io { path: path.display().to_string(), source })
}
