//! Putting a run back to where it can be gone on from: its logs, its answers, and what was damaged
//! meanwhile.

use std::io;
use std::path::Path;

use anyhow::{Context, Result};

use super::observe::Observer;
use super::workplace::Workplace;
use moim_core::dataset::AnswerFile;
use moim_core::health::{Alarm, Severity};
use moim_core::run::{Event, EventKind, SavePoint, set_aside};

impl Workplace {
    /// Takes back what was logged after the save point of `step`, but keeps what was
    /// answered and scored with it. Answers whether both had been done.
    pub(super) fn rewind_to_save_point(
        &mut self,
        observer: &mut dyn Observer,
        events: u64,
        completions: u64,
        (step, point): (usize, Option<SavePoint>),
    ) -> Result<bool> {
        self.journal.check_lengths(events, completions)?;
        let path = self.run.events();
        let bytes = moim_core::regular_file::read(&path)
            .with_context(|| format!("{}: cannot be read", path.display()))?;
        let mut end = events;
        let mut is_done = false;
        let is_scored = self.rewards.metrics().has_reason_scorer();
        for line in bytes
            .get(events as usize..)
            .unwrap_or_default()
            .split_inclusive(|byte| *byte == b'\n')
        {
            let Ok(event) = serde_json::from_slice::<Event>(line) else {
                break;
            };
            let belongs = match &event.kind {
                EventKind::Inference(answered) => point == Some(answered.checkpoint),
                EventKind::Score(score) => point.is_some() && score.checkpoint == point,
                // What an earlier resumption from here, the answers or the score gave rise to; the
                // alarms of the next step bear its number.
                EventKind::Resume(_) | EventKind::Alarm(_) | EventKind::Moving(_) => {
                    event.step() == Some(step)
                }
                _ => false,
            };
            if !belongs {
                break;
            }
            end += line.len() as u64;
            is_done |= match event.kind {
                EventKind::Score(_) => is_scored,
                EventKind::Inference(_) => !is_scored,
                _ => false,
            };
        }
        let end = if is_done { end } else { events };
        self.discard_answers(end)?;
        self.journal.rewind(observer, end, completions)?;
        Ok(is_done)
    }

    /// Takes a save point with a damaged file out of use, and goes on from `instead`.
    pub(super) fn set_aside(
        &mut self,
        directory: &Path,
        problem: &str,
        instead: Option<&Path>,
    ) -> Result<()> {
        let name = |path: &Path| {
            let name = path.file_name().unwrap_or_default();
            name.to_string_lossy().into_owned()
        };
        let aside = set_aside(directory)?;
        let (severity, way) = match instead {
            Some(instead) => (
                Severity::Warning,
                format!("the run goes on from {}, the one before it", name(instead)),
            ),
            None => (
                Severity::Critical,
                "there is no other, so the run begins anew".to_owned(),
            ),
        };
        self.untold.push(Alarm::new(
            Alarm::DAMAGED_SAVE_POINT,
            severity,
            0,
            format!(
                "{}: {problem}, so it was set aside as {}, and {way}, to the same result (healthy: every save point \
                 is whole; see whether the disk is well)",
                directory.display(),
                name(&aside)
            ),
        ));
        Ok(())
    }

    /// Raises what was found while the run was opened.
    pub(super) fn tell_untold(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let step = self.journal.state().step;
        for alarm in std::mem::take(&mut self.untold) {
            self.journal.raise(observer, &Alarm { step, ..alarm })?;
        }
        Ok(())
    }

    /// Takes back everything: there is no save point to go on from.
    pub(super) fn begin_anew(&mut self, observer: &mut dyn Observer) -> Result<()> {
        self.discard_answers(0)?;
        self.journal.rewind(observer, 0, 0)?;
        self.journal.change(|state| state.latest_checkpoint = None)
    }

    /// Removes the answers that events from `position` on tell of: those events are about to be taken
    /// back and the answers will be made again, but until then they would be ranked with the others.
    fn discard_answers(&self, position: u64) -> Result<()> {
        for event in self.events_from(position)? {
            let EventKind::Inference(answered) = event.kind else {
                continue;
            };
            let file = answered
                .file
                .unwrap_or_else(|| answered.checkpoint.answers_file_name());
            let path = self.run.infer_results().join(file);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error)
                        .with_context(|| format!("{}: cannot be removed", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The events from `position` in events.jsonl on.
    fn events_from(&self, position: u64) -> Result<Vec<Event>> {
        let path = self.run.events();
        let bytes = moim_core::regular_file::read(&path)
            .with_context(|| format!("{}: cannot be read", path.display()))?;
        let lines = bytes.get(position as usize..).unwrap_or_default();
        let lines = lines.split(|byte| *byte == b'\n');
        Ok(lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect())
    }

    /// The answer files that the events so far tell of, with their save point and its step.
    pub(super) fn answered(&self) -> Result<Vec<(SavePoint, usize)>> {
        let events = self.events_from(0)?;
        let inferences = events.iter().filter_map(|event| match &event.kind {
            EventKind::Inference(answered) => Some((answered.checkpoint, answered.step)),
            _ => None,
        });
        Ok(inferences.collect())
    }

    /// What is wrong with the answers of a save point; `None` where they are whole, or gone.
    pub(super) fn fault_of_answers(&self, point: SavePoint) -> Option<String> {
        let path = self.run.answers(point);
        if !path.exists() {
            return None;
        }
        let expected = self.eval.kept.len();
        match AnswerFile::read(&path) {
            Ok(file) if file.answers.len() + file.missing.len() == expected => None,
            Ok(file) => Some(format!(
                "{}: has {} of {expected} items",
                path.display(),
                file.answers.len()
            )),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Where a run that failed can be taken up.
    pub(super) fn where_it_stands(&self) -> String {
        let step = self.journal.state().step;
        match self.journal.state().latest_checkpoint {
            Some(point) => {
                format!(
                    "it ended after step {step}, and --resume goes on from its last save point, {point}"
                )
            }
            None => format!(
                "it ended after step {step}, before its first save point, so --resume begins anew"
            ),
        }
    }
}
