//! The prompts that an optimizer step trains on: a seeded order, derived from the step number only.

use crate::model::{stream, uniform};

/// The order of prompts over a whole run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptOrder {
    /// Prompts in the training set.
    pub prompts: usize,
    /// Distinct prompts that are completed together.
    pub prompts_per_generation: usize,
    /// Whether each epoch draws a new order.
    pub shuffle: bool,
    /// Seed of the run.
    pub seed: u64,
}

impl PromptOrder {
    /// Generations in an epoch; prompts that do not fill another one are left out of the epoch.
    pub fn generations_per_epoch(&self) -> usize {
        self.prompts / self.prompts_per_generation.max(1)
    }

    /// Indices of the prompts that generation `generation` (counted from 0 over the run) completes.
    pub fn prompts_of(&self, generation: usize) -> Vec<usize> {
        let per_epoch = self.generations_per_epoch().max(1);
        let start = (generation % per_epoch) * self.prompts_per_generation;
        let order = self.epoch_order(generation / per_epoch);
        order
            .into_iter()
            .skip(start)
            .take(self.prompts_per_generation)
            .collect()
    }

    /// Fisher–Yates with a separate stream for each epoch.
    fn epoch_order(&self, epoch: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.prompts).collect();
        if self.shuffle {
            let mut rng = stream(self.seed, "prompt order", &[epoch as u64]);
            for i in (1..order.len()).rev() {
                let j = (uniform(&mut rng) * (i + 1) as f64) as usize;
                order.swap(i, j.min(i));
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_visits_every_prompt_once_and_epochs_differ() {
        let order = PromptOrder {
            prompts: 12,
            prompts_per_generation: 3,
            shuffle: true,
            seed: 7,
        };
        let epoch = |first: usize| {
            (first..first + 4)
                .flat_map(|g| order.prompts_of(g))
                .collect::<Vec<_>>()
        };
        let (first, second) = (epoch(0), epoch(4));
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..12).collect::<Vec<_>>());
        assert_ne!(first, second);
    }

    #[test]
    fn prompts_that_fill_no_generation_wait_for_another_epoch() {
        let order = PromptOrder {
            prompts: 11,
            prompts_per_generation: 4,
            shuffle: false,
            seed: 0,
        };
        assert_eq!(order.generations_per_epoch(), 2);
        assert_eq!(order.prompts_of(1), [4, 5, 6, 7]);
        assert_eq!(order.prompts_of(2), [0, 1, 2, 3]);
    }
}
