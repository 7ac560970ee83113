//! Drawing the Ranking screen.

use moim_core::score::FileState;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;

use super::columns::Reference;
use super::view::{Areas, View, revision, state_style, state_words};
use super::{Focus, Ranking, chart, details, words};
use crate::tui::state::Context;
use crate::tui::text;
use crate::tui::widgets::panel::{Panel, explain};
use crate::tui::widgets::scroll::{ScrollText, position, text_width, visible, wrapped};
use crate::tui::widgets::table::Table;

/// Draws the screen.
pub(super) fn draw(screen: &Ranking, context: &Context<'_>, frame: &mut Frame<'_>, area: Rect) {
    let Some(view) = View::of(screen, context.world) else {
        let sentences = words::nothing_yet(context.world);
        return explain(
            "Ranking",
            &sentences,
            area,
            frame.buffer_mut(),
            context.look(),
        );
    };
    let areas = Areas::of(area, view.lines.len(), screen.details);
    draw_table(screen, &view, context, frame, areas.table);
    draw_words(&view, context, frame, &areas);
    if !areas.chart.is_empty() {
        draw_chart(&view, context, frame, areas.chart);
    }
    if !areas.details.is_empty() {
        draw_details(screen, &view, context, frame, areas.details);
    }
}

fn draw_table(
    screen: &Ranking,
    view: &View<'_>,
    context: &Context<'_>,
    frame: &mut Frame<'_>,
    area: Rect,
) {
    let look = context.look();
    let all = view.board.rows.len();
    let mut title = match view.rows.len() {
        shown if shown < all => format!("{shown} of {all} files"),
        _ => format!("{all} files"),
    };
    if !screen.marked.is_empty() {
        title.push_str(&format!(", {} marked", screen.marked.len()));
    }
    let direction = match screen.sort.is_descending() {
        true => "largest first",
        false => "smallest first",
    };
    let note = format!(
        "by {}, {direction}",
        screen.sort.column.name(screen.reference)
    );
    let panel = Panel::new(&title, screen.focus == Focus::Table).note(&note);
    let inside = panel.render(area, frame.buffer_mut(), look);
    table(screen, view, context, |table| {
        table.render(inside, frame.buffer_mut(), look);
    });
}

/// Puts the table together and hands it to `work`: for drawing, and for finding what was
/// clicked.
pub(super) fn table<Done>(
    screen: &Ranking,
    view: &View<'_>,
    context: &Context<'_>,
    work: impl FnOnce(&Table<'_>) -> Done,
) -> Done {
    let columns = view.columns(screen);
    let row = |line: usize| view.table_row(line, screen, context.world, context.look());
    work(&Table {
        columns: &columns,
        len: view.lines.len(),
        cursor: view.cursor_line(),
        row: &row,
        sort: view.order(screen),
        empty: "No file name matches the filter; / changes it, esc clears it.",
    })
}

/// Sentences, the most important first: where there is little room the provenance is cut.
fn draw_words(view: &View<'_>, context: &Context<'_>, frame: &mut Frame<'_>, areas: &Areas) {
    let (look, files, area) = (context.look(), &context.world.ranking, areas.words);
    let theme = context.theme();
    let cells = usize::from(area.width);
    let mut lines: Vec<Line<'_>> = Vec::new();
    let mut say = |words: &str, style: Style| lines.extend(wrapped(words, cells, style));
    if let Some(problem) = &files.problem {
        say(&format!("{} {problem}", look.glyphs.warn), theme.bad);
    }
    if areas.details.is_empty()
        && let Some(row) = view.selected()
    {
        let state = state_words(row, revision(context.world, row), look);
        if state != FileState::Complete.name() {
            let words = format!("{} is {state}", row.scored.file);
            say(&words, state_style(row, theme));
        }
    }
    say(&words::verdict(view.board).join(" "), theme.text);
    if areas.chart.is_empty()
        && let Some(line) = chart::in_one_line(&chart::points(view.board), look)
    {
        say(&line, theme.info);
    }
    for note in &view.board.notes {
        say(&format!("{} {note}", look.glyphs.warn), theme.warn);
    }
    say(&words::watching(files), theme.dim);
    say(&words::provenance(view.board).join("; "), theme.dim);
    let height = usize::from(area.height);
    if lines.len() > height {
        lines.truncate(height);
        if let Some(last) = lines.last_mut() {
            let cut = format!("{last} {}", look.glyphs.ellipsis);
            let room = cells.saturating_sub(1);
            *last = Line::styled(text::truncate(&cut, room, look.glyphs.ellipsis), last.style);
        }
    }
    ScrollText {
        lines: &lines,
        offset: 0,
    }
    .render(area, frame.buffer_mut(), look);
}

fn draw_chart(view: &View<'_>, context: &Context<'_>, frame: &mut Frame<'_>, area: Rect) {
    let look = context.look();
    let note = format!("{} % intervals", words::percent(view.board));
    let panel = Panel::new("Final Mean over epochs", false).note(&note);
    let inside = panel.render(area, frame.buffer_mut(), look);
    let points = chart::points(view.board);
    let mut lines = chart::lines(
        &points,
        usize::from(inside.width),
        usize::from(inside.height),
        look,
    );
    if points.is_empty() {
        let words = "No complete file names its epoch.";
        lines = wrapped(words, usize::from(inside.width), context.theme().dim);
    }
    ScrollText {
        lines: &lines,
        offset: 0,
    }
    .render(inside, frame.buffer_mut(), look);
}

fn draw_details(
    screen: &Ranking,
    view: &View<'_>,
    context: &Context<'_>,
    frame: &mut Frame<'_>,
    area: Rect,
) {
    let look = context.look();
    let inside = Areas::inside(area);
    let lines = detail_lines(screen, view, context, inside);
    let shown = visible(
        screen.detail_scroll,
        lines.len(),
        usize::from(inside.height),
    );
    let note = position(&shown, lines.len());
    let panel = Panel::new("Details", screen.focus == Focus::Details).note(&note);
    panel.render(area, frame.buffer_mut(), look);
    ScrollText {
        lines: &lines,
        offset: screen.detail_scroll,
    }
    .render(inside, frame.buffer_mut(), look);
}

/// The details of the file under the cursor.
pub(super) fn detail_lines(
    screen: &Ranking,
    view: &View<'_>,
    context: &Context<'_>,
    inside: Rect,
) -> Vec<Line<'static>> {
    let Some(row) = view.selected() else {
        return Vec::new();
    };
    let reference: Reference = screen.reference;
    let revision = revision(context.world, row);
    let cells = text_width(inside);
    details::lines(row, view.board, revision, reference, cells, context.look())
}
