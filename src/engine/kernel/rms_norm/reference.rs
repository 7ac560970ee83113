//! RMSNorm in plain tensor operations, and the shapes that the kernel is checked at.

use burn::tensor::{DType, Tensor};

use crate::kernel::case::{
    Case, Cases, Comparison, EPS, HIDDEN, Inputs, ROWS, Reference, SMALL_ROWS, gradients,
};

/// See [`super::rms_norm`].
pub fn rms_norm(x: Tensor<2>, weight: &Tensor<2>, eps: f64) -> Tensor<2> {
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let scale = x
        .clone()
        .square()
        .mean_dim(1)
        .add_scalar(eps)
        .sqrt()
        .recip();
    (x * scale).cast(dtype) * weight.clone()
}

pub(in crate::kernel) fn cases(cases: &mut Cases) {
    for [rows, width] in SMALL_ROWS {
        cases.small(move |inputs| forward(inputs, rows, width));
        cases.small(move |inputs| backward(inputs, rows, width));
    }
    for rows in ROWS {
        cases.large(move |inputs| forward(inputs, rows, HIDDEN));
    }
}

fn forward(inputs: &Inputs, rows: usize, width: usize) -> Case {
    let (x, weight) = (
        inputs.noise([rows, width], 7, 3.0),
        inputs.noise([1, width], 8, 1.0),
    );
    let expected = (x.clone(), weight.clone());
    Case {
        kernel: "rms_norm",
        shape: format!("{rows}×{width}"),
        bytes: 2 * rows * width * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        reference: Reference::Cpu,
        run: Box::new(move |_| vec![super::rms_norm(x.clone(), &weight, EPS).into()]),
        plain: Box::new(move |_| {
            let (x, weight) = expected.clone();
            Comparison::of(vec![rms_norm(x, &weight, EPS).into()])
        }),
    }
}

fn backward(inputs: &Inputs, rows: usize, width: usize) -> Case {
    let (x, weight) = (
        inputs.noise([rows, width], 7, 3.0),
        inputs.noise([1, width], 8, 1.0),
    );
    let gradient = inputs.noise([rows, width], 9, 1.0);
    let run = move |norm: fn(Tensor<2>, &Tensor<2>, f64) -> Tensor<2>| {
        let [x, weight] = [&x, &weight].map(|t| t.clone().autodiff().require_grad());
        gradients(norm(x.clone(), &weight, EPS), &gradient, &[x, weight])
    };
    let expected = run.clone();
    Case {
        kernel: "rms_norm, gradients",
        shape: format!("{rows}×{width}"),
        bytes: 3 * rows * width * inputs.size(),
        tolerance: inputs.tolerance(2e-5),
        reference: Reference::Cpu,
        run: Box::new(move |_| run(super::rms_norm)),
        plain: Box::new(move |_| Comparison::of(expected(rms_norm))),
    }
}
