//! The engine against PyTorch, transformers, PEFT, TRL and bitsandbytes, and against itself.

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
