//! The pages of a card's memory, and how much of them stays unused.
//!
//! CubeCL's pools cut buffers from pages as large as the largest buffer, and no buffer spans two pages. Training
//! keeps the input of each layer longest and has most of them, so pages that are a multiple of it waste least.

use super::layer::{input_bytes, largest_chunk_bytes};
use super::shape::Inputs;
use super::training::{logits_bytes, tokens_of_part};
use super::weights::dense_copy;
use crate::experiment::TargetModule;

/// The gaps between buffers as a fraction of the buffers, and the unused part of the last page as a fraction of
/// a page: measured on CubeCL's own pools in eleven configurations (benches/README.md).
const GAPS: f64 = 0.1;
const LAST_PAGE: f64 = 0.75;

/// Bytes of a page: the smallest multiple of a layer's input that fits every single buffer of a training step.
pub fn page_bytes(inputs: &Inputs) -> u64 {
    let (input, largest) = buffers(inputs);
    ((largest / input).ceil() * input) as u64
}

/// Bytes that stay unused with this many bytes of buffers. Half an input accounts for the rounding of a page, so
/// that larger inputs never give a smaller result.
pub(super) fn unused_bytes(inputs: &Inputs, buffers_in_pages: f64) -> f64 {
    let (input, largest) = buffers(inputs);
    GAPS * buffers_in_pages + LAST_PAGE * (largest + input / 2.0)
}

/// The input of a layer, and the largest buffer.
fn buffers(inputs: &Inputs) -> (f64, f64) {
    let tokens = tokens_of_part(inputs);
    let input = input_bytes(inputs, &tokens).max(1.0);
    let largest = input
        .max(largest_chunk_bytes(inputs, &tokens))
        .max(logits_bytes(inputs, &tokens))
        .max(dense_copy(inputs, TargetModule::ALL));
    (input, largest)
}
