//! Axes: the position of a value and which values are written next to it.

use crate::tui::text::compact;

/// How values are spread over an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences are equally far apart.
    #[default]
    Linear,
    /// Equal ratios are; values that are not positive have no place.
    Log,
}

/// Beyond this a difference of two cannot be represented.
const LARGEST: f64 = 1e300;

impl Scale {
    /// A value on the scale; `None` where it has no place.
    pub(super) fn place(self, value: f64) -> Option<f64> {
        match self {
            _ if !value.is_finite() => None,
            Self::Linear => Some(value.clamp(-LARGEST, LARGEST)),
            Self::Log => (value > 0.0).then(|| value.log10()),
        }
    }
}

/// An axis from one value to another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    scale: Scale,
    /// On the scale.
    low: f64,
    high: f64,
}

impl Axis {
    /// The axis over positions of `scale`. A single value is in the middle.
    pub fn new(scale: Scale, low: f64, high: f64) -> Self {
        let (low, high) = if high > low {
            (low, high)
        } else {
            let around = match scale {
                Scale::Linear if low != 0.0 => low.abs() * 0.1,
                Scale::Linear => 1.0,
                Scale::Log => 0.5,
            };
            (low - around, low + around)
        };
        Self { scale, low, high }
    }

    /// Where a value lies: 0 at the low end, 1 at the high end; `None` where it has no
    /// place on the scale.
    pub fn share(&self, value: f64) -> Option<f64> {
        let place = self.scale.place(value)?;
        Some((place - self.low) / (self.high - self.low))
    }

    /// At most `most` round values on the axis, each with its share and its words.
    pub fn ticks(&self, most: usize) -> Vec<(f64, String)> {
        if most == 0 {
            return Vec::new();
        }
        let values = match self.scale {
            Scale::Linear => round_values(self.low, self.high, most),
            Scale::Log => self.decades(most).unwrap_or_else(|| {
                round_values(10_f64.powf(self.low), 10_f64.powf(self.high), most)
            }),
        };
        let step = match values.as_slice() {
            [first, second, ..] if self.scale == Scale::Linear => second - first,
            _ => 0.0,
        };
        values
            .into_iter()
            .filter_map(|value| Some((self.share(value)?, tick_words(value, step))))
            .filter(|(share, _)| (-1e-9..=1.0 + 1e-9).contains(share))
            .collect()
    }

    /// Powers of ten; `None` where fewer than two lie on the axis.
    fn decades(&self, most: usize) -> Option<Vec<f64>> {
        let (first, last) = (self.low.ceil() as i32, self.high.floor() as i32);
        if last <= first {
            return None;
        }
        let count = usize::try_from(last - first).ok()? + 1;
        Some(
            (first..=last)
                .step_by(count.div_ceil(most))
                .map(|power| 10_f64.powi(power))
                .collect(),
        )
    }
}

/// Multiples of 1, 2 or 5 times a power of ten.
fn round_values(low: f64, high: f64, most: usize) -> Vec<f64> {
    let rough = (high - low) / most as f64;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| (high / step).floor() - (low / step).ceil() < most as f64)
        .unwrap_or(10.0 * power);
    if !step.is_finite() || step <= 0.0 {
        return vec![low];
    }
    let first = (low / step).ceil();
    (0..most)
        .map(|index| (first + index as f64) * step)
        .take_while(|value| *value <= high + step * 1e-9)
        .collect()
}

/// A value with as many digits as tell it from its neighbours.
fn tick_words(value: f64, step: f64) -> String {
    // What is left of a sum that should be nothing.
    if value.abs() < step * 1e-6 {
        return "0".to_owned();
    }
    let decimals = -step.log10().floor();
    if step > 0.0 && decimals <= 4.0 && value.abs() < 1e6 {
        let decimals = decimals.max(0.0) as usize;
        return format!("{value:.decimals$}");
    }
    compact(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(axis: Axis, most: usize) -> Vec<String> {
        axis.ticks(most)
            .into_iter()
            .map(|(_, words)| words)
            .collect()
    }

    #[test]
    fn round_values_with_enough_digits() {
        let axis = |low, high| Axis::new(Scale::Linear, low, high);
        assert_eq!(words(axis(0.0, 1.0), 3), ["0", "0.5", "1.0"]);
        assert_eq!(words(axis(-0.3, 0.31), 3), ["-0.2", "0", "0.2"]);
        assert_eq!(words(axis(13.0, 987.0), 5), ["200", "400", "600", "800"]);
        assert_eq!(words(axis(1.02e-5, 4.9e-5), 3), ["2e-5", "3e-5", "4e-5"]);
        assert_eq!(words(axis(5.0, 5.0), 3), ["4.5", "5.0", "5.5"]);
        assert!(words(axis(0.0, 1.0), 0).is_empty());
    }

    #[test]
    fn powers_of_ten_where_there_are_some() {
        let axis = |low: f64, high: f64| Axis::new(Scale::Log, low.log10(), high.log10());
        assert_eq!(
            words(axis(0.001, 100.0), 10),
            ["0.001", "0.01", "0.1", "1", "10", "100"]
        );
        assert_eq!(words(axis(0.001, 100.0), 3), ["0.001", "0.1", "10"]);
        assert_eq!(words(axis(2.0, 6.0), 3), ["2", "4", "6"]);
        assert_eq!(axis(1.0, 100.0).share(10.0), Some(0.5));
        assert_eq!(axis(1.0, 100.0).share(0.0), None);
    }
}
