//! Drawing the frame: title, the screen at the front, notice, footer, and overlays.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Position, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Widget};

use super::keymap::{Action, Binding, Scope, bindings_of};
use super::message::Dialog;
use super::overlay::{Overlay, Palette};
use super::state::{SMALLEST, Screen, State};
use super::text;
use super::widgets::field::TextField;
use super::widgets::hints::{Hint, Hints};
use super::widgets::pane::Pane;
use super::widgets::popup::Popup;
use super::widgets::scroll::{text_width, wrapped};

/// Draws everything.
pub fn draw(state: &State, frame: &mut Frame<'_>) {
    let area = frame.area();
    if state.is_too_small() {
        let words = format!(
            "moim needs {}x{} cells; this terminal has {}x{}. Make it larger, or use moim --no-ui.",
            SMALLEST.0, SMALLEST.1, area.width, area.height
        );
        let lines: Vec<Line<'_>> = text::wrap(&words, usize::from(area.width.max(1)))
            .into_iter()
            .map(Line::from)
            .collect();
        Paragraph::new(lines).render(area, frame.buffer_mut());
        return;
    }
    draw_title(state, frame);
    let context = state.context();
    state
        .screens
        .get(state.screen)
        .draw(&context, frame, state.body());
    draw_notice(state, frame);
    draw_footer(state, frame);
    if let Some(overlay) = &state.overlay {
        draw_overlay(state, overlay, frame);
    }
}

/// A tab of the title line: its number and its name. In 80 columns every cell counts.
fn tab(number: usize, screen: Screen) -> String {
    format!("{number} {} ", screen.title())
}

/// The screen whose tab is at a cell.
pub fn screen_at(state: &State, at: Position) -> Option<Screen> {
    if at.y != state.size.y {
        return None;
    }
    let mut left = state.size.x;
    for (index, screen) in Screen::ALL.into_iter().enumerate() {
        let right = left + text::width(&tab(index + 1, screen)) as u16;
        if (left..right).contains(&at.x) {
            return Some(screen);
        }
        left = right;
    }
    None
}

fn draw_title(state: &State, frame: &mut Frame<'_>) {
    let context = state.context();
    let theme = context.theme();
    let line = Rect {
        height: 1,
        ..state.size
    };
    let mut spans = Vec::new();
    let mut used = 0;
    for (index, screen) in Screen::ALL.into_iter().enumerate() {
        let tab = tab(index + 1, screen);
        used += text::width(&tab);
        let style = if screen == state.screen {
            theme.selection
        } else {
            theme.dim
        };
        spans.push(Span::styled(tab, style));
    }
    let room = usize::from(line.width).saturating_sub(used + 1);
    let status = state.screens.get(state.screen).status(&context);
    let filter = state.screens.get(state.screen).filter();
    let words = match filter {
        "" => status,
        _ => format!("/{filter}  {status}"),
    };
    let words = text::truncate(&text::sanitize(&words), room, context.glyphs().ellipsis);
    let gap = room.saturating_sub(text::width(&words));
    spans.push(Span::raw(" ".repeat(gap)));
    spans.push(Span::styled(words, theme.title));
    Line::from(spans).render(line, frame.buffer_mut());
}

fn draw_notice(state: &State, frame: &mut Frame<'_>) {
    let context = state.context();
    let line = Rect {
        y: state.size.bottom().saturating_sub(2),
        height: 1,
        ..state.size
    };
    let width = usize::from(line.width);
    let queue = state.world.queue.len();
    let (words, style) = match (&state.notice, &state.pending_keys) {
        (Some((notice, _)), _) if notice.is_error => (
            format!("{} {}", context.glyphs().bad, notice.text),
            context.theme().bad,
        ),
        (Some((notice, _)), _) => (notice.text.clone(), context.theme().info),
        (None, Some(keys)) => (
            format!("{keys} {}", context.glyphs().ellipsis),
            context.theme().dim,
        ),
        (None, None) if queue > 0 => (
            format!("queue: {queue} experiment(s) wait"),
            context.theme().dim,
        ),
        (None, None) => return,
    };
    let one_line = text::sanitize(&words.replace('\n', "  "));
    let words = text::truncate(&one_line, width, context.glyphs().ellipsis);
    Line::styled(words, style).render(line, frame.buffer_mut());
}

fn draw_footer(state: &State, frame: &mut Frame<'_>) {
    let context = state.context();
    let line = Rect {
        y: state.size.bottom().saturating_sub(1),
        height: 1,
        ..state.size
    };
    let mut bindings: Vec<&Binding> = bindings_of(state.screen)
        .filter(|binding| binding.footer.is_some())
        .collect();
    bindings.sort_by_key(|binding| binding.footer);
    let hints: Vec<Hint<'_>> = bindings
        .into_iter()
        .map(|binding| Hint {
            key: binding.keys.first().copied().unwrap_or_default(),
            label: binding.label,
            priority: match binding.action {
                // The way to everything that does not fit always stays.
                Action::Help | Action::Quit => 0,
                _ => binding.footer.unwrap_or(u8::MAX),
            },
        })
        .collect();
    Hints::new(&hints, context.look()).render(line, frame.buffer_mut());
}

fn draw_overlay(state: &State, overlay: &Overlay, frame: &mut Frame<'_>) {
    match overlay {
        Overlay::Text { title, lines, pane } => draw_text(state, title, lines, pane, frame),
        Overlay::Palette(palette) => draw_palette(state, palette, frame),
        Overlay::Dialog(dialog) => draw_dialog(state, dialog, frame),
        Overlay::Line { input, field } => draw_line(state, &input.title, field, frame),
        Overlay::Filter { field, .. } => draw_filter(state, field, frame),
    }
}

fn draw_text(state: &State, title: &str, lines: &[String], pane: &Pane, frame: &mut Frame<'_>) {
    let context = state.context();
    let inside = Popup::new(title, state.size.width - 4, state.size.height - 2).render(
        state.size,
        frame.buffer_mut(),
        context.look(),
    );
    let lines: Vec<Line<'_>> = lines
        .iter()
        .flat_map(|line| wrapped(&text::sanitize(line), text_width(inside), Style::new()))
        .collect();
    pane.draw(&lines, inside, frame.buffer_mut(), context.look());
}

fn draw_palette(state: &State, palette: &Palette, frame: &mut Frame<'_>) {
    let context = state.context();
    let theme = context.theme();
    let inside = Popup::new("Actions", 76, state.size.height - 4).render(
        state.size,
        frame.buffer_mut(),
        context.look(),
    );
    let field_line = Rect {
        height: 1,
        ..inside
    };
    let caret = palette
        .field
        .render(field_line, frame.buffer_mut(), theme.text);
    frame.set_cursor_position(caret);
    let below = Rect {
        y: inside.y + 1,
        height: inside.height.saturating_sub(1),
        ..inside
    };
    let row = |binding: &&Binding, is_selected: bool, place: Rect, buf: &mut Buffer| {
        let (cursor, style) = if is_selected {
            (context.glyphs().cursor, theme.selection)
        } else {
            (" ", theme.text)
        };
        let label = text::fit(binding.label, 20);
        let keys = text::fit(&binding.keys.join(" "), 12);
        let screen = match binding.scope {
            Scope::On(screen) if screen != state.screen => format!("({}) ", screen.title()),
            _ => String::new(),
        };
        let line = format!("{cursor} {label} {keys} {screen}{}", binding.help);
        Line::styled(line, style).render(place, buf);
    };
    let matches = palette.matches(state.screen);
    palette
        .list
        .draw(&matches, below, frame.buffer_mut(), context.look(), row);
}

fn draw_dialog(state: &State, dialog: &Dialog, frame: &mut Frame<'_>) {
    let context = state.context();
    let theme = context.theme();
    let width = 72.min(state.size.width - 4);
    let inner_width = usize::from(width.saturating_sub(4));
    let mut lines: Vec<Line<'_>> = dialog
        .lines
        .iter()
        .flat_map(|line| text::wrap(&text::sanitize(line), inner_width))
        .map(Line::from)
        .collect();
    lines.push(Line::default());
    for choice in &dialog.choices {
        lines.push(Line::from(vec![
            Span::styled(format!(" {} ", choice.key), theme.key),
            Span::raw(format!(" {}", choice.label)),
        ]));
    }
    lines.push(Line::from(vec![
        Span::styled(" esc ", theme.key),
        Span::raw(" do nothing"),
    ]));
    let height = (lines.len() as u16 + 2).min(state.size.height - 2);
    let inside = Popup::new(&dialog.title, width, height).render(
        state.size,
        frame.buffer_mut(),
        context.look(),
    );
    Paragraph::new(lines).render(inside, frame.buffer_mut());
}

/// A line to type. The caret is the terminal's own, where input methods draw.
fn draw_line(state: &State, title: &str, field: &TextField, frame: &mut Frame<'_>) {
    let context = state.context();
    let inside = Popup::new(title, state.size.width - 8, 3).render(
        state.size,
        frame.buffer_mut(),
        context.look(),
    );
    let caret = field.render(inside, frame.buffer_mut(), context.theme().text);
    frame.set_cursor_position(caret);
}

/// The filter in the line of the notices, so that its result stays visible.
fn draw_filter(state: &State, field: &TextField, frame: &mut Frame<'_>) {
    let context = state.context();
    let theme = context.theme();
    let line = Rect {
        y: state.size.bottom().saturating_sub(2),
        height: 1,
        ..state.size
    };
    let help = "regular expression, ! inverts; enter keeps it, esc cancels";
    let [sign, text, help_area] = Layout::horizontal([
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(text::width(help) as u16),
    ])
    .areas(line);
    Line::styled("/", theme.key).render(sign, frame.buffer_mut());
    Line::styled(help, theme.dim).render(help_area, frame.buffer_mut());
    let caret = field.render(text, frame.buffer_mut(), theme.text);
    frame.set_cursor_position(caret);
}
