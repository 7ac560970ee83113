//! TensorBoard: an event file of scalars, with the experiment as text.
//!
//! Records (`record.rs`) hold `Event` messages of `tensorflow/core/util/event.proto`:
//! `wall_time` 1, `step` 2, `file_version` 3, `summary` 5 with `value` 1: `tag` 1, `simple_value` 2,
//! `tensor` 8, `metadata` 9.

use std::path::Path;

use jiff::Timestamp;

use super::file::GrowingFile;
use super::point::unix_seconds;
use super::protobuf::Message;
use super::record::framed;
use super::{Origin, Point, Sink};
use crate::run::WriteError;

/// `DataType.DT_STRING` of `tensorflow/core/framework/types.proto`.
const STRING: i64 = 7;

/// An event file that grows.
#[derive(Debug)]
pub struct EventFile {
    file: GrowingFile,
}

impl EventFile {
    /// Begins `events.out.tfevents.<start of the run>.moim` in `folder`. The name stays when a run is
    /// resumed, so that the file is replaced.
    ///
    /// # Errors
    /// Names the folder or the file.
    pub fn create(folder: &Path, origin: &Origin) -> Result<Self, WriteError> {
        let started = origin.started;
        let name = format!("events.out.tfevents.{}.moim", started.as_second());
        let mut events = Self {
            file: GrowingFile::create(&folder.join(name))?,
        };
        events.append(&at(started, 0).text(3, "brain.Event:2"))?;
        let text = format!("```toml\n{}\n```\n", origin.toml.trim_end());
        let summary = Message::new().message(1, &text_value("experiment", &text));
        events.append(&at(started, 0).message(5, &summary))?;
        Ok(events)
    }

    fn append(&mut self, event: &Message) -> Result<(), WriteError> {
        self.file.append(&framed(event.as_bytes()))
    }

    fn summary(&mut self, prefix: &str, point: &Point) -> Result<(), WriteError> {
        if point.scalars.is_empty() {
            return Ok(());
        }
        let summary = point
            .scalars
            .iter()
            .fold(Message::new(), |summary, (name, value)| {
                let tag = format!("{prefix}{name}");
                let value = Message::new().text(1, &tag).float(2, *value as f32);
                summary.message(1, &value)
            });
        self.append(&at(point.time, point.step).message(5, &summary))
    }
}

impl Sink for EventFile {
    fn scalars(&mut self, point: &Point) -> Result<(), WriteError> {
        self.summary("", point)
    }

    fn system(&mut self, point: &Point) -> Result<(), WriteError> {
        self.summary("system/", point)
    }

    fn publish(&mut self) -> Result<(), WriteError> {
        self.file.publish()
    }

    fn path(&self) -> &Path {
        let file = self.file.path();
        file.parent().unwrap_or(file)
    }
}

/// An `Event` with its time and step.
fn at(time: Timestamp, step: u64) -> Message {
    Message::new()
        .double(1, unix_seconds(time))
        .integer(2, step as i64)
}

/// A `Summary.Value` of the text plugin: a tensor of one string, shown as Markdown.
fn text_value(tag: &str, text: &str) -> Message {
    let one_element = Message::new().message(2, &Message::new().integer(1, 1));
    let tensor = Message::new()
        .integer(1, STRING)
        .message(2, &one_element)
        .text(8, text);
    let plugin = Message::new().message(1, &Message::new().text(1, "text"));
    Message::new()
        .text(1, tag)
        .message(8, &tensor)
        .message(9, &plugin)
}
