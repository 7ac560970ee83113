//! The points of a line: smoothed, by column, as text.

use super::scale::{Axis, Scale};
use super::{Chart, Line};
use crate::tui::text::compact;

/// With more the past outweighs everything that a run can bring.
pub const MOST_SMOOTHING: f64 = 0.99;

/// First and last x of all lines.
pub fn x_range(lines: &[Line<'_>]) -> Option<(f64, f64)> {
    let mut places = lines
        .iter()
        .flat_map(|line| line.points)
        .map(|(x, _)| *x)
        .filter(|x| x.is_finite());
    let first = places.next()?;
    Some(places.fold((first, first), |(low, high), x| (low.min(x), high.max(x))))
}

/// The exponential moving average without the pull of its start, as TensorBoard draws it.
/// Values that are not finite stay as they are and do not count.
pub fn smoothed(points: &[(f64, f64)], weight: f64) -> Vec<(f64, f64)> {
    let mut mean = 0.0;
    let mut missing = 1.0;
    points
        .iter()
        .map(|(x, y)| {
            if !y.is_finite() {
                return (*x, *y);
            }
            mean = mean * weight + y * (1.0 - weight);
            missing *= weight;
            (*x, mean / (1.0 - missing))
        })
        .collect()
}

/// The point nearest to `x` that has a finite value.
pub fn nearest(points: &[(f64, f64)], x: f64) -> Option<(f64, f64)> {
    points
        .iter()
        .filter(|(x, y)| x.is_finite() && y.is_finite())
        .min_by(|one, other| (one.0 - x).abs().total_cmp(&(other.0 - x).abs()))
        .copied()
}

/// The points of a window. A point without a finite x has no place in any.
pub fn within(
    points: &[(f64, f64)],
    (start, end): (f64, f64),
) -> impl Iterator<Item = (f64, f64)> + '_ {
    points
        .iter()
        .copied()
        .filter(move |(x, _)| *x >= start && *x <= end)
}

/// Points of the window that have no value to draw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// Not a number, or infinite.
    pub nonfinite: usize,
    /// Not positive, on a logarithmic scale.
    pub nonpositive: usize,
}

/// Counts what is not drawn of all lines.
pub fn gaps(chart: &Chart<'_>) -> Gaps {
    let mut gaps = Gaps::default();
    for line in chart.lines {
        for (_, y) in within(line.points, chart.shown()) {
            if !y.is_finite() {
                gaps.nonfinite += 1;
            } else if chart.scale == Scale::Log && y <= 0.0 {
                gaps.nonpositive += 1;
            }
        }
    }
    gaps
}

/// The y axis over everything that is drawn in the window; `None` where nothing is.
/// References belong to it where they lie within the span of the values beyond them:
/// farther ones would flatten the line.
pub fn y_axis(chart: &Chart<'_>, drawn: &[Vec<(f64, f64)>]) -> Option<Axis> {
    let smoothed = drawn.iter().flatten().copied();
    let raw = chart.lines.iter().flat_map(|line| line.points).copied();
    let (start, end) = chart.shown();
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for (_, y) in smoothed
        .chain(raw)
        .filter(|(x, _)| *x >= start && *x <= end)
    {
        if let Some(place) = chart.scale.place(y) {
            low = low.min(place);
            high = high.max(place);
        }
    }
    if low > high {
        return None;
    }
    let span = high - low;
    let (lowest, highest) = (low - span, high + span);
    for reference in chart.references {
        if let Some(place) = chart.scale.place(reference.value)
            && (lowest..=highest).contains(&place)
        {
            low = low.min(place);
            high = high.max(place);
        }
    }
    Some(Axis::new(chart.scale, low, high))
}

/// What the points of one column of dots come to, as shares of the y axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Column {
    pub first: f64,
    pub last: f64,
    pub low: f64,
    pub high: f64,
    /// A gap is between the point before and this column's first.
    pub is_apart: bool,
}

/// The points of a window in `count` columns, in one pass. Each column keeps its extremes,
/// so that no spike is lost however many points there are.
pub fn columns(
    points: &[(f64, f64)],
    window: (f64, f64),
    count: usize,
    y_axis: &Axis,
) -> Vec<Option<Column>> {
    let mut columns: Vec<Option<Column>> = vec![None; count];
    let x_axis = Axis::new(Scale::Linear, window.0, window.1);
    let mut is_apart = true;
    for (x, y) in within(points, window) {
        let Some((column, share)) = x_axis.share(x).zip(y_axis.share(y)) else {
            is_apart = true;
            continue;
        };
        let index = (column * count.saturating_sub(1) as f64).round() as usize;
        let Some(slot) = columns.get_mut(index) else {
            continue;
        };
        match slot {
            Some(column) => {
                column.last = share;
                column.low = column.low.min(share);
                column.high = column.high.max(share);
            }
            None => {
                *slot = Some(Column {
                    first: share,
                    last: share,
                    low: share,
                    high: share,
                    is_apart,
                });
            }
        }
        is_apart = false;
    }
    columns
}

/// A line of the window as text.
pub fn summary(line: &Line<'_>, window: (f64, f64), x_label: &str) -> String {
    let finite: Vec<(f64, f64)> = within(line.points, window)
        .filter(|(_, y)| y.is_finite())
        .collect();
    let count = within(line.points, window).count();
    let nonfinite = match count - finite.len() {
        0 => String::new(),
        missing => format!(", {missing} not finite"),
    };
    let Some((_, last)) = finite.last() else {
        return format!("{}: no values{nonfinite}", line.name);
    };
    let values = || finite.iter().map(|(_, y)| *y);
    let slope = match slope(&finite) {
        Some(slope) if slope > 0.0 => format!(", slope +{} per {x_label}", compact(slope)),
        Some(slope) => format!(", slope {} per {x_label}", compact(slope)),
        None => String::new(),
    };
    format!(
        "{}: last {}, min {}, max {}{slope}{nonfinite}",
        line.name,
        compact(*last),
        compact(values().fold(f64::INFINITY, f64::min)),
        compact(values().fold(f64::NEG_INFINITY, f64::max)),
    )
}

/// Slope of the least-squares line; `None` for fewer than two different x.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean_x = points.iter().map(|(x, _)| x / count).sum::<f64>();
    let mean_y = points.iter().map(|(_, y)| y / count).sum::<f64>();
    let (mut products, mut squares) = (0.0, 0.0);
    for (x, y) in points {
        products += (x - mean_x) * (y - mean_y);
        squares += (x - mean_x) * (x - mean_x);
    }
    let slope = products / squares;
    slope.is_finite().then_some(slope)
}
