//! Where the panes of the Train screen lie.

use ratatui::layout::{Constraint, Layout, Rect};

use super::Train;
use crate::tui::data::index::Condition;
use crate::tui::data::run::OpenRun;
use crate::tui::widgets::chart::{Grid, grid};

/// The parts of the screen that can have the keyboard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pane {
    #[default]
    Charts,
    Memory,
    Alarms,
    /// Save points, scores, pauses.
    Events,
    Log,
}

impl Pane {
    pub(super) const ALL: [Self; 5] = [
        Self::Charts,
        Self::Memory,
        Self::Alarms,
        Self::Events,
        Self::Log,
    ];

    /// The pane `by` places further, round and round.
    pub(super) fn moved(self, by: usize) -> Self {
        let place = Self::ALL.iter().position(|pane| *pane == self).unwrap_or(0);
        let next = Self::ALL.get((place + by) % Self::ALL.len());
        next.copied().unwrap_or(self)
    }

    /// The word in its title.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::Charts => "Charts",
            Self::Memory => "Memory",
            Self::Alarms => "Alarms",
            Self::Events => "Events",
            Self::Log => "Log",
        }
    }
}

/// From this width on the charts stand beside everything else.
const WIDE: u16 = 150;
/// From this width on memory stands beside alarms, events and log.
const MIDDLE: u16 = 110;
/// Cells of what stands beside the charts.
const SIDE: u16 = 56;
/// Lines of the header.
pub(super) const HEADER: u16 = 3;
/// The smallest chart, in cells and lines, where there is little room for charts.
const SMALLEST_CHART: (u16, u16) = (26, 5);
/// The same where there is more, with space for both axes and for reference lines.
const SMALL_CHART: (u16, u16) = (30, 8);
/// From this height on there is more.
const ROOMY: u16 = 24;

/// Panes of which one is shown in a common area.
const NEWS: [Pane; 3] = [Pane::Alarms, Pane::Events, Pane::Log];

/// The areas of the screen.
#[derive(Clone, Debug)]
pub(super) struct Areas {
    pub(super) header: Rect,
    /// A line about what is drawn in the charts; empty where there are none.
    pub(super) bar: Rect,
    /// Empty where another pane has the whole screen.
    pub(super) charts: Rect,
    /// The other panes that are shown, each with those that are hidden behind it.
    pub(super) boxes: Vec<(Pane, Rect, Vec<Pane>)>,
}

impl Areas {
    /// Where a pane is drawn; empty while it is hidden.
    pub(super) fn of(&self, pane: Pane) -> Rect {
        if pane == Pane::Charts {
            return self.charts;
        }
        let shown = self.boxes.iter().find(|(shown, ..)| *shown == pane);
        shown.map(|(_, area, _)| *area).unwrap_or_default()
    }
}

/// Lays the panes out in `body`.
pub(super) fn areas(train: &Train, open: &OpenRun, body: Rect) -> Areas {
    let lines = HEADER + u16::from(super::header::has_remark(open));
    let [header, rest] =
        Layout::vertical([Constraint::Length(lines), Constraint::Fill(1)]).areas(body);
    let below = |area: Rect| -> (Rect, Rect) {
        let [bar, charts] =
            Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
        (bar, charts)
    };
    let has_charts = open.history.names().next().is_some();
    if !has_charts && matches!(train.pane, Pane::Charts | Pane::Log) {
        // Until the first step the log has most to say.
        return Areas {
            header,
            bar: Rect::default(),
            charts: Rect::default(),
            boxes: vec![(Pane::Log, rest, Vec::new())],
        };
    }
    if train.is_expanded {
        let (bar, charts, boxes) = match train.pane {
            Pane::Charts => {
                let (bar, charts) = below(rest);
                (bar, charts, Vec::new())
            }
            pane => (
                Rect::default(),
                Rect::default(),
                vec![(pane, rest, Vec::new())],
            ),
        };
        return Areas {
            header,
            bar,
            charts,
            boxes,
        };
    }
    let one_of = |panes: &[Pane], area: Rect| {
        let shown = shown_of(train, open, panes);
        let hidden = panes
            .iter()
            .copied()
            .filter(|pane| *pane != shown)
            .collect();
        (shown, area, hidden)
    };
    let (left, boxes) = if body.width >= WIDE {
        let [left, right] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Length(SIDE)]).areas(rest);
        let [memory, alarms, events, log] = Layout::vertical([
            Constraint::Fill(7),
            Constraint::Fill(4),
            Constraint::Fill(4),
            Constraint::Fill(4),
        ])
        .areas(right);
        let alone = |pane, area| (pane, area, Vec::new());
        let boxes = vec![
            alone(Pane::Memory, memory),
            alone(Pane::Alarms, alarms),
            alone(Pane::Events, events),
            alone(Pane::Log, log),
        ];
        (left, boxes)
    } else {
        let [top, bottom] =
            Layout::vertical([Constraint::Fill(3), Constraint::Fill(2)]).areas(rest);
        let boxes = if body.width >= MIDDLE {
            let [memory, news] =
                Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(bottom);
            vec![(Pane::Memory, memory, Vec::new()), one_of(&NEWS, news)]
        } else {
            let panes = [Pane::Memory, Pane::Alarms, Pane::Events, Pane::Log];
            vec![one_of(&panes, bottom)]
        };
        (top, boxes)
    };
    let (bar, charts) = below(left);
    Areas {
        header,
        bar,
        charts,
        boxes,
    }
}

/// Which of several panes is shown in their common area: the one with the keyboard, the one that
/// had it last, or the one that has most to say.
fn shown_of(train: &Train, open: &OpenRun, panes: &[Pane]) -> Pane {
    let wanted = [Some(train.pane), train.recent].into_iter().flatten();
    if let Some(pane) = wanted.into_iter().find(|pane| panes.contains(pane)) {
        return pane;
    }
    match open.condition() {
        Condition::Dead | Condition::Failed | Condition::Unreadable | Condition::Starting => {
            Pane::Log
        }
        _ if !open.alarms.is_empty() => Pane::Alarms,
        _ if open.system_now.is_some() && panes.contains(&Pane::Memory) => Pane::Memory,
        _ => Pane::Events,
    }
}

/// The charts of the page that the selected one is on.
pub(super) fn chart_grid(area: Rect, count: usize, selected: usize) -> Grid {
    let smallest = if area.height < ROOMY {
        SMALLEST_CHART
    } else {
        SMALL_CHART
    };
    let first = grid(area, count, smallest, 0);
    let page = selected / first.areas.len().max(1);
    grid(area, count, smallest, page)
}

/// Charts beside each other in a grid.
pub(super) fn across(grid: &Grid) -> usize {
    let top = grid.areas.first().map(|area| area.y);
    let in_first_row = grid.areas.iter().take_while(|area| Some(area.y) == top);
    in_first_row.count().max(1)
}

/// The part of a pane within its box.
pub(super) fn inner(area: Rect) -> Rect {
    Rect {
        x: area.x.saturating_add(1),
        y: area.y.saturating_add(1),
        width: area.width.saturating_sub(2),
        height: area.height.saturating_sub(2),
    }
}
