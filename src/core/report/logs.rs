//! The logs of a run, written to a sink.

use std::path::PathBuf;

use anyhow::Result;

use super::{Point, Sink};
use crate::run::{
    BadLine, CompletionRecord, Event, EventKind, RunDir, RunStatus, SystemSample, Tail, WriteError,
    read_lines,
};

/// What was written to a sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reported {
    /// Events.
    pub(super) events: usize,
    /// Lines that could not be read and were left out.
    pub(super) unreadable: usize,
    /// Whether the last event ended the run.
    pub(super) is_finished: bool,
}

/// Writes everything in events.jsonl and completions.jsonl, completions of a step after its events
/// as the trainer logs them. Each file is read line by line: logs of completions grow large.
///
/// # Errors
/// events.jsonl cannot be read, or those of the sink.
pub(super) fn report_all(run: &RunDir, sink: &mut dyn Sink) -> Result<Reported> {
    let mut reported = Reported::default();
    let mut completions = Completions::open(run.completions());
    for event in read_lines::<Event>(&run.events())? {
        let Ok(event) = event else {
            reported.unreadable += 1;
            continue;
        };
        if let Some(point) = Point::of_event(&event) {
            completions.write_before(point.step, sink)?;
        }
        let is_finished = matches!(event.kind, EventKind::Done(_));
        if is_finished {
            completions.write_before(u64::MAX, sink)?;
        }
        report(&event, sink)?;
        reported.events += 1;
        reported.is_finished = is_finished;
    }
    completions.write_before(u64::MAX, sink)?;
    reported.unreadable += completions.unreadable;
    Ok(reported)
}

/// Writes one event.
pub(super) fn report(event: &Event, sink: &mut dyn Sink) -> Result<(), WriteError> {
    if let Some(point) = Point::of_event(event) {
        sink.scalars(&point)?;
    }
    if let EventKind::Done(done) = &event.kind {
        let ended = done.status.filter(|status| status.is_over());
        sink.finish(ended.or(Some(RunStatus::Finished)), event.time)?;
    }
    Ok(())
}

/// Writes what was added to system.jsonl. Samples are no part of what a run computes, so what cannot be
/// read of them is left out.
pub(super) fn report_samples(samples: &mut Tail, sink: &mut dyn Sink) -> Result<(), WriteError> {
    if samples.look().is_err() {
        return Ok(());
    }
    while let Ok(Some(lines)) = samples.newer() {
        for sample in lines.values::<SystemSample>().flatten() {
            sink.system(&Point::of_sample(&sample))?;
        }
    }
    Ok(())
}

/// completions.jsonl, step after step.
struct Completions {
    lines: Option<Box<dyn Iterator<Item = Result<CompletionRecord, BadLine>>>>,
    /// Read already, and of a later step than requested.
    next: Option<CompletionRecord>,
    unreadable: usize,
}

impl Completions {
    /// A run that logs no completions has no such file.
    fn open(path: PathBuf) -> Self {
        let lines = read_lines(&path).ok();
        Self {
            lines: lines.map(|lines| Box::new(lines) as Box<_>),
            next: None,
            unreadable: 0,
        }
    }

    /// Writes the completions of all steps before `step`.
    fn write_before(&mut self, step: u64, sink: &mut dyn Sink) -> Result<(), WriteError> {
        loop {
            let Some(record) = self.next.take().or_else(|| self.read()) else {
                return Ok(());
            };
            if record.step as u64 >= step {
                self.next = Some(record);
                return Ok(());
            }
            sink.completions(std::slice::from_ref(&record))?;
        }
    }

    fn read(&mut self) -> Option<CompletionRecord> {
        loop {
            match self.lines.as_mut()?.next()? {
                Ok(record) => return Some(record),
                Err(_) => self.unreadable += 1,
            }
        }
    }
}
