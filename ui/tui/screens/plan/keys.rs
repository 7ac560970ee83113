//! The keys of the Plan screen.

use super::Plan;
use super::form::{Form, FormLine};
use super::save::{Next, nothing_open};
use crate::tui::filter::Filter;
use crate::tui::keymap::Action;
use crate::tui::message::{Command, Effect, Input, InputPurpose, Notice};
use crate::tui::screens::words::name;
use crate::tui::state::Context;

impl Plan {
    /// Executes an action of the key table.
    pub(super) fn execute(&mut self, action: Action, context: &Context<'_>) -> Vec<Command> {
        if self.form.is_none() {
            let needs_form = matches!(
                action,
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
                    | Action::OpenInEditor
            );
            return needs_form.then(nothing_open).into_iter().collect();
        }
        let page = super::draw::page(context).max(1);
        match action {
            Action::Up | Action::PreviousMatch => self.move_to(self.cursor.saturating_sub(1)),
            Action::Down | Action::NextMatch => self.move_to(self.cursor + 1),
            Action::PageUp => self.move_to(self.cursor.saturating_sub(page)),
            Action::PageDown => self.move_to(self.cursor + page),
            Action::Top => self.move_to(0),
            Action::Bottom => self.move_to(usize::MAX),
            Action::NextPane => self.next_section(true),
            Action::PreviousPane => self.next_section(false),
            Action::Left => return self.cycle(-1),
            Action::Right => return self.cycle(1),
            Action::Back => self.show_only(Filter::default()),
            Action::Open => return self.begin_entry(),
            Action::Save => return self.save(),
            Action::Start => return self.launch(Next::Start, context),
            Action::Queue => return self.launch(Next::Queue, context),
            Action::Undo => {
                if !self.form.as_mut().is_some_and(Form::undo) {
                    return vec![Notice::info("there is nothing to undo")];
                }
            }
            Action::NextFault => return self.next_fault(),
            Action::Delete => return self.unset(),
            Action::Clone | Action::Copy | Action::Export | Action::OpenInEditor => {
                return self.pass_on(action).into_iter().collect();
            }
            // The facts are read again as well.
            Action::Rescan => self.asked = None,
            _ => {}
        }
        Vec::new()
    }

    pub(super) fn move_to(&mut self, stop: usize) {
        self.cursor = stop;
        self.go_to(None);
    }

    /// The first line of the next section, or of this or the previous one.
    fn next_section(&mut self, is_forward: bool) {
        let Some(form) = &self.form else {
            return;
        };
        let stops = form.stops(&self.filter);
        let section = |index: usize| {
            let field = form.field(*stops.get(index)?);
            Some(field.map(|field| field.key.section))
        };
        let is_first = |index: &usize| *index == 0 || section(*index) != section(index - 1);
        let here = section(self.cursor);
        self.cursor = if is_forward {
            let found = (self.cursor..stops.len()).find(|index| section(*index) != here);
            found.unwrap_or(0)
        } else {
            let found = (0..self.cursor).rev().find(is_first);
            found.unwrap_or(self.cursor)
        };
    }

    /// Goes to the next line with a fault, cyclically.
    pub(super) fn next_fault(&mut self) -> Vec<Command> {
        let Some(form) = &self.form else {
            return Vec::new();
        };
        if form.fault_count() == 0 {
            return vec![Notice::info("there is no fault")];
        }
        let has_fault = |line: &FormLine| {
            let field = form.field(*line);
            field.is_none_or(|field| !field.faults.is_empty())
        };
        let stops = form.stops(&self.filter);
        let mut after = stops.iter().enumerate().cycle().skip(self.cursor + 1);
        let in_one_round = after.by_ref().take(stops.len());
        if let Some((index, _)) = in_one_round.into_iter().find(|(_, line)| has_fault(line)) {
            self.cursor = index;
            return Vec::new();
        }
        // The filter hides it.
        self.filter = Filter::default();
        let found = form.stops(&self.filter).iter().position(has_fault);
        self.cursor = found.unwrap_or_default();
        Vec::new()
    }

    /// Removes the key under the cursor from the file.
    fn unset(&mut self) -> Vec<Command> {
        let (Some(line), Some(form)) = (self.line(), &mut self.form) else {
            return Vec::new();
        };
        let (FormLine::Key(key), Some(field)) = (line, form.field(line)) else {
            return vec![Notice::error(
                "only keys of the form can be removed here; o opens the file in an editor",
            )];
        };
        if field.value.is_none() {
            return vec![Notice::info(
                "it is not in the file: its default is in effect",
            )];
        }
        let failed = form.set(key, "").err();
        failed
            .map(|error| Notice::error(format!("{error} (o)")))
            .into_iter()
            .collect()
    }

    /// Passes the file on: to a new file, the clipboard, an editor.
    fn pass_on(&self, action: Action) -> Option<Command> {
        let form = self.form.as_ref()?;
        let file_name = name(&form.path);
        Some(match action {
            Action::Clone => Command::Input(Input {
                title: "Name of the new experiment".to_owned(),
                initial: format!("{file_name}-2"),
                purpose: InputPurpose::NewExperiment {
                    text: form.text().to_owned(),
                },
            }),
            Action::Export => Command::Input(Input {
                title: "Write the whole configuration, every default resolved, to a file"
                    .to_owned(),
                initial: format!("{file_name}-resolved.toml"),
                purpose: InputPurpose::ExportTo {
                    text: form.experiment.to_toml(),
                },
            }),
            Action::Copy => {
                let line = self.line()?;
                let text = match (form.field(line), line) {
                    (Some(field), _) => {
                        let value = field.present().unwrap_or("\"none\"");
                        format!("{} = {value}", field.path)
                    }
                    (None, FormLine::Loose(index)) => form.loose.get(index)?.to_string(),
                    (None, _) => return None,
                };
                Effect::Copy(text).into()
            }
            _ if form.is_changed() => Notice::error(
                "the editor would not see the unsaved changes: save them first (w), or undo (u)",
            ),
            _ => Effect::OpenInEditor(form.path.clone()).into(),
        })
    }
}
