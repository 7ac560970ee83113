//! Group-relative policy optimization: the recipe ([`trainer`]) and its parts.
//!
//! [`advantage`], [`loss`], [`schedule`] and [`order`] are pure arithmetic;
//! [`update`] is one optimizer step; [`checkpoint`] is what makes a run resumable;
//! [`prepared`] is what an experiment names, loaded, and [`workplace`] what a run reads and writes.

mod activity;
pub mod advantage;
pub mod checkpoint;
mod gather;
pub mod generation;
mod journal;
pub mod loss;
pub mod metrics;
pub mod observe;
pub mod order;
pub mod parts;
mod pass;
pub mod prepared;
mod recovery;
mod sampled;
mod save_points;
pub mod schedule;
mod telemetry;
pub mod trainer;
pub mod update;
mod watchdog;
pub mod workplace;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

pub use observe::{Observer, Phase, Teller};
pub use prepared::{Groundwork, Prepared};
pub use trainer::Ending;
pub use workplace::Workplace;

use moim_core::experiment::Experiment;
use moim_core::run::{RunDir, RunState, RunStatus, checkpoints, file_fingerprint};
use telemetry::Telemetry;
use trainer::Trainer;

/// The key of experiment.toml among a run's fingerprints.
const EXPERIMENT: &str = "experiment.toml";

/// Trains an experiment in a run directory of its own, from the start.
///
/// # Errors
/// Nothing can be loaded or written, or training fails; run.json then says `failed` and why.
pub fn train(
    prepared: Prepared,
    name: &str,
    observer: &mut dyn Observer,
) -> Result<(Workplace, Ending)> {
    let run = &prepared.experiment.run;
    let directory = RunDir::create(
        &run.output_dir,
        name,
        run.name.as_deref(),
        &prepared.experiment,
    )?;
    let mut work = Workplace::open(prepared, directory)?;
    let ending = run_to_the_end(&mut work, None, observer)?;
    Ok((work, ending))
}

/// Goes on with a run from its latest save point (from the start where there is none).
///
/// # Errors
/// As [`train`]; also inputs that changed since the run began.
pub fn resume(
    prepared: Prepared,
    run: RunDir,
    observer: &mut dyn Observer,
) -> Result<(Workplace, Ending)> {
    // First what a kill left is put right: a save point that was being replaced may come back.
    let mut work = Workplace::open(prepared, run)?;
    let found = save_points(&work.run)?;
    for (directory, problem) in &found.damaged {
        work.set_aside(directory, problem, found.whole.as_deref())?;
    }
    if found.whole.is_none() {
        work.begin_anew(observer)?;
    }
    let ending = run_to_the_end(&mut work, found.whole.as_deref(), observer)?;
    Ok((work, ending))
}

/// The save point that [`resume`] goes on from; `None` where it begins anew.
///
/// # Errors
/// The run directory cannot be listed.
pub fn latest_save_point(run: &RunDir) -> Result<Option<PathBuf>> {
    Ok(save_points(run)?.whole)
}

fn save_points(run: &RunDir) -> Result<checkpoint::Latest> {
    let saved: Vec<_> = checkpoints(run.path())?
        .into_iter()
        .map(|checkpoint| checkpoint.path)
        .collect();
    checkpoint::latest(&saved)
}

/// The configuration that a run directory was started with.
///
/// # Errors
/// experiment.toml is absent, not valid, or no longer what it was when the run began.
pub fn experiment_of_run(run: &Path) -> Result<(RunDir, Experiment)> {
    let directory = RunDir::open(run)?;
    // A file that lost its end may still be one, with defaults in place of what it said.
    if let Ok(state) = RunState::read(&directory.run_json())
        && let Some(known) = state.fingerprints.get(EXPERIMENT)
        && *known != file_fingerprint(&directory.experiment_toml())?
    {
        bail!(
            "{} has changed since this run began, so what it computed is not known any more; put a copy of it back \
             (other values of safe keys are given by --set), or start a new run",
            directory.experiment_toml().display()
        );
    }
    let experiment = directory
        .experiment()
        .with_context(|| directory.experiment_toml().display().to_string())?;
    Ok((directory, experiment))
}

fn run_to_the_end(
    work: &mut Workplace,
    from: Option<&Path>,
    observer: &mut dyn Observer,
) -> Result<Ending> {
    let mut telemetry = Telemetry::start(observer, work);
    let observer: &mut dyn Observer = &mut telemetry;
    let result = Trainer::new(work, observer).run(from);
    let result = result.map_err(|error| error.context(work.where_it_stands()));
    let (status, message) = match &result {
        Ok(Ending::Finished) => (RunStatus::Finished, None),
        Ok(Ending::Stopped) => (RunStatus::Stopped, None),
        Err(error) => (RunStatus::Failed, Some(format!("{error:#}"))),
    };
    // The first error is the one worth telling; a full disk may keep it from being written down.
    let ended = work.end(observer, status, message);
    let ending = result?;
    ended?;
    Ok(ending)
}
