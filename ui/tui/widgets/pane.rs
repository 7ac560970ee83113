//! A text that scrolls. It remembers what drawing found out, so that nothing is drawn only to
//! be counted.

use std::cell::Cell;
use std::ops::Range;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::panel::Panel;
use super::scroll::{ScrollText, position, visible};
use crate::tui::keymap::Action;
use crate::tui::theme::Look;

/// How far a text is scrolled.
#[derive(Clone, Debug, Default)]
pub struct Pane {
    /// Lines that are hidden above the window, or below it if it is kept at the end.
    away: Cell<usize>,
    is_at_end: bool,
    /// What drawing found: the most lines that can be hidden, and the lines of a page.
    found: Cell<Option<(usize, usize)>>,
}

impl Pane {
    /// A pane that shows the last lines until it is scrolled, and so follows a text that grows.
    pub fn at_end() -> Self {
        Self {
            is_at_end: true,
            ..Self::default()
        }
    }

    /// Back to where it began.
    pub fn reset(&mut self) {
        self.away.set(0);
    }

    /// Scrolls; returns whether the action is a movement.
    pub fn act(&mut self, action: Action) -> bool {
        let (most, page) = self.found.get().unwrap_or((usize::MAX, 1));
        let page = page.max(1);
        let away = self.away.get();
        let (less, more) = (
            |lines: usize| away.saturating_sub(lines),
            |lines: usize| away.saturating_add(lines).min(most.max(away)),
        );
        let to = match (action, self.is_at_end) {
            (Action::Up, false) | (Action::Down, true) => less(1),
            (Action::Down, false) | (Action::Up, true) => more(1),
            (Action::PageUp, false) | (Action::PageDown, true) => less(page),
            (Action::PageDown, false) | (Action::PageUp, true) => more(page),
            (Action::Top, false) | (Action::Bottom, true) => 0,
            // The text may have changed since: drawing finds its end.
            (Action::Bottom, false) | (Action::Top, true) => usize::MAX,
            _ => return false,
        };
        self.away.set(to);
        true
    }

    /// The lines on the screen of `total` in `height` rows. Scrolling past an end is undone.
    pub fn shown(&self, total: usize, height: usize) -> Range<usize> {
        let most = total.saturating_sub(height);
        self.found.set(Some((most, height)));
        let away = self.away.get().min(most);
        self.away.set(away);
        let first = if self.is_at_end { most - away } else { away };
        visible(first, total, height)
    }

    /// Draws lines that are wrapped to [`text_width`](super::scroll::text_width) of the area.
    pub fn draw(&self, lines: &[Line<'_>], area: Rect, buf: &mut Buffer, look: &Look) {
        let shown = self.shown(lines.len(), usize::from(area.height));
        let offset = shown.start;
        ScrollText { lines, offset }.render(area, buf, look);
    }

    /// Draws a box and the lines in it. Where the window is, if not all lines fit, is added to
    /// the note of the box.
    pub fn draw_boxed(
        &self,
        panel: &Panel<'_>,
        lines: &[Line<'_>],
        area: Rect,
        buf: &mut Buffer,
        look: &Look,
    ) {
        let height = usize::from(area.height.saturating_sub(2));
        let place = position(&self.shown(lines.len(), height), lines.len());
        let note = [panel.note, &place]
            .into_iter()
            .filter(|words| !words.is_empty());
        let note = note.collect::<Vec<_>>().join(", ");
        let inside = panel.note(&note).render(area, buf, look);
        self.draw(lines, inside, buf, look);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(mut pane: Pane, actions: &[Action]) -> Range<usize> {
        pane.shown(88, 19);
        for action in actions {
            assert!(pane.act(*action));
            pane.shown(88, 19);
        }
        pane.shown(88, 19)
    }

    #[test]
    fn a_text_scrolls_between_its_ends() {
        let down = [Action::Down, Action::PageDown, Action::Up];
        assert_eq!(after(Pane::default(), &down), 19..38);
        assert_eq!(
            after(Pane::default(), &[Action::Bottom, Action::Up]),
            68..87
        );
        assert_eq!(
            after(Pane::default(), &[Action::Bottom, Action::Top]),
            0..19
        );
        assert!(!Pane::default().act(Action::Open));
    }

    #[test]
    fn a_pane_at_the_end_follows_it_until_it_is_scrolled() {
        assert_eq!(after(Pane::at_end(), &[]), 69..88);
        assert_eq!(after(Pane::at_end(), &[Action::Up, Action::Up]), 67..86);
        let there_and_back = [Action::Top, Action::PageDown, Action::Bottom, Action::Down];
        assert_eq!(after(Pane::at_end(), &there_and_back[..2]), 19..38);
        assert_eq!(after(Pane::at_end(), &there_and_back), 69..88);
    }
}
