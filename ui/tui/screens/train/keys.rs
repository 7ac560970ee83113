//! What the keys of the Train screen do.

use ratatui::layout::Position;

use super::layout::{self, Pane};
use super::{Train, charts, control, export, news};
use crate::tui::data::run::OpenRun;
use crate::tui::keymap::Action;
use crate::tui::message::{Command, Effect, Notice};
use crate::tui::state::Context;

/// Cells of an expanded chart beside its plot: the box and the numbers of the axis.
const BESIDE_PLOT: u16 = 10;
/// How much farther a page key moves the crosshair.
const PAGE_OF_STEPS: isize = 10;

impl Train {
    pub(super) fn carry_out(
        &mut self,
        action: Action,
        open: &OpenRun,
        context: &Context<'_>,
    ) -> Vec<Command> {
        match action {
            Action::PauseOrContinue => return vec![control::pause_or_continue(open)],
            Action::SaveNow => return vec![control::save(open)],
            Action::StopAfterStep => return vec![control::stop(open)],
            Action::Kill => return vec![control::kill(open)],
            Action::Resume => return vec![control::resume(open)],
            Action::ShowLog => return vec![show_log(open)],
            Action::OpenInEditor => {
                return vec![Effect::OpenInEditor(open.path.join("experiment.toml")).into()];
            }
            Action::Export => return vec![export::dialog(self, open, context)],
            Action::Copy => return self.copy(open, context).into_iter().collect(),
            Action::Freeze => return self.freeze(open).into_iter().collect(),
            Action::NextPane => self.focus(self.pane.moved(1)),
            Action::PreviousPane => self.focus(self.pane.moved(Pane::ALL.len() - 1)),
            Action::Expand | Action::Open => {
                self.is_expanded = !self.is_expanded;
                self.crosshair = None;
            }
            Action::Back => self.back(),
            Action::LogScale => self.toggle_log_scale(open),
            Action::MoreSmoothing => {
                self.smoothing = (self.smoothing + 1).min(charts::SMOOTHINGS.len() - 1);
            }
            Action::LessSmoothing => self.smoothing = self.smoothing.saturating_sub(1),
            Action::ShorterWindow => self.window = self.window.saturating_sub(1),
            Action::LongerWindow => self.window = (self.window + 1).min(charts::WINDOWS.len()),
            Action::NextMatch => self.select_by(1, open),
            Action::PreviousMatch => self.select_by(-1, open),
            _ if self.pane != Pane::Charts => self.scroll_by(action, open, context),
            _ if self.is_expanded => self.move_crosshair(action, open, context),
            _ => self.move_selection(action, open, context),
        }
        Vec::new()
    }

    /// A click gives a pane the keyboard and selects a chart; on the selected chart it expands.
    pub(super) fn point_at(&mut self, at: Position, open: &OpenRun, context: &Context<'_>) {
        let areas = layout::areas(self, open, context.body);
        let Some(pane) = Pane::ALL
            .into_iter()
            .find(|pane| areas.of(*pane).contains(at))
        else {
            return;
        };
        let had_keyboard = self.pane == pane;
        self.focus(pane);
        if pane != Pane::Charts || self.is_expanded {
            return;
        }
        let names = charts::names(&open.history, &self.filter);
        let selected = self.selected_place(&names);
        let grid = layout::chart_grid(areas.charts, names.len(), selected);
        let Some(place) = grid.areas.iter().position(|area| area.contains(at)) else {
            return;
        };
        let place = grid.first + place;
        self.is_expanded = had_keyboard && place == selected;
        self.selected = names.get(place).map(|name| (*name).to_owned());
    }

    fn focus(&mut self, pane: Pane) {
        self.scroll = 0;
        self.pane = pane;
        if pane != Pane::Charts {
            self.recent = Some(pane);
        }
    }

    /// Takes back one thing at a time.
    fn back(&mut self) {
        if self.crosshair.take().is_some() {
            return;
        }
        if std::mem::take(&mut self.is_expanded) {
            return;
        }
        if self.pane != Pane::Charts {
            return self.focus(Pane::Charts);
        }
        self.filter = Default::default();
    }

    fn toggle_log_scale(&mut self, open: &OpenRun) {
        let names = charts::names(&open.history, &self.filter);
        let Some(metric) = self.selected_in(&names) else {
            return;
        };
        if !self.log_scales.remove(metric) {
            self.log_scales.insert(metric.to_owned());
        }
    }

    fn freeze(&mut self, open: &OpenRun) -> Option<Command> {
        self.frozen = match self.frozen {
            Some(_) => None,
            None => Some(charts::whole_range(&open.history)?),
        };
        Some(Notice::info(match self.frozen {
            Some((_, end)) => format!("the charts stay at step {end}; z lets them run"),
            None => "the charts run".to_owned(),
        }))
    }

    fn select_by(&mut self, charts: isize, open: &OpenRun) {
        let names = charts::names(&open.history, &self.filter);
        let last = names.len().saturating_sub(1);
        let place = self
            .selected_place(&names)
            .saturating_add_signed(charts)
            .min(last);
        self.selected = names.get(place).map(|name| (*name).to_owned());
    }

    fn move_selection(&mut self, action: Action, open: &OpenRun, context: &Context<'_>) {
        let names = charts::names(&open.history, &self.filter);
        let area = layout::areas(self, open, context.body).charts;
        let grid = layout::chart_grid(area, names.len(), self.selected_place(&names));
        let all = isize::try_from(names.len()).unwrap_or(isize::MAX);
        let page = isize::try_from(grid.areas.len()).unwrap_or(1);
        let row = isize::try_from(layout::across(&grid)).unwrap_or(1);
        self.select_by(
            match action {
                Action::Left => -1,
                Action::Right => 1,
                Action::Up => -row,
                Action::Down => row,
                Action::PageUp => -page,
                Action::PageDown => page,
                Action::Top => -all,
                Action::Bottom => all,
                _ => return,
            },
            open,
        );
    }

    /// Left and right move the crosshair by a column of the plot, or by a step where a column is
    /// less; up and down show the chart before and after.
    fn move_crosshair(&mut self, action: Action, open: &OpenRun, context: &Context<'_>) {
        let by = match action {
            Action::Up => return self.select_by(-1, open),
            Action::Down => return self.select_by(1, open),
            Action::Left => -1,
            Action::Right => 1,
            Action::PageUp => -PAGE_OF_STEPS,
            Action::PageDown => PAGE_OF_STEPS,
            Action::Top => isize::MIN,
            Action::Bottom => isize::MAX,
            _ => return,
        };
        let names = charts::names(&open.history, &self.filter);
        let points = self
            .selected_in(&names)
            .and_then(|metric| open.history.get(metric))
            .map(|series| series.points())
            .unwrap_or_default();
        let window = charts::window(self, &open.history);
        let (start, end) = window.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        let steps: Vec<f64> = points
            .iter()
            .filter(|(step, value)| value.is_finite() && (start..=end).contains(step))
            .map(|(step, _)| *step)
            .collect();
        let last = steps.len().saturating_sub(1);
        let plot = usize::from(context.body.width.saturating_sub(BESIDE_PLOT)).max(1);
        let stride = isize::try_from(steps.len().div_ceil(plot)).unwrap_or(1);
        let place = match self.crosshair {
            Some(step) => steps.partition_point(|other| *other < step),
            // The first press reads the newest value, or the oldest for Home.
            None if by == isize::MIN => 0,
            None => last + 1,
        };
        let place = place
            .saturating_add_signed(by.saturating_mul(stride))
            .min(last);
        self.crosshair = steps.get(place).copied();
    }

    fn scroll_by(&mut self, action: Action, open: &OpenRun, context: &Context<'_>) {
        let area = layout::inner(layout::areas(self, open, context.body).of(self.pane));
        let page = isize::try_from(area.height.max(1)).unwrap_or(1);
        let down = match action {
            Action::Up => -1,
            Action::Down => 1,
            Action::PageUp => -page,
            Action::PageDown => page,
            Action::Top => isize::MIN,
            Action::Bottom => isize::MAX,
            _ => return,
        };
        // The newest line of the log is its last one, that of the others their first.
        let away = match self.pane {
            Pane::Log => down.saturating_neg(),
            _ => down,
        };
        self.scroll = self
            .scroll
            .saturating_add_signed(away)
            .min(self.overhang(open, context));
    }

    /// The selected chart in words, or the text of the pane.
    fn copy(&self, open: &OpenRun, context: &Context<'_>) -> Option<Command> {
        let text = match self.pane {
            Pane::Charts => {
                let names = charts::names(&open.history, &self.filter);
                let metric = self.selected_in(&names)?;
                charts::with_chart(self, open, metric, context.look(), |chart| chart.summary())
            }
            pane => news::lines(pane, open, context, usize::MAX >> 1, usize::MAX)
                .iter()
                .map(ToString::to_string)
                .collect(),
        };
        (!text.is_empty()).then(|| Effect::Copy(text.join("\n")).into())
    }
}

fn show_log(open: &OpenRun) -> Command {
    match open.log.is_empty() {
        true => Notice::info("the trainer has not written anything yet"),
        false => Command::Read {
            title: format!("The log of {}", open.id()),
            lines: open.log.clone(),
        },
    }
}
