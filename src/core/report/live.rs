//! Reports of a run that is being trained.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::logs::{tell, tell_all, tell_samples};
use super::{Origin, Sink, open_sink};
use crate::experiment::Reporter;
use crate::run::{CompletionRecord, Event, RunDir, Tail, WriteError};

/// The sinks that `run.report_to` asks for, in folders of the run directory that have their names.
///
/// Whoever writes the logs of a run tells each entry after it was written. The sinks open with the
/// first event: they begin with what the logs hold, which includes it. So a resumed run needs no more
/// than logs that were cut back to its save point.
///
/// A sink that cannot be written is told of once and given up; the logs still hold everything, and
/// [`export`](super::export()) makes the report from them.
pub struct Reports {
    run: RunDir,
    wanted: Vec<Reporter>,
    sinks: Vec<Open>,
    is_open: bool,
    warnings: Vec<String>,
}

struct Open {
    sink: Box<dyn Sink>,
    samples: Tail,
}

impl Reports {
    /// Reports of `run`; nothing is written before its first event.
    pub fn new(run: &RunDir, wanted: &[Reporter]) -> Self {
        let mut distinct = wanted.to_vec();
        distinct.sort_by_key(|format| format.as_str());
        distinct.dedup();
        Self {
            run: run.clone(),
            wanted: distinct,
            sinks: Vec::new(),
            is_open: false,
            warnings: Vec::new(),
        }
    }

    /// Tells an event that events.jsonl holds. Answers what a person should know: which reports could
    /// not be written, and why.
    pub fn event(&mut self, event: &Event) -> Vec<String> {
        if self.is_open {
            self.tell_sinks(|open| {
                tell_samples(&mut open.samples, &mut *open.sink)?;
                tell(event, &mut *open.sink)
            });
        } else {
            self.open();
        }
        std::mem::take(&mut self.warnings)
    }

    /// Tells completions that completions.jsonl holds.
    pub fn completions(&mut self, records: &[CompletionRecord]) {
        // Sinks that are not open find them in the log.
        self.tell_sinks(|open| open.sink.completions(records));
    }

    /// The logs were cut back: everything is written anew with the next event.
    pub fn rewind(&mut self) {
        self.sinks.clear();
        self.is_open = false;
    }

    fn open(&mut self) {
        self.is_open = true;
        for format in self.wanted.clone() {
            match open_with_logs(&self.run, format) {
                Ok(open) => self.sinks.push(open),
                Err(error) => self.give_up(format.as_str(), &format!("{error:#}")),
            }
        }
    }

    fn tell_sinks(&mut self, mut tell: impl FnMut(&mut Open) -> Result<(), WriteError>) {
        let mut failed = Vec::new();
        self.sinks.retain_mut(|open| match tell(open) {
            Ok(()) => true,
            Err(error) => {
                failed.push((open.sink.place().to_owned(), error));
                false
            }
        });
        for (place, error) in failed {
            self.give_up(&place.display().to_string(), &error.to_string());
        }
    }

    fn give_up(&mut self, report: &str, reason: &str) {
        self.warnings.push(format!(
            "{report}: this report is not written any further: {reason}. Training goes on; \
             moim export {} makes the report from the logs",
            self.run.path().display()
        ));
    }
}

/// The folder in a run directory where a report is written while the run is trained.
fn folder_of(run: &Path, format: Reporter) -> PathBuf {
    run.join(format.as_str())
}

fn open_with_logs(run: &RunDir, format: Reporter) -> Result<Open> {
    let origin = Origin::read(run)?;
    let mut sink = open_sink(format, &folder_of(run.path(), format), &origin)?;
    let mut samples = Tail::from_start(&run.system());
    tell_all(run, &mut *sink)?;
    tell_samples(&mut samples, &mut *sink)?;
    sink.publish()?;
    Ok(Open { sink, samples })
}
