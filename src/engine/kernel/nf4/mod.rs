//! Products with a weight that stays in NF4: four bits per weight on the device, decoded when it is used.
//!
//! Few rows (sampling) go through a fused kernel that multiplies as it decodes, on tensor cores if there are any.
//! Many rows (prefill, training) go through a dense copy that lives for one product, so that the product itself
//! runs on the backend's own matmul. The backward pass keeps the packed weight only.

mod cpu;
mod cube;
pub mod reference;
pub mod simd;
#[cfg(test)]
mod tests;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Device, Int, Shape, Tensor, TensorData};

use super::backward::Differentiable;
use super::tensor_cores::{Added, Terms, is_for_tensor_cores};
use crate::device::resident;
use crate::nf4::{BLOCK, CODEBOOK, NESTED_BLOCK, Nf4Matrix, Scales, dynamic_map};
use moim_core::memory::limits::GPU_FUSED_ROWS;

/// Two codes, both 7, whose value is 0: what fills the last word.
const ZERO_PAIR: u8 = 0x77;

/// Length of the codebook, the first part of the table on the device.
const CODES: usize = CODEBOOK.len();

/// Weights in a packed word of 32 bits.
const WORD: usize = 8;

/// The path of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nf4Path {
    /// By the number of rows: `GPU_FUSED_ROWS`, `CPU_FUSED_ROWS`.
    Auto,
    /// Decoding within the product. On a GPU a matrix whose rows do not end with a block
    /// takes [`Nf4Path::Dense`] all the same.
    Fused,
    /// Through a dense copy of the weight.
    Dense,
}

/// The meaning of a matrix's packed numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nf4Layout {
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub columns: usize,
    /// Whether scales are kept in 8 bits.
    pub double: bool,
    /// Added to every scale of double quantisation.
    pub offset: f32,
}

impl Nf4Layout {
    /// Whether each row starts with its own block, as the fused GPU kernel needs.
    pub fn has_whole_blocks(&self) -> bool {
        self.columns.is_multiple_of(BLOCK)
    }

    fn weights(&self) -> usize {
        self.rows * self.columns
    }

    fn shape(&self) -> Shape {
        Shape::new([self.rows, self.columns])
    }
}

fn with_columns(rows: &Shape, columns: usize) -> Shape {
    Shape::new([rows[0], columns])
}

/// The operations, for each backend.
///
/// Besides `x` they take the four arrays of [`Nf4Tensor`] in the order of its fields.
#[backend_extension(Cube, Flex, Autodiff, Fusion)]
pub trait Nf4Ops: Backend {
    /// The dense weight `[rows, columns]` in `dtype`, a float type.
    #[fusion(dtype = *dtype, shape = layout.shape())]
    fn nf4_dequantize(
        packed: IntTensor<Self>,
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        layout: Nf4Layout,
        dtype: DType,
    ) -> FloatTensor<Self>;

    /// `x [tokens, columns]` → `x·Wᵀ [tokens, rows]`.
    #[fusion(dtype = x, shape = with_columns(x, layout.rows))]
    fn nf4_linear(
        x: FloatTensor<Self>,
        packed: IntTensor<Self>,
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        layout: Nf4Layout,
        path: Nf4Path,
    ) -> FloatTensor<Self>;
}

/// The backward pass, for each backend.
#[backend_extension(Cube, Flex, Fusion)]
pub trait Nf4BackwardOps: Backend {
    /// `gradient [tokens, rows]` → `gradient·W [tokens, columns]`.
    #[fusion(dtype = gradient, shape = with_columns(gradient, layout.columns))]
    fn nf4_linear_backward(
        gradient: FloatTensor<Self>,
        packed: IntTensor<Self>,
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        layout: Nf4Layout,
    ) -> FloatTensor<Self>;
}

/// Backends with a product for few rows that autodiff does not know.
#[backend_extension(Cube, Fusion)]
trait Nf4FewRowsOps: Backend {
    /// See [`Nf4Tensor::few_rows`]; those of the last three tensors that do not count are any tensor.
    #[fusion(dtype = x, shape = with_columns(x, layout.rows))]
    #[allow(
        clippy::too_many_arguments,
        reason = "the arrays of a matrix, and what is added"
    )]
    fn nf4_few_rows(
        x: FloatTensor<Self>,
        packed: IntTensor<Self>,
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        base: FloatTensor<Self>,
        inner: FloatTensor<Self>,
        factor: FloatTensor<Self>,
        layout: Nf4Layout,
        terms: Terms,
    ) -> FloatTensor<Self>;
}

/// A weight matrix `[rows (out), columns (in)]` in NF4 on a device.
#[derive(Clone, Debug)]
pub struct Nf4Tensor {
    /// Eight codes per word, in the order of [`Nf4Matrix::packed`] with bytes little-endian.
    packed: Tensor<1, Int>,
    /// The scale of each block, or with double quantisation the scale of each 256 scales.
    scales: Tensor<1>,
    /// Codes of the scales, four per word; one unused word if scales are plain.
    codes: Tensor<1, Int>,
    /// The codebook, then with double quantisation the 256 values of a scale's code.
    table: Tensor<1>,
    layout: Nf4Layout,
}

impl Nf4Tensor {
    /// Copies a matrix to a device.
    ///
    /// # Panics
    /// If the arrays of `matrix` do not have the lengths that its rows and columns require.
    pub fn new(matrix: &Nf4Matrix, device: &Device) -> Self {
        let weights = matrix.rows * matrix.columns;
        let blocks = weights.div_ceil(BLOCK);
        assert_eq!(
            matrix.packed.len(),
            weights.div_ceil(2),
            "packed bytes of an NF4 matrix"
        );
        let mut table: Vec<f32> = CODEBOOK.to_vec();
        let (scales, codes, double, offset) = match &matrix.scales {
            Scales::Plain(scales) => {
                assert_eq!(scales.len(), blocks, "scales of an NF4 matrix");
                (scales.clone(), vec![0], false, 0.0)
            }
            Scales::Double {
                codes,
                nested,
                offset,
            } => {
                assert_eq!(codes.len(), blocks, "codes of the scales of an NF4 matrix");
                assert_eq!(
                    nested.len(),
                    blocks.div_ceil(NESTED_BLOCK),
                    "nested scales of an NF4 matrix"
                );
                table.extend_from_slice(dynamic_map());
                (nested.clone(), words(codes, 0), true, *offset)
            }
        };
        Self {
            packed: int_tensor(words(&matrix.packed, ZERO_PAIR), device),
            scales: float_tensor(scales, device),
            codes: int_tensor(codes, device),
            table: float_tensor(table, device),
            layout: Nf4Layout {
                rows: matrix.rows,
                columns: matrix.columns,
                double,
                offset,
            },
        }
    }

    /// `[rows (out), columns (in)]`.
    pub fn dims(&self) -> [usize; 2] {
        [self.layout.rows, self.layout.columns]
    }

    /// Memory on the device, in bytes: everything here is 32 bits wide.
    pub fn bytes(&self) -> usize {
        4 * (self.packed.dims()[0]
            + self.scales.dims()[0]
            + self.codes.dims()[0]
            + self.table.dims()[0])
    }

    /// The device of the matrix.
    pub fn device(&self) -> Device {
        self.packed.device()
    }

    /// A copy on another device.
    pub fn to_device(&self, device: &Device) -> Self {
        Self {
            packed: self.packed.clone().to_device(device),
            scales: self.scales.clone().to_device(device),
            codes: self.codes.clone().to_device(device),
            table: self.table.clone().to_device(device),
            layout: self.layout,
        }
    }

    /// The dense weight `[rows, columns]`, a constant to autodiff.
    pub fn dequantize(&self, dtype: DType) -> Tensor<2> {
        Tensor::from_dispatch(<Dispatch as Nf4Ops>::nf4_dequantize(
            self.packed.clone().into_dispatch(),
            self.scales.clone().into_dispatch(),
            self.codes.clone().into_dispatch(),
            self.table.clone().into_dispatch(),
            self.layout,
            dtype,
        ))
    }

    /// The product with the transposed weight, differentiable in `x`.
    ///
    /// # Shapes
    /// `x: [tokens, columns]` → `[tokens, rows]`, in the type of `x`.
    pub fn linear(&self, x: Tensor<2>) -> Tensor<2> {
        self.linear_by(x, Nf4Path::Auto)
    }

    /// [`Nf4Tensor::linear`] on a chosen path, for benchmarks and tests.
    pub fn linear_by(&self, x: Tensor<2>, path: Nf4Path) -> Tensor<2> {
        assert_eq!(
            x.dims()[1],
            self.layout.columns,
            "columns of x and of an NF4 weight"
        );
        Tensor::from_dispatch(<Dispatch as Nf4Ops>::nf4_linear(
            x.into_dispatch(),
            self.packed.clone().into_dispatch(),
            self.scales.clone().into_dispatch(),
            self.codes.clone().into_dispatch(),
            self.table.clone().into_dispatch(),
            self.layout,
            path,
        ))
    }

    /// The product with the terms to add, by one kernel: for at most `GPU_FUSED_ROWS` rows, without autodiff, in two
    /// bytes per number, on a GPU. Anything else is `None`.
    ///
    /// # Shapes
    /// `x: [tokens, columns]` → `[tokens, rows]`
    pub fn few_rows(&self, x: &Tensor<2>, added: Added) -> Option<Tensor<2>> {
        let ([base, inner, factor], terms) = added.terms(x);
        let fits = (1..=GPU_FUSED_ROWS).contains(&x.dims()[0])
            && is_for_tensor_cores(&[x, base, inner, factor])
            && self.layout.has_whole_blocks();
        fits.then(|| {
            Tensor::from_dispatch(<Dispatch as Nf4FewRowsOps>::nf4_few_rows(
                x.clone().into_dispatch(),
                self.packed.clone().into_dispatch(),
                self.scales.clone().into_dispatch(),
                self.codes.clone().into_dispatch(),
                self.table.clone().into_dispatch(),
                base.clone().into_dispatch(),
                inner.clone().into_dispatch(),
                factor.clone().into_dispatch(),
                self.layout,
                terms,
            ))
        })
    }
}

/// Bytes as little-endian words, the last one filled with `fill`.
fn words(bytes: &[u8], fill: u8) -> Vec<i32> {
    let (whole, rest) = bytes.as_chunks::<4>();
    let mut words = Vec::with_capacity(whole.len() + 1);
    words.extend(whole.iter().map(|word| i32::from_le_bytes(*word)));
    if !rest.is_empty() {
        let mut last = [fill; 4];
        last[..rest.len()].copy_from_slice(rest);
        words.push(i32::from_le_bytes(last));
    }
    words
}

// The types are named: a device may have other defaults.
fn int_tensor(values: Vec<i32>, device: &Device) -> Tensor<1, Int> {
    let length = values.len();
    resident(TensorData::new(values, [length]), (device, DType::I32))
}

fn float_tensor(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let length = values.len();
    resident(TensorData::new(values, [length]), (device, DType::F32))
}

impl<B: Nf4Ops + Nf4BackwardOps, C: CheckpointStrategy> Nf4Ops for Autodiff<B, C> {
    fn nf4_dequantize(
        packed: IntTensor<Self>,
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        layout: Nf4Layout,
        dtype: DType,
    ) -> FloatTensor<Self> {
        let dense = B::nf4_dequantize(
            packed,
            scales.into_primitive(),
            codes,
            table.into_primitive(),
            layout,
            dtype,
        );
        Self::from_inner(dense)
    }

    fn nf4_linear(
        x: FloatTensor<Self>,
        packed: IntTensor<Self>,
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        layout: Nf4Layout,
        path: Nf4Path,
    ) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let (scales, table) = (scales.into_primitive(), table.into_primitive());
        let operation = Differentiable::<B, C, _, 1>::new(
            [node],
            |gradient, (packed, scales, codes, table, layout), _| {
                [Some(B::nf4_linear_backward(
                    gradient, packed, scales, codes, table, layout,
                ))]
            },
        );
        let kept = operation.is_tracked().then(|| {
            (
                packed.clone(),
                scales.clone(),
                codes.clone(),
                table.clone(),
                layout,
            )
        });
        let product = B::nf4_linear(x, packed, scales, codes, table, layout, path);
        operation.finish(product, kept)
    }
}
