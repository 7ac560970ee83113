//! What is shown over a screen and gets the keys: texts, palette, questions, a line to type.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::keymap::{Action, BINDINGS, Binding, Lookup, Scope, bindings_of, key_name, lookup};
use super::message::{Choice, Dialog, Input};
use super::state::Screen;
use super::text::{self, fuzzy_score};
use super::widgets::field::TextField;
use super::widgets::list::{Item, List};
use super::widgets::pane::Pane;

/// Something over the screen.
#[derive(Clone, Debug)]
pub enum Overlay {
    /// Any action by its name.
    Palette(Palette),
    /// A question.
    Dialog(Dialog),
    /// A line of text for a purpose.
    Line { input: Input, field: TextField },
    /// The filter of the screen, active while it is typed.
    Filter { field: TextField, before: String },
    /// A text to read.
    Text {
        title: String,
        lines: Vec<String>,
        pane: Pane,
    },
}

/// The keys of a screen: its own, then those of every screen.
pub fn help_lines(screen: Screen) -> Vec<String> {
    let mut lines = Vec::new();
    for (title, is_own) in [(screen.title(), true), ("Everywhere", false)] {
        lines.push(title.to_owned());
        let bindings =
            bindings_of(screen).filter(|binding| (binding.scope != Scope::Everywhere) == is_own);
        for binding in bindings {
            let keys = text::fit(&binding.keys.join("  "), 18);
            lines.push(format!("  {keys} {}", binding.help));
        }
        lines.push(String::new());
    }
    lines.push(
        "Hangul letters work as the keys they are on. Shift and the mouse select text.".to_owned(),
    );
    lines
}

/// The palette's query and its list.
#[derive(Clone, Debug, Default)]
pub struct Palette {
    pub field: TextField,
    pub list: List<&'static str>,
}

impl Item for Binding {
    type Id = &'static str;

    fn id(&self) -> Option<&&'static str> {
        Some(&self.help)
    }
}

/// The result of a key in an overlay.
#[derive(Debug)]
pub enum Answer {
    /// The overlay stays.
    Stay,
    /// It closes and nothing follows.
    Close,
    /// It closes, and this action is executed, on the screen that it belongs to.
    Act(&'static Binding),
    /// A question was answered.
    Chosen(Choice),
    /// A line was typed.
    Typed(Input, String),
    /// The filter is this now; the overlay stays while `is_done` is false.
    Filtered { text: String, is_done: bool },
}

impl Overlay {
    /// Shows a text.
    pub fn text(title: String, lines: Vec<String>) -> Self {
        Self::Text {
            title,
            lines,
            pane: Pane::default(),
        }
    }

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
            Self::Text { pane, .. } => scrolled(pane, key, screen),
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
                palette.list = List::default();
            }
            Self::Line { field, .. } => field.paste(text),
            Self::Filter { field, .. } => {
                field.paste(text);
                return Answer::Filtered {
                    text: field.text().to_owned(),
                    is_done: false,
                };
            }
            Self::Dialog(_) | Self::Text { .. } => {}
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

/// The keys that move a cursor scroll the text; any other one closes it.
fn scrolled(pane: &mut Pane, key: KeyEvent, screen: Screen) -> Answer {
    let action = match key_name(key).map(|name| lookup(screen, &name)) {
        _ if key.code == KeyCode::Char(' ') => Action::PageDown,
        Some(Lookup::Action(action)) => action,
        _ => return Answer::Close,
    };
    if pane.act(action) {
        Answer::Stay
    } else {
        Answer::Close
    }
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
        let movement = match key.code {
            KeyCode::Esc => return Answer::Close,
            KeyCode::Enter => {
                return match self.list.selected(&self.matches(screen)) {
                    Some(&binding) => Answer::Act(binding),
                    None => Answer::Stay,
                };
            }
            KeyCode::Down | KeyCode::Tab => Action::Down,
            KeyCode::Char('n') if is_control => Action::Down,
            KeyCode::Up | KeyCode::BackTab => Action::Up,
            KeyCode::Char('p') if is_control => Action::Up,
            _ => {
                self.field.handle(key);
                self.list = List::default();
                return Answer::Stay;
            }
        };
        self.list.act(movement, &self.matches(screen));
        Answer::Stay
    }
}
