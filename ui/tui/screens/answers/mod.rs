//! The Answers screen: completions as they are sampled, a group at a time.
//!
//! Groups are read by the page from a file that may be large and grows. The screen keeps the page
//! for its newest query, and shows the old one until the next one has been read.

mod draw;
mod export;
mod group;
mod keys;
mod order;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;

use moim_core::run::CompletionRecord;
use moim_core::score::diff::{DiffUnit, Segment, diff};
use ratatui::Frame;
use ratatui::layout::{Position, Rect};

use super::ScreenState;
use crate::tui::data::answers::{AnswersPage, AnswersQuery, Group, GroupPlace, Place};
use crate::tui::data::run::OpenRun;
use crate::tui::keymap::Action;
use crate::tui::message::{Command, Effect};
use crate::tui::state::Context;
use crate::tui::widgets::focus::{self, Focus};
use crate::tui::widgets::pane::Pane;
use order::SortKey;

/// The state of the Answers screen.
#[derive(Debug, Default)]
pub struct Answers {
    /// The run that the rest is about.
    run: PathBuf,
    /// The newest query.
    query: AnswersQuery,
    /// Whether there was a query about this run.
    has_asked: bool,
    /// The newest step that was known at the time of the query.
    asked_at: Option<usize>,
    /// The newest page for its query.
    page: Option<AnswersPage>,
    /// Question types seen so far.
    types: BTreeSet<String>,
    /// Whether the group stays; else the newest one is shown as soon as it is read.
    stays: bool,
    focus: Focus<Part>,
    sort: SortKey,
    is_reversed: bool,
    /// The selected completion, as an index in that order.
    cursor: usize,
    /// Whether one completion is shown alone, compared with the label.
    shows_one: bool,
    /// Whether long lines are cut; else they are wrapped.
    cuts: bool,
    /// Whether the whole prompt is shown.
    unfolds_prompt: bool,
    /// The texts of the completions, which scroll together.
    texts: Pane,
    prompt: Pane,
    /// The completion that is shown alone, compared with the label.
    compared: Option<Compared>,
}

/// A completion compared with its label, kept because comparing long texts takes milliseconds.
#[derive(Debug)]
struct Compared {
    group: GroupPlace,
    sample: usize,
    /// From the label to the completion.
    segments: Vec<Segment>,
}

/// The parts of the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    /// The list of groups.
    #[default]
    Groups,
    /// Prompt and label.
    Prompt,
    /// The completions of the group.
    Completions,
}

impl focus::Part for Part {
    const RING: &'static [Self] = &[Self::Groups, Self::Prompt, Self::Completions];
}

impl ScreenState for Answers {
    fn act(&mut self, action: Action, context: &Context<'_>) -> Vec<Command> {
        let commands = match context.world.open {
            Some(_) => self.execute(action, context),
            None => Vec::new(),
        };
        self.settle();
        commands
    }

    fn set_filter(&mut self, filter: &str, context: &Context<'_>) -> Vec<Command> {
        self.query.filter = (!filter.is_empty()).then(|| filter.to_owned());
        let is_open = context.world.open.is_some();
        let query = is_open.then(|| self.ask(self.resting_place(), context));
        query.into_iter().collect()
    }

    fn filter(&self) -> &str {
        self.query.filter.as_deref().unwrap_or_default()
    }

    fn click(&mut self, at: Position, context: &Context<'_>) -> Vec<Command> {
        let query = self.point_at(at, context);
        self.settle();
        query.into_iter().collect()
    }

    fn refresh(&mut self, context: &Context<'_>) -> Vec<Command> {
        let Some(open) = &context.world.open else {
            self.begin(PathBuf::new());
            return Vec::new();
        };
        if open.path != self.run {
            self.begin(open.path.clone());
        }
        self.take_page(context);
        self.settle();
        if !self.has_asked {
            return vec![self.ask(Place::Latest, context)];
        }
        // A new query before the page of the last one is read would leave it unread for ever if
        // steps are faster than the search. Newer groups matter to a list that stays only if it
        // shows its end.
        let is_at_the_end = self.page.as_ref().is_none_or(|page| !page.has_later);
        let is_due = !self.is_waiting()
            && newest_step(context) != self.asked_at
            && (!self.stays || is_at_the_end);
        let query = is_due.then(|| self.ask(self.resting_place(), context));
        query.into_iter().collect()
    }

    fn status(&self, context: &Context<'_>) -> String {
        let open = context.world.open.as_ref();
        open.map(OpenRun::id).unwrap_or_default()
    }

    fn draw(&self, context: &Context<'_>, frame: &mut Frame<'_>, area: Rect) {
        draw::draw(self, context, frame.buffer_mut(), area);
    }
}

impl Answers {
    /// Starts with another run; how things are shown stays.
    fn begin(&mut self, run: PathBuf) {
        *self = Self {
            run,
            query: AnswersQuery {
                // Numbers continue, so that a page still being read is known to be old.
                number: self.query.number,
                ..AnswersQuery::default()
            },
            sort: std::mem::take(&mut self.sort),
            is_reversed: self.is_reversed,
            shows_one: self.shows_one,
            cuts: self.cuts,
            unfolds_prompt: self.unfolds_prompt,
            ..Self::default()
        };
    }

    /// Queries the group at a place, within the active restrictions.
    fn ask(&mut self, place: Place, context: &Context<'_>) -> Command {
        self.has_asked = true;
        self.asked_at = newest_step(context);
        self.query.run.clone_from(&self.run);
        self.query.number += 1;
        self.query.place = place;
        Effect::ReadAnswers(self.query.clone()).into()
    }

    /// The group to show if no other is wanted: the newest one, or the present one.
    fn resting_place(&self) -> Place {
        match self.target() {
            Some(place) if self.stays => Place::At(place),
            _ => Place::Latest,
        }
    }

    /// The group that is shown, or that was asked for by its place and is being read.
    fn target(&self) -> Option<GroupPlace> {
        match self.query.place {
            Place::At(place) if self.is_waiting() => Some(place),
            _ => self.group().map(|group| group.place),
        }
    }

    /// Whether the page for the last query has not been read yet.
    fn is_waiting(&self) -> bool {
        let read = self.page.as_ref().map(|page| page.number);
        self.has_asked && read != Some(self.query.number)
    }

    /// Takes the page for the last query, and what a search that continues adds to it; older ones
    /// are ignored.
    fn take_page(&mut self, context: &Context<'_>) {
        let page = context.world.answers.as_ref();
        let page = page.filter(|page| page.run == self.run && page.number == self.query.number);
        let Some(page) = page.filter(|page| self.page.as_ref() != Some(page)) else {
            return;
        };
        let before = self.group().map(|group| group.place);
        self.page = Some(page.clone());
        if self.group().map(|group| group.place) != before {
            self.texts.reset();
            self.prompt.reset();
        }
        let types = page.neighbours.iter().map(|line| &line.question_type);
        self.types.extend(types.cloned());
    }

    fn group(&self) -> Option<&Group> {
        self.page.as_ref()?.group.as_ref()
    }

    /// The completions of the group, sorted.
    fn sorted(&self) -> Vec<&CompletionRecord> {
        let completions = self.group().map(|group| group.completions.as_slice());
        order::sorted(
            completions.unwrap_or_default(),
            &self.sort,
            self.is_reversed,
        )
    }

    fn selected(&self) -> Option<&CompletionRecord> {
        self.sorted().get(self.cursor).copied()
    }

    /// Keeps the cursor within the group, and the comparison that of the selected completion.
    fn settle(&mut self) {
        let last = self.sorted().len().saturating_sub(1);
        self.cursor = self.cursor.min(last);
        let group = self.group().map(|group| group.place);
        let record = self.selected().filter(|_| self.shows_one);
        let (Some(group), Some(record)) = (group, record) else {
            self.compared = None;
            return;
        };
        let sample = record.sample;
        let is_it = |kept: &Compared| kept.group == group && kept.sample == sample;
        if !self.compared.as_ref().is_some_and(is_it) {
            let segments = diff(&record.label, &record.completion, DiffUnit::Grapheme);
            self.compared = Some(Compared {
                group,
                sample,
                segments,
            });
        }
    }
}

/// The newest step of the open run that was read.
fn newest_step(context: &Context<'_>) -> Option<usize> {
    let (step, _) = context.world.open.as_ref()?.history.get("reward")?.last()?;
    Some(step as usize)
}
