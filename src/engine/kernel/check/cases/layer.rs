//! What a layer does between its products.

use burn::tensor::Tensor;

use super::super::{Case, Comparison, Inputs, Output, bits, plain};
use super::{EPS, values};
use crate::kernel::dropout::dropout;
use crate::kernel::in_place::append_rotated;
use crate::kernel::rms_norm::rms_norm;
use crate::kernel::rotary::rotate;
use crate::kernel::softmax::{AttentionMask, masked_softmax, softmax_backward};
use crate::kernel::swiglu::swiglu;

pub(super) fn norm(inputs: &Inputs, rows: usize, width: usize) -> Case {
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
        has_reference: true,
        run: Box::new(move |_| vec![rms_norm(x.clone(), &weight, EPS).into()]),
        plain: Box::new(move |_| {
            let (x, weight) = expected.clone();
            values(vec![plain::rms_norm(x, weight, EPS).into()])
        }),
        is_always_plain: false,
    }
}

pub(super) fn norm_gradient(inputs: &Inputs, rows: usize, width: usize) -> Case {
    let (x, weight) = (
        inputs.noise([rows, width], 7, 3.0),
        inputs.noise([1, width], 8, 1.0),
    );
    let gradient = inputs.noise([rows, width], 9, 1.0);
    let run = move |norm: &dyn Fn(Tensor<2>, Tensor<2>) -> Tensor<2>| {
        let [x, weight] = [&x, &weight].map(|t| t.clone().autodiff().require_grad());
        let y = norm(x.clone(), weight.clone());
        plain::gradients(y, &gradient, &[x, weight])
    };
    let expected = run.clone();
    Case {
        kernel: "rms_norm, gradients",
        shape: format!("{rows}×{width}"),
        bytes: 3 * rows * width * inputs.size(),
        tolerance: inputs.tolerance(2e-5),
        has_reference: true,
        run: Box::new(move |_| run(&|x, weight| rms_norm(x, &weight, EPS))),
        plain: Box::new(move |_| values(expected(&|x, weight| plain::rms_norm(x, weight, EPS)))),
        is_always_plain: false,
    }
}

pub(super) fn gated(inputs: &Inputs, rows: usize, width: usize) -> Case {
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
        has_reference: true,
        run: Box::new(move |_| vec![swiglu(gate.clone(), up.clone()).into()]),
        plain: Box::new(move |_| {
            let (gate, up) = expected.clone();
            values(vec![plain::swiglu(gate, up).into()])
        }),
        is_always_plain: false,
    }
}

pub(super) fn gated_gradient(inputs: &Inputs, rows: usize, width: usize) -> Case {
    let (gate, up) = (
        inputs.noise([rows, width], 10, 8.0),
        inputs.noise([rows, width], 11, 2.0),
    );
    let gradient = inputs.noise([rows, width], 12, 1.0);
    let run = move |swiglu: fn(Tensor<2>, Tensor<2>) -> Tensor<2>| {
        let [gate, up] = [&gate, &up].map(|t| t.clone().autodiff().require_grad());
        plain::gradients(swiglu(gate.clone(), up.clone()), &gradient, &[gate, up])
    };
    let expected = run.clone();
    Case {
        kernel: "swiglu, gradients",
        shape: format!("{rows}×{width}"),
        bytes: 5 * rows * width * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        has_reference: true,
        run: Box::new(move |_| run(swiglu)),
        plain: Box::new(move |_| values(expected(plain::swiglu))),
        is_always_plain: false,
    }
}

/// A rotation and its gradient.
pub(super) fn rotated(inputs: &Inputs, [tokens, heads, dim]: [usize; 3]) -> Case {
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
        outputs.extend(plain::gradients(y, &gradient, &[x]));
        outputs
    };
    let expected = run.clone();
    Case {
        kernel: "rotary, gradient",
        shape: format!("{tokens}×{heads} heads of {dim}"),
        bytes: 4 * tokens * heads * dim * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        has_reference: true,
        run: Box::new(move |_| run(rotate)),
        plain: Box::new(move |_| values(expected(plain::rotate))),
        is_always_plain: false,
    }
}

/// `append_rotated`, for `[rows, heads, kv_heads, capacity, dim]`: the query, and what the caches hold then.
pub(super) fn appended_rotated(
    inputs: &Inputs,
    [rows, heads, kv_heads, capacity, dim]: [usize; 5],
) -> Case {
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
        has_reference: true,
        run: Box::new(move |_| {
            let (query, [keys, values]) =
                append_rotated(new.clone(), [&cos, &sin], caches.clone(), filled.clone());
            vec![query.into(), keys.into(), values.into()]
        }),
        plain: Box::new(move |_| {
            let ([query, key, value], cos, sin, [keys, values]) = given.clone();
            let [query, key] = [query, key].map(|x| rotate(x, &cos, &sin));
            let column_of = |cache: Tensor<3>, new: Tensor<3>| {
                let new = new.reshape([rows * kv_heads, 1, dim]);
                let range = [0..rows * kv_heads, column..column + 1, 0..dim];
                Output::from(cache.slice_assign(range, new))
            };
            super::values(vec![
                query.into(),
                column_of(keys, key),
                column_of(values, value),
            ])
        }),
        is_always_plain: false,
    }
}

pub(super) fn dropped(inputs: &Inputs, rows: usize, width: usize) -> Case {
    const SALT: u32 = 77;
    const RATE: f64 = 0.3;
    let x = inputs.noise([rows, width], 13, 1.0);
    let words: Vec<u32> = (0..rows as u32 * 2).map(|i| bits(i, 14)).collect();
    let keys = inputs.int_tensor(
        words.iter().map(|word| word.cast_signed()).collect(),
        [rows, 2],
    );
    let given = x.clone();
    Case {
        kernel: "dropout",
        shape: format!("{rows}×{width}"),
        bytes: 2 * rows * width * inputs.size(),
        // A value that is dropped on one side alone is an error of about 1.
        tolerance: inputs.tolerance(1e-6),
        has_reference: true,
        run: Box::new(move |_| vec![dropout(x.clone(), keys.clone(), SALT, RATE).into()]),
        plain: Box::new(move |_| {
            let x = super::super::values(given.clone());
            Comparison::Values(vec![plain::dropout(&x, &words, width, SALT, RATE)])
        }),
        is_always_plain: false,
    }
}

/// Scores of `batch` prompts and key heads, `rows` queries of which `width` follow one another.
pub(super) fn mask(
    [batch, rows]: [usize; 2],
    prefix: usize,
    width: usize,
) -> (AttentionMask, Vec<i32>, [usize; 3]) {
    // Two heads share a prefix; of it some columns are padding.
    let heads = 2;
    let mask = match prefix {
        0 => AttentionMask::causal(width),
        _ => AttentionMask::after_prefix(prefix, heads, width, width),
    };
    let lengths = (0..batch / heads)
        .map(|i| (prefix - i % prefix.max(1)) as i32)
        .collect();
    let rows = rows.next_multiple_of(width);
    (mask, lengths, [batch, rows, prefix + width])
}

pub(super) fn softmax(inputs: &Inputs, batch: [usize; 2], prefix: usize, width: usize) -> Case {
    let scale = 0.3;
    let (mask, lengths, shape) = mask(batch, prefix, width);
    let scores = inputs.noise(shape, 15, 10.0);
    let prefixes = inputs.int_tensor(lengths.clone(), [lengths.len()]);
    let prefixes = (prefix > 0).then_some(prefixes);
    let given = scores.clone();
    Case {
        kernel: "masked_softmax",
        shape: format!("{}×{}×{}", shape[0], shape[1], shape[2]),
        bytes: 2 * shape.iter().product::<usize>() * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        has_reference: true,
        run: Box::new(move |_| {
            vec![masked_softmax(scores.clone(), scale, mask, prefixes.as_ref()).into()]
        }),
        plain: Box::new(move |_| {
            let scores = super::super::values(given.clone());
            Comparison::Values(vec![plain::softmax(&scores, shape, scale, mask, &lengths)])
        }),
        is_always_plain: false,
    }
}

pub(super) fn softmax_gradient(
    inputs: &Inputs,
    batch: [usize; 2],
    prefix: usize,
    width: usize,
) -> Case {
    let scale = 0.3;
    let (_, _, shape) = mask(batch, prefix, width);
    let weights = inputs.noise(shape, 16, 0.1);
    let gradient = inputs.noise(shape, 17, 1.0);
    let given = (weights.clone(), gradient.clone());
    Case {
        kernel: "softmax_backward",
        shape: format!("{}×{}×{}", shape[0], shape[1], shape[2]),
        bytes: 3 * shape.iter().product::<usize>() * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        has_reference: true,
        run: Box::new(move |_| {
            vec![softmax_backward(gradient.clone(), weights.clone(), scale).into()]
        }),
        plain: Box::new(move |_| {
            let (weights, gradient) = given.clone();
            let sum = (gradient.clone() * weights.clone()).sum_dim(2);
            values(vec![((gradient - sum) * weights * scale).into()])
        }),
        is_always_plain: false,
    }
}
