//! The lines at the top: the run, its progress, its newest numbers.

use moim_core::run::Severity;
use ratatui::buffer::Buffer;
use ratatui::layout::Constraint::{Fill, Length};
use ratatui::layout::{Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use crate::tui::data::index::Condition;
use crate::tui::data::run::OpenRun;
use crate::tui::data::system::seconds_between;
use crate::tui::screens::condition::sign;
use crate::tui::screens::control::Run;
use crate::tui::screens::words::{count, point_of};
use crate::tui::state::Context;
use crate::tui::text;
use crate::tui::theme::Look;
use crate::tui::widgets::gauge::Gauge;

/// Lines of the header.
pub(super) fn lines(open: &OpenRun) -> u16 {
    3 + u16::from(!remarks(open).is_empty())
}

pub(super) fn draw(open: &OpenRun, context: &Context<'_>, buf: &mut Buffer, area: Rect) {
    let [run, progress, numbers, remark] =
        Layout::vertical([Length(1), Length(1), Length(1), Fill(1)]).areas(area);
    line_of(about(open, context), area.width).render(run, buf);
    draw_progress(open, context, buf, progress);
    let named = numbers_of(open).into_iter();
    let named = named.map(|(name, value)| named_item(name, &value, context.look()));
    line_of(named.collect(), area.width).render(numbers, buf);
    let words = text::single_line(&remarks(open).join("; "));
    Line::styled(words, context.theme().warn).render(remark, buf);
}

/// A piece of a line, which is shown whole or not at all.
type Item = Vec<Span<'static>>;

/// The run, its condition, its alarms and its position.
fn about(open: &OpenRun, context: &Context<'_>) -> Vec<Item> {
    let (theme, glyphs) = (context.theme(), context.glyphs());
    let condition = open.condition();
    let (sign, style) = sign(condition, context.look());
    let mut items = vec![
        vec![Span::styled(text::single_line(&open.id()), theme.title)],
        vec![Span::styled(format!("{sign} {}", condition.name()), style)],
    ];
    let alarms = count(open.alarms.len(), "alarm");
    let critical = open
        .alarms
        .iter()
        .filter(|(_, alarm)| alarm.severity == Severity::Critical)
        .count();
    if critical > 0 {
        let words = format!("{} {alarms}, {critical} critical", glyphs.bad);
        items.push(vec![Span::styled(words, theme.bad)]);
    } else if !open.alarms.is_empty() {
        items.push(vec![Span::styled(
            format!("{} {alarms}", glyphs.warn),
            theme.warn,
        )]);
    }
    if let Ok(state) = &open.state {
        let mut add = |name: &str, value: &str| items.push(named_item(name, value, context.look()));
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

fn named_item(name: &str, value: &str, look: &Look) -> Item {
    vec![
        Span::styled(format!("{name} "), look.theme.dim),
        Span::raw(text::single_line(value)),
    ]
}

/// As many items as fit into `cells`, from the first on.
fn line_of(items: Vec<Item>, cells: u16) -> Line<'static> {
    let mut line = Line::default();
    for item in items {
        let gap = if line.spans.is_empty() { "" } else { "  " };
        let wanted: usize = item.iter().map(Span::width).sum();
        if !gap.is_empty() && line.width() + gap.len() + wanted > cells.into() {
            break;
        }
        line.push_span(gap);
        line.spans.extend(item);
    }
    line
}

fn draw_progress(open: &OpenRun, context: &Context<'_>, buf: &mut Buffer, area: Rect) {
    let condition = open.condition();
    let advice = advice(open);
    let share = if advice.is_empty() { 2 } else { 3 };
    let [left, _, right] =
        Layout::horizontal([Length(area.width / share), Length(2), Fill(1)]).areas(area);
    let (step, total) = open.steps().unwrap_or_default();
    let remaining = open.remaining_seconds().filter(|_| condition.is_active());
    let note = remaining.map(|seconds| format!("{} left", text::duration(seconds)));
    let run = Gauge {
        label: "run",
        ratio: step as f64 / total as f64,
        note: note.as_deref().unwrap_or_default(),
        style: sign(condition, context.look()).1,
    };
    run.render(left, buf, context.look());
    if !advice.is_empty() {
        return Line::raw(text::single_line(&advice)).render(right, buf);
    }
    let Some(progress) = &open.progress else {
        return Line::styled("between two phases", context.theme().dim).render(right, buf);
    };
    // Clocks of two machines differ, and clocks are set back.
    let elapsed = seconds_between(progress.since, context.now).max(0.0);
    let mut note = text::duration(elapsed);
    if !progress.detail.is_empty() {
        note = format!("{note}  {}", progress.detail);
    }
    if progress.total > 1 {
        let phase = Gauge {
            label: &progress.phase,
            ratio: progress.done as f64 / progress.total as f64,
            note: &format!("{}/{}  {note}", progress.done, progress.total),
            style: context.theme().info,
        };
        return phase.render(right, buf, context.look());
    }
    Line::raw(text::single_line(&format!("{}  {note}", progress.phase))).render(right, buf);
}

/// What can be done about the condition that a run is in; empty while it is running.
fn advice(open: &OpenRun) -> String {
    let state = open.state.as_ref();
    let hint = Run::from(open).resume_hint();
    match (open.condition(), state) {
        (Condition::Dead, _) => {
            format!("Its process has exited. {hint}; g l shows its last words.")
        }
        (Condition::Failed, state) => {
            let message = state.ok().and_then(|state| state.message.as_deref());
            format!(
                "{}. {hint}; g l shows its log.",
                message.unwrap_or("It failed")
            )
        }
        (Condition::Stopped, _) => format!("It saved and stopped. {hint}."),
        (Condition::Finished, _) => "All steps are done. 5 ranks its save points.".to_owned(),
        (Condition::Paused, _) => "It is paused. p continues it.".to_owned(),
        (Condition::Starting, _) => "It is starting: the model and the data are read.".to_owned(),
        (Condition::Unreadable, _) if open.is_there == Some(false) => {
            "Its directory no longer exists. 1 shows the other runs.".to_owned()
        }
        (Condition::Unreadable, Err(problem)) => format!("run.json: {problem}"),
        (Condition::Elsewhere, Ok(state)) => format!("It runs on {}.", state.host),
        _ => String::new(),
    }
}

/// The newest numbers, each with its name.
fn numbers_of(open: &OpenRun) -> Vec<(&'static str, String)> {
    let state = open.state.as_ref().ok();
    let last = |metric: &str| open.history.last(metric);
    let reward = last("reward").or(state.and_then(|state| state.reward));
    let best = state.and_then(|state| state.best.as_ref());
    let best = best.map(|best| format!("{:.4} {}", best.final_mean, point_of(&best.file)));
    let pace = state.and_then(|state| state.steps_per_second);
    let pace = pace.or(last("step_time").map(|seconds| 1.0 / seconds));
    let speed = |metric| last(metric).map(|speed| text::compact(speed.round()));
    let numbers = [
        ("reward", reward.map(text::compact)),
        ("best Final Mean", best),
        ("steps/s", pace.map(text::compact)),
        ("rollout tokens/s", speed("tokens_per_second/rollout")),
        ("backward tokens/s", speed("tokens_per_second/backward")),
    ];
    let known = numbers
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    known.collect()
}

/// What there is to say about the reading of the run's files.
fn remarks(open: &OpenRun) -> Vec<String> {
    let reading = &open.reading;
    let mut remarks = Vec::new();
    if reading.bytes < reading.total {
        let share = text::percent(reading.bytes as f64 / reading.total as f64);
        let total = text::bytes(reading.total);
        remarks.push(format!("reading the history: {share} of {total}"));
    }
    if reading.bad_lines > 0 {
        let lines = count(reading.bad_lines, "line");
        let latest = reading.latest_bad_line.as_deref().unwrap_or("unknown");
        remarks.push(format!("{lines} cannot be read, the latest: {latest}"));
    }
    if reading.restarts > 0 {
        let times = count(reading.restarts, "time");
        remarks.push(format!("events.jsonl was truncated or replaced {times}"));
    }
    remarks
}
