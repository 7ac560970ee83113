//! What a run does between generations: save points, validation, requests, the end.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::checkpoint::{self, Learned};
use super::observe::{Phase, Stopped};
use super::trainer::{Ending, Trainer, object};
use super::update::Learner;
use crate::inference::{AnswerSettings, Answers, answer_questions};
use crate::model::{Adapter, load_adapter};
use crate::setup;
use moim_core::experiment::SaveStrategy;
use moim_core::health::{Alarm, Severity};
use moim_core::run::{Request, SavePoint};

/// How long a paused trainer sleeps between looks at its control folder.
const PAUSE_POLL: Duration = Duration::from_millis(200);

impl Trainer<'_> {
    /// The save point that falls on the end of step `step`, if any.
    pub(super) fn save_point_after(&self, step: usize) -> Option<SavePoint> {
        let run = &self.work.experiment.run;
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

    pub(super) fn save(&mut self, point: SavePoint, learner: &Learner) -> Result<()> {
        self.observer.phase(Phase::Save, 0, 1, &point.to_string());
        self.state.seconds = self.elapsed();
        let policy = self.work.policy.clone();
        let learned = Learned {
            adapter: &learner.adapter,
            optimizer: &learner.optimizer,
            base_model: &self.work.experiment.model.path.display().to_string(),
            model: &policy.model.config,
            compute: &policy.model.compute,
        };
        let directory = self.work.run.checkpoint(point);
        let (work, observer, state) = (&mut *self.work, &mut *self.observer, &mut self.state);
        checkpoint::save(&directory, &learned, |difference| {
            let fields = json!({
                "checkpoint": point.to_string(),
                "step": state.step,
                "adapter_difference": difference,
            });
            // The event belongs to the save point: a kill before that is whole takes both back.
            work.journal.emit(observer, "checkpoint", object(fields))?;
            (state.events_position, state.completions_position) = work.journal.sync()?;
            Ok(*state)
        })?;
        self.saved_at = Some(self.state.step);
        self.work.saved(point)
    }

    /// Answers the evaluation set with a checkpoint, publishes the answers, scores and ranks them.
    pub(super) fn evaluate(&mut self, point: SavePoint, adapter: Option<&Adapter>) -> Result<()> {
        let clock = Instant::now();
        let step = self.state.step;
        let answered = self.answer(point, step, adapter)?;
        self.work.publish_answers(
            self.observer,
            point,
            step,
            &answered.answers,
            clock.elapsed().as_secs_f64(),
        )?;
        if let Some(shrunk) = &answered.out_of_memory {
            self.answered_together = self.answered_together.min(shrunk.rows);
        }
        self.tell_out_of_memory("inference", step, answered.out_of_memory.as_slice())
    }

    /// Answers the evaluation set with the checkpoint of a step.
    fn answer(
        &mut self,
        point: SavePoint,
        step: usize,
        adapter: Option<&Adapter>,
    ) -> Result<Answers> {
        let experiment = self.work.experiment.clone();
        let settings = AnswerSettings {
            sampling: setup::inference_sampling(&experiment),
            max_completion_length: experiment.inference.max_completion_length,
            batch_size: self.answered_together,
            seed: experiment.run.seed,
            step: step as u64,
        };
        let policy = self.work.policy.clone();
        let questions = self.work.eval.kept.clone();
        let (work, observer) = (&mut *self.work, &mut *self.observer);
        answer_questions(&policy, adapter, &questions, &settings, &mut |progress| {
            observer.phase(
                Phase::Inference,
                progress.finished,
                progress.total,
                &point.to_string(),
            );
            work.check_interruption(observer)
        })
    }

    /// Makes answers again whose file was damaged since: they are ranked with those to come.
    fn mend_answers(&mut self) -> Result<()> {
        for (point, step) in self.work.answered()? {
            let Some(problem) = self.work.fault_of_answers(point) else {
                continue;
            };
            let directory = self.work.run.checkpoint(point);
            let policy = self.work.policy.clone();
            let model = &policy.model;
            let load = |folder: &Path| load_adapter(folder, &model.config, &model.compute);
            let adapter = match (point, &self.work.experiment.lora.init_adapter) {
                (SavePoint::Epoch(0), None) => Ok(None),
                (SavePoint::Epoch(0), Some(folder)) => load(folder).map(Some),
                _ => checkpoint::verify_adapter(&directory)
                    .and_then(|()| load(&directory))
                    .map(Some),
            };
            let adapter = adapter.with_context(|| {
                format!(
                    "{problem}; these answers are ranked with those to come and cannot be made again: put a copy of \
                     the file back, or remove it to leave them out"
                )
            })?;
            let answered = self.answer(point, step, adapter.as_ref())?;
            self.work.write_answers(point, &answered.answers)?;
            let alarm = Alarm::new(
                Alarm::DAMAGED_ANSWERS,
                Severity::Warning,
                step,
                format!(
                    "{problem}; the file was damaged and these answers were made again (healthy: every file is \
                     whole; see whether the disk is well)"
                ),
            );
            self.work.journal.raise(self.observer, &alarm)?;
        }
        Ok(())
    }

    /// Puts a save point back and answers the evaluation set if that had not been done.
    pub(super) fn restore(&mut self, directory: &Path, learner: &mut Learner) -> Result<()> {
        let policy = &self.work.policy;
        let (adapter, state) = checkpoint::load(
            directory,
            &mut learner.optimizer,
            &policy.model.config,
            &policy.model.compute,
        )
        .with_context(|| format!("{}: cannot be gone on from", directory.display()))?;
        if adapter.config != learner.adapter.config {
            bail!(
                "{}: its adapter is not the one that [lora] describes",
                directory.display()
            );
        }
        learner.adapter = adapter;
        self.seconds_before = state.seconds;
        self.state = state;
        self.saved_at = Some(state.step);
        let name = directory
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let point: Option<SavePoint> = name.parse().ok();
        let point = point.filter(|point| self.save_point_after(state.step) == Some(*point));
        let rewound = self.work.rewind_to_save_point(
            self.observer,
            state.events_position,
            state.completions_position,
            (state.step, point),
        );
        let is_scored = rewound.with_context(|| {
            format!(
                "{}: cannot be gone on from; moved out of the run directory, it leaves the run to an earlier save \
                 point, or to its beginning",
                directory.display()
            )
        })?;
        let fields = json!({
            "step": state.step,
            "directory": self.work.run.path().display().to_string(),
            "checkpoint": name,
        });
        self.work
            .journal
            .emit(self.observer, "resume", object(fields))?;
        self.work.tell_untold(self.observer)?;
        let total_steps = self.total_steps;
        self.work
            .journal
            .change(|state| state.total_steps = total_steps)?;
        match name.parse() {
            // A kill may have come between the save point and what is noted of it.
            Ok(point) if !is_scored => self.work.saved(point)?,
            // What ranks first may have changed since old ones were let go; the next one lets go again.
            Ok(point) => self
                .work
                .journal
                .change(|state| state.latest_checkpoint = Some(point))?,
            Err(_) => {}
        }
        self.mend_answers()?;
        match point {
            Some(point) if !is_scored && state.step > 0 => {
                self.evaluate(point, Some(&learner.adapter))
            }
            _ => Ok(()),
        }
    }

    /// Takes what was dropped into the control folder: save, pause until resumed, stop.
    pub(super) fn take_requests(&mut self, learner: &Learner) -> Result<()> {
        let mut is_paused = false;
        loop {
            for request in self.work.requests()? {
                match request {
                    Request::Stop => self.work.ask_to_stop(),
                    // Where a save point has just been made, another would be the same.
                    Request::Save if self.saved_at == Some(self.state.step) => {}
                    Request::Save => self.save(SavePoint::Step(self.state.step), learner)?,
                    Request::Pause => is_paused = true,
                    Request::Resume => is_paused = false,
                }
            }
            self.work
                .set_paused(self.observer, is_paused, self.state.step)?;
            self.work.check_interruption(self.observer)?;
            if !is_paused {
                return Ok(());
            }
            self.observer.phase(Phase::Paused, 0, 1, "");
            std::thread::sleep(PAUSE_POLL);
        }
    }

    /// Saves when the reason to leave is a request to stop; other errors pass on.
    pub(super) fn stop_or_fail(
        &mut self,
        error: anyhow::Error,
        learner: &Learner,
    ) -> Result<Ending> {
        if !error.is::<Stopped>() {
            return Err(error);
        }
        if self.saved_at != Some(self.state.step) {
            self.save(SavePoint::Step(self.state.step), learner)?;
        }
        Ok(Ending::Stopped)
    }
}
