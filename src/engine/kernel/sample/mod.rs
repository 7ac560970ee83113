//! Drawing tokens on the device: of a step's logits, 16 bytes per row come to the host.

use std::fmt;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Device, Int, Shape, Tensor, TensorData};

mod cube;
pub mod reference;
#[cfg(all(test, feature = "wgpu"))]
mod tests;

/// Words per row of results: token, fault, exponent, normaliser.
const WORDS: usize = 4;

/// The settings of a draw. No repetition penalty: it needs the text, which the host has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Divides the logits; 0 takes the most likely token, the first of several.
    pub temperature: f64,
    /// Keeps the most likely tokens and those as likely as the last of them; 0 keeps all.
    pub top_k: usize,
    /// Keeps the smallest set of most likely tokens with this much probability; 1 keeps all.
    pub top_p: f64,
    /// Keeps tokens at least this likely relative to the most likely one; 0 keeps all.
    pub min_p: f64,
}

impl Default for Draw {
    /// The model's own distribution.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
        }
    }
}

/// The logits of some row contain NaN or +∞, or only −∞.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotNumbers;

impl fmt::Display for NotNumbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the model produced logits that are not numbers; the weights or the learning rate are at fault",
        )
    }
}

impl std::error::Error for NotNumbers {}

/// Backends that draw tokens. The CPU has none: there the logits are on the host already.
#[backend_extension(Cube, Fusion)]
pub trait SampleOps: Backend {
    /// Token, whether the logits are not numbers, `(logit − largest) / temperature` and the sum of its
    /// exponential over all tokens, the last two as bits: `[rows, 4]`.
    #[fusion(dtype = DType::I32, shape = Shape::new([logits[0], WORDS]))]
    fn sample_rows(
        logits: FloatTensor<Self>,
        uniforms: FloatTensor<Self>,
        temperature: f64,
        top_k: usize,
        top_p: f64,
        min_p: f64,
    ) -> IntTensor<Self>;
}

/// Draws a token for every row, with a uniform in [0, 1) each; returns tokens and
/// log-probabilities in nats. GPUs only; see [`SampleOps`].
///
/// Like `SamplingParameters::draw` on the host: temperature, top-k, top-p and min-p in this
/// order, then the first token by id under which the cumulative probability passes the uniform; the log-probability
/// is that at this temperature (1 for 0) before any truncation. Sums are in `f32`, on the host in
/// `f64`: a uniform within about 1e-6 of a boundary between tokens may fall on its other side, and
/// so may a token whose probability is that close to the limit of top-p or min-p. Ties and top-k
/// are exact. The same input gives the same bits on the same device.
///
/// # Shapes
/// `logits: [rows, vocabulary]` → `[rows]` twice
///
/// # Errors
/// [`NotNumbers`].
///
/// # Panics
/// On the CPU, on tensors of an autodiff device, if there is not one uniform per row, and if the
/// device cannot be read.
pub fn sample(
    logits: Tensor<2>,
    uniforms: &[f64],
    draw: Draw,
) -> Result<(Vec<u32>, Vec<f32>), NotNumbers> {
    let uniforms = upload(uniforms, &logits.device());
    read(draw_rows(logits, uniforms, draw))
}

/// Uniforms in [0, 1) in the form that [`draw_rows`] takes.
pub fn upload(uniforms: &[f64], device: &Device) -> Tensor<1> {
    // The largest f32 below 1, where rounding would give 1.
    let uniforms: Vec<f32> = uniforms
        .iter()
        .map(|&u| (u as f32).min(1.0 - f32::EPSILON / 2.0))
        .collect();
    let rows = uniforms.len();
    Tensor::from_data(TensorData::new(uniforms, [rows]), (device, DType::F32))
}

/// The first half of [`sample`]: nothing leaves the device.
///
/// # Shapes
/// `logits: [rows, vocabulary]`, `uniforms: [rows]` → `[rows, 4]`, for [`read`]
pub fn draw_rows(logits: Tensor<2>, uniforms: Tensor<1>, draw: Draw) -> Tensor<2, Int> {
    let ([rows, _], [given]) = (logits.dims(), uniforms.dims());
    assert_eq!(given, rows, "a uniform for each row");
    let logits = logits.cast(DType::F32);
    Tensor::from_dispatch(<Dispatch as SampleOps>::sample_rows(
        logits.into_dispatch(),
        uniforms.into_dispatch(),
        draw.temperature,
        draw.top_k,
        draw.top_p,
        draw.min_p,
    ))
}

/// The second half of [`sample`]: one transfer for everything.
///
/// # Errors
/// [`NotNumbers`].
pub fn read(results: Tensor<2, Int>) -> Result<(Vec<u32>, Vec<f32>), NotNumbers> {
    let words: Vec<u32> = results
        .into_data()
        .iter::<i32>()
        .map(i32::cast_unsigned)
        .collect();
    words
        .as_chunks::<WORDS>()
        .0
        .iter()
        .map(|&[token, fault, exponent, normaliser]| {
            let log_prob =
                f64::from(f32::from_bits(exponent)) - f64::from(f32::from_bits(normaliser)).ln();
            if fault == 0 {
                Ok((token, log_prob as f32))
            } else {
                Err(NotNumbers)
            }
        })
        .collect()
}
