//! The runs under an output directory.

use std::path::{Path, PathBuf};

use super::process::Liveness;
use super::state::RunState;

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
    /// Whether its process is there.
    pub liveness: Liveness,
}

/// Every run under `output_dir`, the latest name first within an experiment. A folder counts as a
/// run by its experiment.toml. What cannot be listed (a folder that vanishes while it is read, say)
/// is left out; an `output_dir` that is not there holds no runs.
pub fn list_runs(output_dir: &Path) -> Vec<RunEntry> {
    let mut runs = Vec::new();
    for experiment in folders(output_dir) {
        let mut of_experiment: Vec<RunEntry> = folders(&experiment)
            .into_iter()
            .filter(|path| path.join("experiment.toml").is_file())
            .map(|path| entry(&experiment, path))
            .collect();
        of_experiment.reverse();
        runs.append(&mut of_experiment);
    }
    runs
}

fn entry(experiment: &Path, path: PathBuf) -> RunEntry {
    let last_part = |path: &Path| {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let state = RunState::read(&path.join("run.json")).map_err(|error| format!("{error:#}"));
    let liveness = state.as_ref().map_or(Liveness::Unknown, RunState::liveness);
    RunEntry {
        experiment: last_part(experiment),
        name: last_part(&path),
        path,
        state,
        liveness,
    }
}

/// The visible folders in a folder, by name.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Experiment;
    use crate::run::{RunDir, RunStatus};

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

        let found: Vec<(String, String, Liveness)> = list_runs(outputs.path())
            .into_iter()
            .map(|run| (run.experiment, run.name, run.liveness))
            .collect();
        let expected = [
            ("a", "2", Liveness::Dead),
            ("a", "1", Liveness::Alive),
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
