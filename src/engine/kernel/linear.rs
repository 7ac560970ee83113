//! The product of few rows with a dense weight: on the CPU, where burn-flex computes it with one thread, and on tensor
//! cores, where burn would try out its kernels for each shape.

mod cube;

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Device, Shape, Tensor, TensorData};
use moim_core::memory::limits::FEW_ROWS;
use rayon::prelude::*;

use super::nf4::simd;
use super::tensor_cores::{PASS_ROWS, Terms, is_for_tensor_cores};

pub use super::tensor_cores::{Added, LowRank};

/// Numbers of the weight that one task reads.
const WEIGHTS_PER_TASK: usize = 1 << 16;

/// Up to so many multiply-adds the calling thread computes alone: waking others takes as long.
const WORK_OF_ONE_THREAD: usize = 1 << 20;

/// Rows of weights that the dot products take side by side.
const ROWS_AT_A_TIME: usize = 4;

fn with_columns(rows: &Shape, columns: usize) -> Shape {
    Shape::new([rows[0], columns])
}

/// Backends with a product for few rows that autodiff does not know.
#[backend_extension(Cube, Fusion)]
trait FewRowsOps: Backend {
    /// See [`few_rows`]; what is not there of the last three tensors is some other tensor.
    #[fusion(dtype = x, shape = with_columns(x, weight[0]))]
    fn few_rows_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        base: FloatTensor<Self>,
        inner: FloatTensor<Self>,
        factor: FloatTensor<Self>,
        terms: Terms,
    ) -> FloatTensor<Self>;
}

/// `x·weightᵀ` with what is to be added, by the kernel in `kernel::tensor_cores`: for at most 32 rows (`PASS_ROWS`), without
/// autodiff, in two bytes a number, on a GPU. Anything else is `None`. A row of the result has the same bits whatever
/// rows are beside it.
///
/// # Shapes
/// `x: [rows, in]`, `weight: [out, in]` → `[rows, out]`
pub fn few_rows(x: &Tensor<2>, weight: &Tensor<2>, added: Added) -> Option<Tensor<2>> {
    let ([base, inner, factor], terms) = added.terms(x);
    let fits = (1..=PASS_ROWS).contains(&x.dims()[0])
        && is_for_tensor_cores(&[x, weight, base, inner, factor]);
    fits.then(|| {
        Tensor::from_dispatch(<Dispatch as FewRowsOps>::few_rows_linear(
            x.clone().into_dispatch(),
            weight.clone().into_dispatch(),
            base.clone().into_dispatch(),
            inner.clone().into_dispatch(),
            factor.clone().into_dispatch(),
            terms,
        ))
    })
}

/// `x·weightᵀ`: [`few_rows`] where it can, else the backend's product.
///
/// # Shapes
/// `x: [rows, in]`, `weight: [out, in]` → `[rows, out]`
pub fn linear(x: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
    few_rows(&x, weight, Added::default()).unwrap_or_else(|| x.matmul(weight.clone().transpose()))
}

/// [`linear`], and on the CPU as follows.
///
/// On burn-flex in f32, with a contiguous weight, without autodiff and for at most [`FEW_ROWS`] rows, rayon's
/// threads share out the rows of the weight and each reads them once for all rows of `x`. A row of the result has
/// then the same bits whatever rows are computed beside it and by however many threads. Anything else is [`linear`],
/// whose last bits may differ.
///
/// # Shapes
/// `x: [rows, in]`, `weight: [out, in]` → `[rows, out]`
pub fn few_rows_linear(x: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
    let [rows, columns] = x.dims();
    let [out, weight_columns] = weight.dims();
    assert_eq!(columns, weight_columns, "columns of x and of the weight");
    let fits = (1..=FEW_ROWS).contains(&rows)
        && columns > 0
        && x.dtype() == DType::F32
        && weight.dtype() == DType::F32
        && !x.is_autodiff()
        && !weight.is_autodiff()
        && x.device() == Device::flex();
    if fits
        && let (Ok(few), Ok(dense)) = (
            x.clone().try_into_primitive::<Flex>(),
            weight.clone().try_into_primitive::<Flex>(),
        )
        && let Some(dense) = dense.as_slice::<f32>()
    {
        let few = few.to_contiguous();
        let product = match few.as_slice::<f32>() {
            Some(few) => product(few, rows, dense, columns),
            None => return linear(x, weight),
        };
        return Tensor::from_primitive::<Flex>(FlexTensor::from_data(TensorData::new(
            product,
            [rows, out],
        )));
    }
    linear(x, weight)
}

/// `few: [m, columns]`, `dense: [n, columns]` → `[m, n]`
fn product(few: &[f32], m: usize, dense: &[f32], columns: usize) -> Vec<f32> {
    let n = dense.len() / columns;
    let rows_per_task = (WEIGHTS_PER_TASK / columns)
        .max(1)
        .next_multiple_of(ROWS_AT_A_TIME);
    let mut by_weight = vec![0.0; n * m];
    let task =
        |(dense, output): (&[f32], &mut [f32])| simd::dot_products(dense, few, columns, output);
    if n * columns * m <= WORK_OF_ONE_THREAD {
        task((dense, &mut by_weight));
    } else {
        dense
            .par_chunks(rows_per_task * columns)
            .zip(by_weight.par_chunks_mut(rows_per_task * m))
            .for_each(task);
    }
    simd::transposed(by_weight, n, m)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(rows: usize, columns: usize) -> Tensor<2> {
        let values = (0..rows * columns)
            .map(|i| (i * 7919 % 1013) as f32 / 506.5 - 1.0)
            .collect::<Vec<_>>();
        Tensor::from_data(TensorData::new(values, [rows, columns]), &Device::flex())
    }

    fn values(tensor: Tensor<2>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    fn assert_close(found: Tensor<2>, expected: Tensor<2>) {
        let largest = expected.clone().abs().max().into_scalar::<f32>();
        let error = (found - expected).abs().max().into_scalar::<f32>();
        assert!(error <= 2e-6 * largest, "{error} of {largest}");
    }

    #[test]
    fn the_product_is_that_of_burn() {
        for (out, columns) in [(1, 1), (7, 37), (300, 576), (64, 1536)] {
            for rows in [1, 2, 3, 5, 8, FEW_ROWS, FEW_ROWS + 1] {
                let (x, weight) = (random(rows, columns), random(out, columns));
                assert_close(
                    few_rows_linear(x.clone(), &weight),
                    x.matmul(weight.transpose()),
                );
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_in_any_batch() {
        let (x, weight) = (random(FEW_ROWS, 577), random(301, 577));
        let together = values(few_rows_linear(x.clone(), &weight));
        for row in 0..FEW_ROWS {
            let alone = values(few_rows_linear(x.clone().narrow(0, row, 1), &weight));
            assert_eq!(alone, together[row * 301..(row + 1) * 301]);
        }
    }

    #[test]
    fn other_tensors_take_the_product_of_burn() {
        let (x, weight) = (random(3, 64), random(64, 20).transpose());
        assert_close(
            few_rows_linear(x.clone(), &weight),
            x.clone().matmul(weight.transpose()),
        );

        let weight = random(20, 64);
        let leaf = x.autodiff().require_grad();
        let gradients = few_rows_linear(leaf.clone(), &weight.clone().autodiff())
            .sum()
            .backward();
        let expected = Tensor::<2>::ones([3, 20], &Device::flex()).matmul(weight);
        assert_close(leaf.grad(&gradients).unwrap(), expected);
    }
}
