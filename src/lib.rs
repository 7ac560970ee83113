//! moim (모임, "group") fine-tunes a language model with group-relative policy optimization on one
//! machine and finds the best checkpoint.
//!
//! This crate is the front door. It re-exports two layers that the compiler keeps apart:
//!
//! - [`moim_core`] needs no tensors: experiments, data, metrics, scores, runs, the plan of memory.
//! - [`moim_engine`] needs burn: kernels, model, rollout, GRPO.
//!
//! The program, with its command line and terminal, is in `ui/`.
//!
//! ```text
//! experiment → dataset → rollout → reward → grpo → run (events) → epoch_{E}
//!                                                     ↓
//!                       leaderboard ← score ← watch ← infer_results
//! ```
//!
//! # Score an answer
//!
//! One definition of every metric serves as a reward and as a score:
//!
//! ```
//! use moim::metric::{MetricSettings, Metrics};
//!
//! // Without an encoder there is no BERTScore, and it is NaN.
//! let mut metrics = Metrics::new(MetricSettings::default(), None)?;
//! let label = "\"안 먹었다.\"가 옳다. 부사는 '안'으로 적는다.";
//! let scores = metrics.score(&[("\"안 먹었다.\"가 옳다. 부사는 '안'이다.", label)])?;
//! assert_eq!(scores[0].exact_match, 1.0);
//! assert!(scores[0].rouge1 > 0.3 && scores[0].bertscore.is_nan());
//! # anyhow::Ok(())
//! ```
//!
//! # Plan the memory of a run
//!
//! ```no_run
//! use std::path::Path;
//!
//! use moim::experiment::Experiment;
//! use moim::memory::{Inputs, Shapes, plan};
//!
//! let experiment = Experiment::load(Path::new("experiments/demo.toml"), &[])?;
//! let shapes = Shapes::read(&experiment);
//! if let Some(inputs) = Inputs::of(&experiment, &shapes) {
//!     let plan = plan(&inputs, Some(24 << 30));
//!     println!("training: {} bytes; {}", plan.training.total(), plan.verdict());
//! }
//! # anyhow::Ok(())
//! ```
//!
//! # Four bits
//!
//! ```
//! use moim::nf4::Nf4Matrix;
//!
//! let weights: Vec<f32> = (0..128).map(|i| (i as f32 / 64.0).sin()).collect();
//! let matrix = Nf4Matrix::quantize(&weights, 2, 64, false)?;
//! let restored = matrix.dequantize();
//! assert!(weights.iter().zip(&restored).all(|(a, b)| (a - b).abs() < 0.15));
//! # anyhow::Ok(())
//! ```
//!
//! `examples/` has three short programs: one scores a folder, one quantises a matrix, one takes ten
//! GRPO steps.

pub use moim_core;
pub use moim_engine;

pub use moim_core::{
    architecture, dataset, experiment, findings, health, journal, memory, metric, panics,
    regular_file, report, reward, run, score, text, watch,
};
pub use moim_engine::{
    check, device, encoder, execution, grpo, inference, kernel, model, nf4, optimizer, preflight,
    probe, rollout, session, setup, sft,
};
