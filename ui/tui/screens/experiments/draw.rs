//! How the Experiments screen is laid out and drawn.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Margin, Position, Rect};
use ratatui::text::Line;

use super::details;
use super::rows::{SORTS, file_columns, file_row, run_columns, run_row, sorted};
use super::{Experiments, Pane};
use crate::tui::screens::words::name;
use crate::tui::state::Context;
use crate::tui::widgets::old_table::{Row, Table};
use crate::tui::widgets::panel::Panel;
use crate::tui::widgets::scroll::{ScrollText, text_width, wrapped};

/// The parts of the screen, each with its box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Areas {
    files: Rect,
    runs: Rect,
    details: Rect,
    /// Of no size while nothing is queued.
    queue: Rect,
}

/// From 160 columns the runs have a side of their own with every column, from 120 both lists are
/// side by side, below that stacked.
fn areas(body: Rect, queued: usize) -> Areas {
    let queue_lines = u16::try_from(queued).unwrap_or(u16::MAX).min(8);
    if body.width >= 160 {
        let [left, runs] =
            Layout::horizontal([Constraint::Length(52), Constraint::Fill(1)]).areas(body);
        let queue_height = if queued == 0 { 0 } else { queue_lines + 2 };
        let [files, details, queue] = Layout::vertical([
            Constraint::Fill(2),
            Constraint::Fill(3),
            Constraint::Length(queue_height),
        ])
        .areas(left);
        return Areas {
            files,
            runs,
            details,
            queue,
        };
    }
    let (files, runs, below) = if body.width >= 120 {
        let [lists, below] =
            Layout::vertical([Constraint::Fill(3), Constraint::Fill(2)]).areas(body);
        let [files, runs] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Fill(2)]).areas(lists);
        (files, runs, below)
    } else {
        let [files, runs, below] = Layout::vertical([
            Constraint::Fill(3),
            Constraint::Fill(4),
            Constraint::Fill(4),
        ])
        .areas(body);
        (files, runs, below)
    };
    let queue_width = if queued == 0 { 0 } else { 30 };
    let [details, queue] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(queue_width)]).areas(below);
    Areas {
        files,
        runs,
        details,
        queue,
    }
}

/// The inside of a box.
fn inside(area: Rect) -> Rect {
    area.inner(Margin::new(1, 1))
}

/// Lines of the list that the keys go to, for the length of a page.
pub fn page(screen: &Experiments, context: &Context<'_>) -> usize {
    let areas = areas(context.body, context.world.queue.len());
    let list = match (screen.reading, screen.pane) {
        (Some(_), _) => areas.details,
        (None, Pane::Files) => areas.files,
        (None, Pane::Runs) => areas.runs,
    };
    // The heads take a line.
    usize::from(inside(list).height.saturating_sub(1))
}

/// How far the details can be scrolled, in lines.
pub fn last_scroll(screen: &Experiments, context: &Context<'_>) -> usize {
    let area = inside(areas(context.body, context.world.queue.len()).details);
    let (_, lines) = details::lines(screen, context, text_width(area));
    lines.len().saturating_sub(usize::from(area.height))
}

/// Draws the screen.
pub fn draw(screen: &Experiments, context: &Context<'_>, buf: &mut Buffer, area: Rect) {
    let areas = areas(area, context.world.queue.len());
    draw_files(screen, context, buf, areas.files);
    draw_runs(screen, context, buf, areas.runs);
    draw_details(screen, context, buf, areas.details);
    if !areas.queue.is_empty() {
        draw_queue(context, buf, areas.queue);
    }
}

fn draw_files(screen: &Experiments, context: &Context<'_>, buf: &mut Buffer, area: Rect) {
    let files = screen.files(context);
    let note = position(screen.file.index(), files.len());
    let is_focused = screen.pane == Pane::Files && screen.reading.is_none();
    let area = Panel::new("Experiments", is_focused)
        .note(&note)
        .render(area, buf, context.look());
    let empty = match &context.world.index {
        None => "The folder is being read.".to_owned(),
        Some(_) if !screen.filter.is_empty() => "Nothing passes the filter.".to_owned(),
        Some(index) => format!("No .toml file in {}.", index.experiments_dir.display()),
    };
    let row = |index: usize| match files.get(index) {
        Some(file) => file_row(screen, file, context),
        None => Row::default(),
    };
    Table {
        columns: &file_columns(),
        len: files.len(),
        cursor: screen.file.index(),
        row: &row,
        sort: None,
        empty: &empty,
    }
    .render(area, buf, context.look());
}

fn draw_runs(screen: &Experiments, context: &Context<'_>, buf: &mut Buffer, area: Rect) {
    let runs = screen.runs(context);
    let note = position(screen.run.index(), runs.len());
    let is_focused = screen.pane == Pane::Runs && screen.reading.is_none();
    let area = Panel::new("Runs", is_focused)
        .note(&note)
        .render(area, buf, context.look());
    let empty = match &context.world.index {
        None => "The folder is being read.",
        Some(_) if !screen.filter.is_empty() => "Nothing passes the filter.",
        Some(_) => "No run yet: select an experiment and start it with s.",
    };
    let row = |index: usize| match runs.get(index) {
        Some(run) => run_row(screen, run, context),
        None => Row::default(),
    };
    Table {
        columns: &run_columns(),
        len: runs.len(),
        cursor: screen.run.index(),
        row: &row,
        sort: sorted(screen.sort),
        empty,
    }
    .render(area, buf, context.look());
}

/// `3 of 12`.
fn position(cursor: usize, len: usize) -> String {
    match len {
        0 => String::new(),
        _ => format!("{} of {len}", cursor + 1),
    }
}

fn draw_details(screen: &Experiments, context: &Context<'_>, buf: &mut Buffer, area: Rect) {
    let (title, lines) = details::lines(screen, context, text_width(inside(area)));
    let area = Panel::new(&title, screen.reading.is_some()).render(area, buf, context.look());
    let text = ScrollText {
        lines: &lines,
        offset: screen.reading.unwrap_or_default(),
    };
    text.render(area, buf, context.look());
}

fn draw_queue(context: &Context<'_>, buf: &mut Buffer, area: Rect) {
    let queue = &context.world.queue;
    let note = format!("{} wait", queue.len());
    let area = Panel::new("Queue", false)
        .note(&note)
        .render(area, buf, context.look());
    let style = context.theme().text;
    let lines: Vec<Line<'_>> = queue
        .iter()
        .enumerate()
        .flat_map(|(index, path)| {
            wrapped(
                &format!("{} {}", index + 1, name(path)),
                text_width(area),
                style,
            )
        })
        .collect();
    let text = ScrollText {
        lines: &lines,
        offset: 0,
    };
    text.render(area, buf, context.look());
}

/// A click selects a line; one on the head of a column of runs sorts by it.
pub fn click(screen: &mut Experiments, at: Position, context: &Context<'_>) {
    let areas = areas(context.body, context.world.queue.len());
    let no_row = |_: usize| Row::default();
    let (pane, area, columns, len, cursor) = if areas.files.contains(at) {
        let len = screen.files(context).len();
        (
            Pane::Files,
            areas.files,
            file_columns(),
            len,
            screen.file.index(),
        )
    } else if areas.runs.contains(at) {
        let len = screen.runs(context).len();
        (
            Pane::Runs,
            areas.runs,
            run_columns(),
            len,
            screen.run.index(),
        )
    } else {
        return;
    };
    let table = Table {
        columns: &columns,
        len,
        cursor,
        row: &no_row,
        sort: None,
        empty: "",
    };
    screen.pane = pane;
    screen.reading = None;
    if let Some(row) = table.row_at(inside(area), at) {
        screen.select(row, context);
    }
    let head = table
        .head_at(inside(area), at)
        .filter(|_| pane == Pane::Runs);
    if let Some(sort) = head.and_then(|column| SORTS.get(column).copied().flatten()) {
        screen.sort = sort;
        screen.follow(context);
    }
}
