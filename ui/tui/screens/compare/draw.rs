//! Drawing the Compare screen.

use moim_core::score::Comparison;
use moim_core::score::compare::ComparedItem;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Margin, Rect};
use ratatui::text::Line;

use super::list::{LEGEND, List};
use super::model::{Order, letter, type_name};
use super::{Compare, Focus, detail, header};
use crate::tui::state::Context;
use crate::tui::widgets::old_table::{self as table, Table};
use crate::tui::widgets::panel::{Panel, explain};
use crate::tui::widgets::scroll::{ScrollText, position, text_width, visible};

/// Where the parts of the screen lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Areas {
    pub(super) header: Rect,
    /// The table of metrics; empty where there is no room.
    pub(super) metrics: Rect,
    pub(super) list: Rect,
    pub(super) detail: Rect,
}

/// Columns from which list and detail stand side by side.
const WIDE: u16 = 110;
/// Columns from which the metrics stand beside the header.
const VERY_WIDE: u16 = 140;
/// Rows below which the part with the keyboard gets most of the room.
const SHORT: u16 = 30;

/// Rows of a detail below which blank lines are left out.
const TIGHT: u16 = 16;

impl Areas {
    /// Lays the screen out; `header` is the number of lines that the header needs at a width.
    pub(super) fn of(area: Rect, focus: Focus, header: impl Fn(usize) -> usize) -> Self {
        let metrics_width = match area.width >= VERY_WIDE {
            true => header::METRICS_WIDTH,
            false => 0,
        };
        let words_width = usize::from(area.width.saturating_sub(metrics_width));
        let needed = u16::try_from(header(words_width)).unwrap_or(u16::MAX);
        let needed = if metrics_width > 0 {
            needed.max(5)
        } else {
            needed
        };
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
                Focus::List => 55,
                Focus::Detail => 35,
            };
            Layout::vertical([Constraint::Percentage(share), Constraint::Fill(1)]).areas(rest)
        };
        Self {
            header,
            metrics,
            list,
            detail,
        }
    }

    /// What lies within the box of an area.
    pub(super) fn inside(area: Rect) -> Rect {
        area.inner(Margin::new(1, 1))
    }
}

/// Draws the screen.
pub(super) fn draw(screen: &Compare, context: &Context<'_>, frame: &mut Frame<'_>, area: Rect) {
    let Some(data) = screen.data.as_deref() else {
        explain(
            "Compare",
            &screen.nothing_yet(context),
            area,
            frame.buffer_mut(),
            context.look(),
        );
        return;
    };
    let comparison = &data.comparison;
    let areas = screen.areas(comparison, context, area);
    let look = context.look();
    let mut lines = header_lines(screen, comparison, context, usize::from(areas.header.width));
    lines.truncate(usize::from(areas.header.height));
    show(&lines, 0, context, frame, areas.header);
    if !areas.metrics.is_empty() {
        let lines = header::metrics(comparison, screen.other, look);
        show(&lines, 0, context, frame, areas.metrics);
    }
    draw_list(screen, comparison, context, frame, areas.list);
    draw_detail(screen, comparison, context, frame, areas.detail);
}

/// News of the files, then what the comparison comes to.
pub(super) fn header_lines(
    screen: &Compare,
    comparison: &Comparison,
    context: &Context<'_>,
    cells: usize,
) -> Vec<Line<'static>> {
    let mut lines = screen.news(context, cells);
    lines.extend(header::lines(
        comparison,
        screen.other,
        cells,
        context.look(),
    ));
    lines
}

fn show(
    lines: &[Line<'_>],
    offset: usize,
    context: &Context<'_>,
    frame: &mut Frame<'_>,
    area: Rect,
) {
    let text = ScrollText { lines, offset };
    text.render(area, frame.buffer_mut(), context.look());
}

fn draw_list(
    screen: &Compare,
    comparison: &Comparison,
    context: &Context<'_>,
    frame: &mut Frame<'_>,
    area: Rect,
) {
    let look = context.look();
    let words = screen.query.in_words(comparison.files.len());
    let title = format!(
        "{} of {}: {words}",
        screen.shown.len(),
        comparison.items.len()
    );
    let note = match screen.query.order {
        Order::Labels => LEGEND.to_owned(),
        Order::Change(metric) => {
            let first = if screen.query.is_reversed {
                "gains"
            } else {
                "losses"
            };
            let (a, b) = (letter(0), letter(screen.other));
            format!("by {}, {b} minus {a}, {first} first", metric.name())
        }
    };
    let panel = Panel::new(&title, screen.focus == Focus::List).note(&note);
    let inside = panel.render(area, frame.buffer_mut(), look);
    table(screen, comparison, context, |table| {
        table.render(inside, frame.buffer_mut(), look);
    });
}

/// Puts the list together and hands it to `work`: for drawing, and for finding what was clicked.
pub(super) fn table<Done>(
    screen: &Compare,
    comparison: &Comparison,
    context: &Context<'_>,
    work: impl FnOnce(&Table<'_>) -> Done,
) -> Done {
    let list = List::new(comparison, screen.other, screen.query.order);
    let columns = list.columns();
    let item_of = |place: usize| comparison.items.get(*screen.shown.get(place)?);
    let row = |place: usize| {
        let item = item_of(place);
        item.map(|item| list.row(item, context.look()))
            .unwrap_or_default()
    };
    let sort = match screen.query.order {
        Order::Labels => None,
        Order::Change(_) => list.sorted().map(|column| match screen.query.is_reversed {
            true => (column, table::Order::Descending),
            false => (column, table::Order::Ascending),
        }),
    };
    work(&Table {
        columns: &columns,
        len: screen.shown.len(),
        cursor: screen.place(),
        row: &row,
        sort,
        empty: "No such item; f and t choose others, / changes the filter, esc shows all.",
    })
}

fn draw_detail(
    screen: &Compare,
    comparison: &Comparison,
    context: &Context<'_>,
    frame: &mut Frame<'_>,
    area: Rect,
) {
    let look = context.look();
    let Some(item) = screen.selected() else {
        Panel::new("Item", screen.focus == Focus::Detail).render(area, frame.buffer_mut(), look);
        return;
    };
    let inside = Areas::inside(area);
    let lines = detail_lines(screen, item, comparison, context, inside);
    let shown = visible(
        screen.detail_scroll,
        lines.len(),
        usize::from(inside.height),
    );
    let title = format!("{}, {}", item.id, type_name(&item.question_type));
    let mut note = screen.diff.in_words().to_owned();
    if screen.cuts {
        note.push_str(", lines cut");
    }
    let place = position(&shown, lines.len());
    if !place.is_empty() {
        note = format!("{note}, {place}");
    }
    let panel = Panel::new(&title, screen.focus == Focus::Detail).note(&note);
    panel.render(area, frame.buffer_mut(), look);
    show(&lines, screen.detail_scroll, context, frame, inside);
}

/// The detail of an item as lines.
pub(super) fn detail_lines(
    screen: &Compare,
    item: &ComparedItem,
    comparison: &Comparison,
    context: &Context<'_>,
    inside: Rect,
) -> Vec<Line<'static>> {
    let form = detail::Form {
        other: screen.other,
        mode: screen.diff,
        cuts: screen.cuts,
        cells: text_width(inside),
        is_tight: inside.height < TIGHT,
    };
    detail::lines(item, comparison, form, context.look())
}
