//! Between generations: save points, validation, requests, and resuming.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::checkpoint::{self, SavePointContents};
use super::context::RunContext;
use crate::inference::{AnswerSettings, Answers, answer_questions};
use crate::model::{Adapter, load_adapter};
use crate::optimizer::AdamW;
use crate::rollout::RolloutProgress;
use crate::setup;
use moim_core::experiment::SaveStrategy;
use moim_core::health::{Alarm, Severity};
use moim_core::journal::Phase;
use moim_core::run::{CheckpointEvent, Request, Resume, SavePoint};

/// How long a paused trainer sleeps between two polls of its control folder.
const PAUSE_POLL: Duration = Duration::from_millis(200);

impl RunContext {
    /// The save point that is due after step `step`, if any.
    pub fn save_point_after(&self, step: usize) -> Option<SavePoint> {
        let run = &self.experiment.run;
        let per_epoch = self.steps_per_epoch();
        let is_last = step >= self.total_steps;
        let at_epoch_end = step.is_multiple_of(per_epoch);
        let point = if at_epoch_end {
            SavePoint::Epoch(step / per_epoch)
        } else {
            SavePoint::Step(step)
        };
        let steps = self.steps_per_generation();
        let is_due = match run.save_strategy {
            SaveStrategy::Epoch => at_epoch_end,
            // The first end of a generation at or after each multiple of save_steps.
            SaveStrategy::Steps => {
                step / run.save_steps > step.saturating_sub(steps) / run.save_steps
            }
            SaveStrategy::No => false,
        };
        (is_due || is_last).then_some(point)
    }

    /// Writes a save point.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn save(&mut self, point: SavePoint, adapter: &Adapter, optimizer: &AdamW) -> Result<()> {
        self.journal.phase(Phase::Save, 0, 1, &point.to_string());
        self.state.seconds = self.elapsed();
        let model = &self.policy.model;
        let contents = SavePointContents {
            adapter,
            optimizer,
            base_model: &self.experiment.model.path.display().to_string(),
            model: &model.config,
            compute: &model.compute,
        };
        let (journal, state) = (&mut self.journal, &mut self.state);
        checkpoint::save(&self.directory.checkpoint(point), &contents, |difference| {
            // The event belongs to the save point: a kill before it is complete takes both back.
            journal.emit(CheckpointEvent {
                checkpoint: point,
                step: state.step,
                adapter_difference: Some(difference.into()),
            })?;
            (state.events_position, state.completions_position) = journal.sync()?;
            Ok(*state)
        })?;
        self.saved_at = Some(self.state.step);
        self.record_save_point(point)
    }

    /// Writes a save point for the current step, unless it has one.
    ///
    /// # Errors
    /// Those of [`RunContext::save`].
    pub fn save_current_step(&mut self, adapter: &Adapter, optimizer: &AdamW) -> Result<()> {
        if self.saved_at == Some(self.state.step) {
            return Ok(());
        }
        self.save(SavePoint::Step(self.state.step), adapter, optimizer)
    }

    /// Answers the evaluation set with a checkpoint, publishes the answers, scores and ranks them.
    ///
    /// # Errors
    /// Sampling or scoring fails, a file cannot be written, or the run was asked to stop.
    pub fn evaluate(&mut self, point: SavePoint, adapter: Option<&Adapter>) -> Result<()> {
        let clock = Instant::now();
        let step = self.state.step;
        let answered = self.answer(point, step, adapter)?;
        let seconds = clock.elapsed().as_secs_f64();
        self.publish_answers(point, &answered.answers, seconds)?;
        if let Some(retry) = &answered.out_of_memory {
            self.sizes.answered_together = self.sizes.answered_together.min(retry.rows);
        }
        self.report_out_of_memory("inference", step, answered.out_of_memory.as_slice())
    }

    /// Answers the evaluation set with the checkpoint of a step.
    fn answer(
        &mut self,
        point: SavePoint,
        step: usize,
        adapter: Option<&Adapter>,
    ) -> Result<Answers> {
        let experiment = &self.experiment;
        let settings = AnswerSettings {
            sampling: setup::inference_sampling(experiment),
            max_completion_length: experiment.inference.max_completion_length,
            batch_size: self.sizes.answered_together,
            seed: experiment.run.seed,
            step: step as u64,
        };
        let (journal, detail) = (&mut self.journal, point.to_string());
        let mut on_progress = |progress: RolloutProgress| {
            let RolloutProgress {
                finished, total, ..
            } = progress;
            journal.phase(Phase::Inference, finished, total, &detail);
            journal.check_stop()
        };
        let questions = &self.eval.kept;
        answer_questions(
            &self.policy,
            adapter,
            questions,
            &settings,
            &mut on_progress,
        )
    }

    /// Answers again where a file of answers was damaged: they are ranked with those to come.
    fn repair_answers(&mut self) -> Result<()> {
        for (point, step) in self.answered()? {
            let Some(problem) = self.problem_of_answers(point) else {
                continue;
            };
            let directory = self.directory.checkpoint(point);
            let model = &self.policy.model;
            let load = |folder: &Path| load_adapter(folder, &model.config, &model.compute);
            let adapter = match (point, &self.experiment.lora.init_adapter) {
                (SavePoint::Epoch(0), None) => Ok(None),
                (SavePoint::Epoch(0), Some(folder)) => load(folder).map(Some),
                _ => checkpoint::verify_adapter(&directory)
                    .and_then(|()| load(&directory))
                    .map(Some),
            };
            let adapter = adapter.with_context(|| {
                format!(
                    "{problem}; these answers are ranked with those to come, and the questions cannot be answered \
                     again: restore a copy of the file, or delete it to leave them out"
                )
            })?;
            let answered = self.answer(point, step, adapter.as_ref())?;
            self.write_answers(point, &answered.answers)?;
            let alarm = Alarm::new(
                Alarm::DAMAGED_ANSWERS,
                Severity::Warning,
                step,
                format!(
                    "{problem}; the file was damaged and the questions were answered again (healthy: every file is \
                     complete; check the disk)"
                ),
            );
            self.journal.raise(&alarm)?;
        }
        Ok(())
    }

    /// Restores a save point into `adapter` and `optimizer`, and answers the evaluation set if that had
    /// not been done.
    ///
    /// # Errors
    /// The save point cannot be used, a file cannot be written, or the run was asked to stop.
    pub fn restore(
        &mut self,
        directory: &Path,
        adapter: &mut Adapter,
        optimizer: &mut AdamW,
    ) -> Result<()> {
        let model = &self.policy.model;
        let (saved, state) = checkpoint::load(directory, optimizer, &model.config, &model.compute)
            .with_context(|| format!("{}: cannot be resumed from", directory.display()))?;
        if saved.config != adapter.config {
            bail!(
                "{}: its adapter is not the one that [lora] describes",
                directory.display()
            );
        }
        *adapter = saved;
        self.seconds_before = state.seconds;
        self.state = state;
        self.saved_at = Some(state.step);
        let name = directory.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let point: Option<SavePoint> = name.parse().ok();
        let due = point.filter(|point| self.save_point_after(state.step) == Some(*point));
        let is_scored = self.rewind_to_save_point(due).with_context(|| {
            format!(
                "{}: cannot be resumed from; moved out of the run directory, it leaves the run to an earlier save \
                 point, or to its start",
                directory.display()
            )
        })?;
        self.journal.emit(Resume {
            step: state.step,
            directory: Some(self.directory.path().display().to_string()),
            checkpoint: name,
        })?;
        self.flush_pending_alarms()?;
        let total_steps = self.total_steps;
        self.journal
            .change(|state| state.total_steps = total_steps)?;
        match point {
            // A kill may have come between the save point and its record.
            Some(point) if !is_scored => self.record_save_point(point)?,
            // What ranks first may have changed since old ones were deleted; the next one deletes again.
            Some(point) => self
                .journal
                .change(|state| state.latest_checkpoint = Some(point))?,
            None => {}
        }
        self.repair_answers()?;
        match due {
            Some(point) if !is_scored && state.step > 0 => self.evaluate(point, Some(&*adapter)),
            _ => Ok(()),
        }
    }

    /// Handles the requests in the control folder: save, pause until resumed, stop.
    ///
    /// # Errors
    /// The folder cannot be read, a file cannot be written, or the run was asked to stop.
    pub fn take_requests(&mut self, adapter: &Adapter, optimizer: &AdamW) -> Result<()> {
        let mut is_paused = false;
        loop {
            for request in self.control.poll()? {
                match request {
                    Request::Stop => self.journal.ask_to_stop(),
                    Request::Save => self.save_current_step(adapter, optimizer)?,
                    Request::Pause => is_paused = true,
                    Request::Resume => is_paused = false,
                }
            }
            self.set_paused(is_paused)?;
            self.journal.check_stop()?;
            if !is_paused {
                return Ok(());
            }
            self.journal.phase(Phase::Paused, 0, 1, "");
            std::thread::sleep(PAUSE_POLL);
        }
    }
}
