//! Masked softmax on the CPU.

use burn::backend::Flex;
use burn::backend::tensor::{FloatTensor, IntTensor};

use super::{AttentionMask, SoftmaxBackwardOps, SoftmaxOps};
use crate::kernel::rows::cpu::{cast, f32_rows, indices, map_rows};
use crate::kernel::simd::{LANES, Vectorised, dot, exp_shifted, map, max, vectorised};

struct Forward<'a> {
    /// Some rows, of which the first is row `first_row` of all batches' rows.
    rows: &'a mut [f32],
    first_row: usize,
    rows_per_batch: usize,
    keys: usize,
    scale: f32,
    mask: AttentionMask,
    lengths: Option<&'a [usize]>,
}

impl Vectorised for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let mask = self.mask;
        for (row, weights) in (self.first_row..).zip(self.rows.chunks_exact_mut(self.keys)) {
            let (batch, row) = (row / self.rows_per_batch, row % self.rows_per_batch);
            let (prefix, own) = weights.split_at_mut(mask.prefix_width);
            let length = match self.lengths {
                Some(lengths) => lengths[batch / mask.batches_per_prefix].min(prefix.len()),
                None => prefix.len(),
            };
            let position = mask.first_position + row % mask.width;
            let prefix = hide_after(prefix, length);
            let own = hide_after(own, (position + 1).min(own.len()));
            let largest = max(prefix).max(max(own));
            let sum = exp_shifted::<FMA>(prefix, largest, self.scale)
                + exp_shifted::<FMA>(own, largest, self.scale);
            let share = (1.0 / sum) as f32;
            map(prefix, |weight| weight * share);
            map(own, |weight| weight * share);
        }
    }
}

/// Hides what comes after the first `seen` scores: some become −∞, so that whole registers can be
/// treated, the others weights of 0. Returns the first few and those at −∞.
#[inline(always)]
fn hide_after(scores: &mut [f32], seen: usize) -> &mut [f32] {
    let end = seen.next_multiple_of(LANES).min(scores.len());
    let (treated, hidden) = scores.split_at_mut(end);
    treated[seen..].fill(f32::NEG_INFINITY);
    hidden.fill(0.0);
    treated
}

/// The gradient of the scores, written over the gradient of the weights.
struct Gradient<'a> {
    gradient: &'a mut [f32],
    weights: &'a [f32],
    keys: usize,
    scale: f32,
}

impl Vectorised for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let rows = self.gradient.chunks_exact_mut(self.keys);
        for (gradient, weights) in rows.zip(self.weights.chunks_exact(self.keys)) {
            let mean = dot::<FMA>(gradient, weights) as f32;
            for (gradient, &weight) in gradient.iter_mut().zip(weights) {
                *gradient = self.scale * weight * (*gradient - mean);
            }
        }
    }
}

fn softmax(
    scores: FloatTensor<Flex>,
    lengths: Option<&[usize]>,
    scale: f64,
    mask: AttentionMask,
) -> FloatTensor<Flex> {
    let (dtype, [_, rows_per_batch, keys]) = (scores.dtype(), scores.layout().shape().dims());
    let scale = scale as f32;
    let weights = map_rows(scores, keys, |first_row, rows| {
        vectorised(Forward {
            rows,
            first_row,
            rows_per_batch,
            keys,
            scale,
            mask,
            lengths,
        });
    });
    cast(weights, dtype)
}

impl SoftmaxOps for Flex {
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
        softmax(scores, Some(&indices(lengths)), scale, mask)
    }
}

impl SoftmaxBackwardOps for Flex {
    fn softmax_backward(
        gradient: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        scale: f64,
    ) -> FloatTensor<Self> {
        let (dtype, [_, _, keys]) = (weights.dtype(), weights.layout().shape().dims());
        let weights = f32_rows(weights);
        let weights: &[f32] = weights.storage();
        let scale = scale as f32;
        let grad_scores = map_rows(gradient, keys, |row, gradient| {
            let weights = &weights[row * keys..row * keys + gradient.len()];
            vectorised(Gradient {
                gradient,
                weights,
                keys,
                scale,
            });
        });
        cast(grad_scores, dtype)
    }
}
