//! The trainer: what needs tensors, from the kernels to one GRPO step. It prints nothing and knows
//! no terminal.

pub mod check;
pub mod device;
pub mod encoder;
pub mod execution;
pub mod grpo;
pub mod inference;
pub mod kernel;
pub mod model;
pub mod nf4;
pub mod optimizer;
pub mod preflight;
pub mod probe;
pub mod rollout;
pub mod session;
pub mod setup;
pub mod sft;
