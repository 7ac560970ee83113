//! The CPU's version: a task for every completion and key head, a tile of keys at a time.

use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::DType;
use rayon::prelude::*;

use super::{DecodeAttentionOps, DecodeLayout};
use crate::kernel::rows::cpu::{cast, indices, tensor};
use crate::kernel::simd::{self, Vectorised, multiply_add, vectorised};

/// Keys whose scores are kept together: with `head_dim` 64, 16 KiB of keys and as much of values.
const TILE: usize = 64;

/// Partial sums of a product of a query with a key: one AVX-512 register, two of AVX2.
const LANES: usize = 16;

/// Columns of values summed together: four AVX-512 registers hide the latency of the additions.
const BLOCK: usize = 64;

/// Multiplications below which threads do not pay.
const SERIAL_WORK: usize = 1 << 16;

impl DecodeAttentionOps for Flex {
    fn decode_attention(
        query: FloatTensor<Self>,
        prompt_key: FloatTensor<Self>,
        prompt_value: FloatTensor<Self>,
        own_key: FloatTensor<Self>,
        own_value: FloatTensor<Self>,
        prompt_lengths: IntTensor<Self>,
        filled: IntTensor<Self>,
        rows_per_prompt: usize,
        columns: usize,
        scale: f32,
    ) -> FloatTensor<Self> {
        attend(
            query,
            [prompt_key, prompt_value, own_key, own_value],
            [prompt_lengths, filled],
            DecodeLayout {
                rows_per_prompt,
                columns,
                scale,
            },
        )
    }
}

/// `[prompt key, prompt value, own key, own value]`, `[prompt lengths, filled]`; see
/// [`super::decode_attention`].
fn attend(
    query: FlexTensor,
    keys: [FlexTensor; 4],
    [prompt_lengths, filled]: [FlexTensor; 2],
    layout: DecodeLayout,
) -> FlexTensor {
    let dtype = query.dtype();
    let query = f32_from_start(query);
    let keys = keys.map(f32_from_start);
    let (prompt_lengths, filled) = (indices(prompt_lengths), indices(filled)[0]);
    let shape = query.layout().shape();
    let (rows, heads, dim) = (shape[0], shape[1], shape[2]);
    let [prompt_key, prompt_value, own_key, own_value] = &keys;
    let prompt_width = prompt_key.layout().shape()[1];
    let own_shape = own_key.layout().shape();
    let (kv_heads, capacity) = (own_shape[0] / rows, own_shape[1]);
    let sharing = heads / kv_heads;

    let query: &[f32] = query.storage();
    let mut output = vec![0.0f32; rows * heads * dim];
    let work = |(task, output): (usize, &mut [f32])| {
        let (row, kv_head) = (task / kv_heads, task % kv_heads);
        let prompt = row / layout.rows_per_prompt;
        let from_prompt = columns(
            prompt * kv_heads + kv_head,
            prompt_width,
            prompt_lengths[prompt].min(prompt_width),
            dim,
        );
        let from_own = columns(task, capacity, filled.min(capacity), dim);
        let [prompt_key, prompt_value, own_key, own_value]: [&[f32]; 4] =
            [prompt_key, prompt_value, own_key, own_value].map(|t| t.storage());
        vectorised(Attend {
            query: &query[task * sharing * dim..(task + 1) * sharing * dim],
            sources: [
                (&prompt_key[from_prompt.clone()], &prompt_value[from_prompt]),
                (&own_key[from_own.clone()], &own_value[from_own]),
            ],
            dim,
            scale: layout.scale,
            output,
        });
    };
    // A task's output is contiguous, and its order of sums does not depend on other tasks.
    if output.len() * (prompt_width + filled) <= SERIAL_WORK {
        output.chunks_mut(sharing * dim).enumerate().for_each(work);
    } else {
        output
            .par_chunks_mut(sharing * dim)
            .enumerate()
            .for_each(work);
    }
    cast(tensor(output, [rows, heads * dim]), dtype)
}

/// The values of the first `count` columns of a key head.
fn columns(head: usize, width: usize, count: usize, dim: usize) -> std::ops::Range<usize> {
    head * width * dim..(head * width + count) * dim
}

/// The tensor in f32, row-major, from the first byte of its buffer on: what follows in the buffer, as after the filled
/// part of a cache, is not copied away.
fn f32_from_start(x: FlexTensor) -> FlexTensor {
    let x = cast(x, DType::F32);
    if x.is_contiguous() && x.layout().start_offset() == 0 {
        x
    } else {
        x.to_contiguous()
    }
}

/// Attention of the query heads that share a key head.
struct Attend<'a> {
    /// `[sharing, dim]`
    query: &'a [f32],
    /// Keys and values `[count, dim]` of the prompt and of the completion.
    sources: [(&'a [f32], &'a [f32]); 2],
    dim: usize,
    scale: f32,
    /// `[sharing, dim]`, zeros at first
    output: &'a mut [f32],
}

impl Vectorised for Attend<'_> {
    type Output = ();

    /// Online softmax: the sums so far are relative to the largest score so far; if a
    /// tile has a larger one, they are scaled down.
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Self {
            query,
            sources,
            dim,
            scale,
            output,
        } = self;
        let sharing = query.len() / dim;
        let mut weights = vec![0.0f32; sharing * TILE];
        let mut largest = vec![f32::NEG_INFINITY; sharing];
        let mut sums = vec![0.0f32; sharing];
        for (keys, values) in sources {
            for (keys, values) in keys.chunks(TILE * dim).zip(values.chunks(TILE * dim)) {
                let count = keys.len() / dim;
                for (column, key) in keys.chunks_exact(dim).enumerate() {
                    for (head, query) in query.chunks_exact(dim).enumerate() {
                        weights[head * TILE + column] = scale * dot::<FMA>(query, key);
                    }
                }
                for (head, output) in output.chunks_exact_mut(dim).enumerate() {
                    let weights = &mut weights[head * TILE..head * TILE + count];
                    let larger = simd::max(weights).max(largest[head]);
                    let shrink = simd::exp::<FMA>(largest[head] - larger);
                    largest[head] = larger;
                    sums[head] =
                        sums[head] * shrink + simd::exp_shifted::<FMA>(weights, larger, 1.0) as f32;
                    add_weighted::<FMA>(output, shrink, weights, values);
                }
            }
        }
        for (output, sum) in output.chunks_exact_mut(dim).zip(sums) {
            // Without any key the output is zeros.
            let share = if sum == 0.0 { 0.0 } else { 1.0 / sum };
            output.iter_mut().for_each(|value| *value *= share);
        }
    }
}

#[inline(always)]
fn dot<const FMA: bool>(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    for (x, y) in x.iter().zip(y) {
        for i in 0..LANES {
            lanes[i] = multiply_add::<FMA>(x[i], y[i], lanes[i]);
        }
    }
    for ((lane, &x), &y) in lanes.iter_mut().zip(x_rest).zip(y_rest) {
        *lane = multiply_add::<FMA>(x, y, *lane);
    }
    // Halves on halves: shuffles of whole registers.
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// `output · shrink + Σ weights[j] · values[j]`, with the sums of a block of columns in registers.
///
/// # Shapes
/// `output: [dim]`, `weights: [count]`, `values: [count, dim]`
#[inline(always)]
fn add_weighted<const FMA: bool>(output: &mut [f32], shrink: f32, weights: &[f32], values: &[f32]) {
    let dim = output.len();
    let mut first = 0;
    while first + BLOCK <= dim {
        block::<FMA, BLOCK>(output, shrink, weights, values, first);
        first += BLOCK;
    }
    while first + LANES <= dim {
        block::<FMA, LANES>(output, shrink, weights, values, first);
        first += LANES;
    }
    while first < dim {
        block::<FMA, 1>(output, shrink, weights, values, first);
        first += 1;
    }
}

#[inline(always)]
fn block<const FMA: bool, const WIDTH: usize>(
    output: &mut [f32],
    shrink: f32,
    weights: &[f32],
    values: &[f32],
    first: usize,
) {
    let dim = output.len();
    let mut sums = [0.0f32; WIDTH];
    for (sum, &value) in sums.iter_mut().zip(&output[first..first + WIDTH]) {
        *sum = value * shrink;
    }
    for (&weight, values) in weights.iter().zip(values.chunks_exact(dim)) {
        let values = &values[first..first + WIDTH];
        for i in 0..WIDTH {
            sums[i] = multiply_add::<FMA>(weight, values[i], sums[i]);
        }
    }
    output[first..first + WIDTH].copy_from_slice(&sums);
}
