//! Named tensors on disk: safetensors in f32, with the header that Python's loaders look for.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Dtype, TensorView};

use super::error::TrainingError;

/// Writes a file. Same tensors, same bytes.
pub(super) fn save(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), TrainingError> {
    let mut raw = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let values: Vec<f32> = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        raw.push((name, tensor.dims().to_vec(), values.into_iter().flat_map(f32::to_le_bytes).collect::<Vec<u8>>()));
    }
    let views = raw
        .iter()
        .map(|(name, dims, bytes)| (name.as_str(), TensorView::new(Dtype::F32, dims.clone(), bytes).expect("four bytes per element")));
    let header = std::collections::HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(views, Some(header), path)
        .map_err(|error| TrainingError::File { path: path.display().to_string(), source: std::io::Error::other(error) })
}

/// Reads a file; the error is what is wrong with it.
pub(super) fn load(path: &Path, device: &Device) -> Result<BTreeMap<String, Tensor>, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
    let tensors = candle_core::safetensors::load_buffer(&bytes, device).map_err(|error| format!("`{}`: {error}", path.display()))?;
    Ok(tensors.into_iter().collect())
}
