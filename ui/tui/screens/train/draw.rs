//! Draws the Train screen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::layout::{self, Areas, Pane};
use super::{Train, charts, header, memory, news};
use crate::tui::data::run::OpenRun;
use crate::tui::screens::NO_RUN;
use crate::tui::state::Context;
use crate::tui::text;
use crate::tui::widgets::panel::{Panel, explain, tell};
use crate::tui::widgets::scroll::{ScrollText, text_width};

/// Cells that the value in a chart's title takes, its box included.
const VALUE: usize = 14;
/// From this height on a chart has room for reference lines.
const LABELLED: u16 = 7;

pub(super) fn draw(train: &Train, context: &Context<'_>, buf: &mut Buffer, area: Rect) {
    let Some(open) = &context.world.open else {
        let sentences = [
            "Progress, charts, memory and alarms of a run are shown here.",
            NO_RUN,
        ]
        .map(str::to_owned);
        return explain("Train", &sentences, area, buf, context.look());
    };
    let areas = layout::areas(train, open, area);
    header::draw(open, context, buf, areas.header);
    draw_charts(train, open, context, buf, &areas);
    for (pane, area, hidden) in &areas.boxes {
        draw_box(train, open, context, buf, *pane, *area, hidden);
    }
}

fn draw_charts(
    train: &Train,
    open: &OpenRun,
    context: &Context<'_>,
    buf: &mut Buffer,
    areas: &Areas,
) {
    let (look, area) = (context.look(), areas.charts);
    if area.is_empty() {
        return;
    }
    let names = charts::names(&open.history, &train.filter);
    let selected = train.selected_place(&names);
    let Some(metric) = names.get(selected) else {
        let words = match train.filter.is_empty() {
            true => "Charts appear with the first step.".to_owned(),
            false => format!("No metric matches /{}. esc shows all.", train.filter.text()),
        };
        return tell(&[&words], area, buf, look);
    };
    let has_keyboard = train.pane == Pane::Charts;
    if train.is_expanded {
        let place = format!("{} of {}", selected + 1, names.len());
        draw_bar(train, context, buf, areas.bar, &place);
        charts::with_chart(train, open, metric, look, |chart| {
            let mut chart = *chart;
            chart.is_focused = has_keyboard;
            chart.crosshair = train.crosshair;
            chart.render(area, buf, look);
        });
        return;
    }
    let grid = layout::chart_grid(area, names.len(), selected);
    let last = grid.first + grid.areas.len();
    let place = format!("{} to {last} of {}", grid.first + 1, names.len());
    draw_bar(train, context, buf, areas.bar, &place);
    for (index, area) in grid.areas.iter().enumerate() {
        let index = grid.first + index;
        let Some(metric) = names.get(index) else {
            continue;
        };
        charts::with_chart(train, open, metric, look, |chart| {
            let mut chart = *chart;
            chart.is_focused = has_keyboard && index == selected;
            let short = charts::short_name(metric);
            if text::width(metric) + VALUE > area.width.into() {
                chart.title = &short;
            }
            if area.height < LABELLED {
                // Their labels would hide the line.
                chart.references = &[];
            }
            chart.render(*area, buf, look);
        });
    }
}

/// What the charts show, in words.
fn draw_bar(train: &Train, context: &Context<'_>, buf: &mut Buffer, area: Rect, place: &str) {
    let mut words = vec![format!("Charts {place}")];
    words.push(match charts::WINDOWS.get(train.window) {
        Some(steps) => format!("last {steps} steps"),
        None => "all steps".to_owned(),
    });
    if let Some(weight) = charts::SMOOTHINGS
        .get(train.smoothing)
        .filter(|weight| **weight > 0.0)
    {
        words.push(format!("smoothing {weight}"));
    }
    if let Some((_, end)) = train.frozen {
        words.push(format!("frozen at step {end}"));
    }
    let separator = format!(" {} ", context.glyphs().separator);
    let line = Line::styled(words.join(&separator), context.theme().dim);
    let area = area.intersection(buf.area);
    if !area.is_empty() {
        buf.set_line(area.x, area.y, &line, area.width);
    }
}

fn draw_box(
    train: &Train,
    open: &OpenRun,
    context: &Context<'_>,
    buf: &mut Buffer,
    pane: Pane,
    area: Rect,
    hidden: &[Pane],
) {
    let look = context.look();
    let has_keyboard = train.pane == pane;
    let count = match pane {
        Pane::Alarms => open.alarms.len(),
        Pane::Events => open.timeline.len(),
        _ => 0,
    };
    let title = match count {
        0 => pane.title().to_owned(),
        _ => format!("{} {count}", pane.title()),
    };
    let others: Vec<&str> = hidden.iter().map(|pane| pane.title()).collect();
    let note = match others.is_empty() {
        true => String::new(),
        false => format!("tab: {}", others.join(", ")),
    };
    let inside = Panel::new(&title, has_keyboard)
        .note(&note)
        .render(area, buf, look);
    if pane == Pane::Memory {
        return memory::draw(open, context, buf, inside);
    }
    // Without the keyboard only the newest is shown, and an entry has a line at least.
    let most = if has_keyboard {
        news::SCROLLED
    } else {
        inside.height.into()
    };
    let lines = news::lines(pane, open, context, text_width(inside), most);
    if lines.is_empty() {
        let words = [news::nothing(pane)];
        return tell(&words, inside, buf, look);
    }
    let away = if has_keyboard { train.scroll } else { 0 };
    let offset = match pane {
        Pane::Log => lines
            .len()
            .saturating_sub(usize::from(inside.height) + away),
        _ => away,
    };
    let text = ScrollText {
        lines: &lines,
        offset,
    };
    text.render(inside, buf, look);
}
