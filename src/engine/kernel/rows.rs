//! What the row-wise kernels share: threads and buffers on the CPU, cubes that reduce a row on a GPU.

pub mod cube;
pub mod flex;
#[cfg(test)]
pub mod testing;
