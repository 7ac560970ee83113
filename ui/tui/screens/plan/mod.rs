//! The Plan screen: an experiment as a form, what its batch comes to and what memory it takes.

mod batch;
mod draw;
mod editing;
mod entry;
mod facts;
mod form;
mod keys;
mod lines;
mod memory;
mod panels;
#[cfg(test)]
pub(crate) mod sample;
mod save;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crossterm::event::KeyEvent;
use ratatui::Frame;
use ratatui::layout::{Position, Rect};

use super::ScreenState;
use super::experiments::launch::Launch;
use super::words::{count, name};
use crate::tui::filter::Filter;
use crate::tui::keymap::Action;
use crate::tui::message::Command;
use crate::tui::state::Context;
use entry::Entry;
use facts::Asked;
use form::Form;
use lines::FormLine;
use memory::Memory;
use save::Next;

/// The state of the Plan screen.
#[derive(Debug, Default)]
pub struct Plan {
    /// A file that is to be opened as soon as it has been read.
    wanted: Option<PathBuf>,
    form: Option<Form>,
    /// Other files with changes that are not saved.
    parked: HashMap<PathBuf, Form>,
    /// The value that is being edited.
    entry: Option<Entry>,
    /// The line, among those that the cursor can stand on.
    cursor: usize,
    filter: Filter,
    launch: Launch,
    /// What follows when the file is written.
    after_save: Option<Next>,
    /// What follows when the written file has been read.
    after_reading: Option<Next>,
    /// The person was asked whether to take over what is on the disk.
    is_reload_offered: bool,
    asked: Option<Asked>,
    memory: Memory,
}

impl Plan {
    /// Opens an experiment file; it is read with the next index. Changes to another file are
    /// kept until it is opened again.
    pub fn load(&mut self, path: &Path) {
        self.cancel_entry();
        if let Some(form) = self.form.as_mut().filter(|form| form.path() == path) {
            if std::mem::take(&mut self.is_reload_offered) {
                form.reload();
            }
            return;
        }
        if let Some(form) = self.form.take().filter(Form::is_changed) {
            self.parked.insert(form.path().to_owned(), form);
        }
        self.form = self.parked.remove(path);
        self.wanted = Some(path.to_owned());
        self.cursor = 0;
        self.asked = None;
        self.after_save = None;
        self.after_reading = None;
    }

    /// A file was written; where it is an open one, its changes are saved now.
    pub fn written(&mut self, path: &Path) {
        let open = self.form.as_mut().filter(|form| form.path() == path);
        if open.is_some() {
            self.after_reading = self.after_save.take();
        }
        if let Some(form) = open.or(self.parked.get_mut(path)) {
            form.written();
        }
    }

    /// The line under the cursor.
    fn place(&self) -> Option<FormLine> {
        let form = self.form.as_ref()?;
        lines::places(form, &self.filter).get(self.cursor).copied()
    }

    /// Puts the cursor on a line, or leaves it within what there is.
    fn go_to(&mut self, line: Option<FormLine>) {
        let Some(form) = &self.form else {
            return;
        };
        let places = lines::places(form, &self.filter);
        let found = places.iter().position(|place| Some(*place) == line);
        let last = places.len().saturating_sub(1);
        self.cursor = found.unwrap_or(self.cursor).min(last);
    }

    /// Works out what is shown beside the form.
    fn work_out(&mut self, context: &Context<'_>) {
        self.memory = match &self.form {
            Some(form) => memory::of(form, context.world.plan.as_ref()),
            None => Memory::default(),
        };
    }
}

impl ScreenState for Plan {
    fn act(&mut self, action: Action, context: &Context<'_>) -> Vec<Command> {
        // The wheel moves the cursor while a value is typed: the value counts as it stands.
        self.finish_entry();
        self.after_save = None;
        self.is_reload_offered = false;
        let mut commands = keys::act(self, action, context);
        commands.extend(self.wanted_facts());
        self.work_out(context);
        commands
    }

    fn is_typing(&self) -> bool {
        self.entry.is_some()
    }

    fn type_key(&mut self, key: KeyEvent, context: &Context<'_>) -> Vec<Command> {
        let mut commands = self.edit_by_key(key);
        commands.extend(self.wanted_facts());
        self.work_out(context);
        commands
    }

    fn paste(&mut self, text: &str, context: &Context<'_>) -> Vec<Command> {
        self.edit_by_paste(text);
        self.work_out(context);
        Vec::new()
    }

    fn set_filter(&mut self, filter: &str, _context: &Context<'_>) -> Vec<Command> {
        let place = self.place();
        self.filter = Filter::new(filter);
        self.go_to(place);
        Vec::new()
    }

    fn filter(&self) -> &str {
        self.filter.text()
    }

    fn click(&mut self, at: Position, context: &Context<'_>) -> Vec<Command> {
        if let Some(line) = draw::line_at(self, at, context) {
            self.finish_entry();
            self.go_to(Some(line));
        }
        self.wanted_facts()
    }

    fn refresh(&mut self, context: &Context<'_>) -> Vec<Command> {
        let mut commands = self.look_at_disk(context);
        commands.extend(self.launch.refresh(context));
        commands.extend(self.wanted_facts());
        self.go_to(None);
        self.work_out(context);
        commands
    }

    fn status(&self, _context: &Context<'_>) -> String {
        match (&self.form, &self.wanted) {
            (Some(form), _) => {
                let mut words = name(form.path());
                if form.is_changed() {
                    words.push_str(" (unsaved)");
                }
                if !form.faults().is_empty() {
                    words = format!("{words}, {}", count(form.faults().len(), "fault"));
                }
                words
            }
            (None, Some(path)) => format!("reading {}", path.display()),
            (None, None) => String::new(),
        }
    }

    fn draw(&self, context: &Context<'_>, frame: &mut Frame<'_>, area: Rect) {
        if let Some(caret) = draw::draw(self, context, frame.buffer_mut(), area) {
            frame.set_cursor_position(caret);
        }
    }
}
