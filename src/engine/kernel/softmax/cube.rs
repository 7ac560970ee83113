//! Masked softmax on CubeCL: one cube per row, which is read three times, in place if possible.
//!
//! Run on lavapipe only; its speed on CUDA has not been measured.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;

use super::{AttentionMask, SoftmaxBackwardOps, SoftmaxOps};
use crate::kernel::rows::cube::{RowLaunch, empty, in_place_of};

/// Keys that one unit treats at least, so that short rows do not wait for many units.
const KEYS_PER_UNIT: usize = 4;

#[allow(
    clippy::too_many_arguments,
    reason = "the arguments of a kernel are what it is launched with"
)]
mod kernels {
    use burn_cubecl::cubecl::{self, prelude::*};

    use crate::kernel::rows::cube::{reduce_max, reduce_sum};

    #[cube(launch)]
    pub fn forward<F: Float>(
        scores: &[F],
        lengths: &[u32],
        weights: &mut [F],
        rows: usize,
        rows_per_batch: usize,
        keys: usize,
        scale: f32,
        width: usize,
        first_position: usize,
        prefix_width: usize,
        batches_per_prefix: usize,
        #[comptime] padded: bool,
        #[comptime] units: u32,
        #[comptime] plane: u32,
        #[define(F)] _dtype: ElemType,
    ) {
        if CUBE_POS >= rows {
            terminate!();
        }
        let start = CUBE_POS * keys;
        let batch = CUBE_POS / rows_per_batch;
        let position = first_position + CUBE_POS % rows_per_batch % width;
        let mut length = prefix_width;
        if comptime!(padded) {
            length = min(lengths[batch / batches_per_prefix] as usize, prefix_width);
        }
        let end = min(prefix_width + position + 1, keys);

        let mut largest = f32::min_value();
        let mut key = UNIT_POS as usize;
        while key < end {
            if key < length || key >= prefix_width {
                largest = max(largest, f32::cast_from(scores[start + key]));
            }
            key += comptime!(units as usize);
        }
        let largest = reduce_max(largest, units, plane);

        let mut sum = f32::new(0.0);
        let mut key = UNIT_POS as usize;
        while key < end {
            if key < length || key >= prefix_width {
                sum += ((f32::cast_from(scores[start + key]) - largest) * scale).exp();
            }
            key += comptime!(units as usize);
        }
        let share = f32::new(1.0) / reduce_sum(sum, units, plane);

        // Each unit writes where it has read, so `weights` may be the buffer of `scores`.
        let mut key = UNIT_POS as usize;
        while key < keys {
            let mut weight = f32::new(0.0);
            if key < end && (key < length || key >= prefix_width) {
                let score = f32::cast_from(scores[start + key]);
                weight = ((score - largest) * scale).exp() * share;
            }
            weights[start + key] = F::cast_from(weight);
            key += comptime!(units as usize);
        }
    }

    #[cube(launch)]
    pub fn backward<F: Float>(
        gradient: &[F],
        weights: &[F],
        of_scores: &mut [F],
        rows: usize,
        keys: usize,
        scale: f32,
        #[comptime] units: u32,
        #[comptime] plane: u32,
        #[define(F)] _dtype: ElemType,
    ) {
        if CUBE_POS >= rows {
            terminate!();
        }
        let start = CUBE_POS * keys;
        let mut sum = f32::new(0.0);
        let mut key = start + UNIT_POS as usize;
        while key < start + keys {
            sum += f32::cast_from(gradient[key]) * f32::cast_from(weights[key]);
            key += comptime!(units as usize);
        }
        let mean = reduce_sum(sum, units, plane);
        // As above, `of_scores` may be the buffer of `gradient`.
        let mut key = start + UNIT_POS as usize;
        while key < start + keys {
            let difference = f32::cast_from(gradient[key]) - mean;
            of_scores[key] = F::cast_from(scale * f32::cast_from(weights[key]) * difference);
            key += comptime!(units as usize);
        }
    }
}

fn softmax(
    scores: FloatTensor<CubeBackend>,
    lengths: Option<IntTensor<CubeBackend>>,
    scale: f64,
    mask: AttentionMask,
) -> FloatTensor<CubeBackend> {
    let scores = into_contiguous(scores);
    let client = scores.client.clone();
    let [batch, rows_per_batch, keys] = scores.meta.shape().dims();
    let rows = batch * rows_per_batch;
    let launch = RowLaunch::new(&client, rows, keys.div_ceil(KEYS_PER_UNIT));
    let dtype = dtype_to_storage_type(scores.dtype);
    let padded = lengths.is_some();
    // A kernel has all its arguments; without padding it does not read this one.
    let lengths = lengths.map_or_else(|| empty(&scores, [1], DType::I32), into_contiguous);
    let (weights, written) = in_place_of(&scores);
    kernels::forward::launch(
        &client,
        launch.cubes,
        launch.dim,
        scores.into_buffer_arg(),
        lengths.into_buffer_arg(),
        written,
        rows,
        rows_per_batch,
        keys,
        scale as f32,
        mask.width,
        mask.first_position,
        mask.prefix_width,
        mask.batches_per_prefix,
        padded,
        launch.units,
        launch.plane,
        dtype,
    );
    weights
}

impl SoftmaxOps for CubeBackend {
    fn masked_softmax(
        scores: FloatTensor<Self>,
        scale: f64,
        mask: AttentionMask,
    ) -> FloatTensor<Self> {
        softmax(scores, None, scale, mask)
    }

    fn padded_softmax(
        scores: FloatTensor<Self>,
        lengths: IntTensor<Self>,
        scale: f64,
        mask: AttentionMask,
    ) -> FloatTensor<Self> {
        softmax(scores, Some(lengths), scale, mask)
    }
}

impl SoftmaxBackwardOps for CubeBackend {
    fn softmax_backward(
        gradient: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        scale: f64,
    ) -> FloatTensor<Self> {
        let (gradient, weights) = (into_contiguous(gradient), into_contiguous(weights));
        let client = gradient.client.clone();
        let [batch, rows_per_batch, keys] = gradient.meta.shape().dims();
        let rows = batch * rows_per_batch;
        let launch = RowLaunch::new(&client, rows, keys.div_ceil(KEYS_PER_UNIT));
        let dtype = dtype_to_storage_type(gradient.dtype);
        let (grad_scores, written) = in_place_of(&gradient);
        kernels::backward::launch(
            &client,
            launch.cubes,
            launch.dim,
            gradient.into_buffer_arg(),
            weights.into_buffer_arg(),
            written,
            rows,
            keys,
            scale as f32,
            launch.units,
            launch.plane,
            dtype,
        );
        grad_scores
    }
}
