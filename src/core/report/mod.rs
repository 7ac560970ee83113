//! A run in the formats of other programs: TensorBoard, W&B and CSV.
//!
//! The logs of a run are the truth, and everything here is written from them. A [`Sink`] starts
//! with what the logs contain, next to its final path, so that a resumed run has no step twice; then its file
//! is renamed to it ([`Sink::publish`]) and grows with the run. [`Reports`] does so while a run is
//! trained, [`export`] once, for any run.
//!
//! | | |
//! |---|---|
//! | [`tensorboard`] | an event file: scalars, the experiment as text |
//! | [`wandb`] | an offline run: history, summary, configuration, the machine, tables of completions |
//! | [`csv`] | scalars, one per row |

pub mod csv;
mod export;
mod file;
mod live;
mod logs;
mod origin;
mod point;
mod protobuf;
mod record;
pub mod tensorboard;
pub mod wandb;

use std::path::Path;

use jiff::Timestamp;

pub use export::{Exported, export, points};
pub use live::Reports;
pub use origin::Origin;
pub use point::Point;

use crate::experiment::Reporter;
use crate::run::{CompletionRecord, RunStatus, WriteError};

/// A writer of one format.
pub trait Sink: Send {
    /// Metrics of the training.
    ///
    /// # Errors
    /// Names the file; it keeps what was written before.
    fn scalars(&mut self, point: &Point) -> Result<(), WriteError>;

    /// Metrics of the machine, under [`Point::of_sample`]'s names.
    ///
    /// # Errors
    /// As [`Sink::scalars`].
    fn system(&mut self, point: &Point) -> Result<(), WriteError>;

    /// Completions of one step, in the order of completions.jsonl.
    ///
    /// # Errors
    /// As [`Sink::scalars`].
    fn completions(&mut self, _records: &[CompletionRecord]) -> Result<(), WriteError> {
        Ok(())
    }

    /// Nothing more will come; `None` if the run itself has not ended.
    ///
    /// # Errors
    /// As [`Sink::scalars`].
    fn finish(&mut self, _status: Option<RunStatus>, _time: Timestamp) -> Result<(), WriteError> {
        Ok(())
    }

    /// Renames the file to its final path, with all that was written so far; from now on it is current after
    /// each call.
    ///
    /// # Errors
    /// Names the file; what was there before is untouched.
    fn publish(&mut self) -> Result<(), WriteError>;

    /// What to open with the other program: the file, or the folder of the run.
    fn path(&self) -> &Path;
}

/// A sink of this format that writes into `folder`, which is created if it is missing.
fn open_sink(
    format: Reporter,
    folder: &Path,
    origin: &Origin,
) -> Result<Box<dyn Sink>, WriteError> {
    Ok(match format {
        Reporter::Tensorboard => Box::new(tensorboard::EventFile::create(folder, origin)?),
        Reporter::Wandb => Box::new(wandb::OfflineRun::create(folder, origin)?),
        Reporter::Csv => Box::new(csv::ScalarTable::create(folder)?),
    })
}
