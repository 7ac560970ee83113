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

pub mod dataset;
pub mod device;
pub mod encoder;
pub mod experiment;
pub mod grpo;
pub mod health;
pub mod inference;
pub mod kernel;
pub mod memory;
pub mod metric;
pub mod model;
pub mod nf4;
pub mod optimizer;
pub mod panics;
pub mod parallel;
pub mod preflight;
pub mod probe;
pub mod regular_file;
pub mod report;
pub mod reward;
pub mod rollout;
pub mod run;
pub mod score;
pub mod setup;
pub mod sft;
pub mod text;
pub mod watch;
