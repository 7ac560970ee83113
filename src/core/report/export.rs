//! A report of a run as its logs are now.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::logs::{report_all, report_samples};
use super::{Origin, Point, open_sink};
use crate::experiment::Reporter;
use crate::run::{Event, RunDir, Tail, read_lines};

/// The result of [`export`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// What to open with the other program.
    pub path: PathBuf,
    /// Events that were read.
    pub events: usize,
    /// Lines of the logs that could not be read and were left out.
    pub unreadable: usize,
}

/// Writes a run, finished or not, into `folder`. An earlier report of the same run is replaced.
///
/// # Errors
/// Names the log that cannot be read, or the file that cannot be written.
pub fn export(run: &RunDir, format: Reporter, folder: &Path) -> Result<Exported> {
    let origin = Origin::read(run)?;
    let mut sink = open_sink(format, folder, &origin)?;
    report_samples(&mut Tail::from_start(&run.system()), &mut *sink)?;
    let reported = report_all(run, &mut *sink)?;
    if !reported.is_finished {
        sink.finish(None, Timestamp::now())?;
    }
    sink.publish()?;
    Ok(Exported {
        path: sink.path().to_owned(),
        events: reported.events,
        unreadable: reported.unreadable,
    })
}

/// The metrics of a run in the order in which they were logged; lines that cannot be read are left
/// out.
///
/// # Errors
/// events.jsonl cannot be read.
pub fn points(run: &RunDir) -> Result<Vec<Point>> {
    let events = read_lines::<Event>(&run.events())
        .with_context(|| format!("{} has no events to report", run.path().display()))?;
    Ok(events
        .flatten()
        .filter_map(|event| Point::of_event(&event))
        .collect())
}
