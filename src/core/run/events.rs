//! events.jsonl: what happened in a run, one object a line.
//!
//! ```json
//! {"v":1,"time":"2026-11-22T03:33:24.5Z","event":"step","step":1,"loss":null,"nonfinite":["loss"]}
//! ```
//!
//! JSON has no NaN and no infinity: they are written as null, and `nonfinite` lists their keys.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::jsonl::JsonLines;
use super::publish::WriteError;

/// The version of the format, written as `v`.
const VERSION: u64 = 1;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Map<String, Value>", try_from = "Map<String, Value>")]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// What, e.g. `start`, `preflight`, `resume`, `step`, `checkpoint`, `inference`, `score`, `alarm`, `paused`,
    /// `continued`, `moving`, `done`.
    pub name: String,
    /// Everything else, in the order it was given, `nonfinite` included.
    pub fields: Map<String, Value>,
}

impl Event {
    /// An event of this moment.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            time: Timestamp::now(),
            name: name.into(),
            fields: Map::new(),
        }
    }

    /// Adds a field. Numbers that are not finite become null and are listed under `nonfinite`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl FieldValue) -> Self {
        self.set(key, value);
        self
    }

    /// As [`Event::with`], in place.
    pub fn set(&mut self, key: &str, value: impl FieldValue) {
        let (value, is_finite) = value.to_json();
        if let Some(Value::Array(keys)) = self.fields.get_mut("nonfinite") {
            keys.retain(|listed| listed != key);
        }
        self.fields.insert(key.to_owned(), value);
        if !is_finite {
            let listed = self
                .fields
                .entry("nonfinite")
                .or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(keys) = listed {
                keys.push(Value::String(key.to_owned()));
            }
        }
    }

    /// A number: NaN where it was not finite, `None` where there is no such number.
    pub fn number(&self, key: &str) -> Option<f64> {
        match self.fields.get(key)? {
            Value::Null if self.is_nonfinite(key) => Some(f64::NAN),
            value => value.as_f64(),
        }
    }

    /// A text field.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.fields.get(key)?.as_str()
    }

    /// Whether the field held a number that was not finite.
    pub fn is_nonfinite(&self, key: &str) -> bool {
        let listed = self.fields.get("nonfinite").and_then(Value::as_array);
        listed.is_some_and(|keys| keys.iter().any(|listed| listed == key))
    }

    /// The line in events.jsonl, without its line break.
    pub fn to_line(&self) -> String {
        Value::Object(self.clone().into()).to_string()
    }
}

impl From<Event> for Map<String, Value> {
    fn from(event: Event) -> Self {
        let mut object = Map::new();
        object.insert("v".to_owned(), VERSION.into());
        object.insert("time".to_owned(), event.time.to_string().into());
        object.insert("event".to_owned(), event.name.into());
        let mut fields = event.fields;
        let nonfinite = fields
            .shift_remove("nonfinite")
            .filter(|keys| *keys != Value::Array(Vec::new()));
        fields.extend(nonfinite.map(|keys| ("nonfinite".to_owned(), keys)));
        for (key, value) in fields {
            // The frame cannot be overwritten by a field of the same name.
            object.entry(key).or_insert(value);
        }
        object
    }
}

/// A line that is no event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnEvent {
    /// `time` or `event` is missing or of another type.
    #[error("no event: lacks {0:?}")]
    Lacks(&'static str),
    /// `time` is not RFC 3339.
    #[error("no event: time {0:?} is not RFC 3339")]
    Time(String),
    /// Written by a later version of the format.
    #[error("an event of format version {0}; this program reads version 1: use a newer one")]
    Version(String),
}

impl TryFrom<Map<String, Value>> for Event {
    type Error = NotAnEvent;

    fn try_from(mut object: Map<String, Value>) -> Result<Self, NotAnEvent> {
        match object.shift_remove("v") {
            Some(version) if version == VERSION => {}
            Some(version) => return Err(NotAnEvent::Version(version.to_string())),
            None => return Err(NotAnEvent::Lacks("v")),
        }
        let Some(Value::String(time)) = object.shift_remove("time") else {
            return Err(NotAnEvent::Lacks("time"));
        };
        let time = time.parse().map_err(|_| NotAnEvent::Time(time))?;
        let Some(Value::String(name)) = object.shift_remove("event") else {
            return Err(NotAnEvent::Lacks("event"));
        };
        Ok(Self {
            time,
            name,
            fields: object,
        })
    }
}

/// A value that can stand in an [`Event`]. Written out for each type, so that a float that is not
/// finite cannot become null unnoticed.
pub trait FieldValue {
    /// The JSON value, and whether every number in it is finite.
    fn to_json(self) -> (Value, bool);
}

impl FieldValue for f64 {
    fn to_json(self) -> (Value, bool) {
        (Value::from(self), self.is_finite())
    }
}

impl FieldValue for f32 {
    fn to_json(self) -> (Value, bool) {
        // By way of the shortest decimal: 0.1f32 is written as 0.1, not as 0.10000000149011612.
        let shortest = self.to_string().parse().unwrap_or_else(|_| f64::from(self));
        f64::to_json(shortest)
    }
}

macro_rules! always_finite {
    ($($type:ty),*) => {$(
        impl FieldValue for $type {
            fn to_json(self) -> (Value, bool) {
                (Value::from(self), true)
            }
        }
    )*};
}

always_finite!(bool, u8, u16, u32, u64, usize, i32, i64, &str, String, Value, Map<String, Value>);

impl FieldValue for &String {
    fn to_json(self) -> (Value, bool) {
        (Value::from(self.as_str()), true)
    }
}

impl<T: FieldValue> FieldValue for Option<T> {
    fn to_json(self) -> (Value, bool) {
        self.map_or((Value::Null, true), T::to_json)
    }
}

impl<T: FieldValue> FieldValue for Vec<T> {
    fn to_json(self) -> (Value, bool) {
        let mut all_finite = true;
        let values = self.into_iter().map(|value| {
            let (value, is_finite) = value.to_json();
            all_finite &= is_finite;
            value
        });
        (Value::Array(values.collect()), all_finite)
    }
}

impl<T: FieldValue + Clone> FieldValue for &[T] {
    fn to_json(self) -> (Value, bool) {
        self.to_vec().to_json()
    }
}

/// Sees each event and its line, after it was written.
pub type Observer = Box<dyn FnMut(&Event, &str) + Send>;

/// The writer of events.jsonl.
pub struct EventLog {
    lines: JsonLines,
    observer: Option<Observer>,
}

impl EventLog {
    /// Opens `path` for appending; a line that a crash tore is moved to `events.discarded.jsonl`.
    ///
    /// # Errors
    /// Names the file.
    pub fn open(path: &Path) -> Result<Self, WriteError> {
        Ok(Self {
            lines: JsonLines::open(path)?,
            observer: None,
        })
    }

    /// Hands every later event to `observer`, with the very line that the file got.
    pub fn observe(&mut self, observer: Observer) {
        self.observer = Some(observer);
    }

    /// Appends one event, in one write.
    ///
    /// # Errors
    /// Names the file (a full disk, say); the file keeps its whole lines.
    pub fn append(&mut self, event: &Event) -> Result<(), WriteError> {
        let line = event.to_line();
        self.lines.append(&line)?;
        if let Some(observer) = &mut self.observer {
            observer(event, &line);
        }
        Ok(())
    }

    /// The length of the file in bytes, to be saved with a checkpoint.
    pub fn position(&self) -> u64 {
        self.lines.position()
    }

    /// Waits until every event is on the disk; called at save points.
    ///
    /// # Errors
    /// Names the file.
    pub fn sync(&self) -> Result<(), WriteError> {
        self.lines.sync()
    }

    /// Whether the log is as long as a saved [`EventLog::position`].
    ///
    /// # Errors
    /// Names the file: it is shorter.
    pub fn check_length(&self, position: u64) -> Result<(), WriteError> {
        self.lines.check_length(position)
    }

    /// Cuts the log back to a saved [`EventLog::position`]: the steps after it will be taken again.
    /// What is cut goes to `events.discarded.jsonl`.
    ///
    /// # Errors
    /// Names the file: it is shorter than that, or the position is inside a line.
    pub fn truncate_to(&mut self, position: u64) -> Result<(), WriteError> {
        self.lines.truncate_to(position)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::run::read_lines;

    #[test]
    fn the_line_has_the_frame_first_and_the_fields_in_order() {
        let mut event = Event::new("step")
            .with("step", 3usize)
            .with("loss", 0.25)
            .with("v", 9u64);
        event.time = "2026-11-22T03:33:24.5Z".parse().unwrap();
        assert_eq!(
            event.to_line(),
            r#"{"v":1,"time":"2026-11-22T03:33:24.5Z","event":"step","step":3,"loss":0.25}"#
        );
    }

    #[test]
    fn numbers_that_are_not_finite_are_listed() {
        let event = Event::new("step")
            .with("rate", f64::NAN)
            .with("loss", f64::NAN)
            .with("kl", f32::INFINITY)
            .with("rewards", vec![Some(1.0), Some(f64::NAN), None])
            .with("absent", None::<f64>)
            .with("rate", 0.1f32)
            .with("name", "가");
        let line = event.to_line();
        assert!(
            line.contains(r#""rate":0.1,"loss":null,"kl":null,"rewards":[1.0,null,null],"absent":null,"name":"가","nonfinite":["loss","kl","rewards"]"#),
            "{line}"
        );
        let back: Event = serde_json::from_str(&line).unwrap();
        assert_eq!(back, event);
        assert!(back.number("loss").is_some_and(f64::is_nan));
        assert_eq!(
            (back.number("absent"), back.number("rate")),
            (None, Some(0.1))
        );
        assert_eq!(back.text("name"), Some("가"));
    }

    #[test]
    fn what_is_appended_is_read_again_and_observed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut log = EventLog::open(&path).unwrap();
        let observed = Arc::clone(&seen);
        log.observe(Box::new(move |_, line| {
            observed.lock().unwrap().push(line.to_owned())
        }));
        log.append(&Event::new("run_started")).unwrap();
        let saved = log.position();
        log.append(&Event::new("step").with("step", 1usize))
            .unwrap();
        log.sync().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().collect::<Vec<_>>(), *seen.lock().unwrap());
        log.truncate_to(saved).unwrap();
        let events: Vec<Event> = read_lines(&path).unwrap().map(Result::unwrap).collect();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].name, "run_started");
    }

    #[test]
    fn lines_that_are_no_events_say_why() {
        for (line, words) in [
            (
                r#"{"time":"2026-11-22T03:33:24Z","event":"step"}"#,
                "lacks \"v\"",
            ),
            (
                r#"{"v":2,"time":"2026-11-22T03:33:24Z","event":"step"}"#,
                "version 2",
            ),
            (r#"{"v":1,"time":"yesterday","event":"step"}"#, "RFC 3339"),
            (
                r#"{"v":1,"time":"2026-11-22T03:33:24Z"}"#,
                "lacks \"event\"",
            ),
        ] {
            let error = serde_json::from_str::<Event>(line).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
