//! How the Plan screen is laid out, and the form drawn.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Margin, Position, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget};

use super::Plan;
use super::entry::{Absent, Content};
use super::form::Form;
use super::lines::{FormLine, lines};
use super::panels::{draw_batch, draw_help, draw_memory};
use crate::tui::screens::words::{count, name};
use crate::tui::state::Context;
use crate::tui::text::{Align, aligned, single_line, truncate, width};
use crate::tui::widgets::old_table::window;
use crate::tui::widgets::panel::{Panel, explain};
use crate::tui::widgets::scroll::scrollbar;

/// The parts of the screen, each with its box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Areas {
    form: Rect,
    help: Rect,
    batch: Rect,
    memory: Rect,
}

/// Cells across in which the memory's legend has a column for every phase.
const MEMORY: u16 = 51;

/// From 160 columns three columns, from 120 two, below that everything under the form.
fn areas(body: Rect) -> Areas {
    if body.width >= 160 {
        let [form, middle, memory] = Layout::horizontal([
            Constraint::Fill(5),
            Constraint::Fill(4),
            Constraint::Length(MEMORY),
        ])
        .areas(body);
        let [help, batch] =
            Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).areas(middle);
        return Areas {
            form,
            help,
            batch,
            memory,
        };
    }
    if body.width >= 120 {
        let [form, right] =
            Layout::horizontal([Constraint::Fill(6), Constraint::Fill(5)]).areas(body);
        let [help, batch, memory] = Layout::vertical([
            Constraint::Length(7),
            Constraint::Length(10),
            Constraint::Fill(1),
        ])
        .areas(right);
        return Areas {
            form,
            help,
            batch,
            memory,
        };
    }
    let [form, help, batch, memory] = Layout::vertical([
        Constraint::Fill(1),
        Constraint::Length(2),
        Constraint::Length(6),
        Constraint::Length(5),
    ])
    .areas(body);
    Areas {
        form,
        help,
        batch,
        memory,
    }
}

fn inside(area: Rect) -> Rect {
    area.inner(Margin::new(1, 1))
}

/// Lines of the form, for the length of a page.
pub fn page(context: &Context<'_>) -> usize {
    usize::from(inside(areas(context.body).form).height)
}

/// Draws the screen; answers the caret's cell while a value is typed.
pub fn draw(
    screen: &Plan,
    context: &Context<'_>,
    buf: &mut Buffer,
    area: Rect,
) -> Option<Position> {
    let areas = areas(area);
    let Some(form) = &screen.form else {
        explain("Plan", &nothing_yet(screen), area, buf, context.look());
        return None;
    };
    draw_help(screen, form, context, buf, areas.help);
    draw_batch(form, context, buf, areas.batch);
    draw_memory(&screen.memory, context, buf, areas.memory);
    draw_form(screen, form, context, buf, areas.form)
}

/// What is said while there is no form.
fn nothing_yet(screen: &Plan) -> Vec<String> {
    match &screen.wanted {
        Some(path) => vec![format!("{} is being read.", path.display())],
        None => vec![
            "The keys of an experiment are edited here with help and checks, and what its batch \
             comes to and what memory it takes is worked out at every key."
                .to_owned(),
            "No experiment is open: press 1, select one and press e.".to_owned(),
        ],
    }
}

fn title(form: &Form) -> String {
    let mut title = name(form.path());
    if form.is_changed() {
        title.push_str(" (unsaved)");
    }
    if form.newer().is_some() {
        title.push_str(" (changed on the disk)");
    }
    title
}

fn draw_form(
    screen: &Plan,
    form: &Form,
    context: &Context<'_>,
    buf: &mut Buffer,
    area: Rect,
) -> Option<Position> {
    let look = context.look();
    let note = match form.faults().len() {
        0 => format!("{} no fault", look.glyphs.good),
        number => format!("{} {}", look.glyphs.bad, count(number, "fault")),
    };
    let title = title(form);
    let area = Panel::new(&title, true).note(&note).render(area, buf, look);
    let all = lines(form, &screen.filter);
    if all.is_empty() {
        let words = match screen.filter.is_empty() {
            true => "The file is empty of keys.",
            false => "No key passes the filter; esc clears it.",
        };
        Paragraph::new(words)
            .style(context.theme().dim)
            .render(area, buf);
        return None;
    }
    let selected = screen.place();
    let cursor = all.iter().position(|line| Some(*line) == selected);
    let shown = window(
        cursor.unwrap_or_default(),
        all.len(),
        usize::from(area.height),
    );
    let mut caret = None;
    for (row, line) in (area.top()..area.bottom()).zip(all.get(shown.clone()).unwrap_or_default()) {
        let place = Rect {
            y: row,
            width: area.width.saturating_sub(1),
            height: 1,
            ..area
        };
        let drawn = draw_line(
            screen,
            form,
            *line,
            Some(*line) == selected,
            context,
            buf,
            place,
        );
        caret = caret.or(drawn);
    }
    if shown.len() < all.len() {
        scrollbar(area, buf, &shown, all.len(), look);
    }
    caret
}

/// Cells for the cursor and the mark before a name.
const LEAD: usize = 3;
/// Cells of the longest name of a key.
const NAME: usize = 27;

fn draw_line(
    screen: &Plan,
    form: &Form,
    line: FormLine,
    is_selected: bool,
    context: &Context<'_>,
    buf: &mut Buffer,
    area: Rect,
) -> Option<Position> {
    let (look, theme) = (context.look(), context.theme());
    let room = usize::from(area.width);
    let cursor = if is_selected { look.glyphs.cursor } else { " " };
    let mut spans = vec![Span::styled(cursor, theme.accent)];
    match line {
        FormLine::Section(section) => {
            spans.push(Span::styled(format!("[{section}]"), theme.header));
        }
        FormLine::Loose(index) => {
            let fault = form.loose_faults().get(index).map(ToString::to_string);
            let words = single_line(&fault.unwrap_or_default());
            spans.push(Span::styled(
                format!("{} {words}", look.glyphs.bad),
                theme.bad,
            ));
        }
        FormLine::Key(key) => {
            spans.extend(key_spans(form, key, room, context));
            let entry = screen
                .entry
                .as_ref()
                .filter(|entry| is_selected && entry.key == key);
            if let Some(entry) = entry {
                spans.truncate(3);
                Line::from(spans).render(area, buf);
                let start = LEAD + NAME + 2;
                let field = Rect {
                    x: area
                        .x
                        .saturating_add(u16::try_from(start).unwrap_or(u16::MAX)),
                    width: area
                        .width
                        .saturating_sub(u16::try_from(start).unwrap_or(u16::MAX)),
                    ..area
                }
                .intersection(area);
                return draw_content(&entry.content, context, buf, field);
            }
        }
    }
    Line::from(spans).render(area, buf);
    if is_selected {
        buf.set_style(area, theme.selection);
    }
    None
}

/// Mark, name, value, and what is wrong with it.
fn key_spans(form: &Form, key: usize, room: usize, context: &Context<'_>) -> Vec<Span<'static>> {
    let (look, theme) = (context.look(), context.theme());
    let Some(of_form) = form.keys().get(key) else {
        return Vec::new();
    };
    let fault = form.faults_of(key).next();
    let (mark, mark_style) = match fault {
        Some(_) => (look.glyphs.bad, theme.bad),
        None if form.is_key_changed(key) => ("*", theme.accent),
        None => (" ", theme.text),
    };
    let name = aligned(of_form.name, NAME, Align::Left, look.glyphs.ellipsis);
    let left = room.saturating_sub(LEAD + NAME + 2);
    let (value, value_style) = match (form.value(key), Absent::of(of_form)) {
        (Some(value), _) if fault.is_some() => (single_line(value), theme.bad),
        (Some(value), _) => (single_line(value), theme.text),
        (None, Absent::Default(value)) => (format!("{} (default)", single_line(value)), theme.dim),
        (None, Absent::Required) => ("required".to_owned(), theme.dim),
        (None, Absent::Off) => ("not set".to_owned(), theme.dim),
    };
    let value = truncate(&value, left, look.glyphs.ellipsis);
    let rest = left.saturating_sub(width(&value) + 2);
    let mut spans = vec![
        Span::styled(format!("{mark} "), mark_style),
        Span::styled(format!("{name}  "), theme.text),
        Span::styled(value, value_style),
    ];
    if let Some(fault) = fault {
        let words = single_line(&format!("{}; {}", fault.problem, fault.way_out));
        let words = truncate(&words, rest, look.glyphs.ellipsis);
        spans.push(Span::styled(format!("  {words}"), theme.bad));
    }
    spans
}

/// A field with the terminal's own caret, or the word that is chosen between its neighbours.
fn draw_content(
    content: &Content,
    context: &Context<'_>,
    buf: &mut Buffer,
    area: Rect,
) -> Option<Position> {
    let theme = context.theme();
    match content {
        Content::Line(field) => Some(field.render(area, buf, theme.selection)),
        Content::Choice { .. } => {
            let words = format!("< {} >", content.value());
            Line::styled(words, theme.selection).render(area, buf);
            None
        }
    }
}

/// The line of the form at a cell.
pub fn line_at(screen: &Plan, at: Position, context: &Context<'_>) -> Option<FormLine> {
    let form = screen.form.as_ref()?;
    let area = inside(areas(context.body).form);
    if !area.contains(at) {
        return None;
    }
    let all = lines(form, &screen.filter);
    let selected = screen.place();
    let cursor = all.iter().position(|line| Some(*line) == selected);
    let shown = window(
        cursor.unwrap_or_default(),
        all.len(),
        usize::from(area.height),
    );
    let index = shown.start + usize::from(at.y - area.y);
    let line = all.get(index).copied().filter(|_| shown.contains(&index));
    line.filter(|line| line.is_place())
}
