//! The backward pass of a kernel: [`Differentiable`].

use std::fmt::Debug;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend};

/// The gradient of each input, from the gradient of the output, from what the forward pass kept, and from
/// which inputs want a gradient. What is returned for an input that wants none is ignored.
pub type BackwardPass<B, S, const N: usize> =
    fn(FloatTensor<B>, S, [bool; N]) -> [Option<FloatTensor<B>>; N];

/// An operation with `N` differentiable inputs under autodiff.
///
/// The order in a kernel's implementation for `Autodiff`: `into_parts` of the inputs, [`Differentiable::new`], clone
/// what the backward pass needs if [`Differentiable::is_tracked`], run the kernel,
/// [`Differentiable::finish`]. Without a clone the kernel can overwrite an input that no other tensor shares.
pub struct Differentiable<B: Backend, C, S, const N: usize>(OpsKind<Pass<B, S, N>, B, S, C, N>);

impl<B, C, S, const N: usize> Differentiable<B, C, S, N>
where
    B: Backend,
    C: CheckpointStrategy,
    S: Clone + Send + Debug + 'static,
{
    /// An operation on these inputs.
    pub fn new(inputs: [NodeGuard; N], backward: BackwardPass<B, S, N>) -> Self {
        let prepared = Pass(backward).prepare::<C>(inputs);
        Self(prepared.compute_bound().stateful())
    }

    /// Whether a backward pass may follow.
    pub fn is_tracked(&self) -> bool {
        matches!(self.0, OpsKind::Tracked(_))
    }

    /// The output, with what the backward pass needs.
    ///
    /// # Panics
    /// Tracked, and nothing kept.
    pub fn finish(self, output: FloatTensor<B>, kept: Option<S>) -> FloatTensor<Autodiff<B, C>> {
        match (self.0, kept) {
            (OpsKind::Tracked(prepared), Some(kept)) => prepared.finish(kept, output),
            (OpsKind::Tracked(_), None) => unreachable!("a tracked kernel kept nothing"),
            (OpsKind::UnTracked(prepared), _) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct Pass<B: Backend, S, const N: usize>(BackwardPass<B, S, N>);

impl<B, S, const N: usize> Backward<B, N> for Pass<B, S, N>
where
    B: Backend,
    S: Clone + Send + Debug + 'static,
{
    type State = S;

    fn backward(self, ops: Ops<S, N>, gradients: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let of_inputs = self.0(gradient, ops.state, wanted);
        for (input, gradient) in ops.parents.into_iter().zip(of_inputs) {
            if let (Some(input), Some(gradient)) = (input, gradient) {
                gradients.register::<B>(input.id, gradient);
            }
        }
    }
}
