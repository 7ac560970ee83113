//! A list with a cursor that stays on its item while other items come and go. Every movement
//! of a cursor is here.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use super::scroll::scrollbar;
use super::{cells, row_of};
use crate::tui::keymap::Action;
use crate::tui::theme::Look;

/// An item of a [`List`].
pub trait Item {
    /// What the item is recognised by when the list has changed.
    type Id: Clone + PartialEq;

    /// `None` for a line on which the cursor cannot stand, such as a heading.
    fn id(&self) -> Option<&Self::Id>;
}

impl<T: Item> Item for &T {
    type Id = T::Id;

    fn id(&self) -> Option<&T::Id> {
        T::id(self)
    }
}

impl<T: Item> Item for Arc<T> {
    type Id = T::Id;

    fn id(&self) -> Option<&T::Id> {
        T::id(self)
    }
}

/// Where a movement leads from an index among `len`; `None` if the action is no movement. A
/// page has `page` items.
pub fn moved(action: Action, from: usize, len: usize, page: usize) -> Option<usize> {
    let last = len.saturating_sub(1);
    let to = match action {
        Action::Up => from.saturating_sub(1),
        Action::Down => from.saturating_add(1),
        Action::PageUp => from.saturating_sub(page.max(1)),
        Action::PageDown => from.saturating_add(page.max(1)),
        Action::Top => 0,
        Action::Bottom => last,
        _ => return None,
    };
    Some(to.min(last))
}

/// The items on the screen: the cursor stays in the middle except at both ends of the list.
pub fn window(cursor: usize, len: usize, height: usize) -> Range<usize> {
    let cursor = cursor.min(len.saturating_sub(1));
    let first = cursor
        .saturating_sub(height / 2)
        .min(len.saturating_sub(height));
    first..(first + height).min(len)
}

/// Which item a search has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// One further on.
    Further,
    /// None further on, so the first one from the other end.
    Wrapped,
    /// None at all.
    Nothing,
}

/// The cursor of a list, and where the list was drawn. The items themselves are passed to
/// every call: they belong to the screen.
#[derive(Clone, Debug)]
pub struct List<Id> {
    /// The item under the cursor.
    id: Option<Id>,
    /// Its index when it was seen last: if the item disappears, the one there is selected.
    index: usize,
    /// Where the rows were drawn, and the index of the first one.
    drawn: Cell<(Rect, usize)>,
}

impl<Id> Default for List<Id> {
    fn default() -> Self {
        Self {
            id: None,
            index: 0,
            drawn: Cell::default(),
        }
    }
}

impl<Id: Clone + PartialEq> List<Id> {
    /// Index of the item under the cursor; 0 if there is none.
    pub fn cursor<T: Item<Id = Id>>(&self, items: &[T]) -> usize {
        let is_it = |item: &T| self.id.is_some() && item.id() == self.id.as_ref();
        if items.get(self.index).is_some_and(is_it) {
            return self.index;
        }
        let found = items.iter().position(is_it);
        found.unwrap_or_else(|| nearest(items, self.index))
    }

    /// The item under the cursor.
    pub fn selected<'a, T: Item<Id = Id>>(&self, items: &'a [T]) -> Option<&'a T> {
        items
            .get(self.cursor(items))
            .filter(|item| item.id().is_some())
    }

    /// Moves the cursor to an item, or to the one nearest to it on which it can stand. Returns
    /// whether it is another item now.
    pub fn select<T: Item<Id = Id>>(&mut self, index: usize, items: &[T]) -> bool {
        self.index = nearest(items, index);
        let id = items.get(self.index).and_then(Item::id).cloned();
        let is_other = id != self.id;
        self.id = id;
        is_other
    }

    /// Moves the cursor to the item with this id, which need not be listed yet.
    #[cfg(test)]
    pub fn select_id(&mut self, id: Id) {
        self.id = Some(id);
    }

    /// Finds the item again after the items have changed; if it disappeared, the cursor moves
    /// to the one in its place.
    pub fn follow<T: Item<Id = Id>>(&mut self, items: &[T]) {
        self.select(self.cursor(items), items);
    }

    /// Carries out a movement; returns whether the action is one.
    pub fn act<T: Item<Id = Id>>(&mut self, action: Action, items: &[T]) -> bool {
        let places: Vec<usize> = places(items).collect();
        let cursor = self.cursor(items);
        let from = places.partition_point(|place| *place < cursor);
        match moved(action, from, places.len(), self.page()) {
            Some(to) => {
                self.select(places.get(to).copied().unwrap_or(0), items);
                true
            }
            None => false,
        }
    }

    /// Moves the cursor to the next or previous wanted item, from one end on to the other.
    pub fn search<T: Item<Id = Id>>(
        &mut self,
        is_forward: bool,
        items: &[T],
        is_wanted: impl Fn(&T) -> bool,
    ) -> Search {
        let wanted: Vec<usize> = places(items)
            .filter(|place| items.get(*place).is_some_and(&is_wanted))
            .collect();
        let cursor = self.cursor(items);
        let (next, end) = if is_forward {
            (wanted.iter().find(|place| **place > cursor), wanted.first())
        } else {
            let before = wanted.iter().rev().find(|place| **place < cursor);
            (before, wanted.last())
        };
        match (next, end) {
            (Some(place), _) => {
                self.select(*place, items);
                Search::Further
            }
            (None, Some(place)) => {
                self.select(*place, items);
                Search::Wrapped
            }
            (None, None) => Search::Nothing,
        }
    }

    /// The index of the item that was drawn at a cell of the screen.
    pub fn index_at(&self, at: Position) -> Option<usize> {
        let (area, first) = self.drawn.get();
        area.contains(at)
            .then(|| first + usize::from(at.y - area.y))
    }

    /// Selects the item at a cell; returns whether there is one.
    pub fn click<T: Item<Id = Id>>(&mut self, at: Position, items: &[T]) -> bool {
        let index = self.index_at(at);
        let on_item = |index: &usize| items.get(*index).is_some_and(|item| item.id().is_some());
        match index.filter(on_item) {
            Some(index) => {
                self.select(index, items);
                true
            }
            None => false,
        }
    }

    /// Items of a page, as the list was drawn last.
    pub fn page(&self) -> usize {
        usize::from(self.drawn.get().0.height)
    }

    /// Draws the items around the cursor, each by `row` (item, whether the cursor is on it, its
    /// cells, the buffer), and a scrollbar in the last column, which is always kept free.
    pub fn draw<T: Item<Id = Id>>(
        &self,
        items: &[T],
        area: Rect,
        buf: &mut Buffer,
        look: &Look,
        mut row: impl FnMut(&T, bool, Rect, &mut Buffer),
    ) {
        let area = area.intersection(buf.area);
        let cursor = self.cursor(items);
        let shown = window(cursor, items.len(), usize::from(area.height));
        self.drawn.set((area, shown.start));
        let rows = Rect {
            width: area.width.saturating_sub(1),
            ..area
        };
        for (line, index) in shown.clone().enumerate() {
            if let Some(item) = items.get(index) {
                let is_selected = index == cursor && item.id().is_some();
                row(item, is_selected, row_of(rows, cells(line)), buf);
            }
        }
        if shown.len() < items.len() {
            scrollbar(area, buf, &shown, items.len(), look);
        }
    }
}

/// Indices of the items on which the cursor can stand.
fn places<T: Item>(items: &[T]) -> impl Iterator<Item = usize> {
    let items = items.iter().enumerate();
    items.filter_map(|(index, item)| item.id().map(|_| index))
}

/// The index itself if the cursor can stand there, else the next one, else the last one.
fn nearest<T: Item>(items: &[T], index: usize) -> usize {
    let next = places(items).find(|place| *place >= index);
    next.or_else(|| places(items).last()).unwrap_or(0)
}

/// Items that the user has marked, in the order in which they were marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks<Id>(Vec<Id>);

impl<Id> Default for Marks<Id> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<Id: Clone + PartialEq> Marks<Id> {
    /// Marks an item, or takes its mark away.
    pub fn toggle(&mut self, id: &Id) {
        match self.0.iter().position(|marked| marked == id) {
            Some(index) => {
                self.0.remove(index);
            }
            None => self.0.push(id.clone()),
        }
    }

    /// Takes every mark away.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Keeps the marks of items that still exist.
    pub fn retain(&mut self, exists: impl FnMut(&Id) -> bool) {
        self.0.retain(exists);
    }

    /// The marked items.
    pub fn all(&self) -> &[Id] {
        &self.0
    }
}
