//! Softmax of attention scores: scaled, masked and normalised in place.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::ops::NodeGuard;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{Int, Tensor};

use super::backward::Differentiable;

mod cpu;
mod cube;
pub mod reference;
#[cfg(test)]
mod tests;

/// The keys that a row of scores attends to.
///
/// The keys are a prefix (of which the first few are real and the rest padding), then the queries'
/// own keys. Row `r` is the query at position `first_position + r % width` among the own keys:
/// the rows of several heads, or of several completions, follow one another. It sees the real keys of the prefix
/// and its own keys up to its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionMask {
    /// Positions that follow one another in the rows.
    pub width: usize,
    /// Position of row 0 among the own keys.
    pub first_position: usize,
    /// Keys of the prefix, padding included.
    pub prefix_width: usize,
    /// Neighbouring batches that share a prefix, that is, an entry of the lengths.
    pub batches_per_prefix: usize,
}

impl AttentionMask {
    /// Tokens `0..width` attend to themselves and to those before: a prompt.
    pub fn causal(width: usize) -> Self {
        Self {
            width,
            first_position: 0,
            prefix_width: 0,
            batches_per_prefix: 1,
        }
    }

    /// The last `width` of `own_width` tokens attend to a prefix of `prefix_width` columns, to
    /// themselves and to those between: a completion as a whole (`width == own_width`) or its newest
    /// token (`width == 1`).
    ///
    /// # Panics
    /// More queries than own keys.
    pub fn after_prefix(
        prefix_width: usize,
        batches_per_prefix: usize,
        width: usize,
        own_width: usize,
    ) -> Self {
        assert!(
            width <= own_width,
            "{width} queries with {own_width} own keys"
        );
        Self {
            width,
            first_position: own_width - width,
            prefix_width,
            batches_per_prefix,
        }
    }
}

/// `softmax(scores · scale)` over the keys that `mask` lets a row see; the other weights are exactly 0.
///
/// Computed in f32 and rounded once. Differentiable in `scores`, keeping only the weights. Overwrites
/// `scores` if no other tensor shares them, so no second buffer of their size appears. Rows do not
/// influence one another: a chunk of the batch gives the bits of the whole.
///
/// # Shapes
/// `scores: [batch, rows, keys]`; `prefix_lengths: [batch / batches_per_prefix]`, the real keys of each
/// prefix, `None` if all are → `[batch, rows, keys]`
///
/// # Panics
/// A `scale` that is not positive, or shapes that do not fit the mask.
pub fn masked_softmax(
    scores: Tensor<3>,
    scale: f64,
    mask: AttentionMask,
    prefix_lengths: Option<&Tensor<1, Int>>,
) -> Tensor<3> {
    let [batch, rows, keys] = scores.dims();
    assert!(scale > 0.0, "masked_softmax: scale {scale}");
    assert!(
        mask.width > 0 && rows.is_multiple_of(mask.width),
        "masked_softmax: {rows} rows, {mask:?}"
    );
    assert!(
        mask.prefix_width + mask.first_position < keys,
        "masked_softmax: {keys} keys, {mask:?}"
    );
    let scores = scores.into_dispatch();
    let weights = match prefix_lengths.filter(|_| mask.prefix_width > 0) {
        None => <Dispatch as SoftmaxOps>::masked_softmax(scores, scale, mask),
        Some(lengths) => {
            assert_eq!(
                lengths.dims()[0] * mask.batches_per_prefix,
                batch,
                "masked_softmax: lengths"
            );
            let lengths = lengths.clone().into_dispatch();
            <Dispatch as SoftmaxOps>::padded_softmax(scores, lengths, scale, mask)
        }
    };
    Tensor::from_dispatch(weights)
}

/// Gradient of the scores of [`masked_softmax`] from that of the weights it returned:
/// `scale · w · (g − Σ g·w)`. For backward passes that are written out; autodiff calls it by itself.
///
/// # Shapes
/// `gradient, weights: [batch, rows, keys]` → the same
pub fn softmax_backward(gradient: Tensor<3>, weights: Tensor<3>, scale: f64) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as SoftmaxBackwardOps>::softmax_backward(
        gradient.into_dispatch(),
        weights.into_dispatch(),
        scale,
    ))
}

/// Backends that compute [`masked_softmax`].
#[backend_extension(Cube, Flex, Autodiff, Fusion)]
pub trait SoftmaxOps: Backend {
    /// [`masked_softmax`] when a prefix has no padding.
    #[fusion(dtype = scores, shape = scores)]
    fn masked_softmax(
        scores: FloatTensor<Self>,
        scale: f64,
        mask: AttentionMask,
    ) -> FloatTensor<Self>;

    /// [`masked_softmax`] when only `lengths` keys of each prefix are real.
    #[fusion(dtype = scores, shape = scores)]
    fn padded_softmax(
        scores: FloatTensor<Self>,
        lengths: IntTensor<Self>,
        scale: f64,
        mask: AttentionMask,
    ) -> FloatTensor<Self>;
}

/// Backends that compute [`softmax_backward`].
#[backend_extension(Cube, Flex, Fusion)]
pub trait SoftmaxBackwardOps: Backend {
    /// Gradient of the scores: `scale · w · (g − Σ g·w)`. Masked keys get 0 since their weight is 0.
    #[fusion(dtype = weights, shape = weights)]
    fn softmax_backward(
        gradient: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        scale: f64,
    ) -> FloatTensor<Self>;
}

/// Weights that a backend computed from the scores of this node, as an operation with a gradient.
fn differentiable<B: SoftmaxBackwardOps, C: CheckpointStrategy>(
    scores: NodeGuard,
    weights: FloatTensor<B>,
    scale: f64,
) -> FloatTensor<Autodiff<B, C>> {
    let operation = Differentiable::<B, C, _, 1>::new([scores], |gradient, (weights, scale), _| {
        [Some(B::softmax_backward(gradient, weights, scale))]
    });
    let kept = operation.is_tracked().then(|| (weights.clone(), scale));
    operation.finish(weights, kept)
}

impl<B: SoftmaxOps + SoftmaxBackwardOps, C: CheckpointStrategy> SoftmaxOps for Autodiff<B, C> {
    fn masked_softmax(
        scores: FloatTensor<Self>,
        scale: f64,
        mask: AttentionMask,
    ) -> FloatTensor<Self> {
        let (scores, node) = scores.into_parts();
        differentiable::<B, C>(node, B::masked_softmax(scores, scale, mask), scale)
    }

    fn padded_softmax(
        scores: FloatTensor<Self>,
        lengths: IntTensor<Self>,
        scale: f64,
        mask: AttentionMask,
    ) -> FloatTensor<Self> {
        let (scores, node) = scores.into_parts();
        differentiable::<B, C>(node, B::padded_softmax(scores, lengths, scale, mask), scale)
    }
}
