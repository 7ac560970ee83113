//! The keys of the Train screen.

use moim_core::run::Request;
use ratatui::layout::Position;

use super::{Part, Train, charts, export, layout, panes};
use crate::tui::data::run::OpenRun;
use crate::tui::filter::Filter;
use crate::tui::keymap::Action;
use crate::tui::message::{Choice, Command, Dialog, Effect, Notice};
use crate::tui::screens::control::Run;
use crate::tui::state::Context;
use crate::tui::widgets::list::moved;

/// Cells of an expanded chart next to its plot: the box and the numbers of the axis.
const BESIDE_PLOT: u16 = 10;
/// How much further a page key moves the crosshair.
const PAGE_OF_STEPS: usize = 10;

impl Train {
    /// Executes an action of the key table.
    pub(super) fn execute(
        &mut self,
        action: Action,
        open: &OpenRun,
        context: &Context<'_>,
    ) -> Option<Command> {
        let run = Run::from(open);
        match action {
            Action::PauseOrContinue => return Some(run.pause_or_continue()),
            Action::SaveNow => return Some(run.ask_trainer(Request::Save)),
            Action::StopAfterStep => return Some(stop(open, run.ask_trainer(Request::Stop))),
            Action::Kill => return Some(run.kill()),
            Action::Resume => return Some(run.resume(context)),
            Action::ShowLog if open.log.is_empty() => {
                return Some(Notice::info("the trainer has not written anything yet"));
            }
            Action::ShowLog => {
                return Some(Command::Read {
                    title: format!("The log of {}", open.id()),
                    lines: open.log.clone(),
                });
            }
            Action::OpenInEditor => {
                return Some(Effect::OpenInEditor(open.path.join("experiment.toml")).into());
            }
            Action::Export => return Some(export::dialog(self, open, context)),
            Action::Copy => return self.copy(open, context),
            Action::Freeze => return self.freeze(open),
            Action::NextPane | Action::PreviousPane => {
                self.focus
                    .step(if action == Action::NextPane { 1 } else { -1 });
                self.focused();
            }
            Action::Expand | Action::Open => {
                self.is_expanded = !self.is_expanded;
                self.crosshair = None;
            }
            Action::Back => self.back(),
            Action::LogScale => {
                let names = charts::names(&open.history, &self.filter);
                let metric = *names.get(self.selected_in(&names))?;
                if !self.log_scales.remove(metric) {
                    self.log_scales.insert(metric.to_owned());
                }
            }
            Action::MoreSmoothing => {
                self.smoothing = (self.smoothing + 1).min(charts::SMOOTHINGS.len() - 1);
            }
            Action::LessSmoothing => self.smoothing = self.smoothing.saturating_sub(1),
            Action::ShorterWindow => {
                self.window = (self.window + 1).min(charts::WINDOWS.len() - 1);
            }
            Action::LongerWindow => self.window = self.window.saturating_sub(1),
            Action::NextMatch => self.select_moved(Action::Down, 1, open),
            Action::PreviousMatch => self.select_moved(Action::Up, 1, open),
            _ if !self.focus.is(Part::Charts) => {
                self.reading.act(action);
            }
            _ if self.is_expanded => self.move_crosshair(action, open, context),
            _ => self.move_selection(action, open, context),
        }
        None
    }

    /// A click gives a part the keyboard and selects a chart; on the selected chart it expands.
    pub(super) fn point_at(&mut self, at: Position, open: &OpenRun, context: &Context<'_>) {
        let areas = layout::areas(self, open, context.body);
        let Some(part) = areas.parts.at(at) else {
            return;
        };
        let had_keyboard = self.focus.is(part);
        self.focus.set(part);
        self.focused();
        if part != Part::Charts || self.is_expanded {
            return;
        }
        let names = charts::names(&open.history, &self.filter);
        let selected = self.selected_in(&names);
        let grid = layout::chart_grid(areas.parts.of(Part::Charts), names.len(), selected);
        if let Some(index) = grid.areas.iter().position(|area| area.contains(at)) {
            let index = grid.first + index;
            self.is_expanded = had_keyboard && index == selected;
            self.selected = names.get(index).map(|name| (*name).to_owned());
        }
    }

    /// The keyboard has moved to another part.
    fn focused(&mut self) {
        let part = self.focus.now();
        self.reading = part.unread();
        if part != Part::Charts {
            self.recent = Some(part);
        }
    }

    /// Undoes one thing at a time: the crosshair, an expanded part, the focus, the filter.
    fn back(&mut self) {
        if self.crosshair.take().is_some() || std::mem::take(&mut self.is_expanded) {
            return;
        }
        if self.focus.is(Part::Charts) {
            self.filter = Filter::default();
        } else {
            self.focus.set(Part::Charts);
            self.focused();
        }
    }

    fn freeze(&mut self, open: &OpenRun) -> Option<Command> {
        if self.frozen.take().is_some() {
            return Some(Notice::info("the charts follow the run"));
        }
        let (start, end) = charts::whole_range(&open.history)?;
        self.frozen = Some((start, end));
        Some(Notice::info(format!(
            "the charts stay at step {end}; z lets them follow"
        )))
    }

    /// Index of the selected metric among `names`.
    pub(super) fn selected_in(&self, names: &[&str]) -> usize {
        let mut names = names.iter();
        names
            .position(|name| Some(*name) == self.selected.as_deref())
            .unwrap_or(0)
    }

    fn select_moved(&mut self, movement: Action, page: usize, open: &OpenRun) {
        let names = charts::names(&open.history, &self.filter);
        if let Some(index) = moved(movement, self.selected_in(&names), names.len(), page) {
            self.selected = names.get(index).map(|name| (*name).to_owned());
        }
    }

    fn move_selection(&mut self, action: Action, open: &OpenRun, context: &Context<'_>) {
        let names = charts::names(&open.history, &self.filter);
        let area = layout::areas(self, open, context.body)
            .parts
            .of(Part::Charts);
        let grid = layout::chart_grid(area, names.len(), self.selected_in(&names));
        let top = grid.areas.first().map(|area| area.y);
        let across = grid.areas.iter().filter(|area| Some(area.y) == top).count();
        match action {
            Action::Left => self.select_moved(Action::Up, 1, open),
            Action::Right => self.select_moved(Action::Down, 1, open),
            Action::Up => self.select_moved(Action::PageUp, across, open),
            Action::Down => self.select_moved(Action::PageDown, across, open),
            _ => self.select_moved(action, grid.areas.len(), open),
        }
    }

    /// Left and right move the crosshair by a column of the plot, or by a step if a column is
    /// less; up and down show the chart before and after.
    fn move_crosshair(&mut self, action: Action, open: &OpenRun, context: &Context<'_>) {
        let names = charts::names(&open.history, &self.filter);
        let metric = names.get(self.selected_in(&names));
        let points = metric.and_then(|metric| open.history.get(metric));
        let points = points.map(|series| series.points()).unwrap_or_default();
        let window = charts::window(self, &open.history);
        let (start, end) = window.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        let steps: Vec<f64> = points
            .iter()
            .filter(|(step, value)| value.is_finite() && (start..=end).contains(step))
            .map(|(step, _)| *step)
            .collect();
        let plot = usize::from(context.body.width.saturating_sub(BESIDE_PLOT)).max(1);
        let stride = steps.len().div_ceil(plot);
        let (movement, page) = match action {
            Action::Up | Action::Down => return self.select_moved(action, 1, open),
            Action::Left => (Action::PageUp, stride),
            Action::Right => (Action::PageDown, stride),
            action => (action, PAGE_OF_STEPS * stride),
        };
        // The first press reads the newest value.
        let from = self.crosshair.map_or(steps.len(), |step| {
            steps.partition_point(|other| *other < step)
        });
        if let Some(index) = moved(movement, from, steps.len(), page) {
            self.crosshair = steps.get(index).copied();
        }
    }

    /// The selected chart as text, or the text of the part.
    fn copy(&self, open: &OpenRun, context: &Context<'_>) -> Option<Command> {
        let part = self.focus.now();
        let lines = if part == Part::Charts {
            let names = charts::names(&open.history, &self.filter);
            let metric = names.get(self.selected_in(&names))?;
            let borrowed = charts::borrowed(open, metric, context.look());
            charts::chart(self, open, metric, &borrowed).summary()
        } else {
            let lines = panes::lines(part, open, context, usize::MAX >> 1, usize::MAX);
            lines.iter().map(ToString::to_string).collect()
        };
        (!lines.is_empty()).then(|| Effect::Copy(lines.join("\n")).into())
    }
}

/// Asks before the request is sent; a refusal is passed on.
fn stop(open: &OpenRun, request: Command) -> Command {
    if matches!(request, Command::Tell(_)) {
        return request;
    }
    Command::Ask(Dialog {
        title: "Stop".to_owned(),
        lines: vec![
            format!("{} ends after its step and saves first.", open.id()),
            "Nothing is lost: R resumes from there.".to_owned(),
        ],
        choices: vec![Choice::new('y', "save and stop", vec![request])],
    })
}
