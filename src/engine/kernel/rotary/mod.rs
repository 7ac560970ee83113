//! Rotary position embedding in one pass over memory, and its gradient in another.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use super::backward::Differentiable;

mod cpu;
mod cube;
pub mod reference;
#[cfg(test)]
mod tests;

/// Rotates each head: `x·cos + rotate_half(x)·sin` as in HF Llama, the halves of a head being its
/// pairs. Computed in f32 and rounded once. Both halves of `cos` and of `sin` must be the same.
///
/// Differentiable in `x`; keeps only `cos` and `sin`.
///
/// # Shapes
/// `x: [tokens, heads, head_dim]`, `cos, sin: [tokens, 1, head_dim]` → as `x`
pub fn rotate(x: Tensor<3>, cos: &Tensor<3>, sin: &Tensor<3>) -> Tensor<3> {
    let [tokens, _, dim] = x.dims();
    assert_eq!(cos.dims(), [tokens, 1, dim], "rotate: shape of the cosines");
    assert_eq!(sin.dims(), [tokens, 1, dim], "rotate: shape of the sines");
    assert_eq!(dim % 2, 0, "rotate: an odd head_dim");
    let angles = [cos, sin].map(|angle| angle.clone().into_dispatch());
    let [cos, sin] = angles;
    Tensor::from_dispatch(<Dispatch as RotaryOps>::rotate(
        x.into_dispatch(),
        cos,
        sin,
        false,
    ))
}

/// Backends that compute [`fn@rotate`] and its gradient.
#[backend_extension(Cube, Flex, Autodiff, Fusion)]
pub trait RotaryOps: Backend {
    /// See [`fn@rotate`]; `back` turns the other way, which is the gradient.
    #[fusion(dtype = x, shape = x)]
    fn rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        back: bool,
    ) -> FloatTensor<Self>;
}

/// What the backward pass needs: cosines, sines and the direction.
type Kept<B> = (FloatTensor<B>, FloatTensor<B>, bool);

impl<B: RotaryOps, C: CheckpointStrategy> RotaryOps for Autodiff<B, C> {
    fn rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        back: bool,
    ) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        // Angles have no gradient.
        let (cos, sin) = (Self::inner(cos), Self::inner(sin));
        let operation =
            Differentiable::<B, C, Kept<B>, 1>::new([node], |gradient, (cos, sin, back), _| {
                [Some(B::rotate(gradient, cos, sin, !back))]
            });
        let kept = operation
            .is_tracked()
            .then(|| (cos.clone(), sin.clone(), back));
        operation.finish(B::rotate(x, cos, sin, back), kept)
    }
}
