//! NF4 on the CPU.

use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::DType;
use rayon::prelude::*;

use super::{CODES, Nf4BackwardOps, Nf4Layout, Nf4Ops, Nf4Path, WORD, simd};
use crate::kernel::rows::cpu::{cast, tensor};
use crate::nf4::{BLOCK, CODEBOOK, NESTED_BLOCK};
use moim_core::memory::limits::CPU_FUSED_ROWS;

/// Weights that one task decodes, whole blocks: enough to be worth a task, little enough to share out.
const WEIGHTS_PER_TASK: usize = 1 << 16;

/// Up to this many multiply-adds, with decoding counted as two, the calling thread computes alone: waking others
/// takes as long.
const WORK_OF_ONE_THREAD: usize = 1 << 20;

/// Output rows decoded at a time: as many as the dot products compute together.
const ROWS_AT_A_TIME: usize = 4;

/// The arrays of a packed matrix.
struct Packed<'a> {
    words: &'a [i32],
    scales: &'a [f32],
    codes: &'a [i32],
    map: &'a [f32],
    codebook: [f32; CODES],
    layout: Nf4Layout,
}

impl Packed<'_> {
    fn scale(&self, block: usize) -> f32 {
        if self.layout.double {
            let code = (self.codes[block / 4] as u32 >> (block % 4 * 8)) as usize & 255;
            self.map[code] * self.scales[block / NESTED_BLOCK] + self.layout.offset
        } else {
            self.scales[block]
        }
    }

    /// Decodes the weights from `start` on, in row-major order.
    fn decode(&self, start: usize, output: &mut [f32]) {
        let end = start + output.len();
        // Rows that do not end with a block start and stop inside of one.
        let first = start.next_multiple_of(BLOCK).min(end);
        let last = (end - end % WORD).max(first);
        for single in (start..first).chain(last..end) {
            let code =
                (self.words[single / WORD] as u32 >> (((single % WORD) ^ 1) * 4)) as usize & 15;
            output[single - start] = self.codebook[code] * self.scale(single / BLOCK);
        }
        // As many scales at a time as fit on the stack.
        let mut scales = [0.0; 64];
        for from in (first..last).step_by(scales.len() * BLOCK) {
            let to = (from + scales.len() * BLOCK).min(last);
            let scales = &mut scales[..(to - from).div_ceil(BLOCK)];
            for (block, scale) in scales.iter_mut().enumerate() {
                *scale = self.scale(from / BLOCK + block);
            }
            let words = &self.words[from / WORD..to / WORD];
            simd::decode(
                words,
                &self.codebook,
                scales,
                &mut output[from - start..to - start],
            );
        }
    }

    fn dense(&self) -> Vec<f32> {
        let mut output = vec![0.0; self.layout.weights()];
        output
            .par_chunks_mut(WEIGHTS_PER_TASK)
            .enumerate()
            .for_each(|(task, output)| self.decode(task * WEIGHTS_PER_TASK, output));
        output
    }

    /// `x [m, columns]` → `x·Wᵀ [m, rows]`, each row of the weight decoded into the first-level cache.
    fn product(&self, x: &[f32], m: usize) -> Vec<f32> {
        let Nf4Layout { rows, columns, .. } = self.layout;
        let rows_per_task = (WEIGHTS_PER_TASK / columns.max(1))
            .max(1)
            .next_multiple_of(ROWS_AT_A_TIME);
        let mut by_weight = vec![0.0; rows * m];
        let compute = |(task, output): (usize, &mut [f32])| {
            let mut decoded = vec![0.0; ROWS_AT_A_TIME * columns];
            for (group, output) in output.chunks_mut(ROWS_AT_A_TIME * m).enumerate() {
                let row = task * rows_per_task + group * ROWS_AT_A_TIME;
                let decoded = &mut decoded[..output.len() / m * columns];
                self.decode(row * columns, decoded);
                simd::dot_products(decoded, x, columns, output);
            }
        };
        if rows * columns * (m + 2) <= WORK_OF_ONE_THREAD {
            compute((0, &mut by_weight));
        } else {
            by_weight
                .par_chunks_mut(rows_per_task * m)
                .enumerate()
                .for_each(compute);
        }
        simd::transposed(by_weight, rows, m)
    }
}

fn with_packed<R>(
    packed: IntTensor<Flex>,
    scales: FloatTensor<Flex>,
    codes: IntTensor<Flex>,
    table: FloatTensor<Flex>,
    layout: Nf4Layout,
    use_it: impl FnOnce(Packed<'_>) -> R,
) -> R {
    // Contiguous they are already, unless someone has cut them; then this copies.
    let (packed, scales) = (packed.to_contiguous(), scales.to_contiguous());
    let (codes, table) = (codes.to_contiguous(), table.to_contiguous());
    use_it(Packed {
        words: packed.storage(),
        scales: scales.storage(),
        codes: codes.storage(),
        map: &table.storage::<f32>()[CODES..],
        codebook: CODEBOOK,
        layout,
    })
}

impl Nf4Ops for Flex {
    fn nf4_dequantize(
        packed: IntTensor<Self>,
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        layout: Nf4Layout,
        dtype: DType,
    ) -> FloatTensor<Self> {
        let dense = with_packed(packed, scales, codes, table, layout, |packed| {
            packed.dense()
        });
        cast(tensor(dense, layout.shape()), dtype)
    }

    fn nf4_linear(
        x: FloatTensor<Self>,
        packed: IntTensor<Self>,
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        layout: Nf4Layout,
        path: Nf4Path,
    ) -> FloatTensor<Self> {
        let (dtype, m) = (x.dtype(), x.layout().shape()[0]);
        let x = cast(x, DType::F32);
        let fused = match path {
            Nf4Path::Auto => m <= CPU_FUSED_ROWS,
            Nf4Path::Fused => true,
            Nf4Path::Dense => false,
        };
        let output = if fused && m > 0 {
            let x = x.to_contiguous();
            let product = with_packed(packed, scales, codes, table, layout, |packed| {
                packed.product(x.as_slice().unwrap_or_else(|| x.storage()), m)
            });
            tensor(product, [m, layout.rows])
        } else {
            let dense = Self::nf4_dequantize(packed, scales, codes, table, layout, DType::F32);
            Self::float_matmul(x, Self::float_swap_dims(dense, 0, 1))
        };
        cast(output, dtype)
    }
}

impl Nf4BackwardOps for Flex {
    fn nf4_linear_backward(
        gradient: FloatTensor<Self>,
        packed: IntTensor<Self>,
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        layout: Nf4Layout,
    ) -> FloatTensor<Self> {
        let dtype = gradient.dtype();
        let dense = Self::nf4_dequantize(packed, scales, codes, table, layout, DType::F32);
        cast(Self::float_matmul(cast(gradient, DType::F32), dense), dtype)
    }
}
