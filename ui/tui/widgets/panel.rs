//! A box with a title.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Rect};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Widget};

use super::scroll::{ScrollText, wrapped};
use crate::tui::text::{single_line, truncate, width};
use crate::tui::theme::Look;

/// A box with a title, and a note at the right of the same edge if it fits.
#[derive(Clone, Copy, Debug)]
pub struct Panel<'a> {
    /// Names the content.
    pub title: &'a str,
    /// A word about its state, such as `12-30 of 88`; may be empty.
    pub note: &'a str,
    /// The keyboard goes here: the box is drawn in another line style.
    pub is_focused: bool,
}

impl<'a> Panel<'a> {
    /// A box without a note.
    pub fn new(title: &'a str, is_focused: bool) -> Self {
        Self {
            title,
            note: "",
            is_focused,
        }
    }

    /// With a note.
    #[must_use]
    pub fn note(mut self, note: &'a str) -> Self {
        self.note = note;
        self
    }

    /// Draws the box and returns the area inside it.
    pub fn render(&self, area: Rect, buf: &mut Buffer, look: &Look) -> Rect {
        let area = area.intersection(buf.area);
        let (set, style) = if self.is_focused {
            (look.glyphs.border_focused, look.theme.border_focused)
        } else {
            (look.glyphs.border, look.theme.border)
        };
        let mut block = Block::bordered().border_set(set).border_style(style);
        // Two corners, and a space at either side of the words.
        let room = usize::from(area.width).saturating_sub(4);
        let title = truncate(&single_line(self.title), room, look.glyphs.ellipsis);
        let note = single_line(self.note);
        if !title.is_empty() {
            let words = Line::styled(format!(" {title} "), look.theme.title);
            block = block.title_top(words);
        }
        if !note.is_empty() && width(&title) + width(&note) + 3 <= room {
            let words = Line::styled(format!(" {note} "), look.theme.dim);
            block = block.title_top(words.alignment(Alignment::Right));
        }
        let inside = block.inner(area);
        block.render(area, buf);
        inside
    }
}

/// A box with sentences, for a screen that has nothing else to show yet.
pub fn explain(title: &str, sentences: &[String], area: Rect, buf: &mut Buffer, look: &Look) {
    let inside = Panel::new(title, true).render(area, buf, look);
    let cells = usize::from(inside.width);
    let paragraphs = sentences.iter().flat_map(|sentence| {
        let mut lines = wrapped(sentence, cells, look.theme.text);
        lines.push(Line::default());
        lines
    });
    let lines: Vec<Line<'_>> = paragraphs.collect();
    ScrollText {
        lines: &lines,
        offset: 0,
    }
    .render(inside, buf, look);
}

/// A few sentences in the upper part of an area, for a part of a screen that is empty.
pub fn tell(sentences: &[&str], area: Rect, buf: &mut Buffer, look: &Look) {
    let cells = usize::from(area.width.saturating_sub(2));
    let lines: Vec<Line<'_>> = sentences
        .iter()
        .filter(|sentence| !sentence.is_empty())
        .flat_map(|sentence| wrapped(&single_line(sentence), cells, look.theme.dim))
        .collect();
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let upper = Rect {
        y: area.y + area.height.saturating_sub(height) / 3,
        height: height.min(area.height),
        ..area
    };
    Paragraph::new(lines)
        .centered()
        .render(upper.intersection(buf.area), buf);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::widgets::testing::{ascii, draw_anywhere, drawn, plain};
    use proptest::prelude::*;

    #[test]
    fn title_note_and_inside() {
        let lines = drawn(24, 3, |area, buf| {
            let inside = Panel::new("보상", false)
                .note("1-2 of 9")
                .render(area, buf, &plain());
            assert_eq!(inside, Rect::new(1, 1, 22, 1));
        });
        assert_eq!(
            lines,
            [
                "┌ 보상 ────── 1-2 of 9 ┐",
                "│                      │",
                "└──────────────────────┘"
            ]
        );
    }

    #[test]
    fn focus_shows_without_colour_and_titles_are_cut() {
        let lines = drawn(12, 3, |area, buf| {
            Panel::new("a long title", true)
                .note("gone")
                .render(area, buf, &ascii());
        });
        assert_eq!(lines[0], "# a long ~ #");
        assert_eq!(lines[2], "#==========#");
    }

    proptest! {
        #[test]
        fn any_area(x in 0_u16..40, y in 0_u16..14, width in 0_u16..40, height in 0_u16..9,
                    title in "\\PC{0,20}") {
            draw_anywhere(Rect::new(x, y, width, height), |area, buf| {
                Panel::new(&title, true).note("한글").render(area, buf, &plain());
            });
            draw_anywhere(Rect::new(x, y, width, height), |area, buf| {
                tell(&["아직 아무것도 없다", ""], area, buf, &plain());
            });
            draw_anywhere(Rect::new(x, y, width, height), |area, buf| {
                explain("빈 화면", &["nothing yet".to_owned()], area, buf, &plain());
            });
        }
    }
}
