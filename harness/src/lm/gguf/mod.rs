//! GGUF files: a decoder's shape, weights and tokenizer in one file, as llama.cpp has them. Quantised weights are widened to f32 when they are
//! read, so everything else sees a decoder like any other: answering, and a frozen base for LoRA.

mod header;
mod tokenizer;

use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};

use super::ModelError;
use super::config::DecoderConfig;
use super::config_file;
use super::layout::tensor_shapes;
use super::tokenizer::Tokenizer;
use super::weights::CheckedFile;
use header::Header;

/// A file whose header was checked against its own description. No tensor has been read, except the rotary divisors.
#[derive(Debug, Clone)]
pub struct GgufFile {
    file: CheckedFile,
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
        let file = CheckedFile::new(path)?;
        let mut reader = BufReader::new(file.open()?);
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
        check_tensors(&content, &config, file.length()).map_err(failed)?;
        let interleaved = header.is_interleaved();
        Ok(CheckedGguf { file: Self { file, content: Arc::new(content), interleaved }, config })
    }

    /// The tokenizer in the file.
    ///
    /// # Errors
    /// When there is none, or one of a kind that is not known here.
    pub fn tokenizer(&self) -> Result<Tokenizer, ModelError> {
        let label = self.file.path().display().to_string();
        tokenizer::build(&Header { content: &self.content, path: &label })
    }

    /// The end and beginning tokens that the file names, to go with a tokenizer from elsewhere.
    pub(super) fn special(&self) -> super::SpecialTokens {
        let label = self.file.path().display().to_string();
        Header { content: &self.content, path: &label }.special()
    }

    /// Type of most of the weights on disk, for example `q8_0`: that of the first block's query projection.
    pub fn dtype_name(&self) -> &'static str {
        let dtype = self.content.tensor_infos.get(&header::stored_name("model.layers.0.self_attn.q_proj.weight"));
        dtype.map_or("unknown", |info| header::dtype_name(info.ggml_dtype))
    }

    /// Bytes of the file.
    pub fn bytes_on_disk(&self) -> u64 {
        self.file.length()
    }

    /// BLAKE3 over the file.
    pub fn hash(&self) -> Result<String, ModelError> {
        let failed = |source| ModelError::Io { path: self.file.path().display().to_string(), source };
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(self.file.open()?).map_err(failed)?;
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// Reads one weight of the decoder, widened to f32.
    pub(super) fn read(&self, config: &DecoderConfig, name: &str) -> Result<Vec<f32>, ModelError> {
        let mut reader = BufReader::new(self.file.open()?);
        let tensor = self.content.tensor(&mut reader, &header::stored_name(name), &Device::Cpu)?.dequantize(&Device::Cpu)?;
        let tensor = match rotated_heads(config, name).filter(|_| self.interleaved) {
            Some(heads) => halves(&tensor, heads)?,
            None => tensor,
        };
        Ok(tensor.flatten_all()?.to_vec1()?)
    }
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
