//! Softmax of attention scores: scaled, masked and normalised in place.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{Int, Tensor};

mod cpu;
mod cube;
#[cfg(test)]
mod tests;

/// Which keys a row of scores attends to.
///
/// The keys are a prefix (of which the first few are real and the rest padding), then the queries'
/// own keys. Row `r` holds the query at position `first_position + r % width` among the own keys:
/// several heads, or several completions, lie below one another. It sees the real keys of the prefix
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
    /// More queries than keys of their own.
    pub fn after_prefix(
        prefix_width: usize,
        batches_per_prefix: usize,
        width: usize,
        own_width: usize,
    ) -> Self {
        assert!(
            width <= own_width,
            "{width} queries with {own_width} keys of their own"
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
/// `scores` where nobody else holds them, so no second buffer of their size appears. Rows do not
/// influence one another: a chunk of the batch gives the bits of the whole.
///
/// # Shapes
/// `scores: [batch, rows, keys]`; `prefix_lengths: [batch / batches_per_prefix]`, the real keys of each
/// prefix, `None` where all are → `[batch, rows, keys]`
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

/// Gradient of the scores of [`masked_softmax`] from that of the weights it answered:
/// `scale · w · (g − Σ g·w)`. For backward passes that are written out; autodiff has it by itself.
///
/// # Shapes
/// `gradient, weights: [batch, rows, keys]` → the same
pub fn softmax_backward(gradient: Tensor<3>, weights: Tensor<3>, scale: f64) -> Tensor<3> {
    Tensor::from_dispatch(<Dispatch as SoftmaxOps>::softmax_backward(
        gradient.into_dispatch(),
        weights.into_dispatch(),
        scale,
    ))
}

/// What [`masked_softmax`] asks of a backend.
#[backend_extension(Cube, Flex, Autodiff, Fusion)]
pub trait SoftmaxOps: Backend {
    /// [`masked_softmax`] where a prefix has no padding.
    #[fusion(dtype = scores, shape = scores)]
    fn masked_softmax(
        scores: FloatTensor<Self>,
        scale: f64,
        mask: AttentionMask,
    ) -> FloatTensor<Self>;

    /// [`masked_softmax`] where only `lengths` keys of each prefix are real.
    #[fusion(dtype = scores, shape = scores)]
    fn padded_softmax(
        scores: FloatTensor<Self>,
        lengths: IntTensor<Self>,
        scale: f64,
        mask: AttentionMask,
    ) -> FloatTensor<Self>;

    /// Gradient of the scores: `scale · w · (g − Σ g·w)`. Masked keys get 0 since their weight is 0.
    #[fusion(dtype = weights, shape = weights)]
    fn softmax_backward(
        gradient: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        scale: f64,
    ) -> FloatTensor<Self>;
}

#[derive(Debug)]
struct Softmax;

impl<B: SoftmaxOps> Backward<B, 1> for Softmax {
    /// Weights and scale.
    type State = (FloatTensor<B>, f64);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (weights, scale) = ops.state;
        if let [Some(scores)] = ops.parents {
            let of_scores = B::softmax_backward(gradient, weights, scale);
            gradients.register::<B>(scores.id, of_scores);
        }
    }
}

impl<B: SoftmaxOps, C: CheckpointStrategy> SoftmaxOps for Autodiff<B, C> {
    fn masked_softmax(
        scores: FloatTensor<Self>,
        scale: f64,
        mask: AttentionMask,
    ) -> FloatTensor<Self> {
        let (scores, node) = scores.into_parts();
        let weights = B::masked_softmax(scores, scale, mask);
        match Softmax.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(preparation) => preparation.finish((weights.clone(), scale), weights),
            OpsKind::UnTracked(preparation) => preparation.finish(weights),
        }
    }

    fn padded_softmax(
        scores: FloatTensor<Self>,
        lengths: IntTensor<Self>,
        scale: f64,
        mask: AttentionMask,
    ) -> FloatTensor<Self> {
        let (scores, node) = scores.into_parts();
        let weights = B::padded_softmax(scores, lengths, scale, mask);
        match Softmax.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(preparation) => preparation.finish((weights.clone(), scale), weights),
            OpsKind::UnTracked(preparation) => preparation.finish(weights),
        }
    }

    fn softmax_backward(
        _gradient: FloatTensor<Self>,
        _weights: FloatTensor<Self>,
        _scale: f64,
    ) -> FloatTensor<Self> {
        unimplemented!("masked_softmax has no second derivative")
    }
}
