//! From candle tensors to slices and back.

use std::ops::Deref;

use candle_core::{CpuStorage, DType, Layout, Result, Storage, Tensor, bail};

/// Whether the kernels of this module apply: every tensor is f32 in main memory.
pub fn supported(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|tensor| tensor.dtype() == DType::F32 && tensor.device().is_cpu())
}

/// The elements of a contiguous f32 storage.
pub(super) fn floats<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else { bail!("a kernel was given a tensor that is not contiguous: {layout:?}") };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// A tensor's storage, locked for reading.
pub(super) struct Reader<'a, S> {
    storage: S,
    layout: &'a Layout,
}

/// Locks `tensor` for reading.
pub(super) fn read(tensor: &Tensor) -> Reader<'_, impl Deref<Target = Storage> + '_> {
    let (storage, layout) = tensor.storage_and_layout();
    Reader { storage, layout }
}

impl<S: Deref<Target = Storage>> Reader<'_, S> {
    /// Its elements, if they are contiguous f32 in main memory.
    pub(super) fn floats(&self) -> Result<&[f32]> {
        floats(self.cpu()?, self.layout)
    }

    /// Its elements from the first one on, whatever the strides.
    pub(super) fn floats_onward(&self) -> Result<&[f32]> {
        Ok(&self.cpu()?.as_slice::<f32>()?[self.layout.start_offset()..])
    }

    fn cpu(&self) -> Result<&CpuStorage> {
        match &*self.storage {
            Storage::Cpu(storage) => Ok(storage),
            _ => bail!("a kernel for main memory was given a tensor of another device"),
        }
    }
}

/// Calls `work` with the elements of every tensor, in order.
///
/// # Errors
/// When a tensor is not contiguous f32 in main memory, or where `work` fails.
pub fn with_floats<R>(tensors: &[&Tensor], work: impl FnOnce(&[&[f32]]) -> Result<R>) -> Result<R> {
    let readers: Vec<_> = tensors.iter().map(|tensor| read(tensor)).collect();
    let slices = readers.iter().map(Reader::floats).collect::<Result<Vec<_>>>()?;
    work(&slices)
}

/// A tensor shaped like `like`, made of `data`.
pub(super) fn tensor_like(data: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(data, like.shape(), like.device())
}
