//! The run directory and the names in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::checkpoints::SavePoint;
use super::publish::{WriteError, clean_up, hidden_beside, publish, sync_folder_of};
use crate::experiment::Experiment;
use crate::experiment::is_folder_name;

/// `outputs/<experiment>/<run>`: the files of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes a new run directory and writes experiment.toml into it, before anything else. Without
    /// `run_name` the name is the local time, with `-2` and so on where that is taken.
    ///
    /// # Errors
    /// A `run_name` that is taken (an existing run is never written over), a name that cannot be a
    /// folder, or a folder that cannot be made, by name.
    pub fn create(
        output_dir: &Path,
        experiment_name: &str,
        run_name: Option<&str>,
        experiment: &Experiment,
    ) -> anyhow::Result<Self> {
        for name in [Some(experiment_name), run_name].into_iter().flatten() {
            if !is_folder_name(name) {
                bail!("{name:?} cannot be the name of a folder: use no slash and no leading dot");
            }
        }
        let parent = output_dir.join(experiment_name);
        fs::create_dir_all(&parent).map_err(WriteError::on("create the folder", &parent))?;
        // Written next to its final path: a run that exists can be resumed, however early it was killed.
        let staging = hidden_beside(&parent.join(run_name.unwrap_or("run")), "beginning");
        let made = Self::fill(&staging, experiment).and_then(|()| match run_name {
            Some(name) => Self::move_to_name(&staging, &parent, name),
            None => {
                let stamp = jiff::Zoned::now().strftime("%Y-%m-%d_%H-%M-%S").to_string();
                Ok(Self::move_to_first_free(&staging, &parent, &stamp)?)
            }
        });
        if made.is_err() {
            // The first error is the one worth telling.
            let _ = fs::remove_dir_all(&staging);
        }
        let run = Self { path: made? };
        sync_folder_of(&run.path).map_err(WriteError::on("sync", &parent))?;
        Ok(run)
    }

    fn fill(staging: &Path, experiment: &Experiment) -> anyhow::Result<()> {
        let run = Self {
            path: staging.to_owned(),
        };
        for folder in [staging, &run.control(), &run.infer_results(), &run.scores()] {
            fs::create_dir(folder).map_err(WriteError::on("create the folder", folder))?;
        }
        Ok(publish(
            &run.experiment_toml(),
            experiment.to_toml().as_bytes(),
        )?)
    }

    fn move_to_name(staging: &Path, parent: &Path, name: &str) -> anyhow::Result<PathBuf> {
        let path = parent.join(name);
        match fs::rename(staging, &path) {
            Ok(()) => Ok(path),
            Err(error) if is_taken(&error) => bail!(
                "the run {} exists and is not written over; resume it with --resume {}, choose \
                 another run.name, or leave run.name out",
                path.display(),
                path.display()
            ),
            Err(error) => Err(WriteError::new("create the folder", &path, error).into()),
        }
    }

    fn move_to_first_free(
        staging: &Path,
        parent: &Path,
        stamp: &str,
    ) -> Result<PathBuf, WriteError> {
        let mut number = 1;
        loop {
            let name = if number == 1 {
                stamp.to_owned()
            } else {
                format!("{stamp}-{number}")
            };
            let path = parent.join(name);
            match fs::rename(staging, &path) {
                Ok(()) => return Ok(path),
                // Moving the folder is the test, so two runs of one second cannot share it.
                Err(error) if is_taken(&error) => number += 1,
                Err(error) => return Err(WriteError::new("create the folder", &path, error)),
            }
        }
    }

    /// An existing run directory.
    ///
    /// # Errors
    /// There is no folder, or it holds no experiment.toml.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let run = Self {
            path: path.to_owned(),
        };
        let is_folder = fs::metadata(path)
            .with_context(|| format!("cannot open the run {}", path.display()))?
            .is_dir();
        if !is_folder || !run.experiment_toml().is_file() {
            bail!(
                "{} is no run directory (it lacks experiment.toml); give a folder like \
                 outputs/<experiment>/<run>",
                path.display()
            );
        }
        Ok(run)
    }

    /// Puts right what a killed trainer left half-written. Only for the holder of the lock.
    ///
    /// # Errors
    /// A leftover that cannot be moved or removed, by name.
    pub fn clean_up(&self) -> anyhow::Result<()> {
        clean_up(&self.path)?;
        for folder in [self.infer_results(), self.scores(), self.control()] {
            // A trainer killed while it made the directory may not have come to this one.
            fs::create_dir_all(&folder).map_err(WriteError::on("create the folder", &folder))?;
            clean_up(&folder)?;
        }
        Ok(())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's name: the last part of the path.
    pub fn name(&self) -> String {
        self.path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// `<experiment>/<run>`.
    pub fn id(&self) -> String {
        match self.path.parent().and_then(Path::file_name) {
            Some(experiment) => format!("{}/{}", experiment.to_string_lossy(), self.name()),
            None => self.name(),
        }
    }

    /// The resolved configuration.
    pub fn experiment_toml(&self) -> PathBuf {
        self.path.join("experiment.toml")
    }

    /// Reads the resolved configuration.
    ///
    /// # Errors
    /// Those of [`Experiment::load`].
    pub fn experiment(&self) -> Result<Experiment, crate::experiment::ExperimentError> {
        Experiment::load(&self.experiment_toml(), &[])
    }

    /// The state of the run; see [`RunState`](super::RunState).
    pub fn run_json(&self) -> PathBuf {
        self.path.join("run.json")
    }

    /// What happened; see [`EventLog`](super::EventLog).
    pub fn events(&self) -> PathBuf {
        self.path.join("events.jsonl")
    }

    /// Sampled completions; see [`CompletionLog`](super::CompletionLog).
    pub fn completions(&self) -> PathBuf {
        self.path.join("completions.jsonl")
    }

    /// What the trainer is doing right now; see [`Progress`](super::Progress). There while it works.
    pub fn progress(&self) -> PathBuf {
        self.path.join("progress.json")
    }

    /// What the run takes of its machine; see [`SystemLog`](super::SystemLog).
    pub fn system(&self) -> PathBuf {
        self.path.join("system.jsonl")
    }

    /// Requests; see [`Control`](super::Control).
    pub fn control(&self) -> PathBuf {
        self.path.join("control")
    }

    /// The lock; see [`RunLock`](super::RunLock).
    pub fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// The text log.
    pub fn log(&self) -> PathBuf {
        self.path.join("log.txt")
    }

    /// Adapter and trainer state of a save point: `epoch_3`.
    pub fn checkpoint(&self, point: SavePoint) -> PathBuf {
        self.path.join(point.to_string())
    }

    /// The folder of the answer files.
    pub fn infer_results(&self) -> PathBuf {
        self.path.join("infer_results")
    }

    /// The answers of a save point: `infer_results/inference_epoch3.json`.
    pub fn answers(&self, point: SavePoint) -> PathBuf {
        self.infer_results().join(point.answers_file_name())
    }

    /// The folder of the score files.
    pub fn scores(&self) -> PathBuf {
        self.path.join("scores")
    }

    /// The per-item scores of a save point: `scores/inference_epoch3.json`.
    pub fn score_file(&self, point: SavePoint) -> PathBuf {
        self.scores().join(point.answers_file_name())
    }
}

/// Whether a folder could not be moved because something stands in its place; an empty folder gives way.
fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AlreadyExists
            | io::ErrorKind::DirectoryNotEmpty
            | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn experiment() -> Experiment {
        let mut experiment = Experiment::default();
        experiment.model.path = "m".into();
        experiment.data.train = "t".into();
        experiment.data.eval = "e".into();
        experiment
    }

    #[test]
    fn a_new_run_has_its_configuration_and_its_folders() {
        let outputs = tempfile::tempdir().unwrap();
        let run = RunDir::create(outputs.path(), "demo", Some("first"), &experiment()).unwrap();
        assert_eq!(run.path(), outputs.path().join("demo/first"));
        assert_eq!(run.id(), "demo/first");
        assert_eq!(run.experiment().unwrap(), experiment());
        assert!(run.control().is_dir() && run.infer_results().is_dir() && run.scores().is_dir());
        assert_eq!(
            run.answers(SavePoint::Epoch(3)),
            run.path().join("infer_results/inference_epoch3.json")
        );
        assert_eq!(RunDir::open(run.path()).unwrap(), run);
        std::fs::create_dir(run.path().join(".epoch_1.writing-1-2-3")).unwrap();
        run.clean_up().unwrap();
        assert!(!run.path().join(".epoch_1.writing-1-2-3").exists());
    }

    #[test]
    fn an_existing_run_is_never_written_over() {
        let outputs = tempfile::tempdir().unwrap();
        let create = |name| RunDir::create(outputs.path(), "demo", name, &experiment());
        create(Some("first")).unwrap();
        let error = create(Some("first")).unwrap_err();
        assert!(
            error.to_string().contains("demo/first exists")
                && error.to_string().contains("--resume"),
            "{error}"
        );
        let stamped: Vec<String> = (0..3).map(|_| create(None).unwrap().name()).collect();
        assert!(
            stamped[0] < stamped[1] && stamped[1] < stamped[2],
            "{stamped:?}"
        );
        let staging = outputs.path().join("demo/.staging");
        std::fs::create_dir(&staging).unwrap();
        let parent = outputs.path().join("demo");
        let taken = RunDir::move_to_first_free(&staging, &parent, &stamped[0]).unwrap();
        assert!(
            taken
                .to_string_lossy()
                .rsplit_once('-')
                .is_some_and(|(_, number)| number.parse::<u32>().is_ok())
        );
    }

    #[test]
    fn an_empty_folder_that_a_kill_left_is_no_run_and_hinders_none() {
        let outputs = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(outputs.path().join("demo/first")).unwrap();
        let run = RunDir::create(outputs.path(), "demo", Some("first"), &experiment()).unwrap();
        assert!(run.experiment_toml().is_file() && run.control().is_dir());
        let there = std::fs::read_dir(outputs.path().join("demo")).unwrap();
        assert_eq!(there.count(), 1, "something was left next to the run");
    }

    #[test]
    fn unusable_places_are_named() {
        let outputs = tempfile::tempdir().unwrap();
        let in_the_way = outputs.path().join("file");
        std::fs::write(&in_the_way, "").unwrap();
        let error = RunDir::create(&in_the_way, "demo", None, &experiment()).unwrap_err();
        assert!(
            error.to_string().contains("cannot create the folder")
                && error.to_string().contains("file/demo"),
            "{error}"
        );
        // Nobody, not even root, can make a folder in /proc.
        let error = RunDir::create(Path::new("/proc"), "demo", None, &experiment()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("cannot create the folder /proc/demo"),
            "{error}"
        );
        for (experiment_name, run_name) in [("../up", None), ("demo", Some("a/b")), ("", None)] {
            let error = RunDir::create(outputs.path(), experiment_name, run_name, &experiment())
                .unwrap_err();
            assert!(
                error.to_string().contains("cannot be the name of a folder"),
                "{error}"
            );
        }
        assert!(
            RunDir::open(outputs.path())
                .unwrap_err()
                .to_string()
                .contains("no run directory")
        );
        let error = RunDir::open(&outputs.path().join("absent")).unwrap_err();
        assert!(error.to_string().contains("absent"), "{error}");
    }
}
