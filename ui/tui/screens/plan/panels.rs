//! The panels beside the form: help, batch and memory.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget};

use super::Plan;
use super::batch::{self, LineKind};
use super::entry::{Absent, Content, Kind};
use super::form::Form;
use super::lines::FormLine;
use super::memory::{Bar, Memory, Mood, View};
use crate::tui::state::Context;
use crate::tui::text::{Align, aligned, bytes, fit, single_line, truncate, wrap};
use crate::tui::widgets::panel::Panel;
use crate::tui::widgets::scroll::wrapped;
use crate::tui::widgets::stacked_bar::{Part, StackedBar};

/// Panels lower than this have no box and say the essential only.
const LOWEST_BOX: u16 = 4;

/// A memory panel lower than this inside draws a line a phase.
const LOWEST_LEGEND: u16 = 14;

/// From here on the parts of the memory panel have a blank line between them.
const ROOMY: u16 = 22;

/// The key under the cursor: what it is, what may be written, what is wrong.
pub fn draw_help(screen: &Plan, form: &Form, context: &Context<'_>, buf: &mut Buffer, area: Rect) {
    let theme = context.theme();
    if area.height < LOWEST_BOX {
        let room = usize::from(area.width);
        let lines: Vec<Line<'_>> = help(screen, form, context)
            .short()
            .into_iter()
            .take(usize::from(area.height))
            .map(|(text, style)| {
                let words = single_line(&text);
                Line::styled(truncate(&words, room, context.glyphs().ellipsis), style)
            })
            .collect();
        Paragraph::new(lines).render(area, buf);
        return;
    }
    let title = match screen.place() {
        Some(FormLine::Key(key)) => form.keys().get(key).map(moim_core::experiment::Key::path),
        _ => None,
    };
    let title = title.unwrap_or_else(|| "Help".to_owned());
    let area = Panel::new(&title, false).render(area, buf, context.look());
    let lines: Vec<Line<'static>> = help(screen, form, context)
        .whole()
        .iter()
        .flat_map(|(text, style)| wrapped(text, usize::from(area.width), *style))
        .collect();
    Paragraph::new(lines).style(theme.text).render(area, buf);
}

/// A text and how it is drawn.
type Words = (String, Style);

/// What there is to say about the line under the cursor.
#[derive(Default)]
struct Help {
    /// What it is.
    meaning: Option<Words>,
    /// What is wrong with it.
    faults: Vec<Words>,
    /// What may be written.
    expected: Option<Words>,
    /// What the keys do.
    keys: Option<Words>,
}

impl Help {
    fn whole(self) -> Vec<Words> {
        let faults = self.meaning.into_iter().chain(self.faults);
        faults.chain(self.expected).chain(self.keys).collect()
    }

    /// Where there is little room, what is wrong comes before what it is.
    fn short(self) -> Vec<Words> {
        let first = self.faults.into_iter().chain(self.meaning).take(1);
        first.chain(self.expected).collect()
    }
}

fn help(screen: &Plan, form: &Form, context: &Context<'_>) -> Help {
    let (bad, theme) = (context.glyphs().bad, context.theme());
    let key = match screen.place() {
        Some(FormLine::Key(key)) => key,
        Some(FormLine::Loose(index)) => {
            let fault = form.loose_faults().get(index).map(ToString::to_string);
            let advice = "This is in the file, not in the form; o opens an editor.";
            return Help {
                faults: fault.map(|fault| (fault, theme.bad)).into_iter().collect(),
                expected: Some((advice.to_owned(), theme.dim)),
                ..Help::default()
            };
        }
        _ => return Help::default(),
    };
    let Some(of_form) = form.keys().get(key) else {
        return Help::default();
    };
    let entry = screen.entry.as_ref().filter(|entry| entry.key == key);
    let problem = entry.and_then(|entry| entry.problem.clone());
    let faults = form.faults_of(key);
    let faults = faults.map(|fault| format!("{}; {}", fault.problem, fault.hint));
    let keys = match entry.map(|entry| &entry.content) {
        Some(Content::Choice { .. }) => "space or the arrows choose, enter keeps, esc gives up",
        Some(Content::Line(_)) => "enter keeps, esc gives up; empty means the default",
        None if Kind::of(of_form) == Kind::Text => "enter edits, d takes it out of the file",
        None => "left and right choose, d takes it out of the file",
    };
    let default = match Absent::of(of_form) {
        Absent::Default(value) => format!("default {value}"),
        Absent::Required => "required".to_owned(),
        Absent::Off => "not set by default".to_owned(),
    };
    let expected = format!("Write {} ({default}).", of_form.expected);
    Help {
        meaning: Some((of_form.help.clone(), theme.text)),
        faults: problem
            .into_iter()
            .chain(faults)
            .map(|words| (format!("{bad} {words}"), theme.bad))
            .collect(),
        expected: Some((expected, theme.dim)),
        keys: Some((keys.to_owned(), theme.dim)),
    }
}

/// Both conventions worked out, and the length of the run.
pub fn draw_batch(form: &Form, context: &Context<'_>, buf: &mut Buffer, area: Rect) {
    let (look, theme) = (context.look(), context.theme());
    let note = batch::head(form.experiment());
    let inside = Panel::new("Batch", false)
        .note(&note)
        .render(area, buf, look);
    if let Err(error) = form.document() {
        let lines = wrapped(&error.to_string(), usize::from(inside.width), theme.bad);
        Paragraph::new(lines).render(inside, buf);
        return;
    }
    let room = usize::from(inside.width).saturating_sub(2);
    let mut lines = Vec::new();
    for line in batch::lines(form, context.world.plan.as_ref(), look) {
        let (mark, style) = match line.kind {
            LineKind::InForce => (look.glyphs.cursor, theme.accent),
            LineKind::Broken => (look.glyphs.bad, theme.bad),
            LineKind::Other => (" ", theme.dim),
            LineKind::Result => (" ", theme.text),
            LineKind::Unknown => (look.glyphs.warn, theme.dim),
        };
        for (index, part) in wrap(&line.text, room).into_iter().enumerate() {
            let mark = if index == 0 { mark } else { " " };
            lines.push(Line::styled(format!("{mark} {part}"), style));
        }
    }
    Paragraph::new(lines).render(inside, buf);
}

/// The memory of each phase against the capacity.
pub fn draw_memory(memory: &Memory, context: &Context<'_>, buf: &mut Buffer, area: Rect) {
    let (look, theme) = (context.look(), context.theme());
    let view = match memory {
        Memory::Known(view) => view,
        Memory::Unknown(why) => {
            let inside = Panel::new("Memory", false).render(area, buf, look);
            let words = format!("No plan yet: {why}.");
            let lines = wrapped(&words, usize::from(inside.width), theme.dim);
            Paragraph::new(lines).render(inside, buf);
            return;
        }
    };
    let (sign, style) = match view.mood {
        Mood::Good => (look.glyphs.good, theme.good),
        Mood::Warn => (look.glyphs.warn, theme.warn),
        Mood::Bad => (look.glyphs.bad, theme.bad),
        Mood::Neutral => (" ", theme.dim),
    };
    let note = match view.capacity {
        Some(capacity) => format!("of {}", bytes(capacity)),
        None => String::new(),
    };
    let inside = Panel::new("Memory", false)
        .note(&note)
        .render(area, buf, look);
    let room = usize::from(inside.width);
    let mut words = vec![(format!("{sign} {}", view.verdict), style)];
    if let Some(sizes) = &view.sizes {
        words.push((sizes.clone(), theme.text));
    }
    if let Some(suggestion) = &view.suggestion {
        words.push((suggestion.clone(), theme.warn));
    }
    if !view.limits.is_empty() {
        words.push((view.limits.clone(), theme.text));
    }
    if inside.height < LOWEST_LEGEND {
        draw_compact(view, &words, context, buf, inside);
        return;
    }
    let gap = u16::from(inside.height >= ROOMY);
    let mut rows = Rows {
        area: inside,
        row: 0,
    };
    for (text, style) in &words {
        for line in wrapped(text, room, *style) {
            rows.draw(&line, buf);
        }
    }
    rows.row += gap;
    for bar in &view.bars {
        let heading = format!("{} {}  {}", bar.phase, bytes(bar.total()), bar.moment);
        rows.draw(
            &Line::styled(truncate(&heading, room, look.glyphs.ellipsis), theme.text),
            buf,
        );
        draw_bar(bar, view, context, buf, rows.next());
    }
    rows.row += gap;
    for line in legend(view, room, context) {
        rows.draw(&line, buf);
    }
}

/// Rows that are drawn one below the other, as far as there is room.
struct Rows {
    area: Rect,
    row: u16,
}

impl Rows {
    /// The next row; of no height where there is none.
    fn next(&mut self) -> Rect {
        let row = Rect {
            y: self.area.y.saturating_add(self.row),
            height: u16::from(self.row < self.area.height),
            ..self.area
        };
        self.row = self.row.saturating_add(1);
        row
    }

    fn draw(&mut self, line: &Line<'_>, buf: &mut Buffer) {
        line.render(self.next(), buf);
    }
}

/// Cells of a phase's name and of its bytes in front of a bar.
const PHASE: u16 = 10;
const AMOUNT: u16 = 11;

/// A line for each of the phases that train, then words as far as there is room.
fn draw_compact(
    view: &View,
    words: &[(String, Style)],
    context: &Context<'_>,
    buf: &mut Buffer,
    area: Rect,
) {
    let mut rows = Rows { area, row: 0 };
    let room = usize::from(area.width);
    // What is answered after an epoch comes last, and only where there is room for it.
    let phases = if area.height > 5 { view.bars.len() } else { 2 };
    for bar in view.bars.iter().take(phases) {
        let row = rows.next();
        let head = format!(
            "{}{} ",
            fit(bar.phase, usize::from(PHASE)),
            aligned(
                &bytes(bar.total()),
                usize::from(AMOUNT) - 1,
                Align::Right,
                ""
            )
        );
        Line::styled(head, context.theme().text).render(row, buf);
        let used = PHASE + AMOUNT;
        let rest = Rect {
            x: row.x.saturating_add(used),
            width: row.width.saturating_sub(used),
            ..row
        };
        draw_bar(bar, view, context, buf, rest.intersection(row));
    }
    let left = usize::from(area.height.saturating_sub(rows.row));
    if left <= 1 {
        let one: Vec<&str> = words.iter().map(|(text, _)| text.as_str()).collect();
        let style = words.first().map(|(_, style)| *style).unwrap_or_default();
        let line = truncate(&one.join("; "), room, context.glyphs().ellipsis);
        rows.draw(&Line::styled(line, style), buf);
        return;
    }
    for (text, style) in words {
        for line in wrapped(text, room, *style) {
            rows.draw(&line, buf);
        }
    }
}

/// Every bar on the same scale, so that they can be compared.
fn draw_bar(bar: &Bar, view: &View, context: &Context<'_>, buf: &mut Buffer, area: Rect) {
    let parts: Vec<Part<'_>> = bar
        .parts
        .iter()
        .map(|part| Part {
            label: part.name,
            bytes: part.bytes,
            style: part.style,
        })
        .collect();
    let largest = view.bars.iter().map(Bar::total).max().unwrap_or_default();
    let scale = largest.max(view.capacity.unwrap_or_default());
    StackedBar::new(&parts, view.capacity)
        .scale(scale)
        .render_line(area, buf, context.look());
}

/// A line for each component: its pattern, and its bytes in every phase.
fn legend(view: &View, room: usize, context: &Context<'_>) -> Vec<Line<'static>> {
    /// The longest name of a component, and `1023.9 MiB` with a space before it.
    const NAME: usize = 13;
    const CELL: usize = 11;

    let theme = context.theme();
    let columns = (room.saturating_sub(NAME + 3) / CELL).min(view.bars.len());
    let bars = view.bars.get(..columns).unwrap_or_default();
    let mut head = " ".repeat(NAME + 3);
    for bar in bars {
        head.push_str(&aligned(bar.phase, CELL, Align::Right, ""));
    }
    let mut lines = vec![Line::styled(head, theme.header)];
    let mut components: Vec<(usize, &str)> = bars
        .iter()
        .flat_map(|bar| bar.parts.iter().map(|part| (part.style, part.name)))
        .collect();
    components.sort_unstable();
    components.dedup();
    for (style, name) in components {
        let mut numbers = String::new();
        for bar in bars {
            let part = bar.parts.iter().find(|part| part.style == style);
            let amount = part.map(|part| bytes(part.bytes)).unwrap_or_default();
            numbers.push_str(&aligned(&amount, CELL, Align::Right, ""));
        }
        lines.push(Line::from(vec![
            Span::styled(context.glyphs().part(style).repeat(2), theme.part(style)),
            Span::styled(format!(" {}{numbers}", fit(name, NAME)), theme.text),
        ]));
    }
    lines
}
