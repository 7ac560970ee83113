//! RMSNorm in one pass over memory, and its gradients.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Shape, Tensor};

use super::backward::Differentiable;

mod cpu;
mod cube;
pub mod reference;
#[cfg(test)]
mod tests;

/// `x / √(mean(x²) + eps) · weight`, as in HF Llama: the normed values are computed in f32, rounded to
/// the type of `x`, then multiplied by the weight.
///
/// Differentiable in `x`, and in `weight` if that is tracked. Keeps `x`, `weight` and one number
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

/// Backends that compute [`rms_norm`].
#[backend_extension(Cube, Flex, Autodiff, Fusion)]
pub trait RmsNormOps: Backend {
    /// See [`rms_norm`]; also returns `1 / √(mean(x²) + eps)`, `[tokens, 1]` in f32.
    #[fusion(meta = |x, _weight, _eps| (x.clone(), per_row(x)))]
    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

/// Backends that compute its gradients.
#[backend_extension(Cube, Flex, Fusion)]
pub trait RmsNormBackwardOps: Backend {
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

/// One f32 per row.
fn per_row(x: &TensorSpec) -> TensorSpec {
    TensorSpec::new(Shape::from([x.shape[0], 1]), DType::F32)
}

/// What the backward pass needs: `x`, the weight and the inverse root mean squares.
type Kept<B> = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

impl<B: RmsNormOps + RmsNormBackwardOps, C: CheckpointStrategy> RmsNormOps for Autodiff<B, C> {
    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        let operation = Differentiable::<B, C, Kept<B>, 2>::new(
            [x_node, weight_node],
            |gradient, (x, weight, inverse_rms), [_, wants_weight]| {
                let grad_weight = wants_weight.then(|| {
                    B::rms_norm_weight_backward(gradient.clone(), x.clone(), inverse_rms.clone())
                });
                let grad_x = B::rms_norm_x_backward(gradient, x, weight, inverse_rms);
                [Some(grad_x), grad_weight]
            },
        );
        let inputs = operation.is_tracked().then(|| (x.clone(), weight.clone()));
        let (y, inverse_rms) = B::rms_norm(x, weight, eps);
        let kept = inputs.map(|(x, weight)| (x, weight, inverse_rms.clone()));
        (operation.finish(y, kept), Self::from_inner(inverse_rms))
    }
}
