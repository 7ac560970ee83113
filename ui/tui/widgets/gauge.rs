//! Progress.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::{cells, put};
use crate::tui::text::{percent, single_line, width};
use crate::tui::theme::Look;

/// A bar of one line: `rollout [####....] 50.0%  3m 05s left`.
#[derive(Clone, Copy, Debug)]
pub struct Gauge<'a> {
    /// What is being done; may be empty.
    pub label: &'a str,
    /// The done part, 0 to 1; not finite where it is not known.
    pub ratio: f64,
    /// The time that is left, or another remark; can be empty.
    pub note: &'a str,
    /// Colours of the done part.
    pub style: Style,
}

/// A shorter bar shows nothing, so label and note give way to it.
const SHORTEST_BAR: usize = 4;

impl Gauge<'_> {
    /// Draws the bar into the first row of an area. Where the row is short the note goes
    /// first, then the label, then the bar.
    pub fn render(&self, area: Rect, buf: &mut Buffer, look: &Look) {
        let ratio = if self.ratio.is_finite() {
            self.ratio.clamp(0.0, 1.0)
        } else {
            f64::NAN
        };
        let amount = percent(ratio);
        let mut label = single_line(self.label);
        if !label.is_empty() {
            label.push(' ');
        }
        let mut note = single_line(self.note);
        if !note.is_empty() {
            note.insert_str(0, "  ");
        }
        let room = usize::from(area.width);
        // Two brackets and the space before the amount.
        let around = width(&amount) + 3;
        if width(&label) + SHORTEST_BAR + around + width(&note) > room {
            note.clear();
        }
        if width(&label) + SHORTEST_BAR + around > room {
            label.clear();
        }
        if SHORTEST_BAR + around > room {
            put(buf, area, 0, 0, &amount, look.theme.text);
            return;
        }
        let bar = room - width(&label) - around - width(&note);
        // Whole only when it is done.
        let full = (ratio * bar as f64) as usize;
        let glyphs = &look.glyphs;
        let pieces = [
            (label, look.theme.text),
            ("[".to_owned(), look.theme.dim),
            (glyphs.bar_full.repeat(full), self.style),
            (glyphs.bar_empty.repeat(bar - full), look.theme.dim),
            (format!("] {amount}"), look.theme.text),
            (note, look.theme.dim),
        ];
        let mut left = 0;
        for (text, style) in pieces {
            put(buf, area, left, 0, &text, style);
            left += cells(width(&text));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tui::widgets::testing::{ascii, draw_anywhere, drawn, plain};

    fn line(ratio: f64, width: u16) -> String {
        let gauge = Gauge {
            label: "학습",
            ratio,
            note: "3m left",
            style: Style::new(),
        };
        drawn(width, 1, |area, buf| gauge.render(area, buf, &ascii())).concat()
    }

    #[test]
    fn parts_give_way_to_the_bar() {
        assert_eq!(line(0.5, 30), "학습 [####....] 50.0%  3m left");
        assert_eq!(line(0.5, 21), "학습 [####....] 50.0%");
        assert_eq!(line(0.5, 14), "[###...] 50.0%");
        assert_eq!(line(0.5, 6), "50.0%");
        assert_eq!(line(0.5, 2), "50");
    }

    #[test]
    fn nearly_done_is_not_done_and_the_unknown_is_said() {
        assert_eq!(line(0.999, 21), "학습 [#######.] 99.9%");
        assert_eq!(line(7.0, 22), "학습 [########] 100.0%");
        assert_eq!(line(f64::NAN, 17), "학습 [........] ?");
    }

    proptest! {
        #[test]
        fn any_area(x in 0_u16..40, y in 0_u16..14, width in 0_u16..40, ratio in any::<f64>(),
                    label in "\\PC{0,12}") {
            let gauge = Gauge { label: &label, ratio, note: &label, style: Style::new() };
            draw_anywhere(Rect::new(x, y, width, 1), |area, buf| gauge.render(area, buf, &plain()));
        }
    }
}
