//! run.json: what a run is and its progress, for any process that reads it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::checkpoints::SavePoint;
use super::events::{Event, EventKind};
use super::process::{self, Liveness, host_name};
use super::publish::{WriteError, publish};

/// What a run is doing, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// It is running.
    Running,
    /// It waits for `control/resume`.
    Paused,
    /// It was asked to stop, saved and ended; it can be resumed.
    Stopped,
    /// It reached its end.
    Finished,
    /// It ended with an error, which is in `message`.
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

    /// Whether the run should no longer have a process.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Stopped | Self::Finished | Self::Failed)
    }
}

impl std::fmt::Display for RunStatus {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// The answers of a run that rank first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestCheckpoint {
    /// The answer file, e.g. `inference_epoch3.json`.
    pub file: String,
    /// Its Final Mean.
    pub final_mean: f64,
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
    /// When that process started, in clock ticks since boot, if the system says so; distinguishes it
    /// from a later process with the same id.
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
    /// The current epoch, from 1; 0 before training.
    #[serde(default)]
    pub epoch: usize,
    /// The share of the epoch that is done, from 0 to 1; `None` before the first step.
    #[serde(default)]
    pub epoch_fraction: Option<f64>,
    /// Mean reward of the last step; `None` before it, or where it was not finite.
    #[serde(default)]
    pub reward: Option<f64>,
    /// Steps taken per second of training so far, save points and validation included.
    #[serde(default)]
    pub steps_per_second: Option<f64>,
    /// The answer file that ranks first; `None` while nothing is ranked.
    #[serde(default)]
    pub best: Option<BestCheckpoint>,
    /// The last save point.
    #[serde(default)]
    pub latest_checkpoint: Option<SavePoint>,
    /// A message, e.g. why the run failed.
    #[serde(default)]
    pub message: Option<String>,
}

pub(super) fn write_time<S: Serializer>(
    time: &Timestamp,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

pub(super) fn read_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map_err(serde::de::Error::custom)
}

impl RunState {
    /// The state of a run that this process starts now.
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
            epoch_fraction: None,
            reward: None,
            steps_per_second: None,
            best: None,
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

    /// Forgets the progress of the run, so that [`RunState::take_event`] can follow it again.
    pub fn forget_progress(&mut self) {
        self.step = 0;
        self.epoch = 0;
        self.epoch_fraction = None;
        self.reward = None;
        self.steps_per_second = None;
        self.best = None;
    }

    /// Follows the progress of the run by one of its events: the step, epoch, reward and speed of a `step`, the
    /// best answers of a `score`. The state depends on the events only, so that of a resumed run is right once
    /// it was shown the events that were kept.
    pub fn take_event(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Step(step) => {
                let metric = |name: &str| {
                    let metric = step.metrics.get(name);
                    metric.filter(|number| number.is_finite())
                };
                (self.step, self.total_steps) = (step.step, step.total_steps);
                self.reward = metric("reward");
                if let Some(epochs) = metric("epoch") {
                    // 1.0 is the end of the first epoch, not the start of the second.
                    self.epoch = epochs.ceil() as usize;
                    self.epoch_fraction = Some(epochs - (epochs.ceil() - 1.0).max(0.0));
                }
                self.steps_per_second = metric("elapsed_seconds")
                    .filter(|seconds| *seconds > 0.0)
                    .map(|seconds| self.step as f64 / seconds);
            }
            EventKind::Score(score) => {
                // The first releases wrote no `best_final_mean`; that of the file itself was always written.
                let own = score.final_mean.filter(|_| score.best == score.file);
                let of_best = score.best_final_mean.filter(|mean| mean.is_finite());
                let mean = of_best.or(own).filter(|mean| mean.is_finite());
                if let (Some(file), Some(final_mean)) = (score.best.clone(), mean) {
                    self.best = Some(BestCheckpoint { file, final_mean });
                }
            }
            _ => {}
        }
    }

    /// Reads run.json.
    ///
    /// # Errors
    /// The file cannot be read or is not a run's state, with line and column.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = crate::regular_file::read(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| {
            format!(
                "{} is not the state of a run: put a copy back, or remove it and resume the run, which rebuilds it \
                 from events.jsonl but can no longer check that the inputs are those it started with",
                path.display()
            )
        })
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

    /// Whether the trainer's process still exists.
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
    use crate::run::{Metrics, Score, Step};

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
    fn how_far_a_run_has_come_follows_from_its_events() {
        let mut state = RunState::begin("demo/first", "cpu");
        let step = |step: usize, epoch: f64, reward: f64| {
            Event::new(Step {
                step,
                total_steps: 8,
                metrics: Metrics::default()
                    .with("epoch", epoch)
                    .with("reward", reward)
                    .with("elapsed_seconds", 2.0 * step as f64),
            })
        };
        let score = |file: &str, mean: f64, best: &str| Score {
            file: Some(file.to_owned()),
            final_mean: Some(mean),
            best: Some(best.to_owned()),
            ..Score::default()
        };
        state.take_event(&Event::new(score("a.json", 0.5, "a.json")));
        state.take_event(&step(1, 0.25, 0.75));
        assert_eq!((state.step, state.total_steps, state.epoch), (1, 8, 1));
        assert_eq!(
            (state.epoch_fraction, state.reward),
            (Some(0.25), Some(0.75))
        );
        assert_eq!(state.steps_per_second, Some(0.5));
        state.take_event(&step(4, 1.0, f64::NAN));
        assert_eq!((state.epoch, state.epoch_fraction), (1, Some(1.0)));
        assert_eq!(state.reward, None);
        let best = |file: &str, final_mean: f64| {
            let file = file.to_owned();
            Some(BestCheckpoint { file, final_mean })
        };
        state.take_event(&Event::new(score("b.json", 0.4, "a.json")));
        assert_eq!(state.best, best("a.json", 0.5));
        // The best may be a file that the run did not write itself.
        let other = Score {
            best_final_mean: Some(0.9),
            ..score("b.json", 0.4, "other.json")
        };
        state.take_event(&Event::new(other));
        assert_eq!(state.best, best("other.json", 0.9));
        state.forget_progress();
        assert_eq!((state.step, state.reward, &state.best), (0, None, &None));
    }

    #[test]
    fn a_state_of_an_earlier_version_is_read() {
        let old = r#"{"id": "demo/first", "state": "running", "pid": 1, "host": "vm",
            "started": "2026-11-22T03:33:24Z", "updated": "2026-11-22T03:33:24Z", "step": 3}"#;
        let state: RunState = serde_json::from_str(old).unwrap();
        assert_eq!((state.step, state.reward, state.best), (3, None, None));
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
