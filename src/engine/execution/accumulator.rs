//! Gradients summed in the order of their slices, whichever is finished first.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use burn::tensor::Tensor;

use super::MicroSlice;
use crate::optimizer::accumulate;

/// The sum of gradients of each micro-batch, in the order of its slices.
pub struct OrderedAccumulator {
    sums: Vec<Mutex<Sum>>,
}

struct Sum {
    /// Slices whose turn has not come.
    due: Range<usize>,
    /// Gradients that were finished before their turn.
    waiting: BTreeMap<usize, Option<Vec<Tensor<2>>>>,
    sum: Option<Vec<Tensor<2>>>,
}

impl OrderedAccumulator {
    /// Sums for the micro-batches of `slices`, each of which has a run of them.
    pub fn new(slices: &[MicroSlice]) -> Self {
        let mut start = 0;
        let runs = slices.chunk_by(|a, b| a.micro_batch == b.micro_batch);
        let sums = runs.map(|run| {
            let due = start..start + run.len();
            start = due.end;
            Mutex::new(Sum {
                due,
                waiting: BTreeMap::new(),
                sum: None,
            })
        });
        Self {
            sums: sums.collect(),
        }
    }

    /// Adds the gradients of the slice at `index`; `None` if they are zero.
    pub fn add(&self, index: usize, slice: &MicroSlice, gradients: Option<Vec<Tensor<2>>>) {
        let state = &self.sums[slice.micro_batch];
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.insert(index, gradients);
        while let due = state.due.start
            && let Some(gradients) = state.waiting.remove(&due)
        {
            state.due.start += 1;
            if let Some(gradients) = gradients {
                state.sum = Some(accumulate(state.sum.take(), gradients));
            }
        }
    }

    /// The sums of the micro-batches, in order; `None` for one without gradients.
    pub fn finish(self) -> Vec<Option<Vec<Tensor<2>>>> {
        let sums = self.sums.into_iter();
        sums.map(|sum| sum.into_inner().unwrap_or_else(PoisonError::into_inner).sum)
            .collect()
    }
}
