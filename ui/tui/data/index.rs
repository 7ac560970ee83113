//! The experiment files and the runs there are.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use moim_core::experiment::{Experiment, Fault};
pub use moim_core::run::{Condition, RunEntry};

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
    pub runs: Vec<Arc<RunEntry>>,
    /// Folders and files that could not be read, as text.
    pub problems: Vec<String>,
}

/// A file of the experiments folder.
#[derive(Clone, Debug)]
pub struct ExperimentFile {
    /// Its path.
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
