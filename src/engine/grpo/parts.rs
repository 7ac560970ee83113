//! How the completions of an optimizer step are cut into parts that go through the model one at a
//! time, and on which device each does.

use std::ops::Range;
use std::sync::OnceLock;

use crate::device::OutOfMemory;
use crate::model::{Adapter, Llama};
use crate::parallel;

/// The same model on every device, and the adapter that is trained on each.
pub struct Fleet<'a> {
    /// One per device; the first is where the optimizer works.
    pub models: Vec<&'a Llama>,
    /// As many as models.
    pub adapters: Vec<Adapter>,
}

impl<'a> Fleet<'a> {
    /// The adapter, copied to where each model is.
    pub fn new(models: Vec<&'a Llama>, adapter: &Adapter) -> Self {
        let adapters = models
            .iter()
            .enumerate()
            .map(|(device, model)| match device {
                0 => adapter.clone(),
                _ => adapter.to_device(&model.compute.device),
            })
            .collect();
        Self { models, adapters }
    }

    /// Does `work` on every part, on the device that the part belongs to; answers in the order of
    /// the parts.
    ///
    /// # Errors
    /// A device ran out of memory. Parts that had not begun by then are left out.
    pub fn map<R: Send>(
        &self,
        parts: &[Part],
        work: impl Fn(&Llama, &Adapter, usize, &Part) -> R + Sync,
    ) -> Result<Vec<R>, OutOfMemory> {
        let devices = self.models.len();
        let failed = OnceLock::new();
        let done = parallel::map_on_devices(
            parts,
            |part| part.micro_batch,
            devices,
            parallel::workers(&self.models[0].compute).div_ceil(devices),
            |index, part| {
                if failed.get().is_some() {
                    return None;
                }
                let (model, adapter) = (
                    self.models[part.micro_batch],
                    &self.adapters[part.micro_batch],
                );
                let work = || work(model, adapter, index, part);
                match model.compute.attempt(part.rows(), work) {
                    Ok(done) => Some(done),
                    Err(error) => {
                        // The first to fail is the one to tell of.
                        let _ = failed.set(error);
                        None
                    }
                }
            },
        );
        match failed.into_inner() {
            Some(error) => Err(error),
            None => Ok(done.into_iter().flatten().collect()),
        }
    }

    /// Parts that are under way at a time.
    pub fn at_once(&self) -> usize {
        let devices = self.models.len();
        devices * parallel::workers(&self.models[0].compute).div_ceil(devices)
    }
}

/// Some completions of a micro-batch: those of several prompts, or some of one prompt's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which of the micro-batches that are under way together; each has a device of its own.
    pub micro_batch: usize,
    /// Prompts, counted in the generation.
    pub prompts: Range<usize>,
    /// Completions of each of those prompts.
    pub samples: Range<usize>,
}

impl Part {
    /// Completions.
    pub fn rows(&self) -> usize {
        self.prompts.len() * self.samples.len()
    }

    /// The number of its first completion in the generation.
    pub fn first_row(&self, group_size: usize) -> usize {
        self.prompts.start * group_size + self.samples.start
    }

    /// The values of its completions, of `rows` that begin with `first_prompt`'s completions.
    pub(super) fn of_rows(
        &self,
        rows: &[Vec<f32>],
        first_prompt: usize,
        group_size: usize,
    ) -> Vec<f32> {
        let first = |prompt: usize| (prompt - first_prompt) * group_size;
        self.prompts
            .clone()
            .flat_map(|prompt| {
                &rows[first(prompt) + self.samples.start..first(prompt) + self.samples.end]
            })
            .flatten()
            .copied()
            .collect()
    }
}

/// Cuts micro-batches that are under way together, each on a device of its own, into parts of at
/// most `rows` completions: whole groups where one fits, else pieces of a group.
pub fn parts(micro_batches: &[Range<usize>], group_size: usize, rows: usize) -> Vec<Part> {
    let mut parts = Vec::new();
    for (micro_batch, prompts) in micro_batches.iter().enumerate() {
        let group_size = group_size.max(1);
        let (groups, samples) = match rows / group_size {
            0 => (1, rows.max(1)),
            groups => (groups, group_size),
        };
        let mut start = prompts.start;
        while start < prompts.end {
            let end = (start + groups).min(prompts.end);
            let mut first = 0;
            while first < group_size {
                let last = (first + samples).min(group_size);
                parts.push(Part {
                    micro_batch,
                    prompts: start..end,
                    samples: first..last,
                });
                first = last;
            }
            start = end;
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hold_every_completion_once() {
        for group_size in 1..6 {
            for rows in 1..20 {
                let mut seen = vec![0; 7 * group_size];
                for part in parts(&[0..3, 3..7], group_size, rows) {
                    assert!(part.rows() <= rows.max(1));
                    assert_eq!(part.micro_batch, usize::from(part.prompts.start >= 3));
                    for prompt in part.prompts.clone() {
                        for sample in part.samples.clone() {
                            seen[prompt * group_size + sample] += 1;
                        }
                    }
                }
                assert!(seen.iter().all(|times| *times == 1), "{group_size}, {rows}");
            }
        }
    }
}
