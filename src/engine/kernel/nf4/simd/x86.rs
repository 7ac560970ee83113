//! The AVX-512 and AVX2 forms. Every load is within a slice whose length the caller in `simd.rs` has checked.

#![allow(
    clippy::needless_range_loop,
    reason = "rows and columns of register tiles, two indices at a time"
)]

use std::arch::x86_64::*;

use super::{BLOCK_WORDS, TILE};

/// Positions of the nibbles of a word: the first of two weights is in the high half of its byte.
const NIBBLES: [i32; 8] = [4, 0, 12, 8, 20, 16, 28, 24];

/// Ones for the lanes that are left of a row, then zeros.
const TAIL: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[target_feature(enable = "avx512f")]
#[inline]
fn tile_avx512<const W: usize, const X: usize>(
    weights: &[f32],
    x: &[f32],
    columns: usize,
) -> [[f32; X]; W] {
    assert!(weights.len() >= W * columns && x.len() >= X * columns);
    let (weights, x) = (weights.as_ptr(), x.as_ptr());
    let mut sums = [[_mm512_setzero_ps(); X]; W];
    let mut column = 0;
    // One body for whole registers and for the rest of a row: with two LLVM keeps the sums in memory.
    while column < columns {
        let left = columns - column;
        let mask: __mmask16 = if left >= 16 { !0 } else { (1 << left) - 1 };
        let mut a = [_mm512_setzero_ps(); W];
        for (row, a) in a.iter_mut().enumerate() {
            // SAFETY: row < W and, in the lanes of the mask, column < columns: within the length asserted above.
            *a = unsafe { _mm512_maskz_loadu_ps(mask, weights.add(row * columns + column)) };
        }
        for row in 0..X {
            // SAFETY: as above, with row < X.
            let b = unsafe { _mm512_maskz_loadu_ps(mask, x.add(row * columns + column)) };
            for w in 0..W {
                sums[w][row] = _mm512_fmadd_ps(a[w], b, sums[w][row]);
            }
        }
        column += 16;
    }
    // No `map`: a closure of these instructions does not inline into a function of the baseline.
    let mut totals = [[0.0; X]; W];
    for w in 0..W {
        for row in 0..X {
            totals[w][row] = _mm512_reduce_add_ps(sums[w][row]);
        }
    }
    totals
}

/// See [`super::dot_products`].
#[target_feature(enable = "avx512f")]
pub fn dot_products_avx512(weights: &[f32], x: &[f32], columns: usize, output: &mut [f32]) {
    walk_tiles!(tile_avx512, weights, x, columns, output);
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn tile_avx2<const W: usize, const X: usize>(
    weights: &[f32],
    x: &[f32],
    columns: usize,
) -> [[f32; X]; W] {
    assert!(weights.len() >= W * columns && x.len() >= X * columns);
    let (weights, x) = (weights.as_ptr(), x.as_ptr());
    let mut sums = [[_mm256_setzero_ps(); X]; W];
    let mut column = 0;
    while column < columns {
        let left = (columns - column).min(8);
        // SAFETY: 8 integers from 8 - left on, of 16, with left in 1..=8.
        let mask = unsafe { _mm256_loadu_si256(TAIL.as_ptr().add(8 - left).cast()) };
        let mut a = [_mm256_setzero_ps(); W];
        for (row, a) in a.iter_mut().enumerate() {
            // SAFETY: row < W and, in the lanes of the mask, column < columns: within the length asserted above.
            *a = unsafe { _mm256_maskload_ps(weights.add(row * columns + column), mask) };
        }
        for row in 0..X {
            // SAFETY: as above, with row < X.
            let b = unsafe { _mm256_maskload_ps(x.add(row * columns + column), mask) };
            for w in 0..W {
                sums[w][row] = _mm256_fmadd_ps(a[w], b, sums[w][row]);
            }
        }
        column += 8;
    }
    let mut totals = [[0.0; X]; W];
    for w in 0..W {
        for row in 0..X {
            let mut lanes = [0f32; 8];
            // SAFETY: 8 numbers are written to an array of 8.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sums[w][row]) };
            totals[w][row] = lanes.iter().sum();
        }
    }
    totals
}

/// See [`super::dot_products`].
#[target_feature(enable = "avx2,fma")]
pub fn dot_products_avx2(weights: &[f32], x: &[f32], columns: usize, output: &mut [f32]) {
    walk_tiles!(tile_avx2, weights, x, columns, output);
}

/// See [`super::decode`].
#[target_feature(enable = "avx512f")]
pub fn decode_avx512(words: &[i32], codebook: &[f32; 16], scales: &[f32], output: &mut [f32]) {
    // SAFETY: 16 numbers are read from an array of 16, 8 from one of 8.
    let (table, nibbles) = unsafe {
        let nibbles = _mm256_loadu_si256(NIBBLES.as_ptr().cast());
        (
            _mm512_loadu_ps(codebook.as_ptr()),
            _mm512_broadcast_i64x4(nibbles),
        )
    };
    for ((words, output), scale) in words
        .chunks(BLOCK_WORDS)
        .zip(output.chunks_mut(BLOCK_WORDS * 8))
        .zip(scales)
    {
        let table = _mm512_mul_ps(table, _mm512_set1_ps(*scale));
        let (pairs, rest) = words.as_chunks::<2>();
        let (outputs, output_rest) = output.as_chunks_mut::<16>();
        for ([first, second], output) in pairs.iter().zip(outputs) {
            let low = _mm512_castsi256_si512(_mm256_set1_epi32(*first));
            let both = _mm512_inserti64x4::<1>(low, _mm256_set1_epi32(*second));
            // The permutation reads only the low four bits of each lane.
            let values = _mm512_permutexvar_ps(_mm512_srlv_epi32(both, nibbles), table);
            // SAFETY: 16 numbers are written to an array of 16.
            unsafe { _mm512_storeu_ps(output.as_mut_ptr(), values) };
        }
        if let ([word], 8..) = (rest, output_rest.len()) {
            let codes = _mm512_srlv_epi32(_mm512_set1_epi32(*word), nibbles);
            // SAFETY: 8 lanes are written, and the pattern matched as many.
            unsafe {
                _mm512_mask_storeu_ps(
                    output_rest.as_mut_ptr(),
                    0xff,
                    _mm512_permutexvar_ps(codes, table),
                )
            };
        }
    }
}

/// See [`super::decode`].
#[target_feature(enable = "avx2")]
pub fn decode_avx2(words: &[i32], codebook: &[f32; 16], scales: &[f32], output: &mut [f32]) {
    // SAFETY: 8 numbers each from the halves of an array of 16, and from an array of 8.
    let (low, high, nibbles) = unsafe {
        (
            _mm256_loadu_ps(codebook.as_ptr()),
            _mm256_loadu_ps(codebook.as_ptr().add(8)),
            _mm256_loadu_si256(NIBBLES.as_ptr().cast()),
        )
    };
    for ((words, output), scale) in words
        .chunks(BLOCK_WORDS)
        .zip(output.chunks_mut(BLOCK_WORDS * 8))
        .zip(scales)
    {
        let scale = _mm256_set1_ps(*scale);
        let (low, high) = (_mm256_mul_ps(low, scale), _mm256_mul_ps(high, scale));
        for (word, output) in words.iter().zip(output.as_chunks_mut::<8>().0) {
            let codes = _mm256_srlv_epi32(_mm256_set1_epi32(*word), nibbles);
            // Bit 3 of a code, moved to the sign, chooses the half of the table.
            let half = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(codes));
            let values = _mm256_blendv_ps(
                _mm256_permutevar8x32_ps(low, codes),
                _mm256_permutevar8x32_ps(high, codes),
                half,
            );
            // SAFETY: 8 numbers are written to an array of 8.
            unsafe { _mm256_storeu_ps(output.as_mut_ptr(), values) };
        }
    }
}
