//! Moving through the items.

use moim_core::score::Comparison;
use moim_core::score::compare::ComparedItem;

use super::draw::{self, Areas};
use super::model::{self, letter};
use super::{Compare, Focus};
use crate::tui::keymap::Action;
use crate::tui::message::{Command, Notice};
use crate::tui::state::Context;
use crate::tui::widgets::list::moved;
use crate::tui::widgets::scroll::visible;

impl Compare {
    /// Moves the cursor, or scrolls the detail where that has the keyboard.
    pub(super) fn go(&mut self, action: Action, comparison: &Comparison, context: &Context<'_>) {
        let areas = self.areas(comparison, context, context.body);
        if self.focus == Focus::List {
            let page = usize::from(Areas::inside(areas.list).height.saturating_sub(1));
            let place = moved(action, self.place(), self.shown.len(), page).unwrap_or(0);
            self.select(place, comparison);
            return;
        }
        let Some(item) = self.selected() else {
            return;
        };
        let inside = Areas::inside(areas.detail);
        let lines = draw::detail_lines(self, item, comparison, context, inside).len();
        let height = usize::from(inside.height);
        let wanted = moved(action, self.detail_scroll, lines, height).unwrap_or(0);
        self.detail_scroll = visible(wanted, lines, height).start;
    }

    /// Goes to the next or previous item of a kind, from one end of the list on to the other.
    pub(super) fn jump(&mut self, action: Action, comparison: &Comparison) -> Vec<Command> {
        let (is_wanted, what): (fn(&ComparedItem) -> bool, &str) = match action {
            Action::NextChange | Action::PreviousChange => (model::is_changed, "changed item"),
            Action::NextRegression | Action::PreviousRegression => {
                (model::is_regression, "broken item")
            }
            _ if self.query.filter.is_empty() => {
                return vec![Notice::info("nothing is filtered; / filters by a text")];
            }
            _ => (|_| true, "match"),
        };
        let is_forward = matches!(
            action,
            Action::NextChange | Action::NextRegression | Action::NextMatch
        );
        let is_there = |place: &usize| {
            let index = self.shown.get(*place);
            let item = index.and_then(|&index| comparison.items.get(index));
            item.is_some_and(is_wanted)
        };
        let places: Vec<usize> = (0..self.shown.len()).filter(is_there).collect();
        let here = self.place();
        let (next, end) = match is_forward {
            true => (places.iter().find(|place| **place > here), places.first()),
            false => (
                places.iter().rev().find(|place| **place < here),
                places.last(),
            ),
        };
        match (next, end) {
            (Some(&place), _) => {
                self.select(place, comparison);
                Vec::new()
            }
            (None, Some(&place)) => {
                self.select(place, comparison);
                let words = match is_forward {
                    true => format!("no {what} further down: this is the first one"),
                    false => format!("no {what} further up: this is the last one"),
                };
                vec![Notice::info(words)]
            }
            (None, None) => {
                let words = format!("there is no {what} among the {} shown", self.shown.len());
                vec![Notice::info(words)]
            }
        }
    }

    /// Of more than two files: which of them is set against the baseline.
    pub(super) fn choose_other(&mut self, action: Action, comparison: &Comparison) -> Vec<Command> {
        let last = comparison.files.len().saturating_sub(1);
        if last < 2 {
            return Vec::new();
        }
        self.other = match action {
            Action::Right if self.other >= last => 1,
            Action::Right => self.other + 1,
            _ if self.other <= 1 => last,
            _ => self.other - 1,
        };
        self.gather(comparison);
        let words = format!(
            "changes are those of {} against {}",
            letter(self.other),
            letter(0)
        );
        vec![Notice::info(words)]
    }

    /// One step back: to the list, to every text, to every item.
    pub(super) fn back(&mut self, comparison: &Comparison) {
        if self.focus == Focus::Detail {
            self.focus = Focus::List;
            return;
        }
        if self.query.filter.is_empty() {
            self.query.selection = moim_core::score::compare::Selection::default();
        } else {
            self.query.filter = crate::tui::filter::Filter::default();
        }
        self.gather(comparison);
    }
}
