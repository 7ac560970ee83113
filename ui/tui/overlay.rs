//! What lies over a screen and takes the keys: help, palette, questions, a line to type.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::keymap::{Action, BINDINGS, Binding, Scope, bindings_of};
use super::message::{Choice, Dialog, Input};
use super::state::Screen;
use super::text::fuzzy_score;
use super::widgets::field::TextField;

/// Something over the screen.
#[derive(Clone, Debug)]
pub enum Overlay {
    /// The keys of the screen, scrolled by lines.
    Help { scroll: usize },
    /// Any action by its name.
    Palette(Palette),
    /// A question.
    Dialog(Dialog),
    /// A line of text for a purpose.
    Line { input: Input, field: TextField },
    /// The filter of the screen, in force while it is typed.
    Filter { field: TextField, before: String },
    /// A text to read, scrolled by lines.
    Text {
        title: String,
        lines: Vec<String>,
        scroll: usize,
    },
}

/// The palette's query and its place in the list.
#[derive(Clone, Debug, Default)]
pub struct Palette {
    pub field: TextField,
    pub cursor: usize,
}

/// What a key came to in an overlay.
#[derive(Debug)]
pub enum Answer {
    /// The overlay stays.
    Stay,
    /// It closes and nothing follows.
    Close,
    /// It closes, and this action is carried out, on the screen that it belongs to.
    Act(&'static Binding),
    /// A question was answered.
    Chosen(Choice),
    /// A line was typed.
    Typed(Input, String),
    /// The filter is this now; the overlay stays while `is_done` is false.
    Filtered { text: String, is_done: bool },
}

impl Overlay {
    /// Asks for a line.
    pub fn line(input: Input) -> Self {
        let field = TextField::new(&input.initial);
        Self::Line { input, field }
    }

    /// Edits the filter.
    pub fn filter(present: &str) -> Self {
        Self::Filter {
            field: TextField::new(present),
            before: present.to_owned(),
        }
    }

    /// Takes a key.
    pub fn key(&mut self, key: KeyEvent, screen: Screen) -> Answer {
        if is_interrupt(key) {
            return self.cancelled();
        }
        match self {
            Self::Help { scroll } | Self::Text { scroll, .. } => scrolled(scroll, key),
            Self::Palette(palette) => palette.key(key, screen),
            Self::Dialog(dialog) => match key.code {
                KeyCode::Esc => Answer::Close,
                KeyCode::Char(letter) => {
                    let is_it = |choice: &&Choice| choice.key.eq_ignore_ascii_case(&letter);
                    match dialog.choices.iter().find(is_it) {
                        Some(choice) => Answer::Chosen(choice.clone()),
                        None => Answer::Stay,
                    }
                }
                _ => Answer::Stay,
            },
            Self::Line { input, field } => match key.code {
                KeyCode::Esc => Answer::Close,
                KeyCode::Enter => Answer::Typed(input.clone(), field.text().to_owned()),
                _ => {
                    field.handle(key);
                    Answer::Stay
                }
            },
            Self::Filter { field, before } => match key.code {
                KeyCode::Esc => Answer::Filtered {
                    text: before.clone(),
                    is_done: true,
                },
                KeyCode::Enter => Answer::Filtered {
                    text: field.text().to_owned(),
                    is_done: true,
                },
                _ => {
                    field.handle(key);
                    Answer::Filtered {
                        text: field.text().to_owned(),
                        is_done: false,
                    }
                }
            },
        }
    }

    /// Takes pasted text.
    pub fn paste(&mut self, text: &str) -> Answer {
        match self {
            Self::Palette(palette) => {
                palette.field.paste(text);
                palette.cursor = 0;
            }
            Self::Line { field, .. } => field.paste(text),
            Self::Filter { field, .. } => {
                field.paste(text);
                return Answer::Filtered {
                    text: field.text().to_owned(),
                    is_done: false,
                };
            }
            Self::Help { .. } | Self::Dialog(_) | Self::Text { .. } => {}
        }
        Answer::Stay
    }

    fn cancelled(&self) -> Answer {
        match self {
            Self::Filter { before, .. } => Answer::Filtered {
                text: before.clone(),
                is_done: true,
            },
            _ => Answer::Close,
        }
    }
}

/// Ctrl-C closes whatever is open, like Esc.
fn is_interrupt(key: KeyEvent) -> bool {
    key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL)
}

/// Lines that a page key moves by; overlays are at least this high.
const PAGE: usize = 10;

fn scrolled(scroll: &mut usize, key: KeyEvent) -> Answer {
    *scroll = match key.code {
        KeyCode::Down | KeyCode::Char('j' | 'ㅓ') => *scroll + 1,
        KeyCode::Up | KeyCode::Char('k' | 'ㅏ') => scroll.saturating_sub(1),
        KeyCode::PageDown | KeyCode::Char(' ') => *scroll + PAGE,
        KeyCode::PageUp => scroll.saturating_sub(PAGE),
        KeyCode::Home => 0,
        _ => return Answer::Close,
    };
    Answer::Stay
}

impl Palette {
    /// The actions of all screens that match the query, the best first; of equally good ones
    /// those of this screen.
    pub fn matches(&self, screen: Screen) -> Vec<&'static Binding> {
        let query = self.field.text();
        let of_others = BINDINGS
            .iter()
            .filter(|binding| matches!(binding.scope, Scope::On(other) if other != screen));
        let mut scored: Vec<(i64, &'static Binding)> = bindings_of(screen)
            .filter(|binding| !matches!(binding.action, Action::Palette))
            .chain(of_others)
            .filter_map(|binding| {
                let by_label = fuzzy_score(query, binding.label).map(|(score, _)| score + 1);
                let by_help = fuzzy_score(query, binding.help).map(|(score, _)| score);
                Some((by_label.max(by_help)?, binding))
            })
            .collect();
        // A stable sort: equally good ones stay in the order of the table.
        scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
        scored.into_iter().map(|(_, binding)| binding).collect()
    }

    fn key(&mut self, key: KeyEvent, screen: Screen) -> Answer {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Esc => return Answer::Close,
            KeyCode::Enter => {
                return match self.matches(screen).get(self.cursor) {
                    Some(binding) => Answer::Act(binding),
                    None => Answer::Stay,
                };
            }
            KeyCode::Down | KeyCode::Tab => self.cursor += 1,
            KeyCode::Char('n') if is_control => self.cursor += 1,
            KeyCode::Up | KeyCode::BackTab => self.cursor = self.cursor.saturating_sub(1),
            KeyCode::Char('p') if is_control => self.cursor = self.cursor.saturating_sub(1),
            _ => {
                self.field.handle(key);
                self.cursor = 0;
            }
        }
        let last = self.matches(screen).len().saturating_sub(1);
        self.cursor = self.cursor.min(last);
        Answer::Stay
    }
}
