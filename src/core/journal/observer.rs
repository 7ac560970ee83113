//! Who watches a run: progress, events, and the request to stop.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::run::Event;

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Sampling completions; counted in completions.
    Rollout,
    /// Computing rewards.
    Reward,
    /// Log-probabilities under a policy that does not move; counted in prompts.
    Reference,
    /// Forward and backward; counted in prompts.
    Backward,
    /// Writing a save point.
    Save,
    /// Answering the evaluation set; counted in items.
    Inference,
    /// Scoring answers.
    Scoring,
    /// Waiting for a request to resume.
    Paused,
}

impl Phase {
    /// One word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rollout => "rollout",
            Self::Reward => "reward",
            Self::Reference => "reference",
            Self::Backward => "backward",
            Self::Save => "save",
            Self::Inference => "inference",
            Self::Scoring => "scoring",
            Self::Paused => "paused",
        }
    }
}

/// See [`Observer::event_sink`].
pub type EventSink = Box<dyn Fn(&Event) + Send>;

/// Watches a run. The [`Journal`](super::Journal) owns it; a program that reads it after the run keeps
/// a clone of an `Arc<Mutex<…>>`, which is an observer as well.
pub trait Observer: Send {
    /// The run is `done` of `total` through a phase. Called often, from any thread; must be cheap.
    fn phase(&mut self, phase: Phase, done: usize, total: usize, detail: &str);

    /// An event was appended to events.jsonl.
    fn event(&mut self, event: &Event);

    /// A message that is no event, such as a file that cannot be written. Each is sent once.
    fn notice(&mut self, _message: &str) {}

    /// Receives the events that the trainer does not append itself, because it does not move. Called
    /// on another thread, possibly while the trainer is inside one of the other methods.
    fn event_sink(&self) -> Option<EventSink> {
        None
    }

    /// Whether the run should save and stop as soon as it can.
    fn wants_to_stop(&self) -> bool;
}

/// The observer behind a shared lock.
fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Observer> Observer for Arc<Mutex<T>> {
    fn phase(&mut self, phase: Phase, done: usize, total: usize, detail: &str) {
        locked(self).phase(phase, done, total, detail);
    }

    fn event(&mut self, event: &Event) {
        locked(self).event(event);
    }

    fn notice(&mut self, message: &str) {
        locked(self).notice(message);
    }

    fn event_sink(&self) -> Option<EventSink> {
        locked(self).event_sink()
    }

    fn wants_to_stop(&self) -> bool {
        locked(self).wants_to_stop()
    }
}

/// The run was asked to stop. Travels as an error through whatever is in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the run was asked to stop")
    }
}

impl std::error::Error for Stopped {}
