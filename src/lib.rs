//! moim (모임, "group"): fine-tunes a language model with group-relative policy
//! optimization on one machine and finds the best checkpoint.
//!
//! The rooms, in the order a run goes through them:
//!
//! ```text
//! experiment → dataset → rollout → reward → grpo → run (events) → epoch_{E}
//!                                                     ↓
//!                       leaderboard ← score ← watch ← infer_results
//! ```
//!
//! The library prints nothing and knows no terminal; `ui/` does. burn is used in
//! [`kernel`], [`model`], [`optimizer`], [`encoder`], [`rollout`], [`grpo`], [`sft`], [`inference`],
//! [`setup`], [`probe`] and [`device`] alone.

pub use moim_core::{
    architecture, dataset, experiment, health, journal, memory, metric, panics, regular_file,
    report, reward, run, score, text, watch,
};
pub use moim_engine::{
    device, encoder, execution, grpo, inference, kernel, model, nf4, optimizer, preflight, probe,
    rollout, session, setup, sft,
};
