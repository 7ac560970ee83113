//! The parts of a screen: where they are and which one has the keyboard.

use ratatui::layout::{Margin, Position, Rect};

/// Where the parts of a screen are. A part that is not shown has no cells.
#[derive(Clone, Debug)]
pub struct Areas<P>(Vec<(P, Rect)>);

impl<P: Copy + PartialEq> Areas<P> {
    /// The parts that are shown, each with its box.
    pub fn new(parts: impl IntoIterator<Item = (P, Rect)>) -> Self {
        Self(parts.into_iter().collect())
    }

    /// The area of a part, its box included.
    pub fn of(&self, part: P) -> Rect {
        let found = self.0.iter().find(|(known, _)| *known == part);
        found.map_or(Rect::ZERO, |(_, area)| *area)
    }

    /// The area of a part within its box.
    pub fn inside(&self, part: P) -> Rect {
        inside(self.of(part))
    }

    /// Whether a part has any cells.
    pub fn shows(&self, part: P) -> bool {
        !self.of(part).is_empty()
    }

    /// The part at a cell.
    pub fn at(&self, at: Position) -> Option<P> {
        let found = self.0.iter().find(|(_, area)| area.contains(at));
        found.map(|(part, _)| *part)
    }
}

/// What is within the box of an area.
pub fn inside(area: Rect) -> Rect {
    area.inner(Margin::new(1, 1))
}

/// A part of a screen.
pub trait Part: Copy + PartialEq + Default + 'static {
    /// The parts that can have the keyboard, in the order in which they get it.
    const RING: &'static [Self];
}

/// Which part of a screen has the keyboard; the default part at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Focus<P>(P);

impl<P: Part> Focus<P> {
    /// The part that has the keyboard.
    pub fn now(self) -> P {
        self.0
    }

    /// Whether this part has the keyboard.
    pub fn is(self, part: P) -> bool {
        self.0 == part
    }

    /// Gives the keyboard to a part, if the part can have it.
    pub fn set(&mut self, part: P) {
        if P::RING.contains(&part) {
            self.0 = part;
        }
    }

    /// Gives the keyboard to the next part (`1`) or the previous one (`-1`), round and round.
    pub fn step(&mut self, by: isize) {
        let index = P::RING.iter().position(|part| *part == self.0);
        let len = P::RING.len();
        let next = (index.unwrap_or(0) + len).saturating_add_signed(by) % len.max(1);
        self.0 = P::RING.get(next).copied().unwrap_or(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    enum Letter {
        #[default]
        A,
        B,
        C,
        Z,
    }

    impl Part for Letter {
        const RING: &'static [Self] = &[Self::A, Self::B, Self::C];
    }

    #[test]
    fn the_ring_has_no_end_and_clicks_find_what_is_shown() {
        let mut focus = Focus::default();
        focus.step(-1);
        assert!(focus.is(Letter::C));
        focus.step(1);
        focus.step(1);
        assert_eq!(focus.now(), Letter::B);
        focus.set(Letter::Z);
        assert_eq!(focus.now(), Letter::B);
        let areas = Areas::new([('a', Rect::new(0, 0, 9, 3)), ('b', Rect::ZERO)]);
        assert_eq!(areas.at(Position::new(8, 2)), Some('a'));
        assert_eq!(areas.at(Position::new(9, 2)), None);
        assert!(!areas.shows('b') && !areas.shows('c'));
        assert_eq!(areas.inside('a'), Rect::new(1, 1, 7, 1));
    }
}
