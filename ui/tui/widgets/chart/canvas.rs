//! Dots in cells: two by four in a braille sign, or one sign a cell.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::series::Column;
use crate::tui::theme::Marker;

/// Signs of the lines without braille.
const SIGNS: [&str; 8] = ["*", "+", "x", "o", "#", "@", "%", "&"];

/// Bits of the dots of a braille sign, by row and column (Unicode, U+2800).
const DOTS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

/// What a line is drawn with.
#[derive(Clone, Copy)]
pub struct Ink {
    sign: &'static str,
    style: Style,
}

impl Ink {
    /// For the line of this number among those of the chart.
    pub fn of_line(index: usize, style: Style) -> Self {
        let sign = SIGNS.get(index % SIGNS.len()).copied().unwrap_or("*");
        Self { sign, style }
    }

    /// For what is behind a line.
    pub fn faint(style: Style) -> Self {
        Self { sign: ".", style }
    }
}

#[derive(Clone, Copy)]
struct Dotted {
    bits: u8,
    ink: Ink,
}

/// A drawing area of dots, the first row at the top.
pub struct Canvas {
    marker: Marker,
    width: usize,
    height: usize,
    cells: Vec<Dotted>,
}

impl Canvas {
    /// An empty area of this many cells.
    pub fn new(width: u16, height: u16, marker: Marker) -> Self {
        let (width, height) = (usize::from(width), usize::from(height));
        Self {
            marker,
            width,
            height,
            cells: vec![
                Dotted {
                    bits: 0,
                    ink: Ink::faint(Style::new()),
                };
                width * height
            ],
        }
    }

    /// Dots across.
    pub fn columns(&self) -> usize {
        self.width * self.dots().0
    }

    /// Draws a line through its columns.
    pub fn draw(&mut self, columns: &[Option<Column>], ink: Ink) {
        let mut before: Option<(usize, f64)> = None;
        for (x, column) in columns.iter().enumerate() {
            let Some(column) = column else {
                continue;
            };
            if let Some((from, share)) = before
                && !column.is_apart
            {
                self.connect((from, self.row(share)), (x, self.row(column.first)), ink);
            }
            for y in self.row(column.high)..=self.row(column.low) {
                self.set(x, y, ink);
            }
            before = Some((x, column.last));
        }
    }

    /// Puts the signs into an area of the buffer; cells without dots stay unchanged.
    pub fn render(&self, area: Rect, buf: &mut Buffer) {
        for (index, dotted) in self.cells.iter().enumerate() {
            if dotted.bits == 0 {
                continue;
            }
            let x = super::super::cells(index % self.width);
            let y = super::super::cells(index / self.width);
            if x >= area.width || y >= area.height {
                continue;
            }
            let Some(cell) = buf.cell_mut((area.x + x, area.y + y)) else {
                continue;
            };
            cell.set_style(dotted.ink.style);
            match self.marker {
                Marker::Braille => {
                    let sign = char::from_u32(0x2800 + u32::from(dotted.bits));
                    cell.set_char(sign.unwrap_or(' '));
                }
                Marker::Ascii => {
                    cell.set_symbol(dotted.ink.sign);
                }
            }
        }
    }

    /// The row of cells of a share of the y axis.
    pub fn cell_row(&self, share: f64) -> usize {
        self.row(share) / self.dots().1
    }

    fn dots(&self) -> (usize, usize) {
        match self.marker {
            Marker::Braille => (2, 4),
            Marker::Ascii => (1, 1),
        }
    }

    /// The row of dots in which a share lies; those beyond an edge lie at the edge.
    fn row(&self, share: f64) -> usize {
        let last = (self.height * self.dots().1).saturating_sub(1);
        let from_top = (1.0 - share.clamp(0.0, 1.0)) * last as f64;
        from_top.round() as usize
    }

    /// A straight line of dots between two points, both of which are drawn already.
    fn connect(&mut self, from: (usize, usize), to: (usize, usize), ink: Ink) {
        let steps = to.0.abs_diff(from.0).max(to.1.abs_diff(from.1));
        let between = |from: usize, to: usize, share: f64| {
            (from as f64 + (to as f64 - from as f64) * share).round() as usize
        };
        for step in 1..steps {
            let share = step as f64 / steps as f64;
            let x = between(from.0, to.0, share);
            let y = between(from.1, to.1, share);
            self.set(x, y, ink);
        }
    }

    fn set(&mut self, x: usize, y: usize, ink: Ink) {
        let (across, down) = self.dots();
        let (column, row) = (x / across, y / down);
        if column >= self.width || row >= self.height {
            return;
        }
        let bit = match self.marker {
            Marker::Braille => DOTS
                .get(y % down)
                .and_then(|bits| bits.get(x % across))
                .copied()
                .unwrap_or_default(),
            Marker::Ascii => 1,
        };
        if let Some(cell) = self.cells.get_mut(row * self.width + column) {
            cell.bits |= bit;
            cell.ink = ink;
        }
    }
}
