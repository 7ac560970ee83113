//! From rewards to advantages: what a completion is worth beside its group.

use moim_core::experiment::ScaleRewards;
use moim_core::reward::Reward;

/// Added to a standard deviation before it divides, as in TRL.
const STD_EPSILON: f64 = 1e-4;

/// Advantages of completions and what they say about the groups.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Advantages {
    /// One per completion; 0 where the reward is NaN.
    pub values: Vec<f64>,
    /// Mean reward of each group, NaN rewards left out.
    pub group_means: Vec<f64>,
    /// Standard deviation of each group (n − 1), NaN rewards left out.
    pub group_stds: Vec<f64>,
}

/// `(r − mean of the group) / (scale + 1e-4)`; the scale is the group's
/// standard deviation, the whole batch's, or nothing (TRL's `scale_rewards`).
///
/// A reward of NaN (no reward function had an opinion) takes no part in the
/// statistics and gets advantage 0.
///
/// # Shapes
/// `rewards: [groups·group_size]`, group after group → the same
pub fn advantages(rewards: &[f64], group_size: usize, scale: ScaleRewards) -> Advantages {
    let mut result = Advantages::default();
    let batch_std = mean_and_std(rewards).1;
    for group in rewards.chunks(group_size.max(1)) {
        let (mean, std) = mean_and_std(group);
        result.group_means.push(mean);
        result.group_stds.push(std);
        result.values.extend(group.iter().map(|reward| {
            let centred = reward - mean;
            let advantage = match scale {
                ScaleRewards::Group => centred / (std + STD_EPSILON),
                ScaleRewards::Batch => centred / (batch_std + STD_EPSILON),
                ScaleRewards::None => centred,
            };
            if advantage.is_nan() { 0.0 } else { advantage }
        }));
    }
    result
}

/// Advantages where each reward is normalised within its group before they are summed (GDPO, TRL's
/// `normalize_then_sum`): every reward has its say in the sum whatever its spread. What is not
/// weighted takes no part; a completion without any weighted reward gets advantage 0.
///
/// # Shapes
/// `rewards: [groups·group_size]`, group after group → the same; `weights` as [`Reward::values`]
pub fn advantages_of_each(rewards: &[Reward], weights: &[f64], group_size: usize) -> Advantages {
    let group_size = group_size.max(1);
    let mut sums = vec![f64::NAN; rewards.len()];
    for (index, weight) in weights.iter().enumerate().filter(|(_, w)| **w != 0.0) {
        let values: Vec<f64> = rewards
            .iter()
            .map(|reward| reward.values[index].unwrap_or(f64::NAN))
            .collect();
        for (group, sums) in values.chunks(group_size).zip(sums.chunks_mut(group_size)) {
            let (mean, std) = mean_and_std(group);
            for (value, sum) in group.iter().zip(sums).filter(|(value, _)| !value.is_nan()) {
                let normalised = weight * (value - mean) / (std + STD_EPSILON);
                *sum = if sum.is_nan() { 0.0 } else { *sum } + normalised;
            }
        }
    }
    let (mean, std) = mean_and_std(&sums);
    let totals: Vec<f64> = rewards.iter().map(|reward| reward.total).collect();
    let groups = totals.chunks(group_size).map(mean_and_std);
    let (group_means, group_stds) = groups.unzip();
    Advantages {
        values: sums
            .into_iter()
            .map(|sum| (sum - mean) / (std + STD_EPSILON))
            .map(|advantage| if advantage.is_nan() { 0.0 } else { advantage })
            .collect(),
        group_means,
        group_stds,
    }
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
        let first = advantages(&[1.0, 0.0, 0.5, 0.5], 4, ScaleRewards::Group);
        close(first.values[0], 1.2244450);
        close(first.values[1], -1.2244450);
        close(first.values[2], 0.0);
        close(first.group_stds[0], 0.4082483);
        let second = advantages(&[1.0, 0.4, f64::NAN, 2.2], 4, ScaleRewards::Group);
        for (value, expected) in second
            .values
            .iter()
            .zip([-0.2181940, -0.8727763, 0.0, 1.0909705])
        {
            close(*value, expected);
        }
    }

    #[test]
    fn a_group_of_equals_teaches_nothing() {
        for scale in [ScaleRewards::Group, ScaleRewards::Batch, ScaleRewards::None] {
            assert_eq!(advantages(&[0.7; 8], 4, scale).values, [0.0; 8]);
        }
    }
}
