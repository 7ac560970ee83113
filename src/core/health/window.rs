//! The last values of a metric.

use std::collections::VecDeque;

/// The last `size` finite values; others are left out.
#[derive(Clone, Debug)]
pub(super) struct Window {
    size: usize,
    values: VecDeque<f64>,
}

impl Window {
    pub(super) fn new(size: usize) -> Self {
        Self {
            size,
            values: VecDeque::with_capacity(size),
        }
    }

    /// Adds a value; the oldest one is dropped if the window is full.
    pub(super) fn push(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        if self.is_full() {
            self.values.pop_front();
        }
        self.values.push_back(value);
    }

    pub(super) fn is_full(&self) -> bool {
        self.values.len() >= self.size
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The mean of the values, NaN if there are none.
    pub(super) fn mean(&self) -> f64 {
        mean(self.values.iter().copied())
    }

    /// The mean, once the window is full.
    pub(super) fn full_mean(&self) -> Option<f64> {
        self.is_full().then(|| self.mean())
    }

    /// The median of the values (the upper one of two), NaN if there are none.
    pub(super) fn median(&self) -> f64 {
        let mut sorted: Vec<f64> = self.values.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// The smallest and the largest value.
    pub(super) fn range(&self) -> (f64, f64) {
        let values = self.values.iter().copied();
        (
            values.clone().fold(f64::INFINITY, f64::min),
            values.fold(f64::NEG_INFINITY, f64::max),
        )
    }

    /// The mean of the later half minus that of the earlier half, and the standard error of that
    /// difference (Welch).
    pub(super) fn change(&self) -> (f64, f64) {
        let half = self.values.len() / 2;
        let earlier: Vec<f64> = self.values.iter().take(half).copied().collect();
        let later: Vec<f64> = self.values.iter().skip(half).copied().collect();
        let error = squared_error(&earlier) + squared_error(&later);
        let difference = mean(later.iter().copied()) - mean(earlier.iter().copied());
        (difference, error.sqrt())
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count)
}

/// The variance of the mean of `values`, by Bessel.
fn squared_error(values: &[f64]) -> f64 {
    let center = mean(values.iter().copied());
    let squares: f64 = values.iter().map(|value| (value - center).powi(2)).sum();
    let count = values.len() as f64;
    squares / (count - 1.0).max(1.0) / count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(size: usize, values: &[f64]) -> Window {
        let mut window = Window::new(size);
        values.iter().for_each(|value| window.push(*value));
        window
    }

    #[test]
    fn a_window_keeps_the_last_finite_values() {
        let values = window(3, &[9.0, 1.0, f64::NAN, 2.0, 6.0]);
        assert_eq!((values.mean(), values.median()), (3.0, 2.0));
        assert_eq!(
            (values.full_mean(), values.range()),
            (Some(3.0), (1.0, 6.0))
        );
        assert_eq!(window(3, &[1.0, 2.0]).full_mean(), None);
        assert!(window(3, &[]).mean().is_nan() && window(3, &[]).median().is_nan());
    }

    #[test]
    fn the_change_is_that_of_the_halves_with_its_error() {
        let (difference, error) = window(6, &[1.0, 2.0, 3.0, 5.0, 6.0, 7.0]).change();
        // Both halves have variance 1, so 1/3 each.
        assert_eq!(difference, 4.0);
        assert!((error - (2.0_f64 / 3.0).sqrt()).abs() < 1e-12, "{error}");
    }
}
