//! The Train screen: how a run is going. Progress, charts, memory, alarms, events, the log.

mod charts;
mod draw;
mod export;
mod header;
mod keys;
mod layout;
mod memory;
mod panes;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::PathBuf;

use ratatui::Frame;
use ratatui::layout::{Position, Rect};

use super::ScreenState;
use crate::tui::filter::Filter;
use crate::tui::keymap::Action;
use crate::tui::message::Command;
use crate::tui::state::Context;
use crate::tui::widgets::focus::{self, Focus};
use crate::tui::widgets::pane::Pane;

/// The state of the Train screen.
#[derive(Debug, Default)]
pub struct Train {
    /// The run that the rest is about.
    run: PathBuf,
    focus: Focus<Part>,
    /// The part next to the charts that had the keyboard last.
    recent: Option<Part>,
    /// Whether the part with the keyboard, or the selected chart, fills the screen.
    is_expanded: bool,
    /// The metric whose chart is selected; the first one if it has no chart.
    selected: Option<String>,
    /// Which metrics have a chart.
    filter: Filter,
    /// Index in [`charts::SMOOTHINGS`].
    smoothing: usize,
    /// Index in [`charts::WINDOWS`].
    window: usize,
    /// Metrics on a logarithmic scale.
    log_scales: BTreeSet<String>,
    /// First and last step when the charts were frozen.
    frozen: Option<(f64, f64)>,
    /// The step at which the expanded chart is read out.
    crosshair: Option<f64>,
    /// The text of the part with the keyboard.
    reading: Pane,
}

/// The parts of the screen below its header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Charts,
    Memory,
    Alarms,
    /// Save points, scores, pauses.
    Events,
    Log,
}

impl focus::Part for Part {
    const RING: &'static [Self] = &[
        Self::Charts,
        Self::Memory,
        Self::Alarms,
        Self::Events,
        Self::Log,
    ];
}

impl Part {
    const fn title(self) -> &'static str {
        match self {
            Self::Charts => "Charts",
            Self::Memory => "Memory",
            Self::Alarms => "Alarms",
            Self::Events => "Events",
            Self::Log => "Log",
        }
    }

    /// Its text, not scrolled: alarms and events have the newest first, the log last.
    fn unread(self) -> Pane {
        if self == Self::Log {
            Pane::at_end()
        } else {
            Pane::default()
        }
    }
}

impl ScreenState for Train {
    fn act(&mut self, action: Action, context: &Context<'_>) -> Vec<Command> {
        match &context.world.open {
            Some(open) => self.execute(action, open, context).into_iter().collect(),
            None => Vec::new(),
        }
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
        }
        Vec::new()
    }

    fn refresh(&mut self, context: &Context<'_>) -> Vec<Command> {
        let run = context.world.open.as_ref().map(|open| open.path.clone());
        let run = run.unwrap_or_default();
        if run != self.run {
            // Another run: how things are shown stays.
            self.run = run;
            self.frozen = None;
            self.crosshair = None;
            self.recent = None;
            self.reading.reset();
        }
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
