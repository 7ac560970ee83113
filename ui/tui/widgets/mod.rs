//! What the screens are put together from: plain values that draw themselves into a
//! buffer.
//!
//! A widget gets everything it needs (content, [`Look`](super::theme::Look)). What stays between
//! two frames (a cursor, a scroll offset, the keyboard's focus, a text being typed) is in
//! [`list::List`], [`table::Table`], [`pane::Pane`], [`focus::Focus`] and [`field::TextField`],
//! which also remember what drawing found out. Every widget draws into any area, down to none at all, and
//! never outside the buffer. Meaning is carried by signs and words first, colour second.

pub mod chart;
pub mod diff;
pub mod field;
pub mod focus;
pub mod gauge;
pub mod hints;
pub mod list;
pub mod page;
pub mod pane;
pub mod panel;
pub mod popup;
pub mod scroll;
pub mod spark;
pub mod stacked_bar;
pub mod table;
#[cfg(test)]
pub(crate) mod testing;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

/// Draws text into one row of an area, `left` cells from its edge and `row` rows down, cut
/// at the area's right edge. Returns the cells that were drawn.
fn put(buf: &mut Buffer, area: Rect, left: u16, row: u16, text: &str, style: Style) -> u16 {
    let area = area.intersection(buf.area);
    if left >= area.width || row >= area.height {
        return 0;
    }
    let start = area.x + left;
    let room = usize::from(area.width - left);
    let (end, _) = buf.set_stringn(start, area.y + row, text, room, style);
    end - start
}

/// A number of cells as ratatui counts them; a text wider than any terminal is clipped.
fn cells(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

/// One row of an area; empty if the area has no such row.
fn row_of(area: Rect, row: u16) -> Rect {
    Rect {
        y: area.y.saturating_add(row),
        height: u16::from(row < area.height),
        ..area
    }
}
