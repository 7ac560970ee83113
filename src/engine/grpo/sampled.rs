//! What a generation is made of before the optimizer sees it: completions and what they are worth.

use serde_json::{Map, Value, json};

use super::advantage::Advantages;
use super::trainer::{number, object};
use crate::rollout::Completion;
use crate::setup::Question;
use moim_core::reward::Reward;

/// What a rollout brought.
pub(super) struct Sampled {
    pub(super) questions: Vec<Question>,
    /// Group after group.
    pub(super) completions: Vec<Completion>,
    /// Their texts.
    pub(super) texts: Vec<String>,
    pub(super) seconds: f64,
}

impl Sampled {
    pub(super) fn groups(&self, group_size: usize) -> Vec<(&[u32], Vec<&[u32]>)> {
        self.questions
            .iter()
            .zip(self.completions.chunks(group_size))
            .map(|(question, group)| {
                let rows = group
                    .iter()
                    .map(|completion| completion.tokens.as_slice())
                    .collect();
                (question.prompt.tokens.as_slice(), rows)
            })
            .collect()
    }

    pub(super) fn prompt_tokens(&self) -> usize {
        self.questions
            .iter()
            .map(|question| question.prompt.tokens.len())
            .sum()
    }

    pub(super) fn completion_tokens(&self) -> usize {
        self.completions
            .iter()
            .map(|completion| completion.tokens.len())
            .sum()
    }
}

/// What completions are worth, in their order.
pub(super) struct Scored {
    pub(super) rewards: Vec<Reward>,
    pub(super) totals: Vec<f64>,
    pub(super) advantages: Advantages,
    pub(super) seconds: f64,
}

/// How far log-probabilities of the training pass are from those of sampling:
/// two computations of the same quantity, apart by rounding alone.
pub(super) fn sampling_difference(
    completions: &[Completion],
    log_probs: &[Vec<f32>],
) -> Map<String, Value> {
    let (mut sum, mut largest, mut tokens) = (0.0, 0.0_f64, 0usize);
    for (completion, trained) in completions.iter().zip(log_probs) {
        for (a, b) in completion.log_probs.iter().zip(trained) {
            let difference = f64::from((a - b).abs());
            sum += difference;
            largest = largest.max(difference);
            tokens += 1;
        }
    }
    object(json!({
        "sampling/sampling_logp_difference/mean": number(sum / tokens.max(1) as f64),
        "sampling/sampling_logp_difference/max": number(largest),
    }))
}
