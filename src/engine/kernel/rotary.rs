//! Rotary position embedding in one pass over memory, and its gradient in another.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::Flex;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use super::rows::flex::{cast, f32_rows, map_rows};

mod cube;
#[cfg(test)]
mod tests;

/// Rotates each head: `x·cos + rotate_half(x)·sin` as in HF Llama, the halves of a head being its
/// pairs. Computed in f32 and rounded once. Both halves of `cos` and of `sin` must be the same.
///
/// Differentiable in `x`; keeps nothing but `cos` and `sin`.
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

/// What [`rotate`] asks of a backend.
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

impl RotaryOps for Flex {
    fn rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        back: bool,
    ) -> FloatTensor<Self> {
        let dtype = x.dtype();
        let (cos, sin) = (f32_rows(cos), f32_rows(sin));
        let (cos, sin): (&[f32], &[f32]) = (cos.storage(), sin.storage());
        let shape = x.layout().shape();
        let (heads, dim) = (shape[1], shape[2]);
        let (width, half) = (heads * dim, dim / 2);
        let rotated = map_rows(x, width, |first, rows| {
            for (token, row) in rows.chunks_exact_mut(width).enumerate() {
                let angles = (first + token) * dim;
                let (cos, sin) = (&cos[angles..angles + half], &sin[angles..angles + half]);
                for head in row.chunks_exact_mut(dim) {
                    let (a, b) = head.split_at_mut(half);
                    for ((a, b), (&cos, &sin)) in a.iter_mut().zip(b).zip(cos.iter().zip(sin)) {
                        let sin = if back { -sin } else { sin };
                        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                    }
                }
            }
        });
        cast(rotated, dtype)
    }
}

#[derive(Debug)]
struct Rotate {
    back: bool,
}

impl<B: RotaryOps> Backward<B, 1> for Rotate {
    /// Cosines and sines.
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (cos, sin) = ops.state;
        if let [Some(node)] = ops.parents {
            let of_x = B::rotate(gradient, cos, sin, !self.back);
            gradients.register::<B>(node.id, of_x);
        }
    }
}

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
        match (Rotate { back })
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(preparation) => {
                let rotated = B::rotate(x, cos.clone(), sin.clone(), back);
                preparation.finish((cos, sin), rotated)
            }
            OpsKind::UnTracked(preparation) => preparation.finish(B::rotate(x, cos, sin, back)),
        }
    }
}
