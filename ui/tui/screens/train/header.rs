//! The lines at the top: what the run is, how far it has come, what it is doing.

use moim_core::run::Severity;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use super::control;
use crate::tui::data::run::OpenRun;
use crate::tui::data::system::seconds_between;
use crate::tui::screens::condition::sign;
use crate::tui::screens::words::{count, point_of};
use crate::tui::state::Context;
use crate::tui::text;
use crate::tui::theme::Look;
use crate::tui::widgets::gauge::Gauge;

/// Draws the header into `area`, which has [`super::layout::HEADER`] lines and one more where
/// there is a remark.
pub(super) fn draw(open: &OpenRun, context: &Context<'_>, buf: &mut Buffer, area: Rect) {
    let row = |index: u16| {
        let row = Rect {
            y: area.y.saturating_add(index),
            height: 1,
            ..area
        };
        row.intersection(area)
    };
    let cells = usize::from(area.width);
    draw_line(line_of(what_it_is(open, context), cells), row(0), buf);
    draw_progress(open, context, buf, row(1));
    let numbers = numbers_of(open).into_iter();
    let numbers = numbers.map(|(name, value)| named(name, &value, context.look()));
    draw_line(line_of(numbers.collect(), cells), row(2), buf);
    if has_remark(open) {
        let line = Line::styled(
            text::single_line(&remarks(open).join("; ")),
            context.theme().warn,
        );
        draw_line(line, row(3), buf);
    }
}

/// A piece of a line, which is shown whole or not at all.
type Item = Vec<Span<'static>>;

fn what_it_is(open: &OpenRun, context: &Context<'_>) -> Vec<Item> {
    let theme = context.theme();
    let condition = open.condition();
    let (sign, style) = sign(condition, context.look());
    let mut items = vec![
        vec![Span::styled(text::single_line(&open.id()), theme.title)],
        vec![Span::styled(format!("{sign} {}", condition.name()), style)],
    ];
    items.extend(alarms_of(open, context).map(|words| vec![words]));
    let mut add = |name: &str, value: &str| items.push(named(name, value, context.look()));
    if let Ok(state) = &open.state {
        add("step", &format!("{}/{}", state.step, state.total_steps));
        let share = state.epoch_fraction.map(text::percent);
        let epoch = format!("{} {}", state.epoch, share.unwrap_or_default());
        add("epoch", epoch.trim_end());
        let end = if condition.is_active() {
            context.now
        } else {
            state.updated
        };
        let elapsed = seconds_between(state.started, end).max(0.0);
        add("elapsed", &text::duration(elapsed));
        if !state.device.is_empty() {
            add("on", &state.device);
        }
    }
    items
}

/// How many alarms there are; `None` without any.
fn alarms_of(open: &OpenRun, context: &Context<'_>) -> Option<Span<'static>> {
    let (theme, glyphs) = (context.theme(), context.glyphs());
    let all = match open.alarms.len() {
        0 => return None,
        number => count(number, "alarm"),
    };
    let critical = open.alarms.iter();
    let critical = critical
        .filter(|(_, alarm)| alarm.severity == Severity::Critical)
        .count();
    Some(match critical {
        0 => Span::styled(format!("{} {all}", glyphs.warn), theme.warn),
        _ => Span::styled(
            format!("{} {all}, {critical} critical", glyphs.bad),
            theme.bad,
        ),
    })
}

fn named(name: &str, value: &str, look: &Look) -> Item {
    vec![
        Span::styled(format!("{name} "), look.theme.dim),
        Span::raw(text::single_line(value)),
    ]
}

/// As many items as fit into `cells`, from the first on.
fn line_of(items: Vec<Item>, cells: usize) -> Line<'static> {
    const GAP: &str = "  ";
    let mut line = Line::default();
    for item in items {
        let gap = if line.spans.is_empty() { "" } else { GAP };
        let wanted: usize = item.iter().map(Span::width).sum();
        if line.width() + gap.len() + wanted > cells && !line.spans.is_empty() {
            break;
        }
        line.push_span(gap);
        line.spans.extend(item);
    }
    line
}

fn draw_progress(open: &OpenRun, context: &Context<'_>, buf: &mut Buffer, area: Rect) {
    let theme = context.theme();
    let (step, total) = open.steps().unwrap_or_default();
    let condition = open.condition();
    let remaining = open.remaining_seconds().filter(|_| condition.is_active());
    let note = remaining.map(|seconds| format!("{} left", text::duration(seconds)));
    let run = Gauge {
        label: "run",
        ratio: step as f64 / total as f64,
        note: note.as_deref().unwrap_or_default(),
        style: sign(condition, context.look()).1,
    };
    let advice = control::way_out(open);
    let share = if advice.is_empty() { 2 } else { 3 };
    let [left, _, right] = Layout::horizontal([
        Constraint::Length(area.width / share),
        Constraint::Length(2),
        Constraint::Fill(1),
    ])
    .areas(area);
    run.render(left, buf, context.look());
    if !advice.is_empty() {
        draw_line(Line::raw(text::single_line(&advice)), right, buf);
        return;
    }
    let Some(progress) = &open.progress else {
        return draw_line(Line::styled("between two phases", theme.dim), right, buf);
    };
    // Clocks of two machines differ, and clocks are set back.
    let mut note = vec![text::duration(
        seconds_between(progress.since, context.now).max(0.0),
    )];
    if progress.total > 1 {
        note.insert(0, format!("{}/{}", progress.done, progress.total));
    }
    note.extend(Some(progress.detail.clone()).filter(|detail| !detail.is_empty()));
    let note = note.join("  ");
    if progress.total > 1 {
        let phase = Gauge {
            label: &progress.phase,
            ratio: progress.done as f64 / progress.total as f64,
            note: &note,
            style: theme.info,
        };
        return phase.render(right, buf, context.look());
    }
    let words = text::single_line(&format!("{}  {note}", progress.phase));
    draw_line(Line::raw(words), right, buf);
}

/// The newest numbers, each with its name.
fn numbers_of(open: &OpenRun) -> Vec<(&'static str, String)> {
    let last = |metric: &str| open.history.last(metric);
    let mut numbers = Vec::new();
    let reward = last("reward").or(open.state.as_ref().ok().and_then(|state| state.reward));
    numbers.extend(reward.map(|reward| ("reward", text::compact(reward))));
    if let Some(best) = open
        .state
        .as_ref()
        .ok()
        .and_then(|state| state.best.as_ref())
    {
        numbers.push((
            "best Final Mean",
            format!("{:.4} {}", best.final_mean, point_of(&best.file)),
        ));
    }
    let pace = open
        .state
        .as_ref()
        .ok()
        .and_then(|state| state.steps_per_second);
    let pace = pace.or(last("step_time").map(|seconds| 1.0 / seconds));
    numbers.extend(pace.map(|pace| ("steps/s", text::compact(pace))));
    for (name, metric) in [
        ("rollout tokens/s", "tokens_per_second/rollout"),
        ("backward tokens/s", "tokens_per_second/backward"),
    ] {
        numbers.extend(last(metric).map(|speed| (name, text::compact(speed.round()))));
    }
    numbers
}

/// Whether there is something to say about the reading of the run's files.
pub(super) fn has_remark(open: &OpenRun) -> bool {
    let reading = &open.reading;
    reading.bytes < reading.total || reading.bad_lines > 0 || reading.restarts > 0
}

fn remarks(open: &OpenRun) -> Vec<String> {
    let reading = &open.reading;
    let mut remarks = Vec::new();
    if reading.bytes < reading.total {
        let share = text::percent(reading.bytes as f64 / reading.total as f64);
        remarks.push(format!(
            "reading the history: {share} of {}",
            text::bytes(reading.total)
        ));
    }
    if reading.bad_lines > 0 {
        let latest = reading.latest_bad_line.as_deref().unwrap_or("unknown");
        remarks.push(format!(
            "{} lines cannot be read, the latest: {latest}",
            reading.bad_lines
        ));
    }
    if reading.restarts > 0 {
        remarks.push(format!(
            "events.jsonl was cut or replaced {} times",
            reading.restarts
        ));
    }
    remarks
}

fn draw_line(line: Line<'_>, area: Rect, buf: &mut Buffer) {
    let area = area.intersection(buf.area);
    if !area.is_empty() {
        buf.set_line(area.x, area.y, &line, area.width);
    }
}
