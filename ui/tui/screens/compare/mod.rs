//! The Compare screen: answer files item by item.

mod detail;
mod draw;
mod export;
mod header;
mod list;
mod model;
mod moves;
mod news;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use moim_core::score::Comparison;
use moim_core::score::compare::{ComparedItem, ItemFilter};
use ratatui::Frame;
use ratatui::layout::{Position, Rect};

use self::detail::DiffMode;
use self::draw::Areas;
use self::model::{Query, type_name};
use self::news::revision;
use super::ScreenState;
use super::words::without_ending;
use crate::tui::data::World;
use crate::tui::data::comparison::ComparisonData;
use crate::tui::filter::Filter;
use crate::tui::keymap::Action;
use crate::tui::message::{Command, Effect, Notice};
use crate::tui::state::Context;

/// The state of the Compare screen.
#[derive(Debug, Default)]
pub struct Compare {
    /// What is shown: the comparison that was read last.
    data: Option<Arc<ComparisonData>>,
    /// Good versions of its files that had been read when it came.
    revisions: Vec<u32>,
    query: Query,
    /// Places of the items that pass the query, in order.
    shown: Vec<usize>,
    /// The item under the cursor, by its id.
    cursor: Option<String>,
    /// The file that is set against the baseline.
    other: usize,
    diff: DiffMode,
    /// Long lines are cut.
    cuts: bool,
    focus: Focus,
    /// The first line of the detail.
    detail_scroll: usize,
}

/// The part of the screen that has the keyboard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Focus {
    #[default]
    List,
    Detail,
}

impl ScreenState for Compare {
    fn act(&mut self, action: Action, context: &Context<'_>) -> Vec<Command> {
        if action == Action::Rescan {
            return self.compare_anew(context);
        }
        // Taken along, so that the state can change while the comparison is looked at.
        let Some(data) = self.data.clone() else {
            return Vec::new();
        };
        let comparison = &data.comparison;
        match action {
            Action::Up
            | Action::Down
            | Action::PageUp
            | Action::PageDown
            | Action::Top
            | Action::Bottom => self.go(action, comparison, context),
            Action::NextChange
            | Action::PreviousChange
            | Action::NextRegression
            | Action::PreviousRegression
            | Action::NextMatch
            | Action::PreviousMatch => {
                return self.jump(action, comparison);
            }
            Action::Left | Action::Right => return self.choose_other(action, comparison),
            Action::NextPane | Action::PreviousPane | Action::Open => {
                self.focus = match self.focus {
                    Focus::List => Focus::Detail,
                    Focus::Detail => Focus::List,
                };
            }
            Action::Back => self.back(comparison),
            Action::ItemFilter => {
                let all = ItemFilter::ALL;
                let present = self.query.selection.filter;
                let place = all
                    .iter()
                    .position(|filter| *filter == present)
                    .unwrap_or(0);
                let next = all.get((place + 1) % all.len());
                self.query.selection.filter = next.copied().unwrap_or_default();
                self.gather(comparison);
            }
            Action::QuestionType => {
                self.next_type(comparison);
                self.gather(comparison);
            }
            Action::Metric => {
                self.query.order = self.query.order.next();
                self.gather(comparison);
                self.select(0, comparison);
            }
            Action::ReverseSort => {
                self.query.is_reversed = !self.query.is_reversed;
                self.gather(comparison);
                self.select(0, comparison);
            }
            Action::DiffMode => {
                self.diff = self.diff.next();
                self.detail_scroll = 0;
                return vec![Notice::info(format!(
                    "differences: {}",
                    self.diff.in_words()
                ))];
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

    fn click(&mut self, at: Position, context: &Context<'_>) -> Vec<Command> {
        let Some(data) = self.data.clone() else {
            return Vec::new();
        };
        let areas = self.areas(&data.comparison, context, context.body);
        if areas.detail.contains(at) {
            self.focus = Focus::Detail;
        } else if areas.list.contains(at) {
            let inside = Areas::inside(areas.list);
            let place = draw::table(self, &data.comparison, context, |table| {
                table.row_at(inside, at)
            });
            self.focus = Focus::List;
            if let Some(place) = place {
                self.select(place, &data.comparison);
            }
        }
        Vec::new()
    }

    fn refresh(&mut self, context: &Context<'_>) -> Vec<Command> {
        self.take_in(context.world);
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
    /// Takes over what the world has now.
    fn take_in(&mut self, world: &World) {
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
            // The question came to nothing; what was shown before stays.
            Some(Err(_)) => {}
            _ => self.data = None,
        }
    }

    /// Where nothing was asked for, the best file is compared with epoch 0.
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

    /// Has the same files read and compared again; after a failure the best against epoch 0.
    fn compare_anew(&mut self, context: &Context<'_>) -> Vec<Command> {
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

    /// Lists the items that pass the query anew. The cursor stays on its item where that is
    /// still listed.
    fn gather(&mut self, comparison: &Comparison) {
        self.shown = self.query.items(comparison, self.other);
        self.detail_scroll = 0;
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
                let place = types.iter().position(|kind| *kind == present);
                place.and_then(|place| types.get(place + 1))
            }
        };
        self.query.selection.question_type = next.map(|kind| (*kind).to_owned());
    }

    /// Place of the cursor in the list.
    fn place(&self) -> usize {
        let comparison = self.data.as_ref().map(|data| &data.comparison);
        let id_at = |index: &usize| Some(comparison?.items.get(*index)?.id.as_str());
        let is_it =
            |index: &usize| id_at(index).is_some_and(|id| self.cursor.as_deref() == Some(id));
        self.shown.iter().position(is_it).unwrap_or(0)
    }

    /// The item under the cursor.
    fn selected(&self) -> Option<&ComparedItem> {
        let comparison = &self.data.as_ref()?.comparison;
        comparison.items.get(*self.shown.get(self.place())?)
    }

    fn select(&mut self, place: usize, comparison: &Comparison) {
        let item = self
            .shown
            .get(place)
            .and_then(|&index| comparison.items.get(index));
        if let Some(item) = item {
            if self.cursor.as_deref() != Some(item.id.as_str()) {
                self.detail_scroll = 0;
            }
            self.cursor = Some(item.id.clone());
        }
    }

    fn areas(&self, comparison: &Comparison, context: &Context<'_>, area: Rect) -> Areas {
        let header = |cells| draw::header_lines(self, comparison, context, cells).len();
        Areas::of(area, self.focus, header)
    }
}
