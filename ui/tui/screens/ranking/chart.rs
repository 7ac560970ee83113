//! Final Mean over the epochs: one column per epoch, with its interval.

use moim_core::score::Leaderboard;
use ratatui::text::{Line, Span};

use super::words::number;
use crate::tui::text::{self, Align};
use crate::tui::theme::Look;
use crate::tui::widgets::spark::sparkline;

/// One epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) epoch: u64,
    pub(super) mean: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) is_best: bool,
}

/// The ranked files that name an epoch, in the order of epochs.
pub(super) fn points(board: &Leaderboard) -> Vec<Point> {
    let best = board.best().map(|row| row.scored.file.as_str());
    let mut points: Vec<Point> = board
        .ranked()
        .filter_map(|row| {
            let (means, intervals) = (row.means?, row.intervals?);
            Some(Point {
                epoch: row.scored.epoch?,
                mean: means.final_mean,
                low: intervals.final_mean.low,
                high: intervals.final_mean.high,
                is_best: best == Some(row.scored.file.as_str()),
            })
        })
        .filter(|point| {
            [point.mean, point.low, point.high]
                .iter()
                .all(|value| value.is_finite())
        })
        .collect();
    points.sort_by_key(|point| point.epoch);
    points
}

/// The same in one line of text with a sparkline.
pub(super) fn in_one_line(points: &[Point], look: &Look) -> Option<String> {
    /// Cells of the sparkline.
    const CELLS: usize = 20;
    let (first, last) = (points.first()?, points.last()?);
    let means: Vec<f64> = points.iter().map(|point| point.mean).collect();
    Some(format!(
        "Final Mean over epochs {}-{}: {} {} to {}",
        first.epoch,
        last.epoch,
        sparkline(&means, CELLS, &look.glyphs),
        number(first.mean),
        number(last.mean)
    ))
}

/// Cells of the numbers at the left.
const AXIS: usize = 7;

/// The chart in lines of at most `cells`; of more epochs than fit the last are shown. Empty
/// if it does not fit.
pub(super) fn lines(
    points: &[Point],
    cells: usize,
    height: usize,
    look: &Look,
) -> Vec<Line<'static>> {
    let room = cells.saturating_sub(AXIS);
    // The last line has the epochs.
    let rows = height.saturating_sub(1);
    if points.is_empty() || room < 4 || rows < 3 {
        return Vec::new();
    }
    let width = (room / points.len()).clamp(4, 8);
    let points = &points[points.len().saturating_sub(room / width)..];
    let low = points
        .iter()
        .fold(f64::INFINITY, |low, point| low.min(point.low));
    let high = points
        .iter()
        .fold(f64::NEG_INFINITY, |high, point| high.max(point.high));
    let row_of = |value: f64| {
        let share = if high > low {
            (high - value) / (high - low)
        } else {
            0.5
        };
        (share * (rows - 1) as f64).round() as usize
    };
    let mut lines: Vec<Line<'static>> = (0..rows)
        .map(|row| {
            let value = match row {
                0 => number(high),
                row if row == rows - 1 => number(low),
                _ => String::new(),
            };
            let axis = text::aligned(&value, AXIS - 1, Align::Right, "");
            let mut spans = vec![Span::styled(format!("{axis} "), look.theme.dim)];
            for point in points {
                let (glyph, style) = if row == row_of(point.mean) && point.is_best {
                    (look.glyphs.best, look.theme.accent)
                } else if row == row_of(point.mean) {
                    (look.glyphs.marked, look.theme.series(0))
                } else if (row_of(point.high)..=row_of(point.low)).contains(&row) {
                    (look.glyphs.vertical, look.theme.series(0))
                } else {
                    ("", look.theme.text)
                };
                let cell = text::aligned(glyph, width, Align::Center, "");
                spans.push(Span::styled(cell, style));
            }
            Line::from(spans)
        })
        .collect();
    let mut epochs = text::aligned("epoch", AXIS - 1, Align::Right, "");
    epochs.push(' ');
    for point in points {
        epochs.push_str(&text::aligned(
            &point.epoch.to_string(),
            width,
            Align::Center,
            "",
        ));
    }
    lines.push(Line::styled(epochs, look.theme.dim));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::widgets::testing::plain;

    fn point(epoch: u64, mean: f64, is_best: bool) -> Point {
        Point {
            epoch,
            mean,
            low: mean - 0.1,
            high: mean + 0.1,
            is_best,
        }
    }

    fn shown(points: &[Point], cells: usize, height: usize) -> Vec<String> {
        lines(points, cells, height, &plain())
            .iter()
            .map(|line| line.to_string().trim_end().to_owned())
            .collect()
    }

    #[test]
    fn means_stand_within_their_intervals() {
        let points = [point(0, 0.2, false), point(1, 0.4, true)];
        assert_eq!(
            shown(&points, 20, 6),
            [
                "0.5000         │",
                "               ★",
                "         │     │",
                "         ●",
                "0.1000   │",
                " epoch   0     1",
            ]
            .map(|line| line.to_owned())
        );
    }

    #[test]
    fn the_last_epochs_stay_where_not_all_fit() {
        let points: Vec<Point> = (0..40).map(|epoch| point(epoch, 0.5, false)).collect();
        let lines = shown(&points, 30, 5);
        let epochs = lines.last().unwrap();
        assert!(
            epochs.ends_with("39") && !epochs.contains(" 3 "),
            "{epochs}"
        );
        assert!(lines.iter().all(|line| text::width(line) <= 30));
        assert!(shown(&points, 8, 5).is_empty() && shown(&points, 30, 2).is_empty());
        assert!(shown(&[], 30, 8).is_empty());
    }
}
