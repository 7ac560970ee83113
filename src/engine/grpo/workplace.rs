//! What a run works with and where it writes: the loaded experiment, the run
//! directory with its journal, and the wish to stop.

use std::sync::Arc;

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

use super::EXPERIMENT;
use super::activity::Activity;
use super::journal::Journal;
use super::observe::{Observer, Phase, Stopped};
use super::prepared::Prepared;
use crate::inference::{Answered, answer_file};
use crate::preflight::Report;
use crate::setup::{self, Policy, Questions};
use moim_core::experiment::Experiment;
use moim_core::health::{Alarm, Severity};
use moim_core::memory::Sizes;
use moim_core::reward::RewardSet;
use moim_core::run::{
    Control, Event, Request, RunDir, RunLock, RunState, RunStatus, SavePoint, checkpoints,
    file_fingerprint, prune_checkpoints, publish,
};
use moim_core::score::{
    Labels, Leaderboard, Resampling, ScoreCache, Scorer, encoder_name, rank, render,
};

/// A prepared experiment with its run directory, held by this process alone.
pub struct Workplace {
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
    /// How much goes through the model at a time, to keep to `memory.budget_gib`.
    pub sizes: Sizes,
    predicted_bytes: Option<u64>,
    preflight: Option<Report>,
    /// The run directory.
    pub run: RunDir,
    /// What is written down of the run.
    pub(super) journal: Journal,
    /// What the trainer is doing, shared with whoever writes it down.
    pub(super) activity: Arc<Activity>,
    labels: Labels,
    control: Control,
    is_asked_to_stop: bool,
    /// Alarms of what was found before there was an event to follow.
    pub(super) untold: Vec<Alarm>,
    /// Released when the run ends, whichever way.
    _lock: RunLock,
}

impl Workplace {
    /// Opens a run directory for training: takes its lock, repairs what a crash
    /// left, and reads or begins its state.
    ///
    /// # Errors
    /// Another trainer holds it, inputs changed since it began, or a file cannot be written.
    pub fn open(prepared: Prepared, run: RunDir) -> Result<Self> {
        let lock = RunLock::acquire(&run.lock())?;
        run.clean_up()?;
        let mut fingerprints = prepared.fingerprints()?;
        let own = file_fingerprint(&run.experiment_toml())?;
        fingerprints.push((EXPERIMENT.to_owned(), own));
        let device = prepared.policy.model.compute.name.clone();
        let mut state = match run.run_json().exists() {
            true => {
                let mut state = RunState::read(&run.run_json())?;
                for (input, fingerprint) in &fingerprints {
                    if state
                        .fingerprints
                        .get(input)
                        .is_some_and(|known| known != fingerprint)
                    {
                        bail!(
                            "{}: {input} has changed since this run began, so it cannot be gone on from; \
                             put the old file back or start a new run",
                            run.path().display()
                        );
                    }
                }
                state.take_over(device);
                state
            }
            false => RunState::begin(run.id(), device),
        };
        state.fingerprints = fingerprints.into_iter().collect();
        state.save(&run.run_json())?;
        let control = Control::new(&run.control());
        control.clear()?;
        Ok(Self {
            journal: Journal::open(&run, state, &prepared.experiment.run.report_to)?,
            activity: Arc::default(),
            control,
            experiment: prepared.experiment,
            policy: prepared.policy,
            train: prepared.train,
            eval: prepared.eval,
            rewards: prepared.rewards,
            sizes: prepared.sizes,
            predicted_bytes: prepared.predicted_bytes,
            preflight: prepared.preflight,
            labels: prepared.labels,
            run,
            is_asked_to_stop: false,
            untold: Vec::new(),
            _lock: lock,
        })
    }

    /// The first events of a run: what will be done, to what, with what, and what was checked before.
    pub(super) fn emit_start(
        &mut self,
        observer: &mut dyn Observer,
        total_steps: usize,
    ) -> Result<()> {
        let batch = self.experiment.batch();
        let model = &self.policy.model;
        let fields = json!({
            "id": self.run.id(),
            "directory": self.run.path().display().to_string(),
            "device": model.compute.name,
            "version": env!("CARGO_PKG_VERSION"),
            "parameters": model.config.parameter_count(),
            "trained_parameters": setup::lora_config(&self.experiment)?.parameter_count(&model.config),
            "train_prompts": self.train.kept.len(),
            "eval_items": self.eval.kept.len(),
            "total_steps": total_steps,
            "batch": {
                "B": batch.b, "G": batch.g, "A": batch.a, "D": batch.d, "S": batch.a * batch.slices,
                "completions_per_step": batch.completions_per_step(),
                "prompts_per_step": batch.prompts_per_step(),
                "steps_per_epoch": batch.steps_per_epoch(self.train.kept.len())
                    * self.experiment.grpo.num_iterations,
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
        self.journal.emit(observer, "start", fields)?;
        if let Some(report) = &self.preflight {
            let fields = report.event_fields();
            self.journal.emit(observer, "preflight", fields)?;
        }
        self.tell_untold(observer)?;
        self.journal.change(|state| state.total_steps = total_steps)
    }

    /// Tells of rewards that a program gave as NaN or infinite.
    pub(super) fn tell_nonfinite_rewards(
        &mut self,
        observer: &mut dyn Observer,
        step: usize,
    ) -> Result<()> {
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
            self.journal
                .append(observer, &Event::new(Alarm { count, ..alarm }))?;
        }
        Ok(())
    }

    /// An error when someone wants the run to stop.
    pub(super) fn check_interruption(&mut self, observer: &dyn Observer) -> Result<()> {
        if observer.wants_to_stop() {
            self.is_asked_to_stop = true;
        }
        if self.is_asked_to_stop {
            Err(Stopped.into())
        } else {
            Ok(())
        }
    }

    pub(super) fn ask_to_stop(&mut self) {
        self.is_asked_to_stop = true;
    }

    pub(super) fn requests(&self) -> Result<Vec<Request>> {
        Ok(self.control.poll()?)
    }

    pub(super) fn set_paused(
        &mut self,
        observer: &mut dyn Observer,
        is_paused: bool,
        step: usize,
    ) -> Result<()> {
        let status = if is_paused {
            RunStatus::Paused
        } else {
            RunStatus::Running
        };
        if self.journal.state().state == status {
            return Ok(());
        }
        self.journal.change(|state| state.state = status)?;
        let name = if is_paused { "paused" } else { "continued" };
        self.journal.emit(
            observer,
            name,
            Map::from_iter([("step".to_string(), json!(step))]),
        )
    }

    /// A save point is in place: note it, and let old ones go.
    pub(super) fn saved(&mut self, point: SavePoint) -> Result<()> {
        self.journal
            .change(|state| state.latest_checkpoint = Some(point))?;
        if let Some(limit) = self.experiment.run.save_total_limit {
            // The best checkpoint so far is what a run is for; it stays.
            let best = self.best_save_point()?;
            prune_checkpoints(self.run.path(), limit, point, best.as_slice())?;
        }
        Ok(())
    }

    /// The save point that ranked first when answers were scored last; `None` before that.
    fn best_save_point(&self) -> Result<Option<SavePoint>> {
        let Some(best) = &self.journal.state().best else {
            return Ok(None);
        };
        let points = checkpoints(self.run.path())?.into_iter();
        let mut kinds = points.map(|checkpoint| checkpoint.kind);
        Ok(kinds.find(|point| point.answers_file_name() == best.file))
    }

    /// Writes the answers of a save point.
    pub(super) fn write_answers(&self, point: SavePoint, answers: &[Answered]) -> Result<()> {
        let bytes = answer_file(&self.eval.kept, answers, false)?;
        Ok(publish::publish(&self.run.answers(point), &bytes)?)
    }

    /// Publishes the answers of a checkpoint, scores them and ranks all checkpoints so far.
    pub(super) fn publish_answers(
        &mut self,
        observer: &mut dyn Observer,
        point: SavePoint,
        step: usize,
        answers: &[Answered],
        seconds: f64,
    ) -> Result<()> {
        self.write_answers(point, answers)?;
        let file = point.answers_file_name();
        let tokens: usize = answers.iter().map(|answer| answer.tokens.len()).sum();
        let Value::Object(fields) = json!({
            "checkpoint": point.to_string(), "step": step, "file": file,
            "items": answers.len(), "tokens": tokens, "seconds": seconds,
        }) else {
            return Ok(());
        };
        self.journal.emit(observer, "inference", fields)?;

        if !self.rewards.metrics().has_reason_scorer() {
            return Ok(());
        }
        observer.phase(Phase::Scoring, 0, 1, &file);
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
        self.journal.emit(observer, "score", fields)
    }

    /// The ranked list of all checkpoints answered so far.
    ///
    /// # Errors
    /// The encoder fails, or the folder of answers cannot be read.
    pub fn leaderboard(&mut self) -> Result<Leaderboard> {
        let encoder = encoder_name(&self.experiment.bertscore);
        let mut scorer = Scorer::new(&self.labels, self.rewards.metrics_mut(), &encoder)?
            .with_cache(ScoreCache::new(self.run.scores()));
        Ok(rank(
            &self.run.infer_results(),
            &mut scorer,
            Resampling::default(),
            &mut |_| {},
        )?)
    }

    /// The last event and state of a run.
    pub(super) fn end(
        &mut self,
        observer: &mut dyn Observer,
        status: RunStatus,
        message: Option<String>,
    ) -> Result<()> {
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
        self.journal.emit(observer, "done", fields)?;
        self.journal.sync()?;
        self.journal.change(|state| {
            state.state = status;
            state.message = message;
        })
    }
}
