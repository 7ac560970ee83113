//! Editing a value in its place: the text of the file follows every key.

use crossterm::event::KeyEvent;

use super::Plan;
use super::entry::{Content, Entry, Kind, Typed, cycled};
use super::lines::FormLine;
use crate::tui::message::{Command, Notice};

impl Plan {
    /// Begins to edit the value under the cursor; a flag is switched at once.
    pub(super) fn begin_entry(&mut self) -> Vec<Command> {
        let key = match self.place() {
            Some(FormLine::Key(key)) => key,
            Some(_) => return vec![not_in_form()],
            None => return Vec::new(),
        };
        let Some(form) = &self.form else {
            return Vec::new();
        };
        let Some(kind) = form.keys().get(key).map(Kind::of) else {
            return Vec::new();
        };
        if kind == Kind::Flag {
            return self.cycle(1);
        }
        let before = match form.document() {
            Ok(document) => document.clone(),
            Err(error) => return vec![Notice::error(error.to_string())],
        };
        // Said before anything is typed in vain.
        let typed = form.typed(key);
        if let Err(error) = before.clone().set(&path_of(form, key), &typed) {
            return vec![Notice::error(format!("{error} (o)"))];
        }
        let present = match kind {
            Kind::Words(_) => self.present_word(key),
            _ => typed,
        };
        self.entry = Some(Entry {
            key,
            before,
            content: Content::new(kind.words(), &present),
            problem: None,
        });
        Vec::new()
    }

    /// Takes a key for the value that is being edited.
    pub(super) fn edit_by_key(&mut self, key: KeyEvent) -> Vec<Command> {
        let Some(entry) = &mut self.entry else {
            return Vec::new();
        };
        match entry.content.key(key) {
            Typed::Changed => self.preview(),
            Typed::Cancelled => self.cancel_entry(),
            Typed::Done(lines) => {
                self.finish_entry();
                self.cursor = self.cursor.saturating_add_signed(lines);
                self.go_to(None);
            }
        }
        Vec::new()
    }

    /// Takes pasted text for the value that is being edited.
    pub(super) fn edit_by_paste(&mut self, text: &str) {
        if let Some(Entry {
            content: Content::Line(field),
            ..
        }) = &mut self.entry
        {
            field.paste(text);
            self.preview();
        }
    }

    /// Puts the value as it is typed into the text.
    fn preview(&mut self) {
        let (Some(entry), Some(form)) = (&mut self.entry, &mut self.form) else {
            return;
        };
        let tried = form.try_out(&entry.before, entry.key, entry.content.value());
        entry.problem = tried.err().map(|error| error.to_string());
    }

    /// Ends the edit under way with the value as it stands.
    pub(super) fn finish_entry(&mut self) {
        if let (Some(entry), Some(form)) = (self.entry.take(), &mut self.form) {
            form.remember(entry.before);
        }
    }

    /// Gives the edit under way up.
    pub(super) fn cancel_entry(&mut self) {
        if let (Some(entry), Some(form)) = (self.entry.take(), &mut self.form) {
            form.show(entry.before);
        }
    }

    /// Goes on to the next or the previous word of the key under the cursor.
    pub(super) fn cycle(&mut self, step: isize) -> Vec<Command> {
        let Some(FormLine::Key(key)) = self.place() else {
            return Vec::new();
        };
        let present = self.present_word(key);
        let Some(form) = &mut self.form else {
            return Vec::new();
        };
        let words = form.keys().get(key).map(|key| Kind::of(key).words());
        let words = words.unwrap_or_default();
        if words.is_empty() {
            return Vec::new();
        }
        let index = words.iter().position(|word| *word == present);
        let next = match index {
            Some(index) => cycled(index, step, words.len()),
            None => 0,
        };
        let Some(word) = words.get(next) else {
            return Vec::new();
        };
        match form.set(key, word) {
            Ok(()) => Vec::new(),
            Err(error) => vec![Notice::error(error.to_string())],
        }
    }

    /// The word that holds for a key: the one in the file, else the default.
    fn present_word(&self, key: usize) -> String {
        let Some(form) = &self.form else {
            return String::new();
        };
        let default = form.keys().get(key).and_then(|key| key.default.as_deref());
        let present = form.value(key).or(default).unwrap_or_default();
        present.trim_matches(['"', '\'']).to_owned()
    }
}

fn path_of(form: &super::form::Form, key: usize) -> String {
    let key = form.keys().get(key);
    key.map(moim_core::experiment::Key::path)
        .unwrap_or_default()
}

fn not_in_form() -> Command {
    Notice::error("this is in the file and in no key of the form; o opens the file in an editor")
}
