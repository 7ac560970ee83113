//! A model of noise, for measuring speed and memory when a folder has no weights.
//!
//! [`Llama::random`] draws what a model is trained from: normal values of one stream per tensor,
//! sequentially, some tens of nanoseconds each. Billions of them would take minutes. Here every
//! value is a function of (seed, tensor, index), so all cores draw in parallel, in any order, and the
//! values are uniform, which costs a multiplication; NF4 is drawn as codes. All of it is drawn in
//! the form that the device keeps, so that nothing wider crosses the bus, and the host has one
//! tensor at a time.

use anyhow::Result;
use burn::tensor::{DType, Element, Tensor, TensorData};
use half::bf16;
use rayon::prelude::*;

use super::linear::Linear;
use super::llama::Llama;
use super::load::{Dense, on_device};
use crate::device::{Compute, resident};
use crate::nf4::{BLOCK, CODEBOOK, NESTED_BLOCK, Nf4Matrix, Scales};
use moim_core::architecture::{LlamaConfig, WeightFormat};

/// Values per task; a multiple of the two values or eight bytes of a hash.
const CHUNK: usize = 1 << 16;

impl Llama {
    /// A model of noise with the deviation `initializer_range`, norms one, biases zero: see the
    /// file's head.
    ///
    /// # Errors
    /// None that is known.
    pub fn noise(
        config: LlamaConfig,
        seed: u64,
        compute: &Compute,
        format: WeightFormat,
    ) -> Result<Self> {
        let deviation = config.initializer_range;
        let family = config.family;
        let dense = |name: &str, kind: Dense| dense(seed, name, kind, deviation, compute);
        Self::build(
            config,
            compute,
            |name, kind| Ok(dense(name, kind)),
            |layer, projection, (out, input)| {
                let name = family.weight(layer, projection);
                Ok(match format {
                    WeightFormat::Dense => Linear::Dense(dense(&name, Dense::Matrix(out, input))),
                    WeightFormat::Nf4 { double_quant } => {
                        let matrix = nf4(seed, &name, (out, input), deviation, double_quant);
                        on_device(&matrix, compute)
                    }
                })
            },
        )
    }
}

/// A matrix of noise; a norm or a bias has its initial values.
///
/// # Shapes
/// `[rows, columns]`, or `[1, columns]`
fn dense(seed: u64, name: &str, kind: Dense, deviation: f64, compute: &Compute) -> Tensor<2> {
    let options = (&compute.device, compute.dtype);
    let Dense::Matrix(rows, columns) = kind else {
        return kind.fresh(compute);
    };
    let (count, shape) = (rows * columns, [rows, columns]);
    let data = match compute.dtype {
        DType::BF16 => tensor_data(values(seed, name, count, deviation, bf16::from_f32), shape),
        _ => tensor_data(values(seed, name, count, deviation, |value| value), shape),
    };
    resident(data, options)
}

/// A matrix of NF4 codes, all equally likely, with equal scales.
fn nf4(
    seed: u64,
    name: &str,
    (rows, columns): (usize, usize),
    deviation: f64,
    double_quant: bool,
) -> Nf4Matrix {
    let count = rows * columns;
    let square = CODEBOOK
        .iter()
        .map(|&code| f64::from(code).powi(2))
        .sum::<f64>();
    let scale = (deviation / (square / CODEBOOK.len() as f64).sqrt()) as f32;
    let blocks = count.div_ceil(BLOCK);
    Nf4Matrix {
        rows,
        columns,
        packed: bytes(key(seed, name), count.div_ceil(2)),
        scales: if !double_quant {
            Scales::Plain(vec![scale; blocks])
        } else {
            Scales::Double {
                codes: bytes(key(seed, name).wrapping_add(1), blocks),
                nested: vec![0.1 * scale; blocks.div_ceil(NESTED_BLOCK)],
                offset: scale,
            }
        },
    }
}

fn bytes(key: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    bytes
        .par_chunks_mut(CHUNK)
        .enumerate()
        .for_each(|(chunk, bytes)| {
            let first = (chunk * CHUNK / 8) as u64;
            for (place, bytes) in (first..).zip(bytes.chunks_mut(8)) {
                bytes.copy_from_slice(&mix(key, place).to_le_bytes()[..bytes.len()]);
            }
        });
    bytes
}

fn tensor_data<E: Element>(values: Vec<E>, shape: [usize; 2]) -> TensorData {
    TensorData::new(values, shape)
}

/// Uniform values of this standard deviation around zero, which depend only on (seed, name, index).
fn values<E: Send + Sync + Clone + Default>(
    seed: u64,
    name: &str,
    count: usize,
    deviation: f64,
    convert: impl Fn(f32) -> E + Sync,
) -> Vec<E> {
    let key = key(seed, name);
    // The deviation of a uniform value from [-a, a) is a / √3; a hash's half is from [-2³¹, 2³¹).
    let scale = (deviation * 3f64.sqrt() / f64::from(1u32 << 31)) as f32;
    let mut values = vec![E::default(); count];
    values
        .par_chunks_mut(CHUNK)
        .enumerate()
        .for_each(|(chunk, values)| {
            let first = (chunk * CHUNK / 2) as u64;
            for (pair, values) in (first..).zip(values.chunks_mut(2)) {
                let bits = mix(key, pair);
                for (value, half) in values.iter_mut().zip([bits as u32, (bits >> 32) as u32]) {
                    *value = convert(half as i32 as f32 * scale);
                }
            }
        });
    values
}

fn key(seed: u64, name: &str) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("moim weights of noise 1");
    hasher.update(&seed.to_le_bytes());
    hasher.update(name.as_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

/// The `counter`th number of SplitMix64 (Steele, Lea and Flood 2014) started at `key`.
fn mix(key: u64, counter: u64) -> u64 {
    let z = key.wrapping_add((counter + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_the_deviation_and_depends_only_on_its_index() {
        let count = CHUNK + 1001;
        let draw = |seed, name, count| values(seed, name, count, 0.02, |value| value);
        let drawn = draw(7, "a", count);
        let mean = drawn.iter().map(|&v| f64::from(v)).sum::<f64>() / count as f64;
        let square = drawn.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / count as f64;
        assert!(mean.abs() < 3e-4, "{mean}");
        assert!((square.sqrt() - 0.02).abs() < 2e-4, "{}", square.sqrt());
        let half = draw(7, "a", CHUNK + 500);
        assert_eq!(drawn[..half.len()], half);
        assert_ne!(drawn[..100], draw(7, "b", 100));
        assert_ne!(drawn[..100], draw(8, "a", 100));
    }

    #[test]
    fn four_bit_noise_has_the_deviation() {
        for double_quant in [false, true] {
            let matrix = nf4(7, "a", (130, 512), 0.02, double_quant);
            assert_eq!(matrix, nf4(7, "a", (130, 512), 0.02, double_quant));
            let values = matrix.dequantize();
            assert_eq!(values.len(), 130 * 512);
            let square = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
            let deviation = (square / values.len() as f64).sqrt();
            assert!((deviation - 0.02).abs() < 4e-4, "{deviation}");
        }
    }

    #[test]
    fn splitmix_gives_its_published_numbers() {
        // The first numbers of the reference program with the seed 1234567.
        assert_eq!(mix(1_234_567, 0), 6_457_827_717_110_365_317);
        assert_eq!(mix(1_234_567, 1), 3_203_168_211_198_807_973);
    }
}
