//! Choosing where tensors live: the CPU (burn-flex) or a CUDA device.
//!
//! Nothing here starts a CUDA context: a machine without a driver is told apart
//! by enumeration, because the first tensor on an absent device panics inside
//! the runtime's own threads.

use std::panic::{AssertUnwindSafe, catch_unwind};

use anyhow::{Result, bail};
use burn::tensor::{DType, Device, DeviceType, MemoryPoolUsage};

use crate::experiment::{DeviceChoice, Dtype};

/// A device together with the type its weights and activations are kept in.
#[derive(Clone, Debug)]
pub struct Compute {
    /// Where tensors live, without autodiff.
    pub device: Device,
    /// Whether that is the CPU.
    pub is_cpu: bool,
    /// Type of weights and activations; adapters and optimizer state stay f32.
    pub dtype: DType,
    /// As written in an experiment: `cpu`, `cuda:0`.
    pub name: String,
}

impl Compute {
    /// The CPU in f32: burn-flex converts narrower types on every product, so
    /// nothing else is faster or more exact there.
    pub fn cpu() -> Self {
        Self {
            device: Device::flex(),
            is_cpu: true,
            dtype: DType::F32,
            name: "cpu".into(),
        }
    }

    /// Finds what `[model] device` and `dtype` ask for.
    ///
    /// # Errors
    /// A CUDA device that is asked for and absent, or bfloat16 on the CPU.
    pub fn new(device: DeviceChoice, dtype: Dtype) -> Result<Self> {
        let cuda_devices = cuda_device_count();
        let index = match device {
            DeviceChoice::Cpu => None,
            DeviceChoice::Auto => (cuda_devices > 0).then_some(0),
            DeviceChoice::Cuda(index) => Some(index.unwrap_or(0)),
        };
        let mut compute = match index {
            None => Self::cpu(),
            Some(index) if index < cuda_devices => Self {
                device: Device::cuda(index),
                is_cpu: false,
                dtype: DType::BF16,
                name: format!("cuda:{index}"),
            },
            Some(index) => bail!(
                "model.device = \"{device}\": this machine shows {cuda_devices} CUDA device(s), so cuda:{index} \
                 is not there; use device = \"cpu\" or \"auto\", or check the driver with nvidia-smi"
            ),
        };
        match dtype {
            Dtype::Auto => {}
            Dtype::Float32 => compute.dtype = DType::F32,
            Dtype::Bfloat16 if index.is_none() => bail!(
                "model.dtype = \"bfloat16\": the CPU computes in float32 (bfloat16 would be slower and less exact); \
                 use dtype = \"auto\""
            ),
            Dtype::Bfloat16 => compute.dtype = DType::BF16,
        }
        Ok(compute)
    }

    /// What the memory pools of the device hold. `None` on the CPU, which has none, and after the
    /// device has failed.
    ///
    /// Asks the device's own queue, so it may wait for what was asked of it before. Called from a
    /// thread that computes nothing it leaves the trainer's recorded operations alone.
    pub fn memory(&self) -> Option<MemoryPoolUsage> {
        if self.is_cpu {
            return None;
        }
        // burn raises the panic of a device's queue again in whoever asks; training meets it on its
        // own, where it can be told.
        catch_unwind(AssertUnwindSafe(|| self.device.memory_pool_usage()))
            .ok()
            .flatten()
    }
}

/// How many CUDA devices this machine shows; 0, without a panic, where there is no driver.
pub fn cuda_device_count() -> usize {
    Device::enumerate(DeviceType::Cuda).into_iter().count()
}
