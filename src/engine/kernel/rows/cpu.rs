//! Rows of matrices on the CPU: buffers to write to, and rows shared out to threads.

use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::tensor::{DType, FloatDType, IntDType, Shape, TensorData};
use rayon::prelude::*;

/// Values a thread takes at a time: 64 KiB, which the second-level cache keeps.
const VALUES_PER_TASK: usize = 16_384;

/// Up to this size one thread does it all: 40 µs of RMSNorm, 80 µs of softmax, against some 20 µs to
/// wake another thread.
const SERIAL_VALUES: usize = 131_072;

/// The tensor in `f32`, row-major, from the first to the last byte of its buffer.
pub fn f32_rows(x: FlexTensor) -> FlexTensor {
    let x = if x.dtype() == DType::F32 {
        x
    } else {
        Flex::float_cast(x, FloatDType::F32)
    };
    let whole = x.is_contiguous()
        && x.layout().start_offset() == 0
        && x.bytes().len() == x.layout().num_elements() * size_of::<f32>();
    if whole { x } else { x.to_contiguous() }
}

/// Indices or lengths on the host.
pub fn indices(x: FlexTensor) -> Vec<usize> {
    let x = Flex::int_cast(x, IntDType::I64).to_contiguous();
    x.storage::<i64>()
        .iter()
        .map(|&index| index as usize)
        .collect()
}

/// The tensor in another type.
pub fn cast(x: FlexTensor, dtype: DType) -> FlexTensor {
    if x.dtype() == dtype {
        x
    } else {
        Flex::float_cast(x, dtype.into())
    }
}

/// A tensor of these values.
pub fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// Rows of a task, whatever the number of threads.
fn rows_per_task(width: usize) -> usize {
    (VALUES_PER_TASK / width.max(1)).max(1)
}

/// Applies `work` to all rows of `x`, a few at a time: `work(first row, rows)`. Writes into `x`
/// if no other tensor shares its values and otherwise into a new tensor.
///
/// `work` must treat each row by itself; then the bits of a row depend only on that row.
pub fn map_rows(
    x: FlexTensor,
    width: usize,
    work: impl Fn(usize, &mut [f32]) + Sync,
) -> FlexTensor {
    let mut x = f32_rows(x);
    if let Some(values) = x.try_storage_mut::<f32>() {
        for_rows(values, width, work);
        return x;
    }
    let values: &[f32] = x.storage();
    let mut result = vec![0.0f32; values.len()];
    for_rows(&mut result, width, |row, rows| {
        // Copied just before it is worked on, so that the copy is still in the cache.
        rows.copy_from_slice(&values[row * width..row * width + rows.len()]);
        work(row, rows);
    });
    tensor(result, x.layout().shape().clone())
}

/// As [`map_rows`], with one more number for each row: `work(first row, rows, their numbers)`.
pub fn map_rows_with(
    x: FlexTensor,
    width: usize,
    numbers: &mut [f32],
    work: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) -> FlexTensor {
    let mut x = f32_rows(x);
    if let Some(values) = x.try_storage_mut::<f32>() {
        for_row_pairs(values, numbers, (width, 1), work);
        return x;
    }
    let values: &[f32] = x.storage();
    let mut result = vec![0.0f32; values.len()];
    for_row_pairs(&mut result, numbers, (width, 1), |row, rows, numbers| {
        rows.copy_from_slice(&values[row * width..row * width + rows.len()]);
        work(row, rows, numbers);
    });
    tensor(result, x.layout().shape().clone())
}

/// Applies `work(first row, rows)` to all rows, on several threads if there are many values.
pub fn for_rows(values: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    if values.is_empty() {
        return;
    }
    let rows = rows_per_task(width);
    if values.len() <= SERIAL_VALUES {
        for (task, chunk) in values.chunks_mut(rows * width).enumerate() {
            work(task * rows, chunk);
        }
    } else {
        values
            .par_chunks_mut(rows * width)
            .enumerate()
            .for_each(|(task, chunk)| work(task * rows, chunk));
    }
}

/// Applies `work(first row, rows of a, rows of b)` to all rows of two matrices with the same
/// number of rows and `widths` columns.
pub fn for_row_pairs(
    a: &mut [f32],
    b: &mut [f32],
    widths: (usize, usize),
    work: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    let (a_width, b_width) = widths;
    if a.is_empty() || b.is_empty() {
        return;
    }
    let rows = rows_per_task(a_width.max(b_width));
    if a.len().max(b.len()) <= SERIAL_VALUES {
        let chunks = a
            .chunks_mut(rows * a_width)
            .zip(b.chunks_mut(rows * b_width));
        for (task, (a, b)) in chunks.enumerate() {
            work(task * rows, a, b);
        }
    } else {
        a.par_chunks_mut(rows * a_width)
            .zip(b.par_chunks_mut(rows * b_width))
            .enumerate()
            .for_each(|(task, (a, b))| work(task * rows, a, b));
    }
}

/// Applies `work(row, its values, its result)` to all rows of a matrix.
pub fn for_each_row<R: Send>(
    values: &[f32],
    width: usize,
    results: &mut [R],
    work: impl Fn(usize, &[f32], &mut R) + Sync,
) {
    let one = |(row, result): (usize, &mut R)| {
        work(row, &values[row * width..(row + 1) * width], result);
    };
    if values.len() <= SERIAL_VALUES {
        results.iter_mut().enumerate().for_each(one);
    } else {
        let rows = rows_per_task(width);
        results
            .par_iter_mut()
            .enumerate()
            .with_min_len(rows)
            .for_each(one);
    }
}
