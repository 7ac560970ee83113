//! The engine against PyTorch, transformers, PEFT, TRL and bitsandbytes, and against itself.

// A test stops at what it does not expect.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod encoder;
// The runs of the program's tests, of which one module here needs a part.
#[allow(dead_code)]
#[path = "../program/runs/folder.rs"]
mod folder;
mod grpo;
mod little_memory;
mod model;
mod nf4;
mod parts;
#[cfg(feature = "wgpu")]
mod wgpu;
