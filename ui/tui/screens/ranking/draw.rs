//! How the Ranking screen is laid out and drawn.

use moim_core::score::FileState;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;

use super::table::{Line as TableLine, View, revision, state, state_style};
use super::{Part, Ranking, chart, details, words};
use crate::tui::state::Context;
use crate::tui::text;
use crate::tui::widgets::focus::{Areas, inside};
use crate::tui::widgets::page::Page;
use crate::tui::widgets::panel::{Panel, explain};
use crate::tui::widgets::scroll::{ScrollText, text_width, wrapped};
use crate::tui::widgets::table::{Order, Sheet};

/// Columns from which table and details are next to each other.
const WIDE: u16 = 150;
/// Columns from which sentences and chart are next to each other.
const MEDIUM: u16 = 110;
/// Rows that a chart needs at least, with its box.
const CHART: u16 = 7;
/// Rows from which details are shown by default.
const TALL: u16 = 34;

/// Lays the screen out. `lines` is the length of the table, `details` what the user chose.
pub(super) fn areas(area: Rect, lines: usize, details: Option<bool>) -> Areas<Part> {
    let table_height = u16::try_from(lines).unwrap_or(u16::MAX).saturating_add(3);
    let (table, words, chart, details) = if area.width >= WIDE {
        let [left, right] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Length(54)]).areas(area);
        let [table, words] =
            Layout::vertical([Constraint::Fill(1), Constraint::Length(10)]).areas(left);
        let chart_height = match details {
            Some(false) => right.height,
            _ => 12.min(right.height / 3),
        };
        let [chart, details] =
            Layout::vertical([Constraint::Length(chart_height), Constraint::Fill(1)]).areas(right);
        (table, words, chart, details)
    } else {
        let has_details = details.unwrap_or(area.height >= TALL);
        let words_height = if has_details && area.height < TALL {
            0
        } else {
            8.min(area.height / 3)
        };
        let [top, words] =
            Layout::vertical([Constraint::Fill(1), Constraint::Length(words_height)]).areas(area);
        let [table, details] = if has_details {
            // Both get half at least, and the details what a short table leaves.
            let height = table_height.min(top.height / 2);
            Layout::vertical([Constraint::Length(height), Constraint::Fill(1)]).areas(top)
        } else {
            [top, Rect::ZERO]
        };
        let free = table.height.saturating_sub(table_height);
        if words.width >= MEDIUM {
            let [words, chart] =
                Layout::horizontal([Constraint::Fill(1), Constraint::Length(48)]).areas(words);
            (table, words, chart, details)
        } else if free >= CHART {
            // A short table leaves space for the chart below it.
            let [table, chart] =
                Layout::vertical([Constraint::Fill(1), Constraint::Length(free)]).areas(table);
            (table, words, chart, details)
        } else {
            (table, words, Rect::ZERO, details)
        }
    };
    Areas::new([
        (Part::Table, table),
        (Part::Words, words),
        (Part::Chart, chart),
        (Part::Details, details),
    ])
}

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
    let areas = areas(area, view.lines.len(), screen.details);
    screen.focus.drawn(&areas);
    draw_table(screen, &view, context, frame, areas.of(Part::Table));
    draw_words(screen, &view, context, frame, &areas);
    if areas.shows(Part::Chart) {
        draw_chart(&view, context, frame, areas.of(Part::Chart));
    }
    if areas.shows(Part::Details) {
        draw_details(screen, &view, context, frame, areas.of(Part::Details));
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
    let mut title = match view.files().count() {
        shown if shown < all => format!("{shown} of {all} files"),
        _ => format!("{all} files"),
    };
    let marked = screen.marks.all().len();
    if marked > 0 {
        title.push_str(&format!(", {marked} marked"));
    }
    let direction = match screen.sort.order(&view.columns) {
        Order::Descending => "largest first",
        Order::Ascending => "smallest first",
    };
    let sorted = view.columns.get(screen.sort.column);
    let name = sorted
        .map(|column| column.name.as_ref())
        .unwrap_or_default();
    let note = format!("by {name}, {direction}");
    let panel = Panel::new(&title, screen.focus.is(Part::Table)).note(&note);
    let inside = panel.render(area, frame.buffer_mut(), look);
    let sheet = Sheet {
        columns: &view.columns,
        items: &view.lines,
        marks: screen.marks.all(),
        sort: Some(screen.sort),
        style: &TableLine::style,
        empty: "No file name matches the filter; / changes it, esc clears it.",
    };
    screen.table.draw(&sheet, inside, frame.buffer_mut(), look);
}

/// Sentences, the most important first: if they do not fit, the provenance is cut.
fn draw_words(
    screen: &Ranking,
    view: &View<'_>,
    context: &Context<'_>,
    frame: &mut Frame<'_>,
    areas: &Areas<Part>,
) {
    let (look, files) = (context.look(), &context.world.ranking);
    let area = areas.of(Part::Words);
    let theme = context.theme();
    let mut page = Page::new(area.width.into());
    if let Some(problem) = &files.problem {
        page.say(format!("{} {problem}", look.glyphs.warn), theme.bad);
    }
    if !areas.shows(Part::Details)
        && let Some(row) = view.selected(screen)
    {
        let state = state(row, revision(context.world, row), look);
        if state != FileState::Complete.name() {
            let words = format!("{} is {state}", row.scored.file);
            page.say(words, state_style(row, theme));
        }
    }
    page.say(words::verdict(view.board).join(" "), theme.text);
    if !areas.shows(Part::Chart)
        && let Some(line) = chart::in_one_line(&chart::points(view.board), look)
    {
        page.say(line, theme.info);
    }
    for note in &view.board.notes {
        page.say(format!("{} {note}", look.glyphs.warn), theme.warn);
    }
    page.say(words::watching(files), theme.dim);
    page.say(words::provenance(view.board).join("; "), theme.dim);
    let mut lines = page.lines;
    let height = usize::from(area.height);
    if lines.len() > height {
        lines.truncate(height);
        if let Some(last) = lines.last_mut() {
            let cut = format!("{last} {}", look.glyphs.ellipsis);
            let room = page.cells.saturating_sub(1);
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
    let lines = match view.selected(screen) {
        Some(row) => {
            let revision = revision(context.world, row);
            let cells = text_width(inside(area));
            details::lines(row, view.board, revision, screen.reference, cells, look)
        }
        None => Vec::new(),
    };
    let panel = Panel::new("Details", screen.focus.is(Part::Details));
    screen
        .reading
        .draw_boxed(&panel, &lines, area, frame.buffer_mut(), look);
}
