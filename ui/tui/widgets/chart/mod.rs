//! Values over steps: lines, references, a crosshair, and the same as text and as SVG.

mod canvas;
mod draw;
mod export;
mod grid;
mod scale;
mod series;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

pub use grid::{Grid, grid};
pub use scale::Scale;

use crate::tui::theme::Look;

/// One line of a chart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line<'a> {
    /// What it shows.
    pub name: &'a str,
    /// (x, y), ascending by x. A value that is not finite is a gap.
    pub points: &'a [(f64, f64)],
    /// Its colours on the screen.
    pub style: Style,
}

/// A value to compare with, drawn across the chart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reference<'a> {
    /// Where it lies.
    pub value: f64,
    /// What it says, such as `healthy`.
    pub label: &'a str,
    /// Its colours on the screen.
    pub style: Style,
}

/// Lines over a common x axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chart<'a> {
    /// Names the chart.
    pub title: &'a str,
    /// What x counts, such as `step`.
    pub x_label: &'a str,
    /// The lines, the last on top.
    pub lines: &'a [Line<'a>],
    /// Values to compare with, those that matter most first.
    pub references: &'a [Reference<'a>],
    /// How y is drawn.
    pub scale: Scale,
    /// First and last x to draw; all of them where it is `None`.
    pub window: Option<(f64, f64)>,
    /// Weight of the past in the smoothed line, 0 (none) to 0.99.
    pub smoothing: f64,
    /// Where values are read out.
    pub crosshair: Option<f64>,
    /// The keyboard goes here.
    pub is_focused: bool,
}

impl<'a> Chart<'a> {
    /// A linear chart of everything there is, over steps.
    pub fn new(title: &'a str, lines: &'a [Line<'a>]) -> Self {
        Self {
            title,
            x_label: "step",
            lines,
            references: &[],
            scale: Scale::Linear,
            window: None,
            smoothing: 0.0,
            crosshair: None,
            is_focused: false,
        }
    }

    /// First and last x of all lines; `None` where there is no point.
    pub fn x_range(&self) -> Option<(f64, f64)> {
        series::x_range(self.lines)
    }

    /// Draws the chart in a box. An area that is too small for axes has the shape alone.
    pub fn render(&self, area: Rect, buf: &mut Buffer, look: &Look) {
        draw::render(&self.with_window(), area, buf, look);
    }

    /// Each line of the window as text: `reward: last 1.21, min 0.2, max 1.5, slope
    /// +0.003 per step, 2 not finite`.
    pub fn summary(&self) -> Vec<String> {
        let window = self.shown();
        self.lines
            .iter()
            .map(|line| series::summary(line, window, self.x_label))
            .collect()
    }

    /// A picture of this size in pixels, with axes, ticks and legend, on white. The
    /// crosshair is left out.
    pub fn to_svg(self, width: u32, height: u32) -> String {
        export::to_svg(&self.with_window(), width, height)
    }

    /// The x values that are drawn.
    fn shown(&self) -> (f64, f64) {
        self.window
            .filter(|(start, end)| start.is_finite() && end.is_finite() && start <= end)
            .or_else(|| self.x_range())
            .unwrap_or((0.0, 1.0))
    }

    /// The same chart with the window that is drawn, which is found in one pass over the
    /// points and not again for each line.
    fn with_window(&self) -> Self {
        Self {
            window: Some(self.shown()),
            ..*self
        }
    }

    /// The smoothed points of each line; empty without smoothing.
    fn smoothed(&self) -> Vec<Vec<(f64, f64)>> {
        let weight = self.smoothing();
        if weight == 0.0 {
            return Vec::new();
        }
        self.lines
            .iter()
            .map(|line| series::smoothed(line.points, weight))
            .collect()
    }

    fn smoothing(&self) -> f64 {
        if self.smoothing.is_finite() {
            self.smoothing.clamp(0.0, series::MOST_SMOOTHING)
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests;
