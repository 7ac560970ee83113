//! Configurations compared: experiment files and runs.

use std::path::{Path, PathBuf};

use moim_core::experiment::Experiment;
use moim_core::run::{is_run, run_folders};

use crate::tui::data::Differences;

/// The runs under `output_dir` that compute the same as an experiment would, the latest first.
/// An experiment that is not valid has none.
pub(super) fn duplicates(experiment: &Path, output_dir: &Path) -> Vec<PathBuf> {
    let Ok(wanted) = read(experiment) else {
        return Vec::new();
    };
    let mut runs = run_folders(output_dir);
    runs.retain(|run| is_run(run) && read(run).is_ok_and(|run| computes_the_same(&wanted, &run)));
    runs
}

fn computes_the_same(experiment: &Experiment, run: &Experiment) -> bool {
    let mut experiment = experiment.clone();
    // A run writes down the day it began, where its experiment leaves the date open.
    if experiment.data.date_string.is_none() {
        experiment
            .data
            .date_string
            .clone_from(&run.data.date_string);
    }
    Experiment::differences_unsafe_on_resume(run, &experiment).is_empty()
}

/// What differs from the first configuration to each of the others. Paths are those of
/// experiment files or run directories.
pub(super) fn differences(paths: &[PathBuf]) -> Differences {
    let Some((first, others)) = paths.split_first() else {
        return Vec::new();
    };
    let baseline = read(first);
    let compared = others.iter().map(|path| {
        let differences = match (&baseline, read(path)) {
            (Ok(baseline), Ok(other)) => Ok(Experiment::differences(baseline, &other)),
            (Err(problem), _) => Err(problem.clone()),
            (_, Err(problem)) => Err(problem),
        };
        (path.clone(), differences)
    });
    compared.collect()
}

fn read(path: &Path) -> Result<Experiment, String> {
    let file = if path.is_dir() {
        path.join("experiment.toml")
    } else {
        path.to_owned()
    };
    Experiment::load(&file, &[]).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use moim_core::run::RunDir;

    use super::*;

    fn experiment() -> Experiment {
        let mut experiment = Experiment::default();
        experiment.model.path = "m".into();
        experiment.data.train = "한국어.json".into();
        experiment.data.eval = "e".into();
        experiment
    }

    #[test]
    fn duplicates_differ_in_nothing_that_counts() {
        let folder = tempfile::tempdir().unwrap();
        let outputs = folder.path().join("outputs");
        let file = folder.path().join("a.toml");
        std::fs::write(&file, experiment().to_toml()).unwrap();
        let create = |name: &str, change: fn(&mut Experiment)| {
            let mut experiment = experiment();
            experiment.data.date_string = Some("22 Nov 2026".to_owned());
            change(&mut experiment);
            RunDir::create(&outputs, "a", Some(name), &experiment).unwrap();
        };
        create("1", |_| {});
        create("2", |run| run.run.name = Some("2".to_owned()));
        create("3", |run| run.run.seed = 7);
        create("4", |run| run.grpo.num_generations = 4);
        std::fs::write(outputs.join("a/4/experiment.toml"), "[grpo").unwrap();
        let names: Vec<String> = duplicates(&file, &outputs)
            .iter()
            .map(|run| run.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(names, ["2", "1"]);
        assert!(duplicates(&folder.path().join("absent.toml"), &outputs).is_empty());
    }

    #[test]
    fn the_first_is_compared_with_each_other_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        std::fs::write(&file, experiment().to_toml()).unwrap();
        let mut other = experiment();
        other.grpo.learning_rate = 1e-4;
        let run = RunDir::create(folder.path(), "a", Some("1"), &other).unwrap();
        let absent = folder.path().join("absent.toml");
        let found = differences(&[file.clone(), run.path().to_owned(), absent.clone()]);
        let keys: Vec<&str> = found[0]
            .1
            .as_ref()
            .unwrap()
            .iter()
            .map(|difference| difference.key.as_str())
            .collect();
        assert_eq!((found.len(), keys), (2, vec!["grpo.learning_rate"]));
        assert!(found[1].1.as_ref().unwrap_err().contains("absent.toml"));
        let found = differences(&[absent, file]);
        assert!(found[0].1.is_err());
        assert!(differences(&[]).is_empty());
    }
}
