//! A run with its tensors, whatever recipe trains it: what an experiment names, loaded; the run's
//! directory, journal and progress; save points, validation and resuming.

pub mod checkpoint;
mod context;
mod loaded;
mod recovery;
mod save_points;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

pub use context::RunContext;
pub use loaded::{Loaded, Ready};

use moim_core::experiment::Experiment;
use moim_core::run::{RunDir, RunState, checkpoints, file_fingerprint};

/// The key of experiment.toml among a run's fingerprints.
const EXPERIMENT: &str = "experiment.toml";

/// How a run ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All steps were taken.
    Finished,
    /// It was asked to stop, and saved first.
    Stopped,
}

/// The save point that a run would resume from; `None` if it would start over.
///
/// # Errors
/// The run directory cannot be listed.
pub fn latest_save_point(run: &RunDir) -> Result<Option<PathBuf>> {
    Ok(save_points_of(run)?.whole)
}

fn save_points_of(run: &RunDir) -> Result<checkpoint::Latest> {
    let saved: Vec<_> = checkpoints(run.path())?
        .into_iter()
        .map(|checkpoint| checkpoint.path)
        .collect();
    checkpoint::latest(&saved)
}

/// The configuration that a run directory was started with.
///
/// # Errors
/// experiment.toml is missing, not valid, or has changed since the run started.
pub fn experiment_of_run(run: &Path) -> Result<(RunDir, Experiment)> {
    let directory = RunDir::open(run)?;
    // A truncated file may still be valid, with defaults in place of what is missing.
    if let Ok(state) = RunState::read(&directory.run_json())
        && let Some(known) = state.fingerprints.get(EXPERIMENT)
        && *known != file_fingerprint(&directory.experiment_toml())?
    {
        bail!(
            "{} has changed since the run started, so what it computed is no longer known; restore a copy of it \
             (other values of safe keys are given by --set), or start a new run",
            directory.experiment_toml().display()
        );
    }
    let experiment = directory
        .experiment()
        .with_context(|| directory.experiment_toml().display().to_string())?;
    Ok((directory, experiment))
}
