//! A model on this machine: decoder and tokenizer, from a folder or from bytes.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use candle_core::{Device, Tensor};

use super::config::DecoderConfig;
use super::config_file;
use super::decoder::Decoder;
use super::engine::{Engine, WeightSource};
use super::flops;
use super::folder::{CheckedFolder, check_folder, check_vocabulary};
use super::generate::{Backend, Generator};
use super::layout::named_tensors;
use super::lora::LoraWeights;
use super::ops;
use super::tokenizer::Tokenizer;
use super::weights::load_bytes;
use super::{Generation, GenerationConfig, LanguageModel, ModelError, Prompt};
use crate::kernel::WeightForm;

/// A loaded model: weights to train on in f32, and packed ones to answer with.
#[derive(Debug, Clone)]
pub struct LocalModel {
    /// Weights and forward pass; `config.max_position_embeddings` is the window in use.
    pub decoder: Decoder,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// BLAKE3 of the weight files.
    pub weights_hash: String,
    /// How the engine holds the weights.
    form: WeightForm,
    /// Packed at the first answer.
    engine: OnceLock<Arc<Engine>>,
}

impl LocalModel {
    /// Checks a Hugging Face folder and loads it into main memory. `max_context` shortens the window; 0 keeps the model's own.
    ///
    /// # Errors
    /// Everything that [`check_folder`] finds, and failures while reading.
    pub fn load_folder(path: &Path, max_context: usize) -> Result<Self, ModelError> {
        Self::load_checked(&check_folder(path)?, max_context, &Device::Cpu)
    }

    /// Loads a folder that was checked before onto a device.
    pub fn load_checked(folder: &CheckedFolder, max_context: usize, device: &Device) -> Result<Self, ModelError> {
        let config = with_window(folder.config.clone(), max_context);
        let decoder = folder.weights.load(&config, device)?;
        Ok(Self::new(decoder, folder.tokenizer.clone(), folder.weights.hash()?))
    }

    /// A model from the contents of `config.json`, `tokenizer.json` and `model.safetensors`; special tokens are those of `config.json`.
    pub fn from_bytes(
        config: &[u8],
        tokenizer: &[u8],
        safetensors: &[u8],
        max_context: usize,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let label = "builtin";
        let file = config_file::parse(config, label)?;
        let tokenizer = Tokenizer::from_bytes(tokenizer, file.special)?;
        check_vocabulary(&tokenizer, &file.decoder).map_err(|problem| ModelError::Config { path: label.into(), problem })?;
        let config = with_window(file.decoder, max_context);
        let decoder = load_bytes(safetensors, &config, device, label)?;
        Ok(Self::new(decoder, tokenizer, blake3::hash(safetensors).to_hex().to_string()))
    }

    /// A model of loaded parts, answering with f32 weights.
    pub fn new(decoder: Decoder, tokenizer: Tokenizer, weights_hash: String) -> Self {
        Self { decoder, tokenizer, weights_hash, form: WeightForm::F32, engine: OnceLock::new() }
    }

    /// The same model, answering with weights in another form. Training is not touched by it.
    pub fn with_form(self, form: WeightForm) -> Self {
        Self { form, engine: OnceLock::new(), ..self }
    }

    /// Other weights in this model's place: tokenizer, form and hash stay.
    pub fn with_decoder(&self, decoder: Decoder) -> Self {
        Self::new(decoder, self.tokenizer.clone(), self.weights_hash.clone()).with_form(self.form)
    }

    /// The packed weights; made at the first call.
    ///
    /// # Errors
    /// [`ModelError::Memory`], or a failed conversion.
    pub fn engine(&self) -> Result<Arc<Engine>, ModelError> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine.clone());
        }
        let flat = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
        let tables = |(cos, sin): (&Tensor, &Tensor)| Ok::<_, candle_core::Error>((flat(cos)?, flat(sin)?));
        let local = self.decoder.local_rope_tables().map(tables).transpose()?;
        let engine = Engine::pack(&self.decoder.config, &Named(&self.decoder), tables(self.decoder.rope_tables())?, local, self.form);
        let engine = Arc::new(engine?);
        Ok(self.engine.get_or_init(|| engine).clone())
    }

    /// Bytes of the weights that answers are computed with.
    pub fn weight_bytes(&self) -> u64 {
        self.engine.get().map_or(4 * self.decoder.config.parameter_count() as u64, |engine| engine.bytes() as u64)
    }

    /// Token ids of a text, with the special tokens that the tokenizer adds at the start of a prompt.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        self.tokenizer.encode_prompt(text)
    }

    /// Floating-point operations of one forward pass over `new` tokens that follow `past` cached ones, logits for one position.
    pub fn forward_flops(&self, past: usize, new: usize) -> f64 {
        flops::forward_flops(&self.decoder.config, past, new)
    }

    /// Whether the engine answers (f32 weights in main memory), so that an answer depends on nothing but the prompt, the weights and their form.
    /// candle's answers depend a little on the batch.
    pub fn ignores_batches(&self) -> bool {
        ops::supported(&[&self.decoder.embedding])
    }
}

/// A decoder's tensors by their names in weight files.
struct Named<'a>(&'a Decoder);

impl WeightSource for Named<'_> {
    fn weight(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        let found = named_tensors(self.0).into_iter().find(|(own, _)| own == name);
        let (_, tensor) = found.expect("the engine asks for the decoder's own weights");
        Ok(tensor.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1()?)
    }
}

fn with_window(mut config: DecoderConfig, max_context: usize) -> DecoderConfig {
    if max_context > 0 {
        config.max_position_embeddings = config.max_position_embeddings.min(max_context);
    }
    config
}

impl LanguageModel for LocalModel {
    fn context_length(&self) -> usize {
        self.decoder.config.max_position_embeddings
    }

    fn generate(
        &self,
        prompts: &[Prompt],
        adapter: Option<&LoraWeights>,
        config: &GenerationConfig,
    ) -> Result<Vec<Generation>, ModelError> {
        let generator = |backend| Generator { decoder: &self.decoder, tokenizer: &self.tokenizer, backend, config };
        if !self.ignores_batches() {
            return generator(Backend::Candle(adapter)).generate(prompts);
        }
        let engine = self.engine()?;
        let packed = adapter.map(|adapter| adapter.packed(&self.decoder)).transpose()?;
        generator(Backend::Engine(&engine, packed.as_deref())).generate(prompts)
    }
}
