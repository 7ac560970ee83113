//! SwiGLU: `silu(gate) · up` in one pass over memory, and its gradients in another.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::Flex;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use super::rows::flex::{cast, f32_rows, for_row_pairs, map_rows};
use super::simd::{Vectorised, multiply_add, sigmoid, vectorised};

mod cube;
#[cfg(test)]
mod tests;

/// `silu(gate) · up` with `silu(x) = x / (1 + exp(−x))`, computed in f32 and rounded once.
///
/// Differentiable in both; keeps nothing but `gate` and `up`.
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

/// What [`swiglu`] asks of a backend.
#[backend_extension(Cube, Flex, Autodiff, Fusion)]
pub trait SwigluOps: Backend {
    /// See [`swiglu`].
    #[fusion(dtype = gate, shape = gate)]
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Gradients of `gate` and of `up`.
    #[fusion(meta = |_, gate, up| (gate.clone(), up.clone()))]
    fn swiglu_backward(
        gradient: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

struct Forward<'a> {
    gate: &'a mut [f32],
    up: &'a [f32],
}

impl Vectorised for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (gate, &up) in self.gate.iter_mut().zip(self.up) {
            *gate = *gate * sigmoid::<FMA>(*gate) * up;
        }
    }
}

struct Gradient<'a> {
    gradient: &'a [f32],
    gate: &'a mut [f32],
    up: &'a mut [f32],
}

impl Vectorised for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for ((&gradient, gate), up) in self.gradient.iter().zip(self.gate).zip(self.up) {
            let sigmoid = sigmoid::<FMA>(*gate);
            let silu = *gate * sigmoid;
            // silu′ = σ + x·σ·(1 − σ)
            let slope = multiply_add::<FMA>(silu, 1.0 - sigmoid, sigmoid);
            *gate = gradient * *up * slope;
            *up = gradient * silu;
        }
    }
}

impl SwigluOps for Flex {
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let dtype = gate.dtype();
        let up = f32_rows(up);
        let up: &[f32] = up.storage();
        // Elementwise: rows of one value.
        let y = map_rows(gate, 1, |start, gate| {
            let up = &up[start..start + gate.len()];
            vectorised(Forward { gate, up });
        });
        cast(y, dtype)
    }

    fn swiglu_backward(
        gradient: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let dtype = gate.dtype();
        let (gradient, mut gate, mut up) = (f32_rows(gradient), f32_rows(gate), f32_rows(up));
        let gradient: &[f32] = gradient.storage();
        // The last use of both, so as a rule nobody else holds them and nothing is copied.
        for_row_pairs(
            gate.storage_mut(),
            up.storage_mut(),
            (1, 1),
            |start, gate, up| {
                let gradient = &gradient[start..start + gate.len()];
                vectorised(Gradient { gradient, gate, up });
            },
        );
        (cast(gate, dtype), cast(up, dtype))
    }
}

#[derive(Debug)]
struct Swiglu;

impl<B: SwigluOps> Backward<B, 2> for Swiglu {
    /// Gate and up.
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (gate, up) = ops.state;
        let (of_gate, of_up) = B::swiglu_backward(gradient, gate, up);
        let [gate, up] = ops.parents;
        if let Some(node) = gate {
            gradients.register::<B>(node.id, of_gate);
        }
        if let Some(node) = up {
            gradients.register::<B>(node.id, of_up);
        }
    }
}

impl<B: SwigluOps, C: CheckpointStrategy> SwigluOps for Autodiff<B, C> {
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((gate, gate_node), (up, up_node)) = (gate.into_parts(), up.into_parts());
        match Swiglu
            .prepare::<C>([gate_node, up_node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(preparation) => {
                preparation.finish((gate.clone(), up.clone()), B::swiglu(gate, up))
            }
            OpsKind::UnTracked(preparation) => preparation.finish(B::swiglu(gate, up)),
        }
    }

    fn swiglu_backward(
        _gradient: FloatTensor<Self>,
        _gate: FloatTensor<Self>,
        _up: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        unimplemented!("swiglu has no second derivative")
    }
}
