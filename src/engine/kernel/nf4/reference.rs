//! Products with an NF4 weight in plain tensor operations, and the shapes that the kernels are checked at.

use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

use crate::kernel::case::{
    Case, Cases, Comparison, Inputs, MATRICES, ROWS, Reference, SMALL_ADDED, bits, gradients, noise,
};
use crate::nf4::{BLOCK, CODEBOOK, NESTED_BLOCK, Nf4Matrix, Scales, dynamic_map};

use super::{Added, Nf4Path, Nf4Tensor};

/// The dense weight, `[rows, columns]`, code by code.
pub fn dequantize(matrix: &Nf4Matrix) -> Vec<f32> {
    (0..matrix.rows * matrix.columns)
        .into_par_iter()
        .map(|i| {
            let byte = matrix.packed[i / 2];
            let code = if i % 2 == 0 { byte >> 4 } else { byte & 15 };
            let block = i / BLOCK;
            let scale = match &matrix.scales {
                Scales::Plain(scales) => scales[block],
                Scales::Double {
                    codes,
                    nested,
                    offset,
                } => dynamic_map()[codes[block] as usize] * nested[block / NESTED_BLOCK] + offset,
            };
            CODEBOOK[code as usize] * scale
        })
        .collect()
}

/// `x·Wᵀ` through the dense weight; differentiable in `x`.
pub fn linear(x: Tensor<2>, matrix: &Nf4Matrix) -> Tensor<2> {
    let values = TensorData::new(dequantize(matrix), [matrix.rows, matrix.columns]);
    let weight = Tensor::from_data(values, (&x.device(), x.dtype()));
    x.matmul(weight.transpose())
}

/// A weight of random bits.
pub fn matrix(rows: usize, columns: usize, double: bool) -> Nf4Matrix {
    let (weights, blocks) = (rows * columns, (rows * columns).div_ceil(BLOCK));
    let byte = |i: usize, seed: u32| (bits(i as u32, seed) >> 8) as u8;
    let around = |values: Vec<f32>, mean: f32| values.into_iter().map(|x| x + mean).collect();
    let scales = if double {
        Scales::Double {
            codes: (0..blocks).map(|i| byte(i, 2)).collect(),
            nested: around(noise(blocks.div_ceil(NESTED_BLOCK), 3, 0.01), 0.03),
            offset: 0.07,
        }
    } else {
        Scales::Plain(around(noise(blocks, 1, 0.05), 0.1))
    };
    let mut packed: Vec<u8> = (0..weights.div_ceil(2))
        .into_par_iter()
        .map(|i| byte(i, 1))
        .collect();
    if weights % 2 == 1
        && let Some(last) = packed.last_mut()
    {
        *last = *last & 0xf0 | 7;
    }
    Nf4Matrix {
        rows,
        columns,
        packed,
        scales,
    }
}

pub(in crate::kernel) fn cases(cases: &mut Cases) {
    for (out, columns, double) in [(96, 128, true), (40, 192, false), (24, 100, true)] {
        cases.small(move |inputs| dense(inputs, out, columns, double));
        for (rows, path) in [
            (1, Nf4Path::Fused),
            (5, Nf4Path::Fused),
            (37, Nf4Path::Fused),
            (5, Nf4Path::Dense),
            (37, Nf4Path::Auto),
        ] {
            cases.small(move |inputs| product(inputs, [rows, out, columns], double, path));
        }
        cases.small(move |inputs| gradient(inputs, [5, out, columns], double));
    }
    // Every number of rows that a kernel was made for, and blocks that do not divide evenly.
    for (rows, double) in [(8, true), (9, false), (20, true), (32, true), (64, false)] {
        cases.small(move |inputs| product(inputs, [rows, 72, 2368], double, Nf4Path::Fused));
    }
    for (shape, rank) in SMALL_ADDED {
        cases.small(move |inputs| added(inputs, shape, rank));
    }
    for [out, columns] in MATRICES {
        cases.large(move |inputs| dense(inputs, out, columns, true));
        for rows in ROWS {
            for path in [Nf4Path::Fused, Nf4Path::Dense] {
                cases.large(move |inputs| product(inputs, [rows, out, columns], true, path));
            }
        }
    }
}

fn dense(inputs: &Inputs, out: usize, columns: usize, double: bool) -> Case {
    let matrix = matrix(out, columns, double);
    let weight = Nf4Tensor::new(&matrix, &inputs.compute.device);
    let dtype = inputs.compute.dtype;
    Case {
        kernel: "nf4 dequantize",
        shape: format!("{out}×{columns}"),
        bytes: weight.bytes() + out * columns * inputs.size(),
        tolerance: inputs.tolerance(1e-6),
        reference: Reference::Cpu,
        run: Box::new(move |_| vec![weight.dequantize(dtype).into()]),
        plain: Box::new(move |_| Comparison::Values(vec![dequantize(&matrix)])),
    }
}

fn product(inputs: &Inputs, [rows, out, columns]: [usize; 3], double: bool, path: Nf4Path) -> Case {
    let matrix = matrix(out, columns, double);
    let (device, copies) = (&inputs.compute.device, inputs.copies);
    let weights: Vec<Nf4Tensor> = (0..copies)
        .map(|_| Nf4Tensor::new(&matrix, device))
        .collect();
    let x = inputs.noise([rows, columns], 3, 1.0);
    let given = x.clone();
    Case {
        kernel: match path {
            Nf4Path::Fused => "nf4 linear, fused",
            Nf4Path::Dense => "nf4 linear, dense",
            Nf4Path::Auto => "nf4 linear",
        },
        shape: format!("{rows}×{columns} → {out}"),
        bytes: weights[0].bytes() + rows * (out + columns) * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        reference: Reference::of_product(rows, out),
        run: Box::new(move |i| vec![weights[i % copies].linear_by(x.clone(), path).into()]),
        plain: Box::new(move |_| Comparison::of(vec![linear(given.clone(), &matrix).into()])),
    }
}

fn gradient(inputs: &Inputs, [rows, out, columns]: [usize; 3], double: bool) -> Case {
    let matrix = matrix(out, columns, double);
    let weight = Nf4Tensor::new(&matrix, &inputs.compute.device);
    let x = inputs.noise([rows, columns], 3, 1.0);
    let gradient = inputs.noise([rows, out], 4, 1.0);
    let bytes = weight.bytes() + rows * (out + columns) * inputs.size();
    let run = move |product: &dyn Fn(Tensor<2>) -> Tensor<2>| {
        let x = x.clone().autodiff().require_grad();
        gradients(product(x.clone()), &gradient, &[x])
    };
    let expected = run.clone();
    Case {
        kernel: "nf4 linear, gradient",
        shape: format!("{rows}×{columns} → {out}"),
        bytes,
        tolerance: inputs.tolerance(1e-5),
        reference: Reference::Cpu,
        run: Box::new(move |_| run(&|x| weight.linear(x))),
        plain: Box::new(move |_| Comparison::of(expected(&|x| linear(x, &matrix)))),
    }
}

/// A product with everything that can be added to it.
fn added(inputs: &Inputs, [rows, out, columns]: [usize; 3], rank: usize) -> Case {
    let matrix = matrix(out, columns, true);
    let weight = Nf4Tensor::new(&matrix, &inputs.compute.device);
    let x = inputs.noise([rows, columns], 6, 1.0);
    let base = inputs.noise([rows, out], 7, 1.0);
    let low_rank = inputs.low_rank([rows, out], rank);
    let given = (x.clone(), base.clone(), low_rank.clone());
    Case {
        kernel: "nf4 linear, added",
        shape: format!("{rows}×{columns} → {out}, rank {rank}"),
        bytes: weight.bytes() + rows * (2 * out + columns) * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        reference: Reference::Cpu,
        run: Box::new(move |_| {
            let added = Added {
                base: Some(&base),
                low_rank: Some(&low_rank),
            };
            let sum = weight.few_rows(&x, added);
            vec![
                sum.unwrap_or_else(|| added.to(weight.linear(x.clone())))
                    .into(),
            ]
        }),
        plain: Box::new(move |_| {
            let (x, base, low_rank) = given.clone();
            let added = Added {
                base: Some(&base),
                low_rank: Some(&low_rank),
            };
            Comparison::of(vec![added.to(linear(x, &matrix)).into()])
        }),
    }
}
