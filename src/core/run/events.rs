//! events.jsonl: what happened in a run, one JSON object per line.
//!
//! ```json
//! {"v":1,"time":"2026-11-22T03:33:24.5Z","event":"step","step":1,"total_steps":9,"loss":null,"nonfinite":["loss"]}
//! ```
//!
//! An [`Event`] is a time and an [`EventKind`], which has one variant per name. Fields that this version does
//! not know are kept in [`Event::unknown`]; an event that it does not know, or whose fields are not those of its
//! name, is an [`EventKind::Other`] with all its fields there. So a log of an earlier or a later release is read
//! whole, and written again as it was.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use super::checkpoints::SavePoint;
use super::fields::{Field, Fields, as_serde_has_it};
use super::jsonl::JsonLines;
use super::publish::WriteError;
use super::state::RunStatus;
use crate::numbers::{decimal, duration};

/// The version of the format, written as `v`.
const VERSION: u64 = 1;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Map<String, Value>", try_from = "Map<String, Value>")]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// What.
    pub kind: EventKind,
    /// Fields that this version does not know, written after those it knows.
    pub unknown: Fields,
}

impl Event {
    /// An event of this moment.
    pub fn new(kind: impl Into<EventKind>) -> Self {
        Self {
            time: Timestamp::now(),
            kind: kind.into(),
            unknown: Fields::default(),
        }
    }

    /// An event of this moment from its name and its fields. A null among them is a number that is not finite.
    #[cfg(test)]
    pub(crate) fn from_fields(name: &str, values: Map<String, Value>) -> Self {
        let mut fields = Fields::default();
        for (key, value) in values {
            let is_finite = !value.is_null();
            fields.insert(&key, value, is_finite);
        }
        Self::of(Timestamp::now(), name.to_owned(), fields)
    }

    /// A line in the frame of an event that is none of a run's log, for a command that writes its own.
    pub fn other(name: &str, fields: impl Into<Fields>) -> Self {
        Self {
            unknown: fields.into(),
            ..Self::new(EventKind::Other(name.to_owned()))
        }
    }

    fn of(time: Timestamp, name: String, mut fields: Fields) -> Self {
        let kind = EventKind::read(name, &mut fields);
        Self {
            time,
            kind,
            unknown: fields,
        }
    }

    /// Adds a field that is none of its kind's own.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Field) -> Self {
        self.unknown.set(key, &value);
        self
    }

    /// The name in the log, e.g. `step`.
    pub fn name(&self) -> &str {
        self.kind.name()
    }

    /// Optimizer steps taken when it happened; `None` before the first and of an event that this version does not
    /// know.
    pub fn step(&self) -> Option<usize> {
        match &self.kind {
            EventKind::Start(_) | EventKind::Preflight(_) | EventKind::Other(_) => None,
            EventKind::Resume(resume) => Some(resume.step),
            EventKind::Step(step) => Some(step.step),
            EventKind::Checkpoint(saved) => Some(saved.step),
            EventKind::Inference(answered) => Some(answered.step),
            EventKind::Score(score) => score.step,
            EventKind::Alarm(alarm) => Some(alarm.step),
            EventKind::Moving(moving) => Some(moving.step),
            EventKind::Paused(paused) => Some(paused.step),
            EventKind::Continued(continued) => Some(continued.step),
            EventKind::Done(done) => Some(done.step),
        }
    }

    /// The alarms that an event raises: itself, or one per finding of the checks before the first step.
    pub fn alarms(&self) -> Vec<Alarm> {
        match &self.kind {
            EventKind::Alarm(alarm) => vec![Alarm::clone(alarm)],
            EventKind::Preflight(preflight) => {
                let findings = preflight.findings.iter().flatten();
                findings.map(Finding::to_alarm).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The line in events.jsonl, without its line break.
    pub fn to_line(&self) -> String {
        Value::Object(self.clone().into()).to_string()
    }
}

/// A text in one sentence, without the time.
impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EventKind::Other(name) = &self.kind else {
            return self.kind.fmt(formatter);
        };
        match self.unknown.get("message").and_then(Value::as_str) {
            Some(message) => formatter.write_str(message),
            None => formatter.write_str(name),
        }
    }
}

impl From<Event> for Map<String, Value> {
    fn from(event: Event) -> Self {
        let mut object = Map::new();
        object.insert("v".to_owned(), VERSION.into());
        object.insert("time".to_owned(), event.time.to_string().into());
        object.insert("event".to_owned(), event.name().into());
        let mut fields = Fields::default();
        event.kind.write(&mut fields);
        fields.append(&event.unknown);
        for (key, value) in Self::from(fields) {
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
        Ok(Self::of(time, name, object.into()))
    }
}

/// The fields of one kind of event.
trait Body: Sized {
    /// Its name in the log.
    const NAME: &str;

    /// Sets the fields, in the order of the log.
    fn write(&self, fields: &mut Fields);

    /// Removes the fields that it knows. `None` if a required one is missing or of another type; then all of
    /// them stay.
    fn read(fields: &mut Fields) -> Option<Self>;
}

/// The enum of all kinds, from the types of their fields.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident),* $(,)?) => {
        /// What happened.
        #[derive(Clone, Debug, PartialEq)]
        pub enum EventKind {
            $($(#[$doc])* $kind(Box<$kind>),)*
            /// An event of another release or program, by its name.
            Other(String),
        }

        impl EventKind {
            /// The name in the log, e.g. `step`.
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$kind(_) => $kind::NAME,)*
                    Self::Other(name) => name,
                }
            }

            fn write(&self, fields: &mut Fields) {
                match self {
                    $(Self::$kind(body) => body.write(fields),)*
                    Self::Other(_) => {}
                }
            }

            fn read(name: String, fields: &mut Fields) -> Self {
                let kind = match name.as_str() {
                    $($kind::NAME => $kind::read(fields).map(|body| Self::$kind(Box::new(body))),)*
                    _ => None,
                };
                kind.unwrap_or(Self::Other(name))
            }
        }

        $(impl From<$kind> for EventKind {
            fn from(body: $kind) -> Self {
                Self::$kind(Box::new(body))
            }
        })*
    };
}

kinds! {
    /// The run starts: what will be done, to what, with what. The first event.
    Start,
    /// What was checked before the first step.
    Preflight,
    /// The run resumes from a save point.
    Resume,
    /// An optimizer step was taken.
    Step,
    /// A save point was written.
    Checkpoint,
    /// The evaluation set was answered with a save point.
    Inference,
    /// The answers of a save point were scored.
    Score,
    /// Something that the user should know.
    Alarm,
    /// The run moves again after a stall.
    Moving,
    /// The run waits until it is resumed.
    Paused,
    /// The run continues after a pause.
    Continued,
    /// The run ended. The last event.
    Done,
}

/// Each kind as a struct, with its name and its fields in the order of the log.
macro_rules! bodies {
    ($(
        $(#[$outer:meta])*
        $name:literal => $kind:ident {
            $($(#[$doc:meta])* $field:ident: $type:ty,)*
        }
    )*) => {$(
        $(#[$outer])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $kind {
            $($(#[$doc])* pub $field: $type,)*
        }

        impl Body for $kind {
            const NAME: &str = $name;

            fn write(&self, fields: &mut Fields) {
                $(self.$field.write(stringify!($field), fields);)*
            }

            fn read(fields: &mut Fields) -> Option<Self> {
                let mut rest = fields.clone();
                let body = Self {
                    $($field: Field::read(stringify!($field), &mut rest)?,)*
                };
                *fields = rest;
                Some(body)
            }
        }
    )*};
}

bodies! {
    /// The fields of `start`. Those that are `None` were not written by earlier releases.
    #[derive(Default)]
    "start" => Start {
        /// `<experiment>/<run>`.
        id: Option<String>,
        /// The run directory.
        directory: Option<String>,
        /// E.g. `cuda:0`.
        device: Option<String>,
        /// The version of moim.
        version: Option<String>,
        /// Parameters of the base model.
        parameters: Option<usize>,
        /// Parameters of the adapter.
        trained_parameters: Option<usize>,
        /// Prompts that are trained on.
        train_prompts: Option<usize>,
        /// Items of the evaluation set.
        eval_items: Option<usize>,
        /// Optimizer steps in all.
        total_steps: Option<usize>,
        /// The sizes of a batch.
        batch: Option<BatchSizes>,
        /// The tokens that end a completion.
        stop_tokens: Option<Vec<u32>>,
        /// The names of the rewards.
        rewards: Option<Vec<String>>,
        /// The formula that combines them.
        formula: Option<String>,
        /// The seed.
        seed: Option<u64>,
        /// Bytes of device memory that the plan predicts; `None` without a plan.
        predicted_bytes: Option<u64>,
        /// How much goes through the model at a time.
        sizes: Option<PartSizes>,
    }

    /// The fields of `preflight`.
    "preflight" => Preflight {
        /// Checks that found something worth knowing.
        warnings: usize,
        /// Checks that speak against the run, which was forced.
        errors: usize,
        /// What they found.
        findings: Option<Findings>,
        /// The time they took.
        seconds: Option<f64>,
    }

    /// The fields of `resume`.
    "resume" => Resume {
        /// Optimizer steps taken by then.
        step: usize,
        /// The run directory.
        directory: Option<String>,
        /// The name of the save point's folder.
        checkpoint: String,
    }

    /// The fields of `checkpoint`.
    "checkpoint" => Checkpoint {
        /// The save point.
        checkpoint: SavePoint,
        /// Optimizer steps taken by then.
        step: usize,
        /// The largest difference between the adapter and what was read back; 0.
        adapter_difference: Option<f64>,
    }

    /// The fields of `inference`.
    "inference" => Inference {
        /// The save point that answered.
        checkpoint: SavePoint,
        /// Its optimizer step.
        step: usize,
        /// The answer file.
        file: Option<String>,
        /// Items answered.
        items: usize,
        /// Tokens of all answers.
        tokens: usize,
        /// The time they took.
        seconds: f64,
    }

    /// The fields of `score`: a row of the leaderboard's JSON form, without its nulls, and what ranks first.
    #[derive(Default)]
    "score" => Score {
        /// The answer file.
        file: Option<String>,
        /// Its epoch, if it is of the end of one.
        epoch: Option<u64>,
        /// E.g. `complete`.
        state: Option<String>,
        /// Its rank, from 1; `None` if it is not ranked.
        rank: Option<usize>,
        /// Mean ROUGE-1.
        rouge1: Option<f64>,
        /// Mean BERTScore.
        bertscore: Option<f64>,
        /// Share of exact matches.
        em: Option<f64>,
        /// The mean that ranks; `None` if it is not ranked.
        final_mean: Option<f64>,
        /// Share of answers in the right format.
        format: Option<f64>,
        /// Confidence intervals of the means, by name.
        intervals: Option<MeanIntervals>,
        /// The means of each question type.
        per_type: Option<Map<String, Value>>,
        /// Files with the same rank.
        tied_with: Option<Vec<String>>,
        /// The difference from what ranks first.
        against_best: Option<Value>,
        /// The difference from the untrained model.
        against_epoch0: Option<Value>,
        /// Items answered.
        answered: Option<usize>,
        /// Items in all.
        expected: Option<usize>,
        /// Items without an answer.
        missing: Option<Vec<String>>,
        /// Answers to no item.
        extra: Option<Vec<String>>,
        /// Whether the scores are of an earlier version of the file.
        stale: Option<bool>,
        /// Why it is not ranked.
        reason: Option<String>,
        /// The line that cannot be read.
        line: Option<usize>,
        /// The column in it.
        column: Option<usize>,
        /// The save point.
        checkpoint: Option<SavePoint>,
        /// Its optimizer step.
        step: Option<usize>,
        /// The answer file that ranks first.
        best: Option<String>,
        /// Its Final Mean.
        best_final_mean: Option<f64>,
    }

    /// The fields of `moving`.
    "moving" => Moving {
        /// The step of the phase that moves, or the last one taken.
        step: usize,
        /// The phase that moves.
        phase: Option<String>,
        /// How long nothing moved.
        seconds: Option<f64>,
        /// A sentence.
        message: String,
    }

    /// The fields of `paused`.
    "paused" => Paused {
        /// Optimizer steps taken.
        step: usize,
    }

    /// The fields of `continued`.
    "continued" => Continued {
        /// Optimizer steps taken.
        step: usize,
    }

    /// The fields of `done`.
    "done" => Done {
        /// How it ended.
        status: Option<RunStatus>,
        /// Optimizer steps taken.
        step: usize,
        /// Why it failed.
        message: Option<String>,
        /// The answer file that ranks first.
        best: Option<String>,
        /// Steps that were dropped because their loss or gradient was not finite.
        dropped_steps: Option<usize>,
        /// Rewards that were not finite.
        nonfinite_rewards: Option<usize>,
    }
}

/// The sizes of a batch under their short names; ARCHITECTURE.md explains them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(non_snake_case, reason = "the names in the log")]
pub struct BatchSizes {
    /// Completions per device and micro-batch.
    pub B: usize,
    /// Completions per prompt.
    pub G: usize,
    /// Micro-batches per optimizer step.
    pub A: usize,
    /// Devices.
    pub D: usize,
    /// Micro-batches per generation.
    pub S: usize,
    /// Completions per optimizer step.
    pub completions_per_step: usize,
    /// Prompts per optimizer step.
    pub prompts_per_step: usize,
    /// Optimizer steps per epoch.
    pub steps_per_epoch: usize,
    /// Prompts at the end of an epoch that fill no batch.
    pub dropped_prompts: usize,
    /// Sizes that this version does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// How much goes through the model at a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartSizes {
    /// Completions that are sampled together.
    pub rollout_rows: usize,
    /// Items that are answered together.
    pub answered_together: usize,
    /// Completions that are trained on together; `None` for a whole micro-batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_per_part: Option<usize>,
    /// Sizes that this version does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

/// What a check before the first step found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// The check, e.g. `rewards`.
    #[serde(default)]
    pub check: String,
    /// `warning` or `error`.
    #[serde(default)]
    pub severity: String,
    /// A sentence.
    #[serde(default)]
    pub message: String,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Map<String, Value>,
}

impl Finding {
    fn to_alarm(&self) -> Alarm {
        let severity = match self.severity.as_str() {
            "error" => Severity::Critical,
            _ => Severity::Warning,
        };
        Alarm::new(self.check.clone(), severity, 0, self.message.clone())
    }
}

/// Confidence intervals by the name of the mean, e.g. `final_mean`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MeanIntervals(Map<String, Value>);

impl MeanIntervals {
    /// The low and the high end of an interval.
    pub fn of(&self, mean: &str) -> Option<[f64; 2]> {
        <[f64; 2]>::deserialize(self.0.get(mean)?).ok()
    }
}

/// What the checks found.
type Findings = Vec<Finding>;

as_serde_has_it!(BatchSizes, PartSizes, Findings, MeanIntervals);

/// The fields of `step`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// Optimizer steps taken, this one included.
    pub step: usize,
    /// Optimizer steps in all; 0 if the log does not say.
    pub total_steps: usize,
    /// What was measured.
    pub metrics: Metrics,
}

impl Body for Step {
    const NAME: &str = "step";

    fn write(&self, fields: &mut Fields) {
        self.step.write("step", fields);
        self.total_steps.write("total_steps", fields);
        for (name, number) in &self.metrics.0 {
            let value = number.clone().map_or(Value::Null, Value::Number);
            fields.insert(name, value, number.is_some());
        }
    }

    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self {
            step: usize::read("step", fields)?,
            total_steps: usize::read("total_steps", fields).unwrap_or_default(),
            metrics: Metrics(fields.take_numbers()),
        })
    }
}

/// The metrics of a step under TRL's names, in the order of the log. The names are an open set: each reward of
/// an experiment has its own, and charts and reports show whatever a log contains.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(
    /// `None` is a number that is not finite; the log does not distinguish NaN from infinity.
    Vec<(String, Option<Number>)>,
);

impl Metrics {
    /// A metric; NaN if it is not finite, `None` if there is none of this name.
    pub fn get(&self, name: &str) -> Option<f64> {
        let (_, number) = self.0.iter().find(|(known, _)| known == name)?;
        Some(value_of(number.as_ref()))
    }

    /// Sets a metric.
    pub fn set(&mut self, name: &str, value: impl Metric) {
        let number = value.to_number();
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = number,
            None => self.0.push((name.to_owned(), number)),
        }
    }

    /// Adds a metric.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Metric) -> Self {
        self.set(name, value);
        self
    }

    /// Sets every metric of `other`.
    pub fn extend(&mut self, other: Self) {
        for (name, number) in other.0 {
            self.set(&name, number);
        }
    }

    /// Each metric with its name, NaN if it is not finite.
    pub fn iter(&self) -> impl Iterator<Item = (&str, f64)> {
        let metrics = self.0.iter();
        metrics.map(|(name, number)| (name.as_str(), value_of(number.as_ref())))
    }
}

fn value_of(number: Option<&Number>) -> f64 {
    number.and_then(Number::as_f64).unwrap_or(f64::NAN)
}

/// A number that can be a metric: a count is written without a decimal point.
pub trait Metric {
    /// The number; `None` if it is not finite.
    fn to_number(self) -> Option<Number>;
}

/// As it is in [`Metrics`]: `None` is not finite.
impl Metric for Option<Number> {
    fn to_number(self) -> Option<Number> {
        self
    }
}

impl Metric for f64 {
    fn to_number(self) -> Option<Number> {
        Number::from_f64(self)
    }
}

impl Metric for usize {
    fn to_number(self) -> Option<Number> {
        Some(self.into())
    }
}

impl Metric for u64 {
    fn to_number(self) -> Option<Number> {
        Some(self.into())
    }
}

/// How much an alarm matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Outside the healthy range: worth a look.
    Warning,
    /// If nothing changes, the run is most likely wasted.
    Critical,
}

impl Severity {
    /// The word in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl Field for Severity {
    fn write(&self, key: &str, fields: &mut Fields) {
        fields.insert(key, self.as_str().into(), true);
    }

    fn read(key: &str, fields: &mut Fields) -> Option<Self> {
        let severity = match fields.get(key)?.as_str()? {
            "warning" => Self::Warning,
            "critical" => Self::Critical,
            _ => return None,
        };
        fields.remove(key);
        Some(severity)
    }
}

/// Something about a run that the user should know: the fields of `alarm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// The optimizer step at which the condition began.
    pub step: usize,
    /// The condition in one word, e.g. `entropy_collapse`; the same for every alarm of it.
    pub code: Cow<'static, str>,
    /// How much it matters.
    pub severity: Severity,
    /// A sentence with the numbers, the healthy range and how to fix it.
    pub message: String,
    /// How often it was met, where that is counted.
    pub count: Option<usize>,
    /// Where a run stalled.
    pub stall: Option<Stall>,
}

/// The last sign of progress of a run that stalled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    /// The phase that does not move.
    pub phase: String,
    /// Its last count.
    pub done: usize,
    /// What it counts to.
    pub total: usize,
    /// The time of the last sign.
    pub since: Timestamp,
}

impl Alarm {
    /// The code of a step that was dropped because its loss or gradient was not finite.
    pub const NONFINITE: &'static str = "nonfinite";
    /// The code of a reward that was NaN or infinite; `count` is how often.
    pub const NONFINITE_REWARD: &'static str = "nonfinite_reward";
    /// The code of work that was retried in smaller parts after running out of memory.
    pub const OUT_OF_MEMORY: &'static str = "out_of_memory";
    /// The code of a save point that was found damaged on resume.
    pub const DAMAGED_SAVE_POINT: &'static str = "damaged_save_point";
    /// The code of an answer file that was found damaged on resume.
    pub const DAMAGED_ANSWERS: &'static str = "damaged_answers";
    /// The code of a phase that does not move; an event `moving` takes it back.
    pub const STALLED: &'static str = "stalled";

    /// An alarm without a count and without a stall.
    pub fn new(
        code: impl Into<Cow<'static, str>>,
        severity: Severity,
        step: usize,
        message: impl Into<String>,
    ) -> Self {
        Self {
            step,
            code: code.into(),
            severity,
            message: message.into(),
            count: None,
            stall: None,
        }
    }

    /// Whether `event` is the alarm of this condition at this step.
    pub fn is_reported_by(&self, event: &Event) -> bool {
        match &event.kind {
            EventKind::Alarm(alarm) => alarm.code == self.code && alarm.step == self.step,
            _ => false,
        }
    }
}

impl Body for Alarm {
    const NAME: &str = "alarm";

    fn write(&self, fields: &mut Fields) {
        self.step.write("step", fields);
        fields.set("code", &self.code.to_string());
        self.severity.write("severity", fields);
        self.message.write("message", fields);
        self.count.write("count", fields);
        if let Some(stall) = &self.stall {
            stall.phase.write("phase", fields);
            stall.done.write("done", fields);
            stall.total.write("total", fields);
            stall.since.write("since", fields);
        }
    }

    /// Never `None`: the first releases wrote a `kind` where later ones write a `code`, and no severity.
    fn read(fields: &mut Fields) -> Option<Self> {
        let code = String::read("code", fields).or_else(|| {
            let kind = fields.get("kind").and_then(Value::as_str);
            kind.map(str::to_owned)
        });
        let stall = |fields: &mut Fields| {
            let mut rest = fields.clone();
            let stall = Stall {
                phase: Field::read("phase", &mut rest)?,
                done: Field::read("done", &mut rest)?,
                total: Field::read("total", &mut rest)?,
                since: Field::read("since", &mut rest)?,
            };
            *fields = rest;
            Some(stall)
        };
        Some(Self {
            step: usize::read("step", fields).unwrap_or_default(),
            code: code.map_or(Cow::Borrowed("alarm"), Cow::Owned),
            severity: Severity::read("severity", fields).unwrap_or(Severity::Warning),
            message: String::read("message", fields)
                .unwrap_or_else(|| "something is wrong".to_owned()),
            count: usize::read("count", fields),
            stall: stall(fields),
        })
    }
}

impl Score {
    /// The score of an answer file from its row of the leaderboard's JSON form.
    pub fn of_row(mut row: Map<String, Value>) -> Option<Self> {
        row.retain(|_, value| !value.is_null());
        Self::read(&mut row.into())
    }
}

/// A text in one sentence.
impl fmt::Display for EventKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(start) => start.fmt(formatter),
            Self::Preflight(preflight) => match (preflight.errors, preflight.warnings) {
                (0, 0) => write!(formatter, "checked before the first step: all is well"),
                (0, warnings) => write!(
                    formatter,
                    "checked before the first step: {warnings} warning(s)"
                ),
                (errors, warnings) => write!(
                    formatter,
                    "forced despite {errors} error(s) and {warnings} warning(s) before the first step"
                ),
            },
            Self::Resume(resume) => write!(
                formatter,
                "resuming from {} (step {})",
                resume.checkpoint, resume.step
            ),
            Self::Step(step) => step.fmt(formatter),
            Self::Checkpoint(saved) => {
                write!(
                    formatter,
                    "{} saved at step {}",
                    saved.checkpoint, saved.step
                )
            }
            Self::Inference(answered) => {
                let speed = answered.tokens as f64 / answered.seconds.max(1e-9);
                write!(
                    formatter,
                    "{}: {} answers in {}, {speed:.0} tokens/s",
                    answered.checkpoint,
                    answered.items,
                    duration(answered.seconds)
                )
            }
            Self::Score(score) => score.fmt(formatter),
            Self::Alarm(alarm) => write!(
                formatter,
                "alarm: {} at step {}: {}",
                alarm.severity, alarm.step, alarm.message
            ),
            Self::Moving(moving) => formatter.write_str(&moving.message),
            Self::Paused(paused) => write!(formatter, "paused after step {}", paused.step),
            Self::Continued(continued) => {
                write!(formatter, "continuing after step {}", continued.step)
            }
            Self::Done(done) => {
                let status = done.status.unwrap_or(RunStatus::Finished);
                write!(formatter, "{status} after step {}", done.step)?;
                if let Some(best) = &done.best {
                    write!(formatter, "; the best answers are {best}")?;
                }
                if let Some(message) = &done.message {
                    write!(formatter, "; {message}")?;
                }
                Ok(())
            }
            Self::Other(name) => formatter.write_str(name),
        }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(steps) = self.total_steps {
            let prompts = match self.train_prompts {
                Some(prompts) => format!(" over {prompts} prompts"),
                None => String::new(),
            };
            let device = self.device.as_deref().unwrap_or("an unknown device");
            parts.push(format!("{steps} steps{prompts} on {device}"));
        }
        if let Some(directory) = &self.directory {
            parts.push(format!("run directory: {directory}"));
        }
        match parts.as_slice() {
            [] => formatter.write_str(Self::NAME),
            parts => formatter.write_str(&parts.join("; ")),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "step {}/{}", self.step, self.total_steps)?;
        let mut write = |name: &str, value: Option<f64>, digits: usize| match value {
            Some(value) => write!(formatter, "  {name} {}", decimal(value, digits)),
            None => Ok(()),
        };
        let metric = |name: &str| self.metrics.get(name);
        write("epoch", metric("epoch"), 2)?;
        write("reward", metric("reward"), 4)?;
        write("±", metric("reward_std"), 4)?;
        for (name, value) in self.metrics.iter() {
            let reward = name
                .strip_prefix("rewards/")
                .and_then(|name| name.strip_suffix("/mean"));
            if let Some(reward) = reward {
                write(reward, Some(value), 4)?;
            }
        }
        write("loss", metric("loss"), 5)?;
        write("kl", metric("kl"), 5)?;
        write("grad_norm", metric("grad_norm"), 4)?;
        write("length", metric("completions/mean_length"), 1)?;
        write("clipped", metric("completions/clipped_ratio"), 2)?;
        write("entropy", metric("entropy"), 3)?;
        // A later iteration on the same completions has no rollout.
        let speed = |name: &str| metric(name).filter(|speed| *speed > 0.0);
        write("rollout tokens/s", speed("tokens_per_second/rollout"), 0)?;
        write("backward tokens/s", speed("tokens_per_second/backward"), 0)?;
        write("seconds", metric("step_time"), 2)?;
        let gibibytes = |name: &str| metric(name).map(|bytes| bytes / f64::from(1 << 30));
        write("memory GiB", gibibytes("memory/host_rss"), 2)?;
        write(
            "device peak GiB, rollout",
            gibibytes("memory/device_peak/rollout"),
            2,
        )?;
        write("backward", gibibytes("memory/device_peak/backward"), 2)
    }
}

impl fmt::Display for Score {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.checkpoint, &self.file) {
            (Some(point), _) => write!(formatter, "{point}: ")?,
            (None, Some(file)) => write!(formatter, "{file}: ")?,
            (None, None) => {}
        }
        let Some(final_mean) = self.final_mean else {
            let state = self.state.as_deref().unwrap_or("unknown");
            return write!(formatter, "not ranked, the answer file is {state}");
        };
        write!(formatter, "Final Mean {final_mean:.4}")?;
        let intervals = self.intervals.as_ref();
        if let Some([low, high]) = intervals.and_then(|intervals| intervals.of("final_mean")) {
            write!(formatter, " ({low:.4} to {high:.4})")?;
        }
        for (name, mean) in [
            ("ROUGE-1", self.rouge1),
            ("BERTScore", self.bertscore),
            ("EM", self.em),
            ("format", self.format),
        ] {
            if let Some(mean) = mean {
                write!(formatter, "  {name} {}", decimal(mean, 4))?;
            }
        }
        match &self.best {
            Some(best) if self.file.as_ref() == Some(best) => {
                formatter.write_str("  the best so far")
            }
            Some(best) => write!(formatter, "  the best so far is {best}"),
            None => Ok(()),
        }
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
mod tests;
