//! A series in one line of text.

use crate::tui::theme::Glyphs;

/// The shape of a series in at most `cells` signs: the lowest value at the bottom, the
/// highest at the top, a space where there is none. Where there are more values than
/// cells each sign is the mean of its share; values that are not finite count for nothing.
pub fn sparkline(values: &[f64], cells: usize, glyphs: &Glyphs) -> String {
    let count = values.len().min(cells);
    let means: Vec<Option<f64>> = (0..count)
        .map(|cell| {
            let start = cell * values.len() / count;
            let end = (cell + 1) * values.len() / count;
            mean(values.get(start..end).unwrap_or_default())
        })
        .collect();
    let present = || means.iter().flatten().copied();
    let low = present().fold(f64::INFINITY, f64::min);
    let high = present().fold(f64::NEG_INFINITY, f64::max);
    let top = glyphs.spark.len() - 1;
    means
        .iter()
        .map(|mean| {
            let Some(value) = mean else {
                return " ";
            };
            // Halved first: the difference of two large values may not be finite.
            let span = high / 2.0 - low / 2.0;
            let share = if span > 0.0 {
                (value / 2.0 - low / 2.0) / span
            } else {
                0.5
            };
            let level = (share * top as f64).round() as usize;
            glyphs.spark.get(level.min(top)).copied().unwrap_or(" ")
        })
        .collect()
}

fn mean(values: &[f64]) -> Option<f64> {
    let mut count = 0.0;
    let mut mean = 0.0;
    for value in values.iter().filter(|value| value.is_finite()) {
        count += 1.0;
        mean += value / count - mean / count;
    }
    (count > 0.0).then_some(mean)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shape_of_a_series() {
        let rising: Vec<f64> = (0..8).map(f64::from).collect();
        assert_eq!(sparkline(&rising, 20, &Glyphs::UNICODE), "▁▂▃▄▅▆▇█");
        assert_eq!(sparkline(&rising, 4, &Glyphs::ASCII), "_:+#");
        assert_eq!(sparkline(&[1.0, f64::NAN, 3.0], 9, &Glyphs::UNICODE), "▁ █");
        assert_eq!(sparkline(&[2.0, 2.0], 9, &Glyphs::UNICODE), "▅▅");
        assert_eq!(sparkline(&[], 9, &Glyphs::UNICODE), "");
        assert_eq!(sparkline(&rising, 0, &Glyphs::UNICODE), "");
    }

    proptest! {
        #[test]
        fn one_sign_a_cell(values in prop::collection::vec(any::<f64>(), 0..50), cells in 0_usize..20) {
            let line = sparkline(&values, cells, &Glyphs::UNICODE);
            prop_assert_eq!(line.chars().count(), values.len().min(cells));
        }
    }
}
