//! Editing a value in place: the text of the file follows every key.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use moim_core::experiment::{Document, Key};

use super::Plan;
use super::form::{Field, Form, FormLine};
use crate::tui::keymap::Action;
use crate::tui::message::{Command, Notice};
use crate::tui::widgets::field::TextField;

/// The edit in progress.
#[derive(Debug)]
pub struct Entry {
    /// An index of the form's fields.
    pub key: usize,
    pub content: Content,
    /// Why the value cannot be put into the file.
    pub problem: Option<String>,
    /// The text before the edit.
    before: Document,
}

/// What is typed or chosen.
#[derive(Debug)]
pub enum Content {
    Line(TextField),
    Choice { words: Vec<String>, index: usize },
}

impl Content {
    /// The value as it is now.
    pub fn value(&self) -> &str {
        match self {
            Self::Line(field) => field.text(),
            Self::Choice { words, index } => words.get(*index).map_or("", String::as_str),
        }
    }
}

/// The words that a key's value is one of; empty if it is typed.
pub fn choices(key: &Key) -> Vec<String> {
    match key.expected.as_str() {
        FLAG => ["false", "true"].map(str::to_owned).to_vec(),
        expected if expected.starts_with("one of ") => {
            let quoted = expected.split('"').skip(1).step_by(2);
            quoted.map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

/// What a flag expects. It has two values, so it is switched without being edited.
const FLAG: &str = "true or false";

impl Plan {
    /// Starts to edit the value under the cursor, or switches a flag.
    pub(super) fn begin_entry(&mut self) -> Vec<Command> {
        let (Some(line), Some(form)) = (self.line(), &self.form) else {
            return Vec::new();
        };
        let (FormLine::Key(key), Some(field)) = (line, form.field(line)) else {
            return vec![Notice::error(
                "this is in the file but is no key of the form; o opens the file in an editor",
            )];
        };
        if field.key.expected == FLAG {
            return self.cycle(1);
        }
        match entry(key, field, form) {
            Ok(entry) => self.entry = Some(entry),
            Err(problem) => return vec![Notice::error(problem)],
        }
        Vec::new()
    }

    /// Applies a key to the value that is being edited.
    pub(super) fn edit_by_key(&mut self, key: KeyEvent) {
        let Some(entry) = &mut self.entry else {
            return;
        };
        let movement = match (key.code, &mut entry.content) {
            (KeyCode::Esc, _) => return self.cancel_entry(),
            (KeyCode::Enter, _) => None,
            (KeyCode::Tab, _) | (KeyCode::Down, Content::Line(_)) => Some(Action::Down),
            (KeyCode::BackTab, _) | (KeyCode::Up, Content::Line(_)) => Some(Action::Up),
            (_, Content::Line(field)) => {
                field.handle(key);
                return self.preview();
            }
            (code, Content::Choice { words, index }) => {
                let step = match code {
                    _ if key.modifiers.contains(KeyModifiers::CONTROL) => 0,
                    KeyCode::Right | KeyCode::Down | KeyCode::Char(' ' | 'l' | 'j') => 1,
                    KeyCode::Left | KeyCode::Up | KeyCode::Char('h' | 'k') => -1,
                    _ => 0,
                };
                *index = cycled(*index, step, words.len());
                return self.preview();
            }
        };
        self.finish_entry();
        if let Some(movement) = movement {
            self.list.act(movement, &self.lines());
        }
    }

    /// Inserts pasted text into the value that is being edited.
    pub(super) fn edit_by_paste(&mut self, text: &str) {
        if let Some(entry) = &mut self.entry
            && let Content::Line(field) = &mut entry.content
        {
            field.paste(text);
            self.preview();
        }
    }

    /// Puts the value as it is typed into the text.
    fn preview(&mut self) {
        if let (Some(entry), Some(form)) = (&mut self.entry, &mut self.form) {
            let tried = form.try_out(&entry.before, entry.key, entry.content.value());
            entry.problem = tried.err().map(|error| error.to_string());
        }
    }

    /// Ends the edit in progress and keeps the value.
    pub(super) fn finish_entry(&mut self) {
        if let (Some(entry), Some(form)) = (self.entry.take(), &mut self.form) {
            form.remember(entry.before);
        }
    }

    /// Ends the edit in progress and restores the value before it.
    pub(super) fn cancel_entry(&mut self) {
        if let (Some(entry), Some(form)) = (self.entry.take(), &mut self.form) {
            form.show(entry.before);
        }
    }

    /// Changes to the next or the previous word of the key under the cursor.
    pub(super) fn cycle(&mut self, step: isize) -> Vec<Command> {
        let (Some(FormLine::Key(key)), Some(form)) = (self.line(), &mut self.form) else {
            return Vec::new();
        };
        let Some(field) = form.fields.get(key) else {
            return Vec::new();
        };
        let words = choices(&field.key);
        let present = words.iter().position(|word| *word == present_word(field));
        let next = present.map_or(0, |index| cycled(index, step, words.len()));
        let set = words.get(next).map(|word| form.set(key, word));
        let failed = set.and_then(Result::err);
        failed
            .map(|error| Notice::error(error.to_string()))
            .into_iter()
            .collect()
    }
}

/// Starts to edit a key; an error if its value cannot be changed in place, before anything is
/// typed in vain.
fn entry(key: usize, field: &Field, form: &Form) -> Result<Entry, String> {
    let before = form.document.as_ref().map_err(ToString::to_string)?;
    let typed = before.typed(&field.path).unwrap_or_default();
    let mut tried = before.clone();
    tried
        .set(&field.path, &typed)
        .map_err(|error| format!("{error} (o)"))?;
    let words = choices(&field.key);
    let content = if words.is_empty() {
        Content::Line(TextField::new(&typed))
    } else {
        let present = words.iter().position(|word| word == present_word(field));
        Content::Choice {
            words,
            index: present.unwrap_or(0),
        }
    };
    Ok(Entry {
        key,
        content,
        problem: None,
        before: before.clone(),
    })
}

/// The value in effect, without its quotes.
fn present_word(field: &Field) -> &str {
    field
        .present()
        .unwrap_or_default()
        .trim_matches(['"', '\''])
}

/// The index `step` further among `len`, cyclically.
fn cycled(index: usize, step: isize, len: usize) -> usize {
    (index + len).saturating_add_signed(step) % len.max(1)
}
