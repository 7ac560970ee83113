//! Log-probabilities of tokens under a softmax over the vocabulary, without writing that softmax, and
//! the gradient of the logits over the logits themselves. For the language-model head.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Int, Shape, Tensor};

mod cpu;
mod cube;
pub mod reference;
#[cfg(test)]
mod tests;

/// Log-probability of each row's target and entropy `−Σ p ln p` of each row's distribution, in nats.
///
/// Reads the logits and writes nothing of their size. Not differentiable: see [`logits_gradient`].
///
/// # Shapes
/// `logits: [rows, vocabulary]` in f32, `targets: [rows]` → `[rows]` and `[rows]`
///
/// # Panics
/// A target outside the vocabulary (on the CPU), or logits that autodiff tracks.
pub fn token_log_probs(logits: Tensor<2>, targets: Tensor<1, Int>) -> (Tensor<1>, Tensor<1>) {
    assert_shapes(&logits, &targets);
    let (log_probs, entropies) = <Dispatch as TokenProbsOps>::token_log_probs(
        logits.into_dispatch(),
        targets.into_dispatch(),
    );
    (
        Tensor::from_dispatch(log_probs),
        Tensor::from_dispatch(entropies),
    )
}

/// Gradient of the logits when the log-probability of row `r`'s target has the gradient `scale[r]`:
/// `scale · (onehot − softmax)`.
///
/// Overwrites `logits` if no other tensor shares them.
///
/// # Shapes
/// `logits: [rows, vocabulary]` and `scale: [rows]` in f32, `targets: [rows]` → `[rows, vocabulary]`
///
/// # Panics
/// As [`token_log_probs`].
pub fn logits_gradient(logits: Tensor<2>, targets: Tensor<1, Int>, scale: Tensor<1>) -> Tensor<2> {
    assert_shapes(&logits, &targets);
    assert_eq!(
        scale.dims(),
        targets.dims(),
        "logits_gradient: shape of the scale"
    );
    assert_eq!(
        scale.dtype(),
        DType::F32,
        "logits_gradient: type of the scale"
    );
    Tensor::from_dispatch(<Dispatch as TokenProbsOps>::logits_gradient(
        logits.into_dispatch(),
        targets.into_dispatch(),
        scale.into_dispatch(),
    ))
}

fn assert_shapes(logits: &Tensor<2>, targets: &Tensor<1, Int>) {
    assert_eq!(
        logits.dims()[0],
        targets.dims()[0],
        "a target for each row of logits"
    );
    assert_eq!(logits.dtype(), DType::F32, "type of the logits");
}

/// Backends that compute [`token_log_probs`] and [`logits_gradient`].
#[backend_extension(Cube, Flex, Autodiff, Fusion)]
pub trait TokenProbsOps: Backend {
    /// See [`token_log_probs`].
    #[fusion(meta = |logits, _targets| (per_row(logits), per_row(logits)))]
    fn token_log_probs(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`logits_gradient`].
    #[fusion(dtype = logits, shape = logits)]
    fn logits_gradient(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        scale: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

/// One value per row.
fn per_row(logits: &TensorSpec) -> TensorSpec {
    TensorSpec::new(Shape::from([logits.shape[0]]), logits.dtype)
}

/// The tensor without its graph.
fn untracked<B: Backend, C: CheckpointStrategy>(x: FloatTensor<Autodiff<B, C>>) -> FloatTensor<B> {
    assert!(
        !x.is_tracked(),
        "the head's kernels are not differentiable: detach their inputs"
    );
    x.into_primitive()
}

impl<B: TokenProbsOps, C: CheckpointStrategy> TokenProbsOps for Autodiff<B, C> {
    fn token_log_probs(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (log_probs, entropies) = B::token_log_probs(untracked::<B, C>(logits), targets);
        (Self::from_inner(log_probs), Self::from_inner(entropies))
    }

    fn logits_gradient(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        scale: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (logits, scale) = (untracked::<B, C>(logits), untracked::<B, C>(scale));
        Self::from_inner(B::logits_gradient(logits, targets, scale))
    }
}
