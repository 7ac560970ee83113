//! Which columns fit, and how wide they are.

use crate::tui::text::{Align, width};

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The head.
    pub title: String,
    /// The side that values keep to.
    pub align: Align,
    /// Fewer cells than this and the column is not drawn.
    pub minimum: u16,
    /// Cells that its values need.
    pub ideal: u16,
    /// Where there is no room for all, the smallest numbers stay.
    pub priority: u8,
    /// It takes what is left when every column has its ideal width.
    pub grows: bool,
}

impl Column {
    /// A column of text that is `ideal` cells wide where there is room, and of any width
    /// down to its head; priority 0.
    pub fn text(title: &str, ideal: u16) -> Self {
        let minimum = u16::try_from(width(title))
            .unwrap_or(u16::MAX)
            .max(4)
            .min(ideal);
        Self {
            title: title.to_owned(),
            align: Align::Left,
            minimum,
            ideal,
            priority: 0,
            grows: false,
        }
    }

    /// A column of numbers, `cells` wide or not drawn; priority 0.
    pub fn number(title: &str, cells: u16) -> Self {
        Self {
            align: Align::Right,
            minimum: cells,
            ..Self::text(title, cells)
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
}

/// The columns that fit into `width` cells with `gap` cells between them, in their order,
/// each with its width. The most important one is there at any width; a column that does
/// not fit keeps out all that matter less.
pub fn fitting(columns: &[Column], width: u16, gap: u16) -> Vec<(usize, u16)> {
    let mut by_priority: Vec<(usize, &Column)> = columns.iter().enumerate().collect();
    by_priority.sort_by_key(|(_, column)| column.priority);
    let mut chosen: Vec<(usize, &Column, u16)> = Vec::new();
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
