//! Drawing into a buffer and reading it back, for tests.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::tui::terminal::text_of;
use crate::tui::theme::{ColorDepth, Look, ThemeName};

/// The rows of a buffer as text, without the spaces at their ends.
pub fn lines(buf: &Buffer) -> Vec<String> {
    text_of(buf).lines().map(str::to_owned).collect()
}

/// What is drawn into an area of this size, as [`lines`].
pub fn drawn(width: u16, height: u16, draw: impl FnOnce(Rect, &mut Buffer)) -> Vec<String> {
    let area = Rect::new(0, 0, width, height);
    let mut buf = Buffer::empty(area);
    draw(area, &mut buf);
    lines(&buf)
}

/// Draws into an area that lies within, beyond and across a small buffer: whatever is
/// drawn must stay inside the area, and nothing may panic.
pub fn draw_anywhere(area: Rect, draw: impl Fn(Rect, &mut Buffer)) {
    const UNTOUCHED: &str = "\u{2022}";
    let mut buf = Buffer::filled(
        Rect::new(2, 1, 30, 10),
        ratatui::buffer::Cell::new(UNTOUCHED),
    );
    draw(area, &mut buf);
    for y in buf.area.top()..buf.area.bottom() {
        for x in buf.area.left()..buf.area.right() {
            if !area.contains((x, y).into()) {
                assert_eq!(buf[(x, y)].symbol(), UNTOUCHED, "drew outside at {x},{y}");
            }
        }
    }
}

/// Without colour, in Unicode.
pub fn plain() -> Look {
    Look::new(ThemeName::None, ColorDepth::None, false)
}

/// Without colour, in ASCII.
pub fn ascii() -> Look {
    Look::new(ThemeName::None, ColorDepth::None, true)
}

/// With every colour, in Unicode.
pub fn colored() -> Look {
    Look::new(ThemeName::Dark, ColorDepth::True, false)
}
