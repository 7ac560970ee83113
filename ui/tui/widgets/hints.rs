//! The footer: which keys do what here.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::{cells, put};
use crate::tui::text::width;
use crate::tui::theme::Look;

/// A key and what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint<'a> {
    /// The key as it is written on the screen: `space`, `^s`.
    pub key: &'a str,
    /// One or two words.
    pub label: &'a str,
    /// If not all fit, the smallest numbers stay.
    pub priority: u8,
}

/// A line of hints, as many as fit.
#[derive(Clone, Copy, Debug)]
pub struct Hints<'a> {
    hints: &'a [Hint<'a>],
    look: &'a Look,
}

/// Cells between two hints.
const GAP: usize = 2;

impl<'a> Hints<'a> {
    /// The hints in the order in which they are drawn.
    pub fn new(hints: &'a [Hint<'a>], look: &'a Look) -> Self {
        Self { hints, look }
    }

    /// Places of the hints that fit into `cells`, in the order in which they are drawn.
    /// Where one does not fit, those that matter less do not take its place.
    pub fn fitting(&self, cells: usize) -> Vec<usize> {
        let mut places: Vec<usize> = (0..self.hints.len()).collect();
        places.sort_by_key(|place| self.hints.get(*place).map(|hint| hint.priority));
        let mut used = 0;
        let mut fitting: Vec<usize> = places
            .into_iter()
            .take_while(|place| {
                let gap = if used == 0 { 0 } else { GAP };
                used += gap + self.hints.get(*place).map_or(0, hint_width);
                used <= cells
            })
            .collect();
        fitting.sort_unstable();
        fitting
    }

    /// Draws the hints into the first row of an area.
    pub fn render(&self, area: Rect, buf: &mut Buffer) {
        let theme = &self.look.theme;
        let mut left = 0;
        for place in self.fitting(usize::from(area.width)) {
            let Some(hint) = self.hints.get(place) else {
                continue;
            };
            left += put(buf, area, left, 0, hint.key, theme.key);
            left += 1;
            left += put(buf, area, left, 0, hint.label, theme.dim);
            left += cells(GAP);
        }
    }
}

fn hint_width(hint: &Hint<'_>) -> usize {
    width(hint.key) + 1 + width(hint.label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::widgets::testing::{drawn, plain};

    const HINTS: [Hint<'_>; 3] = [
        Hint {
            key: "enter",
            label: "open",
            priority: 2,
        },
        Hint {
            key: "space",
            label: "표시",
            priority: 3,
        },
        Hint {
            key: "?",
            label: "help",
            priority: 1,
        },
    ];

    fn line(width: u16) -> String {
        drawn(width, 1, |area, buf| {
            Hints::new(&HINTS, &plain()).render(area, buf)
        })
        .concat()
    }

    #[test]
    fn what_matters_stays_in_its_order() {
        assert_eq!(line(40), "enter open  space 표시  ? help");
        assert_eq!(line(29), "enter open  ? help");
        assert_eq!(line(17), "? help");
        assert_eq!(line(5), "");
        assert_eq!(line(0), "");
    }
}
