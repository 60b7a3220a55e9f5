//! The files of an embedder's folder, read with errors that name them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use safetensors::{Dtype, tensor::TensorView};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::RetrievalError;
use super::super::error::first_line;

/// Longest safetensors header that is believed.
const MAX_HEADER: u64 = 100 << 20;

/// A named error of this folder.
pub fn problem(folder: &Path, problem: impl Into<String>) -> RetrievalError {
    RetrievalError::embedder(folder.display(), problem)
}

/// The bytes of a file in the folder.
pub fn read(folder: &Path, name: &str) -> Result<Vec<u8>, RetrievalError> {
    std::fs::read(folder.join(name)).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => problem(folder, format!("has no `{name}`")),
        _ => RetrievalError::File { path: folder.join(name).display().to_string(), source },
    })
}

/// A JSON file in the folder.
pub fn read_json<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<T, RetrievalError> {
    parse_json(folder, name, &read(folder, name)?)
}

/// [`read_json`], or nothing when there is no such file.
pub fn read_json_if_there<T: DeserializeOwned>(folder: &Path, name: &str) -> Result<Option<T>, RetrievalError> {
    if folder.join(name).exists() { read_json(folder, name).map(Some) } else { Ok(None) }
}

fn parse_json<T: DeserializeOwned>(folder: &Path, name: &str, bytes: &[u8]) -> Result<T, RetrievalError> {
    serde_json::from_slice(bytes).map_err(|error| problem(folder, format!("`{name}`: {}", first_line(&error))))
}

/// What a safetensors header says of one tensor.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct TensorInfo {
    /// Lengths, outermost first.
    pub shape: Vec<usize>,
    data_offsets: (u64, u64),
}

/// Reads the header of `model.safetensors` and checks the file's length against it; the weights themselves stay on disk.
///
/// # Errors
/// [`RetrievalError::Embedder`] when the file is missing, cut short, or its header cannot be read.
pub fn read_tensor_header(folder: &Path) -> Result<BTreeMap<String, TensorInfo>, RetrievalError> {
    const NAME: &str = "model.safetensors";
    let mut file = File::open(folder.join(NAME)).map_err(|_| problem(folder, format!("has no readable `{NAME}`")))?;
    let unreadable = |_| problem(folder, format!("`{NAME}` is cut short"));
    let file_bytes = file.metadata().map_err(unreadable)?.len();
    let mut length = [0u8; 8];
    file.read_exact(&mut length).map_err(unreadable)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER.min(file_bytes.saturating_sub(8)) {
        return Err(problem(folder, format!("`{NAME}` is cut short or is not a safetensors file")));
    }
    let mut header = vec![0u8; length as usize];
    file.read_exact(&mut header).map_err(unreadable)?;
    let mut entries: BTreeMap<String, serde_json::Value> = parse_json(folder, NAME, &header)?;
    entries.remove("__metadata__");
    let infos: BTreeMap<String, TensorInfo> = entries
        .into_iter()
        .map(|(name, entry)| serde_json::from_value(entry).map(|info| (name, info)))
        .collect::<Result<_, _>>()
        .map_err(|error| problem(folder, format!("`{NAME}`: {}", first_line(&error))))?;
    let end = infos.values().map(|info| info.data_offsets.1).max().unwrap_or(0);
    if 8 + length + end != file_bytes {
        return Err(problem(folder, format!("`{NAME}` has {file_bytes} bytes, its header promises {}", 8 + length + end)));
    }
    Ok(infos)
}

/// Refuses a tensor that is missing or has another shape.
pub fn expect_shape(folder: &Path, header: &BTreeMap<String, TensorInfo>, name: &str, shape: &[usize]) -> Result<(), RetrievalError> {
    match header.get(name) {
        None => Err(problem(folder, format!("`model.safetensors` has no tensor `{name}`"))),
        Some(info) if info.shape != shape => {
            Err(problem(folder, format!("tensor `{name}` has shape {:?}, `config.json` asks for {shape:?}", info.shape)))
        }
        Some(_) => Ok(()),
    }
}

/// A tensor's values as f32.
///
/// # Errors
/// [`RetrievalError::Embedder`] naming the tensor when its type is not one that weights come in.
pub fn floats(folder: &Path, name: &str, tensor: &TensorView) -> Result<Vec<f32>, RetrievalError> {
    let data = tensor.data();
    Ok(match tensor.dtype() {
        Dtype::F32 => numbers(data, f32::from_le_bytes),
        Dtype::F64 => numbers(data, |bytes| f64::from_le_bytes(bytes) as f32),
        Dtype::F16 => numbers(data, |bytes| half::f16::from_le_bytes(bytes).to_f32()),
        Dtype::BF16 => numbers(data, |bytes| half::bf16::from_le_bytes(bytes).to_f32()),
        Dtype::I8 => numbers(data, |bytes| f32::from(i8::from_le_bytes(bytes))),
        Dtype::I32 => numbers(data, |bytes| i32::from_le_bytes(bytes) as f32),
        Dtype::I64 => numbers(data, |bytes| i64::from_le_bytes(bytes) as f32),
        other => return Err(problem(folder, format!("tensor `{name}` has type {other:?}, which is not supported"))),
    })
}

fn numbers<const N: usize>(data: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    data.chunks_exact(N).map(|bytes| read(bytes.try_into().expect("chunks of N bytes"))).collect()
}
