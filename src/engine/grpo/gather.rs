//! What comes in parts, put together in the order of the step.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use burn::tensor::Tensor;

use super::parts::Part;
use crate::optimizer::accumulate;

/// Values of completions that come in parts, put back in the order of the step.
pub(super) struct Rows {
    first_prompt: usize,
    group_size: usize,
    pub(super) rows: Vec<Vec<f32>>,
}

impl Rows {
    pub(super) fn new(micro_batches: &[Range<usize>], group_size: usize) -> Self {
        let prompts: usize = micro_batches.iter().map(Range::len).sum();
        Self {
            first_prompt: micro_batches.first().map_or(0, |prompts| prompts.start),
            group_size,
            rows: vec![Vec::new(); prompts * group_size],
        }
    }

    pub(super) fn put(&mut self, part: &Part, rows: Vec<Vec<f32>>) {
        let mut rows = rows.into_iter();
        for prompt in part.prompts.clone() {
            for sample in part.samples.clone() {
                let place = (prompt - self.first_prompt) * self.group_size + sample;
                self.rows[place] = rows.next().unwrap_or_default();
            }
        }
    }

    pub(super) fn of(&self, prompts: &Range<usize>) -> &[Vec<f32>] {
        let row = |prompt: usize| (prompt - self.first_prompt) * self.group_size;
        &self.rows[row(prompts.start)..row(prompts.end)]
    }
}

/// Gradients of micro-batches, summed in the order of their parts whichever is done first.
pub(super) struct Sums {
    state: Mutex<Vec<Sum>>,
}

#[derive(Default)]
struct Sum {
    /// Parts of the micro-batch whose turn has not come, the next one first.
    due: VecDeque<usize>,
    /// Those that were done before their turn.
    waiting: BTreeMap<usize, Option<Vec<Tensor<2>>>>,
    sum: Option<Vec<Tensor<2>>>,
}

impl Sums {
    pub(super) fn new(parts: &[Part], micro_batches: usize) -> Self {
        let mut sums: Vec<Sum> = (0..micro_batches).map(|_| Sum::default()).collect();
        for (index, part) in parts.iter().enumerate() {
            sums[part.micro_batch].due.push_back(index);
        }
        Self {
            state: Mutex::new(sums),
        }
    }

    /// Takes in the gradients of a part; `None` where they are zero.
    pub(super) fn add(&self, index: usize, part: &Part, gradients: Option<Vec<Tensor<2>>>) {
        let mut sums = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut sums[part.micro_batch];
        state.waiting.insert(index, gradients);
        while let Some(next) = state.due.front()
            && let Some(gradients) = state.waiting.remove(next)
        {
            state.due.pop_front();
            if let Some(gradients) = gradients {
                state.sum = Some(accumulate(state.sum.take(), gradients));
            }
        }
    }

    pub(super) fn finish(self) -> Vec<Vec<Tensor<2>>> {
        let sums = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        sums.into_iter().filter_map(|state| state.sum).collect()
    }
}
