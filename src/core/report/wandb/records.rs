//! Messages of the log: `wandb/proto/wandb_internal.proto`. Values are JSON texts.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::report::protobuf::Message;
use crate::report::{Origin, Point};

/// Fields of `Record`.
const HISTORY: u32 = 2;
const SUMMARY: u32 = 3;
const FILES: u32 = 6;
const STATS: u32 = 7;
const RUN: u32 = 17;
const EXIT: u32 = 18;
const HEADER: u32 = 21;

/// Fields of the items of `ConfigRecord`, `HistoryRecord`, `SummaryRecord` and `StatsRecord`. A nested
/// key is a path; a metric's name is one part of it, dots and slashes included.
const KEY: u32 = 1;
const NESTED_KEY: u32 = 2;
const VALUE_JSON: u32 = 16;

/// The oldest program that can read the log, by W&B's own word.
const MIN_CONSUMER: &str = "0.70.0";
/// W&B keeps these out of a project's name.
const NOT_IN_A_PROJECT: [char; 7] = ['/', '\\', '#', '?', '%', ':', '\n'];

/// Who wrote the log.
pub(super) fn header() -> Message {
    let version = Message::new().text(1, "moim").text(2, MIN_CONSUMER);
    Message::new().message(HEADER, &Message::new().message(1, &version))
}

/// The run: its names, when it started, its configuration.
pub(super) fn run(origin: &Origin) -> Message {
    let config = origin
        .config
        .iter()
        .fold(Message::new(), |config, (section, value)| {
            config.message(1, &item(KEY, section, value))
        });
    let project = origin.experiment.replace(NOT_IN_A_PROJECT, "-");
    let run = Message::new()
        .text(1, &origin.id)
        .text(3, &project)
        .message(4, &config)
        .text(8, &origin.name)
        .text(13, &origin.host)
        .message(17, &timestamp(origin.started));
    Message::new().message(RUN, &run)
}

/// A row of the history.
pub(super) fn history(step: u64, values: &[(String, Value)]) -> Message {
    let step = Message::new().integer(1, step as i64);
    Message::new().message(HISTORY, &metrics(values).message(2, &step))
}

/// The newest value of each metric.
pub(super) fn summary(values: &[(String, Value)]) -> Message {
    Message::new().message(SUMMARY, &metrics(values))
}

/// `HistoryRecord.item` and `SummaryRecord.update`, which are alike.
fn metrics(values: &[(String, Value)]) -> Message {
    values.iter().fold(Message::new(), |items, (name, value)| {
        items.message(1, &item(NESTED_KEY, name, value))
    })
}

/// Metrics of the machine.
pub(super) fn stats(point: &Point) -> Message {
    let frame = Message::new().message(2, &timestamp(point.time));
    let items = point.scalars.iter().fold(frame, |items, (name, value)| {
        items.message(3, &item(KEY, name, &number(*value)))
    });
    Message::new().message(STATS, &items)
}

/// A file of the run's directory, below `files/`.
pub(super) fn file(path: &str) -> Message {
    let item = Message::new().text(1, path);
    Message::new().message(FILES, &Message::new().message(1, &item))
}

/// The run's end.
pub(super) fn exit(exit_code: i64, seconds: i64) -> Message {
    let exit = Message::new().integer(1, exit_code).integer(2, seconds);
    Message::new().message(EXIT, &exit)
}

/// A metric's value. W&B's program, too, writes what is not finite as a text.
pub(super) fn number(value: f64) -> Value {
    if value.is_finite() {
        json!(value)
    } else if value.is_nan() {
        json!("NaN")
    } else if value > 0.0 {
        json!("Infinity")
    } else {
        json!("-Infinity")
    }
}

fn item(key_field: u32, key: &str, value: &Value) -> Message {
    Message::new()
        .text(key_field, key)
        .text(VALUE_JSON, &value.to_string())
}

/// A `google.protobuf.Timestamp`.
fn timestamp(time: Timestamp) -> Message {
    let nanoseconds = i64::from(time.subsec_nanosecond());
    Message::new()
        .integer(1, time.as_second())
        .integer(2, nanoseconds)
}
