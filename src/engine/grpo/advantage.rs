//! From rewards to advantages: the value of a completion relative to its group.

use moim_core::experiment::ScaleRewards;
use moim_core::reward::Reward;

/// Added to a standard deviation before it divides, as in TRL.
const STD_EPSILON: f64 = 1e-4;

/// `(r − mean of the group) / (scale + 1e-4)`; the scale is the group's
/// standard deviation, the whole batch's, or nothing (TRL's `scale_rewards`).
///
/// A reward of NaN (no reward function had an opinion) is left out of the
/// statistics and gets advantage 0.
pub fn advantages(groups: &[Vec<f64>], scale: ScaleRewards) -> Vec<Vec<f64>> {
    let batch_std = mean_and_std(&groups.concat()).1;
    let of_group = |rewards: &Vec<f64>| {
        let (mean, std) = mean_and_std(rewards);
        let advantage = |reward: &f64| {
            let centred = reward - mean;
            let advantage = match scale {
                ScaleRewards::Group => centred / (std + STD_EPSILON),
                ScaleRewards::Batch => centred / (batch_std + STD_EPSILON),
                ScaleRewards::None => centred,
            };
            zero_if_nan(advantage)
        };
        rewards.iter().map(advantage).collect()
    };
    groups.iter().map(of_group).collect()
}

/// Advantages if each reward is normalised within its group before they are summed (GDPO, TRL's
/// `normalize_then_sum`): every reward counts in the sum whatever its spread. A reward without a
/// weight is left out; a completion without any weighted reward gets advantage 0. `weights` has the
/// order of [`Reward::values`].
pub fn advantages_of_each(groups: &[Vec<&Reward>], weights: &[f64]) -> Vec<Vec<f64>> {
    let of_group = |rewards: &Vec<&Reward>| {
        let mut sums = vec![f64::NAN; rewards.len()];
        for (index, weight) in weights.iter().enumerate().filter(|(_, w)| **w != 0.0) {
            let values: Vec<f64> = rewards
                .iter()
                .map(|reward| reward.values[index].unwrap_or(f64::NAN))
                .collect();
            let (mean, std) = mean_and_std(&values);
            let numbers = values.iter().zip(&mut sums);
            for (value, sum) in numbers.filter(|(value, _)| !value.is_nan()) {
                let normalised = weight * (value - mean) / (std + STD_EPSILON);
                *sum = if sum.is_nan() { 0.0 } else { *sum } + normalised;
            }
        }
        sums
    };
    let mut sums: Vec<Vec<f64>> = groups.iter().map(of_group).collect();
    let (mean, std) = mean_and_std(&sums.concat());
    for sum in sums.iter_mut().flatten() {
        *sum = zero_if_nan((*sum - mean) / (std + STD_EPSILON));
    }
    sums
}

fn zero_if_nan(advantage: f64) -> f64 {
    if advantage.is_nan() { 0.0 } else { advantage }
}

/// Mean and standard deviation (n − 1) of the numbers among `values`; NaN when
/// there are none, 0 for the deviation of a single one.
pub fn mean_and_std(values: &[f64]) -> (f64, f64) {
    let numbers: Vec<f64> = values
        .iter()
        .copied()
        .filter(|value| !value.is_nan())
        .collect();
    if numbers.is_empty() {
        return (f64::NAN, f64::NAN);
    }
    let count = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / count;
    if numbers.len() == 1 {
        return (mean, 0.0);
    }
    let variance = numbers
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / (count - 1.0);
    (mean, variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that TRL 1.16 computes: a group [1, 0, .5, .5], and two rewards weighted 1 and 2.
    #[test]
    fn agrees_with_trl() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} against {b}");
        let of_group =
            |rewards: [f64; 4]| advantages(&[rewards.to_vec()], ScaleRewards::Group).remove(0);
        let first = of_group([1.0, 0.0, 0.5, 0.5]);
        close(first[0], 1.2244450);
        close(first[1], -1.2244450);
        close(first[2], 0.0);
        close(mean_and_std(&[1.0, 0.0, 0.5, 0.5]).1, 0.4082483);
        let second = of_group([1.0, 0.4, f64::NAN, 2.2]);
        for (value, expected) in second.iter().zip([-0.2181940, -0.8727763, 0.0, 1.0909705]) {
            close(*value, expected);
        }
    }

    #[test]
    fn a_group_of_equals_teaches_nothing() {
        for scale in [ScaleRewards::Group, ScaleRewards::Batch, ScaleRewards::None] {
            let groups = [vec![0.7; 4], vec![0.7; 4]];
            assert_eq!(advantages(&groups, scale).concat(), [0.0; 8]);
        }
    }
}
