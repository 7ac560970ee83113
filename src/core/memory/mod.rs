//! The memory that a run needs, computed only from `config.json` and the experiment: no device, no
//! weights.
//!
//! [`plan`] returns the peak of each phase by [`Component`], whether it fits ([`Verdict`]), the largest
//! values that still fit ([`Limits`]) and the cheapest change that makes it fit. It is pure and takes
//! microseconds, so a form can call it on every key press. Everything on the disk is read beforehand by
//! [`Shapes::read`].
//!
//! # How the numbers are computed
//!
//! Memory is counted at named moments of each phase, and the largest moment is the phase's peak. A
//! moment is the sum of the buffers that exist at that time. Each formula names the code it follows
//! (`rollout.rs`, `training.rs`, `layer.rs`). Every prompt is assumed to have `data.max_prompt_length`
//! tokens and every completion to reach its limit, so real data can need less but never more.
//!
//! On the CPU `tests/memory.rs` compares the plan with an allocator that counts. On CUDA the tensors'
//! buffers are the same, except where operations are fused. Unused space in the pools' pages
//! ([`Component::Pages`]) and the driver's share ([`Component::Reserve`]) are estimates.

mod advice;
mod device;
mod layer;
pub mod limits;
mod pages;
mod peak;
mod rollout;
mod shape;
mod size;
mod sizes;
#[cfg(test)]
mod tests;
mod training;
mod weights;

pub use advice::Limits;
pub use device::device_memory;
pub use pages::page_bytes;
pub use peak::{Component, MemoryPlan, Part, Peak, Phase, Verdict};
pub use shape::{EncoderInputs, Inputs, Shapes, capacity};
pub use size::{Bytes, NotASize};
pub use sizes::{Sizes, smaller_part};

/// The memory of every phase. If `capacity` is known, phases use sizes that fit into that many bytes,
/// as in the trainer ([`Inputs::sized_for`]).
pub fn plan(inputs: &Inputs, capacity: Option<u64>) -> MemoryPlan {
    let sized = match capacity {
        Some(capacity) => inputs.sized_for(capacity),
        None => inputs.clone(),
    };
    MemoryPlan {
        rollout: rollout::rollout(&sized),
        training: training::training(&sized),
        inference: rollout::inference(&sized),
        sizes: sized.sizes,
        capacity,
    }
}
