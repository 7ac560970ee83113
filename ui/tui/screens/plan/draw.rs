//! The layout of the Plan screen, and its form.

use ratatui::buffer::Buffer;
use ratatui::layout::Constraint::{Fill, Length};
use ratatui::layout::{Layout, Position, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget};

use super::Plan;
use super::edit::Content;
use super::form::{Field, Form, FormLine};
use super::panels::{draw_batch, draw_help, draw_memory};
use crate::tui::screens::words::{count, name};
use crate::tui::state::Context;
use crate::tui::text::{Align, aligned, single_line, truncate, width};
use crate::tui::widgets::panel::{Panel, explain};

/// Cells across in which the memory's legend has a column for every phase.
const MEMORY: u16 = 51;
/// Cells for the cursor and the mark before a name.
const LEAD: usize = 3;
/// Cells of the longest name of a key.
const NAME: usize = 27;

/// The boxes of form, help, batch and memory: from 160 columns in three columns, from 120 in two,
/// below that one under the other.
fn areas(body: Rect) -> [Rect; 4] {
    if body.width >= 160 {
        let [form, middle, memory] =
            Layout::horizontal([Fill(5), Fill(4), Length(MEMORY)]).areas(body);
        let [help, batch] = Layout::vertical([Fill(1), Fill(1)]).areas(middle);
        [form, help, batch, memory]
    } else if body.width >= 120 {
        let [form, right] = Layout::horizontal([Fill(6), Fill(5)]).areas(body);
        let [help, batch, memory] = Layout::vertical([Length(7), Length(10), Fill(1)]).areas(right);
        [form, help, batch, memory]
    } else {
        Layout::vertical([Fill(1), Length(2), Length(6), Length(5)]).areas(body)
    }
}

/// Draws the screen; returns the caret's cell while a value is typed.
pub fn draw(
    screen: &Plan,
    context: &Context<'_>,
    buf: &mut Buffer,
    area: Rect,
) -> Option<Position> {
    let Some(form) = &screen.form else {
        let sentences = match &screen.wanted {
            Some(path) => vec![format!("{} is being read.", path.display())],
            None => [
                "The keys of an experiment are edited here with help and checks; its batch and \
                 its memory are worked out at every key.",
                "No experiment is open: press 1, select one and press e.",
            ]
            .map(str::to_owned)
            .to_vec(),
        };
        explain("Plan", &sentences, area, buf, context.look());
        return None;
    };
    let [form_area, help, batch, memory] = areas(area);
    draw_help(screen, form, context, buf, help);
    draw_batch(form, context, buf, batch);
    if let Some(known) = &screen.memory {
        draw_memory(known, context, buf, memory);
    }
    draw_form(screen, form, context, buf, form_area)
}

fn draw_form(
    screen: &Plan,
    form: &Form,
    context: &Context<'_>,
    buf: &mut Buffer,
    area: Rect,
) -> Option<Position> {
    let (look, theme) = (context.look(), context.theme());
    let note = match form.fault_count() {
        0 => format!("{} no fault", look.glyphs.good),
        faults => format!("{} {}", look.glyphs.bad, count(faults, "fault")),
    };
    let mut title = name(&form.path);
    if form.is_changed() {
        title.push_str(" (unsaved)");
    }
    if form.newer.is_some() {
        title.push_str(" (changed on the disk)");
    }
    let area = Panel::new(&title, true).note(&note).render(area, buf, look);
    let lines = form.lines(&screen.filter);
    if lines.is_empty() {
        let words = if screen.filter.is_empty() {
            "The file has no keys."
        } else {
            "No key passes the filter; esc clears it."
        };
        Paragraph::new(words).style(theme.dim).render(area, buf);
        return None;
    }
    let mut caret = None;
    let draw_row = |line: &FormLine, is_selected: bool, row: Rect, buf: &mut Buffer| {
        let entry = screen.entry.as_ref().filter(|_| is_selected);
        let cursor = if is_selected { look.glyphs.cursor } else { " " };
        let mut spans = vec![Span::styled(cursor, theme.accent)];
        match (*line, form.field(*line)) {
            (FormLine::Section(section), _) => {
                spans.push(Span::styled(format!("[{section}]"), theme.header));
            }
            (FormLine::Loose(index), _) => {
                let fault = form.loose.get(index).map(ToString::to_string);
                let words = single_line(&fault.unwrap_or_default());
                let words = format!("{} {words}", look.glyphs.bad);
                spans.push(Span::styled(words, theme.bad));
            }
            (FormLine::Key(_), Some(field)) => {
                spans.extend(name_spans(field, context));
                if entry.is_none() {
                    let room = usize::from(row.width).saturating_sub(LEAD + NAME + 2);
                    spans.extend(value_spans(field, room, context));
                }
            }
            (FormLine::Key(_), None) => {}
        }
        Line::from(spans).render(row, buf);
        if let Some(entry) = entry {
            let start = u16::try_from(LEAD + NAME + 2).unwrap_or(u16::MAX);
            let area = Rect {
                x: row.x.saturating_add(start),
                width: row.width.saturating_sub(start),
                ..row
            };
            let area = area.intersection(row);
            match &entry.content {
                Content::Line(field) => caret = Some(field.render(area, buf, theme.selection)),
                Content::Choice { .. } => {
                    let words = format!("< {} >", entry.content.value());
                    Line::styled(words, theme.selection).render(area, buf);
                }
            }
        } else if is_selected {
            buf.set_style(row, theme.selection);
        }
    };
    screen.list.draw(&lines, area, buf, look, draw_row);
    caret
}

/// The mark of a key, and its name.
fn name_spans(field: &Field, context: &Context<'_>) -> [Span<'static>; 2] {
    let (glyphs, theme) = (context.glyphs(), context.theme());
    let (mark, style) = if !field.faults.is_empty() {
        (glyphs.bad, theme.bad)
    } else if field.value != field.saved {
        ("*", theme.accent)
    } else {
        (" ", theme.text)
    };
    let name = aligned(field.key.name, NAME, Align::Left, glyphs.ellipsis);
    [
        Span::styled(format!("{mark} "), style),
        Span::styled(format!("{name}  "), theme.text),
    ]
}

/// The value of a key, and its first fault.
fn value_spans(field: &Field, room: usize, context: &Context<'_>) -> Vec<Span<'static>> {
    let (ellipsis, theme) = (context.glyphs().ellipsis, context.theme());
    let fault = field.faults.first();
    let (value, style) = match (&field.value, field.key.default.as_deref()) {
        (Some(value), _) if fault.is_some() => (single_line(value), theme.bad),
        (Some(value), _) => (single_line(value), theme.text),
        (None, Some(REQUIRED)) => ("required".to_owned(), theme.dim),
        (None, Some(value)) => (format!("{} (default)", single_line(value)), theme.dim),
        (None, None) => ("not set".to_owned(), theme.dim),
    };
    let value = truncate(&value, room, ellipsis);
    let rest = room.saturating_sub(width(&value) + 2);
    let mut spans = vec![Span::styled(value, style)];
    if let Some(fault) = fault {
        let words = single_line(&format!("{}; {}", fault.problem, fault.hint));
        let words = truncate(&words, rest, ellipsis);
        spans.push(Span::styled(format!("  {words}"), theme.bad));
    }
    spans
}

/// The default of a key that must be set: an empty path.
pub const REQUIRED: &str = "\"\"";
