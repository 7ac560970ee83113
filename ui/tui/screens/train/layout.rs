//! The layout of the Train screen.

use ratatui::layout::Constraint::{Fill, Length};
use ratatui::layout::{Layout, Rect};

use super::{Part, Train, header};
use crate::tui::data::index::Condition;
use crate::tui::data::run::OpenRun;
use crate::tui::widgets::chart::{Grid, grid};
use crate::tui::widgets::focus;

/// From this width on the charts are next to everything else.
const WIDE: u16 = 150;
/// From this width on memory is next to alarms, events and log.
const MIDDLE: u16 = 110;
/// Cells of what is next to the charts.
const SIDE: u16 = 56;
/// The smallest chart, in cells and lines, if there is little space for charts.
const SMALLEST_CHART: (u16, u16) = (26, 5);
/// The same if there is more, with space for both axes and for reference lines.
const SMALL_CHART: (u16, u16) = (30, 8);
/// From this height on there is more.
const ROOMY: u16 = 24;

/// The areas of the screen.
#[derive(Clone, Debug)]
pub(super) struct Areas {
    pub(super) header: Rect,
    /// A line about what is drawn in the charts; empty if there are none.
    pub(super) bar: Rect,
    pub(super) parts: focus::Areas<Part>,
}

/// Lays the parts out in `body`.
pub(super) fn areas(train: &Train, open: &OpenRun, body: Rect) -> Areas {
    use Part::{Alarms, Charts, Events, Log, Memory};

    let [header, rest] = Layout::vertical([Length(header::lines(open)), Fill(1)]).areas(body);
    let focus = train.focus.now();
    // Until the first step the log is the most informative.
    let is_starting = open.history.names().next().is_none() && matches!(focus, Charts | Log);
    if is_starting || (train.is_expanded && focus != Charts) {
        let part = if is_starting { Log } else { focus };
        return Areas {
            header,
            bar: Rect::ZERO,
            parts: focus::Areas::new([(part, rest)]),
        };
    }
    let mut parts = Vec::new();
    let charts = if train.is_expanded {
        rest
    } else if body.width >= WIDE {
        let [left, right] = Layout::horizontal([Fill(1), Length(SIDE)]).areas(rest);
        let [memory, alarms, events, log] =
            Layout::vertical([Fill(7), Fill(4), Fill(4), Fill(4)]).areas(right);
        parts.extend([
            (Memory, memory),
            (Alarms, alarms),
            (Events, events),
            (Log, log),
        ]);
        left
    } else {
        let [top, bottom] = Layout::vertical([Fill(3), Fill(2)]).areas(rest);
        if body.width >= MIDDLE {
            let [memory, shared] = Layout::horizontal([Fill(1), Fill(1)]).areas(bottom);
            let shown = shown_of(train, open, &[Alarms, Events, Log]);
            parts.extend([(Memory, memory), (shown, shared)]);
        } else {
            let shown = shown_of(train, open, &[Memory, Alarms, Events, Log]);
            parts.push((shown, bottom));
        }
        top
    };
    let [bar, charts] = Layout::vertical([Length(1), Fill(1)]).areas(charts);
    parts.push((Charts, charts));
    Areas {
        header,
        bar,
        parts: focus::Areas::new(parts),
    }
}

/// Which of several parts is shown in their common area: the one with the keyboard, the one that
/// had it last, or the most informative one.
fn shown_of(train: &Train, open: &OpenRun, parts: &[Part]) -> Part {
    let wanted = [Some(train.focus.now()), train.recent]
        .into_iter()
        .flatten();
    if let Some(part) = wanted.into_iter().find(|part| parts.contains(part)) {
        return part;
    }
    match open.condition() {
        Condition::Dead | Condition::Failed | Condition::Unreadable | Condition::Starting => {
            Part::Log
        }
        _ if !open.alarms.is_empty() => Part::Alarms,
        _ if open.system_now.is_some() && parts.contains(&Part::Memory) => Part::Memory,
        _ => Part::Events,
    }
}

/// The charts of the page that the selected one is on.
pub(super) fn chart_grid(area: Rect, count: usize, selected: usize) -> Grid {
    let smallest = if area.height < ROOMY {
        SMALLEST_CHART
    } else {
        SMALL_CHART
    };
    let on_page = grid(area, count, smallest, 0).areas.len();
    grid(area, count, smallest, selected / on_page.max(1))
}
