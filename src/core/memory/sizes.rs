//! How much goes through the model at a time, so that a run fits into the memory.
//!
//! These sizes only change the order of sums, nothing else: each completion is sampled with its own
//! random stream, and a loss is always computed over whole micro-batches.

use super::limits::{CPU_ROLLOUT_ROWS, MAX_ROLLOUT_ROWS};
use super::peak::{MemoryPlan, Peak};
use super::rollout;
use super::shape::Inputs;
use super::training;

/// How much goes through the model at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Completions of a part of a micro-batch; `None` is a whole micro-batch, on the CPU a group.
    pub rows_per_part: Option<usize>,
    /// The most completions that are decoded together.
    pub rollout_rows: usize,
    /// The most answers that are decoded together.
    pub answered_together: usize,
}

impl Sizes {
    /// The largest sizes, without a memory limit.
    pub fn unbounded(answered_together: usize) -> Self {
        Self {
            rows_per_part: None,
            rollout_rows: MAX_ROLLOUT_ROWS,
            answered_together,
        }
    }
}

/// The next smaller size of a part: half as many groups, then half as many completions of a group;
/// `None` if a part is already one completion.
pub fn smaller_part(rows: usize, group_size: usize) -> Option<usize> {
    let group_size = group_size.max(1);
    match rows / group_size {
        _ if rows <= 1 => None,
        0 | 1 => Some(rows.min(group_size).div_ceil(2)),
        groups => Some(groups.div_ceil(2) * group_size),
    }
}

impl Inputs {
    /// The same inputs with the largest sizes whose phases each fit into `capacity` bytes; the smallest
    /// sizes if none fit.
    pub fn sized_for(&self, capacity: u64) -> Self {
        let mut sized = self.clone();
        sized.size_training(capacity);
        sized.size_rollout(capacity);
        sized.size_inference(capacity);
        sized
    }

    /// Whether there are sizes in which every phase fits into `capacity` bytes.
    pub(super) fn can_fit(&mut self, capacity: u64) -> bool {
        let sizes = self.sizes;
        // Training first: its parts determine a card's pages.
        let fits = self.size_training(capacity)
            && self.size_rollout(capacity)
            && self.size_inference(capacity);
        self.sizes = sizes;
        fits
    }

    fn size_training(&mut self, capacity: u64) -> bool {
        let group = self.batch.g.max(1);
        let mut part = self.largest_part();
        while !fits(training::training(self), capacity) {
            let Some(smaller) = smaller_part(part, group) else {
                return false;
            };
            part = smaller;
            self.sizes.rows_per_part = Some(part);
        }
        true
    }

    fn size_rollout(&mut self, capacity: u64) -> bool {
        let group = self.batch.g.max(1);
        while !fits(rollout::rollout(self), capacity) {
            let Some(smaller) = smaller_part(self.rows_of_rollout(), group) else {
                return false;
            };
            self.sizes.rollout_rows = smaller;
        }
        true
    }

    fn size_inference(&mut self, capacity: u64) -> bool {
        while !fits(rollout::inference(self), capacity) {
            if self.sizes.answered_together <= 1 {
                return false;
            }
            self.sizes.answered_together = self.sizes.answered_together.div_ceil(2);
        }
        true
    }

    /// Completions of a part without a memory limit.
    pub(super) fn largest_part(&self) -> usize {
        let group = self.batch.g.max(1);
        let prompts = self.batch.prompts_per_micro_batch().max(1);
        if self.is_cpu {
            group
        } else {
            prompts.saturating_mul(group)
        }
    }

    /// Completions that are decoded together in a rollout.
    fn rows_of_rollout(&self) -> usize {
        let steps = self.batch.a.max(1);
        let prompts = self.batch.prompts_per_micro_batch().saturating_mul(steps);
        let completions = prompts.max(1).saturating_mul(self.batch.g.max(1));
        let most = if self.is_cpu {
            CPU_ROLLOUT_ROWS
        } else {
            MAX_ROLLOUT_ROWS
        };
        self.sizes.rollout_rows.min(completions).min(most)
    }
}

fn fits(peak: Peak, capacity: u64) -> bool {
    peak.total() <= capacity
}

impl MemoryPlan {
    /// The sizes that memory limits, for the inputs of this plan: `training in parts of 4 completions,
    /// sampling 64 at a time`; `None` if nothing is limited.
    pub fn sizes_in_words(&self, inputs: &Inputs) -> Option<String> {
        let mut words = Vec::new();
        if let Some(rows) = self.sizes.rows_per_part {
            let noun = if rows == 1 {
                "completion"
            } else {
                "completions"
            };
            words.push(format!("training in parts of {rows} {noun}"));
        }
        if self.sizes.rollout_rows < inputs.rows_of_rollout() {
            words.push(format!("sampling {} at a time", self.sizes.rollout_rows));
        }
        if self.sizes.answered_together < inputs.sizes.answered_together {
            let answers = self.sizes.answered_together;
            words.push(format!("answering {answers} at a time"));
        }
        (!words.is_empty()).then(|| words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_shrink_to_a_single_completion() {
        let mut rows = 40;
        let mut sizes = vec![rows];
        while let Some(next) = smaller_part(rows, 8) {
            rows = next;
            sizes.push(rows);
        }
        assert_eq!(sizes, [40, 24, 16, 8, 4, 2, 1]);
        assert_eq!(smaller_part(1, 1), None);
    }
}
