//! Tensor operations of our own, as extensions of burn's backends: CubeCL kernels for CUDA (and
//! wgpu), plain Rust for the CPU. Each has a version in plain tensor operations beside its tests.

pub mod attention;
pub mod check;
pub mod dropout;
pub mod in_place;
pub mod linear;
pub mod nf4;
pub mod rms_norm;
pub mod rotary;
mod rows;
pub mod sample;
mod simd;
pub mod softmax;
pub mod swiglu;
mod tensor_cores;
pub mod token_probs;
