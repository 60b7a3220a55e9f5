//! Where the decoder computes. This is the only file that knows whether the program was built with CUDA: everything else is given a
//! [`ComputeDevice`] and calls candle's operations, or the kernels of [`super::ops`] where tensors are f32 in main memory.
//!
//! A GPU that is named and cannot be had is an error, never a quiet fall-back. The embedder, the index and pre-training stay on the CPU, and
//! so does the optimizer's state.

use candle_core::Device;

use crate::diagnostic::Hint;
use crate::spec::DeviceName;

/// A device that has been opened.
#[derive(Debug, Clone)]
pub struct ComputeDevice {
    device: Device,
    label: String,
}

/// Why a device cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The program has no code for it.
    #[error("`model.device` is `{0}`, and this program was built without CUDA")]
    NotBuilt(DeviceName),
    /// The machine does not have it.
    #[error("`model.device` is `{name}`, and CUDA finds {} on this machine", gpus(*.count))]
    Missing {
        /// As asked for.
        name: DeviceName,
        /// GPUs that are there.
        count: usize,
    },
    /// It is there and does not open.
    #[error("cannot use `{name}`")]
    Unusable {
        /// As asked for.
        name: DeviceName,
        /// Why.
        source: candle_core::Error,
    },
}

fn gpus(count: usize) -> String {
    match count {
        0 => "no GPU".into(),
        1 => "one GPU".into(),
        _ => format!("{count} GPUs"),
    }
}

impl Hint for DeviceError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotBuilt(_) => {
                "build it with `cargo build --release --features cuda` (README.md says what that needs), or set `model.device = \"cpu\"`"
                    .into()
            }
            Self::Missing { count: 0, .. } => "see whether `nvidia-smi` lists a GPU, or set `model.device = \"cpu\"`".into(),
            Self::Missing { count, .. } => format!("GPUs count from 0: the last one is `cuda:{}`", count - 1),
            Self::Unusable { .. } => {
                "see `nvidia-smi`: another program may hold its memory, or the driver may be older than the CUDA that this \
                                      program was built with"
                    .into()
            }
        })
    }
}

impl ComputeDevice {
    /// The processor.
    pub fn cpu() -> Self {
        Self { device: Device::Cpu, label: "cpu".into() }
    }

    /// Opens what a spec names; `auto` is the first GPU if there is one.
    ///
    /// # Errors
    /// [`DeviceError`] when a GPU is named that this build or this machine does not have, or when a GPU that is there does not open.
    pub fn open(name: DeviceName) -> Result<Self, DeviceError> {
        match name {
            DeviceName::Cpu => Ok(Self::cpu()),
            DeviceName::Auto if gpu::count() == 0 => Ok(Self::cpu()),
            DeviceName::Auto => Self::gpu(DeviceName::Cuda(0), 0),
            DeviceName::Cuda(number) => Self::gpu(name, number),
        }
    }

    fn gpu(name: DeviceName, number: usize) -> Result<Self, DeviceError> {
        if !gpu::BUILT {
            return Err(DeviceError::NotBuilt(name));
        }
        let count = gpu::count();
        if number >= count {
            return Err(DeviceError::Missing { name, count });
        }
        let (device, product) = gpu::open(number).map_err(|source| DeviceError::Unusable { name, source })?;
        Ok(Self { device, label: format!("{name} ({product})") })
    }

    /// As the manifest names it: `cpu`, or such as `cuda:0 (NVIDIA H100 80GB HBM3)`.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// For tensors.
    pub fn candle(&self) -> &Device {
        &self.device
    }
}

/// What to do about a failed tensor operation, if it failed for want of a GPU's memory.
pub fn memory_hint(error: &candle_core::Error) -> Option<String> {
    let out_of_memory = ["OUT_OF_MEMORY", "ALLOC_FAILED"].iter().any(|word| error.to_string().contains(word));
    out_of_memory.then(|| "the GPU's memory is full: lower `generation.batch_size`, `finetune.micro_batch` or `finetune.max_length`".into())
}

#[cfg(feature = "cuda")]
mod gpu {
    use candle_core::cuda::cudarc::driver::CudaContext;
    use candle_core::{Device, Error, Result};

    pub(super) const BUILT: bool = true;

    /// GPUs that CUDA can use; none without a driver.
    pub(super) fn count() -> usize {
        CudaContext::device_count().map_or(0, |count| count.max(0) as usize)
    }

    /// The device and its product name.
    pub(super) fn open(number: usize) -> Result<(Device, String)> {
        // One stream for all threads keeps the order of the operations that they issue; candle's default is a stream per thread, and a
        // weight that one thread uploads could then be read by another before it is there.
        let device = Device::new_cuda_with_stream(number)?;
        let product = device.as_cuda_device()?.cuda_stream().context().name().map_err(Error::wrap)?;
        Ok((device, product))
    }
}

#[cfg(not(feature = "cuda"))]
mod gpu {
    use candle_core::{Device, Error, Result};

    pub(super) const BUILT: bool = false;

    pub(super) fn count() -> usize {
        0
    }

    pub(super) fn open(_: usize) -> Result<(Device, String)> {
        Err(Error::NotCompiledWithCudaSupport)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_always_there() {
        assert_eq!(ComputeDevice::open(DeviceName::Cpu).unwrap().label(), "cpu");
    }

    #[test]
    fn auto_is_the_processor_where_there_is_no_gpu() {
        let device = ComputeDevice::open(DeviceName::Auto).unwrap();
        assert_eq!(device.candle().is_cpu(), gpu::count() == 0);
        assert_eq!(device.label() == "cpu", device.candle().is_cpu());
    }

    #[test]
    fn a_gpu_that_cannot_be_had_is_an_error_with_a_way_out() {
        let name = DeviceName::Cuda(gpu::count() + 7);
        let error = ComputeDevice::open(name).unwrap_err();
        let hint = error.hint().unwrap();
        if gpu::BUILT {
            assert!(
                error.to_string().contains(&name.to_string()) && hint.contains("cuda:") | hint.contains("nvidia-smi"),
                "{error}: {hint}"
            );
        } else {
            assert!(matches!(error, DeviceError::NotBuilt(asked) if asked == name));
            assert!(hint.contains("cargo build --release --features cuda"), "{hint}");
        }
    }

    #[test]
    fn a_full_gpu_says_what_to_lower() {
        let error = candle_core::Error::Msg("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")".into());
        assert!(memory_hint(&error).unwrap().contains("generation.batch_size"));
        assert_eq!(memory_hint(&candle_core::Error::Msg("shape mismatch".into())), None);
    }
}
