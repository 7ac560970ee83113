//! The product of few rows on the CPU: rows of the weight are shared out to threads.

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use crate::kernel::nf4::simd;
use crate::kernel::rows::cpu::tensor;

/// Numbers of the weight that one task reads.
const WEIGHTS_PER_TASK: usize = 1 << 16;

/// Up to this many multiply-adds the calling thread computes alone: waking others takes as long.
const WORK_OF_ONE_THREAD: usize = 1 << 20;

/// Rows of weights that the dot products compute together.
const ROWS_AT_A_TIME: usize = 4;

/// `few·denseᵀ`; `None` if the weight is not contiguous.
///
/// # Shapes
/// `few: [m, columns]`, `dense: [n, columns]`, in f32 → `[m, n]`
pub fn product(few: FlexTensor, dense: &FlexTensor) -> Option<FlexTensor> {
    let [m, columns] = few.layout().shape().dims();
    let dense = dense.as_slice::<f32>()?;
    let few = few.to_contiguous();
    let few = few.as_slice::<f32>()?;
    let n = dense.len() / columns;
    let rows_per_task = (WEIGHTS_PER_TASK / columns)
        .max(1)
        .next_multiple_of(ROWS_AT_A_TIME);
    let mut by_weight = vec![0.0; n * m];
    let task =
        |(dense, output): (&[f32], &mut [f32])| simd::dot_products(dense, few, columns, output);
    if n * columns * m <= WORK_OF_ONE_THREAD {
        task((dense, &mut by_weight));
    } else {
        dense
            .par_chunks(rows_per_task * columns)
            .zip(by_weight.par_chunks_mut(rows_per_task * m))
            .for_each(task);
    }
    Some(tensor(simd::transposed(by_weight, n, m), [m, n]))
}
