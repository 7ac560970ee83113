//! Writing in place in plain tensor operations, and the shapes that the kernel is checked at.

use burn::tensor::Tensor;

use crate::kernel::case::{Case, Cases, Comparison, Inputs, Reference};
use crate::kernel::rotary::reference::rotate;

/// See [`super::append_rotated`]; `column` is `filled − 1`.
pub fn append_rotated(
    [query, key, value]: [Tensor<3>; 3],
    [cos, sin]: [&Tensor<3>; 2],
    [keys, values]: [Tensor<3>; 2],
    column: usize,
) -> (Tensor<3>, [Tensor<3>; 2]) {
    let [query, key] = [query, key].map(|x| rotate(x, cos, sin));
    let with_column = |cache: Tensor<3>, new: Tensor<3>| {
        let [rows, _, dim] = cache.dims();
        let range = [0..rows, column..column + 1, 0..dim];
        cache.slice_assign(range, new.reshape([rows, 1, dim]))
    };
    (query, [with_column(keys, key), with_column(values, value)])
}

pub(in crate::kernel) fn cases(cases: &mut Cases) {
    for shape in [
        [1, 1, 1, 3, 6],
        [5, 4, 2, 9, 64],
        [3, 6, 3, 7, 80],
        [2, 4, 4, 64, 100],
    ] {
        cases.small(move |inputs| appended(inputs, shape));
    }
}

/// `append_rotated`, for `[rows, heads, kv_heads, capacity, dim]`: the query, and what the caches contain then.
fn appended(inputs: &Inputs, [rows, heads, kv_heads, capacity, dim]: [usize; 5]) -> Case {
    let new = [heads, kv_heads, kv_heads].map(|heads| inputs.noise([rows, heads, dim], 34, 1.0));
    let angles = inputs.noise([rows, 1, dim / 2], 35, 1.0);
    let angles = Tensor::cat(vec![angles.clone(), angles], 2);
    let (cos, sin) = (angles.clone().cos(), angles.sin());
    let caches = [36, 37].map(|seed| inputs.noise([rows * kv_heads, capacity, dim], seed, 1.0));
    let column = capacity / 2;
    let filled = inputs.int_tensor(vec![column as i32 + 1], [1]);
    let given = (new.clone(), cos.clone(), sin.clone(), caches.clone());
    Case {
        kernel: "append_rotated",
        shape: format!("{rows}×{heads} + {kv_heads} heads of {dim}, {capacity} columns"),
        bytes: 2 * rows * (heads + 2 * kv_heads) * dim * inputs.size(),
        tolerance: inputs.tolerance(1e-6),
        reference: Reference::Cpu,
        run: Box::new(move |_| {
            let (new, caches) = (new.clone(), caches.clone());
            let (query, [keys, values]) =
                super::append_rotated(new, [&cos, &sin], caches, filled.clone());
            vec![query.into(), keys.into(), values.into()]
        }),
        plain: Box::new(move |_| {
            let (new, cos, sin, caches) = given.clone();
            let (query, [keys, values]) = append_rotated(new, [&cos, &sin], caches, column);
            Comparison::of(vec![query.into(), keys.into(), values.into()])
        }),
    }
}
