//! RMSNorm in one pass over memory, and its gradients.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Shape, Tensor};

mod cpu;
mod cube;
#[cfg(test)]
mod tests;

/// `x / √(mean(x²) + eps) · weight`, as in HF Llama: the normed values are computed in f32, rounded to
/// the type of `x`, then multiplied by the weight.
///
/// Differentiable in `x`, and in `weight` where that is tracked. Keeps `x`, `weight` and one number
/// per token.
///
/// # Shapes
/// `x: [tokens, hidden]`, `weight: [1, hidden]`, of one type → `[tokens, hidden]`
pub fn rms_norm(x: Tensor<2>, weight: &Tensor<2>, eps: f64) -> Tensor<2> {
    assert_eq!(
        weight.dims(),
        [1, x.dims()[1]],
        "rms_norm: shape of the weight"
    );
    assert_eq!(weight.dtype(), x.dtype(), "rms_norm: types of x and weight");
    let (y, _) =
        <Dispatch as RmsNormOps>::rms_norm(x.into_dispatch(), weight.clone().into_dispatch(), eps);
    Tensor::from_dispatch(y)
}

/// What [`rms_norm`] asks of a backend.
#[backend_extension(Cube, Flex, Autodiff, Fusion)]
pub trait RmsNormOps: Backend {
    /// See [`rms_norm`]; also answers `1 / √(mean(x²) + eps)`, `[tokens, 1]` in f32.
    #[fusion(meta = |x, _weight, _eps| (x.clone(), per_row(x)))]
    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Gradient of `x`.
    #[fusion(dtype = x, shape = x)]
    fn rms_norm_x_backward(
        gradient: FloatTensor<Self>,
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        inverse_rms: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// Gradient of the weight, `[1, hidden]`.
    #[fusion(dtype = x, shape = Shape::from([1, x[1]]))]
    fn rms_norm_weight_backward(
        gradient: FloatTensor<Self>,
        x: FloatTensor<Self>,
        inverse_rms: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// One f32 for each row.
fn per_row(x: &TensorSpec) -> TensorSpec {
    TensorSpec::new(Shape::from([x.shape[0], 1]), DType::F32)
}

#[derive(Debug)]
struct RmsNorm;

impl<B: RmsNormOps> Backward<B, 2> for RmsNorm {
    /// Input, weight and the inverse root mean squares.
    type State = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (x, weight, inverse_rms) = ops.state;
        let [x_node, weight_node] = ops.parents;
        if let Some(node) = weight_node {
            let of_weight =
                B::rms_norm_weight_backward(gradient.clone(), x.clone(), inverse_rms.clone());
            gradients.register::<B>(node.id, of_weight);
        }
        if let Some(node) = x_node {
            let of_x = B::rms_norm_x_backward(gradient, x, weight, inverse_rms);
            gradients.register::<B>(node.id, of_x);
        }
    }
}

impl<B: RmsNormOps, C: CheckpointStrategy> RmsNormOps for Autodiff<B, C> {
    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        let prepared = RmsNorm.prepare::<C>([x_node, weight_node]);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(preparation) => {
                let (y, inverse_rms) = B::rms_norm(x.clone(), weight.clone(), eps);
                let state = (x, weight, inverse_rms.clone());
                (preparation.finish(state, y), Self::from_inner(inverse_rms))
            }
            OpsKind::UnTracked(preparation) => {
                let (y, inverse_rms) = B::rms_norm(x, weight, eps);
                (preparation.finish(y), Self::from_inner(inverse_rms))
            }
        }
    }

    fn rms_norm_x_backward(
        _gradient: FloatTensor<Self>,
        _x: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        _inverse_rms: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        unimplemented!("rms_norm has no second derivative")
    }

    fn rms_norm_weight_backward(
        _gradient: FloatTensor<Self>,
        _x: FloatTensor<Self>,
        _inverse_rms: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        unimplemented!("rms_norm has no second derivative")
    }
}
