//! Alarms, what happened, and the log, as lines.

use jiff::Timestamp;
use moim_core::run::{Alarm, Event, Severity};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::layout::Pane;
use crate::tui::data::run::OpenRun;
use crate::tui::state::Context;
use crate::tui::text;

/// Entries that a pane can be scrolled through.
pub(super) const SCROLLED: usize = 500;

/// The newest `most` entries of a pane as lines of at most `cells`: alarms and other events with the
/// newest first, the log as it is. The other panes have none.
pub(super) fn lines(
    pane: Pane,
    open: &OpenRun,
    context: &Context<'_>,
    cells: usize,
    most: usize,
) -> Vec<Line<'static>> {
    match pane {
        Pane::Alarms => {
            let newest_first = open.alarms.iter().rev().take(most);
            newest_first
                .flat_map(|(time, alarm)| alarm_lines(*time, alarm, context, cells))
                .collect()
        }
        Pane::Events => {
            let newest_first = open.timeline.iter().rev().take(most);
            newest_first
                .flat_map(|event| event_lines(event, context, cells))
                .collect()
        }
        Pane::Log => {
            let newest = open.log.get(open.log.len().saturating_sub(most)..);
            let newest = newest.unwrap_or_default();
            let wrapped = newest.iter().flat_map(|line| text::wrap(line, cells));
            wrapped.map(Line::from).collect()
        }
        Pane::Charts | Pane::Memory => Vec::new(),
    }
}

/// What an empty pane says.
pub(super) fn nothing(pane: Pane) -> &'static str {
    match pane {
        Pane::Alarms => "No alarm has been raised.",
        Pane::Events => "Save points, scores and pauses appear here.",
        _ => "The trainer has not written anything yet.",
    }
}

fn alarm_lines(
    time: Timestamp,
    alarm: &Alarm,
    context: &Context<'_>,
    cells: usize,
) -> Vec<Line<'static>> {
    let (theme, glyphs) = (context.theme(), context.glyphs());
    let (sign, style) = match alarm.severity {
        Severity::Critical => (glyphs.bad, theme.bad),
        Severity::Warning => (glyphs.warn, theme.warn),
    };
    let head = format!("{sign} {} {}", alarm.severity, alarm.code);
    let place = format!("  step {}, {}", alarm.step, text::age(context.now, time));
    wrapped(
        &[
            (style, &head),
            (theme.dim, &place),
            (theme.text, "\n"),
            (theme.text, &alarm.message),
        ],
        cells,
    )
}

fn event_lines(event: &Event, context: &Context<'_>, cells: usize) -> Vec<Line<'static>> {
    let theme = context.theme();
    let when = format!("{:>8}  ", text::age(context.now, event.time));
    wrapped(
        &[(theme.dim, &when), (theme.text, &event.to_string())],
        cells,
    )
}

fn wrapped(runs: &[(Style, &str)], cells: usize) -> Vec<Line<'static>> {
    text::wrap_runs(runs, cells)
        .into_iter()
        .map(|line| {
            line.into_iter()
                .map(|(style, run)| Span::styled(run, style))
                .collect()
        })
        .collect()
}
