//! A model on this machine: decoder and tokenizer, from a folder or from bytes.

use std::path::Path;

use candle_core::Device;

use super::config::DecoderConfig;
use super::config_file;
use super::decoder::Decoder;
use super::flops;
use super::folder::{CheckedFolder, check_folder, check_vocabulary};
use super::generate::Generator;
use super::lora::LoraWeights;
use super::tokenizer::Tokenizer;
use super::weights::load_bytes;
use super::{Generation, GenerationConfig, LanguageModel, ModelError, Prompt};

/// A loaded model, in f32 on the CPU.
#[derive(Debug, Clone)]
pub struct LocalModel {
    /// Weights and forward pass; `config.max_position_embeddings` is the window in use.
    pub decoder: Decoder,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// BLAKE3 of the weight files.
    pub weights_hash: String,
}

impl LocalModel {
    /// Checks and loads a Hugging Face folder. `max_context` shortens the window; 0 keeps the model's own.
    ///
    /// # Errors
    /// Everything that [`check_folder`] finds, and failures while reading.
    pub fn load_folder(path: &Path, max_context: usize) -> Result<Self, ModelError> {
        Self::load_checked(&check_folder(path)?, max_context)
    }

    /// Loads a folder that was checked before.
    pub fn load_checked(folder: &CheckedFolder, max_context: usize) -> Result<Self, ModelError> {
        let config = with_window(folder.config.clone(), max_context);
        let decoder = folder.weights.load(&config, &Device::Cpu)?;
        Ok(Self { decoder, tokenizer: folder.tokenizer.clone(), weights_hash: folder.weights.hash()? })
    }

    /// A model from the contents of `config.json`, `tokenizer.json` and `model.safetensors`; special tokens are those of `config.json`.
    pub fn from_bytes(config: &[u8], tokenizer: &[u8], safetensors: &[u8], max_context: usize) -> Result<Self, ModelError> {
        let label = "builtin";
        let file = config_file::parse(config, label)?;
        let tokenizer = Tokenizer::from_bytes(tokenizer, file.special)?;
        check_vocabulary(&tokenizer, &file.decoder).map_err(|problem| ModelError::Config { path: label.into(), problem })?;
        let config = with_window(with_window(file.decoder, file.sliding_window.unwrap_or(0)), max_context);
        let decoder = load_bytes(safetensors, &config, &Device::Cpu, label)?;
        Ok(Self { decoder, tokenizer, weights_hash: blake3::hash(safetensors).to_hex().to_string() })
    }

    /// Bytes of the weights in memory, a tied head counted once.
    pub fn weight_bytes(&self) -> u64 {
        4 * self.decoder.config.parameter_count() as u64
    }
}

fn with_window(mut config: DecoderConfig, max_context: usize) -> DecoderConfig {
    if max_context > 0 {
        config.max_position_embeddings = config.max_position_embeddings.min(max_context);
    }
    config
}

impl LanguageModel for LocalModel {
    fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        self.tokenizer.encode_prompt(text)
    }

    fn context_length(&self) -> usize {
        self.decoder.config.max_position_embeddings
    }

    fn generate(
        &self,
        prompts: &[Prompt],
        adapter: Option<&LoraWeights>,
        config: &GenerationConfig,
    ) -> Result<Vec<Generation>, ModelError> {
        Generator { decoder: &self.decoder, tokenizer: &self.tokenizer, adapter, config }.generate(prompts)
    }

    fn forward_flops(&self, past: usize, new: usize) -> f64 {
        flops::forward_flops(&self.decoder.config, past, new)
    }
}
