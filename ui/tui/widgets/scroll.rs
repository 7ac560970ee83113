//! Long text in a window, and the bar that shows where the window is.

use std::ops::Range;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;

use super::{cells, put, row_of};
use crate::tui::text;
use crate::tui::theme::Look;

/// Lines that scroll. They are wrapped already ([`wrapped`], [`super::diff::lines`]), to
/// [`text_width`] of the area.
#[derive(Clone, Copy, Debug)]
pub struct ScrollText<'a> {
    /// Every line.
    pub lines: &'a [Line<'a>],
    /// The first line that is wanted at the top; the last page stays full.
    pub offset: usize,
}

impl ScrollText<'_> {
    /// Draws the lines, and at the right a scrollbar if not all fit. Returns the lines that
    /// are on the screen.
    pub fn render(&self, area: Rect, buf: &mut Buffer, look: &Look) -> Range<usize> {
        let shown = visible(self.offset, self.lines.len(), usize::from(area.height));
        let mut content = area.intersection(buf.area);
        if shown.len() < self.lines.len() {
            content.width = content.width.saturating_sub(1);
            scrollbar(area, buf, &shown, self.lines.len(), look);
        }
        let lines = self.lines.get(shown.clone()).unwrap_or_default();
        for (row, line) in lines.iter().enumerate() {
            let place = row_of(content, cells(row));
            if !place.is_empty() {
                buf.set_line(place.x, place.y, line, place.width);
            }
        }
        shown
    }
}

/// Cells for text in an area whose last column may hold a scrollbar.
pub fn text_width(area: Rect) -> usize {
    usize::from(area.width.saturating_sub(1))
}

/// Any text as lines of at most `cells`, cleaned of all that acts on a terminal.
pub fn wrapped(text: &str, cells: usize, style: Style) -> Vec<Line<'static>> {
    text::wrap(text, cells)
        .into_iter()
        .map(|line| Line::styled(line, style))
        .collect()
}

/// The lines on the screen when `offset` is wanted at the top.
pub fn visible(offset: usize, total: usize, height: usize) -> Range<usize> {
    let first = offset.min(total.saturating_sub(height));
    first..(first + height).min(total)
}

/// Where the window is: `12-30 of 88`; empty if all is on the screen.
pub fn position(shown: &Range<usize>, total: usize) -> String {
    if shown.len() >= total {
        return String::new();
    }
    format!("{}-{} of {total}", shown.start + 1, shown.end)
}

/// Draws a scrollbar into the last column of an area.
pub fn scrollbar(area: Rect, buf: &mut Buffer, shown: &Range<usize>, total: usize, look: &Look) {
    let area = area.intersection(buf.area);
    let Some(left) = area.width.checked_sub(1) else {
        return;
    };
    let thumb = thumb(usize::from(area.height), shown, total);
    for row in 0..area.height {
        let (glyph, style) = if thumb.contains(&usize::from(row)) {
            (look.glyphs.scroll_thumb, look.theme.text)
        } else {
            (look.glyphs.scroll_track, look.theme.dim)
        };
        put(buf, area, left, row, glyph, style);
    }
}

/// The rows of the thumb: at least one, and at an edge only when the window is there.
fn thumb(height: usize, shown: &Range<usize>, total: usize) -> Range<usize> {
    if height == 0 || total == 0 {
        return 0..0;
    }
    let length = (shown.len() * height / total).clamp(1, height);
    let free = height - length;
    let hidden = total.saturating_sub(shown.len());
    let start = match (shown.start, hidden) {
        (0, _) | (_, 0) => 0,
        (start, _) if start >= hidden => free,
        (start, _) => {
            (start * free / hidden).clamp(free.min(1), free.saturating_sub(1).max(free.min(1)))
        }
    };
    start..start + length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tui::widgets::testing::{ascii, draw_anywhere, drawn, plain};

    #[test]
    fn the_window_follows_the_offset_and_the_last_page_is_full() {
        let lines = wrapped("가나다 라마\nthree\nfour\nfive", 7, Style::new());
        let text = |offset| {
            drawn(8, 3, |area, buf| {
                ScrollText {
                    lines: &lines,
                    offset,
                }
                .render(area, buf, &ascii());
            })
        };
        assert_eq!(text(0), ["가나다 #", "라마   |", "three  |"]);
        assert_eq!(text(99), ["three  |", "four   |", "five   #"]);
    }

    #[test]
    fn position_is_said_only_where_there_is_more() {
        assert_eq!(position(&visible(11, 88, 19), 88), "12-30 of 88");
        assert_eq!(position(&visible(0, 5, 19), 5), "");
    }

    #[test]
    fn the_thumb_touches_an_edge_only_at_the_end() {
        assert_eq!(thumb(10, &(0..10), 100), 0..1);
        assert_eq!(thumb(10, &(1..11), 100), 1..2);
        assert_eq!(thumb(10, &(89..99), 100), 8..9);
        assert_eq!(thumb(10, &(90..100), 100), 9..10);
    }

    proptest! {
        #[test]
        fn any_area(x in 0_u16..40, y in 0_u16..14, width in 0_u16..40, height in 0_u16..12,
                    text in "[가-힣 a-z\\n]{0,80}", offset in 0_usize..50) {
            let area = Rect::new(x, y, width, height);
            let lines = wrapped(&text, text_width(area), Style::new());
            draw_anywhere(area, |area, buf| {
                let shown = ScrollText { lines: &lines, offset }.render(area, buf, &plain());
                assert!(shown.end <= lines.len() && shown.len() <= usize::from(height));
            });
        }

        #[test]
        fn the_thumb_stays_on_its_track(height in 0_usize..30, offset in 0_usize..500, total in 0_usize..500) {
            let thumb = thumb(height, &visible(offset, total, height), total);
            prop_assert!(thumb.end <= height);
        }
    }
}
