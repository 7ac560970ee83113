//! The choice of the device for tensors: the CPU (burn-flex), a CUDA device, or a card through wgpu.
//!
//! Choosing starts no CUDA context: a machine without a driver is recognised
//! by enumeration, because the first tensor on an absent device panics inside
//! the runtime's own threads.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use anyhow::{Result, bail};
use burn::tensor::kind::Basic;
use burn::tensor::{DType, Device, DeviceType, MemoryPoolUsage, Tensor, TensorData};

use moim_core::experiment::{DeviceChoice, Dtype};
use moim_core::panics;

mod warm_start;

pub use warm_start::cache_folder;

/// An environment variable: with `0`, decoding steps are launched one by one.
pub const GRAPHS: &str = "MOIM_CUDA_GRAPHS";

/// A device together with the type its weights and activations are kept in.
#[derive(Clone, Debug)]
pub struct Compute {
    /// The device of tensors, without autodiff.
    pub device: Device,
    /// Whether that is the CPU.
    pub is_cpu: bool,
    /// Type of weights and activations; adapters and optimizer state stay f32.
    pub dtype: DType,
    /// As written in an experiment: `cpu`, `cuda:0`.
    pub name: String,
    /// Whether a decoding step is recorded and run again, as a CUDA graph. Without it the same tokens come
    /// later. While a device records, no other may allocate: only with a single device.
    pub records_steps: bool,
    /// Work on more completions together fails as on a device that has run out of memory.
    /// For tests of that case.
    pub fails_above_rows: Option<usize>,
}

/// The device ran out of memory. What the work had allocated is free again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("out of device memory: {message}")]
pub struct OutOfMemory {
    /// The device's message.
    pub message: String,
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
            records_steps: false,
            fails_above_rows: None,
        }
    }

    /// Finds what `[model] device` and `dtype` select.
    ///
    /// # Errors
    /// A selected CUDA device is absent, or bfloat16 on the CPU.
    pub fn new(device: DeviceChoice, dtype: Dtype) -> Result<Self> {
        let cuda_devices = cuda_device_count();
        let mut compute = match device {
            DeviceChoice::Auto if cuda_devices > 0 => Self::cuda(0),
            DeviceChoice::Cpu | DeviceChoice::Auto => Self::cpu(),
            DeviceChoice::Wgpu => Self::wgpu()?,
            DeviceChoice::Cuda(index) => match index.unwrap_or(0) {
                index if index < cuda_devices => Self::cuda(index),
                index => bail!(
                    "model.device = \"{device}\": this machine shows {cuda_devices} CUDA device(s), so there is no cuda:{index}; \
                     use device = \"cpu\" or \"auto\", or check the driver with nvidia-smi"
                ),
            },
        };
        match dtype {
            Dtype::Auto => {}
            Dtype::Float32 => compute.dtype = DType::F32,
            Dtype::Bfloat16 if compute.is_cpu => bail!(
                "model.dtype = \"bfloat16\": the CPU computes in float32 (bfloat16 would be slower and less exact); \
                 use dtype = \"auto\""
            ),
            Dtype::Bfloat16 if device == DeviceChoice::Wgpu => {
                bail!("model.dtype = \"bfloat16\": wgpu computes in float32; use dtype = \"auto\"")
            }
            Dtype::Bfloat16 => compute.dtype = DType::BF16,
        }
        Ok(compute)
    }

    /// A CUDA device that exists, in bfloat16.
    fn cuda(index: usize) -> Self {
        warm_start::keep_kernels();
        Self {
            device: Device::cuda(index),
            is_cpu: false,
            dtype: DType::BF16,
            name: format!("cuda:{index}"),
            records_steps: std::env::var_os(GRAPHS).is_none_or(|value| value != "0"),
            fails_above_rows: None,
        }
    }

    /// The default card through wgpu, in f32: its shading language has no bfloat16.
    #[cfg(feature = "wgpu")]
    fn wgpu() -> Result<Self> {
        use burn::tensor::DeviceKind;
        // The first tensor on an absent device would panic.
        if Device::enumerate(DeviceType::Wgpu).into_iter().count() == 0 {
            bail!(
                "model.device = \"wgpu\": wgpu finds no graphics card or driver; use device = \"cpu\""
            );
        }
        warm_start::keep_kernels();
        Ok(Self {
            device: Device::wgpu(DeviceKind::DefaultDevice),
            is_cpu: false,
            dtype: DType::F32,
            name: "wgpu".into(),
            records_steps: false,
            fails_above_rows: None,
        })
    }

    #[cfg(not(feature = "wgpu"))]
    fn wgpu() -> Result<Self> {
        bail!(
            "model.device = \"wgpu\": this moim was built without wgpu; build it with \
             cargo build --release --features wgpu, or use device = \"cpu\" or \"cuda\""
        )
    }

    /// This device and the `count − 1` after it; on the CPU the same one `count` times.
    ///
    /// # Errors
    /// The machine has fewer.
    pub fn and_following(&self, count: usize) -> Result<Vec<Self>> {
        if self.is_cpu {
            return Ok(vec![self.clone(); count.max(1)]);
        }
        if self.name == "wgpu" {
            match count {
                0 | 1 => return Ok(vec![self.clone()]),
                _ => bail!(
                    "model.num_devices = {count}: wgpu has one device; set model.num_devices = 1"
                ),
            }
        }
        let first = self.device_index();
        let there = cuda_device_count();
        if first + count > there {
            bail!(
                "model.num_devices = {count}: from {} on, this machine shows {} CUDA device(s); \
                 set model.num_devices = {}",
                self.name,
                there - first.min(there),
                there - first.min(there)
            );
        }
        Ok((first..first + count)
            .map(|index| Self {
                dtype: self.dtype,
                records_steps: self.records_steps && count == 1,
                ..Self::cuda(index)
            })
            .collect())
    }

    /// The number in `cuda:1`.
    fn device_index(&self) -> usize {
        let number = self.name.split_once(':').map(|(_, number)| number);
        number.and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// Runs work on `rows` completions that may need more memory than the device has.
    ///
    /// The runtime reports a failed allocation only when a value that depends on it is read, so
    /// `work` must read one. What it had allocated is released before this returns.
    ///
    /// # Errors
    /// The device ran out of memory. Any other panic continues.
    pub fn attempt<T>(&self, rows: usize, work: impl FnOnce() -> T) -> Result<T, OutOfMemory> {
        if let Some(limit) = self.fails_above_rows.filter(|limit| rows > *limit) {
            return Err(OutOfMemory {
                message: format!("{rows} rows are more than {limit} (a test's limit)"),
            });
        }
        let before = ATTEMPTING.replace(true);
        let done = catch_unwind(AssertUnwindSafe(work));
        ATTEMPTING.set(before);
        done.or_else(|payload| match out_of_memory(payload.as_ref()) {
            None => resume_unwind(payload),
            Some(message) => {
                self.release();
                Err(OutOfMemory { message })
            }
        })
    }

    /// Returns memory that no tensor uses to the device.
    pub fn release(&self) {
        if !self.is_cpu {
            // Failed work leaves the device itself usable.
            let _ = self.device.sync();
            self.device.memory_cleanup();
        }
    }

    /// Sets the least size of a card's memory pages, in bytes, from now on.
    ///
    /// By default the runtime makes pages as large as the largest buffer so far: buffers a little over half as
    /// large then take a page each, and buffers on pages of earlier sizes keep those from being released.
    pub fn cut_memory_into(&self, page_bytes: u64) {
        let values = (page_bytes / 4) as usize;
        if !self.name.starts_with("cuda") || values == 0 {
            return;
        }
        let page = Tensor::<1>::zeros([values], (&self.device, DType::F32));
        // Before that nothing is reserved. If a card has not even this much, the first work reports it.
        let _ = self.device.sync();
        drop(page);
    }

    /// The usage of the device's memory pools. `None` on the CPU, which has none, and after the
    /// device has failed.
    ///
    /// Queries the device's own queue, so it may wait for earlier requests. Called from a
    /// thread that computes nothing it does not disturb the trainer's recorded operations.
    pub fn memory(&self) -> Option<MemoryPoolUsage> {
        if self.is_cpu {
            return None;
        }
        // burn raises the panic of a device's queue again in the calling thread; training meets it in its
        // own thread, where it can be reported.
        catch_unwind(AssertUnwindSafe(|| self.device.memory_pool_usage()))
            .ok()
            .flatten()
    }
}

/// Puts numbers on a device that stay there as long as the program runs: a weight.
///
/// A weight gets its own memory. Among short-lived buffers, the largest weight would set the size
/// of all pages, and a card would keep a mostly empty page for each kind of buffer.
pub fn resident<const D: usize, K: Basic>(
    data: TensorData,
    (device, dtype): (&Device, DType),
) -> Tensor<D, K> {
    device.memory_persistent_allocations(data, |data| Tensor::from_data(data, (device, dtype)))
}

thread_local! {
    static ATTEMPTING: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread is an out-of-memory error inside [`Compute::attempt`], which handles
/// it: nothing that the user must see.
pub fn is_caught(panic: &std::panic::PanicHookInfo) -> bool {
    ATTEMPTING.get() && out_of_memory(panic.payload()).is_some()
}

/// The text of a panic that means out of device memory. The runtime has no type for it.
fn out_of_memory(payload: &(dyn std::any::Any + Send)) -> Option<String> {
    let text = panics::text(payload)?;
    let signs = [
        // cubecl-runtime 0.11, server/base.rs
        "out of device memory allocating",
        "can't allocate buffer of size",
        "was never allocated: the reservation behind it failed",
        "An out-of-memory error happened during launch",
        // tune/local.rs: no candidate of a kernel fitted.
        "All autotune operations failed",
    ];
    // The line with the sign, of a text that nests several errors.
    let line = text
        .lines()
        .find(|line| signs.iter().any(|sign| line.contains(sign)))?;
    Some(line.trim().to_string())
}

/// The number of CUDA devices of this machine; 0, without a panic, if there is no driver.
pub fn cuda_device_count() -> usize {
    Device::enumerate(DeviceType::Cuda).into_iter().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_memory_is_distinguished_from_other_panics() {
        let compute = Compute::cpu();
        assert_eq!(compute.attempt(1, || 7), Ok(7));
        let failed = compute.attempt(1, || -> u8 {
            panic!("a tensor cannot be read\n  out of device memory allocating 4096 bytes\nmore")
        });
        assert_eq!(
            failed.unwrap_err().message,
            "out of device memory allocating 4096 bytes"
        );
        let other = catch_unwind(AssertUnwindSafe(|| {
            compute.attempt(1, || -> u8 { panic!("index out of bounds") })
        }));
        assert!(other.is_err() && !ATTEMPTING.get());
        let limited = Compute {
            fails_above_rows: Some(4),
            ..compute
        };
        assert!(limited.attempt(4, || ()).is_ok() && limited.attempt(5, || ()).is_err());
    }
}
