//! Shared by the row-wise kernels: threads and buffers on the CPU, cubes that reduce a row on a GPU.

pub mod cpu;
pub mod cube;
