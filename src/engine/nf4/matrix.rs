//! A matrix in NF4, in memory as bitsandbytes keeps it.

/// Weights that share a scale.
pub const BLOCK: usize = 64;

/// Scales that share one scale if scales are kept in 8 bits.
pub const NESTED_BLOCK: usize = 256;

/// A matrix `[rows, columns]` in row-major order, two weights a byte.
#[derive(Clone, Debug, PartialEq)]
pub struct Nf4Matrix {
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub columns: usize,
    /// Codes of the weights, the first of two in the high nibble; an odd last one is padded with code 7, which is 0.
    pub packed: Vec<u8>,
    /// The largest magnitude of each block.
    pub scales: Scales,
}

/// The largest magnitude of each block of [`BLOCK`] weights. Blocks run over the ends of rows; the last may be short.
#[derive(Clone, Debug, PartialEq)]
pub enum Scales {
    /// As they are.
    Plain(Vec<f32>),
    /// In 8 bits (double quantisation): `map[code]·nested[block / NESTED_BLOCK] + offset`.
    Double {
        /// One per block.
        codes: Vec<u8>,
        /// One per [`NESTED_BLOCK`] blocks.
        nested: Vec<f32>,
        /// The mean of all scales.
        offset: f32,
    },
}
