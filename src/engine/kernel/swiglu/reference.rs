//! SwiGLU in plain tensor operations, and the shapes that the kernel is checked at.

use burn::tensor::Tensor;
use burn::tensor::activation::silu;

use crate::kernel::case::{
    Case, Cases, Comparison, INNER, Inputs, ROWS, Reference, SMALL_ROWS, gradients,
};

/// See [`super::swiglu`].
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    silu(gate) * up
}

pub(in crate::kernel) fn cases(cases: &mut Cases) {
    for [rows, width] in SMALL_ROWS {
        cases.small(move |inputs| forward(inputs, rows, width));
        cases.small(move |inputs| backward(inputs, rows, width));
    }
    for rows in ROWS {
        cases.large(move |inputs| forward(inputs, rows, INNER));
    }
}

fn forward(inputs: &Inputs, rows: usize, width: usize) -> Case {
    let (gate, up) = (
        inputs.noise([rows, width], 10, 8.0),
        inputs.noise([rows, width], 11, 2.0),
    );
    let expected = (gate.clone(), up.clone());
    Case {
        kernel: "swiglu",
        shape: format!("{rows}×{width}"),
        bytes: 3 * rows * width * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        reference: Reference::Cpu,
        run: Box::new(move |_| vec![super::swiglu(gate.clone(), up.clone()).into()]),
        plain: Box::new(move |_| {
            let (gate, up) = expected.clone();
            Comparison::of(vec![swiglu(gate, up).into()])
        }),
    }
}

fn backward(inputs: &Inputs, rows: usize, width: usize) -> Case {
    let (gate, up) = (
        inputs.noise([rows, width], 10, 8.0),
        inputs.noise([rows, width], 11, 2.0),
    );
    let gradient = inputs.noise([rows, width], 12, 1.0);
    let run = move |swiglu: fn(Tensor<2>, Tensor<2>) -> Tensor<2>| {
        let [gate, up] = [&gate, &up].map(|t| t.clone().autodiff().require_grad());
        gradients(swiglu(gate.clone(), up.clone()), &gradient, &[gate, up])
    };
    let expected = run.clone();
    Case {
        kernel: "swiglu, gradients",
        shape: format!("{rows}×{width}"),
        bytes: 5 * rows * width * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        reference: Reference::Cpu,
        run: Box::new(move |_| run(super::swiglu)),
        plain: Box::new(move |_| Comparison::of(expected(swiglu))),
    }
}
