//! What the keys of the Answers screen do.

use moim_core::run::CompletionRecord;
use ratatui::layout::Position;

use super::layout::{self, Pane};
use super::{Answers, export, group};
use crate::tui::data::answers::{GroupPlace, Place};
use crate::tui::keymap::Action;
use crate::tui::message::{Command, Effect, Notice};
use crate::tui::state::Context;

impl Answers {
    pub(super) fn carry_out(&mut self, action: Action, context: &Context<'_>) -> Vec<Command> {
        if context.world.open.is_none() {
            return Vec::new();
        }
        match action {
            Action::Up => return self.scroll_by(-1, context),
            Action::Down => return self.scroll_by(1, context),
            Action::PageUp => return self.scroll_by(-self.page_lines(context), context),
            Action::PageDown => return self.scroll_by(self.page_lines(context), context),
            Action::NextChange | Action::NextMatch => return self.move_by(1, context),
            Action::PreviousChange | Action::PreviousMatch => return self.move_by(-1, context),
            Action::Top => {
                self.follows = false;
                return vec![self.ask(Place::First, context)];
            }
            Action::Bottom => return vec![self.ask(Place::Latest, context)],
            Action::Rescan => return vec![self.ask(self.resting_place(), context)],
            Action::ItemFilter => return self.follow_or_stay(context),
            Action::History => return self.toggle_history(context),
            Action::QuestionType => return self.next_type(context),
            Action::Back => return self.back(context),
            Action::Left => self.select(self.cursor.saturating_sub(1)),
            Action::Right => self.select(self.cursor + 1),
            Action::NextPane => self.pane = self.pane.moved(1),
            Action::PreviousPane => self.pane = self.pane.moved(Pane::ALL.len() - 1),
            Action::Sort => self.next_sort(),
            Action::ReverseSort => self.is_reversed = !self.is_reversed,
            Action::Layout => {
                self.shows_one = !self.shows_one;
                self.scroll = 0;
            }
            Action::Wrap => {
                self.wraps = !self.wraps;
                self.scroll = 0;
            }
            Action::Open if self.pane == Pane::Prompt => {
                self.unfolds_prompt = !self.unfolds_prompt;
                self.prompt_scroll = 0;
            }
            Action::Open => return self.read(context).into_iter().collect(),
            Action::Copy => return self.copy().into_iter().collect(),
            Action::Export => return self.export().into_iter().collect(),
            Action::OpenInEditor => {
                let file = self.run.join("completions.jsonl");
                return vec![Effect::OpenInEditor(file).into()];
            }
            _ => {}
        }
        Vec::new()
    }

    /// A click selects a group or a completion, and folds or unfolds the prompt.
    pub(super) fn point_at(&mut self, at: Position, context: &Context<'_>) -> Vec<Command> {
        let areas = layout::areas(self, context.look(), context.body);
        let Some(pane) = Pane::ALL
            .into_iter()
            .find(|pane| areas.pane(*pane).contains(at))
        else {
            return Vec::new();
        };
        self.pane = pane;
        match pane {
            Pane::Prompt => self.unfolds_prompt = !self.unfolds_prompt,
            Pane::Completions => {
                let shown = group::shown(self, context.look(), layout::inner(areas.completions));
                let column = shown
                    .columns
                    .iter()
                    .position(|column| column.area.contains(at));
                if let Some(column) = column {
                    self.select(shown.first + column);
                }
            }
            Pane::Groups => {
                let list = layout::inner(areas.groups);
                let row = usize::from(at.y.saturating_sub(list.y));
                let place = list
                    .contains(at)
                    .then(|| self.first_row(list.height.into()) + row)
                    .and_then(|index| self.page.as_ref()?.neighbours.get(index))
                    .map(|line| line.place);
                return place
                    .map(|place| self.go_to(place, context))
                    .into_iter()
                    .collect();
            }
        }
        Vec::new()
    }

    /// The first group of the list that is drawn in so many rows: the shown one is kept in their
    /// middle.
    pub(super) fn first_row(&self, rows: usize) -> usize {
        let Some(page) = &self.page else {
            return 0;
        };
        let target = self.target();
        let shown = page
            .neighbours
            .iter()
            .position(|line| Some(line.place) == target);
        let last_first = page.neighbours.len().saturating_sub(rows);
        shown.unwrap_or(0).saturating_sub(rows / 2).min(last_first)
    }

    fn select(&mut self, place: usize) {
        self.cursor = place;
        self.scroll = 0;
    }

    fn scroll_by(&mut self, lines: isize, context: &Context<'_>) -> Vec<Command> {
        match self.pane {
            Pane::Groups => return self.move_by(lines, context),
            Pane::Prompt => self.prompt_scroll = self.prompt_scroll.saturating_add_signed(lines),
            Pane::Completions => self.scroll = self.scroll.saturating_add_signed(lines),
        }
        Vec::new()
    }

    /// Lines of the pane with the keyboard.
    fn page_lines(&self, context: &Context<'_>) -> isize {
        let areas = layout::areas(self, context.look(), context.body);
        let area = layout::inner(areas.pane(self.pane));
        let lines = match self.pane {
            Pane::Completions => group::shown(self, context.look(), area).text_height(),
            Pane::Groups | Pane::Prompt => area.height.into(),
        };
        isize::try_from(lines).unwrap_or(1).max(1)
    }

    /// Goes so many groups further, or back.
    fn move_by(&mut self, groups: isize, context: &Context<'_>) -> Vec<Command> {
        let (Some(page), Some(target)) = (&self.page, self.target()) else {
            return Vec::new();
        };
        let last = page.neighbours.len().saturating_sub(1);
        let here = page.neighbours.iter().position(|line| line.place == target);
        let there = here.map(|here| here.saturating_add_signed(groups).min(last));
        let is_at_the_edge = there == here;
        let place = match there.and_then(|there| page.neighbours.get(there)) {
            Some(line) if !is_at_the_edge => Place::At(line.place),
            _ if groups > 0 && page.has_later => Place::After(target),
            _ if groups < 0 && page.has_earlier => Place::Before(target),
            _ => return Vec::new(),
        };
        self.follows = false;
        vec![self.ask(place, context)]
    }

    fn go_to(&mut self, place: GroupPlace, context: &Context<'_>) -> Command {
        self.follows = false;
        self.ask(Place::At(place), context)
    }

    fn follow_or_stay(&mut self, context: &Context<'_>) -> Vec<Command> {
        self.follows = !self.follows;
        match self.follows {
            true => vec![
                self.ask(Place::Latest, context),
                Notice::info("the newest step is shown as it comes"),
            ],
            false => vec![Notice::info("this step stays; f follows the newest again")],
        }
    }

    fn toggle_history(&mut self, context: &Context<'_>) -> Vec<Command> {
        let shown = self.group().map(|group| group.id.clone());
        self.query.id = match self.query.id {
            Some(_) => None,
            None if shown.is_some() => shown,
            None => return Vec::new(),
        };
        vec![self.ask(self.resting_place(), context)]
    }

    fn next_type(&mut self, context: &Context<'_>) -> Vec<Command> {
        let mut following = self
            .types
            .iter()
            .skip_while(|name| match &self.query.question_type {
                Some(present) => *name <= present,
                None => false,
            });
        self.query.question_type = following.next().cloned();
        // The question of a history has one type, so another would leave nothing.
        self.query.id = None;
        vec![self.ask(self.resting_place(), context)]
    }

    /// Takes back one restriction, the latest kind first; then goes back to the list.
    fn back(&mut self, context: &Context<'_>) -> Vec<Command> {
        let query = &mut self.query;
        let is_restricted = query.id.take().is_some()
            || query.question_type.take().is_some()
            || query.filter.take().is_some();
        if is_restricted {
            return vec![self.ask(self.resting_place(), context)];
        }
        self.pane = Pane::Groups;
        Vec::new()
    }

    fn next_sort(&mut self) {
        let rewards: Vec<&str> = self
            .group()
            .and_then(|group| group.completions.first())
            .map(|record| record.rewards.keys().map(String::as_str).collect())
            .unwrap_or_default();
        self.sort = self.sort.next(&rewards);
        self.scroll = 0;
    }

    fn copy(&self) -> Option<Command> {
        let record = self.selected()?;
        Some(Effect::Copy(record.completion.clone()).into())
    }

    fn export(&self) -> Option<Command> {
        Some(export::dialog(&self.run, self.group()?, &self.sorted()))
    }

    /// The selected completion, its label and its prompt in a window.
    fn read(&self, context: &Context<'_>) -> Option<Command> {
        let record = self.selected()?;
        let parts = [
            ("completion", &record.completion),
            ("label", &record.label),
            ("prompt", &record.prompt),
        ];
        let mut lines = numbers(record);
        for (title, content) in parts {
            let rule = context.glyphs().horizontal.repeat(2);
            lines.push(String::new());
            lines.push(format!("{rule} {title} {rule}"));
            lines.extend(content.lines().map(str::to_owned));
        }
        Some(Command::Read {
            title: format!(
                "step {}, question {}, sample {}",
                record.step, record.id, record.sample
            ),
            lines,
        })
    }
}

/// What was made of a completion, a line each.
fn numbers(record: &CompletionRecord) -> Vec<String> {
    let number = |value: Option<f64>| value.map_or("none".to_owned(), |value| value.to_string());
    let mut lines = vec![
        format!(
            "reward {}, advantage {}",
            number(record.reward),
            number(record.advantage)
        ),
        format!(
            "{} tokens, finish reason {}",
            record.length, record.finish_reason
        ),
    ];
    let each = record.rewards.iter();
    lines.extend(each.map(|(name, value)| format!("{name} {}", number(*value))));
    lines
}
