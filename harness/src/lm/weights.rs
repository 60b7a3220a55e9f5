//! Safetensors, one file or shards: checked by header first, then mapped into memory and widened to f32.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use candle_core::safetensors::{Load as _, MmapedSafetensors, SliceSafetensors};
use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Dtype, Metadata, TensorView};
use serde::Deserialize;

use super::ModelError;
use super::config::DecoderConfig;
use super::decoder::Decoder;
use super::gguf::GgufFile;
use super::layout::{stored, stored_offset, stored_shapes};

/// No header is this long; a larger number means that the file is not safetensors.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// What a header says of one tensor.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
}

/// Weight files whose headers and lengths were checked against a configuration. No tensor has been read.
#[derive(Debug, Clone)]
pub struct WeightFiles {
    label: String,
    files: Vec<PathBuf>,
    dtype: Dtype,
}

/// Checked weights, of either kind.
#[derive(Debug, Clone)]
pub enum StoredWeights {
    /// Safetensors, one file or shards.
    Safetensors(WeightFiles),
    /// A GGUF file.
    Gguf(GgufFile),
}

impl StoredWeights {
    /// Type of the weights on disk, for example `f16` or `q8_0`.
    pub fn dtype_name(&self) -> &'static str {
        match self {
            Self::Safetensors(files) => files.dtype_name(),
            Self::Gguf(file) => file.dtype_name(),
        }
    }

    /// Bytes of the files.
    pub fn bytes_on_disk(&self) -> u64 {
        match self {
            Self::Safetensors(files) => files.bytes_on_disk(),
            Self::Gguf(file) => file.bytes_on_disk(),
        }
    }

    /// BLAKE3 over the bytes of the files.
    pub fn hash(&self) -> Result<String, ModelError> {
        match self {
            Self::Safetensors(files) => files.hash(),
            Self::Gguf(file) => file.hash(),
        }
    }

    /// Builds the decoder, in f32.
    pub fn load(&self, config: &DecoderConfig, device: &Device) -> Result<Decoder, ModelError> {
        match self {
            Self::Safetensors(files) => files.load(config, device),
            Self::Gguf(file) => file.load(config, device),
        }
    }
}

#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl WeightFiles {
    /// Finds the weights of a model folder and checks that every tensor of the configuration is there, whole, in its shape.
    ///
    /// # Errors
    /// [`ModelError::Folder`] without weights, [`ModelError::Weights`] naming the file or tensor otherwise.
    pub fn check(folder: &Path, config: &DecoderConfig) -> Result<Self, ModelError> {
        let label = folder.display().to_string();
        let files = find_files(folder, &label)?;
        let mut entries = BTreeMap::new();
        for file in &files {
            entries.extend(read_header(file).map_err(|problem| ModelError::Weights { path: label.clone(), problem })?);
        }
        let dtype = check_entries(&entries, config).map_err(|problem| ModelError::Weights { path: label.clone(), problem })?;
        Ok(Self { label, files, dtype })
    }

    /// Type of the embedding on disk: `f32`, `f16` or `bf16`.
    pub fn dtype_name(&self) -> &'static str {
        dtype_name(self.dtype).expect("checked to be a float type")
    }

    /// Bytes of the files.
    pub fn bytes_on_disk(&self) -> u64 {
        self.files.iter().filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
    }

    /// BLAKE3 over the bytes of the files in the order of their names.
    pub fn hash(&self) -> Result<String, ModelError> {
        let mut hasher = blake3::Hasher::new();
        for file in &self.files {
            let failed = |source| ModelError::Io { path: file.display().to_string(), source };
            hasher.update_reader(File::open(file).map_err(failed)?).map_err(failed)?;
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// Maps the files and builds the decoder, in f32.
    pub fn load(&self, config: &DecoderConfig, device: &Device) -> Result<Decoder, ModelError> {
        // SAFETY: a mapped file must not be changed while it is mapped. The map lives for the length of this function; the tensors are
        // copies. A file that another process truncates meanwhile ends this one with a signal, as any reader of a map.
        #[expect(unsafe_code, reason = "memory-mapping is how gigabytes of weights are read without a second copy")]
        let mapped = unsafe { MmapedSafetensors::multi(&self.files) }?;
        build(config, device, &self.label, |name| mapped.get(name))
    }
}

/// Builds a decoder from the bytes of one safetensors file; `label` names the model in errors.
///
/// # Errors
/// [`ModelError::Weights`] when the bytes are not safetensors or do not fit the configuration.
pub fn load_bytes(bytes: &[u8], config: &DecoderConfig, device: &Device, label: &str) -> Result<Decoder, ModelError> {
    let problem = |problem: String| ModelError::Weights { path: label.into(), problem };
    let tensors = SliceSafetensors::new(bytes).map_err(|error| problem(format!("not a whole safetensors file: {error}")))?;
    let entry = |(name, view): (String, TensorView)| (name, Entry { dtype: view.dtype(), shape: view.shape().to_vec() });
    check_entries(&tensors.tensors().into_iter().map(entry).collect(), config).map_err(problem)?;
    build(config, device, label, |name| tensors.get(name))
}

fn build<'a>(
    config: &DecoderConfig,
    device: &Device,
    label: &str,
    view: impl Fn(&str) -> candle_core::Result<TensorView<'a>>,
) -> Result<Decoder, ModelError> {
    Decoder::new(config, device, |name, shape| -> Result<Tensor, ModelError> {
        let place = stored(config, name);
        let mut tensor = view(&place.name)?.load(device)?.to_dtype(DType::F32)?;
        if let Some((first, rows)) = place.rows {
            // A copy, so that the parts do not keep the whole alive.
            tensor = tensor.narrow(0, first, rows)?.force_contiguous()?;
        }
        match stored_offset(config, name) {
            0.0 => (),
            offset => tensor = (tensor + offset)?,
        }
        if tensor.dims() != shape {
            return Err(ModelError::Weights { path: label.into(), problem: wrong_shape(name, tensor.dims(), shape) });
        }
        Ok(tensor)
    })
}

fn find_files(folder: &Path, label: &str) -> Result<Vec<PathBuf>, ModelError> {
    let missing = |problem: String| ModelError::Folder { path: label.into(), problem };
    let single = folder.join("model.safetensors");
    if single.is_file() {
        return Ok(vec![single]);
    }
    let index = folder.join("model.safetensors.index.json");
    let text = std::fs::read(&index).map_err(|_| missing("has neither `model.safetensors` nor `model.safetensors.index.json`".into()))?;
    let index: ShardIndex = serde_json::from_slice(&text).map_err(|error| missing(format!("`model.safetensors.index.json`: {error}")))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    if let Some(shard) = shards.iter().find(|shard| Path::new(shard).components().count() != 1 || !folder.join(shard).is_file()) {
        return Err(missing(format!("lacks the shard `{shard}` that `model.safetensors.index.json` names")));
    }
    Ok(shards.into_iter().map(|shard| folder.join(shard)).collect())
}

fn read_header(path: &Path) -> Result<BTreeMap<String, Entry>, String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let failed = |error: std::io::Error| format!("`{name}` cannot be read: {error}");
    let mut file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut prefix = [0u8; 8];
    file.read_exact(&mut prefix).map_err(|_| format!("`{name}` has {length} bytes: not a safetensors file"))?;
    let header_bytes = u64::from_le_bytes(prefix);
    if header_bytes > MAX_HEADER_BYTES {
        return Err(format!("`{name}` does not begin with a safetensors header"));
    }
    let mut header = Vec::new();
    file.take(header_bytes).read_to_end(&mut header).map_err(failed)?;
    if (header.len() as u64) < header_bytes {
        return Err(format!("`{name}` is truncated: it has {length} bytes and its header alone {header_bytes}"));
    }
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| format!("header of `{name}`: {error}"))?;
    let expected = 8 + header_bytes + metadata.data_len() as u64;
    if length != expected {
        let what = if length < expected { "is truncated" } else { "is longer than its header says" };
        return Err(format!("`{name}` {what}: it has {length} bytes, its header asks for {expected}"));
    }
    let entry = |info: &safetensors::tensor::TensorInfo| Entry { dtype: info.dtype, shape: info.shape.clone() };
    Ok(metadata.tensors().into_iter().map(|(name, info)| (name, entry(info))).collect())
}

/// Checks presence, shape and type of every expected tensor; gives the type of the first.
fn check_entries(entries: &BTreeMap<String, Entry>, config: &DecoderConfig) -> Result<Dtype, String> {
    for (name, shape) in stored_shapes(config) {
        let entry = entries.get(&name).ok_or_else(|| format!("tensor `{name}` of shape {shape:?} is missing"))?;
        if entry.shape != shape {
            return Err(wrong_shape(&name, &entry.shape, &shape));
        }
        if dtype_name(entry.dtype).is_none() {
            return Err(format!("tensor `{name}` has type `{:?}`, expected F32, F16 or BF16", entry.dtype));
        }
    }
    Ok(entries["model.embed_tokens.weight"].dtype)
}

fn wrong_shape(name: &str, found: &[usize], expected: &[usize]) -> String {
    format!("tensor `{name}` has shape {found:?}, `config.json` asks for {expected:?}")
}

fn dtype_name(dtype: Dtype) -> Option<&'static str> {
    match dtype {
        Dtype::F32 => Some("f32"),
        Dtype::F16 => Some("f16"),
        Dtype::BF16 => Some("bf16"),
        _ => None,
    }
}
