//! The runs under an output directory.

use std::path::{Path, PathBuf};

use super::lock::LockOwner;
use super::process::{self, Liveness};
use super::state::{RunState, RunStatus};

/// A run that was found.
#[derive(Clone, Debug)]
pub struct RunEntry {
    /// The run directory.
    pub path: PathBuf,
    /// The experiment's name, from the path.
    pub experiment: String,
    /// The run's name, from the path.
    pub name: String,
    /// run.json, or why it cannot be read; a run that has not got that far has none yet.
    pub state: Result<RunState, String>,
    /// Whether its process exists; of a run without run.json, the process that holds its lock.
    pub liveness: Liveness,
    /// The last lines that a run wrote before it died or failed, for a list that shows them; else empty.
    pub last_words: Vec<String>,
}

impl RunEntry {
    /// Reads the run in a directory, whether or not it is one.
    pub fn read(path: &Path) -> Self {
        let name = |path: &Path| {
            let last = path.file_name().unwrap_or_default();
            last.to_string_lossy().into_owned()
        };
        let state = match RunState::read(&path.join("run.json")) {
            Ok(state) => Ok(state),
            Err(error) if is_absence(&error) => Err("it has no run.json".to_owned()),
            Err(error) => Err(format!("{error:#}")),
        };
        let liveness = match &state {
            Ok(state) => state.liveness(),
            Err(_) => holder(&path.join("lock")),
        };
        Self {
            experiment: path.parent().map(name).unwrap_or_default(),
            name: name(path),
            path: path.to_owned(),
            state,
            liveness,
            last_words: Vec::new(),
        }
    }

    /// What the run is doing.
    pub fn condition(&self) -> Condition {
        Condition::of(&self.state, self.liveness)
    }
}

/// What a run is doing, seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// Its process works.
    Running,
    /// Its process waits until it is resumed.
    Paused,
    /// Its trainer works, and run.json does not exist yet.
    Starting,
    /// run.json says that it runs, and its process has exited.
    Dead,
    /// It ended with an error.
    Failed,
    /// It was asked to stop; it can be resumed.
    Stopped,
    /// It reached its end.
    Finished,
    /// run.json says that it runs, on another machine.
    Elsewhere,
    /// run.json cannot be read.
    Unreadable,
}

impl Condition {
    /// The condition that follows from run.json and the process table.
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

    /// Whether a trainer of this machine works on it.
    pub const fn is_active_here(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Starting)
    }

    /// Whether a trainer works on it, on any machine.
    pub const fn is_active(self) -> bool {
        self.is_active_here() || matches!(self, Self::Elsewhere)
    }
}

fn is_absence(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::NotFound)
}

/// Whether the process that a lock names exists. Taking the lock would be certain, and would refuse a
/// trainer that takes it at that moment.
fn holder(lock: &Path) -> Liveness {
    let text = crate::regular_file::read_to_string(lock).unwrap_or_default();
    match serde_json::from_str::<LockOwner>(&text) {
        Ok(owner) => process::liveness(owner.pid, None, &owner.host),
        Err(_) => Liveness::Unknown,
    }
}

/// Every run under `output_dir`, the latest name first within an experiment. A folder counts as a
/// run by its experiment.toml. What cannot be listed (a folder that vanishes while it is read, say)
/// is left out; an `output_dir` that does not exist has no runs.
pub fn list_runs(output_dir: &Path) -> Vec<RunEntry> {
    let runs = run_folders(output_dir)
        .into_iter()
        .filter(|path| is_run(path));
    runs.map(|path| RunEntry::read(&path)).collect()
}

/// Whether a folder is a run directory.
pub fn is_run(path: &Path) -> bool {
    path.join("experiment.toml").is_file()
}

/// The folders under `output_dir` that can be runs, the latest name first within an experiment;
/// whether one is a run, [`is_run`] checks.
pub fn run_folders(output_dir: &Path) -> Vec<PathBuf> {
    let experiments = folders(output_dir).into_iter();
    experiments
        .flat_map(|experiment| folders(&experiment).into_iter().rev())
        .collect()
}

/// The visible folders in a folder, by name.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let is_folder = |entry: &std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if !kind.is_symlink() => kind.is_dir(),
        _ => entry.path().is_dir(),
    };
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .filter(is_folder)
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Experiment;
    use crate::run::{RunDir, RunLock, RunStatus};

    #[test]
    fn runs_are_found_with_their_state() {
        let outputs = tempfile::tempdir().unwrap();
        assert!(list_runs(&outputs.path().join("absent")).is_empty());
        let create = |experiment: &str, name: &str| {
            RunDir::create(
                outputs.path(),
                experiment,
                Some(name),
                &Experiment::default(),
            )
            .unwrap()
        };
        let alive = create("a", "1");
        RunState::begin(alive.id(), "cpu")
            .save(&alive.run_json())
            .unwrap();
        let dead = create("a", "2");
        let mut state = RunState::begin(dead.id(), "cpu");
        state.process_start = Some(1);
        state.save(&dead.run_json()).unwrap();
        let finished = create("b", "1");
        let mut state = RunState::begin(finished.id(), "cpu");
        state.state = RunStatus::Finished;
        state.save(&finished.run_json()).unwrap();
        create("b", "0");
        std::fs::create_dir(outputs.path().join("b/no run")).unwrap();
        let starting = create("b", "2");
        let _lock = RunLock::acquire(&starting.lock()).unwrap();

        let found: Vec<(String, String, Liveness)> = list_runs(outputs.path())
            .into_iter()
            .map(|run| (run.experiment, run.name, run.liveness))
            .collect();
        let expected = [
            ("a", "2", Liveness::Dead),
            ("a", "1", Liveness::Alive),
            ("b", "2", Liveness::Alive),
            ("b", "1", Liveness::Ended),
            ("b", "0", Liveness::Unknown),
        ];
        assert_eq!(
            found,
            expected.map(|(experiment, name, liveness)| (
                experiment.to_owned(),
                name.to_owned(),
                liveness
            ))
        );
    }
}
