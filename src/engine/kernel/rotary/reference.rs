//! Rotation in plain tensor operations, and the shapes that the kernel is checked at.

use burn::tensor::Tensor;

use crate::kernel::case::{
    Case, Cases, Comparison, HEAD_DIM, Inputs, KV_HEADS, ROWS, Reference, SHARING, gradients,
};

/// `x·cos + rotate_half(x)·sin`, as transformers writes it; see [`fn@super::rotate`].
pub fn rotate(x: Tensor<3>, cos: &Tensor<3>, sin: &Tensor<3>) -> Tensor<3> {
    let half = x.dims()[2] / 2;
    let first = x.clone().narrow(2, 0, half);
    let second = x.clone().narrow(2, half, half);
    let rotated = Tensor::cat(vec![second.neg(), first], 2);
    x * cos.clone() + rotated * sin.clone()
}

pub(in crate::kernel) fn cases(cases: &mut Cases) {
    for shape in [[1, 1, 2], [3, 3, 12], [7, 4, 64], [2, 9, 128]] {
        cases.small(move |inputs| both(inputs, shape));
    }
    for rows in ROWS {
        cases.large(move |inputs| both(inputs, [rows, KV_HEADS * SHARING, HEAD_DIM]));
    }
}

/// A rotation and its gradient.
fn both(inputs: &Inputs, [tokens, heads, dim]: [usize; 3]) -> Case {
    let angle = |seed| {
        let half = inputs.noise([tokens, 1, dim / 2], seed, 1.0);
        Tensor::cat(vec![half.clone(), half], 2)
    };
    let (cos, sin) = (angle(28), angle(29));
    let x = inputs.noise([tokens, heads * dim], 30, 3.0);
    let gradient = inputs.noise([tokens, heads * dim], 31, 1.0);
    let run = move |rotate: fn(Tensor<3>, &Tensor<3>, &Tensor<3>) -> Tensor<3>| {
        let x = x.clone().autodiff().require_grad();
        let (cos, sin) = (cos.clone().autodiff(), sin.clone().autodiff());
        let y = rotate(x.clone().reshape([tokens, heads, dim]), &cos, &sin);
        let y = y.reshape([tokens, heads * dim]);
        let mut outputs = vec![y.clone().inner().into()];
        outputs.extend(gradients(y, &gradient, &[x]));
        outputs
    };
    let expected = run.clone();
    Case {
        kernel: "rotary, gradient",
        shape: format!("{tokens}×{heads} heads of {dim}"),
        bytes: 4 * tokens * heads * dim * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        reference: Reference::Cpu,
        run: Box::new(move |_| run(super::rotate)),
        plain: Box::new(move |_| Comparison::of(expected(rotate))),
    }
}
