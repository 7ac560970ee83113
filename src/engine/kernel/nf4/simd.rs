//! Dot products of f32 and the decoding of NF4 on the CPU, in the widest instructions that it has.
//!
//! The crate is built for the baseline x86-64, so the choice is made at run time. A sum runs along the columns
//! in one order that depends on the instruction set only: the same two rows give the same bits whatever else is
//! computed with them, and for any number of threads.

use crate::nf4::BLOCK;

/// Sums the products of rows of `weights` with rows of `x`, both with `columns` elements per row.
///
/// # Shapes
/// `weights: [n, columns]`, `x: [m, columns]` → `output: [n, m]`
///
/// # Panics
/// When the lengths do not fit.
pub fn dot_products(weights: &[f32], x: &[f32], columns: usize, output: &mut [f32]) {
    if columns == 0 {
        output.fill(0.0);
        return;
    }
    let (n, m) = (weights.len() / columns, x.len() / columns);
    assert_eq!(
        (n * columns, m * columns, n * m),
        (weights.len(), x.len(), output.len()),
        "lengths of rows"
    );
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature has just been seen; lengths were checked above.
            return unsafe { x86::dot_products_avx512(weights, x, columns, output) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the features have just been seen; lengths were checked above.
            return unsafe { x86::dot_products_avx2(weights, x, columns, output) };
        }
    }
    portable::dot_products(weights, x, columns, output);
}

/// Words in a block of weights with one scale.
const BLOCK_WORDS: usize = BLOCK / 8;

/// Decodes words from the start of a block on: `output[i] = codebook[code i]·scales[i / BLOCK]`.
///
/// # Panics
/// When `output` has not 8 elements a word, or `scales` not one for each block begun.
pub fn decode(words: &[i32], codebook: &[f32; 16], scales: &[f32], output: &mut [f32]) {
    assert_eq!(words.len() * 8, output.len(), "weights of the words");
    assert_eq!(
        words.len().div_ceil(BLOCK_WORDS),
        scales.len(),
        "scales of the words"
    );
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature has just been seen; lengths were checked above.
            return unsafe { x86::decode_avx512(words, codebook, scales, output) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the feature has just been seen; lengths were checked above.
            return unsafe { x86::decode_avx2(words, codebook, scales, output) };
        }
    }
    portable::decode(words, codebook, scales, output);
}

/// `[n, m]` → `[m, n]`.
pub fn transposed(values: Vec<f32>, n: usize, m: usize) -> Vec<f32> {
    if m == 1 {
        return values;
    }
    let mut output = vec![0.0; values.len()];
    for (column, line) in values.chunks_exact(m).enumerate() {
        for (row, value) in line.iter().enumerate() {
            output[row * n + column] = *value;
        }
    }
    output
}

/// Rows of weights, and rows of `x`, whose sums are kept in registers together.
const TILE: usize = 4;

/// Walks over the tiles of a product: `$tile::<rows of weights, rows of x>(weights, x, columns)`.
///
/// A macro, because a function of the wider instruction sets cannot be passed as a value and still be inlined.
macro_rules! walk_tiles {
    ($tile:ident, $weights:expr, $x:expr, $columns:expr, $output:expr) => {{
        let columns: usize = $columns;
        let (rows, m) = ($weights.len() / columns, $x.len() / columns);
        let mut row = 0;
        while row < rows {
            let count = if rows - row >= TILE { TILE } else { 1 };
            let weights = &$weights[row * columns..(row + count) * columns];
            let mut first = 0;
            while first < m {
                let width = (m - first).min(TILE);
                let x = &$x[first * columns..(first + width) * columns];
                let mut sums = [[0f32; TILE]; TILE];
                match (count, width) {
                    (TILE, 4) => keep_tile!(sums, $tile::<4, 4>(weights, x, columns)),
                    (TILE, 3) => keep_tile!(sums, $tile::<4, 3>(weights, x, columns)),
                    (TILE, 2) => keep_tile!(sums, $tile::<4, 2>(weights, x, columns)),
                    (TILE, _) => keep_tile!(sums, $tile::<4, 1>(weights, x, columns)),
                    (_, 4) => keep_tile!(sums, $tile::<1, 4>(weights, x, columns)),
                    (_, 3) => keep_tile!(sums, $tile::<1, 3>(weights, x, columns)),
                    (_, 2) => keep_tile!(sums, $tile::<1, 2>(weights, x, columns)),
                    _ => keep_tile!(sums, $tile::<1, 1>(weights, x, columns)),
                }
                for (line, sums) in sums.iter().take(count).enumerate() {
                    let start = (row + line) * m + first;
                    $output[start..start + width].copy_from_slice(&sums[..width]);
                }
                first += width;
            }
            row += count;
        }
    }};
}

/// Copies the sums of a tile into those of the largest one.
macro_rules! keep_tile {
    ($sums:ident, $tile:expr) => {
        for (sums, tile) in $sums.iter_mut().zip($tile) {
            sums[..tile.len()].copy_from_slice(&tile);
        }
    };
}

mod portable {
    use super::{BLOCK_WORDS, TILE};

    /// Partial sums of a row, so that LLVM can add them in parallel.
    const LANES: usize = 16;

    fn tile<const W: usize, const X: usize>(
        weights: &[f32],
        x: &[f32],
        columns: usize,
    ) -> [[f32; X]; W] {
        std::array::from_fn(|w| {
            let weights = &weights[w * columns..(w + 1) * columns];
            std::array::from_fn(|row| dot(weights, &x[row * columns..(row + 1) * columns]))
        })
    }

    fn dot(a: &[f32], b: &[f32]) -> f32 {
        let mut sums = [0f32; LANES];
        let (a_whole, a_rest) = a.as_chunks::<LANES>();
        let (b_whole, b_rest) = b.as_chunks::<LANES>();
        for (a, b) in a_whole.iter().zip(b_whole) {
            for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                *sum += a * b;
            }
        }
        for ((sum, a), b) in sums.iter_mut().zip(a_rest).zip(b_rest) {
            *sum += a * b;
        }
        sums.iter().sum()
    }

    pub fn dot_products(weights: &[f32], x: &[f32], columns: usize, output: &mut [f32]) {
        walk_tiles!(tile, weights, x, columns, output);
    }

    pub fn decode(words: &[i32], codebook: &[f32; 16], scales: &[f32], output: &mut [f32]) {
        for ((words, output), scale) in words
            .chunks(BLOCK_WORDS)
            .zip(output.chunks_mut(BLOCK_WORDS * 8))
            .zip(scales)
        {
            let scaled = codebook.map(|value| value * scale);
            for (word, output) in words.iter().zip(output.chunks_exact_mut(8)) {
                for (position, value) in output.iter_mut().enumerate() {
                    *value = scaled[((*word as u32) >> ((position ^ 1) * 4)) as usize & 15];
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, step: usize) -> Vec<f32> {
        (0..count)
            .map(|i| (i * step % 101) as f32 / 50.0 - 1.0)
            .collect()
    }

    type DotProducts = fn(&[f32], &[f32], usize, &mut [f32]);
    type Decode = fn(&[i32], &[f32; 16], &[f32], &mut [f32]);

    /// The instruction sets of this machine.
    fn instruction_sets() -> Vec<(&'static str, DotProducts, Decode)> {
        let mut sets: Vec<(&'static str, DotProducts, Decode)> =
            vec![("portable", portable::dot_products, portable::decode)];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                sets.push((
                    "avx2",
                    // SAFETY: the features have just been seen.
                    |w, x, c, o| unsafe { x86::dot_products_avx2(w, x, c, o) },
                    // SAFETY: as above.
                    |w, b, s, o| unsafe { x86::decode_avx2(w, b, s, o) },
                ));
            }
            if is_x86_feature_detected!("avx512f") {
                sets.push((
                    "avx512",
                    // SAFETY: the feature has just been seen.
                    |w, x, c, o| unsafe { x86::dot_products_avx512(w, x, c, o) },
                    // SAFETY: as above.
                    |w, b, s, o| unsafe { x86::decode_avx512(w, b, s, o) },
                ));
            }
        }
        sets
    }

    #[test]
    fn every_instruction_set_gives_the_same_products() {
        for (name, dot_products, _) in instruction_sets() {
            for (n, m, columns) in [
                (1, 1, 1),
                (4, 4, 16),
                (5, 7, 37),
                (9, 6, 8),
                (3, 2, 100),
                (8, 16, 64),
                (6, 3, 15),
            ] {
                let (weights, x) = (numbers(n * columns, 37), numbers(m * columns, 29));
                let mut output = vec![f32::NAN; n * m];
                dot_products(&weights, &x, columns, &mut output);
                for (i, found) in output.iter().enumerate() {
                    let expected: f32 = (0..columns)
                        .map(|c| weights[i / m * columns + c] * x[i % m * columns + c])
                        .sum();
                    assert!(
                        (found - expected).abs() < 1e-4,
                        "{name} {n}×{m}×{columns}: {found} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_decodes_the_same_bits() {
        let codebook: [f32; 16] = std::array::from_fn(|code| (code as f32 - 6.3) / 9.1);
        let scales = [0.37, 1.91, 0.02];
        let words: Vec<i32> = (0..21)
            .map(|i: i32| i.wrapping_add(1).wrapping_mul(-1_640_531_535))
            .collect();
        for count in 0..=words.len() {
            let expected: Vec<f32> = words[..count]
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .flat_map(|byte| [byte >> 4, byte & 15])
                .enumerate()
                .map(|(i, code)| codebook[code as usize] * scales[i / BLOCK])
                .collect();
            for (name, _, decode) in instruction_sets() {
                let mut output = vec![f32::NAN; count * 8];
                decode(
                    &words[..count],
                    &codebook,
                    &scales[..count.div_ceil(BLOCK_WORDS)],
                    &mut output,
                );
                assert_eq!(output, expected, "{name}");
            }
        }
    }
}
