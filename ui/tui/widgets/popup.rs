//! A box over everything else.

use ratatui::buffer::{Buffer, CellWidth};
use ratatui::layout::Rect;
use ratatui::widgets::{Clear, Widget};

use super::panel::Panel;
use crate::tui::theme::Look;

/// A centred box with a title that hides what is below it.
#[derive(Clone, Copy, Debug)]
pub struct Popup<'a> {
    /// Names the content.
    pub title: &'a str,
    /// Cells across, the box included.
    pub width: u16,
    /// Rows, the box included.
    pub height: u16,
}

impl<'a> Popup<'a> {
    /// A box of at most this size; a smaller area makes it smaller.
    pub fn new(title: &'a str, width: u16, height: u16) -> Self {
        Self {
            title,
            width,
            height,
        }
    }

    /// Draws the empty box in the middle of `area` and returns the area for its content,
    /// which leaves a cell free at either side.
    pub fn render(&self, area: Rect, buf: &mut Buffer, look: &Look) -> Rect {
        let (width, height) = (self.width.min(area.width), self.height.min(area.height));
        let middle = Rect {
            x: area.x + (area.width - width) / 2,
            y: area.y + (area.height - height) / 2,
            width,
            height,
        };
        let area = middle.intersection(buf.area);
        clear(area, buf);
        let inside = Panel::new(self.title, true).render(area, buf, look);
        let margin = u16::from(inside.width > 2);
        Rect {
            x: inside.x + margin,
            width: inside.width - 2 * margin,
            ..inside
        }
    }
}

/// Empties an area. A wide sign whose second half is in it is removed as a whole: a terminal
/// would draw it over the edge.
fn clear(area: Rect, buf: &mut Buffer) {
    if let Some(left) = area.x.checked_sub(1) {
        for y in area.top()..area.bottom() {
            if let Some(cell) = buf.cell_mut((left, y))
                && cell.symbol().cell_width() > 1
            {
                cell.set_symbol(" ");
            }
        }
    }
    Clear.render(area, buf);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::widgets::testing::{drawn, plain};
    use proptest::prelude::*;

    #[test]
    fn what_lies_beneath_is_hidden_and_no_syllable_is_halved() {
        let lines = drawn(14, 3, |area, buf| {
            for y in 0..3 {
                buf.set_string(0, y, "한국어한국어한", plain().theme.text);
            }
            let inside = Popup::new("t", 8, 3).render(area, buf, &plain());
            assert_eq!(inside, Rect::new(5, 1, 4, 1));
        });
        assert_eq!(
            lines,
            ["한 ┏ t ━━━┓ 한", "한 ┃      ┃ 한", "한 ┗━━━━━━┛ 한"]
        );
    }

    proptest! {
        #[test]
        fn any_area(width in 0_u16..20, height in 0_u16..6, wide in 0_u16..300, high in 0_u16..300) {
            let mut inside = Rect::default();
            drawn(width, height, |area, buf| {
                inside = Popup::new("제목", wide, high).render(area, buf, &plain());
            });
            prop_assert!(inside.right() <= width.max(inside.x) && inside.bottom() <= height.max(inside.y));
        }
    }
}
