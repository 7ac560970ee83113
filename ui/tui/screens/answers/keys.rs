//! The keys of the Answers screen.

use moim_core::run::CompletionRecord;
use ratatui::layout::Position;

use super::{Answers, Part, draw, export, group};
use crate::tui::data::answers::Place;
use crate::tui::keymap::Action;
use crate::tui::message::{Command, Effect, Notice};
use crate::tui::state::Context;
use crate::tui::widgets::list::window;

impl Answers {
    /// Executes an action of the key table.
    pub(super) fn execute(&mut self, action: Action, context: &Context<'_>) -> Vec<Command> {
        let command = match action {
            Action::Up | Action::Down | Action::PageUp | Action::PageDown => {
                self.scroll(action, context)
            }
            Action::NextChange | Action::NextMatch => self.move_by(1, context),
            Action::PreviousChange | Action::PreviousMatch => self.move_by(-1, context),
            Action::Top => {
                self.stays = true;
                Some(self.ask(Place::First, context))
            }
            Action::Bottom => Some(self.ask(Place::Latest, context)),
            Action::Rescan => Some(self.ask(self.resting_place(), context)),
            Action::ItemFilter => {
                self.stays = !self.stays;
                if !self.stays {
                    return vec![
                        self.ask(Place::Latest, context),
                        Notice::info("the newest step is shown as it comes"),
                    ];
                }
                Some(Notice::info("this step stays; f follows the newest again"))
            }
            Action::History => self.toggle_history(context),
            Action::QuestionType => Some(self.next_type(context)),
            Action::Back => self.back(context),
            Action::Open if !self.focus.is(Part::Prompt) => self.read(context),
            Action::Copy => {
                let record = self.selected();
                record.map(|record| Effect::Copy(record.completion.clone()).into())
            }
            Action::Export => {
                let group = self.group();
                group.map(|group| export::dialog(&self.run, group, &self.sorted()))
            }
            Action::OpenInEditor => {
                let file = self.run.join("completions.jsonl");
                Some(Effect::OpenInEditor(file).into())
            }
            _ => {
                self.change_look(action);
                None
            }
        };
        command.into_iter().collect()
    }

    /// Changes what is shown of the group.
    fn change_look(&mut self, action: Action) {
        match action {
            Action::NextPane => return self.focus.step(1),
            Action::PreviousPane => return self.focus.step(-1),
            Action::ReverseSort => {
                self.is_reversed = !self.is_reversed;
                return;
            }
            Action::Open => {
                self.unfolds_prompt = !self.unfolds_prompt;
                return self.prompt.reset();
            }
            Action::Left => self.cursor = self.cursor.saturating_sub(1),
            Action::Right => self.cursor += 1,
            Action::Sort => {
                let record = self.group().and_then(|group| group.completions.first());
                let rewards = record.map(|record| record.rewards.keys().map(String::as_str));
                self.sort = self
                    .sort
                    .next(&rewards.into_iter().flatten().collect::<Vec<_>>());
            }
            Action::Layout => self.shows_one = !self.shows_one,
            Action::Wrap => self.cuts = !self.cuts,
            _ => return,
        }
        self.texts.reset();
    }

    /// A click selects a group or a completion, and folds or unfolds the prompt.
    pub(super) fn point_at(&mut self, at: Position, context: &Context<'_>) -> Option<Command> {
        let areas = draw::areas(self, context.look(), context.body);
        let part = areas.at(at)?;
        self.focus.set(part);
        match part {
            Part::Prompt => self.unfolds_prompt = !self.unfolds_prompt,
            Part::Completions => {
                let area = areas.inside(part);
                let shown = group::columns(self, &self.sorted(), context.look(), area);
                let column = shown.areas.iter().position(|area| area.contains(at))?;
                self.cursor = shown.first + column;
                self.texts.reset();
            }
            Part::Groups => {
                let list = areas.inside(part);
                let row = usize::from(at.y.checked_sub(list.y)?);
                let index = self.first_row(list.height.into()) + row;
                let place = self.page.as_ref()?.neighbours.get(index)?.place;
                self.stays = true;
                return list
                    .contains(at)
                    .then(|| self.ask(Place::At(place), context));
            }
        }
        None
    }

    /// Index of the group that is drawn first in a list of this height.
    pub(super) fn first_row(&self, height: usize) -> usize {
        let neighbours = self.page.as_ref().map(|page| page.neighbours.as_slice());
        let (neighbours, target) = (neighbours.unwrap_or_default(), self.target());
        let shown = neighbours
            .iter()
            .position(|line| Some(line.place) == target);
        window(shown.unwrap_or(0), neighbours.len(), height).start
    }

    fn scroll(&mut self, action: Action, context: &Context<'_>) -> Option<Command> {
        match self.focus.now() {
            Part::Prompt => self.prompt.act(action),
            Part::Completions => self.texts.act(action),
            Part::Groups => {
                let areas = draw::areas(self, context.look(), context.body);
                let page = isize::try_from(areas.inside(Part::Groups).height)
                    .unwrap_or(1)
                    .max(1);
                let groups = match action {
                    Action::Up => -1,
                    Action::Down => 1,
                    Action::PageUp => -page,
                    _ => page,
                };
                return self.move_by(groups, context);
            }
        };
        None
    }

    /// Moves on by this many groups, or back.
    fn move_by(&mut self, groups: isize, context: &Context<'_>) -> Option<Command> {
        let (page, target) = (self.page.as_ref()?, self.target()?);
        let last = page.neighbours.len().saturating_sub(1);
        let here = page.neighbours.iter().position(|line| line.place == target);
        let there = here.map(|here| here.saturating_add_signed(groups).min(last));
        let line = there
            .filter(|_| there != here)
            .and_then(|there| page.neighbours.get(there));
        let place = match line {
            Some(line) => Place::At(line.place),
            None if groups > 0 && page.has_later => Place::After(target),
            None if groups < 0 && page.has_earlier => Place::Before(target),
            None => return None,
        };
        self.stays = true;
        Some(self.ask(place, context))
    }

    fn toggle_history(&mut self, context: &Context<'_>) -> Option<Command> {
        self.query.id = match self.query.id {
            Some(_) => None,
            None => Some(self.group()?.id.clone()),
        };
        Some(self.ask(self.resting_place(), context))
    }

    fn next_type(&mut self, context: &Context<'_>) -> Command {
        let present = self.query.question_type.as_ref();
        let mut types = self.types.iter();
        self.query.question_type = types.find(|name| Some(*name) > present).cloned();
        // The question of a history has one type, so another would leave nothing.
        self.query.id = None;
        self.ask(self.resting_place(), context)
    }

    /// Removes one restriction, the latest kind first; then goes back to the list.
    fn back(&mut self, context: &Context<'_>) -> Option<Command> {
        let query = &mut self.query;
        let is_restricted = query.id.take().is_some()
            || query.question_type.take().is_some()
            || query.filter.take().is_some();
        if is_restricted {
            return Some(self.ask(self.resting_place(), context));
        }
        self.focus.set(Part::Groups);
        None
    }

    /// The selected completion, its label and its prompt in a window.
    fn read(&self, context: &Context<'_>) -> Option<Command> {
        let record = self.selected()?;
        let mut lines = numbers(record);
        for (title, content) in [
            ("completion", &record.completion),
            ("label", &record.label),
            ("prompt", &record.prompt),
        ] {
            let rule = context.glyphs().horizontal.repeat(2);
            lines.push(String::new());
            lines.push(format!("{rule} {title} {rule}"));
            lines.extend(content.lines().map(str::to_owned));
        }
        let (step, id, sample) = (record.step, &record.id, record.sample);
        let title = format!("step {step}, question {id}, sample {sample}");
        Some(Command::Read { title, lines })
    }
}

/// The numbers of a completion, one line each.
fn numbers(record: &CompletionRecord) -> Vec<String> {
    let number = |value: Option<f64>| value.map_or("none".to_owned(), |value| value.to_string());
    let (reward, advantage) = (number(record.reward), number(record.advantage));
    let mut lines = vec![
        format!("reward {reward}, advantage {advantage}"),
        format!(
            "{} tokens, finish reason {}",
            record.length, record.finish_reason
        ),
    ];
    let each = record.rewards.iter();
    lines.extend(each.map(|(name, value)| format!("{name} {}", number(*value))));
    lines
}
