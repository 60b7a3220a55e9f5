//! GGUF files: a decoder's shape, weights and tokenizer in one file, as llama.cpp has them. Quantised weights are widened to f32 when they are
//! loaded, so everything else sees a decoder like any other: answering, and a frozen base for LoRA.

mod header;
mod tokenizer;

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};

use super::ModelError;
use super::config::DecoderConfig;
use super::config_file;
use super::decoder::Decoder;
use super::layout::tensor_shapes;
use super::tokenizer::Tokenizer;
use header::Header;

/// A file whose header was checked against its own description. No tensor has been read, except the rotary divisors.
#[derive(Debug, Clone)]
pub struct GgufFile {
    path: PathBuf,
    content: Arc<Content>,
    /// Rows of query and key are interleaved (architecture `llama`).
    interleaved: bool,
}

/// What a file says of its model.
pub struct CheckedGguf {
    /// The weights.
    pub file: GgufFile,
    /// Shape of the decoder.
    pub config: DecoderConfig,
}

impl GgufFile {
    /// Reads the header and checks that every tensor of the decoder is there, whole, in its shape.
    ///
    /// # Errors
    /// [`ModelError`] naming what is missing, not computed or does not fit.
    pub fn check(path: &Path) -> Result<CheckedGguf, ModelError> {
        let label = path.display().to_string();
        let failed = |problem: String| ModelError::Weights { path: label.clone(), problem };
        let (mut reader, length) = open(path)?;
        let content =
            Content::read(&mut reader).map_err(|error| failed(format!("not a GGUF file that can be read: {}", first_line(&error))))?;
        let header = Header { content: &content, path: &label };
        let mut config = header.config()?;
        if content.tensor_infos.contains_key(header::ROPE_DIVISORS) {
            let tensor = content.tensor(&mut reader, header::ROPE_DIVISORS, &Device::Cpu)?;
            let divisors = tensor.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
            config.rope_scaling = header::divisors(divisors);
        }
        config_file::validate(&config).map_err(|problem| ModelError::Config { path: label.clone(), problem })?;
        check_tensors(&content, &config, length).map_err(failed)?;
        let interleaved = header.is_interleaved();
        Ok(CheckedGguf { file: Self { path: path.to_owned(), content: Arc::new(content), interleaved }, config })
    }

    /// The tokenizer in the file.
    ///
    /// # Errors
    /// When there is none, or one of a kind that is not known here.
    pub fn tokenizer(&self) -> Result<Tokenizer, ModelError> {
        let label = self.path.display().to_string();
        tokenizer::build(&Header { content: &self.content, path: &label })
    }

    /// The end and beginning tokens that the file names, to go with a tokenizer from elsewhere.
    pub(super) fn special(&self) -> super::SpecialTokens {
        let label = self.path.display().to_string();
        Header { content: &self.content, path: &label }.special()
    }

    /// Type of most of the weights on disk, for example `q8_0`: that of the first block's query projection.
    pub fn dtype_name(&self) -> &'static str {
        let dtype = self.content.tensor_infos.get(&header::stored_name("model.layers.0.self_attn.q_proj.weight"));
        dtype.map_or("unknown", |info| header::dtype_name(info.ggml_dtype))
    }

    /// Bytes of the file.
    pub fn bytes_on_disk(&self) -> u64 {
        self.path.metadata().map_or(0, |metadata| metadata.len())
    }

    /// BLAKE3 over the file.
    pub fn hash(&self) -> Result<String, ModelError> {
        let failed = |source| ModelError::Io { path: self.path.display().to_string(), source };
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(&self.path).map_err(failed)?).map_err(failed)?;
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// Builds the decoder, in f32.
    pub fn load(&self, config: &DecoderConfig, device: &Device) -> Result<Decoder, ModelError> {
        let (mut reader, _) = open(&self.path)?;
        Decoder::new(config, device, |name, _| -> Result<Tensor, ModelError> {
            let tensor = self.content.tensor(&mut reader, &header::stored_name(name), device)?.dequantize(device)?;
            match rotated_heads(config, name).filter(|_| self.interleaved) {
                Some(heads) => Ok(halves(&tensor, heads)?),
                None => Ok(tensor),
            }
        })
    }
}

fn open(path: &Path) -> Result<(BufReader<File>, u64), ModelError> {
    let failed = |source| ModelError::Io { path: path.display().to_string(), source };
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    Ok((BufReader::new(file), length))
}

/// candle appends a backtrace to some messages.
fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

fn check_tensors(content: &Content, config: &DecoderConfig, length: u64) -> Result<(), String> {
    for (name, shape) in tensor_shapes(config) {
        let stored = header::stored_name(&name);
        let info = content.tensor_infos.get(&stored).ok_or_else(|| format!("tensor `{stored}` of shape {shape:?} is missing"))?;
        if info.shape.dims() != shape {
            return Err(format!("tensor `{stored}` has shape {:?}, the header asks for {shape:?}", info.shape.dims()));
        }
        let block = info.ggml_dtype.block_size();
        let bytes = (info.shape.elem_count() / block * info.ggml_dtype.type_size()) as u64;
        let end = content.tensor_data_offset.saturating_add(info.offset).saturating_add(bytes);
        if !info.shape.elem_count().is_multiple_of(block) || end > length {
            return Err(format!("is truncated: tensor `{stored}` ends at byte {end} of {length}"));
        }
    }
    Ok(())
}

/// The number of heads, if the rows of the weight or bias are queries or keys.
fn rotated_heads(config: &DecoderConfig, name: &str) -> Option<usize> {
    let is = |module: &str| name.contains(&format!(".{module}."));
    (is("q_proj").then_some(config.num_attention_heads)).or(is("k_proj").then_some(config.num_key_value_heads))
}

/// Rows `(h, i, j)` to rows `(h, j, i)`: llama.cpp turns neighbouring pairs, transformers (and the decoder here) the two halves of a head.
fn halves(tensor: &Tensor, heads: usize) -> candle_core::Result<Tensor> {
    let rows = tensor.dim(0)?;
    let pairs = tensor.reshape((heads, rows / heads / 2, 2, tensor.elem_count() / rows))?;
    pairs.transpose(1, 2)?.contiguous()?.reshape(tensor.shape())
}

#[cfg(test)]
mod tests;
