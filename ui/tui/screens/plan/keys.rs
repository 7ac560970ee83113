//! The keys of the Plan screen.

use super::Plan;
use super::form::{Form, FormLine};
use super::save::{Next, nothing_open};
use crate::tui::filter::Filter;
use crate::tui::keymap::Action;
use crate::tui::message::{Command, Effect, Input, InputPurpose, Notice};
use crate::tui::screens::experiments::launch::new_experiment;
use crate::tui::screens::words::name;
use crate::tui::state::Context;
use crate::tui::widgets::list::Search;

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
        let action = match action {
            // With a filter every line is a match.
            Action::NextMatch => Action::Down,
            Action::PreviousMatch => Action::Up,
            action => action,
        };
        if self.list.act(action, &self.lines()) {
            return Vec::new();
        }
        match action {
            Action::NextPane => self.next_section(true),
            Action::PreviousPane => self.next_section(false),
            Action::Left => return self.cycle(-1),
            Action::Right => return self.cycle(1),
            Action::Back => self.show_only(Filter::default()),
            Action::Open => return self.begin_entry(),
            Action::Save => return self.save(),
            Action::Start => return self.launch(Next::Start, context),
            Action::Queue => return self.launch(Next::Queue, context),
            Action::Undo if !self.form.as_mut().is_some_and(Form::undo) => {
                return vec![Notice::info("there is nothing to undo")];
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

    /// The first line of the next section, or of this or the previous one.
    fn next_section(&mut self, is_forward: bool) {
        let lines = self.lines();
        let cursor = self.list.cursor(&lines);
        let heads = lines.iter().enumerate();
        let heads = heads.filter(|(_, line)| matches!(line, FormLine::Section(_)));
        let mut heads = heads.map(|(index, _)| index);
        let head = if is_forward {
            heads.find(|head| *head > cursor)
        } else {
            heads.rfind(|head| head + 1 < cursor)
        };
        self.list.select(head.unwrap_or(0), &lines);
    }

    /// Goes to the next line with a fault, cyclically.
    pub(super) fn next_fault(&mut self) -> Vec<Command> {
        let Some(form) = &self.form else {
            return Vec::new();
        };
        if form.fault_count() == 0 {
            return vec![Notice::info("there is no fault")];
        }
        let has_fault = |line: &FormLine| match (line, form.field(*line)) {
            (_, Some(field)) => !field.faults.is_empty(),
            (line, None) => matches!(line, FormLine::Loose(_)),
        };
        let lines = form.lines(&self.filter);
        if self.list.search(true, &lines, has_fault) == Search::Nothing {
            // The filter hides it.
            self.filter = Filter::default();
            let lines = form.lines(&self.filter);
            let found = lines.iter().position(has_fault);
            self.list.select(found.unwrap_or_default(), &lines);
        }
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
            Action::Clone => new_experiment(&file_name, form.text()),
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
