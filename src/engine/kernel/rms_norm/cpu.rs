//! RMSNorm on the CPU.

use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;
use rayon::prelude::*;

use super::{RmsNormBackwardOps, RmsNormOps};
use crate::kernel::rows::cpu::{cast, f32_rows, map_rows, map_rows_with, tensor};
use crate::kernel::simd::{Vectorised, dot, multiply_add, vectorised};

/// Rows whose contributions to the weight's gradient are added up before the next rows' are: a part
/// of the result, so it must not depend on the number of threads.
const ROWS_PER_PARTIAL: usize = 64;

struct Forward<'a> {
    rows: &'a mut [f32],
    inverse_rms: &'a mut [f32],
    /// Without one the normed values are the result.
    weight: Option<&'a [f32]>,
    width: usize,
    eps: f64,
}

impl Vectorised for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let rows = self.rows.chunks_exact_mut(self.width);
        for (row, inverse) in rows.zip(self.inverse_rms) {
            let mean = dot::<FMA>(row, row) / self.width as f64;
            *inverse = (1.0 / (mean + self.eps).sqrt()) as f32;
            match self.weight {
                Some(weight) => {
                    for (x, &weight) in row.iter_mut().zip(weight) {
                        *x = *x * *inverse * weight;
                    }
                }
                None => row.iter_mut().for_each(|x| *x *= *inverse),
            }
        }
    }
}

/// `inverse · (g·w) − x · inverse³ · mean(g·w·x)`, row by row, written over `g`.
struct GradX<'a> {
    gradient: &'a mut [f32],
    x: &'a [f32],
    weight: &'a [f32],
    inverse_rms: &'a [f32],
}

impl Vectorised for GradX<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let width = self.weight.len();
        let rows = self
            .gradient
            .chunks_exact_mut(width)
            .zip(self.x.chunks_exact(width));
        for ((gradient, x), &inverse) in rows.zip(self.inverse_rms) {
            for (gradient, &weight) in gradient.iter_mut().zip(self.weight) {
                *gradient *= weight;
            }
            let mean = dot::<FMA>(gradient, x) / width as f64;
            let of_length = -(mean * f64::from(inverse).powi(3)) as f32;
            for (gradient, &x) in gradient.iter_mut().zip(x) {
                *gradient = multiply_add::<FMA>(x, of_length, *gradient * inverse);
            }
        }
    }
}

/// Adds `g · x · inverse` of some rows to `sum`.
struct GradWeight<'a> {
    gradient: &'a [f32],
    x: &'a [f32],
    inverse_rms: &'a [f32],
    sum: &'a mut [f32],
}

impl Vectorised for GradWeight<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let width = self.sum.len();
        let rows = self
            .gradient
            .chunks_exact(width)
            .zip(self.x.chunks_exact(width));
        for ((gradient, x), &inverse) in rows.zip(self.inverse_rms) {
            for ((sum, &gradient), &x) in self.sum.iter_mut().zip(gradient).zip(x) {
                *sum = multiply_add::<FMA>(gradient, x * inverse, *sum);
            }
        }
    }
}

impl RmsNormOps for Flex {
    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (dtype, [rows, width]) = (x.dtype(), x.layout().shape().dims());
        let mut inverse_rms = vec![0.0f32; rows];
        let y = if dtype == DType::F32 {
            let weight = f32_rows(weight);
            let weight: &[f32] = weight.storage();
            map_rows_with(x, width, &mut inverse_rms, |_, rows, inverse_rms| {
                vectorised(Forward {
                    rows,
                    inverse_rms,
                    weight: Some(weight),
                    width,
                    eps,
                });
            })
        } else {
            let normed = map_rows_with(x, width, &mut inverse_rms, |_, rows, inverse_rms| {
                vectorised(Forward {
                    rows,
                    inverse_rms,
                    weight: None,
                    width,
                    eps,
                });
            });
            Self::float_mul(cast(normed, dtype), weight)
        };
        (y, tensor(inverse_rms, [rows, 1]))
    }
}

impl RmsNormBackwardOps for Flex {
    fn rms_norm_x_backward(
        gradient: FloatTensor<Self>,
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        inverse_rms: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (dtype, width) = (x.dtype(), x.layout().shape()[1]);
        let (x, weight, inverse_rms) = (f32_rows(x), f32_rows(weight), f32_rows(inverse_rms));
        let (x, weight): (&[f32], &[f32]) = (x.storage(), weight.storage());
        let inverse_rms: &[f32] = inverse_rms.storage();
        let grad_x = map_rows(gradient, width, |row, gradient| {
            let x = &x[row * width..row * width + gradient.len()];
            let inverse_rms = &inverse_rms[row..row + gradient.len() / width];
            vectorised(GradX {
                gradient,
                x,
                weight,
                inverse_rms,
            });
        });
        cast(grad_x, dtype)
    }

    fn rms_norm_weight_backward(
        gradient: FloatTensor<Self>,
        x: FloatTensor<Self>,
        inverse_rms: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (dtype, width) = (x.dtype(), x.layout().shape()[1]);
        let (gradient, x, inverse_rms) = (f32_rows(gradient), f32_rows(x), f32_rows(inverse_rms));
        let (gradient, x): (&[f32], &[f32]) = (gradient.storage(), x.storage());
        let inverse_rms: &[f32] = inverse_rms.storage();
        let part = ROWS_PER_PARTIAL * width;
        let partial: Vec<Vec<f32>> = gradient
            .par_chunks(part)
            .zip(x.par_chunks(part))
            .zip(inverse_rms.par_chunks(ROWS_PER_PARTIAL))
            .map(|((gradient, x), inverse_rms)| {
                let mut sum = vec![0.0f32; width];
                vectorised(GradWeight {
                    gradient,
                    x,
                    inverse_rms,
                    sum: &mut sum,
                });
                sum
            })
            .collect();
        let grad_weight: Vec<f32> = (0..width)
            .map(|column| {
                partial
                    .iter()
                    .map(|sum| f64::from(sum[column]))
                    .sum::<f64>() as f32
            })
            .collect();
        cast(tensor(grad_weight, [1, width]), dtype)
    }
}
