//! The Ranking screen: the answer files of the open run, ranked as they appear.

mod chart;
mod compare;
pub(in crate::tui::screens) mod details;
mod draw;
mod export;
#[cfg(test)]
pub(crate) mod sample;
mod table;
#[cfg(test)]
mod tests;
pub(in crate::tui::screens) mod words;

use std::path::PathBuf;

use moim_core::score::FileState;
use ratatui::Frame;
use ratatui::layout::{Position, Rect};

pub(in crate::tui::screens) use self::compare::best_and_first;
use self::table::{FINAL_MEAN, Reference, View};
use self::words::number;
use super::ScreenState;
use crate::tui::filter::Filter;
use crate::tui::keymap::Action;
use crate::tui::message::{Command, Effect, Notice};
use crate::tui::state::Context;
use crate::tui::widgets::focus::{self, Focus};
use crate::tui::widgets::list::{Marks, Search};
use crate::tui::widgets::pane::Pane;
use crate::tui::widgets::table::{Sort, Table};

/// The state of the Ranking screen.
#[derive(Debug)]
pub struct Ranking {
    /// Whose files were shown last: every run has an `inference_epoch1.json`.
    run: Option<PathBuf>,
    /// The files, by their names: ranks change under the cursor.
    table: Table<String>,
    /// Files to be compared.
    marks: Marks<String>,
    sort: Sort,
    reference: Reference,
    /// Whether each file shows its question types.
    has_types: bool,
    /// Whether details are shown; `None` while the size of the screen decides.
    details: Option<bool>,
    focus: Focus<Part>,
    /// The details of the file under the cursor.
    reading: Pane,
    filter: Filter,
}

impl Default for Ranking {
    fn default() -> Self {
        Self {
            run: None,
            table: Table::default(),
            marks: Marks::default(),
            sort: Sort::by(FINAL_MEAN),
            reference: Reference::default(),
            has_types: false,
            details: None,
            focus: Focus::default(),
            reading: Pane::default(),
            filter: Filter::default(),
        }
    }
}

/// The parts of the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Table,
    Words,
    Chart,
    Details,
}

impl focus::Part for Part {
    const RING: &'static [Self] = &[Self::Table, Self::Details];
}

impl ScreenState for Ranking {
    fn act(&mut self, action: Action, context: &Context<'_>) -> Vec<Command> {
        let Some(view) = View::of(self, context.world) else {
            return Vec::new();
        };
        let areas = draw::areas(context.body, view.lines.len(), self.details);
        if self.focus.is(Part::Details) && areas.shows(Part::Details) {
            if self.reading.act(action) {
                return Vec::new();
            }
        } else if self.table.list.act(action, &view.lines) {
            self.reading.reset();
            return Vec::new();
        }
        match action {
            Action::NextMatch => return self.go_to_match(true, &view),
            Action::PreviousMatch => return self.go_to_match(false, &view),
            Action::NextPane | Action::PreviousPane => {
                if !areas.shows(Part::Details) {
                    return vec![Notice::info("enter shows the details of the file")];
                }
                self.focus.step(1);
            }
            Action::Open => {
                self.details = Some(!areas.shows(Part::Details));
                self.focus.set(Part::Table);
                self.reading.reset();
            }
            Action::Back => self.back(),
            Action::Mark => {
                if let Some(row) = view.selected(self) {
                    self.marks.toggle(&row.scored.file);
                }
            }
            Action::ClearMarks => self.marks.clear(),
            Action::CompareMarked => return self.compare(&view, context),
            Action::Sort => self.sort.next(&view.columns),
            Action::ReverseSort => self.sort.is_reversed = !self.sort.is_reversed,
            Action::Baseline => {
                self.reference = self.reference.other();
                let words = format!("differences are from {}", self.reference.name());
                return vec![Notice::info(words)];
            }
            Action::QuestionType => self.has_types = !self.has_types,
            Action::Copy => {
                let row = view.selected(self).map(export::row);
                return row
                    .map(|text| Effect::Copy(text).into())
                    .into_iter()
                    .collect();
            }
            Action::Export => {
                let run = context.world.open.as_ref().map(|open| open.id());
                return vec![export::leaderboard(view.board, &run.unwrap_or_default())];
            }
            Action::OpenInEditor => return self.open_in_editor(&view, context),
            _ => {}
        }
        Vec::new()
    }

    fn set_filter(&mut self, filter: &str, _context: &Context<'_>) -> Vec<Command> {
        self.filter = Filter::new(filter);
        Vec::new()
    }

    fn filter(&self) -> &str {
        self.filter.text()
    }

    fn click(&mut self, at: Position, context: &Context<'_>) -> Vec<Command> {
        let Some(view) = View::of(self, context.world) else {
            return Vec::new();
        };
        if self.focus.click(at) == Some(Part::Table) {
            if self.table.list.click(at, &view.lines) {
                self.reading.reset();
            } else if let Some(column) = self.table.column_at(at) {
                self.sort.choose(column, &view.columns);
            }
        }
        Vec::new()
    }

    fn refresh(&mut self, context: &Context<'_>) -> Vec<Command> {
        let run = context.world.open.as_ref().map(|open| &open.path);
        if run != self.run.as_ref() {
            self.run = run.cloned();
            self.table = Table::default();
            self.marks.clear();
            self.reading.reset();
        }
        if let Some(view) = View::of(self, context.world) {
            self.table.list.follow(&view.lines);
            let rows = &view.board.rows;
            self.marks
                .retain(|file| rows.iter().any(|row| row.scored.file == *file));
        }
        Vec::new()
    }

    fn status(&self, context: &Context<'_>) -> String {
        let Some(open) = &context.world.open else {
            return "no run is open".to_owned();
        };
        let board = context.world.ranking.board.as_deref();
        let best = board.and_then(|board| board.best());
        match best.and_then(|best| Some((&best.scored.file, best.means?))) {
            Some((file, means)) => format!(
                "{}: {} {}",
                open.id(),
                super::words::without_ending(file),
                number(means.final_mean)
            ),
            None => open.id(),
        }
    }

    fn draw(&self, context: &Context<'_>, frame: &mut Frame<'_>, area: Rect) {
        draw::draw(self, context, frame, area);
    }
}

impl Ranking {
    /// The next or the previous file that passes the filter, from the last on to the first.
    fn go_to_match(&mut self, is_forward: bool, view: &View<'_>) -> Vec<Command> {
        if self.filter.is_empty() {
            return vec![Notice::info("nothing is filtered; / filters by file name")];
        }
        self.reading.reset();
        match self.table.list.search(is_forward, &view.lines, |_| true) {
            Search::Nothing => vec![Notice::info("no file name matches the filter")],
            Search::Further | Search::Wrapped => Vec::new(),
        }
    }

    /// One step back: to the table, to every file, to details as the size of the screen has it.
    fn back(&mut self) {
        if self.focus.is(Part::Details) {
            self.focus.set(Part::Table);
        } else if !self.filter.is_empty() {
            self.filter = Filter::default();
        } else {
            self.details = None;
        }
    }

    fn compare(&self, view: &View<'_>, context: &Context<'_>) -> Vec<Command> {
        let Some(open) = &context.world.open else {
            return Vec::new();
        };
        let marked = self.marks.all().iter().map(String::as_str).collect();
        match compare::choice(view.board, marked) {
            Ok(choice) => compare::commands(&open.path, choice),
            Err(reason) => vec![Notice::error(reason)],
        }
    }

    fn open_in_editor(&self, view: &View<'_>, context: &Context<'_>) -> Vec<Command> {
        let Some(row) = view.selected(self) else {
            return Vec::new();
        };
        if row.scored.state == FileState::Gone {
            let words = format!("{} no longer exists", row.scored.file);
            return vec![Notice::error(words)];
        }
        let path = context.world.ranking.directory.join(&row.scored.file);
        vec![Effect::OpenInEditor(path).into()]
    }
}
