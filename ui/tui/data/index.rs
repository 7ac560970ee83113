//! The experiment files and the runs there are.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use moim_core::experiment::{Experiment, Fault};
use moim_core::run::{Liveness, RunState, RunStatus};

/// Every experiment file and every run.
#[derive(Clone, Debug, Default)]
pub struct Index {
    /// The folder that is looked into for experiments.
    pub experiments_dir: PathBuf,
    /// The folder that is looked into for runs.
    pub output_dir: PathBuf,
    /// By name.
    pub experiments: Vec<Arc<ExperimentFile>>,
    /// The one that was started last first.
    pub runs: Vec<Arc<RunSummary>>,
    /// Folders and files that could not be read, in words.
    pub problems: Vec<String>,
}

/// A file of the experiments folder.
#[derive(Clone, Debug)]
pub struct ExperimentFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its name without `.toml`.
    pub name: String,
    /// When it was last written.
    pub modified: Option<Timestamp>,
    /// The comment at its head, line by line without `#`.
    pub description: Vec<String>,
    /// Its content.
    pub text: Arc<str>,
    /// What it says, or everything that is wrong with it.
    pub experiment: Result<Arc<Experiment>, Vec<Fault>>,
}

/// A run directory as run.json tells it.
#[derive(Clone, Debug)]
pub struct RunSummary {
    /// The run directory.
    pub path: PathBuf,
    /// The experiment's name, from the path.
    pub experiment: String,
    /// The run's name, from the path.
    pub name: String,
    /// run.json, or why it cannot be read.
    pub state: Result<RunState, String>,
    /// Whether its process is there.
    pub liveness: Liveness,
    /// The last lines of log.txt where the run is dead or failed, else empty.
    pub last_words: Vec<String>,
}

/// What a run is doing, seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    Running,
    Paused,
    /// Its trainer is at work and run.json is not there yet.
    Starting,
    /// It says that it runs, and its process is gone.
    Dead,
    Failed,
    Stopped,
    Finished,
    /// It says that it runs, on another machine.
    Elsewhere,
    /// run.json cannot be read.
    Unreadable,
}

impl Condition {
    /// The condition that run.json and the process table come to.
    pub fn of(state: &Result<RunState, String>, liveness: Liveness) -> Self {
        let Ok(state) = state else {
            // Without run.json it is the lock that names the trainer.
            return match liveness {
                Liveness::Alive => Self::Starting,
                _ => Self::Unreadable,
            };
        };
        match (state.state, liveness) {
            (RunStatus::Finished, _) => Self::Finished,
            (RunStatus::Stopped, _) => Self::Stopped,
            (RunStatus::Failed, _) => Self::Failed,
            (_, Liveness::Dead | Liveness::Ended) => Self::Dead,
            (_, Liveness::Unknown) => Self::Elsewhere,
            (RunStatus::Paused, Liveness::Alive) => Self::Paused,
            (RunStatus::Running, Liveness::Alive) => Self::Running,
        }
    }

    /// One word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Starting => "starting",
            Self::Dead => "dead",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Finished => "finished",
            Self::Elsewhere => "elsewhere",
            Self::Unreadable => "unreadable",
        }
    }

    /// Whether a trainer of this machine is at work on it.
    pub const fn is_active_here(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Starting)
    }

    /// Whether a trainer is at work on it, on whatever machine.
    pub const fn is_active(self) -> bool {
        self.is_active_here() || matches!(self, Self::Elsewhere)
    }
}

impl RunSummary {
    /// What the run is doing.
    pub fn condition(&self) -> Condition {
        Condition::of(&self.state, self.liveness)
    }
}
