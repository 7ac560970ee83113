//! A value that is being edited in its place.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use moim_core::experiment::{Document, Key};

use crate::tui::widgets::field::TextField;

/// How a key's value is edited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` and `false`: switched at once.
    Flag,
    /// One of a few words: chosen.
    Words(Vec<String>),
    /// Anything else: typed.
    Text,
}

impl Kind {
    /// The kind of a key, by what may be written.
    pub fn of(key: &Key) -> Self {
        match key.expected.as_str() {
            "true or false" => Self::Flag,
            expected if expected.starts_with("one of ") => {
                let words = expected.split('"').skip(1).step_by(2);
                Self::Words(words.map(str::to_owned).collect())
            }
            _ => Self::Text,
        }
    }

    /// The words that the value can be cycled through; none for what is typed.
    pub fn words(&self) -> Vec<String> {
        match self {
            Self::Flag => vec!["false".to_owned(), "true".to_owned()],
            Self::Words(words) => words.clone(),
            Self::Text => Vec::new(),
        }
    }
}

/// What holds where a file does not have a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent<'a> {
    /// This value.
    Default(&'a str),
    /// Nothing: the key has to be there. Its default is an empty path.
    Required,
    /// Nothing: what it stands for is off.
    Off,
}

impl<'a> Absent<'a> {
    /// What holds in place of a key.
    pub fn of(key: &'a Key) -> Self {
        match key.default.as_deref() {
            Some("\"\"") => Self::Required,
            Some(value) => Self::Default(value),
            None => Self::Off,
        }
    }
}

/// An edit under way.
#[derive(Debug)]
pub struct Entry {
    /// The key, by its place in the form.
    pub key: usize,
    /// The text before the edit.
    pub before: Document,
    pub content: Content,
    /// Why the value cannot be put into the file.
    pub problem: Option<String>,
}

/// What is typed or chosen.
#[derive(Debug)]
pub enum Content {
    Line(TextField),
    Choice { words: Vec<String>, index: usize },
}

/// What a key did to an edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typed {
    /// The value is another now, perhaps.
    Changed,
    /// The edit is done; the cursor goes on by so many lines.
    Done(isize),
    /// The value is as before.
    Cancelled,
}

impl Content {
    /// Editing `present` among these words, or as text where there are none.
    pub fn new(words: Vec<String>, present: &str) -> Self {
        if words.is_empty() {
            return Self::Line(TextField::new(present));
        }
        let bare = present.trim_matches('"');
        let index = words.iter().position(|word| word == bare).unwrap_or(0);
        Self::Choice { words, index }
    }

    /// The value as it is now.
    pub fn value(&self) -> &str {
        match self {
            Self::Line(field) => field.text(),
            Self::Choice { words, index } => words.get(*index).map_or("", String::as_str),
        }
    }

    /// Takes a key.
    pub fn key(&mut self, key: KeyEvent) -> Typed {
        match key.code {
            KeyCode::Enter => return Typed::Done(0),
            KeyCode::Esc => return Typed::Cancelled,
            KeyCode::Tab => return Typed::Done(1),
            KeyCode::BackTab => return Typed::Done(-1),
            _ => {}
        }
        match self {
            Self::Line(field) => match key.code {
                KeyCode::Down => return Typed::Done(1),
                KeyCode::Up => return Typed::Done(-1),
                _ => {
                    field.handle(key);
                }
            },
            Self::Choice { words, index } => {
                let step = match key.code {
                    _ if key.modifiers.contains(KeyModifiers::CONTROL) => 0,
                    KeyCode::Right | KeyCode::Down | KeyCode::Char(' ' | 'l' | 'j') => 1,
                    KeyCode::Left | KeyCode::Up | KeyCode::Char('h' | 'k') => -1,
                    _ => 0,
                };
                *index = cycled(*index, step, words.len());
            }
        }
        Typed::Changed
    }
}

/// The place `step` further among `len`, round and round.
pub fn cycled(index: usize, step: isize, len: usize) -> usize {
    match len {
        0 => 0,
        _ => (index + len).saturating_add_signed(step) % len,
    }
}
