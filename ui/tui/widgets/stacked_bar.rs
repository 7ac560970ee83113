//! What fills a capacity.

use ratatui::text::{Line, Span};

use crate::tui::text::{bytes, percent};
use crate::tui::theme::Look;

/// A part of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// What it is.
    pub label: &'a str,
    /// How much of it there is.
    pub bytes: u64,
    /// Which pattern and colours it has: the same number looks the same in every bar.
    pub style: usize,
}

/// Parts next to each other, compared with a capacity. Each has a pattern that distinguishes it
/// without colour; what exceeds the capacity is drawn as overflow.
#[derive(Clone, Copy, Debug)]
pub struct StackedBar<'a> {
    /// The parts, from the left.
    pub parts: &'a [Part<'a>],
    /// The capacity; `None` if it is not known.
    pub capacity: Option<u64>,
    /// What the full width means, at least the total and the capacity. Two bars with
    /// the same number here can be compared.
    pub scale: u64,
}

/// What one cell of a bar shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Part(usize),
    Free,
    Capacity,
    Overflow,
}

impl<'a> StackedBar<'a> {
    /// A bar that takes the whole width.
    pub fn new(parts: &'a [Part<'a>], capacity: Option<u64>) -> Self {
        Self {
            parts,
            capacity,
            scale: 0,
        }
    }

    /// With a scale that it shares with other bars.
    #[must_use]
    pub fn scale(mut self, bytes: u64) -> Self {
        self.scale = bytes;
        self
    }

    /// The sum of the parts.
    pub fn total(&self) -> u64 {
        self.parts
            .iter()
            .fold(0, |sum: u64, part| sum.saturating_add(part.bytes))
    }

    /// Whether there is more than the capacity.
    pub fn is_over(&self) -> bool {
        self.capacity
            .is_some_and(|capacity| self.total() > capacity)
    }

    /// The bar and its numbers as text: `18.2 GiB of 24.0 GiB (75.8%)`,
    /// `26.0 GiB, 2.0 GiB more than 24.0 GiB`.
    pub fn summary(&self) -> String {
        let total = self.total();
        match self.capacity {
            None => bytes(total),
            Some(capacity) if total > capacity => format!(
                "{}, {} more than {}",
                bytes(total),
                bytes(total - capacity),
                bytes(capacity)
            ),
            Some(capacity) => format!(
                "{} of {} ({})",
                bytes(total),
                bytes(capacity),
                percent(total as f64 / capacity as f64)
            ),
        }
    }

    /// The bar alone as a line of this many cells.
    pub fn line(&self, cells: usize, look: &Look) -> Line<'static> {
        let marks = self.marks(cells).into_iter();
        let spans = marks.map(|mark| match mark {
            Mark::Part(index) => Span::styled(look.glyphs.part(index), look.theme.part(index)),
            Mark::Free => Span::styled(look.glyphs.bar_empty, look.theme.dim),
            Mark::Capacity => Span::styled(look.glyphs.capacity, look.theme.text),
            Mark::Overflow => Span::styled(look.glyphs.overflow, look.theme.bad),
        });
        spans.collect()
    }
}

impl StackedBar<'_> {
    /// What each cell of a bar of this width shows.
    fn marks(&self, width: usize) -> Vec<Mark> {
        let total = self.total();
        let whole = self.scale.max(total).max(self.capacity.unwrap_or(0));
        if whole == 0 {
            return vec![Mark::Free; width];
        }
        let place = |bytes: u64| (bytes as f64 / whole as f64 * width as f64).round() as usize;
        let mut marks = vec![Mark::Free; width];
        let mut start = 0;
        let mut sum: u64 = 0;
        for part in self.parts {
            sum = sum.saturating_add(part.bytes);
            let end = place(sum).min(width);
            for mark in marks.iter_mut().take(end).skip(start) {
                *mark = Mark::Part(part.style);
            }
            start = end;
        }
        if let Some(capacity) = self.capacity {
            // The mark is on the last cell that still fits.
            let at = place(capacity).clamp(1, width.max(1)) - 1;
            if self.is_over() {
                // However little is too much, it is seen.
                let first = (at + 1).min(width.saturating_sub(1));
                let last = start.max(first + 1);
                for mark in marks.iter_mut().take(last).skip(first) {
                    *mark = Mark::Overflow;
                }
            }
            let at = if self.is_over() {
                at.min(width.saturating_sub(2))
            } else {
                at
            };
            if let Some(mark) = marks.get_mut(at) {
                *mark = Mark::Capacity;
            }
        }
        marks
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ratatui::layout::Rect;
    use ratatui::widgets::Widget;

    use super::*;
    use crate::tui::widgets::testing::{ascii, draw_anywhere, drawn, plain};

    const GIB: u64 = 1 << 30;

    const PARTS: [Part<'_>; 3] = [
        Part {
            label: "weights",
            bytes: 8 * GIB,
            style: 0,
        },
        Part {
            label: "KV 캐시",
            bytes: 6 * GIB,
            style: 1,
        },
        Part {
            label: "reserve",
            bytes: 2 * GIB,
            style: 2,
        },
    ];

    fn bar(capacity: Option<u64>, width: u16) -> String {
        drawn(width, 1, |area, buf| {
            StackedBar::new(&PARTS, capacity)
                .line(area.width.into(), &ascii())
                .render(area, buf);
        })
        .concat()
    }

    #[test]
    fn parts_free_room_and_capacity() {
        assert_eq!(bar(Some(24 * GIB), 24), "########======%%.......|");
        assert_eq!(bar(None, 16), "########======%%");
        let compared = drawn(32, 1, |area, buf| {
            StackedBar::new(&PARTS, Some(24 * GIB))
                .scale(32 * GIB)
                .line(area.width.into(), &ascii())
                .render(area, buf);
        });
        assert_eq!(compared[0], "########======%%.......|........");
    }

    #[test]
    fn overflow_lies_beyond_the_capacity() {
        assert_eq!(bar(Some(12 * GIB), 16), "########===|!!!!");
        assert_eq!(bar(Some(16 * GIB - 1), 16), "########======|!");
        assert_eq!(bar(Some(0), 4), "|!!!");
    }

    #[test]
    fn numbers_in_words() {
        let fits = StackedBar::new(&PARTS, Some(24 * GIB));
        assert_eq!(fits.summary(), "16.0 GiB of 24.0 GiB (66.7%)");
        let over = StackedBar::new(&PARTS, Some(12 * GIB));
        assert_eq!(over.summary(), "16.0 GiB, 4.0 GiB more than 12.0 GiB");
    }

    proptest! {
        #[test]
        fn any_area(x in 0_u16..40, y in 0_u16..14, width in 0_u16..40, height in 0_u16..9,
                    sizes in prop::collection::vec(any::<u64>(), 0..6),
                    capacity in prop::option::of(any::<u64>())) {
            let parts: Vec<Part<'_>> = sizes
                .iter()
                .enumerate()
                .map(|(style, bytes)| Part { label: "한글", bytes: *bytes, style })
                .collect();
            draw_anywhere(Rect::new(x, y, width, height), |area, buf| {
                StackedBar::new(&parts, capacity).line(area.width.into(), &plain()).render(area, buf);
            });
        }

        #[test]
        fn too_much_is_always_seen(total in 1_u64..1_000_000, width in 2_usize..60, share in 0_u64..1000, scale in 0_u64..4_000_000) {
            let parts = [Part { label: "a", bytes: total, style: 0 }];
            let capacity = total * share / 1000;
            let marks = StackedBar::new(&parts, Some(capacity)).scale(scale).marks(width);
            prop_assert_eq!(marks.contains(&Mark::Overflow), capacity < total);
            prop_assert!(marks.contains(&Mark::Capacity));
        }
    }
}
