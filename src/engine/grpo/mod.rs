//! Group-relative policy optimization: the recipe.
//!
//! `trainer.rs` is to be read top to bottom. [`group`] is what it passes from phase to phase,
//! [`advantage`] and [`loss`] are its arithmetic, [`learner`] is one optimizer step, [`metrics`] what a
//! step logs; [`order`] and [`schedule`] depend on the step number only. What a run reads and writes is
//! in [`session`](crate::session), how work is cut and retried in [`execution`](crate::execution).

pub mod advantage;
pub mod group;
pub mod learner;
pub mod loss;
pub mod metrics;
pub mod order;
pub mod schedule;
mod trainer;

use std::path::Path;

use anyhow::Result;

use crate::session::{Ending, Ready, RunContext};
use moim_core::journal::Observer;
use moim_core::run::{RunDir, RunStatus};

/// Trains an experiment in a new run directory, from the start.
///
/// # Errors
/// Something cannot be loaded or written, or training fails; run.json then has the status `failed` and
/// the reason.
pub fn train(
    ready: Ready,
    name: &str,
    observer: Box<dyn Observer>,
) -> Result<(RunContext, Ending)> {
    let mut run = RunContext::create(ready, name, observer)?;
    let ending = run_to_the_end(&mut run, None)?;
    Ok((run, ending))
}

/// Resumes a run from its latest save point (from the start if there is none).
///
/// # Errors
/// As [`train`]; also inputs that have changed since the run started.
pub fn resume(
    ready: Ready,
    directory: RunDir,
    observer: Box<dyn Observer>,
) -> Result<(RunContext, Ending)> {
    let (mut run, save_point) = RunContext::resume(ready, directory, observer)?;
    let ending = run_to_the_end(&mut run, save_point.as_deref())?;
    Ok((run, ending))
}

fn run_to_the_end(run: &mut RunContext, resume_from: Option<&Path>) -> Result<Ending> {
    let telemetry = run.start_telemetry();
    let result = trainer::train(run, resume_from);
    let result = result.map_err(|error| error.context(run.where_it_stands()));
    let (status, message) = match &result {
        Ok(Ending::Finished) => (RunStatus::Finished, None),
        Ok(Ending::Stopped) => (RunStatus::Stopped, None),
        Err(error) => (RunStatus::Failed, Some(format!("{error:#}"))),
    };
    let ended = run.end(status, message);
    telemetry.stop(&mut run.journal);
    // The first error is the important one; a full disk may have kept it from being written.
    let ending = result?;
    ended?;
    Ok(ending)
}
