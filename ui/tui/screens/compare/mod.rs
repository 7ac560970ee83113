//! The Compare screen: answer files item by item.

mod detail;
mod draw;
mod export;
mod header;
mod list;
mod model;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
mod warnings;

use std::path::PathBuf;
use std::sync::Arc;

use moim_core::score::Comparison;
use moim_core::score::compare::{ComparedItem, ItemFilter, Selection};
use ratatui::Frame;
use ratatui::layout::{Position, Rect};

use self::detail::DiffMode;
use self::model::{Query, letter, type_name};
use self::warnings::revision;
use super::ScreenState;
use super::words::without_ending;
use crate::tui::data::World;
use crate::tui::data::comparison::ComparisonData;
use crate::tui::filter::Filter;
use crate::tui::keymap::Action;
use crate::tui::message::{Command, Effect, Notice};
use crate::tui::state::Context;
use crate::tui::widgets::focus::{self, Focus, after};
use crate::tui::widgets::list::Search;
use crate::tui::widgets::pane::Pane;
use crate::tui::widgets::table::Table;

/// The state of the Compare screen.
#[derive(Debug, Default)]
pub struct Compare {
    /// What is shown: the comparison that was read last.
    data: Option<Arc<ComparisonData>>,
    /// Good versions of its files that had been read when it came.
    revisions: Vec<u32>,
    query: Query,
    /// Indices of the items that pass the query, in order.
    shown: Vec<usize>,
    /// The list of those items, by their ids.
    table: Table<String>,
    /// The file that is compared with the baseline.
    other: usize,
    diff: DiffMode,
    /// Long lines are cut.
    cuts: bool,
    focus: Focus<Part>,
    /// The item under the cursor.
    reading: Pane,
}

/// The parts of the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    List,
    Detail,
    Header,
    Metrics,
}

impl focus::Part for Part {
    const RING: &'static [Self] = &[Self::List, Self::Detail];
}

impl ScreenState for Compare {
    fn act(&mut self, action: Action, context: &Context<'_>) -> Vec<Command> {
        if action == Action::Rescan {
            return self.compare_again(context);
        }
        // Cloned so that the state can change while the comparison is read.
        let Some(data) = self.data.clone() else {
            return Vec::new();
        };
        let comparison = &data.comparison;
        if self.focus.is(Part::Detail) {
            if self.reading.act(action) {
                return Vec::new();
            }
        } else if self.table.list.act(action, &self.items(comparison)) {
            self.reading.reset();
            return Vec::new();
        }
        match action {
            Action::NextChange => return self.jump(true, model::is_changed, "changed item"),
            Action::PreviousChange => return self.jump(false, model::is_changed, "changed item"),
            Action::NextRegression => return self.jump(true, model::is_regression, "broken item"),
            Action::PreviousRegression => {
                return self.jump(false, model::is_regression, "broken item");
            }
            Action::NextMatch | Action::PreviousMatch if self.query.filter.is_empty() => {
                return vec![Notice::info("nothing is filtered; / filters by a text")];
            }
            Action::NextMatch => return self.jump(true, |_| true, "match"),
            Action::PreviousMatch => return self.jump(false, |_| true, "match"),
            Action::Left => return self.choose_other(-1, comparison),
            Action::Right => return self.choose_other(1, comparison),
            Action::NextPane | Action::PreviousPane | Action::Open => self.focus.step(1),
            Action::Back => self.back(comparison),
            Action::ItemFilter => {
                let selection = &mut self.query.selection;
                selection.filter = after(&ItemFilter::ALL, selection.filter, 1);
                self.gather(comparison);
            }
            Action::QuestionType => {
                self.next_type(comparison);
                self.gather(comparison);
            }
            Action::Metric => {
                self.query.next_metric();
                self.sort_again(comparison);
            }
            Action::ReverseSort => {
                self.query.is_reversed = !self.query.is_reversed;
                self.sort_again(comparison);
            }
            Action::DiffMode => {
                self.diff = self.diff.next();
                self.reading.reset();
                return vec![Notice::info(format!("differences: {}", self.diff.name()))];
            }
            Action::Wrap => self.cuts = !self.cuts,
            Action::Baseline => return self.next_baseline(&data),
            Action::Copy => {
                let item = self.selected();
                let text = item.map(|item| detail::markdown(item, comparison, self.other));
                return text
                    .map(|text| Effect::Copy(text).into())
                    .into_iter()
                    .collect();
            }
            Action::Export => {
                return vec![export::forms(
                    comparison,
                    &self.shown,
                    &self.query,
                    &data.run,
                )];
            }
            Action::OpenInEditor => {
                let file = data.files.get(self.other);
                let directory = &context.world.ranking.directory;
                let effect = file.map(|file| Effect::OpenInEditor(directory.join(file)));
                return effect.map(Command::from).into_iter().collect();
            }
            _ => {}
        }
        Vec::new()
    }

    fn set_filter(&mut self, filter: &str, _context: &Context<'_>) -> Vec<Command> {
        self.query.filter = Filter::new(filter);
        if let Some(data) = self.data.clone() {
            self.gather(&data.comparison);
        }
        Vec::new()
    }

    fn filter(&self) -> &str {
        self.query.filter.text()
    }

    fn click(&mut self, at: Position, _context: &Context<'_>) -> Vec<Command> {
        let Some(data) = self.data.clone() else {
            return Vec::new();
        };
        if self.focus.click(at) == Some(Part::List)
            && self.table.list.click(at, &self.items(&data.comparison))
        {
            self.reading.reset();
        }
        Vec::new()
    }

    fn refresh(&mut self, context: &Context<'_>) -> Vec<Command> {
        self.apply(context.world);
        self.ask_by_itself(context.world)
    }

    fn status(&self, context: &Context<'_>) -> String {
        match (&self.data, &context.world.open) {
            (_, None) => "no run is open".to_owned(),
            (None, Some(open)) => open.id(),
            (Some(data), Some(open)) => {
                let names: Vec<&str> = data.files.iter().map(|file| without_ending(file)).collect();
                format!("{}: {}", open.id(), names.join(", "))
            }
        }
    }

    fn draw(&self, context: &Context<'_>, frame: &mut Frame<'_>, area: Rect) {
        draw::draw(self, context, frame, area);
    }
}

fn ask(run: PathBuf, files: Vec<String>) -> Vec<Command> {
    vec![Effect::Compare { run, files }.into()]
}

impl Compare {
    /// Shows the comparison that the world has now.
    fn apply(&mut self, world: &World) {
        let run = world.open.as_ref().map(|open| &open.path);
        if self
            .data
            .as_ref()
            .is_some_and(|data| Some(&data.run) != run)
        {
            self.data = None;
        }
        match &world.comparison {
            Some(Ok(data)) if Some(&data.run) == run => {
                if self
                    .data
                    .as_ref()
                    .is_some_and(|known| Arc::ptr_eq(known, data))
                {
                    return;
                }
                self.revisions = data
                    .files
                    .iter()
                    .map(|file| revision(world, file))
                    .collect();
                let last = data.comparison.files.len().saturating_sub(1);
                let is_same_set = self
                    .data
                    .as_ref()
                    .is_some_and(|known| known.files == data.files);
                if !is_same_set || self.other > last || self.other == 0 {
                    self.other = last;
                }
                self.data = Some(Arc::clone(data));
                self.gather(&data.comparison);
            }
            // The comparison failed; what was shown before stays.
            Some(Err(_)) => {}
            _ => self.data = None,
        }
    }

    /// If nothing was asked for, the best file is compared with epoch 0.
    fn ask_by_itself(&mut self, world: &World) -> Vec<Command> {
        let is_idle = world.comparison.is_none() && world.comparing.is_none();
        let (Some(open), Some(board), true) = (&world.open, &world.ranking.board, is_idle) else {
            return Vec::new();
        };
        let Some(choice) = super::ranking::best_and_first(board) else {
            return Vec::new();
        };
        ask(open.path.clone(), choice.files)
    }

    /// Compares the same files again; after a failure the best against epoch 0.
    fn compare_again(&mut self, context: &Context<'_>) -> Vec<Command> {
        if let Some(data) = &self.data {
            let (run, files) = (data.run.clone(), data.files.clone());
            return ask(run, files);
        }
        let (Some(open), Some(board)) = (&context.world.open, &context.world.ranking.board) else {
            return Vec::new();
        };
        match super::ranking::best_and_first(board) {
            Some(choice) => ask(open.path.clone(), choice.files),
            None => Vec::new(),
        }
    }

    /// The next file in the order of epochs becomes the one that the others are compared with.
    fn next_baseline(&mut self, data: &ComparisonData) -> Vec<Command> {
        let by_time = model::by_time(&data.comparison);
        let Some(place) = by_time.iter().position(|file| *file == 0) else {
            return Vec::new();
        };
        let baseline = by_time
            .get((place + 1) % by_time.len())
            .copied()
            .unwrap_or(0);
        let others = by_time.into_iter().filter(|file| *file != baseline);
        let order = std::iter::once(baseline).chain(others);
        let files: Vec<String> = order
            .filter_map(|file| data.files.get(file).cloned())
            .collect();
        let name = files.first().cloned().unwrap_or_default();
        let mut commands = ask(data.run.clone(), files);
        commands.push(Notice::info(format!(
            "comparing with {name} as the baseline"
        )));
        commands
    }

    /// Lists the items that pass the query. The cursor stays on its item if that is still listed.
    fn gather(&mut self, comparison: &Comparison) {
        self.shown = self.query.items(comparison, self.other);
        self.table.list.follow(&self.items(comparison));
        self.reading.reset();
    }

    /// Lists the items in another order, from its first one.
    fn sort_again(&mut self, comparison: &Comparison) {
        self.gather(comparison);
        self.table.list.select(0, &self.items(comparison));
    }

    fn next_type(&mut self, comparison: &Comparison) {
        let types: Vec<&str> = comparison
            .question_types()
            .into_iter()
            .map(type_name)
            .collect();
        let present = self.query.selection.question_type.as_deref();
        let next = match present {
            None => types.first(),
            Some(present) => {
                let index = types.iter().position(|kind| *kind == present);
                index.and_then(|index| types.get(index + 1))
            }
        };
        self.query.selection.question_type = next.map(|kind| (*kind).to_owned());
    }

    /// The items that are listed.
    fn items<'a>(&self, comparison: &'a Comparison) -> Vec<&'a ComparedItem> {
        let shown = self.shown.iter();
        shown
            .filter_map(|&index| comparison.items.get(index))
            .collect()
    }

    /// The item under the cursor.
    fn selected(&self) -> Option<&ComparedItem> {
        let items = self.items(&self.data.as_ref()?.comparison);
        self.table.list.selected(&items).copied()
    }

    /// Goes to the next or previous item of a kind, from one end of the list on to the other.
    fn jump(
        &mut self,
        is_forward: bool,
        is_wanted: fn(&ComparedItem) -> bool,
        what: &str,
    ) -> Vec<Command> {
        let Some(data) = self.data.clone() else {
            return Vec::new();
        };
        let items = self.items(&data.comparison);
        let found = self
            .table
            .list
            .search(is_forward, &items, |item| is_wanted(item));
        let words = match found {
            Search::Nothing => format!("there is no {what} among the {} shown", items.len()),
            found => {
                self.reading.reset();
                match (found, is_forward) {
                    (Search::Wrapped, true) => {
                        format!("no {what} further down: this is the first one")
                    }
                    (Search::Wrapped, false) => {
                        format!("no {what} further up: this is the last one")
                    }
                    _ => return Vec::new(),
                }
            }
        };
        vec![Notice::info(words)]
    }

    /// Of more than two files: which of them is compared with the baseline.
    fn choose_other(&mut self, by: isize, comparison: &Comparison) -> Vec<Command> {
        let others: Vec<usize> = (1..comparison.files.len()).collect();
        if others.len() < 2 {
            return Vec::new();
        }
        self.other = after(&others, self.other, by);
        self.gather(comparison);
        let (other, baseline) = (letter(self.other), letter(0));
        vec![Notice::info(format!(
            "changes are those of {other} against {baseline}"
        ))]
    }

    /// One step back: to the list, to every text, to every item.
    fn back(&mut self, comparison: &Comparison) {
        if self.focus.is(Part::Detail) {
            self.focus.set(Part::List);
            return;
        }
        if self.query.filter.is_empty() {
            self.query.selection = Selection::default();
        } else {
            self.query.filter = Filter::default();
        }
        self.gather(comparison);
    }
}
