//! The Plan screen: an experiment as a form, its batch worked out, and the memory that it takes.

mod draw;
mod edit;
mod form;
mod keys;
mod panels;
#[cfg(test)]
pub(crate) mod sample;
mod save;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;

use crossterm::event::KeyEvent;
use moim_core::experiment::{DeviceChoice, Experiment};
use moim_core::memory::{Bytes, Inputs, MemoryPlan, capacity, plan};
use ratatui::Frame;
use ratatui::layout::{Position, Rect};

use super::ScreenState;
use super::experiments::launch::Launch;
use super::words::{count, name};
use crate::tui::data::plan::PlanFacts;
use crate::tui::filter::Filter;
use crate::tui::keymap::Action;
use crate::tui::message::{Command, Effect};
use crate::tui::state::Context;
use crate::tui::widgets::list::List;
use edit::Entry;
use form::{Form, FormLine};
use save::Next;

/// The state of the Plan screen.
#[derive(Debug, Default)]
pub struct Plan {
    /// A file to be opened as soon as it has been read.
    wanted: Option<PathBuf>,
    form: Option<Form>,
    /// Other files with changes that are not saved.
    parked: HashMap<PathBuf, Form>,
    /// The edit in progress.
    entry: Option<Entry>,
    list: List<FormLine>,
    filter: Filter,
    launch: Launch,
    /// What follows when the file is written.
    after_save: Option<Next>,
    /// What follows when the written file has been read.
    after_reading: Option<Next>,
    /// The user was asked whether to take over what is on the disk.
    is_reload_offered: bool,
    /// The values that facts were asked for.
    asked: Option<(FactsKey, DeviceChoice)>,
    /// The predicted memory, or why it is not known yet; `None` without a form.
    memory: Option<Result<Memory, String>>,
}

/// The predicted memory.
#[derive(Debug)]
pub struct Memory {
    plan: MemoryPlan,
    /// Texts about it, which take a search each: the largest values that still fit, empty if
    /// unknown; `training in parts of 4 completions`; what makes it fit if it does not.
    limits: String,
    sizes: Option<String>,
    suggestion: Option<String>,
}

impl Plan {
    /// The lines that pass the filter.
    fn lines(&self) -> Vec<FormLine> {
        let form = self.form.as_ref();
        form.map(|form| form.lines(&self.filter))
            .unwrap_or_default()
    }

    /// The line under the cursor.
    fn line(&self) -> Option<FormLine> {
        self.list.selected(&self.lines()).copied()
    }

    /// Changes the filter; the cursor stays on its line.
    fn show_only(&mut self, filter: Filter) {
        self.filter = filter;
        self.list.follow(&self.lines());
    }

    /// Asks for facts if they are for other values than the present ones. Not while a value is
    /// typed: half a path is no path.
    fn ask_for_facts(&mut self) -> Vec<Command> {
        let Some(form) = self.form.as_ref().filter(|_| self.entry.is_none()) else {
            return Vec::new();
        };
        let experiment = &form.experiment;
        let asked = Some((facts_key(experiment), experiment.model.device));
        if form.document.is_err() || self.asked == asked {
            return Vec::new();
        }
        self.asked = asked;
        vec![Effect::ReadPlanFacts(Box::new(experiment.clone())).into()]
    }

    /// Predicts the memory again.
    fn predict_memory(&mut self, context: &Context<'_>) {
        self.memory = self.form.as_ref().map(|form| memory(form, context));
    }
}

/// The values that facts are read for: the model, the encoder and the training data.
type FactsKey = (PathBuf, Option<PathBuf>, PathBuf);

fn facts_key(experiment: &Experiment) -> FactsKey {
    (
        experiment.model.path.clone(),
        experiment.bertscore.model.clone(),
        experiment.data.train.clone(),
    )
}

/// The facts that were read, if they are those of the experiment.
fn facts<'a>(experiment: &Experiment, context: &Context<'a>) -> Option<&'a PlanFacts> {
    let (model, encoder, train) = facts_key(experiment);
    let facts = context.world.plan.as_ref()?;
    (facts.model == model && facts.encoder == encoder && facts.train == train).then_some(facts)
}

/// The plan of the form's experiment; an error if it is not known yet, and why.
fn memory(form: &Form, context: &Context<'_>) -> Result<Memory, String> {
    form.document.as_ref().map_err(ToString::to_string)?;
    let experiment = &form.experiment;
    let model = &experiment.model.path;
    if model.as_os_str().is_empty() {
        return Err("model.path names the model whose memory is predicted".to_owned());
    }
    let Some(facts) = facts(experiment, context) else {
        return Err(format!("the shape of {} is being read", model.display()));
    };
    let unknown = || "the shape of the model is not known".to_owned();
    let Some(shapes) = &facts.shapes else {
        let missing = Some(facts.missing.join("; ")).filter(|missing| !missing.is_empty());
        return Err(missing.unwrap_or_else(unknown));
    };
    shapes.decoder.as_ref().map_err(Clone::clone)?;
    // Products of an impossible batch mean nothing, and may be of any size.
    if let Some(fault) = experiment.batch().fault() {
        return Err(format!("the batch is not possible: {fault}"));
    }
    let inputs = Inputs::of(experiment, shapes).ok_or_else(unknown)?;
    let capacity = capacity(experiment, None, facts.capacity.map(Bytes));
    let plan = plan(&inputs, capacity.map(|bytes| bytes.0));
    Ok(Memory {
        limits: plan.limits(&inputs).words(),
        sizes: plan.sizes_in_words(&inputs),
        suggestion: plan.suggestion(&inputs),
        plan,
    })
}

impl ScreenState for Plan {
    fn act(&mut self, action: Action, context: &Context<'_>) -> Vec<Command> {
        // The wheel moves the cursor while a value is typed: the value counts as it is.
        self.finish_entry();
        self.after_save = None;
        self.is_reload_offered = false;
        let mut commands = self.execute(action, context);
        commands.extend(self.ask_for_facts());
        self.predict_memory(context);
        commands
    }

    fn is_typing(&self) -> bool {
        self.entry.is_some()
    }

    fn type_key(&mut self, key: KeyEvent, context: &Context<'_>) -> Vec<Command> {
        self.edit_by_key(key);
        self.predict_memory(context);
        self.ask_for_facts()
    }

    fn paste(&mut self, text: &str, context: &Context<'_>) -> Vec<Command> {
        self.edit_by_paste(text);
        self.predict_memory(context);
        Vec::new()
    }

    fn set_filter(&mut self, filter: &str, _context: &Context<'_>) -> Vec<Command> {
        self.show_only(Filter::new(filter));
        Vec::new()
    }

    fn filter(&self) -> &str {
        self.filter.text()
    }

    fn click(&mut self, at: Position, _context: &Context<'_>) -> Vec<Command> {
        if self.list.click(at, &self.lines()) {
            self.finish_entry();
        }
        self.ask_for_facts()
    }

    fn refresh(&mut self, context: &Context<'_>) -> Vec<Command> {
        let mut commands = self.compare_with_disk(context);
        commands.extend(self.launch.refresh(context));
        commands.extend(self.ask_for_facts());
        self.list.follow(&self.lines());
        self.predict_memory(context);
        commands
    }

    fn status(&self, _context: &Context<'_>) -> String {
        let Some(form) = &self.form else {
            let wanted = self.wanted.as_ref();
            let reading = wanted.map(|path| format!("reading {}", path.display()));
            return reading.unwrap_or_default();
        };
        let mut words = name(&form.path);
        if form.is_changed() {
            words.push_str(" (unsaved)");
        }
        match form.fault_count() {
            0 => words,
            faults => format!("{words}, {}", count(faults, "fault")),
        }
    }

    fn draw(&self, context: &Context<'_>, frame: &mut Frame<'_>, area: Rect) {
        if let Some(caret) = draw::draw(self, context, frame.buffer_mut(), area) {
            frame.set_cursor_position(caret);
        }
    }
}
