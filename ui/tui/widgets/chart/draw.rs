//! A chart in cells: box, legend, axes, references, crosshair, lines.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Modifier;

use super::canvas::{Canvas, Ink};
use super::scale::{Axis, Scale};
use super::series::{self, Column};
use super::{Chart, Line, Reference};
use crate::tui::text::{self, compact, width};
use crate::tui::theme::Look;
use crate::tui::widgets::panel::Panel;
use crate::tui::widgets::{cells, put};

/// In a smaller area there are no words at the axes.
const SMALLEST_WITH_AXES: (u16, u16) = (16, 4);

/// Rows between two values beside the y axis, and cells between two below the x axis.
const TICK_ROWS: u16 = 3;
const TICK_CELLS: u16 = 12;

/// Cells between two lines of the legend.
const LEGEND_GAP: usize = 2;

/// Draws a chart in a box.
pub fn render(chart: &Chart<'_>, area: Rect, buf: &mut Buffer, look: &Look) {
    let title = title(chart, look);
    let note = note(chart, look);
    let inside = Panel::new(&title, chart.is_focused)
        .note(&note)
        .render(area, buf, look);
    if inside.is_empty() {
        return;
    }
    let smoothed = chart.smoothed();
    let Some(y_axis) = series::y_axis(chart, &smoothed) else {
        let words = nothing(chart);
        let left = inside.width.saturating_sub(cells(width(&words))) / 2;
        put(buf, inside, left, inside.height / 2, &words, look.theme.dim);
        return;
    };
    let plot = Plot::new(chart, inside, y_axis, look);
    plot.draw_legend(buf);
    plot.draw_axes(buf);
    plot.draw_references(buf);
    plot.draw_crosshair(buf);
    plot.draw_lines(&smoothed, buf);
    plot.draw_labels(buf);
}

/// The chart's name, the position of the crosshair, and of a single line the value there or
/// the last one.
fn title(chart: &Chart<'_>, look: &Look) -> String {
    let first = chart.lines.first().and_then(|line| read(chart, line));
    let mut parts = vec![chart.title.to_owned()];
    if let Some(x) = chart.crosshair {
        // The point whose value is read, not between two points.
        let x = first.map_or(x, |(x, _)| x);
        parts.push(format!("{} {}", chart.x_label, compact(x)));
    }
    if let ([_], Some((_, value))) = (chart.lines, first) {
        parts.push(compact(value));
    }
    parts.join(&format!(" {} ", look.glyphs.separator))
}

/// A line's point at the crosshair, or its last one of the window.
fn read(chart: &Chart<'_>, line: &Line<'_>) -> Option<(f64, f64)> {
    series::nearest(line.points, chart.crosshair.unwrap_or(chart.shown().1))
}

/// What is unusual about the drawing.
fn note(chart: &Chart<'_>, look: &Look) -> String {
    let gaps = series::gaps(chart);
    let mut words = Vec::new();
    if gaps.nonfinite > 0 {
        words.push(format!("{} nonfinite", gaps.nonfinite));
    }
    if gaps.nonpositive > 0 {
        words.push(format!("{} not above 0", gaps.nonpositive));
    }
    if chart.scale == Scale::Log {
        words.push("log".to_owned());
    }
    if chart.smoothing() > 0.0 {
        words.push(format!("smooth {}", compact(chart.smoothing())));
    }
    words.join(&format!(" {} ", look.glyphs.separator))
}

/// Why nothing is drawn.
fn nothing(chart: &Chart<'_>) -> String {
    let gaps = series::gaps(chart);
    if gaps.nonpositive > 0 {
        "no value above 0: a linear scale shows them".to_owned()
    } else if gaps.nonfinite > 0 {
        "no finite value".to_owned()
    } else {
        "no values yet".to_owned()
    }
}

/// The letter at a line's end and in the legend.
fn letter(index: usize) -> String {
    let letters = b'A'..=b'Z';
    let letter = letters.clone().nth(index % letters.len()).unwrap_or(b'A');
    char::from(letter).to_string()
}

/// Letter, name and value of every line, in rows of at most `cells`.
fn legend_rows(chart: &Chart<'_>, cells: usize, look: &Look) -> Vec<Vec<(usize, String)>> {
    let mut rows: Vec<Vec<(usize, String)>> = vec![Vec::new()];
    let mut used = 0;
    for (index, line) in chart.lines.iter().enumerate() {
        let value = read(chart, line).map(|(_, value)| compact(value));
        let name = text::single_line(line.name);
        let words = format!("{} {name} {}", letter(index), value.unwrap_or_default());
        let words = text::truncate(words.trim_end(), cells, look.glyphs.ellipsis);
        if used > 0 && used + width(&words) > cells {
            rows.push(Vec::new());
            used = 0;
        }
        used += width(&words) + LEGEND_GAP;
        if let Some(row) = rows.last_mut() {
            row.push((index, words));
        }
    }
    rows
}

/// The cell of the plot in which a line ends.
struct End {
    line: usize,
    column: u16,
    row: u16,
}

/// A chart on its way into the buffer.
struct Plot<'a> {
    chart: &'a Chart<'a>,
    look: &'a Look,
    /// Letter, name and value of each line, by row; empty where there is one line only.
    legend: Vec<Vec<(usize, String)>>,
    /// The first rows of the inside.
    legend_area: Rect,
    /// Where the lines are drawn.
    area: Rect,
    /// Cells of the words beside the y axis, and whether there are axes at all.
    words: u16,
    has_axes: bool,
    x_axis: Axis,
    y_axis: Axis,
    y_ticks: Vec<(f64, String)>,
}

impl<'a> Plot<'a> {
    fn new(chart: &'a Chart<'a>, inside: Rect, y_axis: Axis, look: &'a Look) -> Self {
        let has_axes =
            inside.width >= SMALLEST_WITH_AXES.0 && inside.height >= SMALLEST_WITH_AXES.1;
        let mut area = inside;
        let mut legend = Vec::new();
        if chart.lines.len() > 1 {
            legend = legend_rows(chart, usize::from(inside.width), look);
            legend.truncate(usize::from(inside.height / SMALLEST_WITH_AXES.1));
            let rows = cells(legend.len());
            area.y += rows;
            area.height -= rows;
        }
        let most = usize::from(area.height / TICK_ROWS).max(2);
        let y_ticks = y_axis.ticks(most);
        let mut words = 0;
        if has_axes {
            let longest = y_ticks.iter().map(|(_, words)| width(words)).max();
            words = cells(longest.unwrap_or(0)).min(area.width / 2);
            // The words, the axis, and the row of the x axis.
            area.x += words + 1;
            area.width -= words + 1;
            area.height -= 1;
        }
        let (start, end) = chart.shown();
        Self {
            chart,
            look,
            legend,
            legend_area: inside,
            area,
            words,
            has_axes,
            x_axis: Axis::new(Scale::Linear, start, end),
            y_axis,
            y_ticks,
        }
    }

    fn canvas(&self) -> Canvas {
        Canvas::new(self.area.width, self.area.height, self.look.glyphs.marker)
    }

    fn draw_legend(&self, buf: &mut Buffer) {
        for (row, entries) in self.legend.iter().enumerate() {
            let mut left = 0;
            for (line, words) in entries {
                let style = self.chart.lines.get(*line).map(|line| line.style);
                let style = style.unwrap_or_default();
                left += put(buf, self.legend_area, left, cells(row), words, style);
                left += cells(LEGEND_GAP);
            }
        }
    }

    fn draw_axes(&self, buf: &mut Buffer) {
        if !self.has_axes {
            return;
        }
        let dim = self.look.theme.dim;
        let canvas = self.canvas();
        // The plot with the words and the axis at its left, and the row below it.
        let around = Rect {
            x: self.area.x - self.words - 1,
            width: self.area.width + self.words + 1,
            height: self.area.height + 1,
            ..self.area
        };
        for row in 0..self.area.height {
            put(buf, around, self.words, row, self.look.glyphs.vertical, dim);
        }
        for (share, words) in &self.y_ticks {
            let row = cells(canvas.cell_row(*share));
            let left = self.words.saturating_sub(cells(width(words)));
            put(buf, around, left, row, words, dim);
        }
        self.draw_x_words(around, buf);
    }

    /// Values below the x axis, none over another; the axis' name where the words of the
    /// y axis leave space for it.
    fn draw_x_words(&self, around: Rect, buf: &mut Buffer) {
        let dim = self.look.theme.dim;
        let row = self.area.height;
        let most = usize::from(self.area.width / TICK_CELLS).max(2);
        let label = text::single_line(self.chart.x_label);
        let mut taken = 0;
        if width(&label) <= usize::from(self.words) {
            put(buf, around, 0, row, &label, dim);
            taken = cells(width(&label)) + 1;
        }
        for (share, words) in self.x_axis.ticks(most) {
            let column = self.column(share).unwrap_or(0) + self.words + 1;
            let length = cells(width(&words));
            let left = column
                .saturating_sub(length / 2)
                .min(around.width.saturating_sub(length));
            if left >= taken && length <= around.width {
                put(buf, around, left, row, &words, dim);
                taken = left + length + 1;
            }
        }
    }

    /// The column of cells in which a share of the x axis lies.
    fn column(&self, share: f64) -> Option<u16> {
        if !(0.0..=1.0).contains(&share) || self.area.width == 0 {
            return None;
        }
        Some((share * f64::from(self.area.width - 1)).round() as u16)
    }

    /// The row of a reference, and an arrow if it is beyond the axis.
    fn place(&self, reference: &Reference<'_>) -> Option<(u16, &'static str)> {
        let share = self.y_axis.share(reference.value)?;
        let glyphs = &self.look.glyphs;
        Some(if share > 1.0 {
            (0, glyphs.arrow_up)
        } else if share < 0.0 {
            (self.area.height.saturating_sub(1), glyphs.arrow_down)
        } else {
            (cells(self.canvas().cell_row(share)), "")
        })
    }

    fn draw_references(&self, buf: &mut Buffer) {
        let line = self.look.glyphs.dashed.repeat(usize::from(self.area.width));
        for reference in self.chart.references {
            if let Some((row, "")) = self.place(reference) {
                put(buf, self.area, 0, row, &line, reference.style);
            }
        }
    }

    /// The words of the references: at the right, or at the left where a line runs there. Where
    /// those of a reference before stand in the way they are left out.
    fn draw_labels(&self, buf: &mut Buffer) {
        let glyphs = &self.look.glyphs;
        let empty = [" ", glyphs.dashed, glyphs.vertical];
        let mut taken = Vec::new();
        for reference in self.chart.references {
            let Some((row, arrow)) = self.place(reference) else {
                continue;
            };
            let label = text::single_line(reference.label);
            let words = format!("{arrow}{label} {}", compact(reference.value));
            let length = cells(width(&words));
            let Some(right) = self.area.width.checked_sub(length) else {
                continue;
            };
            let is_free = |left: u16| {
                (left..left + length).all(|column| {
                    let place = (self.area.x + column, self.area.y + row);
                    buf.cell(place)
                        .is_some_and(|cell| empty.contains(&cell.symbol()))
                })
            };
            let covers_a_line = (!taken.contains(&row)).then_some(0);
            let free = [right, 0].into_iter().find(|left| is_free(*left));
            let Some(left) = free.or(covers_a_line) else {
                continue;
            };
            taken.push(row);
            put(buf, self.area, left, row, &words, reference.style);
        }
    }

    fn draw_crosshair(&self, buf: &mut Buffer) {
        let share = self.chart.crosshair.and_then(|x| self.x_axis.share(x));
        let Some(left) = share.and_then(|share| self.column(share)) else {
            return;
        };
        for row in 0..self.area.height {
            let vertical = self.look.glyphs.vertical;
            put(buf, self.area, left, row, vertical, self.look.theme.accent);
        }
    }

    fn draw_lines(&self, smoothed: &[Vec<(f64, f64)>], buf: &mut Buffer) {
        let mut canvas = self.canvas();
        let mut ends = Vec::new();
        for (index, line) in self.chart.lines.iter().enumerate() {
            let raw = self.columns(line.points, &canvas);
            let columns = match smoothed.get(index) {
                None => raw,
                Some(points) => {
                    let faint = line.style.add_modifier(Modifier::DIM);
                    canvas.draw(&raw, Ink::faint(faint));
                    self.columns(points, &canvas)
                }
            };
            let style = if smoothed.is_empty() {
                line.style
            } else {
                line.style.add_modifier(Modifier::BOLD)
            };
            canvas.draw(&columns, Ink::of_line(index, style));
            ends.extend(self.end(index, &columns, &canvas));
        }
        canvas.render(self.area, buf);
        if self.chart.lines.len() > 1 {
            self.draw_letters(&ends, buf);
        }
    }

    fn columns(&self, points: &[(f64, f64)], canvas: &Canvas) -> Vec<Option<Column>> {
        let window = self.chart.shown();
        series::columns(points, window, canvas.columns(), &self.y_axis)
    }

    /// Where a line ends.
    fn end(&self, line: usize, columns: &[Option<Column>], canvas: &Canvas) -> Option<End> {
        let last = columns.len().checked_sub(1)?.max(1);
        let (index, column) = columns
            .iter()
            .enumerate()
            .rev()
            .find_map(|(index, column)| column.map(|column| (index, column)))?;
        Some(End {
            line,
            column: self.column(index as f64 / last as f64)?,
            row: cells(canvas.cell_row(column.last)),
        })
    }

    /// The letter of each line at its end; letters that would lie on another go to a row
    /// beside it.
    fn draw_letters(&self, ends: &[End], buf: &mut Buffer) {
        let mut taken: Vec<(u16, u16)> = Vec::new();
        for End { line, column, row } in ends {
            let rows = [
                *row,
                row.saturating_sub(1),
                row + 1,
                row.saturating_sub(2),
                row + 2,
            ];
            let free = rows
                .into_iter()
                .find(|row| *row < self.area.height && !taken.contains(&(*column, *row)));
            let style = self.chart.lines.get(*line).map(|line| line.style);
            let style = style.unwrap_or_default().add_modifier(Modifier::BOLD);
            if let Some(row) = free {
                put(buf, self.area, *column, row, &letter(*line), style);
                taken.push((*column, row));
            }
        }
    }
}
