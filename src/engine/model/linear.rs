//! A frozen linear layer: dense, or four bits a weight.

use burn::tensor::{DType, Device, Tensor};

use crate::kernel::linear::{Added, few_rows, few_rows_linear};
use crate::kernel::nf4::Nf4Tensor;

/// A weight `[out, in]` without a bias.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // A model has a few hundred of them, of a kilobyte each.
pub enum Linear {
    /// In the type of the activations.
    Dense(Tensor<2>),
    /// In NF4.
    Nf4(Nf4Tensor),
}

impl Linear {
    /// Differentiable in `x`, and in a dense weight.
    ///
    /// # Shapes
    /// `x: [tokens, in]` → `[tokens, out]`
    pub fn forward(&self, x: &Tensor<2>) -> Tensor<2> {
        match self {
            Self::Dense(weight) => few_rows_linear(x.clone(), weight),
            Self::Nf4(weight) => weight.linear(x.clone()),
        }
    }

    /// [`Linear::forward`] with the terms to add, by one kernel; `None` if there is no such kernel.
    pub fn few_rows(&self, x: &Tensor<2>, added: Added) -> Option<Tensor<2>> {
        match self {
            Self::Dense(weight) => few_rows(x, weight, added),
            Self::Nf4(weight) => weight.few_rows(x, added),
        }
    }

    /// A copy on another device.
    pub fn to_device(&self, device: &Device) -> Self {
        match self {
            Self::Dense(weight) => Self::Dense(weight.clone().to_device(device)),
            Self::Nf4(weight) => Self::Nf4(weight.to_device(device)),
        }
    }

    /// The weight as a matrix `[out, in]`; from NF4 it is decoded, in `dtype`.
    pub fn dense(&self, dtype: DType) -> Tensor<2> {
        match self {
            Self::Dense(weight) => weight.clone(),
            Self::Nf4(weight) => weight.dequantize(dtype),
        }
    }
}
