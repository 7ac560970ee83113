//! How the Compare screen is laid out and drawn.

use moim_core::score::Comparison;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Widget};

use super::list::{LEGEND, columns};
use super::model::{letter, type_name};
use super::{Compare, Part, detail, header};
use crate::tui::state::Context;
use crate::tui::widgets::focus::{Areas, inside};
use crate::tui::widgets::page::Page;
use crate::tui::widgets::panel::{Panel, explain};
use crate::tui::widgets::scroll::text_width;
use crate::tui::widgets::table::Sheet;

/// Columns from which list and detail are next to each other.
const WIDE: u16 = 110;
/// Columns from which the metrics are next to the header.
const VERY_WIDE: u16 = 140;
/// Rows below which the part with the keyboard gets most of the space.
const SHORT: u16 = 30;
/// Rows of a detail below which blank lines are left out.
const TIGHT: u16 = 16;

/// Cells of the table of metrics; 0 if it does not fit.
fn metrics_width(area: Rect) -> u16 {
    if area.width >= VERY_WIDE {
        header::METRICS_WIDTH
    } else {
        0
    }
}

/// Lays the screen out; `header` is the number of lines of the header.
fn areas(area: Rect, focus: Part, header: usize) -> Areas<Part> {
    let metrics_width = metrics_width(area);
    let mut needed = u16::try_from(header).unwrap_or(u16::MAX);
    if metrics_width > 0 {
        needed = needed.max(5);
    }
    let height = needed.min(area.height / 3);
    let [top, rest] =
        Layout::vertical([Constraint::Length(height), Constraint::Fill(1)]).areas(area);
    let [header, metrics] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(metrics_width)]).areas(top);
    let [list, detail] = if area.width >= WIDE {
        Layout::horizontal([Constraint::Percentage(48), Constraint::Fill(1)]).areas(rest)
    } else {
        let share = match focus {
            _ if area.height >= SHORT => 45,
            Part::Detail => 35,
            _ => 55,
        };
        Layout::vertical([Constraint::Percentage(share), Constraint::Fill(1)]).areas(rest)
    };
    Areas::new([
        (Part::Header, header),
        (Part::Metrics, metrics),
        (Part::List, list),
        (Part::Detail, detail),
    ])
}

/// Draws the screen.
pub(super) fn draw(screen: &Compare, context: &Context<'_>, frame: &mut Frame<'_>, area: Rect) {
    let look = context.look();
    let Some(data) = screen.data.as_deref() else {
        let sentences = screen.nothing_yet(context);
        return explain("Compare", &sentences, area, frame.buffer_mut(), look);
    };
    let comparison = &data.comparison;
    let cells = usize::from(area.width.saturating_sub(metrics_width(area)));
    let mut page = Page::new(cells);
    screen.warnings(&mut page, context);
    header::write(&mut page, comparison, screen.other, look);
    let areas = areas(area, screen.focus.now(), page.lines.len());
    screen.focus.drawn(&areas);
    show(page.lines, frame, areas.of(Part::Header));
    if areas.shows(Part::Metrics) {
        let lines = header::metrics(comparison, screen.other, look);
        show(lines, frame, areas.of(Part::Metrics));
    }
    draw_list(screen, comparison, context, frame, areas.of(Part::List));
    draw_detail(screen, comparison, context, frame, areas.of(Part::Detail));
}

fn show(lines: Vec<Line<'_>>, frame: &mut Frame<'_>, area: Rect) {
    let area = area.intersection(frame.area());
    Paragraph::new(lines).render(area, frame.buffer_mut());
}

fn draw_list(
    screen: &Compare,
    comparison: &Comparison,
    context: &Context<'_>,
    frame: &mut Frame<'_>,
    area: Rect,
) {
    let look = context.look();
    let query = &screen.query;
    let words = query.in_words(comparison.files.len());
    let title = format!(
        "{} of {}: {words}",
        screen.shown.len(),
        comparison.items.len()
    );
    let note = match query.sorted {
        None => LEGEND.to_owned(),
        Some(_) => {
            let first = if query.is_reversed { "gains" } else { "losses" };
            let (a, b) = (letter(0), letter(screen.other));
            format!("by {}, {b} minus {a}, {first} first", query.metric().name)
        }
    };
    let panel = Panel::new(&title, screen.focus.is(Part::List)).note(&note);
    let inside = panel.render(area, frame.buffer_mut(), look);
    let sheet = Sheet {
        columns: &columns(comparison, screen.other, query.metric()),
        items: &screen.items(comparison),
        marks: &[],
        sort: query.sort(),
        style: &|_, _| Default::default(),
        empty: "No such item; f and t choose others, / changes the filter, esc shows all.",
    };
    screen.table.draw(&sheet, inside, frame.buffer_mut(), look);
}

fn draw_detail(
    screen: &Compare,
    comparison: &Comparison,
    context: &Context<'_>,
    frame: &mut Frame<'_>,
    area: Rect,
) {
    let look = context.look();
    let is_focused = screen.focus.is(Part::Detail);
    let Some(item) = screen.selected() else {
        Panel::new("Item", is_focused).render(area, frame.buffer_mut(), look);
        return;
    };
    let inside = inside(area);
    let form = detail::Form {
        other: screen.other,
        mode: screen.diff,
        cuts: screen.cuts,
        cells: text_width(inside),
        is_tight: inside.height < TIGHT,
    };
    let lines = detail::lines(item, comparison, form, look);
    let title = format!("{}, {}", item.id, type_name(&item.question_type));
    let mut note = screen.diff.name().to_owned();
    if screen.cuts {
        note.push_str(", lines cut");
    }
    let panel = Panel::new(&title, is_focused).note(&note);
    screen
        .reading
        .draw_boxed(&panel, &lines, area, frame.buffer_mut(), look);
}
