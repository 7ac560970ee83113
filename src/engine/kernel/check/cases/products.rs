//! Products with a weight, dense or in NF4.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::super::{Case, Comparison, Inputs, bits, noise, plain};
use super::{HIDDEN, REFERENCE_ROWS, values};
use crate::kernel::linear::{Added, LowRank, few_rows_linear};
use crate::kernel::nf4::{Nf4Path, Nf4Tensor};
use crate::model::Linear;
use crate::nf4::{BLOCK, NESTED_BLOCK, Nf4Matrix, Scales};

/// A weight of random bits.
pub(super) fn matrix(rows: usize, columns: usize, double: bool, seed: u32) -> Nf4Matrix {
    let (weights, blocks) = (rows * columns, (rows * columns).div_ceil(BLOCK));
    let byte = |i: usize, seed: u32| (bits(i as u32, seed) >> 8) as u8;
    let scales = match double {
        true => Scales::Double {
            codes: (0..blocks).map(|i| byte(i, seed + 1)).collect(),
            nested: noise(blocks.div_ceil(NESTED_BLOCK), seed + 2, 0.01)
                .into_iter()
                .map(|x| x + 0.03)
                .collect(),
            offset: 0.07,
        },
        false => Scales::Plain(
            noise(blocks, seed, 0.05)
                .into_iter()
                .map(|x| x + 0.1)
                .collect(),
        ),
    };
    let mut packed: Vec<u8> = (0..weights.div_ceil(2))
        .into_par_iter()
        .map(|i| byte(i, seed))
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

pub(super) fn dequantize(inputs: &Inputs, out: usize, columns: usize, double: bool) -> Case {
    let matrix = matrix(out, columns, double, 1);
    let weight = Nf4Tensor::new(&matrix, &inputs.compute.device);
    let dtype = inputs.compute.dtype;
    Case {
        kernel: "nf4 dequantize",
        shape: format!("{out}×{columns}"),
        bytes: weight.bytes() + out * columns * inputs.size(),
        tolerance: inputs.tolerance(1e-6),
        has_reference: true,
        run: Box::new(move |_| vec![weight.dequantize(dtype).into()]),
        plain: Box::new(move |_| Comparison::Values(vec![matrix.dequantize()])),
        is_always_plain: false,
    }
}

pub(super) fn nf4(
    inputs: &Inputs,
    [rows, out, columns]: [usize; 3],
    double: bool,
    path: Nf4Path,
) -> Case {
    let matrix = matrix(out, columns, double, 1);
    let (device, copies) = (&inputs.compute.device, inputs.copies);
    let weights: Vec<Nf4Tensor> = (0..copies)
        .map(|_| Nf4Tensor::new(&matrix, device))
        .collect();
    let x = inputs.noise([rows, columns], 3, 1.0);
    let y = plain::product(x.clone(), &matrix);
    Case {
        kernel: match path {
            Nf4Path::Fused => "nf4 linear, fused",
            Nf4Path::Dense => "nf4 linear, dense",
            Nf4Path::Auto => "nf4 linear",
        },
        shape: format!("{rows}×{columns} → {out}"),
        bytes: weights[0].bytes() + rows * (out + columns) * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        has_reference: rows <= REFERENCE_ROWS || out < HIDDEN / 4,
        run: Box::new(move |i| vec![weights[i % copies].linear_by(x.clone(), path).into()]),
        plain: Box::new(move |_| values(vec![y().into()])),
        is_always_plain: false,
    }
}

pub(super) fn nf4_gradient(
    inputs: &Inputs,
    [rows, out, columns]: [usize; 3],
    double: bool,
) -> Case {
    let matrix = matrix(out, columns, double, 1);
    let weight = Nf4Tensor::new(&matrix, &inputs.compute.device);
    let x = inputs.noise([rows, columns], 3, 1.0);
    let gradient = inputs.noise([rows, out], 4, 1.0);
    let expected = plain::product_gradient(gradient.clone(), &matrix);
    Case {
        kernel: "nf4 linear, gradient",
        shape: format!("{rows}×{columns} → {out}"),
        bytes: weight.bytes() + rows * (out + columns) * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        has_reference: true,
        run: Box::new(move |_| {
            let x = x.clone().autodiff().require_grad();
            plain::gradients(weight.linear(x.clone()), &gradient, &[x])
        }),
        plain: Box::new(move |_| values(vec![expected().into()])),
        is_always_plain: false,
    }
}

/// `is_burns`: by burn's own matmul, to compare with.
pub(super) fn dense(inputs: &Inputs, [rows, out, columns]: [usize; 3], is_burns: bool) -> Case {
    let weights = inputs.copies_of_noise([out, columns], 5, 0.1);
    let copies = inputs.copies;
    let x = inputs.noise([rows, columns], 6, 1.0);
    let expected = (x.clone(), weights[0].clone());
    let burns = |x: Tensor<2>, weight: &Tensor<2>| x.matmul(weight.clone().transpose());
    let product = if is_burns { burns } else { few_rows_linear };
    Case {
        kernel: if is_burns {
            "linear, burn's"
        } else {
            "linear, dense"
        },
        shape: format!("{rows}×{columns} → {out}"),
        bytes: (rows * (out + columns) + out * columns) * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        has_reference: rows <= REFERENCE_ROWS || out < HIDDEN / 4,
        run: Box::new(move |i| vec![product(x.clone(), &weights[i % copies]).into()]),
        plain: Box::new(move |_| {
            let (x, weight) = &expected;
            values(vec![burns(x.clone(), weight).into()])
        }),
        is_always_plain: false,
    }
}

/// A product with all that can be added to it; the weight is dense or in NF4.
pub(super) fn added(
    inputs: &Inputs,
    [rows, out, columns]: [usize; 3],
    rank: usize,
    is_nf4: bool,
) -> Case {
    let packed = matrix(out, columns, true, 1);
    let layer = match is_nf4 {
        true => Linear::Nf4(Nf4Tensor::new(&packed, &inputs.compute.device)),
        false => Linear::Dense(inputs.noise([out, columns], 5, 0.1)),
    };
    let share = LowRank {
        inner: inputs.noise([rows, rank], 8, 1.0),
        factor: inputs.noise([out, rank], 9, 1.0),
        scale: 0.25,
    };
    let x = inputs.noise([rows, columns], 6, 1.0);
    let base = inputs.noise([rows, out], 7, 1.0);
    let by_parts = {
        let (share, base) = (share.clone(), base.clone());
        move |product: Tensor<2>| base.clone() + product + share.clone().product()
    };
    let expected = (layer.clone(), x.clone(), by_parts.clone());
    let of_packed = plain::product(x.clone(), &packed);
    Case {
        kernel: if is_nf4 {
            "nf4 linear, added"
        } else {
            "linear, added"
        },
        shape: format!("{rows}×{columns} → {out}, rank {rank}"),
        bytes: packed.packed.len() + rows * (2 * out + columns) * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        has_reference: true,
        run: Box::new(move |_| {
            let added = Added {
                base: Some(&base),
                low_rank: Some(&share),
            };
            let sum = layer.few_rows(&x, added);
            vec![sum.unwrap_or_else(|| by_parts(layer.forward(&x))).into()]
        }),
        plain: Box::new(move |_| {
            let (layer, x, by_parts) = &expected;
            let product = match is_nf4 {
                true => of_packed(),
                false => layer.forward(x),
            };
            values(vec![by_parts(product).into()])
        }),
        is_always_plain: false,
    }
}
