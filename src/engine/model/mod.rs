//! The decoder family: configuration, layers, adapters, loading and the
//! layer-by-layer backward pass.
//!
//! The families differ in little ([`Family`](moim_core::architecture::Family)), so there is one decoder for all of them.
//!
//! Weights are plain tensors in the checkpoint's own layout (`[out, in]`) under
//! the checkpoint's own names. An [`Adapter`] is a separate value, so the
//! policy is the model with it and the reference policy the model without it.

mod attend;
mod attention;
mod backward;
mod cache;
mod decoding;
mod head;
mod layer;
mod layout;
mod linear;
mod llama;
mod load;
mod lora;
mod peft;
mod random;
mod rope;
mod weights;

pub use backward::TopGradient;
pub use decoding::{Decoding, Step};
pub use head::{Head, TokenLogProbs, to_f32};
pub use layout::{GroupBatch, Layout, LayoutTensors, indices};
pub use linear::Linear;
pub use llama::{KeepInputs, KeptInput, Llama, Tape};
pub use load::{LoadOptions, LoadProgress};
pub use lora::{
    Adapter, Dropout, DropoutPlace, LoraConfig, LoraPair, as_dtype, f32_tensor, stream, uniform,
};
pub use peft::{load_adapter, save_adapter};
pub use weights::WeightFiles;
