//! Quantises a matrix to NF4 as bitsandbytes does, and prints how much is lost.
//!
//!   cargo run --release --example nf4_matrix

use anyhow::Result;
use moim::nf4::Nf4Matrix;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn main() -> Result<()> {
    let (rows, columns) = (1024, 512);
    let mut generator = ChaCha8Rng::seed_from_u64(7);
    // Roughly normal: the sum of twelve uniforms, less its mean.
    let weights: Vec<f32> = (0..rows * columns)
        .map(|_| (0..12).map(|_| generator.random::<f32>()).sum::<f32>() - 6.0)
        .collect();

    for double_quant in [false, true] {
        let matrix = Nf4Matrix::quantize(&weights, rows, columns, double_quant)?;
        let restored = matrix.dequantize();
        let squares = |values: &mut dyn Iterator<Item = f32>| -> f64 {
            values.map(|value| f64::from(value * value)).sum()
        };
        let error = squares(&mut weights.iter().zip(&restored).map(|(a, b)| a - b));
        let relative = (error / squares(&mut weights.iter().copied())).sqrt();
        println!("double_quant = {double_quant}: relative error {relative:.4}");
    }
    Ok(())
}
