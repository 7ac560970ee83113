//! The table as it stands: filtered and sorted rows, and where things lie on the screen.

use moim_core::score::file::TypeMeans;
use moim_core::score::render::state_in_words;
use moim_core::score::{FileState, Leaderboard, Row};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;

use super::Ranking;
use super::columns::{Column, Reference, excludes_zero, number};
use super::details::type_name;
use crate::tui::data::World;
use crate::tui::screens::words::without_ending;
use crate::tui::text;
use crate::tui::theme::{Look, Theme};
use crate::tui::widgets::table::{Cell, Column as TableColumn, Order, Row as TableRow};

/// A line of the table.
#[derive(Clone, Copy, Debug)]
pub(super) enum TableLine<'a> {
    File(&'a Row),
    /// A question type of the file above.
    Type(&'a TypeMeans),
    /// What follows is not ranked.
    Apart,
}

/// What the table shows.
pub(super) struct View<'a> {
    pub(super) board: &'a Leaderboard,
    /// The files that pass the filter, in order.
    pub(super) rows: Vec<&'a Row>,
    /// Those with their question types and the line above the files ranked apart.
    pub(super) lines: Vec<TableLine<'a>>,
    /// Place of the cursor in `rows`.
    pub(super) cursor: usize,
}

impl<'a> View<'a> {
    /// `None` where there is no file at all.
    pub(super) fn of(screen: &Ranking, world: &'a World) -> Option<Self> {
        world.open.as_ref()?;
        let board = world.ranking.board.as_deref()?;
        if board.rows.is_empty() {
            return None;
        }
        let mut rows: Vec<&Row> = board
            .rows
            .iter()
            .filter(|row| {
                // Some file systems hand Hangul over decomposed.
                let name = text::nfc(&row.scored.file);
                screen.filter.passes([name.as_str()])
            })
            .collect();
        // A stable sort: equal ones stay in the order of the board.
        rows.sort_by(|left, right| screen.sort.compare(left, right, screen.reference));
        let first_apart = rows.iter().position(|row| row.rank.is_none());
        let mut lines = Vec::new();
        for (place, row) in rows.iter().enumerate() {
            if first_apart == Some(place) {
                lines.push(TableLine::Apart);
            }
            lines.push(TableLine::File(row));
            if screen.has_types {
                lines.extend(row.types.iter().map(TableLine::Type));
            }
        }
        let at_cursor = |row: &&Row| screen.cursor.as_deref() == Some(row.scored.file.as_str());
        Some(Self {
            board,
            cursor: rows.iter().position(at_cursor).unwrap_or(0),
            rows,
            lines,
        })
    }

    /// The file under the cursor.
    pub(super) fn selected(&self) -> Option<&'a Row> {
        self.rows.get(self.cursor).copied()
    }

    /// The line of the table on which the cursor stands.
    pub(super) fn cursor_line(&self) -> usize {
        let Some(selected) = self.selected() else {
            return 0;
        };
        let is_it = |line: &TableLine<'_>| matches!(line, TableLine::File(row) if std::ptr::eq(*row, selected));
        self.lines.iter().position(is_it).unwrap_or(0)
    }

    /// The place in `rows` of the file that a line of the table belongs to.
    pub(super) fn file_of_line(&self, line: usize) -> Option<usize> {
        let files = self.lines.iter().take(line + 1);
        let before = files
            .filter(|line| matches!(line, TableLine::File(_)))
            .count();
        before.checked_sub(1)
    }

    /// The columns of the table, in the order of [`Column::ALL`].
    pub(super) fn columns(&self, screen: &Ranking) -> Vec<TableColumn> {
        let longest = self.lines.iter().map(|line| match line {
            TableLine::File(row) => text::width(without_ending(&row.scored.file)),
            TableLine::Type(kind) => text::width(&type_label(kind)),
            TableLine::Apart => 0,
        });
        let longest = longest.max().unwrap_or(0);
        Column::ALL
            .iter()
            .map(|column| column.in_table(screen.reference, longest, screen.sort.column))
            .collect()
    }

    /// The sorted column and its direction, as the table draws it.
    pub(super) fn order(&self, screen: &Ranking) -> Option<(usize, Order)> {
        let sorted = screen.sort.column;
        let place = Column::ALL.iter().position(|column| *column == sorted)?;
        let order = match screen.sort.is_descending() {
            true => Order::Descending,
            false => Order::Ascending,
        };
        Some((place, order))
    }

    /// A line as the table draws it.
    pub(super) fn table_row(
        &self,
        line: usize,
        screen: &Ranking,
        world: &World,
        look: &Look,
    ) -> TableRow {
        let theme = &look.theme;
        let is_file = |column: &Column| *column == Column::File;
        match self.lines.get(line) {
            None => TableRow::default(),
            Some(TableLine::Apart) => {
                let label = |column: &Column| match is_file(column) {
                    true => Cell::styled("ranked apart:", theme.dim),
                    false => Cell::default(),
                };
                TableRow::new(Column::ALL.iter().map(label).collect())
            }
            Some(TableLine::Type(kind)) => {
                let cell = |column: &Column| match is_file(column) {
                    true => Cell::from(type_label(kind)),
                    false => Cell::from(column.mean(&kind.means).map(number).unwrap_or_default()),
                };
                TableRow {
                    style: theme.dim,
                    ..TableRow::new(Column::ALL.iter().map(cell).collect())
                }
            }
            Some(TableLine::File(row)) => {
                let state = state_words(row, revision(world, row), look);
                let cells = Column::ALL.iter().map(|column| {
                    let value = column.text(row, screen.reference, &state);
                    match column {
                        Column::Rank => Cell::styled(self.rank(row, look), theme.accent),
                        Column::State => Cell::styled(value, state_style(row, theme)),
                        Column::Difference => {
                            Cell::styled(value, difference_style(row, screen.reference, theme))
                        }
                        _ => Cell::from(value),
                    }
                });
                TableRow {
                    is_marked: screen.marked.contains(&row.scored.file),
                    style: match row.rank {
                        Some(_) => theme.text,
                        None => theme.dim,
                    },
                    ..TableRow::new(cells.collect())
                }
            }
        }
    }

    /// The rank with the mark of the best, and `=` for a tie.
    fn rank(&self, row: &Row, look: &Look) -> String {
        let Some(rank) = row.rank else {
            return String::new();
        };
        let is_best = self
            .board
            .best()
            .is_some_and(|best| std::ptr::eq(best, row));
        let best = if is_best { look.glyphs.best } else { "" };
        let tie = if row.tied_with.is_empty() { "" } else { "=" };
        format!("{best}{rank}{tie}")
    }
}

/// Good versions of a file that have been read.
pub(super) fn revision(world: &World, row: &Row) -> u32 {
    world
        .ranking
        .revisions
        .get(&row.scored.file)
        .copied()
        .unwrap_or(0)
}

/// The state of a file for the table. The sign before the number follows the glyphs.
pub(super) fn state_words(row: &Row, revision: u32, look: &Look) -> String {
    let mut words = state_in_words(row);
    if revision > 1 {
        let times = look.glyphs.times;
        words.push_str(&format!(", updated {times}{revision}"));
    }
    words
}

pub(super) fn state_style(row: &Row, theme: &Theme) -> Style {
    match row.scored.state {
        FileState::Complete => theme.dim,
        FileState::Partial | FileState::Gone => theme.warn,
        FileState::Pending { .. } => theme.info,
        FileState::Broken(_) => theme.bad,
    }
}

fn difference_style(row: &Row, reference: Reference, theme: &Theme) -> Style {
    match reference.of(row).map(|difference| difference.final_mean) {
        Some(delta) if excludes_zero(delta.interval) && delta.difference > 0.0 => theme.good,
        Some(delta) if excludes_zero(delta.interval) => theme.bad,
        _ => theme.text,
    }
}

fn type_label(kind: &TypeMeans) -> String {
    format!("  {}, {}", type_name(&kind.question_type), kind.items)
}

/// Where the parts of the screen lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Areas {
    pub(super) table: Rect,
    pub(super) words: Rect,
    /// Empty where there is no room.
    pub(super) chart: Rect,
    /// Empty where details are off.
    pub(super) details: Rect,
}

/// Columns from which table and details stand side by side.
const WIDE: u16 = 150;
/// Columns from which words and chart stand side by side.
const MEDIUM: u16 = 110;
/// Rows that a chart needs at least, with its box.
const CHART: u16 = 7;
/// Rows from which details are shown without being asked for.
const TALL: u16 = 34;

impl Areas {
    /// Lays the screen out. `lines` is the length of the table, `details` what a person chose.
    pub(super) fn of(area: Rect, lines: usize, details: Option<bool>) -> Self {
        let table_height = u16::try_from(lines).unwrap_or(u16::MAX).saturating_add(3);
        if area.width >= WIDE {
            let [left, right] =
                Layout::horizontal([Constraint::Fill(1), Constraint::Length(54)]).areas(area);
            let [table, words] =
                Layout::vertical([Constraint::Fill(1), Constraint::Length(10)]).areas(left);
            let chart_height = match details {
                Some(false) => right.height,
                _ => 12.min(right.height / 3),
            };
            let [chart, details] =
                Layout::vertical([Constraint::Length(chart_height), Constraint::Fill(1)])
                    .areas(right);
            return Self {
                table,
                words,
                chart,
                details,
            };
        }
        let has_details = details.unwrap_or(area.height >= TALL);
        let words_height = match has_details {
            true if area.height < TALL => 0,
            _ => 8.min(area.height / 3),
        };
        let [top, words] =
            Layout::vertical([Constraint::Fill(1), Constraint::Length(words_height)]).areas(area);
        let [table, details] = match has_details {
            true => {
                // Both get half at least, and the details what a short table leaves.
                let height = table_height.min(top.height / 2);
                Layout::vertical([Constraint::Length(height), Constraint::Fill(1)]).areas(top)
            }
            false => [top, Rect::ZERO],
        };
        let free = table.height.saturating_sub(table_height);
        let [table, words, chart] = if words.width >= MEDIUM {
            let [words, chart] =
                Layout::horizontal([Constraint::Fill(1), Constraint::Length(48)]).areas(words);
            [table, words, chart]
        } else if free >= CHART {
            // A short table leaves room for the chart below it.
            let [table, chart] =
                Layout::vertical([Constraint::Fill(1), Constraint::Length(free)]).areas(table);
            [table, words, chart]
        } else {
            [table, words, Rect::ZERO]
        };
        Self {
            table,
            words,
            chart,
            details,
        }
    }

    /// What lies within the box of an area.
    pub(super) fn inside(area: Rect) -> Rect {
        area.inner(ratatui::layout::Margin::new(1, 1))
    }
}
