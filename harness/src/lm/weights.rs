//! Safetensors, one file or shards: checked by header first, then read weight by weight and widened to f32.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use candle_core::{Device, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::SafeTensors;
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
    /// Which of the files, and where its bytes begin in it.
    place: (usize, u64),
}

/// A file as it was when it was checked.
#[derive(Debug, Clone)]
pub(super) struct CheckedFile {
    path: PathBuf,
    length: u64,
    modified: Option<SystemTime>,
}

impl CheckedFile {
    /// Takes down how the file stands now.
    pub(super) fn new(path: &Path) -> Result<Self, ModelError> {
        let metadata = path.metadata().map_err(|source| ModelError::Io { path: path.display().to_string(), source })?;
        Ok(Self { path: path.to_owned(), length: metadata.len(), modified: metadata.modified().ok() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Opens it. Weights are read when they are needed, which may be an hour after the check.
    ///
    /// # Errors
    /// [`ModelError::Weights`] if it is not the file that was checked.
    pub(super) fn open(&self) -> Result<File, ModelError> {
        let failed = |source| ModelError::Io { path: self.path.display().to_string(), source };
        let file = File::open(&self.path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.len() != self.length || metadata.modified().ok() != self.modified {
            let problem = "has changed since it was checked: leave a model's files alone while they are in use".into();
            return Err(ModelError::Weights { path: self.path.display().to_string(), problem });
        }
        Ok(file)
    }
}

/// Weight files whose headers and lengths were checked against a configuration. No tensor has been read.
#[derive(Debug, Clone)]
pub struct WeightFiles {
    label: String,
    files: Vec<CheckedFile>,
    entries: Arc<BTreeMap<String, Entry>>,
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

    /// Reads one weight, under the name that the decoder has for it, in row-major f32.
    ///
    /// # Errors
    /// [`ModelError::Io`], or [`ModelError::Weights`] if the files are not those that were checked.
    pub fn read(&self, config: &DecoderConfig, name: &str) -> Result<Vec<f32>, ModelError> {
        match self {
            Self::Safetensors(files) => files.read(config, name),
            Self::Gguf(file) => file.read(config, name),
        }
    }

    /// Builds the decoder, in f32.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn load(&self, config: &DecoderConfig, device: &Device) -> Result<Decoder, ModelError> {
        Decoder::new(config, device, |name, shape| Ok(Tensor::from_vec(self.read(config, name)?, shape, device)?))
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
        let files = find_files(folder, &label)?.iter().map(|file| CheckedFile::new(file)).collect::<Result<Vec<_>, _>>()?;
        let mut entries = BTreeMap::new();
        for (index, file) in files.iter().enumerate() {
            entries.extend(read_header(file, index).map_err(|problem| ModelError::Weights { path: label.clone(), problem })?);
        }
        let dtype = check_entries(&entries, config).map_err(|problem| ModelError::Weights { path: label.clone(), problem })?;
        Ok(Self { label, files, entries: Arc::new(entries), dtype })
    }

    /// Type of the embedding on disk: `f32`, `f16` or `bf16`.
    pub fn dtype_name(&self) -> &'static str {
        dtype_name(self.dtype).expect("checked to be a float type")
    }

    /// Bytes of the files.
    pub fn bytes_on_disk(&self) -> u64 {
        self.files.iter().map(CheckedFile::length).sum()
    }

    /// BLAKE3 over the bytes of the files in the order of their names.
    pub fn hash(&self) -> Result<String, ModelError> {
        let mut hasher = blake3::Hasher::new();
        for file in &self.files {
            hasher.update_reader(file.open()?).map_err(|source| ModelError::Io { path: file.path().display().to_string(), source })?;
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// Reads one weight of the decoder.
    fn read(&self, config: &DecoderConfig, name: &str) -> Result<Vec<f32>, ModelError> {
        let place = stored(config, name);
        let lacking = || ModelError::Weights { path: self.label.clone(), problem: format!("tensor `{}` is missing", place.name) };
        let entry = self.entries.get(&place.name).ok_or_else(lacking)?;
        let (file, (start, length)) = (&self.files[entry.place.0], bytes_of(entry, place.rows));
        let failed = |source| ModelError::Io { path: file.path().display().to_string(), source };
        let mut reader = file.open()?;
        let mut bytes = vec![0; length];
        reader.seek(SeekFrom::Start(entry.place.1 + start as u64)).map_err(failed)?;
        reader.read_exact(&mut bytes).map_err(failed)?;
        Ok(applied(widened(entry.dtype, &bytes), config, name))
    }
}

/// Builds a decoder from the bytes of one safetensors file; `label` names the model in errors.
///
/// # Errors
/// [`ModelError::Weights`] when the bytes are not safetensors or do not fit the configuration.
pub fn load_bytes(bytes: &[u8], config: &DecoderConfig, device: &Device, label: &str) -> Result<Decoder, ModelError> {
    let problem = |problem: String| ModelError::Weights { path: label.into(), problem };
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| problem(format!("not a whole safetensors file: {error}")))?;
    let entry = |view: &TensorView| Entry { dtype: view.dtype(), shape: view.shape().to_vec(), place: (0, 0) };
    let views: BTreeMap<String, TensorView> = tensors.iter().map(|(name, view)| (name.to_owned(), view)).collect();
    let entries: BTreeMap<String, Entry> = views.iter().map(|(name, view)| (name.clone(), entry(view))).collect();
    check_entries(&entries, config).map_err(problem)?;
    Decoder::new(config, device, |name, shape| -> Result<Tensor, ModelError> {
        let place = stored(config, name);
        let (entry, view) = (&entries[&place.name], &views[&place.name]);
        let (start, length) = bytes_of(entry, place.rows);
        let values = applied(widened(entry.dtype, &view.data()[start..start + length]), config, name);
        Ok(Tensor::from_vec(values, shape, device)?)
    })
}

/// Where the bytes of some rows of a tensor, or of all, begin in it, and how many they are.
fn bytes_of(entry: &Entry, rows: Option<(usize, usize)>) -> (usize, usize) {
    let whole = entry.dtype.bitsize() / 8 * entry.shape.iter().product::<usize>();
    match rows {
        Some((first, rows)) => (whole / entry.shape[0] * first, whole / entry.shape[0] * rows),
        None => (0, whole),
    }
}

/// The floats in the bytes of a tensor whose type was checked.
fn widened(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    let half = |bytes: &[u8]| u16::from_le_bytes([bytes[0], bytes[1]]);
    match dtype {
        Dtype::F16 => bytes.par_chunks_exact(2).map(|bytes| f16::from_bits(half(bytes)).to_f32()).collect(),
        Dtype::BF16 => bytes.par_chunks_exact(2).map(|bytes| bf16::from_bits(half(bytes)).to_f32()).collect(),
        _ => bytes.par_chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect(),
    }
}

/// A stored weight as the decoder applies it.
fn applied(mut values: Vec<f32>, config: &DecoderConfig, name: &str) -> Vec<f32> {
    let offset = stored_offset(config, name) as f32;
    if offset != 0.0 {
        values.iter_mut().for_each(|value| *value += offset);
    }
    values
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

fn read_header(checked: &CheckedFile, index: usize) -> Result<BTreeMap<String, Entry>, String> {
    let (path, length) = (checked.path(), checked.length());
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let failed = |error: std::io::Error| format!("`{name}` cannot be read: {error}");
    let mut file = File::open(path).map_err(failed)?;
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
    let entry = |info: &safetensors::tensor::TensorInfo| {
        let start = 8 + header_bytes + info.data_offsets.0 as u64;
        Entry { dtype: info.dtype, shape: info.shape.clone(), place: (index, start) }
    };
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
