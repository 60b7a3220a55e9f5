//! A model on this machine: decoder and tokenizer, from a folder or from bytes.

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use candle_core::{Device, Tensor};

use super::config::DecoderConfig;
use super::config_file;
use super::decoder::{Decoder, rotary_tables};
use super::engine::{Engine, PackedAdapter, WeightSource};
use super::flops;
use super::folder::{CheckedFolder, check_folder, check_vocabulary};
use super::generate::{Backend, Generator};
use super::layout::named_tensors;
use super::lora::LoraWeights;
use super::ops;
use super::tokenizer::Tokenizer;
use super::weights::{StoredWeights, load_bytes};
use super::{Generation, GenerationConfig, LanguageModel, ModelError, Prompt};
use crate::kernel::WeightForm;

/// A loaded model: packed weights to answer with, and the f32 ones for whoever trains, where they are needed.
#[derive(Debug, Clone)]
pub struct LocalModel {
    /// Shape; `max_position_embeddings` is the window in use.
    pub config: DecoderConfig,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    base: Base,
    /// How the engine holds the weights.
    form: WeightForm,
    /// Packed at the first answer.
    engine: OnceLock<Arc<Engine>>,
}

/// Where the f32 weights are. Answers need them only to be packed, so those of a large model stay on disk until somebody wants them whole.
#[derive(Debug, Clone)]
enum Base {
    /// In memory for as long as the model is.
    Held(Arc<Decoder>),
    /// On disk; in memory while somebody uses them.
    Stored(Arc<StoredWeights>, Arc<Mutex<Weak<Decoder>>>),
}

impl LocalModel {
    /// Checks a Hugging Face folder. `max_context` shortens the window; 0 keeps the model's own.
    ///
    /// # Errors
    /// Everything that [`check_folder`] finds.
    pub fn load_folder(path: &Path, max_context: usize) -> Result<Self, ModelError> {
        Self::load_checked(&check_folder(path)?, max_context, &Device::Cpu)
    }

    /// A model of a folder that was checked before, on a device. In main memory the weights are read when they are first used.
    ///
    /// # Errors
    /// Failures while reading.
    pub fn load_checked(folder: &CheckedFolder, max_context: usize, device: &Device) -> Result<Self, ModelError> {
        let config = with_window(folder.config.clone(), max_context);
        let base = if device.is_cpu() {
            Base::Stored(Arc::new(folder.weights.clone()), Arc::default())
        } else {
            Base::Held(Arc::new(folder.weights.load(&config, device)?))
        };
        Ok(Self { config, tokenizer: folder.tokenizer.clone(), base, form: WeightForm::F32, engine: OnceLock::new() })
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
        Ok(Self::new(load_bytes(safetensors, &config, device, label)?, tokenizer))
    }

    /// A model of loaded parts, answering with f32 weights.
    pub fn new(decoder: Decoder, tokenizer: Tokenizer) -> Self {
        let config = decoder.config.clone();
        Self { config, tokenizer, base: Base::Held(Arc::new(decoder)), form: WeightForm::F32, engine: OnceLock::new() }
    }

    /// The same model, answering with weights in another form. Training is not touched by it.
    pub fn with_form(self, form: WeightForm) -> Self {
        Self { form, engine: OnceLock::new(), ..self }
    }

    /// Other weights in this model's place: tokenizer and form stay.
    pub fn with_decoder(&self, decoder: Decoder) -> Self {
        Self::new(decoder, self.tokenizer.clone()).with_form(self.form)
    }

    /// The f32 weights and their differentiable forward pass. Weights on disk are read by the first who asks, and dropped with the last who
    /// holds them.
    ///
    /// # Errors
    /// Failures while reading.
    pub fn decoder(&self) -> Result<Arc<Decoder>, ModelError> {
        match &self.base {
            Base::Held(decoder) => Ok(Arc::clone(decoder)),
            Base::Stored(weights, read) => {
                let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(decoder) = read.upgrade() {
                    return Ok(decoder);
                }
                let decoder = Arc::new(weights.load(&self.config, &Device::Cpu)?);
                *read = Arc::downgrade(&decoder);
                Ok(decoder)
            }
        }
    }

    /// Where the weights are computed with.
    pub fn device(&self) -> &Device {
        match &self.base {
            Base::Held(decoder) => decoder.embedding.device(),
            Base::Stored(..) => &Device::Cpu,
        }
    }

    /// The packed weights; made at the first call.
    ///
    /// # Errors
    /// [`ModelError::Memory`], failures while reading, or a failed conversion.
    pub fn engine(&self) -> Result<Arc<Engine>, ModelError> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine.clone());
        }
        let engine = Arc::new(match &self.base {
            Base::Held(decoder) => self.packed(&Named(decoder))?,
            Base::Stored(weights, _) => self.packed(&Read { weights, config: &self.config })?,
        });
        Ok(self.engine.get_or_init(|| engine).clone())
    }

    fn packed(&self, source: &dyn WeightSource) -> Result<Engine, ModelError> {
        let flat = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
        let flat = |(cos, sin): (Tensor, Tensor)| Ok::<_, candle_core::Error>((flat(&cos)?, flat(&sin)?));
        let (tables, local) = rotary_tables(&self.config, &Device::Cpu)?;
        Engine::pack(&self.config, source, flat(tables)?, local.map(flat).transpose()?, self.form)
    }

    /// The adapter as the engine takes it.
    ///
    /// # Errors
    /// [`ModelError::Memory`], or failures while reading.
    pub fn pack_adapter(&self, adapter: &LoraWeights) -> Result<Arc<PackedAdapter>, ModelError> {
        adapter.packed(&self.config, || self.decoder())
    }

    /// Bytes of the weights that answers are computed with.
    pub fn weight_bytes(&self) -> u64 {
        self.engine.get().map_or(4 * self.config.parameter_count() as u64, |engine| engine.bytes() as u64)
    }

    /// Token ids of a text, with the special tokens that the tokenizer adds at the start of a prompt.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, ModelError> {
        self.tokenizer.encode_prompt(text)
    }

    /// Floating-point operations of one forward pass over `new` tokens that follow `past` cached ones, logits for one position.
    pub fn forward_flops(&self, past: usize, new: usize) -> f64 {
        flops::forward_flops(&self.config, past, new)
    }

    /// Whether the engine answers (f32 weights in main memory), so that an answer depends on nothing but the prompt, the weights and their form.
    /// candle's answers depend a little on the batch.
    pub fn ignores_batches(&self) -> bool {
        match &self.base {
            Base::Held(decoder) => ops::supported(&[&decoder.embedding]),
            Base::Stored(..) => true,
        }
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

/// A decoder's weights as they lie on disk: read one at a time, so that packing holds little beside the panels.
struct Read<'a> {
    weights: &'a StoredWeights,
    config: &'a DecoderConfig,
}

impl WeightSource for Read<'_> {
    fn weight(&self, name: &str) -> Result<Vec<f32>, ModelError> {
        self.weights.read(self.config, name)
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
        self.config.max_position_embeddings
    }

    fn generate(
        &self,
        prompts: &[Prompt],
        adapter: Option<&LoraWeights>,
        config: &GenerationConfig,
    ) -> Result<Vec<Generation>, ModelError> {
        let generator = |backend| Generator { shape: &self.config, tokenizer: &self.tokenizer, backend, config };
        if !self.ignores_batches() {
            return generator(Backend::Candle(&*self.decoder()?, adapter)).generate(prompts);
        }
        let engine = self.engine()?;
        let packed = adapter.map(|adapter| self.pack_adapter(adapter)).transpose()?;
        generator(Backend::Engine(&engine, packed.as_deref())).generate(prompts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::folder::check_model;
    use crate::lm::weights::WeightFiles;
    use crate::lm::{shape_tests, tests};

    fn fixtures() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
    }

    fn is_read(model: &LocalModel) -> bool {
        match &model.base {
            Base::Held(_) => true,
            Base::Stored(_, read) => read.lock().unwrap().upgrade().is_some(),
        }
    }

    /// Models on disk of every kind: f32, f16 and bf16, fused and shared matrices, norms with an offset, rotations of their own, GGUF.
    fn each_stored(mut check: impl FnMut(&str, LocalModel)) {
        for name in tests::NAMES {
            check(name, LocalModel::load_folder(&fixtures().join("lm").join(name), 0).unwrap());
        }
        for file in std::fs::read_dir(fixtures().join("gguf")).unwrap().map(|entry| entry.unwrap().path()) {
            if file.extension().is_some_and(|extension| extension == "gguf") {
                let checked = check_model(&file, None).unwrap();
                check(&file.display().to_string(), LocalModel::load_checked(&checked, 0, &Device::Cpu).unwrap());
            }
        }
        for name in shape_tests::references().into_keys() {
            let held = shape_tests::model(&name);
            let files = WeightFiles::check(&fixtures().join("shapes").join(&name), &held.config).unwrap();
            let base = Base::Stored(Arc::new(StoredWeights::Safetensors(files)), Arc::default());
            check(&name, LocalModel { base, ..held });
        }
    }

    #[test]
    fn weights_on_disk_answer_as_those_in_memory_and_are_not_read_whole() {
        let (prompt, continuations) = ([5, 9, 40, 3, 44], [vec![7, 21, 3], vec![30]]);
        each_stored(|name, model| {
            let found = model.log_likelihoods(&prompt, &continuations, None).unwrap();
            assert!(!is_read(&model), "{name}: an answer reads no f32 weights");
            let held = model.with_decoder(Decoder::clone(&model.decoder().unwrap()));
            assert!(!is_read(&model), "{name}: dropped with the last user");
            assert_eq!(found, held.log_likelihoods(&prompt, &continuations, None).unwrap(), "{name}");
        });
    }

    #[test]
    fn all_who_train_share_one_copy_of_the_base() {
        let model = LocalModel::load_folder(&fixtures().join("lm/qwen2"), 0).unwrap();
        let (first, second) = (model.decoder().unwrap(), model.clone().decoder().unwrap());
        assert!(Arc::ptr_eq(&first, &second) && is_read(&model));
    }

    #[test]
    fn weights_are_held_as_small_as_their_file_where_that_loses_nothing() {
        let bytes = |model: &LocalModel, form| model.clone().with_form(form).engine().unwrap().bytes();
        let bf16 = LocalModel::load_folder(&fixtures().join("lm/mistral"), 0).unwrap();
        assert_eq!(bytes(&bf16, WeightForm::F32), bytes(&bf16, WeightForm::Bf16));
        let q8 = check_model(&fixtures().join("gguf/llama-gqa-tied.q8_0.gguf"), None).unwrap();
        let q8 = LocalModel::load_checked(&q8, 0, &Device::Cpu).unwrap();
        assert!(bytes(&q8, WeightForm::F32) < 2 * q8.config.parameter_count(), "all but the file's f16 matrices in eight bits");
        let f16 = LocalModel::load_folder(&fixtures().join("lm/llama-untied-bias"), 0).unwrap();
        assert!(bytes(&f16, WeightForm::F32) > bytes(&f16, WeightForm::Bf16), "no smaller form holds half floats");
    }

    #[test]
    fn a_file_that_changed_since_it_was_checked_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        for file in ["config.json", "tokenizer.json", "model.safetensors"] {
            std::fs::copy(fixtures().join("lm/qwen3").join(file), dir.path().join(file)).unwrap();
        }
        let model = LocalModel::load_folder(dir.path(), 0).unwrap();
        let path = dir.path().join("model.safetensors");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 4]).unwrap();
        let error = model.engine().unwrap_err().to_string();
        assert!(error.contains("model.safetensors") && error.contains("has changed since it was checked"), "{error}");
    }
}
