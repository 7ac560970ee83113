//! Draws the Train screen.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Widget;

use super::layout::{self, Areas};
use super::{Part, Train, charts, header, memory, panes};
use crate::tui::data::run::OpenRun;
use crate::tui::screens::NO_RUN;
use crate::tui::state::Context;
use crate::tui::text;
use crate::tui::widgets::focus::Part as _;
use crate::tui::widgets::panel::{Panel, explain, tell};
use crate::tui::widgets::scroll::text_width;

/// Cells that the value in a chart's title takes, its box included.
const VALUE: usize = 14;
/// From this height on reference lines fit into a chart.
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
    for part in Part::RING.iter().filter(|part| areas.parts.shows(**part)) {
        if *part == Part::Charts {
            draw_charts(train, open, context, buf, &areas);
        } else {
            draw_part(train, open, context, buf, &areas, *part);
        }
    }
}

fn draw_charts(
    train: &Train,
    open: &OpenRun,
    context: &Context<'_>,
    buf: &mut Buffer,
    areas: &Areas,
) {
    let (look, area) = (context.look(), areas.parts.of(Part::Charts));
    let names = charts::names(&open.history, &train.filter);
    if names.is_empty() {
        let words = if train.filter.is_empty() {
            "Charts appear with the first step.".to_owned()
        } else {
            format!("No metric matches /{}. esc shows all.", train.filter.text())
        };
        return tell(&[&words], area, buf, look);
    }
    let selected = train.selected_in(&names);
    let has_keyboard = train.focus.is(Part::Charts);
    let (shown, place) = if train.is_expanded {
        let place = format!("{} of {}", selected + 1, names.len());
        (vec![(selected, area)], place)
    } else {
        let grid = layout::chart_grid(area, names.len(), selected);
        let last = grid.first + grid.areas.len();
        let place = format!("{} to {last} of {}", grid.first + 1, names.len());
        ((grid.first..).zip(grid.areas).collect(), place)
    };
    let bar = Line::styled(bar(train, context, &place), context.theme().dim);
    bar.render(areas.bar, buf);
    for (index, area) in shown {
        let Some(metric) = names.get(index) else {
            continue;
        };
        let borrowed = charts::borrowed(open, metric, look);
        let mut chart = charts::chart(train, open, metric, &borrowed);
        chart.is_focused = has_keyboard && index == selected;
        let short = charts::short_name(metric);
        if train.is_expanded {
            chart.crosshair = train.crosshair;
        } else if text::width(metric) + VALUE > area.width.into() {
            chart.title = &short;
        }
        if area.height < LABELLED && !train.is_expanded {
            // Their labels would hide the line.
            chart.references = &[];
        }
        chart.render(area, buf, look);
    }
}

/// What the charts show, as text.
fn bar(train: &Train, context: &Context<'_>, place: &str) -> String {
    let mut words = vec![format!("Charts {place}")];
    words.push(match charts::WINDOWS.get(train.window) {
        Some(steps) if steps.is_finite() => format!("last {steps} steps"),
        _ => "all steps".to_owned(),
    });
    let smoothing = charts::SMOOTHINGS.get(train.smoothing);
    if let Some(weight) = smoothing.filter(|weight| **weight > 0.0) {
        words.push(format!("smoothing {weight}"));
    }
    if let Some((_, end)) = train.frozen {
        words.push(format!("frozen at step {end}"));
    }
    words.join(&format!(" {} ", context.glyphs().separator))
}

fn draw_part(
    train: &Train,
    open: &OpenRun,
    context: &Context<'_>,
    buf: &mut Buffer,
    areas: &Areas,
    part: Part,
) {
    let look = context.look();
    let has_keyboard = train.focus.is(part);
    let title = match part {
        Part::Alarms if !open.alarms.is_empty() => format!("Alarms {}", open.alarms.len()),
        Part::Events if !open.timeline.is_empty() => format!("Events {}", open.timeline.len()),
        _ => part.title().to_owned(),
    };
    let hidden = Part::RING.iter().filter(|part| !areas.parts.shows(**part));
    let hidden: Vec<&str> = hidden.map(|part| part.title()).collect();
    // Memory has its own box, unless one box is all there is.
    let is_shared = part != Part::Memory || hidden.len() + 2 == Part::RING.len();
    let note = if hidden.is_empty() || !is_shared || !areas.parts.shows(Part::Charts) {
        String::new()
    } else {
        format!("tab: {}", hidden.join(", "))
    };
    let panel = Panel::new(&title, has_keyboard).note(&note);
    let inside: Rect = panel.render(areas.parts.of(part), buf, look);
    if part == Part::Memory {
        return memory::draw(open, context, buf, inside);
    }
    // Without the keyboard only the newest is shown, and an entry has at least a line.
    let (reading, most) = if has_keyboard {
        (&train.reading, panes::SCROLLED)
    } else {
        (&part.unread(), inside.height.into())
    };
    let lines = panes::lines(part, open, context, text_width(inside), most);
    if lines.is_empty() {
        let nothing = match part {
            Part::Alarms => "No alarm has been raised.",
            Part::Events => "Save points, scores and pauses appear here.",
            _ => "The trainer has not written anything yet.",
        };
        return tell(&[nothing], inside, buf, look);
    }
    reading.draw(&lines, inside, buf, look);
}
