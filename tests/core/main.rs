//! The rooms without tensors, against values that other programs computed.

mod metric;
mod report;
mod score;
mod text;
