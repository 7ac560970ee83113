//! What a run needs of memory, from `config.json` and the experiment alone: no device, no weights.
//!
//! [`plan`] answers the peak of each phase by [`Component`], whether it fits ([`Verdict`]), the
//! largest values that still fit ([`Limits`]) and the cheapest change that makes it fit. It is
//! pure and takes microseconds, so a form can ask it at every key. What is read from the disk is
//! read before, by [`Shapes::read`].
//!
//! # How the numbers come about
//!
//! Memory is counted at named moments of each phase, and the largest moment is the phase's peak.
//! A moment is a sum of buffers that the code holds at that time; each formula stands where it is
//! computed, with the code it follows (`rollout.rs`, `training.rs`, `layer.rs`). Every prompt is
//! taken to have `data.max_prompt_length` tokens and every completion to reach its limit: a
//! training set may stay below, it cannot go above.
//!
//! On the CPU `tests/memory.rs` holds the plan against an allocator that counts. On CUDA the
//! buffers of the tensors are the same ones but for the fusion of operations; room that is left in the
//! pools' pages ([`Component::Pages`]) and the share of the driver ([`Component::Reserve`]) are estimates.

mod advice;
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
pub use pages::page_bytes;
pub use peak::{Component, MemoryPlan, Part, Peak, Phase, Verdict};
pub use shape::{EncoderInputs, Inputs, Shapes, capacity};
pub use size::{Bytes, NotASize};
pub use sizes::{Sizes, smaller_part};

/// The memory of every phase. Where `capacity` is known, phases go in sizes that fit into so many
/// bytes, as the trainer does them ([`Inputs::sized_for`]).
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
