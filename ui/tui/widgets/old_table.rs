//! A table with a cursor, of which only the rows on the screen are made.

mod columns;

use std::ops::Range;

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;

use super::scroll::scrollbar;
use super::{cells, put, row_of};
use crate::tui::text::{Align, aligned, single_line, width};
use crate::tui::theme::Look;

pub use columns::{Column, fitting};

/// Which end of a sorted column is at the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The smallest.
    Ascending,
    /// The largest.
    Descending,
}

/// One value of a row. Any text may be given: it is cleaned when it is drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// The value as it is read.
    pub text: String,
    /// Its colours; those of the row lie beneath.
    pub style: Style,
}

impl Cell {
    /// A value with colours of its own.
    pub fn styled(text: impl Into<String>, style: Style) -> Self {
        Self {
            text: text.into(),
            style,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::new())
    }
}

/// A row: a cell for every column, whether it is on the screen or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// In the order of the columns.
    pub cells: Vec<Cell>,
    /// A person marked it.
    pub is_marked: bool,
    /// Colours of the whole row.
    pub style: Style,
}

impl Row {
    /// A row without a mark.
    pub fn new(cells: Vec<Cell>) -> Self {
        Self {
            cells,
            ..Self::default()
        }
    }
}

/// A table. At its left stand the cursor and the marks, at its right a scrollbar where not
/// all rows fit.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    /// Every column; those that fit are drawn ([`fitting`]).
    pub columns: &'a [Column],
    /// Rows there are.
    pub len: usize,
    /// The row under the cursor.
    pub cursor: usize,
    /// Makes a row; called for those on the screen only.
    pub row: &'a dyn Fn(usize) -> Row,
    /// The column by which the rows are sorted.
    pub sort: Option<(usize, Order)>,
    /// Said in place of rows where there are none.
    pub empty: &'a str,
}

/// The cursor, the mark and a space.
const LEAD: u16 = 3;

/// Cells between two columns.
pub const GAP: u16 = 2;

/// The rows on the screen: the cursor stays in the middle but at both ends of the list.
pub fn window(cursor: usize, len: usize, height: usize) -> Range<usize> {
    let cursor = cursor.min(len.saturating_sub(1));
    let first = cursor
        .saturating_sub(height / 2)
        .min(len.saturating_sub(height));
    first..(first + height).min(len)
}

impl Table<'_> {
    /// Draws the table: a row of heads, then the rows around the cursor.
    pub fn render(&self, area: Rect, buf: &mut Buffer, look: &Look) {
        let area = area.intersection(buf.area);
        self.render_heads(area, buf, look);
        let body = body(area);
        if self.len == 0 {
            let message = single_line(self.empty);
            put(buf, body, LEAD, 0, &message, look.theme.dim);
            return;
        }
        let shown = self.shown(area);
        let columns = self.shown_columns(area);
        for (line, index) in shown.clone().enumerate() {
            let row = (self.row)(index);
            let place = row_of(body, cells(line));
            self.render_row(index, &row, &columns, place, buf, look);
        }
        if shown.len() < self.len {
            scrollbar(body, buf, &shown, self.len, look);
        }
    }

    /// The row that is drawn at a cell of the screen.
    pub fn row_at(&self, area: Rect, at: Position) -> Option<usize> {
        let body = body(area);
        if !body.contains(at) {
            return None;
        }
        let shown = self.shown(area);
        let index = shown.start + usize::from(at.y - body.y);
        shown.contains(&index).then_some(index)
    }

    /// The column whose head is drawn at a cell of the screen.
    pub fn head_at(&self, area: Rect, at: Position) -> Option<usize> {
        if !row_of(area, 0).contains(at) {
            return None;
        }
        let mut left = area.x.saturating_add(LEAD);
        for (column, width) in self.shown_columns(area) {
            if (left..left.saturating_add(width)).contains(&at.x) {
                return Some(column);
            }
            left = left.saturating_add(width + GAP);
        }
        None
    }

    fn shown(&self, area: Rect) -> Range<usize> {
        window(self.cursor, self.len, usize::from(body(area).height))
    }

    /// The columns that fit, with their widths. The scrollbar's column is always kept
    /// free, so that columns do not jump when the list grows.
    fn shown_columns(&self, area: Rect) -> Vec<(usize, u16)> {
        fitting(self.columns, area.width.saturating_sub(LEAD + 2), GAP)
    }

    fn render_heads(&self, area: Rect, buf: &mut Buffer, look: &Look) {
        let mut left = LEAD;
        for (index, cells) in self.shown_columns(area) {
            let Some(column) = self.columns.get(index) else {
                continue;
            };
            let title = match self.sort {
                Some((sorted, order)) if sorted == index => {
                    let arrow = match order {
                        Order::Ascending => look.glyphs.ascending,
                        Order::Descending => look.glyphs.descending,
                    };
                    head_with_arrow(&column.title, arrow, usize::from(cells), look)
                }
                _ => column.title.clone(),
            };
            let ellipsis = look.glyphs.ellipsis;
            let text = aligned(&title, usize::from(cells), column.align, ellipsis);
            put(buf, area, left, 0, &text, look.theme.header);
            left += cells + GAP;
        }
    }

    fn render_row(
        &self,
        index: usize,
        row: &Row,
        columns: &[(usize, u16)],
        place: Rect,
        buf: &mut Buffer,
        look: &Look,
    ) {
        let is_selected = index == self.cursor.min(self.len.saturating_sub(1));
        let mut left = LEAD;
        for (column, cells) in columns {
            let (Some(cell), Some(column)) = (row.cells.get(*column), self.columns.get(*column))
            else {
                continue;
            };
            let text = aligned(
                &single_line(&cell.text),
                usize::from(*cells),
                column.align,
                look.glyphs.ellipsis,
            );
            put(buf, place, left, 0, &text, row.style.patch(cell.style));
            left += cells + GAP;
        }
        if row.is_marked {
            put(buf, place, 1, 0, look.glyphs.marked, look.theme.accent);
        }
        if is_selected {
            put(buf, place, 0, 0, look.glyphs.cursor, look.theme.accent);
            let line = Rect {
                width: place.width.saturating_sub(1),
                ..place
            };
            buf.set_style(line, look.theme.selection);
        }
    }
}

/// The arrow stays where the title must be cut.
fn head_with_arrow(title: &str, arrow: &str, cells: usize, look: &Look) -> String {
    let room = cells.saturating_sub(width(arrow));
    let title = aligned(
        title,
        room.min(width(title)),
        Align::Left,
        look.glyphs.ellipsis,
    );
    format!("{title}{arrow}")
}

/// The area below the heads.
fn body(area: Rect) -> Rect {
    Rect {
        y: area.y.saturating_add(1),
        height: area.height.saturating_sub(1),
        ..area
    }
}
