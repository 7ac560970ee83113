//! Dropout in a plain loop, and the shapes that the kernel is checked at.

use crate::kernel::case::{
    Case, Cases, Comparison, HIDDEN, Inputs, ROWS, Reference, SMALL_ROWS, bits, values,
};

/// See [`fn@super::dropout`]; `keys` has two words for each row of `width` values.
pub fn dropout(x: &[f32], keys: &[u32], width: usize, salt: u32, rate: f64) -> Vec<f32> {
    let mixed = |x: u32| {
        let x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
        let x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        x ^ (x >> 16)
    };
    let limit = (rate * f64::from(u32::MAX)) as u32;
    let scale = (1.0 / (1.0 - rate)) as f32;
    x.iter()
        .enumerate()
        .map(|(i, x)| {
            let (row, column) = (i / width, (i % width) as u32);
            let row = mixed(mixed(keys[row * 2] ^ salt) ^ keys[row * 2 + 1]);
            if mixed(row ^ column.wrapping_mul(0x9e37_79b9)) < limit {
                0.0
            } else {
                x * scale
            }
        })
        .collect()
}

pub(in crate::kernel) fn cases(cases: &mut Cases) {
    for [rows, width] in SMALL_ROWS {
        cases.small(move |inputs| forward(inputs, rows, width));
    }
    for rows in ROWS {
        cases.large(move |inputs| forward(inputs, rows, HIDDEN));
    }
}

fn forward(inputs: &Inputs, rows: usize, width: usize) -> Case {
    const SALT: u32 = 77;
    const RATE: f64 = 0.3;
    let x = inputs.noise([rows, width], 13, 1.0);
    let words: Vec<u32> = (0..rows as u32 * 2).map(|i| bits(i, 14)).collect();
    let keys = inputs.int_tensor(
        words.iter().map(|word| word.cast_signed()).collect(),
        [rows, 2],
    );
    let given = x.clone();
    Case {
        kernel: "dropout",
        shape: format!("{rows}×{width}"),
        bytes: 2 * rows * width * inputs.size(),
        // A value that is dropped on one side only is an error of about 1.
        tolerance: inputs.tolerance(1e-6),
        reference: Reference::Cpu,
        run: Box::new(move |_| vec![super::dropout(x.clone(), keys.clone(), SALT, RATE).into()]),
        plain: Box::new(move |_| {
            let x = values(given.clone());
            Comparison::Values(vec![dropout(&x, &words, width, SALT, RATE)])
        }),
    }
}
