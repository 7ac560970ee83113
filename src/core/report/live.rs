//! Reports of a run that is being trained.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::logs::{report, report_all, report_samples};
use super::{Origin, Sink, open_sink};
use crate::experiment::Reporter;
use crate::run::{CompletionRecord, Event, RunDir, Tail, WriteError};

/// The sinks that `run.report_to` names, in folders of the run directory that have their names.
///
/// The writer of a run's logs reports each entry after it was written. The sinks open with the first event: they
/// start with what the logs contain, which includes it. So a resumed run needs no more than logs that were
/// cut back to its save point.
///
/// A sink that cannot be written is dropped, and this is reported once; the logs still contain everything, and
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

    /// Reports an event that is in events.jsonl. Returns what the user should know: which reports could
    /// not be written, and why.
    pub fn event(&mut self, event: &Event) -> Vec<String> {
        if self.is_open {
            self.each_sink(|open| {
                report_samples(&mut open.samples, &mut *open.sink)?;
                report(event, &mut *open.sink)
            });
        } else {
            self.open();
        }
        std::mem::take(&mut self.warnings)
    }

    /// Reports completions that are in completions.jsonl.
    pub fn completions(&mut self, records: &[CompletionRecord]) {
        // Sinks that are not open find them in the log.
        self.each_sink(|open| open.sink.completions(records));
    }

    /// The logs were cut back: everything is written again with the next event.
    pub fn rewind(&mut self) {
        self.sinks.clear();
        self.is_open = false;
    }

    fn open(&mut self) {
        self.is_open = true;
        for format in self.wanted.clone() {
            match open_with_logs(&self.run, format) {
                Ok(open) => self.sinks.push(open),
                Err(error) => self.drop_report(format.as_str(), &format!("{error:#}")),
            }
        }
    }

    fn each_sink(&mut self, mut write: impl FnMut(&mut Open) -> Result<(), WriteError>) {
        let mut failed = Vec::new();
        self.sinks.retain_mut(|open| match write(open) {
            Ok(()) => true,
            Err(error) => {
                failed.push((open.sink.path().to_owned(), error));
                false
            }
        });
        for (path, error) in failed {
            self.drop_report(&path.display().to_string(), &error.to_string());
        }
    }

    fn drop_report(&mut self, report: &str, reason: &str) {
        self.warnings.push(format!(
            "{report}: this report is no longer written: {reason}. Training continues; \
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
    report_all(run, &mut *sink)?;
    report_samples(&mut samples, &mut *sink)?;
    sink.publish()?;
    Ok(Open { sink, samples })
}
