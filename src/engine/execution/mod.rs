//! Completions through the model, in slices that fit: cut, given to devices, retried in smaller slices
//! after running out of memory, and summed in a fixed order.
//!
//! Sampling, scoring log-probabilities and training all show the same plain loop:
//!
//! ```text
//! loop {
//!     let slices = split(micro_batches, group_size, rows);
//!     match … replicas.run(&slices, work).all() {
//!         Ok(done) => break done,
//!         Err(error) => rows = retry_with_smaller_batches(error, &slices, group_size, HINT)?.rows,
//!     }
//! }
//! ```
//!
//! Sizes of slices are constants and results come in the order of the slices, so neither the number
//! of threads nor the order in which they finish affects a result.

mod accumulator;
mod pass;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Error, Result, bail};

pub use accumulator::OrderedAccumulator;
pub use pass::{ForwardPass, read_one_of_each};

use crate::device::{Compute, OutOfMemory};
use crate::model::{Adapter, Llama};
use moim_core::memory::smaller_part;

/// Completions that go through the model together: those of several prompts, or some of one prompt's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MicroSlice {
    /// Index of its micro-batch among those that are in flight together; each has its own device.
    pub micro_batch: usize,
    /// Prompts, by their index in the generation.
    pub prompts: Range<usize>,
    /// Completions of each of those prompts, by their index in the group.
    pub samples: Range<usize>,
}

impl MicroSlice {
    /// The whole of one micro-batch.
    pub fn whole(prompts: usize, group_size: usize) -> Self {
        Self {
            micro_batch: 0,
            prompts: 0..prompts,
            samples: 0..group_size,
        }
    }

    /// The number of completions.
    pub fn rows(&self) -> usize {
        self.prompts.len() * self.samples.len()
    }

    /// Cuts it into slices of at most `rows` completions: all samples of some prompts if they fit,
    /// else some samples of one prompt. The rows of the result, in order, are the rows of `self`.
    pub fn split(&self, rows: usize) -> Vec<Self> {
        let (prompts, samples) = match rows / self.samples.len().max(1) {
            0 => (1, rows.max(1)),
            prompts => (prompts, self.samples.len().max(1)),
        };
        let mut slices = Vec::new();
        for prompt in self.prompts.clone().step_by(prompts) {
            for sample in self.samples.clone().step_by(samples) {
                slices.push(Self {
                    micro_batch: self.micro_batch,
                    prompts: prompt..(prompt + prompts).min(self.prompts.end),
                    samples: sample..(sample + samples).min(self.samples.end),
                });
            }
        }
        slices
    }
}

/// Cuts micro-batches that are in flight together, each on its own device, into slices of at most
/// `rows` completions. Each prompt has `group_size` of them.
pub fn split(micro_batches: &[Range<usize>], group_size: usize, rows: usize) -> Vec<MicroSlice> {
    let whole = micro_batches.iter().enumerate();
    whole
        .flat_map(|(micro_batch, prompts)| {
            let whole = MicroSlice {
                micro_batch,
                prompts: prompts.clone(),
                samples: 0..group_size,
            };
            whole.split(rows)
        })
        .collect()
}

/// A smaller size of slices, chosen after a device ran out of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OomRetry {
    /// Completions that go through together from now on.
    pub rows: usize,
    /// The device's message.
    pub message: String,
}

/// The size to retry `slices` with after `error`: half as many groups, then half as many completions
/// of a group.
///
/// # Errors
/// `error` itself if it is not [`OutOfMemory`]. If the slices are single completions already, a
/// message that ends with `hint`, the settings to lower.
pub fn retry_with_smaller_batches(
    error: Error,
    slices: &[MicroSlice],
    group_size: usize,
    hint: &str,
) -> Result<OomRetry> {
    let OutOfMemory { message } = error.downcast()?;
    let tried = slices.iter().map(MicroSlice::rows).max().unwrap_or(1);
    match smaller_part(tried, group_size) {
        Some(rows) => Ok(OomRetry { rows, message }),
        None => bail!("the device has no memory for a single completion: {message}; {hint}"),
    }
}

/// The same model on every device, each with a copy of the adapter.
pub struct Replicas<'a> {
    /// One per device; the first is where the optimizer works.
    models: Vec<&'a Llama>,
    /// One per model.
    adapters: Vec<Option<Adapter>>,
}

/// The model of one device with its adapter.
#[derive(Clone, Copy)]
pub struct Replica<'r> {
    /// The frozen weights.
    pub model: &'r Llama,
    /// `None` for the model by itself.
    pub adapter: Option<&'r Adapter>,
}

impl<'a> Replicas<'a> {
    /// Copies the adapter to where each model is.
    pub fn new(models: Vec<&'a Llama>, adapter: Option<&Adapter>) -> Self {
        let copy = |(device, model): (usize, &&Llama)| match device {
            0 => adapter.cloned(),
            _ => adapter.map(|adapter| adapter.to_device(&model.compute.device)),
        };
        let adapters = models.iter().enumerate().map(copy).collect();
        Self { models, adapters }
    }

    /// The same with adapters in the type of the activations, for work that reads them often.
    pub fn in_dtype_of_models(&self) -> Self {
        let pairs = self.models.iter().zip(&self.adapters);
        let convert = |(model, adapter): (&&Llama, &Option<Adapter>)| {
            let adapter = adapter.as_ref();
            adapter.map(|adapter| adapter.in_dtype(model.compute.dtype))
        };
        Self {
            adapters: pairs.map(convert).collect(),
            models: self.models.clone(),
        }
    }

    /// The number of devices.
    pub fn devices(&self) -> usize {
        self.models.len()
    }

    /// The first device.
    pub fn compute(&self) -> &Compute {
        &self.models[0].compute
    }

    /// Slices that are in flight at a time.
    pub fn at_once(&self) -> usize {
        self.devices() * self.workers()
    }

    /// Threads per device: on the CPU one per core, where a tensor operation seldom fills more than
    /// one; else one.
    fn workers(&self) -> usize {
        let all = if self.compute().is_cpu {
            std::thread::available_parallelism().map_or(1, usize::from)
        } else {
            1
        };
        all.div_ceil(self.devices())
    }

    /// Does `work` on every slice, on the device of its micro-batch, and gives it the index of the
    /// slice. After the first error no further slice is started.
    ///
    /// Plain threads rather than a work-stealing pool: a worker that waits for a tensor operation must
    /// not start another slice with the first one's locks held. A single worker is the caller's own
    /// thread, and so its stream of the device.
    pub fn run<R: Send>(
        &self,
        slices: &[MicroSlice],
        work: impl Fn(Replica, usize, &MicroSlice) -> Result<R> + Sync,
    ) -> Ran<R> {
        let results: Vec<Mutex<Option<R>>> = slices.iter().map(|_| Mutex::new(None)).collect();
        let first_error = Mutex::new(None);
        let has_failed = AtomicBool::new(false);
        let work_through = |queue: &[usize], next: &AtomicUsize| {
            while !has_failed.load(Ordering::Relaxed)
                && let Some(&index) = queue.get(next.fetch_add(1, Ordering::Relaxed))
            {
                let slice = &slices[index];
                let replica = Replica {
                    model: self.models[slice.micro_batch],
                    adapter: self.adapters[slice.micro_batch].as_ref(),
                };
                let compute = &replica.model.compute;
                let error = match compute.attempt(slice.rows(), || work(replica, index, slice)) {
                    Ok(Ok(done)) => {
                        *locked(&results[index]) = Some(done);
                        continue;
                    }
                    Ok(Err(error)) => error,
                    Err(out_of_memory) => out_of_memory.into(),
                };
                locked(&first_error).get_or_insert(error);
                has_failed.store(true, Ordering::Relaxed);
            }
        };
        let mut queues: Vec<(Vec<usize>, AtomicUsize)> = Vec::new();
        queues.resize_with(self.devices(), Default::default);
        for (index, slice) in slices.iter().enumerate() {
            queues[slice.micro_batch].0.push(index);
        }
        if self.at_once() == 1 || slices.len() <= 1 {
            for (queue, next) in &queues {
                work_through(queue, next);
            }
        } else {
            std::thread::scope(|scope| {
                let mut threads = Vec::new();
                for (queue, next) in &queues {
                    for _ in 0..self.workers().min(queue.len()) {
                        threads.push(scope.spawn(|| work_through(queue, next)));
                    }
                }
                for thread in threads {
                    // The scope by itself would only say that a thread panicked.
                    if let Err(panic) = thread.join() {
                        std::panic::resume_unwind(panic);
                    }
                }
            });
        }
        Ran {
            done: results.into_iter().map(into_inner).collect(),
            error: into_inner(first_error),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn into_inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// The results of [`Replicas::run`].
pub struct Ran<R> {
    /// In the order of the slices; `None` for those that failed or were not started.
    pub done: Vec<Option<R>>,
    /// The first error.
    pub error: Option<Error>,
}

impl<R> Ran<R> {
    /// All results.
    ///
    /// # Errors
    /// The first error, [`OutOfMemory`] if a device ran out of memory.
    pub fn all(self) -> Result<Vec<R>> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.done.into_iter().flatten().collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn tiny() -> Llama {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/model/tiny_llama");
        Llama::load(&folder, &Compute::cpu()).unwrap()
    }

    #[test]
    fn slices_hold_every_completion_once_and_in_order() {
        for group_size in 1..6 {
            for rows in 1..20 {
                let mut seen = Vec::new();
                for slice in split(&[0..3, 3..7], group_size, rows) {
                    assert!(slice.rows() <= rows.max(1));
                    assert_eq!(slice.micro_batch, usize::from(slice.prompts.start >= 3));
                    for prompt in slice.prompts.clone() {
                        let row = |sample| prompt * group_size + sample;
                        seen.extend(slice.samples.clone().map(row));
                    }
                }
                let all: Vec<usize> = (0..7 * group_size).collect();
                assert_eq!(seen, all, "{group_size}, {rows}");
            }
        }
    }

    #[test]
    fn results_come_in_the_order_of_the_slices_on_any_number_of_devices() {
        let model = tiny();
        for devices in [1, 2, 3] {
            let replicas = Replicas::new(vec![&model; devices], None);
            let micro_batches: Vec<Range<usize>> = (0..devices).map(|i| i * 9..i * 9 + 9).collect();
            let slices = split(&micro_batches, 2, 2);
            let ran = replicas.run(&slices, |_, index, slice| Ok((index, slice.prompts.start)));
            let expected: Vec<(usize, usize)> = (0..9 * devices).map(|i| (i, i)).collect();
            assert_eq!(ran.all().unwrap(), expected);
        }
    }

    #[test]
    fn an_error_keeps_what_was_done_and_a_panic_its_text() {
        let model = tiny();
        let replicas = Replicas::new(vec![&model], None);
        let slices = MicroSlice::whole(20, 1).split(1);
        let ran = replicas.run(&slices, |_, index, _| match index {
            3 => Err(OutOfMemory {
                message: "full".into(),
            }
            .into()),
            index => Ok(index),
        });
        assert!(ran.done[0] == Some(0) && ran.done[3].is_none());
        let error = ran.all().unwrap_err();
        let retry =
            retry_with_smaller_batches(error, &MicroSlice::whole(3, 4).split(12), 4, "").unwrap();
        assert_eq!((retry.rows, retry.message.as_str()), (8, "full"));

        let other = retry_with_smaller_batches(Error::msg("broken"), &slices, 1, "");
        assert_eq!(other.unwrap_err().to_string(), "broken");

        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            replicas.run(&slices, |_, index, _| {
                assert_ne!(index, 2, "two is not allowed");
                Ok(())
            })
        }));
        let text = panic.err().unwrap().downcast::<String>().unwrap();
        assert!(text.contains("two is not allowed"));
    }
}
