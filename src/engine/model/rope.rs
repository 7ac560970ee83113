//! Rotary position embedding, with Llama 3's rescaling for long contexts.

use std::f64::consts::PI;

use burn::tensor::{Tensor, TensorData};

use crate::device::Compute;
use moim_core::architecture::{LlamaConfig, RopeScaling};

/// Inverse frequencies of the rotary embedding, one per pair of dimensions.
#[derive(Clone, Debug)]
pub struct RopeTable {
    inverse_frequencies: Vec<f32>,
}

impl RopeTable {
    /// The frequencies of a configuration; transformers' `ROPE_INIT_FUNCTIONS`.
    pub fn new(config: &LlamaConfig) -> Self {
        let half = config.head_dim / 2;
        let inverse_frequencies = (0..half)
            .map(|i| {
                let plain = config
                    .rope_theta
                    .powf(-(2.0 * i as f64) / config.head_dim as f64);
                rescale(plain, config.rope_scaling) as f32
            })
            .collect();
        Self {
            inverse_frequencies,
        }
    }

    /// Cosines and sines at the given positions, in f32 until the last step as
    /// transformers computes them.
    ///
    /// # Shapes
    /// two of `[positions, 1, head_dim]`
    pub fn at(
        &self,
        positions: &[usize],
        head_dim: usize,
        compute: &Compute,
    ) -> (Tensor<3>, Tensor<3>) {
        let mut cos = Vec::with_capacity(positions.len() * head_dim);
        let mut sin = Vec::with_capacity(positions.len() * head_dim);
        for &position in positions {
            // Both halves of a head rotate by the same angles.
            for _ in 0..2 {
                for &frequency in &self.inverse_frequencies {
                    let angle = position as f32 * frequency;
                    cos.push(angle.cos());
                    sin.push(angle.sin());
                }
            }
        }
        let tensor = |values: Vec<f32>| {
            Tensor::from_data(
                TensorData::new(values, [positions.len(), 1, head_dim]),
                (&compute.device, compute.dtype),
            )
        };
        (tensor(cos), tensor(sin))
    }
}

fn rescale(frequency: f64, scaling: RopeScaling) -> f64 {
    match scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } => {
            let wavelength = 2.0 * PI / frequency;
            if wavelength > original_max_position_embeddings / low_freq_factor {
                frequency / factor
            } else if wavelength < original_max_position_embeddings / high_freq_factor {
                frequency
            } else {
                let smooth = (original_max_position_embeddings / wavelength - low_freq_factor)
                    / (high_freq_factor - low_freq_factor);
                (1.0 - smooth) * frequency / factor + smooth * frequency
            }
        }
    }
}
