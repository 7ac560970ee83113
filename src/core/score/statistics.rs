//! Resampling and exact tests over paired items: how much of the difference between two answer files
//! is noise.
//!
//! Everything here is pure and seeded. A *sample* is one answer file: `C` columns of per-item
//! numbers, all of the same length and in the same item order for every sample. A *statistic* turns
//! the `C` column sums into `V` reported values. Because it works on sums, one routine serves both
//! plain means and the contest's averages over the items that have a reason.
//!
//! Sources: Efron and Tibshirani 1993, chapters 13 (percentile interval) and 15
//! (permutation test); McNemar 1947 in its exact binomial form; Holm 1979. The
//! values agree with scipy 1.17 and statsmodels 0.15 (`tests/golden/score/`).

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;
use serde::Serialize;

/// The number of resamples, their seed and the confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Resampling {
    /// Number of resamples. Default 10 000: 500 items and 20 files stay under a
    /// second, and a p-value near 0.05 has a standard error of 0.002.
    pub resamples: usize,
    /// Same seed, same intervals and p-values. Default 42.
    pub seed: u64,
    /// Two-sided confidence of the intervals, in (0, 1). Default 0.95.
    pub confidence: f64,
}

impl Default for Resampling {
    fn default() -> Self {
        Self {
            resamples: 10_000,
            seed: 42,
            confidence: 0.95,
        }
    }
}

/// A closed interval of a statistic; `[low, high]` in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(into = "[f64; 2]")]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl From<Interval> for [f64; 2] {
    fn from(interval: Interval) -> Self {
        [interval.low, interval.high]
    }
}

/// The purpose of a random draw. The two must not share a stream, or bootstrap draws and sign flips
/// would be correlated.
#[derive(Clone, Copy)]
enum Purpose {
    Bootstrap = 0,
    Swap = 1,
}

/// The generator of one resample, the same on every thread.
fn generator(resampling: &Resampling, purpose: Purpose, resample: usize) -> ChaCha8Rng {
    let mut generator = ChaCha8Rng::seed_from_u64(resampling.seed);
    generator.set_stream(((resample as u64) << 1) | purpose as u64);
    generator
}

/// Sum of `weights[i] * values[i]`.
///
/// Eight running sums let the compiler use vector instructions, which a single
/// floating-point accumulator forbids.
fn weighted_sum(weights: &[f64], values: &[f64]) -> f64 {
    const LANES: usize = 8;
    let mut lanes = [0.0; LANES];
    let (weight_blocks, weight_rest) = weights.as_chunks::<LANES>();
    let (value_blocks, value_rest) = values.as_chunks::<LANES>();
    for (weight, value) in weight_blocks.iter().zip(value_blocks) {
        for lane in 0..LANES {
            lanes[lane] += weight[lane] * value[lane];
        }
    }
    let rest: f64 = weight_rest
        .iter()
        .zip(value_rest)
        .map(|(weight, value)| weight * value)
        .sum();
    lanes.iter().sum::<f64>() + rest
}

fn column_sums<const C: usize>(sample: &[&[f64]; C]) -> [f64; C] {
    sample.map(|column| column.iter().sum())
}

/// Resamples the items with replacement and evaluates `statistic` for every
/// sample on the *same* draws, so that differences between samples are paired.
///
/// # Shapes
/// `samples`: `[sample][column][item]` → `[sample][value][resample]`.
/// With no items every value is the statistic of zero sums.
pub fn bootstrap<const C: usize, const V: usize>(
    samples: &[[&[f64]; C]],
    statistic: impl Fn([f64; C]) -> [f64; V] + Sync,
    resampling: &Resampling,
) -> Vec<[Vec<f64>; V]> {
    let items = samples.first().map_or(0, |sample| sample[0].len());
    let draws: Vec<Vec<[f64; V]>> = (0..resampling.resamples)
        .into_par_iter()
        .map_init(
            || vec![0.0; items],
            |counts, resample| {
                counts.fill(0.0);
                let mut generator = generator(resampling, Purpose::Bootstrap, resample);
                for _ in 0..items {
                    // Multiply-shift: its bias, items / 2^32, is far below the
                    // Monte Carlo error.
                    let index = (u64::from(generator.next_u32()) * items as u64) >> 32;
                    counts[index as usize] += 1.0;
                }
                samples
                    .iter()
                    .map(|sample| statistic(sample.map(|column| weighted_sum(counts, column))))
                    .collect()
            },
        )
        .collect();
    (0..samples.len())
        .map(|sample| {
            std::array::from_fn(|value| draws.iter().map(|draw| draw[sample][value]).collect())
        })
        .collect()
}

/// Percentile interval of a resampled distribution, with linear interpolation
/// between order statistics as in numpy's default `quantile`.
/// Empty input gives `[NaN, NaN]`.
pub fn percentile_interval(mut distribution: Vec<f64>, confidence: f64) -> Interval {
    distribution.sort_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    Interval {
        low: quantile_of_sorted(&distribution, tail),
        high: quantile_of_sorted(&distribution, 1.0 - tail),
    }
}

fn quantile_of_sorted(sorted: &[f64], probability: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let position = probability.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (position - below as f64) * (sorted[above] - sorted[below])
}

/// Two-sided paired permutation (randomisation) test: for each item the two
/// files' results are swapped by a fair coin, and p is the share of swaps whose
/// difference is at least as far from zero as the one observed.
///
/// All `2^n` swaps are enumerated if that takes at most `resamples` evaluations; otherwise
/// p = (1 + extreme) / (1 + resamples), which is never 0 (Phipson and Smyth 2010). Every sample of
/// `others` uses the same coins.
///
/// # Shapes
/// `reference`: `[column][item]`, `others`: `[sample][column][item]`
/// → p-values `[sample][value]`.
pub fn permutation_p_values<const C: usize, const V: usize>(
    reference: &[&[f64]; C],
    others: &[[&[f64]; C]],
    statistic: impl Fn([f64; C]) -> [f64; V] + Sync,
    resampling: &Resampling,
) -> Vec<[f64; V]> {
    let items = reference[0].len();
    let reference_sums = column_sums(reference);
    let other_sums: Vec<[f64; C]> = others.iter().map(column_sums).collect();
    let differences: Vec<[Vec<f64>; C]> = others
        .iter()
        .map(|other| {
            std::array::from_fn(|column| {
                let pairs = other[column].iter().zip(reference[column]);
                pairs.map(|(other, reference)| other - reference).collect()
            })
        })
        .collect();
    let difference_after = |sample: usize, moved: [f64; C]| -> [f64; V] {
        let other: [f64; C] = std::array::from_fn(|c| other_sums[sample][c] - moved[c]);
        let reference: [f64; C] = std::array::from_fn(|c| reference_sums[c] + moved[c]);
        let (other, reference) = (statistic(other), statistic(reference));
        std::array::from_fn(|value| other[value] - reference[value])
    };
    let thresholds: Vec<[f64; V]> = (0..others.len())
        .map(|sample| difference_after(sample, [0.0; C]).map(tolerant_threshold))
        .collect();

    let enumerated = u32::try_from(items)
        .ok()
        .and_then(|items| 1_usize.checked_shl(items))
        .filter(|&all| all <= resampling.resamples);
    let rounds = enumerated.unwrap_or(resampling.resamples);
    let extreme = (0..rounds)
        .into_par_iter()
        .fold(
            || (vec![0.0; items], vec![[0_usize; V]; others.len()]),
            |(mut swaps, mut extreme), round| {
                if enumerated.is_some() {
                    for (item, swap) in swaps.iter_mut().enumerate() {
                        *swap = f64::from((round >> item) as u32 & 1);
                    }
                } else {
                    draw_coins(&mut generator(resampling, Purpose::Swap, round), &mut swaps);
                }
                for (sample, columns) in differences.iter().enumerate() {
                    let moved: [f64; C] =
                        std::array::from_fn(|column| weighted_sum(&swaps, &columns[column]));
                    let difference = difference_after(sample, moved);
                    for value in 0..V {
                        extreme[sample][value] +=
                            usize::from(difference[value].abs() >= thresholds[sample][value]);
                    }
                }
                (swaps, extreme)
            },
        )
        .map(|(_, extreme)| extreme)
        .reduce(
            || vec![[0; V]; others.len()],
            |mut left, right| {
                for (left, right) in left.iter_mut().zip(right) {
                    for value in 0..V {
                        left[value] += right[value];
                    }
                }
                left
            },
        );
    // The observed assignment is itself one of the enumerated swaps; with random swaps it must be
    // added.
    let observed = usize::from(enumerated.is_none());
    extreme
        .into_iter()
        .map(|counts| counts.map(|count| (count + observed) as f64 / (rounds + observed) as f64))
        .collect()
}

/// The smallest distance from zero that counts as "as far as observed".
/// Swaps that are equal in exact arithmetic differ in the last bits.
fn tolerant_threshold(observed: f64) -> f64 {
    observed.abs() * (1.0 - 1e-12) - 1e-15
}

fn draw_coins(generator: &mut ChaCha8Rng, coins: &mut [f64]) {
    for block in coins.chunks_mut(32) {
        let mut bits = generator.next_u32();
        for coin in block {
            *coin = f64::from(bits & 1);
            bits >>= 1;
        }
    }
}

/// Two-sided exact binomial test of `first` against `second` successes under a
/// fair coin: McNemar's exact test of discordant pairs, and the sign test of
/// wins and losses. 1 when both are 0.
pub fn fair_coin_p_value(first: usize, second: usize) -> f64 {
    let tosses = first + second;
    // In logarithms: 2^-tosses underflows beyond 1074 tosses.
    let mut log_term = -(tosses as f64) * std::f64::consts::LN_2;
    let mut tail = 0.0;
    for successes in 0..=first.min(second) {
        tail += log_term.exp();
        log_term += ((tosses - successes) as f64 / (successes + 1) as f64).ln();
    }
    (2.0 * tail).min(1.0)
}

/// Holm's step-down adjustment of a family of p-values, in the order given.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&left, &right| p_values[left].total_cmp(&p_values[right]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut running = 0.0_f64;
    for (position, &index) in order.iter().enumerate() {
        let still_open = (p_values.len() - position) as f64;
        running = running.max(p_values[index] * still_open).min(1.0);
        adjusted[index] = running;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn means(sums: [f64; 2]) -> [f64; 1] {
        [sums[0] / sums[1].max(1.0)]
    }

    #[test]
    fn fair_coin_matches_hand_values() {
        assert_eq!(fair_coin_p_value(0, 0), 1.0);
        assert_eq!(fair_coin_p_value(5, 5), 1.0);
        assert!((fair_coin_p_value(0, 5) - 2.0 / 32.0).abs() < 1e-12);
        // 2 * (1 + 10) / 1024
        assert!((fair_coin_p_value(9, 1) - 22.0 / 1024.0).abs() < 1e-12);
        // 2^-n underflows here.
        let large = fair_coin_p_value(1_000, 1_100);
        assert!((large - 0.0307).abs() < 5e-4, "{large}");
    }

    #[test]
    fn holm_is_monotone_and_capped() {
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.9]);
        let expected = [0.04, 0.09, 0.09, 0.9];
        for (adjusted, expected) in adjusted.iter().zip(expected) {
            assert!((adjusted - expected).abs() < 1e-12);
        }
        assert!(holm(&[]).is_empty());
        assert_eq!(holm(&[0.6, 0.7]), vec![1.0, 1.0]);
    }

    #[test]
    fn weighted_sum_covers_the_rest_of_a_block() {
        for length in [0, 1, 7, 8, 9, 33] {
            let values: Vec<f64> = (0..length).map(f64::from).collect();
            let weights = vec![2.0; values.len()];
            let expected: f64 = values.iter().map(|value| 2.0 * value).sum();
            assert_eq!(weighted_sum(&weights, &values), expected);
        }
    }

    #[test]
    fn same_seed_same_interval_and_constant_data_has_no_width() {
        let values: Vec<f64> = (0..40).map(|i| f64::from(i % 7) / 7.0).collect();
        let ones = vec![1.0; 40];
        let resampling = Resampling {
            resamples: 500,
            ..Resampling::default()
        };
        let interval = |resampling: &Resampling| {
            let drawn = bootstrap(&[[&values[..], &ones[..]]], means, resampling);
            percentile_interval(drawn[0][0].clone(), 0.95)
        };
        assert_eq!(interval(&resampling), interval(&resampling));
        let other = Resampling {
            seed: 7,
            ..resampling
        };
        assert_ne!(interval(&resampling), interval(&other));
        let drawn = bootstrap(&[[&ones[..], &ones[..]]], means, &resampling);
        assert_eq!(
            percentile_interval(drawn[0][0].clone(), 0.95),
            Interval {
                low: 1.0,
                high: 1.0
            }
        );
    }

    #[test]
    fn permutation_enumerates_small_samples() {
        let left = [1.0, 1.0, 1.0, 1.0, 1.0];
        let right = [0.0; 5];
        let ones = [1.0; 5];
        let p = permutation_p_values(
            &[&right[..], &ones[..]],
            &[[&left[..], &ones[..]], [&right[..], &ones[..]]],
            means,
            &Resampling::default(),
        );
        assert_eq!(p[0][0], 2.0 / 32.0);
        assert_eq!(p[1][0], 1.0);
    }

    #[test]
    fn random_permutation_is_never_zero() {
        let left = vec![1.0; 200];
        let right = vec![0.0; 200];
        let ones = vec![1.0; 200];
        let resampling = Resampling {
            resamples: 99,
            ..Resampling::default()
        };
        let p = permutation_p_values(
            &[&right[..], &ones[..]],
            &[[&left[..], &ones[..]]],
            means,
            &resampling,
        );
        assert_eq!(p[0][0], 0.01);
    }

    #[test]
    fn empty_samples_do_not_panic() {
        let none: [f64; 0] = [];
        let drawn = bootstrap(
            &[[&none[..], &none[..]]],
            means,
            &Resampling {
                resamples: 3,
                ..Resampling::default()
            },
        );
        assert_eq!(drawn[0][0], vec![0.0; 3]);
        assert!(percentile_interval(Vec::new(), 0.95).low.is_nan());
    }
}
