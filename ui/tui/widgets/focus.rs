//! The parts of a screen: where they are and which one has the keyboard.

use std::cell::RefCell;

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

/// Which part of a screen has the keyboard, the default part at first, and where the parts were
/// drawn.
#[derive(Clone, Debug)]
pub struct Focus<P> {
    now: P,
    drawn: RefCell<Areas<P>>,
}

impl<P: Part> Default for Focus<P> {
    fn default() -> Self {
        Self {
            now: P::default(),
            drawn: RefCell::new(Areas::new([])),
        }
    }
}

impl<P: Part> Focus<P> {
    /// The part that has the keyboard.
    pub fn now(&self) -> P {
        self.now
    }

    /// Whether this part has the keyboard.
    pub fn is(&self, part: P) -> bool {
        self.now == part
    }

    /// Gives the keyboard to a part, if the part can have it.
    pub fn set(&mut self, part: P) {
        if P::RING.contains(&part) {
            self.now = part;
        }
    }

    /// Gives the keyboard to the next part (`1`) or the previous one (`-1`), round and round.
    pub fn step(&mut self, by: isize) {
        self.now = after(P::RING, self.now, by);
    }

    /// Remembers where the parts are drawn, for clicks.
    pub fn drawn(&self, areas: &Areas<P>) {
        self.drawn.replace(areas.clone());
    }

    /// The part that was drawn at a cell gets the keyboard, if it can have it. Returns the part.
    pub fn click(&mut self, at: Position) -> Option<P> {
        let part = self.drawn.borrow().at(at)?;
        self.set(part);
        Some(part)
    }
}

/// What comes `by` places after `now` in a ring; the first one if `now` is not in it.
pub fn after<T: Copy + PartialEq>(ring: &[T], now: T, by: isize) -> T {
    let index = ring.iter().position(|it| *it == now);
    let next = match index {
        Some(index) => (index + ring.len()).saturating_add_signed(by) % ring.len().max(1),
        None => 0,
    };
    ring.get(next).copied().unwrap_or(now)
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
        let mut focus = Focus::<Letter>::default();
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
