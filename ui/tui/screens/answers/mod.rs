//! The Answers screen: completions as they are sampled, a group at a time.
//!
//! Groups are read by the page from a file that may be large and grows. The screen keeps the page
//! that answers its newest question, and goes on showing it until the next one is there.

mod draw;
mod export;
mod group;
mod keys;
mod layout;
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
use layout::Pane;
use order::SortKey;

/// The state of the Answers screen.
#[derive(Debug)]
pub struct Answers {
    /// The run that the rest is about.
    run: PathBuf,
    /// The question asked last.
    query: AnswersQuery,
    /// Whether anything was asked about this run.
    has_asked: bool,
    /// The newest step that was known when it was asked.
    asked_at: Option<usize>,
    /// The newest page that answered its question.
    page: Option<AnswersPage>,
    /// Question types seen so far.
    types: BTreeSet<String>,
    /// Whether the newest group is shown as soon as it is there.
    follows: bool,
    pane: Pane,
    sort: SortKey,
    is_reversed: bool,
    /// The selected completion, by its place in that order.
    cursor: usize,
    /// Whether one completion is shown alone, compared with the label.
    shows_one: bool,
    wraps: bool,
    /// Whether the prompt is shown whole.
    unfolds_prompt: bool,
    /// Lines of the completions that are scrolled away.
    scroll: usize,
    /// Lines of the prompt that are scrolled away.
    prompt_scroll: usize,
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

impl Default for Answers {
    fn default() -> Self {
        Self {
            run: PathBuf::new(),
            query: AnswersQuery::default(),
            has_asked: false,
            asked_at: None,
            page: None,
            types: BTreeSet::new(),
            follows: true,
            pane: Pane::Groups,
            sort: SortKey::default(),
            is_reversed: false,
            cursor: 0,
            shows_one: false,
            wraps: true,
            unfolds_prompt: false,
            scroll: 0,
            prompt_scroll: 0,
            compared: None,
        }
    }
}

impl ScreenState for Answers {
    fn act(&mut self, action: Action, context: &Context<'_>) -> Vec<Command> {
        let commands = self.carry_out(action, context);
        self.settle(context);
        commands
    }

    fn set_filter(&mut self, filter: &str, context: &Context<'_>) -> Vec<Command> {
        self.query.filter = (!filter.is_empty()).then(|| filter.to_owned());
        match context.world.open {
            Some(_) => vec![self.ask(self.resting_place(), context)],
            None => Vec::new(),
        }
    }

    fn filter(&self) -> &str {
        self.query.filter.as_deref().unwrap_or_default()
    }

    fn click(&mut self, at: Position, context: &Context<'_>) -> Vec<Command> {
        let commands = self.point_at(at, context);
        self.settle(context);
        commands
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
        self.settle(context);
        if !self.has_asked {
            return vec![self.ask(Place::Latest, context)];
        }
        if self.is_waiting() {
            // Asking again before the answer is there would leave it unread for ever where steps
            // are faster than the search.
            return Vec::new();
        }
        // Who stays somewhere needs to know of newer groups only where the list ends.
        let is_at_the_end = self.page.as_ref().is_none_or(|page| !page.has_later);
        match newest_step(context) != self.asked_at && (self.follows || is_at_the_end) {
            true => vec![self.ask(self.resting_place(), context)],
            false => Vec::new(),
        }
    }

    fn status(&self, context: &Context<'_>) -> String {
        let open = context.world.open.as_ref();
        open.map(OpenRun::id).unwrap_or_default()
    }

    fn draw(&self, context: &Context<'_>, frame: &mut Frame<'_>, area: Rect) {
        draw::draw(self, context, frame, area);
    }
}

impl Answers {
    /// Begins with another run; how things are shown stays.
    fn begin(&mut self, run: PathBuf) {
        *self = Self {
            run,
            query: AnswersQuery {
                // Numbers go on, so that a page still under way is known to be old.
                number: self.query.number,
                ..AnswersQuery::default()
            },
            sort: std::mem::take(&mut self.sort),
            is_reversed: self.is_reversed,
            shows_one: self.shows_one,
            wraps: self.wraps,
            unfolds_prompt: self.unfolds_prompt,
            ..Self::default()
        };
    }

    /// Asks for the group at a place, within the restrictions in force.
    fn ask(&mut self, place: Place, context: &Context<'_>) -> Command {
        self.has_asked = true;
        self.asked_at = newest_step(context);
        self.query.run.clone_from(&self.run);
        self.query.number += 1;
        self.query.place = place;
        Effect::ReadAnswers(self.query.clone()).into()
    }

    /// Where to be when nothing else is wanted: at the newest group, or where one is.
    fn resting_place(&self) -> Place {
        match self.target() {
            Some(place) if !self.follows => Place::At(place),
            _ => Place::Latest,
        }
    }

    /// The group that is shown, or that was asked for by its place and is on its way.
    fn target(&self) -> Option<GroupPlace> {
        match self.query.place {
            Place::At(place) if self.is_waiting() => Some(place),
            _ => self.group().map(|group| group.place),
        }
    }

    /// Whether the last question has not been answered yet.
    fn is_waiting(&self) -> bool {
        let answered = self.page.as_ref().map(|page| page.number);
        self.has_asked && answered != Some(self.query.number)
    }

    /// Takes the page that answers the last question, and what a search that goes on adds to it;
    /// older ones are of no interest.
    fn take_page(&mut self, context: &Context<'_>) {
        let Some(page) = &context.world.answers else {
            return;
        };
        let is_known = self.page.as_ref().is_some_and(|kept| is_same(kept, page));
        if page.run != self.run || page.number != self.query.number || is_known {
            return;
        }
        let before = self.group().map(|group| group.place);
        self.page = Some(page.clone());
        if self.group().map(|group| group.place) != before {
            self.scroll = 0;
            self.prompt_scroll = 0;
        }
        let types = page.neighbours.iter().map(|line| &line.question_type);
        self.types.extend(types.cloned());
    }

    fn group(&self) -> Option<&Group> {
        self.page.as_ref()?.group.as_ref()
    }

    /// The completions of the group in the order in force.
    fn sorted(&self) -> Vec<&CompletionRecord> {
        let completions = self.group().map(|group| group.completions.as_slice());
        let completions = completions.unwrap_or_default();
        order::sorted(completions, &self.sort, self.is_reversed)
            .into_iter()
            .filter_map(|index| completions.get(index))
            .collect()
    }

    fn selected(&self) -> Option<&CompletionRecord> {
        self.sorted().get(self.cursor).copied()
    }

    /// Keeps cursor and scrolling within what there is, and the comparison that of the selected
    /// completion.
    fn settle(&mut self, context: &Context<'_>) {
        let last = self.sorted().len().saturating_sub(1);
        self.cursor = self.cursor.min(last);
        self.compare();
        let areas = layout::areas(self, context.look(), context.body);
        let shown = group::shown(self, context.look(), layout::inner(areas.completions));
        self.scroll = self.scroll.min(shown.overhang());
        let overhang = areas.prompt_overhang();
        self.prompt_scroll = self.prompt_scroll.min(overhang);
    }

    fn compare(&mut self) {
        let place = self.group().map(|group| group.place);
        let record = self.selected().filter(|_| self.shows_one);
        let (Some(group), Some(record)) = (place, record) else {
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

fn is_same(kept: &AnswersPage, page: &AnswersPage) -> bool {
    let numbers = |page: &AnswersPage| (page.number, page.has_earlier, page.has_later);
    numbers(kept) == numbers(page)
        && kept.note == page.note
        && kept.neighbours == page.neighbours
        && kept.group == page.group
}

/// The newest step of the open run that was read.
fn newest_step(context: &Context<'_>) -> Option<usize> {
    let (step, _) = context.world.open.as_ref()?.history.get("reward")?.last()?;
    Some(step as usize)
}
