//! Putting a run back to a state that it can resume from: its logs, its answers, and damaged files.

use std::io;
use std::path::Path;

use anyhow::{Context, Result};

use super::context::RunContext;
use moim_core::dataset::AnswerFile;
use moim_core::health::{Alarm, Severity};
use moim_core::run::{Event, EventKind, SavePoint, set_aside};

impl RunContext {
    /// Removes what was logged after the save point that `self.state` is of, but keeps its answers and
    /// scores. Returns whether both exist.
    pub(super) fn rewind_to_save_point(&mut self, point: Option<SavePoint>) -> Result<bool> {
        let (events, completions) = (self.state.events_position, self.state.completions_position);
        self.journal.check_lengths(events, completions)?;
        let path = self.directory.events();
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
            let step = self.state.step;
            let belongs = match &event.kind {
                EventKind::Inference(answered) => point == Some(answered.checkpoint),
                EventKind::Score(score) => point.is_some() && score.checkpoint == point,
                // Caused by an earlier resume from here, the answers or the score; the alarms of the next
                // step have its number.
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
        self.journal.rewind(end, completions)?;
        Ok(is_done)
    }

    /// Moves a save point with a damaged file aside; the run resumes from `instead`.
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
        let (severity, outcome) = match instead {
            Some(instead) => (
                Severity::Warning,
                format!("the run resumes from {}, the one before it", name(instead)),
            ),
            None => (
                Severity::Critical,
                "there is no other, so the run starts over".to_owned(),
            ),
        };
        self.pending_alarms.push(Alarm::new(
            Alarm::DAMAGED_SAVE_POINT,
            severity,
            0,
            format!(
                "{}: {problem}, so it was moved aside as {}, and {outcome}, to the same result (healthy: every save \
                 point is complete; check the disk)",
                directory.display(),
                name(&aside)
            ),
        ));
        Ok(())
    }

    /// Removes everything that was logged and answered: there is no save point to resume from.
    pub(super) fn start_over(&mut self) -> Result<()> {
        self.discard_answers(0)?;
        self.journal.rewind(0, 0)?;
        self.journal.change(|state| state.latest_checkpoint = None)
    }

    /// Deletes the answers of events from `position` on: those events are about to be removed and the
    /// questions answered again, but until then the answers would be ranked with the others.
    fn discard_answers(&self, position: u64) -> Result<()> {
        for event in self.events_from(position)? {
            let EventKind::Inference(answered) = event.kind else {
                continue;
            };
            let file = answered
                .file
                .unwrap_or_else(|| answered.checkpoint.answers_file_name());
            let path = self.directory.infer_results().join(file);
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
        let path = self.directory.events();
        let bytes = moim_core::regular_file::read(&path)
            .with_context(|| format!("{}: cannot be read", path.display()))?;
        let lines = bytes.get(position as usize..).unwrap_or_default();
        let lines = lines.split(|byte| *byte == b'\n');
        Ok(lines
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect())
    }

    /// The save points whose answers are in the events so far, with their steps.
    pub(super) fn answered(&self) -> Result<Vec<(SavePoint, usize)>> {
        let events = self.events_from(0)?;
        let inferences = events.iter().filter_map(|event| match &event.kind {
            EventKind::Inference(answered) => Some((answered.checkpoint, answered.step)),
            _ => None,
        });
        Ok(inferences.collect())
    }

    /// The problem with the answers of a save point; `None` if they are complete, or do not exist.
    pub(super) fn problem_of_answers(&self, point: SavePoint) -> Option<String> {
        let path = self.directory.answers(point);
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

    /// Where a failed run can be resumed.
    pub fn where_it_stands(&self) -> String {
        let step = self.journal.state().step;
        match self.journal.state().latest_checkpoint {
            Some(point) => {
                format!(
                    "it ended after step {step}; --resume resumes from its last save point, {point}"
                )
            }
            None => format!(
                "it ended after step {step}, before its first save point, so --resume starts over"
            ),
        }
    }
}
