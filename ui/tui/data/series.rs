//! A metric over the steps of a run, in bounded memory.

use std::collections::BTreeMap;

/// The most points that a series holds.
const MOST_POINTS: usize = 8192;

/// So many of the newest points are never thinned out.
pub const RECENT_POINTS: usize = 2048;

/// A metric over steps. A very long run is thinned out: of neighbouring points the smallest and
/// the largest are kept, so that spikes stay, and one that was not finite, so that gaps stay.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    points: Vec<(f64, f64)>,
    /// Steps that share a smallest and a largest value, among the older points; 0 while every
    /// point is kept.
    bucket: f64,
}

impl Series {
    /// (step, value), ascending by step; a value that was not finite is NaN.
    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }

    /// The newest point.
    pub fn last(&self) -> Option<(f64, f64)> {
        self.points.last().copied()
    }

    /// Adds a newer point. Points at or behind its step are replaced by it: a resumed run has
    /// taken those steps again.
    pub fn push(&mut self, step: f64, value: f64) {
        if step.is_nan() {
            return;
        }
        while self.points.last().is_some_and(|last| last.0 >= step) {
            self.points.pop();
        }
        self.points.push((step, value));
        self.thin_out();
    }

    /// Adds points from before the first one, ascending. Those that are not are left out: they
    /// were replaced.
    pub fn prepend(&mut self, earlier: &[(f64, f64)]) {
        let end = match self.points.first() {
            Some(first) => earlier.partition_point(|point| point.0 < first.0),
            None => earlier.len(),
        };
        self.points.splice(0..0, earlier.iter().take(end).copied());
        self.thin_out();
    }

    /// Halves the older points at least where there are too many, so that this is seldom done.
    fn thin_out(&mut self) {
        if self.points.len() <= MOST_POINTS {
            return;
        }
        let recent = self.points.split_off(self.points.len() - RECENT_POINTS);
        let aim = (MOST_POINTS - RECENT_POINTS) / 2;
        let span = match (self.points.first(), self.points.last()) {
            (Some(first), Some(last)) => last.0 - first.0,
            _ => 0.0,
        };
        self.bucket = self.bucket.max(1.0);
        // A bucket keeps up to three points; the bound on the span ends this for any numbers.
        loop {
            self.points = thinned(&self.points, self.bucket);
            if self.points.len() <= aim || self.bucket > span {
                break;
            }
            self.bucket *= 2.0;
        }
        self.points.extend(recent);
    }
}

impl FromIterator<(f64, f64)> for Series {
    fn from_iter<T: IntoIterator<Item = (f64, f64)>>(points: T) -> Self {
        let mut series = Self::default();
        for (step, value) in points {
            series.push(step, value);
        }
        series
    }
}

/// Of each bucket of `width` steps the smallest and the largest value and the first that is NaN,
/// by step. Doing it again with the same width changes nothing.
pub fn thinned(points: &[(f64, f64)], width: f64) -> Vec<(f64, f64)> {
    let mut kept: Vec<(f64, f64)> = Vec::new();
    let bucket_of = |point: &(f64, f64)| (point.0 / width).floor();
    for bucket in points.chunk_by(|left, right| bucket_of(left) == bucket_of(right)) {
        let [mut smallest, mut largest, mut missing]: [Option<(f64, f64)>; 3] = [None; 3];
        for point in bucket {
            if point.1.is_nan() {
                missing.get_or_insert(*point);
                continue;
            }
            if smallest.is_none_or(|other| point.1 < other.1) {
                smallest = Some(*point);
            }
            if largest.is_none_or(|other| point.1 > other.1) {
                largest = Some(*point);
            }
        }
        let mut chosen: Vec<(f64, f64)> =
            [smallest, largest, missing].into_iter().flatten().collect();
        chosen.sort_by(|left, right| left.0.total_cmp(&right.0));
        chosen.dedup_by_key(|point| point.0);
        kept.extend(chosen);
    }
    kept
}

/// Points of many metrics, as they come from a reader.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    /// In the order in which they were first met.
    columns: Vec<(String, Vec<(f64, f64)>)>,
}

impl Columns {
    /// The place of a metric. `guess` is looked at first: lines of a log repeat their keys in the
    /// same order, so the place after the last one found is nearly always right.
    pub fn place(&mut self, metric: &str, guess: usize) -> usize {
        if self
            .columns
            .get(guess)
            .is_some_and(|(name, _)| name == metric)
        {
            return guess;
        }
        let found = self.columns.iter().position(|(name, _)| name == metric);
        found.unwrap_or_else(|| {
            self.columns.push((metric.to_owned(), Vec::new()));
            self.columns.len() - 1
        })
    }

    /// Adds a point to the metric at a place. Points at or behind its step are replaced by it.
    pub fn push(&mut self, place: usize, step: f64, value: f64) {
        if let Some((_, points)) = self.columns.get_mut(place) {
            while points.last().is_some_and(|last| last.0 >= step) {
                points.pop();
            }
            points.push((step, value));
        }
    }

    /// Adds a point to a metric by name.
    pub fn add(&mut self, metric: &str, step: f64, value: f64) {
        let place = self.place(metric, 0);
        self.push(place, step, value);
    }

    /// Thins every metric out to buckets of `width` steps.
    pub fn thin_out(&mut self, width: f64) {
        for (_, points) in &mut self.columns {
            *points = thinned(points, width);
        }
    }
}

/// Every metric of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    series: BTreeMap<String, Series>,
}

impl History {
    /// A metric by its name in `step` events, e.g. `rewards/format/mean`.
    pub fn get(&self, metric: &str) -> Option<&Series> {
        self.series.get(metric)
    }

    /// Every metric there is, by name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.series.keys().map(String::as_str)
    }

    /// The newest value of a metric.
    pub fn last(&self, metric: &str) -> Option<f64> {
        self.get(metric)?.last().map(|(_, value)| value)
    }

    /// Adds a newer point of a metric.
    pub fn push(&mut self, metric: &str, step: f64, value: f64) {
        match self.series.get_mut(metric) {
            Some(series) => series.push(step, value),
            None => self
                .series
                .entry(metric.to_owned())
                .or_default()
                .push(step, value),
        }
    }

    /// Adds newer points, ascending by step.
    pub fn extend(&mut self, newer: Columns) {
        for (metric, points) in newer.columns.into_iter().filter(has_points) {
            let series = self.series.entry(metric).or_default();
            for (step, value) in points {
                series.push(step, value);
            }
        }
    }

    /// Adds points from before the first ones, ascending by step.
    pub fn prepend(&mut self, earlier: Columns) {
        for (metric, points) in earlier.columns.into_iter().filter(has_points) {
            self.series.entry(metric).or_default().prepend(&points);
        }
    }
}

fn has_points((_, points): &(String, Vec<(f64, f64)>)) -> bool {
    !points.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(steps: std::ops::Range<usize>) -> Vec<(f64, f64)> {
        steps
            .map(|step| (step as f64, (step as f64 * 0.37).sin()))
            .collect()
    }

    #[test]
    fn a_long_run_is_thinned_out_and_keeps_its_spikes_and_its_newest_points() {
        let mut series = Series::default();
        for (step, value) in line(0..1_000_000) {
            let value = match step as usize {
                123_456 => 99.0,
                500_001 => f64::NAN,
                654_321 => -99.0,
                _ => value,
            };
            series.push(step, value);
        }
        let points = series.points();
        assert!(points.len() <= MOST_POINTS, "{}", points.len());
        assert!(points.is_sorted_by(|left, right| left.0 < right.0));
        assert!(points.contains(&(123_456.0, 99.0)) && points.contains(&(654_321.0, -99.0)));
        assert_eq!(points.iter().filter(|point| point.1.is_nan()).count(), 1);
        assert_eq!(
            &points[points.len() - RECENT_POINTS..],
            line(997_952..1_000_000)
        );
        // The past is as fine at its beginning as later on.
        let gaps: Vec<f64> = points
            .windows(2)
            .map(|pair| pair[1].0 - pair[0].0)
            .collect();
        assert!(gaps.iter().all(|gap| *gap < 2048.0));
    }

    #[test]
    fn what_is_read_backwards_comes_to_the_same_range_as_what_is_read_forwards() {
        let mut backwards = Series::default();
        for chunk in line(0..100_000).rchunks(3000) {
            backwards.prepend(chunk);
        }
        assert!(backwards.points().len() <= MOST_POINTS);
        assert!(
            backwards
                .points()
                .is_sorted_by(|left, right| left.0 < right.0)
        );
        assert_eq!(backwards.last(), line(99_999..100_000).last().copied());
        assert_eq!(backwards.points()[0].0, 0.0);
    }

    #[test]
    fn steps_that_are_taken_again_replace_the_old_ones() {
        let mut series: Series = line(0..10).into_iter().collect();
        series.push(5.0, 7.0);
        assert_eq!(series.points()[4..], [line(4..5)[0], (5.0, 7.0)]);
        series.prepend(&[(-1.0, 0.0), (0.0, 9.0), (3.0, 9.0)]);
        assert_eq!(series.points()[..2], [(-1.0, 0.0), line(0..1)[0]]);
        series.push(f64::NAN, 1.0);
        assert_eq!(series.last(), Some((5.0, 7.0)));
    }

    #[test]
    fn series_without_anything_finite_and_far_apart_steps_are_bounded() {
        let empty: Series = (0..50_000).map(|step| (step as f64, f64::NAN)).collect();
        assert!(empty.points().len() <= MOST_POINTS && !empty.points().is_empty());
        let far: Series = (0..20_000).map(|step| (step as f64 * 1e12, 1.0)).collect();
        assert!(far.points().len() <= MOST_POINTS);
    }

    #[test]
    fn columns_find_their_metrics_whatever_the_guess() {
        let mut columns = Columns::default();
        assert_eq!([columns.place("loss", 0), columns.place("보상", 1)], [0, 1]);
        assert_eq!([columns.place("보상", 0), columns.place("loss", 9)], [1, 0]);
        columns.push(1, 1.0, 0.5);
        columns.add("loss", 1.0, 0.25);
        let mut history = History::default();
        history.extend(columns);
        assert_eq!(
            (history.last("보상"), history.last("loss")),
            (Some(0.5), Some(0.25))
        );
        assert_eq!(history.names().collect::<Vec<_>>(), ["loss", "보상"]);
    }
}
