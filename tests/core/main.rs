//! The rooms without tensors, against values that other programs computed.

// A test stops at what it does not expect.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod metric;
mod report;
mod score;
mod text;
