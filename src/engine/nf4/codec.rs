//! Weights to codes and back, as the default backend of bitsandbytes 0.50.2 computes them
//! (`backends/default/ops.py`, `quantize_4bit` and `quantize_blockwise` of `functional.py`).
//! Its CUDA kernels differ if a value is exactly on a threshold.

use anyhow::{Context, bail};
use half::f16;
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::codebook::{CODEBOOK, THRESHOLDS, dynamic_map, dynamic_thresholds};
use super::matrix::{BLOCK, NESTED_BLOCK, Nf4Matrix, Scales};
use super::mean::torch_mean;

/// Blocks that one thread takes at a time: 32768 weights, which fit in a core's own cache.
const BLOCKS_AT_ONCE: usize = 512;

/// Weights that are compared in parallel: enough that the compiler keeps them in vector registers.
const LANES: usize = 16;

/// The divisor of bitsandbytes for a block whose largest magnitude is smaller, above all zero.
const SMALLEST_MAGNITUDE: f32 = 1e-38;

/// Why a matrix could not be quantised.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum QuantizeError {
    /// bitsandbytes would make the whole block NaN or zero without a word.
    #[error(
        "the weight in row {row}, column {column} is {value}; the file is damaged or was saved from \
         a training that diverged"
    )]
    NotFinite {
        /// Its row, from 0.
        row: usize,
        /// Its column, from 0.
        column: usize,
        /// NaN or an infinity.
        value: f32,
    },
    /// The values do not fill the matrix, or the matrix has none.
    #[error("{found} values for a matrix of {rows} rows and {columns} columns")]
    WrongCount {
        /// Values given.
        found: usize,
        /// Requested rows.
        rows: usize,
        /// Requested columns.
        columns: usize,
    },
    /// A type that holds no weights.
    #[error("weights stored as {0:?} cannot be quantised; supported: F32, F16, BF16")]
    WrongType(Dtype),
    /// The sum of scales, which double quantisation needs, overflows.
    #[error(
        "the weights are too large for double quantisation: the sum of their scales is infinite"
    )]
    TooLarge,
}

impl Nf4Matrix {
    /// Quantises a matrix in row-major order; with `double_quant` its scales take 8 bits each.
    ///
    /// # Errors
    /// A weight that is not finite, or a count of values that is not `rows·columns`.
    pub fn quantize(
        values: &[f32],
        rows: usize,
        columns: usize,
        double_quant: bool,
    ) -> Result<Self, QuantizeError> {
        check_count(values.len(), rows, columns)?;
        quantize_with(rows, columns, double_quant, |start, block| {
            block.copy_from_slice(&values[start..start + block.len()]);
        })
    }

    /// As [`Nf4Matrix::quantize`], from the little-endian bytes of a weight file. Values are widened a
    /// block at a time, so nothing is held in f32.
    ///
    /// # Errors
    /// As there, and a type other than F32, F16 and BF16.
    pub fn quantize_bytes(
        bytes: &[u8],
        dtype: Dtype,
        rows: usize,
        columns: usize,
        double_quant: bool,
    ) -> Result<Self, QuantizeError> {
        let size = match dtype {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::BF16 => 2,
            other => return Err(QuantizeError::WrongType(other)),
        };
        check_count(bytes.len().div_ceil(size), rows, columns)?;
        let (words, _) = bytes.as_chunks::<4>();
        let (halves, _) = bytes.as_chunks::<2>();
        match dtype {
            Dtype::F32 => quantize_with(rows, columns, double_quant, |start, block| {
                for (value, bytes) in block.iter_mut().zip(&words[start..]) {
                    *value = f32::from_le_bytes(*bytes);
                }
            }),
            Dtype::F16 => quantize_with(rows, columns, double_quant, |start, block| {
                for (value, bytes) in block.iter_mut().zip(&halves[start..]) {
                    *value = f16::from_le_bytes(*bytes).to_f32();
                }
            }),
            _ => quantize_with(rows, columns, double_quant, |start, block| {
                for (value, bytes) in block.iter_mut().zip(&halves[start..]) {
                    // bf16 is the upper half of an f32.
                    *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
                }
            }),
        }
    }

    /// Quantises the tensor `name` of a weight file.
    ///
    /// # Errors
    /// As [`Nf4Matrix::quantize_bytes`], and a tensor that is not a matrix; by name.
    pub fn quantize_tensor(
        name: &str,
        tensor: &TensorView<'_>,
        double_quant: bool,
    ) -> anyhow::Result<Self> {
        let [rows, columns] = *tensor.shape() else {
            bail!(
                "{name} has shape {:?}; a linear layer has [rows, columns]",
                tensor.shape()
            );
        };
        Self::quantize_bytes(tensor.data(), tensor.dtype(), rows, columns, double_quant)
            .with_context(|| format!("cannot quantise {name}"))
    }

    /// The weights, row-major: `CODEBOOK[code]·scale`, in f32.
    pub fn dequantize(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.columns];
        values
            .par_chunks_mut(BLOCKS_AT_ONCE * BLOCK)
            .zip(self.packed.par_chunks(BLOCKS_AT_ONCE * BLOCK / 2))
            .enumerate()
            .for_each(|(part, (values, packed))| {
                let first = part * BLOCKS_AT_ONCE;
                let blocks = values.chunks_mut(BLOCK).zip(packed.chunks(BLOCK / 2));
                for (block, (values, packed)) in (first..).zip(blocks) {
                    let scale = self.scale(block);
                    let products = CODEBOOK.map(|value| value * scale);
                    for (pair, byte) in values.chunks_mut(2).zip(packed) {
                        let codes = [byte >> 4, byte & 15];
                        for (value, code) in pair.iter_mut().zip(codes) {
                            *value = products[usize::from(code)];
                        }
                    }
                }
            });
        values
    }

    /// The factor of a block's codes: its largest magnitude, or what double
    /// quantisation left of it, which may be a little below zero.
    ///
    /// # Panics
    /// There is no such block, as with a slice's index.
    pub fn scale(&self, block: usize) -> f32 {
        match &self.scales {
            Scales::Plain(scales) => scales[block],
            Scales::Double {
                codes,
                nested,
                offset,
            } => dynamic_map()[usize::from(codes[block])] * nested[block / NESTED_BLOCK] + offset,
        }
    }

    /// Blocks of [`BLOCK`] weights, a short last one counted.
    pub fn blocks(&self) -> usize {
        (self.rows * self.columns).div_ceil(BLOCK)
    }

    /// Bytes of codes and scales in memory: 0.5159 a weight with double quantisation, else 0.5625.
    pub fn bytes(&self) -> usize {
        self.packed.len()
            + match &self.scales {
                Scales::Plain(scales) => size_of_val(scales.as_slice()),
                Scales::Double { codes, nested, .. } => {
                    codes.len() + size_of_val(nested.as_slice()) + size_of::<f32>()
                }
            }
    }
}

fn check_count(found: usize, rows: usize, columns: usize) -> Result<(), QuantizeError> {
    if found == 0 || rows.checked_mul(columns) != Some(found) {
        return Err(QuantizeError::WrongCount {
            found,
            rows,
            columns,
        });
    }
    Ok(())
}

/// Quantises what `fill` gives: it writes the values from an index on, as many as the slice takes.
fn quantize_with(
    rows: usize,
    columns: usize,
    double_quant: bool,
    fill: impl Fn(usize, &mut [f32]) + Sync,
) -> Result<Nf4Matrix, QuantizeError> {
    let count = rows * columns;
    let mut packed = vec![0; count.div_ceil(2)];
    let mut scales = vec![0.0; count.div_ceil(BLOCK)];
    let not_finite = packed
        .par_chunks_mut(BLOCKS_AT_ONCE * BLOCK / 2)
        .zip(scales.par_chunks_mut(BLOCKS_AT_ONCE))
        .enumerate()
        .filter_map(|(part, (packed, scales))| {
            let first = part * BLOCKS_AT_ONCE;
            let blocks = packed.chunks_mut(BLOCK / 2).zip(scales);
            for (block, (packed, scale)) in (first..).zip(blocks) {
                let start = block * BLOCK;
                let length = BLOCK.min(count - start);
                let mut values = [0.0; BLOCK];
                fill(start, &mut values[..length]);
                *scale = largest_magnitude(&values);
                if !scale.is_finite() {
                    return Some(start);
                }
                let codes = if length == BLOCK {
                    let factor = 1.0 / scale.max(SMALLEST_MAGNITUDE);
                    codes(&values.map(|value| value * factor))
                } else {
                    // bitsandbytes clamps the stored scale, and divides, only in a short block.
                    *scale = scale.max(SMALLEST_MAGNITUDE);
                    codes(&values.map(|value| value / *scale))
                };
                let (pairs, _) = codes.as_chunks::<2>();
                for (byte, [high, low]) in packed.iter_mut().zip(pairs) {
                    *byte = high << 4 | low;
                }
            }
            None
        })
        .min();
    if let Some(start) = not_finite {
        let mut values = vec![0.0; BLOCK.min(count - start)];
        fill(start, &mut values);
        let found = values.iter().position(|value| !value.is_finite());
        let place = found.unwrap_or_default();
        return Err(QuantizeError::NotFinite {
            row: (start + place) / columns,
            column: (start + place) % columns,
            value: values[place],
        });
    }
    Ok(Nf4Matrix {
        rows,
        columns,
        packed,
        scales: if double_quant {
            quantize_scales(&scales)?
        } else {
            Scales::Plain(scales)
        },
    })
}

/// The largest magnitude; NaN or infinite if a value is. Magnitudes compare like their bits, so
/// that one pass finds both.
fn largest_magnitude(values: &[f32; BLOCK]) -> f32 {
    let bits = values.iter().fold(0, |largest, value| {
        largest.max(value.abs().to_bits() as i32)
    });
    f32::from_bits(bits as u32)
}

/// Codes of values within about ±1. bitsandbytes clamps values that rounding put outside; the outermost
/// thresholds are inside, so the codes are the same.
fn codes(values: &[f32; BLOCK]) -> [u8; BLOCK] {
    let mut codes = [0; BLOCK];
    let (parts, _) = values.as_chunks::<LANES>();
    let (code_parts, _) = codes.as_chunks_mut::<LANES>();
    for (codes, values) in code_parts.iter_mut().zip(parts) {
        let mut below = [0u32; LANES];
        for threshold in THRESHOLDS {
            for (below, value) in below.iter_mut().zip(values) {
                *below += u32::from(threshold < *value);
            }
        }
        *codes = below.map(|below| below as u8);
    }
    codes
}

/// Double quantisation: scales less their mean, in 8 bits, in blocks of [`NESTED_BLOCK`].
fn quantize_scales(scales: &[f32]) -> Result<Scales, QuantizeError> {
    let offset = torch_mean(scales);
    if !offset.is_finite() {
        return Err(QuantizeError::TooLarge);
    }
    let thresholds = dynamic_thresholds();
    let mut codes = Vec::with_capacity(scales.len());
    let mut nested = Vec::with_capacity(scales.len().div_ceil(NESTED_BLOCK));
    for block in scales.chunks(NESTED_BLOCK) {
        let differences = block.iter().map(|scale| scale - offset);
        let mut largest = differences
            .clone()
            .fold(0f32, |largest, value| largest.max(value.abs()));
        let code = |value: f32| thresholds.partition_point(|threshold| *threshold < value) as u8;
        if block.len() == NESTED_BLOCK {
            let factor = 1.0 / largest.max(SMALLEST_MAGNITUDE);
            codes.extend(differences.map(|value| code(value * factor)));
        } else {
            largest = largest.max(SMALLEST_MAGNITUDE);
            codes.extend(differences.map(|value| code(value / largest)));
        }
        nested.push(largest);
    }
    Ok(Scales::Double {
        codes,
        nested,
        offset,
    })
}
