//! Watching a run from outside the recipe: progress, events, and the wish to stop.

use std::fmt;

use moim_core::run::Event;

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Sampling completions; counted in completions.
    Rollout,
    /// Computing rewards.
    Reward,
    /// Log-probabilities under the reference policy; counted in prompts.
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

/// See [`Observer::teller`].
pub type Teller = Box<dyn Fn(&Event) + Send>;

/// Whoever watches a run.
pub trait Observer {
    /// The run is `done` of `total` through a phase. Called often; must be cheap.
    fn phase(&mut self, phase: Phase, done: usize, total: usize, detail: &str);

    /// An event was appended to events.jsonl.
    fn event(&mut self, event: &Event);

    /// There is something to say that is no event: a file that cannot be kept, say. Said once each.
    fn notice(&mut self, _message: &str) {}

    /// Who is shown an event that the trainer did not append itself, because it does not move: called
    /// on another thread. `None` where nobody is.
    fn teller(&self) -> Option<Teller> {
        None
    }

    /// Whether the run should save and stop as soon as it can.
    fn wants_to_stop(&self) -> bool;
}

/// The run was asked to stop. Travels as an error through whatever is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the run was asked to stop")
    }
}

impl std::error::Error for Stopped {}
