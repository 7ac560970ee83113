//! Dropout whose masks are a function of keys and columns, so that a recomputation, another split of
//! the same tokens and another device all drop the same values.
//!
//! A mask's bit is a hash of a token's key, a salt (which layer, which projection) and the column.
//! The hash is `lowbias32` (C. Wellons' search for integer hashes of low bias), three times over.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{Int, Shape, Tensor};

use super::backward::Differentiable;

mod cpu;
mod cube;
pub mod reference;
#[cfg(test)]
mod tests;

/// Zeroes values of `x` with probability `rate` and scales the others by `1 / (1 − rate)`.
/// Differentiable in `x`; the backward pass recomputes the mask, so none is kept.
///
/// # Shapes
/// `x: [tokens, width]`, `keys: [tokens, 2]` (64 bits per token, in two words) → as `x`
pub fn dropout(x: Tensor<2>, keys: Tensor<2, Int>, salt: u32, rate: f64) -> Tensor<2> {
    if rate <= 0.0 {
        return x;
    }
    let threshold = (rate.min(1.0) * f64::from(u32::MAX)) as u32;
    // At a rate of 1 nothing is left to scale.
    let scale = if rate < 1.0 {
        (1.0 / (1.0 - rate)) as f32
    } else {
        0.0
    };
    Tensor::from_dispatch(<Dispatch as DropoutOps>::dropout(
        x.into_dispatch(),
        keys.into_dispatch(),
        salt as usize,
        threshold as usize,
        scale,
    ))
}

/// Backends that compute [`fn@dropout`].
#[backend_extension(Cube, Flex, Autodiff, Fusion)]
pub trait DropoutOps: Backend {
    /// See [`dropout`]; values whose hash is below `threshold` are dropped.
    #[fusion(dtype = x, shape = same_shape(x))]
    fn dropout(
        x: FloatTensor<Self>,
        keys: IntTensor<Self>,
        salt: usize,
        threshold: usize,
        scale: f32,
    ) -> FloatTensor<Self>;
}

fn same_shape(x: &Shape) -> Shape {
    x.clone()
}

impl<B: DropoutOps, C: CheckpointStrategy> DropoutOps for Autodiff<B, C> {
    fn dropout(
        x: FloatTensor<Self>,
        keys: IntTensor<Self>,
        salt: usize,
        threshold: usize,
        scale: f32,
    ) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let operation = Differentiable::<B, C, _, 1>::new(
            [node],
            |gradient, (keys, salt, threshold, scale), _| {
                [Some(B::dropout(gradient, keys, salt, threshold, scale))]
            },
        );
        let kept = operation
            .is_tracked()
            .then(|| (keys.clone(), salt, threshold, scale));
        operation.finish(B::dropout(x, keys, salt, threshold, scale), kept)
    }
}
