//! run.json: what a run is and how far it has come, for whoever looks.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::checkpoints::SavePoint;
use super::process::{self, Liveness, host_name};
use super::publish::{WriteError, publish};

/// What a run is doing, by its own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// It works.
    Running,
    /// It waits for `control/resume`.
    Paused,
    /// It was asked to stop, saved and ended; it can be resumed.
    Stopped,
    /// It came to its end.
    Finished,
    /// It ended by an error, which `message` tells.
    Failed,
}

impl RunStatus {
    /// The word in run.json.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Finished => "finished",
            Self::Failed => "failed",
        }
    }

    /// Whether no process should be behind the run any more.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Stopped | Self::Finished | Self::Failed)
    }
}

impl std::fmt::Display for RunStatus {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// The content of run.json. Fields that a later version adds are ignored here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// `<experiment>/<run>`.
    pub id: String,
    /// What the run is doing.
    pub state: RunStatus,
    /// The trainer's process.
    pub pid: u32,
    /// When that process started, in clock ticks since boot, where the system tells; keeps a later
    /// process with the same id apart.
    #[serde(default)]
    pub process_start: Option<u64>,
    /// The machine.
    pub host: String,
    /// The device in use, e.g. `cuda:0`.
    #[serde(default)]
    pub device: String,
    /// Versions by program, e.g. `moim`.
    #[serde(default)]
    pub versions: BTreeMap<String, String>,
    /// BLAKE3 by input, e.g. `model`, `data.train`.
    #[serde(default)]
    pub fingerprints: BTreeMap<String, String>,
    /// When the run first started.
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    pub started: Timestamp,
    /// When this file was last written.
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    pub updated: Timestamp,
    /// Optimizer steps taken.
    #[serde(default)]
    pub step: usize,
    /// Optimizer steps in all; 0 while unknown.
    #[serde(default)]
    pub total_steps: usize,
    /// The epoch under way, from 1; 0 before training.
    #[serde(default)]
    pub epoch: usize,
    /// The last save point.
    #[serde(default)]
    pub latest_checkpoint: Option<SavePoint>,
    /// What there is to say, e.g. why the run failed.
    #[serde(default)]
    pub message: Option<String>,
}

fn write_time<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

fn read_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map_err(serde::de::Error::custom)
}

impl RunState {
    /// The state of a run that this process begins now.
    pub fn begin(id: impl Into<String>, device: impl Into<String>) -> Self {
        let now = Timestamp::now();
        Self {
            id: id.into(),
            state: RunStatus::Running,
            pid: std::process::id(),
            process_start: process::start_ticks(std::process::id()),
            host: host_name(),
            device: device.into(),
            versions: BTreeMap::from([("moim".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]),
            fingerprints: BTreeMap::new(),
            started: now,
            updated: now,
            step: 0,
            total_steps: 0,
            epoch: 0,
            latest_checkpoint: None,
            message: None,
        }
    }

    /// Makes the state that of this process, which resumes the run.
    pub fn take_over(&mut self, device: impl Into<String>) {
        let own = Self::begin(std::mem::take(&mut self.id), device);
        self.id = own.id;
        self.state = RunStatus::Running;
        self.pid = own.pid;
        self.process_start = own.process_start;
        self.host = own.host;
        self.device = own.device;
        self.versions = own.versions;
        self.message = None;
    }

    /// Reads run.json.
    ///
    /// # Errors
    /// The file cannot be read or is not a run's state, with line and column.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not the state of a run", path.display()))
    }

    /// Sets `updated` and publishes the state as run.json.
    ///
    /// # Errors
    /// Names the file.
    pub fn save(&mut self, path: &Path) -> Result<(), WriteError> {
        self.updated = Timestamp::now();
        let json = serde_json::to_vec_pretty(self).map_err(std::io::Error::from);
        let mut json = json.map_err(WriteError::on("write", path))?;
        json.push(b'\n');
        publish(path, &json)
    }

    /// Whether the trainer's process is still there.
    pub fn liveness(&self) -> Liveness {
        if self.state.is_over() {
            return Liveness::Ended;
        }
        process::liveness(self.pid, self.process_start, &self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_survives_being_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        let mut state = RunState::begin("demo/first", "cpu");
        state.latest_checkpoint = Some(SavePoint::Epoch(2));
        state
            .fingerprints
            .insert("model".to_owned(), "abc".to_owned());
        state.save(&path).unwrap();
        assert_eq!(RunState::read(&path).unwrap(), state);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("\"state\": \"running\"")
                && text.contains("\"latest_checkpoint\": \"epoch_2\""),
            "{text}"
        );
        assert_eq!(state.liveness(), Liveness::Alive);
        state.state = RunStatus::Finished;
        assert_eq!(state.liveness(), Liveness::Ended);
    }

    #[test]
    fn a_resumed_run_belongs_to_the_new_process() {
        let mut state = RunState::begin("demo/first", "cpu");
        let started = state.started;
        state.pid = 1;
        state.host = "elsewhere".to_owned();
        state.state = RunStatus::Failed;
        state.message = Some("killed".to_owned());
        state.step = 7;
        state.take_over("cuda:0");
        assert_eq!(
            (state.pid, state.step, state.started),
            (std::process::id(), 7, started)
        );
        assert_eq!(
            (state.id.as_str(), state.device.as_str()),
            ("demo/first", "cuda:0")
        );
        assert_eq!(
            (state.state, state.message.as_deref()),
            (RunStatus::Running, None)
        );
    }

    #[test]
    fn a_broken_file_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        std::fs::write(&path, "{\n\"id\": ").unwrap();
        let error = format!("{:#}", RunState::read(&path).unwrap_err());
        assert!(
            error.contains("run.json") && error.contains("line 2"),
            "{error}"
        );
    }
}
