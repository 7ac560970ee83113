//! The Ranking screen: the answer files of the open run, ranked as they appear.

mod chart;
pub(in crate::tui::screens) mod columns;
mod compare;
pub(in crate::tui::screens) mod details;
mod draw;
mod export;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
mod view;
pub(in crate::tui::screens) mod words;

use std::collections::BTreeSet;
use std::path::PathBuf;

use moim_core::score::FileState;
use ratatui::Frame;
use ratatui::layout::{Position, Rect};

use self::columns::{Column, Reference, Sort, number};
pub(in crate::tui::screens) use self::compare::best_and_first;
use self::view::{Areas, View};
use super::ScreenState;
use crate::tui::filter::Filter;
use crate::tui::keymap::Action;
use crate::tui::message::{Command, Effect, Notice};
use crate::tui::state::Context;
use crate::tui::widgets::scroll::visible;

/// The state of the Ranking screen.
#[derive(Debug, Default)]
pub struct Ranking {
    /// Whose files were looked at last: every run has an `inference_epoch1.json`.
    run: Option<PathBuf>,
    /// The file under the cursor, by its name: ranks change under it.
    cursor: Option<String>,
    /// Files to be compared.
    marked: BTreeSet<String>,
    sort: Sort,
    reference: Reference,
    /// Whether each file shows its question types.
    has_types: bool,
    /// Whether details are shown; `None` while the size of the screen decides.
    details: Option<bool>,
    focus: Focus,
    /// The first line of the details.
    detail_scroll: usize,
    filter: Filter,
}

/// The part of the screen that has the keyboard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Focus {
    #[default]
    Table,
    Details,
}

impl ScreenState for Ranking {
    fn act(&mut self, action: Action, context: &Context<'_>) -> Vec<Command> {
        let Some(view) = View::of(self, context.world) else {
            return Vec::new();
        };
        let areas = Areas::of(context.body, view.lines.len(), self.details);
        match action {
            Action::Up
            | Action::Down
            | Action::PageUp
            | Action::PageDown
            | Action::Top
            | Action::Bottom => self.go(action, &view, &areas, context),
            Action::NextMatch | Action::PreviousMatch => return self.go_to_match(action, &view),
            Action::NextPane | Action::PreviousPane => {
                if areas.details.is_empty() {
                    return vec![Notice::info("enter shows the details of the file")];
                }
                self.focus = match self.focus {
                    Focus::Table => Focus::Details,
                    Focus::Details => Focus::Table,
                };
            }
            Action::Open => {
                self.details = Some(areas.details.is_empty());
                self.focus = Focus::Table;
                self.detail_scroll = 0;
            }
            Action::Back => self.back(),
            Action::Mark => {
                if let Some(row) = view.selected() {
                    self.mark(&row.scored.file);
                }
            }
            Action::ClearMarks => self.marked.clear(),
            Action::CompareMarked => return self.compare(&view, context),
            Action::Sort => {
                self.sort = Sort {
                    column: self.sort.column.next(),
                    is_reversed: false,
                };
            }
            Action::ReverseSort => self.sort.is_reversed = !self.sort.is_reversed,
            Action::Baseline => {
                self.reference = self.reference.other();
                let words = format!("differences are from {}", self.reference.name());
                return vec![Notice::info(words)];
            }
            Action::QuestionType => self.has_types = !self.has_types,
            Action::Copy => {
                let row = view.selected().map(export::row);
                return row
                    .map(|text| Effect::Copy(text).into())
                    .into_iter()
                    .collect();
            }
            Action::Export => {
                let run = context.world.open.as_ref().map(|open| open.id());
                return vec![export::leaderboard(view.board, &run.unwrap_or_default())];
            }
            Action::OpenInEditor => return open_in_editor(&view, context),
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
        let areas = Areas::of(context.body, view.lines.len(), self.details);
        if areas.details.contains(at) {
            self.focus = Focus::Details;
            return Vec::new();
        }
        let inside = Areas::inside(areas.table);
        let (row, head) = draw::table(self, &view, context, |table| {
            (table.row_at(inside, at), table.head_at(inside, at))
        });
        if let Some(file) = row.and_then(|line| view.file_of_line(line)) {
            self.focus = Focus::Table;
            self.select(&view, file);
        } else if let Some(column) = head.and_then(|head| Column::ALL.get(head).copied()) {
            self.sort = Sort {
                column,
                is_reversed: column == self.sort.column && !self.sort.is_reversed,
            };
        }
        Vec::new()
    }

    fn refresh(&mut self, context: &Context<'_>) -> Vec<Command> {
        let run = context.world.open.as_ref().map(|open| &open.path);
        if run != self.run.as_ref() {
            self.run = run.cloned();
            self.cursor = None;
            self.marked.clear();
            self.detail_scroll = 0;
        }
        let Some(view) = View::of(self, context.world) else {
            return Vec::new();
        };
        if self.cursor.is_none() {
            self.select(&view, 0);
        }
        let board = view.board;
        let is_there = |file: &String| board.rows.iter().any(|row| row.scored.file == *file);
        self.marked.retain(is_there);
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
    fn select(&mut self, view: &View<'_>, place: usize) {
        if let Some(row) = view.rows.get(place) {
            if self.cursor.as_deref() != Some(row.scored.file.as_str()) {
                self.detail_scroll = 0;
            }
            self.cursor = Some(row.scored.file.clone());
        }
    }

    /// Moves the cursor, or scrolls the details where they have the keyboard.
    fn go(&mut self, action: Action, view: &View<'_>, areas: &Areas, context: &Context<'_>) {
        if self.focus == Focus::Details && !areas.details.is_empty() {
            let inside = Areas::inside(areas.details);
            let lines = draw::detail_lines(self, view, context, inside).len();
            let height = usize::from(inside.height);
            let wanted = moved(action, self.detail_scroll, lines, height);
            self.detail_scroll = visible(wanted, lines, height).start;
            return;
        }
        let page = usize::from(Areas::inside(areas.table).height.saturating_sub(1));
        self.select(view, moved(action, view.cursor, view.rows.len(), page));
    }

    /// The next or the previous file that passes the filter, from the last on to the first.
    fn go_to_match(&mut self, action: Action, view: &View<'_>) -> Vec<Command> {
        if self.filter.is_empty() {
            return vec![Notice::info("nothing is filtered; / filters by file name")];
        }
        let Some(last) = view.rows.len().checked_sub(1) else {
            return vec![Notice::info("no file name matches the filter")];
        };
        let place = match action {
            Action::NextMatch if view.cursor == last => 0,
            Action::NextMatch => view.cursor + 1,
            _ => view.cursor.checked_sub(1).unwrap_or(last),
        };
        self.select(view, place);
        Vec::new()
    }

    /// One step back: to the table, to every file, to details as the size of the screen has it.
    fn back(&mut self) {
        if self.focus == Focus::Details {
            self.focus = Focus::Table;
        } else if !self.filter.is_empty() {
            self.filter = Filter::default();
        } else {
            self.details = None;
        }
    }

    fn mark(&mut self, file: &str) {
        if !self.marked.remove(file) {
            self.marked.insert(file.to_owned());
        }
    }

    fn compare(&self, view: &View<'_>, context: &Context<'_>) -> Vec<Command> {
        let Some(open) = &context.world.open else {
            return Vec::new();
        };
        let marked = self.marked.iter().map(String::as_str).collect();
        match compare::choice(view.board, marked) {
            Ok(choice) => compare::commands(&open.path, choice),
            Err(reason) => vec![Notice::error(reason)],
        }
    }
}

/// Where an action leads from a place among `len`; a page has `page` of them.
pub(in crate::tui::screens) fn moved(
    action: Action,
    from: usize,
    len: usize,
    page: usize,
) -> usize {
    let last = len.saturating_sub(1);
    match action {
        Action::Up => from.saturating_sub(1),
        Action::Down => from + 1,
        Action::PageUp => from.saturating_sub(page.max(1)),
        Action::PageDown => from + page.max(1),
        Action::Top => 0,
        Action::Bottom => last,
        _ => from,
    }
    .min(last)
}

fn open_in_editor(view: &View<'_>, context: &Context<'_>) -> Vec<Command> {
    let Some(row) = view.selected() else {
        return Vec::new();
    };
    if row.scored.state == FileState::Gone {
        let words = format!("{} is not there any more", row.scored.file);
        return vec![Notice::error(words)];
    }
    let path = context.world.ranking.directory.join(&row.scored.file);
    vec![Effect::OpenInEditor(path).into()]
}
