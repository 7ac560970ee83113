//! The product of few rows as burn computes it, and the shapes that the kernel is checked at.

use burn::tensor::Tensor;

use crate::kernel::case::{
    Case, Cases, Comparison, Inputs, MATRICES, ROWS, Reference, SMALL_ADDED,
};

use super::{Added, few_rows};

/// `x·weightᵀ` by burn's own matmul; see [`super::few_rows_linear`].
pub fn few_rows_linear(x: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
    x.matmul(weight.clone().transpose())
}

pub(in crate::kernel) fn cases(cases: &mut Cases) {
    for shape in [
        [1, 40, 72],
        [7, 40, 72],
        [33, 40, 72],
        [8, 64, 8],
        [5, 40, 18],
        [3, 33, 4096],
        [20, 48, 2368],
        [32, 600, 576],
    ] {
        cases.small(move |inputs| dense(inputs, shape, false));
    }
    for (shape, rank) in SMALL_ADDED {
        cases.small(move |inputs| added(inputs, shape, rank));
    }
    for [out, columns] in MATRICES {
        for rows in ROWS {
            for is_burns in [false, true] {
                cases.large(move |inputs| dense(inputs, [rows, out, columns], is_burns));
            }
        }
    }
}

/// `is_burns`: by burn's own matmul, to compare times with.
fn dense(inputs: &Inputs, [rows, out, columns]: [usize; 3], is_burns: bool) -> Case {
    let weights = inputs.copies_of_noise([out, columns], 5, 0.1);
    let copies = inputs.copies;
    let x = inputs.noise([rows, columns], 6, 1.0);
    let expected = (x.clone(), weights[0].clone());
    let (kernel, product): (_, fn(Tensor<2>, &Tensor<2>) -> Tensor<2>) = if is_burns {
        ("linear, burn's", few_rows_linear)
    } else {
        ("linear, dense", super::few_rows_linear)
    };
    Case {
        kernel,
        shape: format!("{rows}×{columns} → {out}"),
        bytes: (rows * (out + columns) + out * columns) * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        reference: Reference::of_product(rows, out),
        run: Box::new(move |i| vec![product(x.clone(), &weights[i % copies]).into()]),
        plain: Box::new(move |_| {
            let (x, weight) = expected.clone();
            Comparison::of(vec![few_rows_linear(x, &weight).into()])
        }),
    }
}

/// A product with everything that can be added to it.
fn added(inputs: &Inputs, [rows, out, columns]: [usize; 3], rank: usize) -> Case {
    let weight = inputs.noise([out, columns], 5, 0.1);
    let x = inputs.noise([rows, columns], 6, 1.0);
    let base = inputs.noise([rows, out], 7, 1.0);
    let low_rank = inputs.low_rank([rows, out], rank);
    let given = (x.clone(), weight.clone(), base.clone(), low_rank.clone());
    Case {
        kernel: "linear, added",
        shape: format!("{rows}×{columns} → {out}, rank {rank}"),
        bytes: (out * columns + rows * (2 * out + columns)) * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        reference: Reference::Cpu,
        run: Box::new(move |_| {
            let added = Added {
                base: Some(&base),
                low_rank: Some(&low_rank),
            };
            let sum = few_rows(&x, &weight, added);
            let sum = sum.unwrap_or_else(|| added.to(super::few_rows_linear(x.clone(), &weight)));
            vec![sum.into()]
        }),
        plain: Box::new(move |_| {
            let (x, weight, base, low_rank) = given.clone();
            let added = Added {
                base: Some(&base),
                low_rank: Some(&low_rank),
            };
            Comparison::of(vec![added.to(few_rows_linear(x, &weight)).into()])
        }),
    }
}
