//! A table whose columns are data: a [`Column`] has its heading, what it shows, what it sorts
//! by, its width and how it is exported. The cursor is that of a [`List`].

use std::borrow::Cow;
use std::cell::RefCell;
use std::cmp::Ordering;

use moim_core::score::names::natural_order;
use moim_core::score::render::csv_line;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;

use super::list::{Item, List};
use super::put;
use crate::tui::text::{Align, aligned, single_line, width};
use crate::tui::theme::Look;

/// Which end of a sorted column is at the top.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The smallest.
    #[default]
    Ascending,
    /// The largest.
    Descending,
}

impl Order {
    fn reversed(self) -> Self {
        match self {
            Self::Ascending => Self::Descending,
            Self::Descending => Self::Ascending,
        }
    }
}

/// One value of a row. Any text may be given: it is cleaned when it is drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// The value as it is read.
    pub text: String,
    /// Its colours, over those of the row.
    pub style: Style,
}

impl Cell {
    /// A value with its own colours.
    pub fn styled(text: impl Into<String>, style: Style) -> Self {
        Self {
            text: text.into(),
            style,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::styled(text, Style::new())
    }
}

/// What a row is sorted by.
#[derive(Clone, Debug, PartialEq)]
pub enum Key {
    Number(f64),
    /// Sorted letter by letter.
    Text(String),
    /// Sorted with its numbers as numbers: `epoch2` before `epoch10`.
    Name(String),
    /// Last in either direction.
    Missing,
}

impl Key {
    /// A number; missing if it is not finite.
    pub fn number(value: impl Into<Option<f64>>) -> Self {
        match value.into().filter(|value| value.is_finite()) {
            Some(value) => Self::Number(value),
            None => Self::Missing,
        }
    }

    fn compare(&self, other: &Self, order: Order) -> Ordering {
        let ascending = match (self, other) {
            (Self::Missing, _) | (_, Self::Missing) => {
                let is_missing = |key: &Self| *key == Self::Missing;
                return is_missing(self).cmp(&is_missing(other));
            }
            (Self::Number(left), Self::Number(right)) => left.total_cmp(right),
            (Self::Text(left), Self::Text(right)) => left.cmp(right),
            (Self::Name(left), Self::Name(right)) => natural_order(left, right),
            _ => Ordering::Equal,
        };
        match order {
            Order::Ascending => ascending,
            Order::Descending => ascending.reverse(),
        }
    }
}

/// A value of a row: what a column shows, sorts by or exports.
type Of<'a, T, V> = Box<dyn Fn(&T) -> V + 'a>;

/// What a column shows of a row.
type CellOf<'a, T> = Box<dyn Fn(&T, &Look) -> Cell + 'a>;

/// A column of a table of `T`.
pub struct Column<'a, T> {
    /// Above the column.
    pub heading: Cow<'a, str>,
    /// In sentences, after "by"; the heading if it is empty.
    pub name: Cow<'a, str>,
    /// The side of its values.
    pub align: Align,
    /// With fewer cells than this the column is not drawn.
    pub minimum: u16,
    /// Cells that its values need.
    pub ideal: u16,
    /// If not all fit, the smallest numbers stay.
    pub priority: u8,
    /// It takes what is left when every column has its ideal width.
    pub grows: bool,
    /// What it shows of a row.
    pub cell: CellOf<'a, T>,
    /// What it sorts by; `None` if it does not sort.
    pub key: Option<Of<'a, T, Key>>,
    /// The direction in which it is sorted at first.
    pub first: Order,
    /// Its headings in a file, none if it is not exported, and the values under them.
    pub export: (&'a [&'a str], Of<'a, T, Vec<String>>),
}

impl<'a, T> Column<'a, T> {
    /// A column of text that is `ideal` cells wide if there is space, and of any width down to
    /// its heading; priority 0.
    pub fn text<C: Into<Cell>>(
        heading: impl Into<Cow<'a, str>>,
        ideal: u16,
        cell: impl Fn(&T, &Look) -> C + 'a,
    ) -> Self {
        let heading = heading.into();
        let shortest = u16::try_from(width(&heading)).unwrap_or(u16::MAX).max(4);
        Self {
            heading,
            name: Cow::Borrowed(""),
            align: Align::Left,
            minimum: shortest.min(ideal),
            ideal,
            priority: 0,
            grows: false,
            cell: Box::new(move |row, look| cell(row, look).into()),
            key: None,
            first: Order::Ascending,
            export: (&[], Box::new(|_: &T| Vec::new())),
        }
    }

    /// A column of numbers, `cells` wide or not drawn; priority 0.
    pub fn number<C: Into<Cell>>(
        heading: impl Into<Cow<'a, str>>,
        cells: u16,
        cell: impl Fn(&T, &Look) -> C + 'a,
    ) -> Self {
        Self {
            align: Align::Right,
            minimum: cells,
            ..Self::text(heading, cells, cell)
        }
    }

    /// With another priority.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = priority;
        self
    }

    /// Takes what is left of the width.
    #[must_use]
    pub fn growing(mut self) -> Self {
        self.grows = true;
        self
    }

    /// With another smallest width.
    #[must_use]
    pub fn minimum(mut self, cells: u16) -> Self {
        self.minimum = cells.min(self.ideal);
        self
    }

    /// Sorts by this, in this direction at first; `name` is its name in sentences.
    #[must_use]
    pub fn sorts(
        mut self,
        name: impl Into<Cow<'a, str>>,
        first: Order,
        key: impl Fn(&T) -> Key + 'a,
    ) -> Self {
        self.name = name.into();
        self.first = first;
        self.key = Some(Box::new(key));
        self
    }

    /// Is written to files under these headings; missing values are empty.
    #[must_use]
    pub fn exports(
        mut self,
        headings: &'a [&'a str],
        values: impl Fn(&T) -> Vec<String> + 'a,
    ) -> Self {
        self.export = (headings, Box::new(values));
        self
    }
}

/// The column by which a table is sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sort {
    /// Its index.
    pub column: usize,
    /// Against the direction in which it is sorted at first.
    pub is_reversed: bool,
}

impl Sort {
    /// In the direction in which the column is sorted at first.
    pub const fn by(column: usize) -> Self {
        Self {
            column,
            is_reversed: false,
        }
    }

    /// Sorts by the next column that sorts, round and round.
    pub fn next<T>(&mut self, columns: &[Column<'_, T>]) {
        let after = (self.column + 1..columns.len()).chain(0..=self.column);
        let sorts = |index: &usize| columns.get(*index).is_some_and(|it| it.key.is_some());
        *self = Self::by(after.into_iter().find(sorts).unwrap_or(self.column));
    }

    /// Sorts by a column whose heading was clicked; the one that sorts already is reversed.
    pub fn choose<T>(&mut self, column: usize, columns: &[Column<'_, T>]) {
        if columns.get(column).is_some_and(|it| it.key.is_some()) {
            *self = Self {
                column,
                is_reversed: column == self.column && !self.is_reversed,
            };
        }
    }

    /// The direction.
    pub fn order<T>(self, columns: &[Column<'_, T>]) -> Order {
        let first = columns.get(self.column).map(|column| column.first);
        let first = first.unwrap_or_default();
        if self.is_reversed {
            first.reversed()
        } else {
            first
        }
    }

    /// The order of two rows. Missing values come last in either direction.
    pub fn compare<T>(self, columns: &[Column<'_, T>], left: &T, right: &T) -> Ordering {
        let key = columns
            .get(self.column)
            .and_then(|column| column.key.as_ref());
        key.map_or(Ordering::Equal, |key| {
            key(left).compare(&key(right), self.order(columns))
        })
    }
}

/// The columns that are exported, as CSV with a line of headings.
pub fn to_csv<T>(columns: &[Column<'_, T>], items: &[T]) -> String {
    let headings = columns.iter().flat_map(|column| column.export.0);
    let headings: Vec<String> = headings.map(|heading| (*heading).to_owned()).collect();
    let row = |item: &T| {
        let values = columns.iter().flat_map(|column| {
            let (headings, values) = &column.export;
            let mut values = values(item);
            values.resize(headings.len(), String::new());
            values
        });
        csv_line(&values.collect::<Vec<String>>())
    };
    std::iter::once(csv_line(&headings))
        .chain(items.iter().map(row))
        .collect()
}

/// A table: its cursor, and where its headings were drawn. At its left are the cursor and the
/// marks, at its right a scrollbar if not all rows fit.
#[derive(Clone, Debug)]
pub struct Table<Id> {
    /// The cursor and its movements.
    pub list: List<Id>,
    headings: RefCell<Vec<(usize, Rect)>>,
}

impl<Id> Default for Table<Id> {
    fn default() -> Self {
        Self {
            list: List::default(),
            headings: RefCell::default(),
        }
    }
}

/// What a table shows at the moment.
pub struct Sheet<'a, T: Item> {
    /// Every column; those that fit are drawn ([`fitting`]).
    pub columns: &'a [Column<'a, T>],
    pub items: &'a [T],
    pub marks: &'a [T::Id],
    /// The column by which the rows are sorted.
    pub sort: Option<Sort>,
    /// Colours of a whole row.
    pub style: &'a dyn Fn(&T, &Look) -> Style,
    /// Said instead of rows if there are none.
    pub empty: &'a str,
}

/// The cursor, the mark and a space.
const LEAD: u16 = 3;

/// Cells between two columns.
pub const GAP: u16 = 2;

impl<Id: Clone + PartialEq> Table<Id> {
    /// Draws a row of headings, then the rows around the cursor.
    pub fn draw<T: Item<Id = Id>>(
        &self,
        sheet: &Sheet<'_, T>,
        area: Rect,
        buf: &mut Buffer,
        look: &Look,
    ) {
        let area = area.intersection(buf.area);
        // The scrollbar's column is always kept free, so that columns do not jump when the
        // list grows.
        let columns = fitting(sheet.columns, area.width.saturating_sub(LEAD + 2), GAP);
        let mut headings = Vec::new();
        let mut left = LEAD;
        for &(index, cells) in &columns {
            if let Some(column) = sheet.columns.get(index) {
                let text = heading(column, index, cells, sheet, look);
                put(buf, area, left, 0, &text, look.theme.header);
            }
            let place = Rect::new(
                area.x.saturating_add(left),
                area.y,
                cells,
                area.height.min(1),
            );
            headings.push((index, place));
            left += cells + GAP;
        }
        self.headings.replace(headings);
        let body = Rect {
            y: area.y.saturating_add(1),
            height: area.height.saturating_sub(1),
            ..area
        };
        if sheet.items.is_empty() {
            let message = single_line(sheet.empty);
            put(buf, body, LEAD, 0, &message, look.theme.dim);
        }
        let row = |item: &T, is_selected: bool, place: Rect, buf: &mut Buffer| {
            let style = (sheet.style)(item, look);
            let mut left = LEAD;
            for &(index, cells) in &columns {
                if let Some(column) = sheet.columns.get(index) {
                    let cell = (column.cell)(item, look);
                    let text = single_line(&cell.text);
                    let cells = usize::from(cells);
                    let text = aligned(&text, cells, column.align, look.glyphs.ellipsis);
                    put(buf, place, left, 0, &text, style.patch(cell.style));
                }
                left += cells + GAP;
            }
            if item.id().is_some_and(|id| sheet.marks.contains(id)) {
                put(buf, place, 1, 0, look.glyphs.marked, look.theme.accent);
            }
            if is_selected {
                put(buf, place, 0, 0, look.glyphs.cursor, look.theme.accent);
                buf.set_style(place, look.theme.selection);
            }
        };
        self.list.draw(sheet.items, body, buf, look, row);
    }

    /// The column whose heading was drawn at a cell of the screen.
    pub fn column_at(&self, at: Position) -> Option<usize> {
        let headings = self.headings.borrow();
        let found = headings.iter().find(|(_, area)| area.contains(at));
        found.map(|(column, _)| *column)
    }
}

/// A heading with the arrow of the order, which stays if the words must be cut.
fn heading<T: Item>(
    column: &Column<'_, T>,
    index: usize,
    cells: u16,
    sheet: &Sheet<'_, T>,
    look: &Look,
) -> String {
    let (cells, ellipsis) = (usize::from(cells), look.glyphs.ellipsis);
    let words = match sheet.sort.filter(|sort| sort.column == index) {
        None => column.heading.to_string(),
        Some(sort) => {
            let arrow = match sort.order(sheet.columns) {
                Order::Ascending => look.glyphs.ascending,
                Order::Descending => look.glyphs.descending,
            };
            let left = cells
                .saturating_sub(width(arrow))
                .min(width(&column.heading));
            aligned(&column.heading, left, Align::Left, ellipsis) + arrow
        }
    };
    aligned(&words, cells, column.align, ellipsis)
}

/// The columns that fit into `width` cells with `gap` cells between them, in their order,
/// each with its width. The most important one is there at any width; a column that does
/// not fit keeps out all that matter less.
pub fn fitting<T>(columns: &[Column<'_, T>], width: u16, gap: u16) -> Vec<(usize, u16)> {
    let mut by_priority: Vec<(usize, &Column<'_, T>)> = columns.iter().enumerate().collect();
    by_priority.sort_by_key(|(_, column)| column.priority);
    let mut chosen: Vec<(usize, &Column<'_, T>, u16)> = Vec::new();
    let mut free = width;
    for (index, column) in by_priority {
        if chosen.is_empty() {
            let cells = column.minimum.min(width);
            chosen.push((index, column, cells));
            free -= cells;
            continue;
        }
        let Some(left) = free.checked_sub(column.minimum.saturating_add(gap)) else {
            break;
        };
        chosen.push((index, column, column.minimum));
        free = left;
    }
    // The important columns come to their ideal width first.
    for (_, column, cells) in &mut chosen {
        let more = column.ideal.saturating_sub(*cells).min(free);
        *cells += more;
        free -= more;
    }
    let growing = chosen.iter().filter(|(_, column, _)| column.grows).count();
    let mut growing = u16::try_from(growing).unwrap_or(u16::MAX);
    for (_, column, cells) in &mut chosen {
        if column.grows {
            let share = free / growing;
            *cells += share;
            free -= share;
            growing -= 1;
        }
    }
    chosen.sort_by_key(|(index, ..)| *index);
    chosen
        .into_iter()
        .filter(|(.., cells)| *cells > 0)
        .map(|(index, _, cells)| (index, cells))
        .collect()
}

#[cfg(test)]
mod tests;
