//! The product of few rows with a dense weight: on the CPU, where burn-flex computes it with one thread, and on tensor
//! cores, where burn would try out its kernels for each shape.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, Flex, backend_extension};
use burn::tensor::{DType, Device, Shape, Tensor};

use super::tensor_cores::{PASS_ROWS, Terms, is_for_tensor_cores};
use moim_core::memory::limits::FEW_ROWS;

mod cpu;
mod cube;
pub mod reference;
#[cfg(test)]
mod tests;

pub use super::tensor_cores::{Added, LowRank};

fn with_columns(rows: &Shape, columns: usize) -> Shape {
    Shape::new([rows[0], columns])
}

/// Backends with a product for few rows that autodiff does not know.
#[backend_extension(Cube, Fusion)]
trait FewRowsOps: Backend {
    /// See [`few_rows`]; those of the last three tensors that do not count are any tensor.
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

/// `x·weightᵀ` with the terms to add, by the kernel in `kernel::tensor_cores`: for at most 32 rows (`PASS_ROWS`), without
/// autodiff, in two bytes per number, on a GPU. Anything else is `None`. A row of the result has the same bits in any
/// batch.
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

/// `x·weightᵀ`: [`few_rows`] if it can, else the backend's product.
///
/// # Shapes
/// `x: [rows, in]`, `weight: [out, in]` → `[rows, out]`
pub fn linear(x: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
    few_rows(&x, weight, Added::default()).unwrap_or_else(|| x.matmul(weight.clone().transpose()))
}

/// [`linear`], and on the CPU as follows.
///
/// On burn-flex in f32, with a contiguous weight, without autodiff and for at most `FEW_ROWS` rows, rayon's
/// threads share out the rows of the weight and each reads them once for all rows of `x`. A row of the result
/// then has the same bits in any batch and for any number of threads. Anything else is [`linear`],
/// whose last bits may differ.
///
/// # Shapes
/// `x: [rows, in]`, `weight: [out, in]` → `[rows, out]`
pub fn few_rows_linear(x: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
    let [rows, columns] = x.dims();
    assert_eq!(columns, weight.dims()[1], "columns of x and of the weight");
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
        && let Some(product) = cpu::product(few, &dense)
    {
        return Tensor::from_primitive::<Flex>(product);
    }
    linear(x, weight)
}
