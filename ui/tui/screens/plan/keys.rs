//! What the keys of the Plan screen do.

use super::Plan;
use super::lines::{FormLine, has_fault, places, section_of};
use super::save::{Next, nothing_open};
use crate::tui::keymap::Action;
use crate::tui::message::{Command, Effect, Input, InputPurpose, Notice};
use crate::tui::screens::words::name;
use crate::tui::state::Context;

/// Carries out an action of the key table.
pub fn act(screen: &mut Plan, action: Action, context: &Context<'_>) -> Vec<Command> {
    if screen.form.is_none() {
        return match action {
            Action::Open
            | Action::Save
            | Action::Start
            | Action::Queue
            | Action::Undo
            | Action::NextFault
            | Action::Delete
            | Action::Clone
            | Action::Copy
            | Action::Export
            | Action::OpenInEditor => vec![nothing_open()],
            _ => Vec::new(),
        };
    }
    let page = super::draw::page(context).max(1);
    match action {
        Action::Up | Action::PreviousMatch => screen.move_to(screen.cursor.saturating_sub(1)),
        Action::Down | Action::NextMatch => screen.move_to(screen.cursor + 1),
        Action::PageUp => screen.move_to(screen.cursor.saturating_sub(page)),
        Action::PageDown => screen.move_to(screen.cursor + page),
        Action::Top => screen.move_to(0),
        Action::Bottom => screen.move_to(usize::MAX),
        Action::NextPane => screen.next_section(true),
        Action::PreviousPane => screen.next_section(false),
        Action::Left => return screen.cycle(-1),
        Action::Right => return screen.cycle(1),
        Action::Back => {
            let place = screen.place();
            screen.filter = Default::default();
            screen.go_to(place);
        }
        Action::Open => return screen.begin_entry(),
        Action::Save => return screen.save(),
        Action::Start => return screen.go_on(Next::Start, context),
        Action::Queue => return screen.go_on(Next::Queue, context),
        Action::Undo => return screen.undo(),
        Action::NextFault => return screen.next_fault(),
        Action::Delete => return screen.unset(),
        Action::Clone | Action::Copy | Action::Export | Action::OpenInEditor => {
            return screen.hand_out(action);
        }
        // The facts are read again as well.
        Action::Rescan => screen.asked = None,
        _ => {}
    }
    Vec::new()
}

impl Plan {
    fn move_to(&mut self, line: usize) {
        self.cursor = line;
        self.go_to(None);
    }

    /// The first line of the next section, or of this or the previous one.
    fn next_section(&mut self, is_forward: bool) {
        let Some(form) = &self.form else {
            return;
        };
        let places = places(form, &self.filter);
        let section = |index: usize| places.get(index).map(|line| section_of(form, *line));
        let here = section(self.cursor);
        let is_first = |index: &usize| *index == 0 || section(*index) != section(index - 1);
        let found = match is_forward {
            true => (self.cursor..places.len()).find(|index| section(*index) != here),
            false => (0..self.cursor).rev().find(is_first),
        };
        self.cursor = found.unwrap_or(if is_forward { 0 } else { self.cursor });
    }

    fn undo(&mut self) -> Vec<Command> {
        match self.form.as_mut().is_some_and(super::form::Form::undo) {
            true => Vec::new(),
            false => vec![Notice::info("there is nothing to take back")],
        }
    }

    /// Goes to the next line with a fault, round and round.
    pub(super) fn next_fault(&mut self) -> Vec<Command> {
        let Some(form) = &self.form else {
            return Vec::new();
        };
        if form.faults().is_empty() {
            return vec![Notice::info("there is no fault")];
        }
        let find = |places: &[FormLine], from: usize| {
            let after =
                (from + 1..places.len()).chain(0..=from.min(places.len().saturating_sub(1)));
            after.into_iter().find(|index| {
                let line = places.get(*index);
                line.is_some_and(|line| has_fault(form, *line))
            })
        };
        if let Some(found) = find(&places(form, &self.filter), self.cursor) {
            self.cursor = found;
            return Vec::new();
        }
        // The filter hides it.
        let everything = Default::default();
        let found = find(&places(form, &everything), 0);
        self.filter = everything;
        self.cursor = found.unwrap_or_default();
        Vec::new()
    }

    /// Takes the key under the cursor out of the file.
    fn unset(&mut self) -> Vec<Command> {
        let (Some(place), Some(form)) = (self.place(), &mut self.form) else {
            return Vec::new();
        };
        let FormLine::Key(key) = place else {
            return vec![Notice::error(
                "only keys of the form can be taken out here; o opens the file in an editor",
            )];
        };
        if form.value(key).is_none() {
            return vec![Notice::info(
                "it is not in the file, so its default holds already",
            )];
        }
        match form.set(key, "") {
            Ok(()) => Vec::new(),
            Err(error) => vec![Notice::error(format!("{error} (o)"))],
        }
    }

    /// What goes elsewhere: to a new file, the clipboard, an editor.
    fn hand_out(&self, action: Action) -> Vec<Command> {
        let Some(form) = &self.form else {
            return Vec::new();
        };
        let file_name = name(form.path());
        match action {
            Action::Clone => vec![Command::Input(Input {
                title: "Name of the new experiment".to_owned(),
                initial: format!("{file_name}-2"),
                purpose: InputPurpose::NewExperiment {
                    text: form.text().to_owned(),
                },
            })],
            Action::Export => vec![Command::Input(Input {
                title: "Write the whole configuration, every default resolved, to a file"
                    .to_owned(),
                initial: format!("{file_name}-resolved.toml"),
                purpose: InputPurpose::ExportTo {
                    text: form.experiment().to_toml(),
                },
            })],
            Action::Copy => match self.place() {
                Some(FormLine::Key(key)) => vec![Effect::Copy(self.assignment(key)).into()],
                Some(FormLine::Loose(index)) => form
                    .loose_faults()
                    .get(index)
                    .map(|fault| Effect::Copy(fault.to_string()).into())
                    .into_iter()
                    .collect(),
                _ => Vec::new(),
            },
            _ if form.is_changed() => vec![Notice::error(
                "there are changes that the editor would not see: save them first (w), or undo (u)",
            )],
            _ => vec![Effect::OpenInEditor(form.path().to_owned()).into()],
        }
    }

    /// `grpo.beta = 0.04`, as it holds.
    fn assignment(&self, key: usize) -> String {
        let Some((form, key_of_form)) = self.form.as_ref().and_then(|form| {
            let key = form.keys().get(key)?;
            Some((form, key))
        }) else {
            return String::new();
        };
        let default = key_of_form.default.as_deref();
        let value = form.value(key).or(default).unwrap_or("\"none\"");
        format!("{} = {value}", key_of_form.path())
    }
}
