//! What one generation of completions brings to the optimizer steps on it.

use std::ops::Range;

/// Completions of one generation with what the loss needs to know of them.
pub struct Generation<'a> {
    /// Prompt and completions of each group.
    pub groups: Vec<(&'a [u32], Vec<&'a [u32]>)>,
    /// One per completion, group after group.
    pub advantages: Vec<f64>,
    /// Completions that count in the loss.
    pub is_counted: Vec<bool>,
    /// Groups of a micro-batch.
    pub groups_per_micro_batch: usize,
    /// Optimizer steps that share the generation, each on an equal slice of its groups.
    pub slices: usize,
    /// Log-probabilities under the policy that sampled; `None` while that is the policy itself.
    pub old_log_probs: Option<Vec<Vec<f32>>>,
    /// Log-probabilities under the reference policy, when the loss wants them.
    pub reference_log_probs: Option<Vec<Vec<f32>>>,
}

impl Generation<'_> {
    /// Completions of each prompt.
    pub fn group_size(&self) -> usize {
        self.groups.first().map_or(0, |(_, rows)| rows.len())
    }

    /// Prompts of a slice.
    pub fn slice(&self, index: usize) -> Range<usize> {
        let size = self.groups.len() / self.slices.max(1);
        index * size..(index + 1) * size
    }

    /// Cuts prompts into micro-batches.
    pub(super) fn micro_batches(&self, prompts: Range<usize>) -> Vec<Range<usize>> {
        let size = self.groups_per_micro_batch.max(1);
        prompts
            .clone()
            .step_by(size)
            .map(|start| start..(start + size).min(prompts.end))
            .collect()
    }

    /// Counted tokens of an optimizer step, on the mean over the generation's steps: the divisor of
    /// `dapo`, as TRL takes it.
    pub fn tokens_per_step(&self) -> f64 {
        let rows = self.groups.iter().flat_map(|(_, rows)| rows);
        let counted: usize = rows
            .zip(&self.is_counted)
            .filter(|(_, counted)| **counted)
            .map(|(row, _)| row.len())
            .sum();
        counted as f64 / self.slices.max(1) as f64
    }
}
