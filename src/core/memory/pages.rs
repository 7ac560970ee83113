//! How a card's memory is cut into pages, and what of them stays empty.
//!
//! CubeCL's pools cut buffers from pages as large as the largest buffer, and no buffer is on two pages. What training
//! keeps longest and has most of is the input of each layer; pages that these fill without a rest waste
//! least.

use super::layer::{input_bytes, largest_chunk_bytes};
use super::shape::Inputs;
use super::training::{logits_bytes, tokens_of_part};
use super::weights::dense_copy;
use crate::experiment::TargetModule;

/// What of the buffers that come and go has to be added for gaps between them, and what of a page for the
/// last one: what CubeCL's own pools reserved in eleven configurations (benches/README.md).
const GAPS: f64 = 0.1;
const LAST_PAGE: f64 = 0.75;

/// Bytes of a page: the smallest multiple of a layer's input that holds every single buffer of a training step.
pub fn page_bytes(inputs: &Inputs) -> u64 {
    let (input, largest) = buffers(inputs);
    ((largest / input).ceil() * input) as u64
}

/// Bytes that no buffer fits in beside so many bytes of buffers. Half an input stands for the rounding of a
/// page, so that more of anything is never less.
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
