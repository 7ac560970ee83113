//! A run while it is trained: what it loaded, where it writes, and how far it has come.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

use super::checkpoint::TrainerState;
use super::loaded::Ready;
use super::{EXPERIMENT, save_points_of};
use crate::execution::OomRetry;
use crate::inference::{Answered, answer_file};
use crate::preflight::Report;
use crate::setup::{self, Policy, Questions};
use moim_core::experiment::Experiment;
use moim_core::health::{Alarm, Severity};
use moim_core::journal::{
    Device, DeviceMemory, Journal, NONFINITE_REWARD, Observer, Phase, Telemetry,
};
use moim_core::memory::Sizes;
use moim_core::reward::RewardSet;
use moim_core::run::{
    Control, RunDir, RunLock, RunState, RunStatus, SavePoint, checkpoints, file_fingerprint,
    prune_checkpoints, publish,
};
use moim_core::score::{
    Labels, Leaderboard, Resampling, ScoreCache, Scorer, encoder_name, rank, render,
};

/// A loaded experiment with its run directory, which this process has locked.
pub struct RunContext {
    /// The experiment.
    pub experiment: Experiment,
    /// The model with its text side.
    pub policy: Arc<Policy>,
    /// Training prompts.
    pub train: Questions,
    /// Evaluation prompts.
    pub eval: Questions,
    /// Rewards.
    pub rewards: RewardSet,
    /// How much goes through the model at a time, to stay within `memory.budget_gib`.
    pub sizes: Sizes,
    /// The run directory.
    pub directory: RunDir,
    /// The record of the run, and its observer.
    pub journal: Journal,
    /// How far the run has come.
    pub state: TrainerState,
    /// Optimizer steps in all.
    pub total_steps: usize,
    predicted_bytes: Option<u64>,
    preflight: Option<Report>,
    labels: Labels,
    pub(super) control: Control,
    /// Alarms that were found before there was an event to follow.
    pub(super) pending_alarms: Vec<Alarm>,
    /// The step of the latest save point.
    pub(super) saved_at: Option<usize>,
    started: Instant,
    /// Seconds of training before this process.
    pub(super) seconds_before: f64,
    /// Released when the run ends, in any way.
    _lock: RunLock,
}

impl RunContext {
    /// Creates the directory of a new run.
    ///
    /// # Errors
    /// Those of [`RunDir::create`] and of opening it.
    pub fn create(ready: Ready, name: &str, observer: Box<dyn Observer>) -> Result<Self> {
        let run = &ready.experiment.run;
        let directory = RunDir::create(
            &run.output_dir,
            name,
            run.name.as_deref(),
            &ready.experiment,
        )?;
        Self::open(ready, directory, observer)
    }

    /// Opens the directory of an existing run, and finds the save point to resume from; `None` starts
    /// over. Damaged save points are moved aside.
    ///
    /// # Errors
    /// Another trainer has locked it, an input has changed since the run started, or a file cannot be
    /// read or written.
    pub fn resume(
        ready: Ready,
        directory: RunDir,
        observer: Box<dyn Observer>,
    ) -> Result<(Self, Option<PathBuf>)> {
        // Opening repairs what a kill left: a save point that was being replaced may come back.
        let mut run = Self::open(ready, directory, observer)?;
        let found = save_points_of(&run.directory)?;
        for (directory, problem) in &found.damaged {
            run.set_aside(directory, problem, found.whole.as_deref())?;
        }
        if found.whole.is_none() {
            run.start_over()?;
        }
        Ok((run, found.whole))
    }

    /// Takes the lock of a run directory, repairs what a crash left, and reads or writes its first
    /// state.
    fn open(ready: Ready, directory: RunDir, observer: Box<dyn Observer>) -> Result<Self> {
        let lock = RunLock::acquire(&directory.lock())?;
        directory.clean_up()?;
        let mut fingerprints = ready.fingerprints()?;
        let own = file_fingerprint(&directory.experiment_toml())?;
        fingerprints.push((EXPERIMENT.to_owned(), own));
        let device = ready.policy.model.compute.name.clone();
        let mut state = if directory.run_json().exists() {
            let mut state = RunState::read(&directory.run_json())?;
            for (input, fingerprint) in &fingerprints {
                let known = state.fingerprints.get(input);
                if known.is_some_and(|known| known != fingerprint) {
                    bail!(
                        "{}: cannot resume: {input} has changed since the run started; restore the old file or \
                         start a new run",
                        directory.path().display()
                    );
                }
            }
            state.take_over(device);
            state
        } else {
            RunState::begin(directory.id(), device)
        };
        state.fingerprints = fingerprints.into_iter().collect();
        state.save(&directory.run_json())?;
        let control = Control::new(&directory.control());
        control.clear()?;
        let experiment = ready.experiment;
        let prompts = ready.train.kept.len();
        let report_to = &experiment.run.report_to;
        Ok(Self {
            journal: Journal::open(&directory, state, report_to, observer)?,
            total_steps: experiment
                .batch()
                .total_steps(prompts, &experiment.horizon(Some(prompts))),
            experiment,
            policy: ready.policy,
            train: ready.train,
            eval: ready.eval,
            rewards: ready.rewards,
            sizes: ready.sizes,
            predicted_bytes: ready.predicted_bytes,
            preflight: ready.preflight,
            labels: ready.labels,
            directory,
            state: TrainerState::default(),
            control,
            pending_alarms: Vec::new(),
            saved_at: None,
            started: Instant::now(),
            seconds_before: 0.0,
            _lock: lock,
        })
    }

    /// Starts the threads that watch the run.
    pub fn start_telemetry(&self) -> Telemetry {
        let compute = self.policy.model.compute.clone();
        let device = Device {
            name: compute.name.clone(),
            memory: Box::new(move || {
                let memory = compute.memory()?;
                Some(DeviceMemory {
                    in_use: memory.bytes_in_use,
                    reserved: memory.bytes_reserved,
                })
            }),
        };
        let minutes = self.experiment.run.watchdog_minutes;
        Telemetry::start(&self.journal, &self.directory, device, minutes)
    }

    /// Optimizer steps on each generation.
    pub fn steps_per_generation(&self) -> usize {
        self.experiment.batch().slices * self.experiment.grpo.num_iterations
    }

    /// Optimizer steps of an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        let batch = self.experiment.batch();
        batch.steps_per_epoch(self.train.kept.len()) * self.experiment.grpo.num_iterations
    }

    /// Seconds of training, those before a resume included.
    pub fn elapsed(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }

    /// Writes the first events of a run: its steps, inputs, sizes and the checks before it.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn emit_start(&mut self) -> Result<()> {
        let batch = self.experiment.batch();
        let model = &self.policy.model;
        let fields = json!({
            "id": self.directory.id(),
            "directory": self.directory.path().display().to_string(),
            "device": model.compute.name,
            "version": env!("CARGO_PKG_VERSION"),
            "parameters": model.config.parameter_count(),
            "trained_parameters": setup::lora_config(&self.experiment)?.parameter_count(&model.config),
            "train_prompts": self.train.kept.len(),
            "eval_items": self.eval.kept.len(),
            "total_steps": self.total_steps,
            "batch": {
                "B": batch.b, "G": batch.g, "A": batch.a, "D": batch.d, "S": batch.a * batch.slices,
                "completions_per_step": batch.completions_per_step(),
                "prompts_per_step": batch.prompts_per_step(),
                "steps_per_epoch": self.steps_per_epoch(),
                "dropped_prompts": batch.dropped_prompts(self.train.kept.len()),
            },
            "stop_tokens": self.policy.stop.ids(),
            "rewards": self.rewards.names(),
            "formula": self.rewards.formula().text(),
            "seed": self.experiment.run.seed,
        });
        let Value::Object(mut fields) = fields else {
            return Ok(());
        };
        if let Some(bytes) = self.predicted_bytes {
            fields.insert("predicted_bytes".into(), json!(bytes));
        }
        let mut sizes = json!({
            "rollout_rows": self.sizes.rollout_rows,
            "answered_together": self.sizes.answered_together,
        });
        // A null would be a number that was not finite; without a bound it is a whole micro-batch.
        if let Some(rows) = self.sizes.rows_per_part {
            sizes["rows_per_part"] = json!(rows);
        }
        fields.insert("sizes".into(), sizes);
        self.journal.emit("start", fields)?;
        if let Some(report) = &self.preflight {
            self.journal.emit("preflight", report.event_fields())?;
        }
        self.flush_pending_alarms()?;
        let total_steps = self.total_steps;
        self.journal.change(|state| state.total_steps = total_steps)
    }

    /// Raises the alarms that were found while the run was opened.
    pub(super) fn flush_pending_alarms(&mut self) -> Result<()> {
        let step = self.journal.state().step;
        for alarm in std::mem::take(&mut self.pending_alarms) {
            self.journal.raise(&Alarm { step, ..alarm })?;
        }
        Ok(())
    }

    /// Raises an alarm for rewards that a program returned as NaN or infinite.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn report_nonfinite_rewards(&mut self, step: usize) -> Result<()> {
        for (name, count) in self.rewards.take_nonfinite() {
            let alarm = Alarm {
                code: NONFINITE_REWARD,
                severity: Severity::Warning,
                message: format!(
                    "the reward `{name}` was NaN or infinite for {count} completion(s), which count as if they had \
                     none (healthy: every reward is a number; answer null where there is none)"
                ),
                step,
            };
            self.journal
                .append(&alarm.to_event().with("count", count))?;
        }
        Ok(())
    }

    /// Raises an alarm for work that ran out of memory and was retried in smaller batches, with the same
    /// result up to rounding. `phase` is `sampling`, `training` or `inference`.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn report_out_of_memory(
        &mut self,
        phase: &str,
        step: usize,
        retries: &[OomRetry],
    ) -> Result<()> {
        let smaller = match phase {
            "inference" => "a smaller inference.batch_size",
            "sampling" => "a smaller rollout.max_completion_length",
            _ => {
                "a smaller grpo.per_device_train_batch_size with more grpo.gradient_accumulation_steps"
            }
        };
        for OomRetry { rows, message } in retries {
            let alarm = Alarm {
                code: "out_of_memory",
                severity: Severity::Warning,
                message: format!(
                    "{phase} ran out of device memory ({message}) and was retried with {rows} completions at a time, \
                     which is the limit from now on; the result is the same up to rounding (healthy: everything fits \
                     at first: set memory.budget_gib or {smaller})"
                ),
                step,
            };
            self.journal.raise(&alarm)?;
        }
        Ok(())
    }

    /// Whether a run is paused, in run.json and as an event.
    pub(super) fn set_paused(&mut self, is_paused: bool) -> Result<()> {
        let (status, event) = if is_paused {
            (RunStatus::Paused, "paused")
        } else {
            (RunStatus::Running, "continued")
        };
        if self.journal.state().state == status {
            return Ok(());
        }
        self.journal.change(|state| state.state = status)?;
        let step = json!(self.state.step);
        self.journal
            .emit(event, Map::from_iter([("step".to_string(), step)]))
    }

    /// Records a save point that was written, and deletes old ones.
    pub(super) fn record_save_point(&mut self, point: SavePoint) -> Result<()> {
        self.journal
            .change(|state| state.latest_checkpoint = Some(point))?;
        if let Some(limit) = self.experiment.run.save_total_limit {
            // The best checkpoint so far is the purpose of a run; it stays.
            let best = self.best_save_point()?;
            prune_checkpoints(self.directory.path(), limit, point, best.as_slice())?;
        }
        Ok(())
    }

    /// The save point that ranked first when answers were last scored; `None` before that.
    fn best_save_point(&self) -> Result<Option<SavePoint>> {
        let Some(best) = &self.journal.state().best else {
            return Ok(None);
        };
        let points = checkpoints(self.directory.path())?.into_iter();
        let mut kinds = points.map(|checkpoint| checkpoint.kind);
        Ok(kinds.find(|point| point.answers_file_name() == best.file))
    }

    /// Writes the answers of a save point.
    pub(super) fn write_answers(&self, point: SavePoint, answers: &[Answered]) -> Result<()> {
        let bytes = answer_file(&self.eval.kept, answers, false)?;
        Ok(publish::publish(&self.directory.answers(point), &bytes)?)
    }

    /// Publishes the answers of a checkpoint, scores them and ranks all checkpoints so far.
    pub(super) fn publish_answers(
        &mut self,
        point: SavePoint,
        answers: &[Answered],
        seconds: f64,
    ) -> Result<()> {
        self.write_answers(point, answers)?;
        let (file, step) = (point.answers_file_name(), self.state.step);
        let tokens: usize = answers.iter().map(|answer| answer.tokens.len()).sum();
        let Value::Object(fields) = json!({
            "checkpoint": point.to_string(), "step": step, "file": file,
            "items": answers.len(), "tokens": tokens, "seconds": seconds,
        }) else {
            return Ok(());
        };
        self.journal.emit("inference", fields)?;

        if !self.rewards.metrics().has_reason_scorer() {
            return Ok(());
        }
        self.journal.phase(Phase::Scoring, 0, 1, &file);
        let board = self.leaderboard()?;
        let rendered = render::json(&board);
        let row = rendered["files"]
            .as_array()
            .and_then(|rows| rows.iter().find(|row| row["file"] == file.as_str()));
        let Some(Value::Object(mut fields)) = row.cloned() else {
            return Ok(());
        };
        // What a file has no value for is left out: in an event a null is a number that was not finite.
        fields.retain(|_, value| !value.is_null());
        fields.insert("checkpoint".into(), json!(point.to_string()));
        fields.insert("step".into(), json!(step));
        if let Some(best) = board.best() {
            fields.insert("best".into(), json!(best.scored.file));
            if let Some(means) = best.means {
                fields.insert("best_final_mean".into(), json!(means.final_mean));
            }
        }
        self.journal.emit("score", fields)
    }

    /// The ranked list of all checkpoints answered so far.
    ///
    /// # Errors
    /// The encoder fails, or the folder of answers cannot be read.
    pub fn leaderboard(&mut self) -> Result<Leaderboard> {
        let encoder = encoder_name(&self.experiment.bertscore);
        let mut scorer = Scorer::new(&self.labels, self.rewards.metrics_mut(), &encoder)?
            .with_cache(ScoreCache::new(self.directory.scores()));
        Ok(rank(
            &self.directory.infer_results(),
            &mut scorer,
            Resampling::default(),
            &mut |_| {},
        )?)
    }

    /// Writes the last event and state of a run.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn end(&mut self, status: RunStatus, message: Option<String>) -> Result<()> {
        let mut fields = Map::new();
        fields.insert("status".into(), json!(status.as_str()));
        fields.insert("step".into(), json!(self.journal.state().step));
        if let Some(message) = &message {
            fields.insert("message".into(), json!(message));
        }
        if status == RunStatus::Finished
            && self.rewards.metrics().has_reason_scorer()
            && let Ok(board) = self.leaderboard()
            && let Some(best) = board.best()
        {
            fields.insert("best".into(), json!(best.scored.file));
        }
        for (name, count) in self.journal.nonfinite().named() {
            if count > 0 {
                fields.insert(name.into(), json!(count));
            }
        }
        self.journal.emit("done", fields)?;
        self.journal.sync()?;
        self.journal.change(|state| {
            state.state = status;
            state.message = message;
        })
    }
}
