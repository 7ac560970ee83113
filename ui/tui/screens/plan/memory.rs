//! The predicted memory, ready to be drawn.

use moim_core::memory::{Component, Inputs, MemoryPlan, Verdict, capacity, plan};

use super::facts::facts_of;
use super::form::Form;
use crate::tui::data::plan::PlanFacts;

/// What the memory panel shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Memory {
    /// Nothing can be said, and why.
    Unknown(String),
    /// A plan.
    Known(View),
}

impl Default for Memory {
    fn default() -> Self {
        Self::Unknown(String::new())
    }
}

/// A plan in words and bars.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The peak of each phase.
    pub bars: Vec<Bar>,
    /// Bytes that it is held against.
    pub capacity: Option<u64>,
    pub mood: Mood,
    /// `fits, 2.0 GiB to spare`.
    pub verdict: String,
    /// The largest values that still fit, in one line; empty where that is not known.
    pub limits: String,
    /// What memory bounds, in one line: `training in parts of 4 completions`.
    pub sizes: Option<String>,
    /// What makes it fit, where it does not.
    pub suggestion: Option<String>,
}

/// Whether a verdict is good news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Good,
    Warn,
    Bad,
    Neutral,
}

/// A phase's fullest moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    pub phase: &'static str,
    /// What is under way then.
    pub moment: &'static str,
    pub parts: Vec<Part>,
}

/// A component's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub name: &'static str,
    pub bytes: u64,
    /// The same component looks the same in every bar.
    pub style: usize,
}

impl Bar {
    /// Bytes of all parts.
    pub fn total(&self) -> u64 {
        let parts = self.parts.iter();
        parts.fold(0, |sum: u64, part| sum.saturating_add(part.bytes))
    }
}

/// The plan of the form's experiment, as far as the facts allow.
pub fn of(form: &Form, facts: Option<&PlanFacts>) -> Memory {
    if let Err(error) = form.document() {
        return Memory::Unknown(error.to_string());
    }
    let experiment = form.experiment();
    if experiment.model.path.as_os_str().is_empty() {
        return Memory::Unknown("model.path says which model's memory is meant".to_owned());
    }
    let Some(facts) = facts_of(experiment, facts) else {
        return Memory::Unknown(format!(
            "the shape of {} is being read",
            experiment.model.path.display()
        ));
    };
    let Some(shapes) = &facts.shapes else {
        let missing = facts.missing.join("; ");
        return Memory::Unknown(match missing.as_str() {
            "" => "the shape of the model is not known".to_owned(),
            missing => missing.to_owned(),
        });
    };
    if let Err(problem) = &shapes.decoder {
        return Memory::Unknown(problem.clone());
    }
    // Products of a broken batch mean nothing, and may be as large as they like.
    if let Some(fault) = experiment.batch().fault() {
        return Memory::Unknown(format!("the batch is not possible: {fault}"));
    }
    let Some(inputs) = Inputs::of(experiment, shapes) else {
        return Memory::Unknown("the shape of the model is not known".to_owned());
    };
    let total = facts.capacity.map(moim_core::memory::Bytes);
    let capacity = capacity(experiment, None, total).map(|bytes| bytes.0);
    let planned = plan(&inputs, capacity);
    Memory::Known(view(&planned, &inputs))
}

fn view(planned: &MemoryPlan, inputs: &Inputs) -> View {
    let bars = planned.phases().map(|(phase, peak)| Bar {
        phase: phase.name(),
        moment: peak.moment,
        parts: peak
            .parts
            .iter()
            .map(|part| Part {
                name: part.component.name(),
                bytes: part.bytes,
                style: place_of(part.component),
            })
            .collect(),
    });
    let verdict = planned.verdict();
    View {
        bars: bars.into(),
        capacity: planned.capacity,
        mood: match verdict {
            Verdict::Fits { .. } => Mood::Good,
            Verdict::Tight { .. } => Mood::Warn,
            Verdict::TooLarge { .. } => Mood::Bad,
            Verdict::Unknown => Mood::Neutral,
        },
        verdict: verdict.to_string(),
        limits: match planned.limits(inputs).words() {
            words if words.is_empty() => words,
            words => format!("each alone, {words}"),
        },
        sizes: planned.sizes_in_words(inputs),
        suggestion: planned.suggestion(inputs),
    }
}

fn place_of(component: Component) -> usize {
    let place = Component::ALL.iter().position(|known| *known == component);
    place.unwrap_or_default()
}
