//! W&B: the directory that its program leaves behind when it works offline, for `wandb leet` and
//! `wandb sync`.
//!
//! ```text
//! offline-run-20261122_142239-1f0c5a9e/
//!   run-1f0c5a9e.wandb                                      records in a log
//!   files/media/table/completions_53_4be9….table.json      completions of a step
//! ```
//!
//! A history row is written when the next one begins, as W&B's own program does: until then scores
//! and completions of the same step join it.

mod log;
mod records;
mod table;

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::point::unix_seconds;
use super::{Origin, Point, Sink};
use crate::run::{CompletionRecord, RunStatus, WriteError};
use log::RecordLog;
use table::Table;

/// The row that is being gathered.
#[derive(Debug)]
struct Row {
    step: u64,
    /// When its last metric was measured; `None` while it holds completions alone.
    time: Option<Timestamp>,
    values: Vec<(String, Value)>,
    completions: Vec<CompletionRecord>,
}

/// An offline run that grows.
#[derive(Debug)]
pub struct OfflineRun {
    folder: PathBuf,
    log: RecordLog,
    started: Timestamp,
    row: Option<Row>,
}

impl OfflineRun {
    /// Begins `offline-run-<start of the run, UTC>-<id>` in `folder`. The names stay when a run is
    /// resumed, so that its files are replaced.
    ///
    /// # Errors
    /// Names the folder or the file.
    pub fn create(folder: &Path, origin: &Origin) -> Result<Self, WriteError> {
        let stamp = origin
            .started
            .to_zoned(TimeZone::UTC)
            .strftime("%Y%m%d_%H%M%S");
        let id = &origin.id;
        let folder = folder.join(format!("offline-run-{stamp}-{id}"));
        let mut log = RecordLog::create(&folder.join(format!("run-{id}.wandb")))?;
        log.append(records::header())?;
        log.append(records::run(origin))?;
        Ok(Self {
            folder,
            log,
            started: origin.started,
            row: None,
        })
    }

    /// The row of this step; one of another step is written first.
    fn row(&mut self, step: u64) -> Result<&mut Row, WriteError> {
        if self.row.as_ref().is_some_and(|row| row.step != step) {
            self.write_row()?;
        }
        Ok(self.row.get_or_insert_with(|| Row {
            step,
            time: None,
            values: Vec::new(),
            completions: Vec::new(),
        }))
    }

    fn write_row(&mut self) -> Result<(), WriteError> {
        let Some(mut row) = self.row.take() else {
            return Ok(());
        };
        if !row.completions.is_empty() {
            let table = Table::of(&row.completions);
            self.write_table(&table, row.step)?;
            row.values
                .push(("completions".to_owned(), table.entry(row.step)));
        }
        let frame = [
            ("train/global_step", Some(json!(row.step))),
            ("_step", Some(json!(row.step))),
            ("_timestamp", row.time.map(|time| json!(unix_seconds(time)))),
            ("_runtime", row.time.map(|time| json!(self.seconds(time)))),
        ];
        let frame = frame
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)));
        row.values.extend(frame);
        self.log.append(records::history(row.step, &row.values))?;
        self.log.append(records::summary(&row.values))
    }

    fn write_table(&mut self, table: &Table, step: u64) -> Result<(), WriteError> {
        let path = table.path(step);
        let file = self.folder.join("files").join(&path);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).map_err(WriteError::on("create the folder", folder))?;
        }
        // Its name holds its checksum: the same content may be there from before the run was resumed.
        // It is read only where the log names it, which is after this.
        fs::write(&file, table.bytes()).map_err(WriteError::on("write", &file))?;
        self.log.append(records::file(&path))
    }

    /// Seconds since the run first started.
    fn seconds(&self, time: Timestamp) -> f64 {
        time.duration_since(self.started).as_secs_f64()
    }
}

impl Sink for OfflineRun {
    fn scalars(&mut self, point: &Point) -> Result<(), WriteError> {
        let row = self.row(point.step)?;
        row.time = Some(point.time);
        let values = point.scalars.iter();
        row.values
            .extend(values.map(|(name, value)| (name.clone(), records::number(*value))));
        Ok(())
    }

    fn system(&mut self, point: &Point) -> Result<(), WriteError> {
        if point.scalars.is_empty() {
            Ok(())
        } else {
            self.log.append(records::stats(point))
        }
    }

    fn completions(&mut self, completions: &[CompletionRecord]) -> Result<(), WriteError> {
        for completion in completions {
            let row = self.row(completion.step as u64)?;
            row.completions.push(completion.clone());
        }
        Ok(())
    }

    fn finish(&mut self, status: Option<RunStatus>, time: Timestamp) -> Result<(), WriteError> {
        self.write_row()?;
        match status {
            Some(status) => {
                let exit_code = i64::from(status == RunStatus::Failed);
                let seconds = self.seconds(time) as i64;
                self.log.append(records::exit(exit_code, seconds))
            }
            None => Ok(()),
        }
    }

    fn publish(&mut self) -> Result<(), WriteError> {
        self.log.publish()
    }

    fn path(&self) -> &Path {
        &self.folder
    }
}
