//! SwiGLU: `silu(gate) · up` in one pass over memory, and its gradients in another.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use super::backward::Differentiable;

mod cpu;
mod cube;
pub mod reference;
#[cfg(test)]
mod tests;

/// `silu(gate) · up` with `silu(x) = x / (1 + exp(−x))`, computed in f32 and rounded once.
///
/// Differentiable in both; keeps only `gate` and `up`.
///
/// # Shapes
/// `gate, up: [tokens, inner]`, of one type → the same
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    assert_eq!(
        gate.dims(),
        up.dims(),
        "swiglu: gate and up differ in shape"
    );
    Tensor::from_dispatch(<Dispatch as SwigluOps>::swiglu(
        gate.into_dispatch(),
        up.into_dispatch(),
    ))
}

/// Backends that compute [`swiglu`].
#[backend_extension(Cube, Flex, Autodiff, Fusion)]
pub trait SwigluOps: Backend {
    /// See [`swiglu`].
    #[fusion(dtype = gate, shape = gate)]
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// Backends that compute its gradients.
#[backend_extension(Cube, Flex, Fusion)]
pub trait SwigluBackwardOps: Backend {
    /// Gradients of `gate` and of `up`.
    #[fusion(meta = |_, gate, up| (gate.clone(), up.clone()))]
    fn swiglu_backward(
        gradient: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl<B: SwigluOps + SwigluBackwardOps, C: CheckpointStrategy> SwigluOps for Autodiff<B, C> {
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((gate, gate_node), (up, up_node)) = (gate.into_parts(), up.into_parts());
        let operation =
            Differentiable::<B, C, _, 2>::new([gate_node, up_node], |gradient, (gate, up), _| {
                let (grad_gate, grad_up) = B::swiglu_backward(gradient, gate, up);
                [Some(grad_gate), Some(grad_up)]
            });
        let kept = operation.is_tracked().then(|| (gate.clone(), up.clone()));
        operation.finish(B::swiglu(gate, up), kept)
    }
}
