//! A run while it is trained: its inputs, its directory and its progress.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::Value;

use super::checkpoint::TrainerState;
use super::loaded::Ready;
use super::{EXPERIMENT, save_points_of};
use crate::execution::OomRetry;
use crate::inference::{Answered, answer_file};
use crate::preflight::Report;
use crate::setup::{self, Policy, Questions};
use moim_core::experiment::Experiment;
use moim_core::health::{Alarm, Severity};
use moim_core::journal::{Device, DeviceMemory, Journal, Observer, Phase, Telemetry};
use moim_core::memory::Sizes;
use moim_core::reward::RewardSet;
use moim_core::run::{
    BatchSizes, Continued, Control, Done, Inference, PartSizes, Paused, RunDir, RunLock, RunState,
    RunStatus, SavePoint, Score, Start, checkpoints, file_fingerprint, prune_checkpoints, publish,
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
    /// The progress of the run.
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
        let start = Start {
            id: Some(self.directory.id().to_owned()),
            directory: Some(self.directory.path().display().to_string()),
            device: Some(model.compute.name.clone()),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            parameters: Some(model.config.parameter_count()),
            trained_parameters: Some(
                setup::lora_config(&self.experiment)?.parameter_count(&model.config),
            ),
            train_prompts: Some(self.train.kept.len()),
            eval_items: Some(self.eval.kept.len()),
            total_steps: Some(self.total_steps),
            batch: Some(BatchSizes {
                B: batch.b,
                G: batch.g,
                A: batch.a,
                D: batch.d,
                S: batch.a * batch.slices,
                completions_per_step: batch.completions_per_step(),
                prompts_per_step: batch.prompts_per_step(),
                steps_per_epoch: self.steps_per_epoch(),
                dropped_prompts: batch.dropped_prompts(self.train.kept.len()),
                ..BatchSizes::default()
            }),
            stop_tokens: Some(self.policy.stop.ids()),
            rewards: Some(self.rewards.names().to_vec()),
            formula: Some(self.rewards.formula().text().to_owned()),
            seed: Some(self.experiment.run.seed),
            predicted_bytes: self.predicted_bytes,
            sizes: Some(PartSizes {
                rollout_rows: self.sizes.rollout_rows,
                answered_together: self.sizes.answered_together,
                rows_per_part: self.sizes.rows_per_part,
                ..PartSizes::default()
            }),
        };
        self.journal.emit(start)?;
        if let Some(report) = &self.preflight {
            self.journal.emit(report.to_event())?;
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
            let alarm = Alarm::new(
                Alarm::NONFINITE_REWARD,
                Severity::Warning,
                step,
                format!(
                    "the reward `{name}` was NaN or infinite for {count} completion(s), which count as if they had \
                     none (healthy: every reward is a number; answer null where there is none)"
                ),
            );
            let count = Some(count);
            self.journal.raise(&Alarm { count, ..alarm })?;
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
            let alarm = Alarm::new(
                Alarm::OUT_OF_MEMORY,
                Severity::Warning,
                step,
                format!(
                    "{phase} ran out of device memory ({message}) and was retried with {rows} completions at a time, \
                     which is the limit from now on; the result is the same up to rounding (healthy: everything fits \
                     at first: set memory.budget_gib or {smaller})"
                ),
            );
            self.journal.raise(&alarm)?;
        }
        Ok(())
    }

    /// Records that a run is paused or continues, in run.json and as an event.
    pub(super) fn set_paused(&mut self, is_paused: bool) -> Result<()> {
        let status = if is_paused {
            RunStatus::Paused
        } else {
            RunStatus::Running
        };
        if self.journal.state().state == status {
            return Ok(());
        }
        self.journal.change(|state| state.state = status)?;
        let step = self.state.step;
        if is_paused {
            self.journal.emit(Paused { step })
        } else {
            self.journal.emit(Continued { step })
        }
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
        self.journal.emit(Inference {
            checkpoint: point,
            step,
            file: Some(file.clone()),
            items: answers.len(),
            tokens,
            seconds,
        })?;

        if !self.rewards.metrics().has_reason_scorer() {
            return Ok(());
        }
        self.journal.phase(Phase::Scoring, 0, 1, &file);
        let board = self.leaderboard()?;
        let rendered = render::json(&board);
        let row = rendered["files"]
            .as_array()
            .and_then(|rows| rows.iter().find(|row| row["file"] == file.as_str()));
        let score = row.and_then(Value::as_object).cloned();
        let Some(score) = score.and_then(Score::of_row) else {
            return Ok(());
        };
        let best = board.best();
        let means = best.and_then(|best| best.means);
        self.journal.emit(Score {
            checkpoint: Some(point),
            step: Some(step),
            best: best.map(|best| best.scored.file.clone()),
            best_final_mean: means.map(|means| means.final_mean),
            ..score
        })
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
        let mut best = None;
        if status == RunStatus::Finished
            && self.rewards.metrics().has_reason_scorer()
            && let Ok(board) = self.leaderboard()
        {
            best = board.best().map(|best| best.scored.file.clone());
        }
        let nonfinite = self.journal.nonfinite();
        let counted = |count: usize| Some(count).filter(|count| *count > 0);
        self.journal.emit(Done {
            status: Some(status),
            step: self.journal.state().step,
            message: message.clone(),
            best,
            dropped_steps: counted(nonfinite.steps),
            nonfinite_rewards: counted(nonfinite.rewards),
        })?;
        self.journal.sync()?;
        self.journal.change(|state| {
            state.state = status;
            state.message = message;
        })
    }
}
