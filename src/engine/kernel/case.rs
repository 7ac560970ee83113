//! The cases of a check: a kernel's inputs, its plain version, and the sizes of a large model.
//! [`crate::check`] runs the cases.

use burn::tensor::{DType, Int, Tensor, TensorData};
use rayon::prelude::*;

use super::tensor_cores::LowRank;
use crate::device::Compute;

/// The cases of all kernels.
#[derive(Default)]
pub struct Cases {
    /// Small and odd shapes, for which no kernel was tuned. They take no time.
    pub small: Vec<Make>,
    /// The shapes of the large model.
    pub large: Vec<Make>,
}

/// Makes a case on a device.
pub type Make = Box<dyn Fn(&Inputs) -> Case>;

impl Cases {
    /// Adds a case of a small shape.
    pub fn small(&mut self, make: impl Fn(&Inputs) -> Case + 'static) {
        self.small.push(Box::new(make));
    }

    /// Adds a case of the large model.
    pub fn large(&mut self, make: impl Fn(&Inputs) -> Case + 'static) {
        self.large.push(Box::new(make));
    }
}

/// A kernel with its inputs.
pub struct Case {
    /// The function, and the path through it.
    pub kernel: &'static str,
    /// Sizes, as text.
    pub shape: String,
    /// What the kernel must read and write.
    pub bytes: usize,
    /// The largest error that is allowed.
    pub tolerance: f64,
    /// What a card is compared with.
    pub reference: Reference,
    /// The kernel, with one of the copies.
    pub run: Box<dyn Fn(usize) -> Outputs>,
    /// The same in plain operations: the reference of the CPU, and of some kernels everywhere.
    pub plain: Box<dyn Fn(Outputs) -> Comparison>,
}

/// What a card's outputs are compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// The CPU's version of the kernel.
    Cpu,
    /// The plain version: the CPU has no such kernel.
    Plain,
    /// Nothing: it would take too long.
    None,
}

impl Reference {
    /// Of a product with `out` columns: on the CPU the large ones take too long.
    pub fn of_product(rows: usize, out: usize) -> Self {
        if rows <= REFERENCE_ROWS || out < HIDDEN / 4 {
            Self::Cpu
        } else {
            Self::None
        }
    }
}

/// What a kernel returns, unread: times are of the kernel only.
pub type Outputs = Vec<Output>;

/// A tensor of any rank.
#[derive(Clone)]
pub enum Output {
    /// A vector.
    One(Tensor<1>),
    /// A matrix.
    Two(Tensor<2>),
    /// A batch of matrices.
    Three(Tensor<3>),
}

impl Output {
    /// Row-major values.
    pub fn values(self) -> Vec<f32> {
        match self {
            Self::One(tensor) => values(tensor),
            Self::Two(tensor) => values(tensor),
            Self::Three(tensor) => values(tensor),
        }
    }
}

impl From<Tensor<1>> for Output {
    fn from(tensor: Tensor<1>) -> Self {
        Self::One(tensor)
    }
}

impl From<Tensor<2>> for Output {
    fn from(tensor: Tensor<2>) -> Self {
        Self::Two(tensor)
    }
}

impl From<Tensor<3>> for Output {
    fn from(tensor: Tensor<3>) -> Self {
        Self::Three(tensor)
    }
}

/// A relative error, or the numbers that the outputs should be.
pub enum Comparison {
    /// The error itself, if outputs cannot be compared one by one.
    Error(f64),
    /// One vector of row-major values per output.
    Values(Vec<Vec<f32>>),
}

impl Comparison {
    /// The values of these tensors.
    pub fn of(tensors: Outputs) -> Self {
        Self::Values(tensors.into_iter().map(Output::values).collect())
    }
}

/// The source of a case's inputs, on a device.
pub struct Inputs {
    /// The device.
    pub compute: Compute,
    /// The type that activations are rounded to, whatever the device keeps them in: those of the
    /// reference are rounded like those of the device it is for.
    rounding: DType,
    /// Copies of a large weight that a kernel is given alternately, so that none comes from a cache.
    pub copies: usize,
}

impl Inputs {
    /// Inputs on a device, with `copies` copies of a large weight.
    pub fn on(compute: &Compute, copies: usize) -> Self {
        Self {
            compute: compute.clone(),
            rounding: compute.dtype,
            copies,
        }
    }

    /// The CPU, with the numbers of `self`.
    pub fn for_reference(&self) -> Self {
        Self {
            compute: Compute::cpu(),
            rounding: self.rounding,
            copies: 1,
        }
    }

    /// Bytes of an activation.
    pub fn size(&self) -> usize {
        self.compute.dtype.size()
    }

    /// Activations between −`size` and `size`, in the type of the device.
    pub fn noise<const D: usize>(&self, shape: [usize; D], seed: u32, size: f32) -> Tensor<D> {
        self.uploaded(
            &self.rounded_noise(shape.iter().product(), seed, size),
            shape,
        )
    }

    /// [`Inputs::noise`], once per copy.
    pub fn copies_of_noise(&self, shape: [usize; 2], seed: u32, size: f32) -> Vec<Tensor<2>> {
        let values = self.rounded_noise(shape.iter().product(), seed, size);
        (0..self.copies)
            .map(|_| self.uploaded(&values, shape))
            .collect()
    }

    fn uploaded<const D: usize>(&self, values: &[f32], shape: [usize; D]) -> Tensor<D> {
        self.f32_tensor(values.to_vec(), shape)
            .cast(self.compute.dtype)
    }

    fn rounded_noise(&self, count: usize, seed: u32, size: f32) -> Vec<f32> {
        let mut values = noise(count, seed, size);
        if self.rounding == DType::BF16 {
            values
                .par_iter_mut()
                .for_each(|value| *value = half::bf16::from_f32(*value).to_f32());
        }
        values
    }

    /// Numbers in f32, like logits.
    pub fn f32_noise<const D: usize>(&self, shape: [usize; D], seed: u32, size: f32) -> Tensor<D> {
        self.f32_tensor(noise(shape.iter().product(), seed, size), shape)
    }

    /// These numbers in f32.
    pub fn f32_tensor<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(
            TensorData::new(values, shape),
            (&self.compute.device, DType::F32),
        )
    }

    /// These whole numbers in 32 bits.
    pub fn int_tensor<const D: usize>(
        &self,
        values: Vec<i32>,
        shape: [usize; D],
    ) -> Tensor<D, Int> {
        Tensor::from_data(
            TensorData::new(values, shape),
            (&self.compute.device, DType::I32),
        )
    }

    /// An adapter's share of a product.
    pub fn low_rank(&self, [rows, out]: [usize; 2], rank: usize) -> LowRank {
        LowRank {
            inner: self.noise([rows, rank], 8, 1.0),
            factor: self.noise([out, rank], 9, 1.0),
            scale: 0.25,
        }
    }

    /// The tolerance of outputs in the type of activations; `exact` is for f32.
    pub fn tolerance(&self, exact: f64) -> f64 {
        match self.compute.dtype {
            // Half a unit in the last of 8 bits, twice: rounded inside, and again at the end.
            DType::BF16 => 1e-2,
            _ => exact,
        }
    }
}

/// 32 random bits for an index.
pub fn bits(index: u32, seed: u32) -> u32 {
    let mut bits = index
        .wrapping_add(seed.wrapping_mul(0x9E37_79B9))
        .wrapping_mul(2_654_435_761);
    bits = (bits ^ (bits >> 15)).wrapping_mul(0x85EB_CA6B);
    bits = (bits ^ (bits >> 13)).wrapping_mul(0xC2B2_AE35);
    bits ^ (bits >> 16)
}

/// Reproducible values between −`size` and `size`, different for every seed.
pub fn noise(count: usize, seed: u32, size: f32) -> Vec<f32> {
    (0..count as u32)
        .into_par_iter()
        .map(|i| ((bits(i, seed) >> 8) as f32 / (1 << 23) as f32 - 1.0) * size)
        .collect()
}

/// Gradients of `leaves` when that of `y` is `gradient`.
pub fn gradients(y: Tensor<2>, gradient: &Tensor<2>, leaves: &[Tensor<2>]) -> Outputs {
    let gradients = (y * gradient.clone()).sum().backward();
    let of = |leaf: &Tensor<2>| match leaf.grad(&gradients) {
        Some(gradient) => gradient,
        None => leaf.clone().inner().zeros_like(),
    };
    leaves.iter().map(|leaf| of(leaf).into()).collect()
}

/// Row-major values.
///
/// # Panics
/// With the device's message, if the tensor could not be computed.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    match tensor.try_into_vec_as::<f32>() {
        Ok(values) => values,
        // A kernel that does not compile comes with its source.
        Err(error) => panic!("{}", shortened(&error.to_string())),
    }
}

/// Probabilities of these logits, and the logarithm of what they were divided by.
pub fn normalised(mut logits: Vec<f64>) -> (Vec<f64>, f64) {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for logit in &mut logits {
        *logit = (*logit - largest).exp();
    }
    let sum: f64 = logits.iter().sum();
    for weight in &mut logits {
        *weight /= sum;
    }
    (logits, largest + sum.ln())
}

/// The largest; NaN if any is, which `f64::max` would ignore.
pub fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(
        0.0,
        |most, x| if most.is_nan() || x <= most { most } else { x },
    )
}

/// A message on one line of bounded length.
pub fn shortened(text: &str) -> String {
    // The cause comes after what it led to.
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MOST_CHARACTERS).collect()
}

/// Characters of a device's message that are kept.
const MOST_CHARACTERS: usize = 600;

/// Added to the mean square of RMSNorm.
pub const EPS: f64 = 1e-5;

/// Rows and columns that no kernel was tuned for.
pub const SMALL_ROWS: [[usize; 2]; 4] = [[1, 8], [3, 33], [7, 576], [2, 4096]];

/// Rows of logits, and a vocabulary.
pub const SMALL_VOCABULARIES: [[usize; 2]; 3] = [[1, 97], [5, 1031], [3, 49152]];

/// Rows, outputs and inputs of a product, and the rank of an adapter.
pub const SMALL_ADDED: [([usize; 3], usize); 5] = [
    ([1, 40, 64], 8),
    ([8, 96, 192], 16),
    ([20, 72, 576], 64),
    ([3, 24, 128], 5),
    ([40, 40, 64], 100),
];

/// Rows of activations that are measured: sampling, and a part of a training pass.
pub const ROWS: [usize; 5] = [1, 8, 32, 64, 1024];

/// Up to this many rows a product of the large model is also computed on the CPU.
const REFERENCE_ROWS: usize = 32;

/// The large model.
pub const HIDDEN: usize = 4096;
/// See [`HIDDEN`].
pub const INNER: usize = 14336;
/// See [`HIDDEN`].
pub const KV_HEADS: usize = 8;
/// Query heads that share a key head.
pub const SHARING: usize = 4;
/// See [`HIDDEN`].
pub const HEAD_DIM: usize = 128;
/// See [`HIDDEN`].
pub const VOCABULARY: usize = 131_392;

/// Outputs and inputs of the large model's matrices.
pub const MATRICES: [[usize; 2]; 3] = [
    [INNER, HIDDEN],
    [HIDDEN, INNER],
    [KV_HEADS * HEAD_DIM, HIDDEN],
];
