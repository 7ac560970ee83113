//! The six screens. Each has its state, what its keys do (pure), and its drawing.

pub mod answers;
pub mod compare;
mod condition;
mod control;
pub mod experiments;
mod export;
pub mod plan;
pub mod ranking;
pub mod train;
mod words;

use crossterm::event::KeyEvent;
use ratatui::Frame;
use ratatui::layout::{Position, Rect};

use super::keymap::Action;
use super::message::Command;
use super::state::{Context, Screen};

/// Said by a screen of a run while none is open, after what it would show.
const NO_RUN: &str = "No run is open: press 1, select a run and press enter.";

/// What every screen can do. Drawing changes nothing that is shown: it only remembers what it
/// found out, such as the height of a list.
pub trait ScreenState {
    /// Executes an action of the key table.
    fn act(&mut self, action: Action, context: &Context<'_>) -> Vec<Command>;

    /// Whether keys are text for a field of the screen at the moment.
    fn is_typing(&self) -> bool {
        false
    }

    /// Takes a key as text; called only while [`is_typing`](ScreenState::is_typing).
    fn type_key(&mut self, _key: KeyEvent, _context: &Context<'_>) -> Vec<Command> {
        Vec::new()
    }

    /// Takes pasted text; called only while [`is_typing`](ScreenState::is_typing).
    fn paste(&mut self, _text: &str, _context: &Context<'_>) -> Vec<Command> {
        Vec::new()
    }

    /// The filter was changed; empty shows everything. Screens that have nothing to filter
    /// keep this default.
    fn set_filter(&mut self, _filter: &str, _context: &Context<'_>) -> Vec<Command> {
        Vec::new()
    }

    /// The active filter, to be edited further.
    fn filter(&self) -> &str {
        ""
    }

    /// A click into the screen's part of the terminal.
    fn click(&mut self, _at: Position, _context: &Context<'_>) -> Vec<Command> {
        Vec::new()
    }

    /// Called after anything was read, and when the screen comes to the front: cursors follow
    /// their items, and what else is needed is requested.
    fn refresh(&mut self, _context: &Context<'_>) -> Vec<Command> {
        Vec::new()
    }

    /// A few words for the title line, e.g. which run is shown.
    fn status(&self, _context: &Context<'_>) -> String {
        String::new()
    }

    /// Draws the screen into its part of the terminal.
    fn draw(&self, context: &Context<'_>, frame: &mut Frame<'_>, area: Rect);
}

/// The state of all six.
#[derive(Default)]
pub struct Screens {
    pub experiments: experiments::Experiments,
    pub plan: plan::Plan,
    pub train: train::Train,
    pub answers: answers::Answers,
    pub ranking: ranking::Ranking,
    pub compare: compare::Compare,
}

impl Screens {
    /// The screen of that name.
    pub fn get(&self, screen: Screen) -> &dyn ScreenState {
        match screen {
            Screen::Experiments => &self.experiments,
            Screen::Plan => &self.plan,
            Screen::Train => &self.train,
            Screen::Answers => &self.answers,
            Screen::Ranking => &self.ranking,
            Screen::Compare => &self.compare,
        }
    }

    /// The screen of that name, to be changed.
    pub fn get_mut(&mut self, screen: Screen) -> &mut dyn ScreenState {
        match screen {
            Screen::Experiments => &mut self.experiments,
            Screen::Plan => &mut self.plan,
            Screen::Train => &mut self.train,
            Screen::Answers => &mut self.answers,
            Screen::Ranking => &mut self.ranking,
            Screen::Compare => &mut self.compare,
        }
    }
}
