//! The Train screen: how a run goes. Progress, charts, memory, alarms, what happened, the log.

mod charts;
mod control;
mod draw;
mod export;
mod header;
mod keys;
mod layout;
mod memory;
mod news;
mod ranges;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;

use ratatui::Frame;
use ratatui::layout::{Position, Rect};

use super::ScreenState;
use crate::tui::data::run::OpenRun;
use crate::tui::filter::Filter;
use crate::tui::keymap::Action;
use crate::tui::message::Command;
use crate::tui::state::Context;
use crate::tui::widgets::scroll::text_width;
use layout::Pane;

/// The state of the Train screen.
#[derive(Debug)]
pub struct Train {
    /// The run that the rest is about.
    run: PathBuf,
    /// The pane with the keyboard.
    pane: Pane,
    /// The pane beside the charts that had it last.
    recent: Option<Pane>,
    /// Whether that pane, or the selected chart, has the screen for itself.
    is_expanded: bool,
    /// The metric whose chart is selected; the first one where there is no such chart.
    selected: Option<String>,
    /// Which metrics have a chart.
    filter: Filter,
    /// Place in [`charts::SMOOTHINGS`].
    smoothing: usize,
    /// Place in [`charts::WINDOWS`]; beyond its end everything is shown.
    window: usize,
    /// Metrics on a logarithmic scale.
    log_scales: BTreeSet<String>,
    /// First and last step when the charts were held still.
    frozen: Option<(f64, f64)>,
    /// The step at which the expanded chart is read out.
    crosshair: Option<f64>,
    /// Lines by which the pane with the keyboard is scrolled away from the newest.
    scroll: usize,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            run: PathBuf::new(),
            pane: Pane::Charts,
            recent: None,
            is_expanded: false,
            selected: None,
            filter: Filter::default(),
            smoothing: 0,
            window: charts::WINDOWS.len(),
            log_scales: BTreeSet::new(),
            frozen: None,
            crosshair: None,
            scroll: 0,
        }
    }
}

impl ScreenState for Train {
    fn act(&mut self, action: Action, context: &Context<'_>) -> Vec<Command> {
        let commands = match &context.world.open {
            Some(open) => self.carry_out(action, open, context),
            None => Vec::new(),
        };
        self.settle(context);
        commands
    }

    fn set_filter(&mut self, filter: &str, _context: &Context<'_>) -> Vec<Command> {
        self.filter = Filter::new(filter);
        Vec::new()
    }

    fn filter(&self) -> &str {
        self.filter.text()
    }

    fn click(&mut self, at: Position, context: &Context<'_>) -> Vec<Command> {
        if let Some(open) = &context.world.open {
            self.point_at(at, open, context);
            self.settle(context);
        }
        Vec::new()
    }

    fn refresh(&mut self, context: &Context<'_>) -> Vec<Command> {
        let run = context.world.open.as_ref().map(|open| open.path.clone());
        let run = run.unwrap_or_default();
        if run != self.run {
            // Another run: how things are shown stays, what was looked at goes.
            self.run = run;
            self.frozen = None;
            self.crosshair = None;
            self.recent = None;
            self.scroll = 0;
        }
        self.settle(context);
        Vec::new()
    }

    fn status(&self, context: &Context<'_>) -> String {
        let open = context.world.open.as_ref();
        open.map(|open| format!("{} {}", open.id(), open.condition().name()))
            .unwrap_or_default()
    }

    fn draw(&self, context: &Context<'_>, frame: &mut Frame<'_>, area: Rect) {
        draw::draw(self, context, frame.buffer_mut(), area);
    }
}

impl Train {
    /// The selected metric, where it is one of `names`, else the first.
    fn selected_in<'a>(&self, names: &[&'a str]) -> Option<&'a str> {
        names.get(self.selected_place(names)).copied()
    }

    /// The place of the selected metric among `names`.
    fn selected_place(&self, names: &[&str]) -> usize {
        let place = names
            .iter()
            .position(|name| Some(*name) == self.selected.as_deref());
        place.unwrap_or(0)
    }

    /// Keeps scrolling within what there is.
    fn settle(&mut self, context: &Context<'_>) {
        let most = context
            .world
            .open
            .as_ref()
            .map(|open| self.overhang(open, context));
        self.scroll = self.scroll.min(most.unwrap_or(0));
    }

    /// Lines of the pane with the keyboard that do not fit into it.
    fn overhang(&self, open: &OpenRun, context: &Context<'_>) -> usize {
        let area = layout::inner(layout::areas(self, open, context.body).of(self.pane));
        let cells = text_width(area);
        let lines = news::lines(self.pane, open, context, cells, news::SCROLLED);
        lines.len().saturating_sub(area.height.into())
    }
}
