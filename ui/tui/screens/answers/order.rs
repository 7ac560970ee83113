//! The order in which the completions of a group are shown.

use moim_core::run::CompletionRecord;

/// What the completions of a group are sorted by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SortKey {
    /// As they were sampled.
    #[default]
    Sample,
    /// The combined reward.
    Total,
    /// The reward of this name.
    Reward(String),
    Advantage,
    /// Sampled tokens.
    Length,
}

impl SortKey {
    /// The key after this one, where the group has these rewards: total, each reward, advantage,
    /// length, and back to the order of sampling.
    pub fn next(&self, rewards: &[&str]) -> Self {
        let reward = |name: Option<&&str>| match name {
            Some(name) => Self::Reward((*name).to_owned()),
            None => Self::Advantage,
        };
        match self {
            Self::Sample => Self::Total,
            Self::Total => reward(rewards.first()),
            Self::Reward(name) => reward(rewards.iter().skip_while(|other| *other != name).nth(1)),
            Self::Advantage => Self::Length,
            Self::Length => Self::Sample,
        }
    }

    /// A word or two for it.
    pub fn title(&self) -> &str {
        match self {
            Self::Sample => "sample",
            Self::Total => "reward",
            Self::Reward(name) => name,
            Self::Advantage => "advantage",
            Self::Length => "length",
        }
    }

    fn value(&self, record: &CompletionRecord) -> Option<f64> {
        match self {
            Self::Sample => Some(record.sample as f64),
            Self::Total => record.reward,
            Self::Reward(name) => record.rewards.get(name).copied().flatten(),
            Self::Advantage => record.advantage,
            Self::Length => Some(record.length as f64),
        }
    }
}

/// The completions in the order of `key`: the first sample, or the largest value, first; reversed
/// if `is_reversed`. Completions without a value come last either way, equal ones in the order of
/// sampling.
pub fn sorted<'a>(
    completions: &'a [CompletionRecord],
    key: &SortKey,
    is_reversed: bool,
) -> Vec<&'a CompletionRecord> {
    let descends = (*key != SortKey::Sample) != is_reversed;
    let value = |record: &CompletionRecord| key.value(record).filter(|value| value.is_finite());
    let mut sorted: Vec<&CompletionRecord> = completions.iter().collect();
    sorted.sort_by(|left, right| match (value(left), value(right)) {
        (Some(left), Some(right)) if descends => right.total_cmp(&left),
        (Some(left), Some(right)) => left.total_cmp(&right),
        (left, right) => right.is_some().cmp(&left.is_some()),
    });
    sorted
}

#[cfg(test)]
mod tests {
    use super::super::sample::completion;
    use super::*;

    #[test]
    fn values_are_sorted_largest_first_and_what_has_none_comes_last() {
        let mut group: Vec<CompletionRecord> = (0..4).map(completion).collect();
        let rewards = [Some(0.5), None, Some(1.25), Some(0.5)];
        for (record, reward) in group.iter_mut().zip(rewards) {
            record.reward = reward;
        }
        let samples = |key, is_reversed| -> Vec<usize> {
            let sorted = sorted(&group, &key, is_reversed);
            sorted.iter().map(|record| record.sample).collect()
        };
        assert_eq!(samples(SortKey::Sample, false), [0, 1, 2, 3]);
        assert_eq!(samples(SortKey::Sample, true), [3, 2, 1, 0]);
        assert_eq!(samples(SortKey::Total, false), [2, 0, 3, 1]);
        assert_eq!(samples(SortKey::Total, true), [0, 3, 2, 1]);
    }

    #[test]
    fn the_round_of_keys_visits_every_reward_and_comes_back() {
        let mut key = SortKey::Sample;
        let mut titles = Vec::new();
        for _ in 0..6 {
            key = key.next(&["format", "rouge1"]);
            titles.push(key.title().to_owned());
        }
        assert_eq!(
            titles,
            [
                "reward",
                "format",
                "rouge1",
                "advantage",
                "length",
                "sample"
            ]
        );
        // A reward that the group at hand does not have.
        assert_eq!(
            SortKey::Reward("gone".to_owned()).next(&["format"]),
            SortKey::Advantage
        );
    }
}
