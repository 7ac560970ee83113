//! What the answers of a run are scored with, and the scores that it keeps.

use std::path::Path;
use std::sync::Arc;

use moim_core::experiment::Experiment;
use moim_core::score::{KeptScores, Labels};

/// Labels and kept scores of a run. No encoder is ever loaded here.
pub(super) struct RunScores {
    /// The run's configuration.
    pub experiment: Experiment,
    /// The right answers.
    pub labels: Arc<Labels>,
    /// Reads the scores that the run keeps.
    pub kept: KeptScores,
}

impl RunScores {
    /// Reads what the configuration of a run names.
    ///
    /// # Errors
    /// In words: the configuration, the labels or the metrics cannot be read.
    pub fn load(run: &Path) -> Result<Self, String> {
        let path = run.join("experiment.toml");
        let experiment = Experiment::load(&path, &[]).map_err(|error| error.to_string())?;
        let labels =
            Labels::load(experiment.data.labels_path()).map_err(|error| error.to_string())?;
        let kept = KeptScores::new(&experiment, false).map_err(|error| format!("{error:#}"))?;
        Ok(Self {
            experiment,
            labels: Arc::new(labels),
            kept,
        })
    }
}
