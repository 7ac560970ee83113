use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};

use super::reference::{self, dequantize, matrix};
use super::{Nf4Path, Nf4Tensor};
use crate::nf4::{BLOCK, NESTED_BLOCK, Nf4Matrix};
use moim_core::memory::limits::{CPU_FUSED_ROWS, GPU_FUSED_ROWS};

/// A generator for numbers of tests, uniform in `[-1, 1)`.
struct Numbers(u64);

impl Numbers {
    fn bits(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    fn next(&mut self) -> f32 {
        self.bits() as f32 / (1u64 << 31) as f32 - 1.0
    }

    fn many(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.cast(DType::F32).into_data().try_to_vec().unwrap()
}

/// The largest difference, relative to the largest magnitude.
fn error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = |values: &mut dyn Iterator<Item = f32>| {
        values.fold(0f32, |a, b| if b.is_nan() { b } else { a.max(b.abs()) })
    };
    largest(&mut found.iter().zip(expected).map(|(a, b)| a - b))
        / largest(&mut expected.iter().copied())
}

fn ulps(a: f32, b: f32) -> u32 {
    let ordered = |value: f32| {
        let bits = value.to_bits() as i32;
        if bits < 0 {
            i32::MIN.wrapping_sub(bits)
        } else {
            bits
        }
    };
    ordered(a).abs_diff(ordered(b))
}

/// Rows of `matrix`, times rows of `x`, in f64.
fn product(matrix: &Nf4Matrix, x: &[f32]) -> Vec<f32> {
    let (weight, columns) = (dequantize(matrix), matrix.columns);
    x.chunks(columns)
        .flat_map(|x| {
            weight.chunks(columns).map(|weight| {
                x.iter()
                    .zip(weight)
                    .map(|(a, b)| f64::from(*a) * f64::from(*b))
                    .sum::<f64>() as f32
            })
        })
        .collect()
}

const SHAPES: [(usize, usize); 5] = [(16, 64), (13, 192), (6, 576), (5, 37), (3, 100)];

fn check_dequantize(device: &Device) {
    for (rows, columns) in SHAPES {
        for double in [false, true] {
            let matrix = matrix(rows, columns, double);
            let weight = Nf4Tensor::new(&matrix, device);
            assert_eq!(weight.dims(), [rows, columns]);
            let (found, expected) = (values(weight.dequantize(DType::F32)), dequantize(&matrix));
            let worst = found
                .iter()
                .zip(&expected)
                .map(|(a, b)| ulps(*a, *b))
                .max()
                .unwrap();
            // A device may add the offset of the scales without rounding the product first; the sum of two numbers
            // of different sign can then differ by more than one unit.
            assert!(
                worst <= if double { 2 } else { 0 },
                "{rows}×{columns}, double {double}: {worst} ulps"
            );
        }
    }
}

/// Largest error of the products by the given paths, against f64.
fn check_linear(
    device: &Device,
    dtype: DType,
    counts: &[usize],
    shapes: &[(usize, usize)],
    paths: &[Nf4Path],
    tolerance: f32,
) {
    for &(rows, columns) in shapes {
        for double in [false, true] {
            let matrix = matrix(rows, columns, double);
            let weight = Nf4Tensor::new(&matrix, device);
            for &count in counts {
                // A few bits each, so that f16 represents them exactly.
                let x: Vec<f32> = Numbers(7)
                    .many(count * columns)
                    .iter()
                    .map(|x| (x * 64.0).round() / 64.0)
                    .collect();
                let expected = product(&matrix, &x);
                let x: Tensor<2> = Tensor::from_data(TensorData::new(x, [count, columns]), device);
                let x = x.cast(dtype);
                for &path in paths {
                    let found = values(weight.linear_by(x.clone(), path));
                    let error = error(&found, &expected);
                    println!(
                        "{rows}×{columns}, double {double}, {count} rows, {path:?}: {error:e}"
                    );
                    assert!(
                        error < tolerance,
                        "{rows}×{columns}, double {double}, {count} rows, {path:?}: {error:e}"
                    );
                }
            }
        }
    }
}

fn check_gradient(device: &Device, counts: &[usize], shapes: &[(usize, usize)], tolerance: f32) {
    for &(rows, columns) in shapes {
        let matrix = matrix(rows, columns, true);
        let weight = Nf4Tensor::new(&matrix, device);
        for &count in counts {
            let x = TensorData::new(Numbers(7).many(count * columns), [count, columns]);
            let gradient = |product: &dyn Fn(Tensor<2>) -> Tensor<2>| {
                let x: Tensor<2> = Tensor::<2>::from_data(x.clone(), device)
                    .autodiff()
                    .require_grad();
                let y = product(x.clone());
                let gradients = (y.clone() * y).sum().backward();
                values(x.grad(&gradients).unwrap())
            };
            let found = gradient(&|x| weight.linear(x));
            let expected = gradient(&|x| reference::linear(x, &matrix));
            let error = error(&found, &expected);
            assert!(
                error < tolerance,
                "{rows}×{columns}, {count} rows: {error:e}"
            );
        }
    }
}

const COUNTS: [usize; 7] = [1, 3, 8, 16, 17, 64, 100];

#[test]
fn dequantizing_gives_the_values_of_the_codes() {
    check_dequantize(&Device::flex());
}

#[test]
fn the_product_is_that_with_the_dense_weight() {
    assert!(COUNTS.contains(&CPU_FUSED_ROWS) && COUNTS.iter().any(|count| *count > GPU_FUSED_ROWS));
    check_linear(
        &Device::flex(),
        DType::F32,
        &COUNTS,
        &SHAPES,
        &[Nf4Path::Auto, Nf4Path::Fused, Nf4Path::Dense],
        2e-6,
    );
}

#[test]
fn the_gradient_is_that_with_the_dense_weight() {
    check_gradient(&Device::flex(), &COUNTS, &SHAPES, 2e-6);
}

#[test]
fn a_row_has_the_same_bits_in_any_batch() {
    let (rows, columns) = (301, 576);
    let weight = Nf4Tensor::new(&matrix(rows, columns, true), &Device::flex());
    let x: Tensor<2> = Tensor::from_data(
        TensorData::new(Numbers(5).many(16 * columns), [16, columns]),
        &Device::flex(),
    );
    let together = values(weight.linear(x.clone()));
    for row in 0..16 {
        let alone = values(weight.linear(x.clone().narrow(0, row, 1)));
        assert_eq!(alone, together[row * rows..(row + 1) * rows]);
    }
}

#[test]
fn rows_that_are_cut_from_a_larger_tensor_are_read_where_they_are() {
    let weight = Nf4Tensor::new(&matrix(16, 64, false), &Device::flex());
    let x: Tensor<2> = Tensor::random([64, 9], Distribution::Default, &Device::flex()).transpose();
    let (cut, whole) = (x.clone().narrow(0, 2, 3), values(weight.linear(x)));
    assert_eq!(values(weight.linear(cut)), whole[2 * 16..5 * 16]);
}

#[test]
fn memory_is_about_half_a_byte_a_weight() {
    let weight = Nf4Tensor::new(&matrix(512, 512, true), &Device::flex());
    let blocks = 512 * 512 / BLOCK;
    assert_eq!(
        weight.bytes(),
        512 * 512 / 2 + blocks + blocks / NESTED_BLOCK * 4 + (16 + 256) * 4
    );
}

#[cfg(feature = "wgpu")]
mod on_wgpu {
    use super::*;
    use crate::kernel::testing::wgpu;

    #[test]
    fn dequantizing_gives_the_values_of_the_codes_on_wgpu() {
        if let Some(device) = wgpu() {
            check_dequantize(&device);
        }
    }

    #[test]
    fn the_product_is_that_with_the_dense_weight_on_wgpu() {
        if let Some(device) = wgpu() {
            let fused = [Nf4Path::Fused];
            check_linear(
                &device,
                DType::F32,
                &[1, 3, 8, 17],
                &[(13, 192), (6, 576)],
                &fused,
                1e-5,
            );
            if device.supports_dtype(DType::F16) {
                check_linear(&device, DType::F16, &[3], &[(13, 192)], &fused, 1e-3);
            }
        }
    }

    #[test]
    fn the_gradient_is_that_with_the_dense_weight_on_wgpu() {
        if let Some(device) = wgpu() {
            // One shape: the matmul of burn tries out its kernels on each.
            check_gradient(&device, &[3], &[(13, 192)], 1e-5);
        }
    }
}
