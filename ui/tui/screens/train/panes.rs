//! Alarms, events and the log as lines.

use moim_core::run::Severity;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::Part;
use crate::tui::data::run::OpenRun;
use crate::tui::state::Context;
use crate::tui::text::{age, wrap_runs};
use crate::tui::widgets::scroll::wrapped;

/// Entries that a part can be scrolled through.
pub(super) const SCROLLED: usize = 500;

/// The newest `most` entries of a part as lines of at most `cells`: alarms and events with the
/// newest first, the log as it is. The other parts have none.
pub(super) fn lines(
    part: Part,
    open: &OpenRun,
    context: &Context<'_>,
    cells: usize,
    most: usize,
) -> Vec<Line<'static>> {
    let (theme, glyphs) = (context.theme(), context.glyphs());
    match part {
        Part::Alarms => {
            let newest_first = open.alarms.iter().rev().take(most);
            let lines = newest_first.flat_map(|(time, alarm)| {
                let (sign, style) = if alarm.severity == Severity::Critical {
                    (glyphs.bad, theme.bad)
                } else {
                    (glyphs.warn, theme.warn)
                };
                let head = format!("{sign} {} {}", alarm.severity, alarm.code);
                let since = age(context.now, *time);
                let place = format!("  step {}, {since}\n", alarm.step);
                let runs = [
                    (style, head.as_str()),
                    (theme.dim, &place),
                    (theme.text, &alarm.message),
                ];
                styled(&runs, cells)
            });
            lines.collect()
        }
        Part::Events => {
            let newest_first = open.timeline.iter().rev().take(most);
            let lines = newest_first.flat_map(|event| {
                let when = format!("{:>8}  ", age(context.now, event.time));
                let text = event.to_string();
                styled(&[(theme.dim, when.as_str()), (theme.text, &text)], cells)
            });
            lines.collect()
        }
        Part::Log => {
            let newest = open.log.get(open.log.len().saturating_sub(most)..);
            let newest = newest.unwrap_or_default().iter();
            newest
                .flat_map(|line| wrapped(line, cells, Style::new()))
                .collect()
        }
        Part::Charts | Part::Memory => Vec::new(),
    }
}

fn styled(runs: &[(Style, &str)], cells: usize) -> Vec<Line<'static>> {
    let lines = wrap_runs(runs, cells).into_iter();
    let span = |(style, run): (Style, String)| Span::styled(run, style);
    lines
        .map(|line| line.into_iter().map(span).collect())
        .collect()
}
