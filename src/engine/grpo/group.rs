//! A rollout as a list of groups: each question with its completions, their rewards and advantages.

use std::ops::Range;

use crate::rollout::{Completion, FinishReason};
use crate::setup::Question;
use moim_core::reward::{Reward, RewardSample};

/// One completion of a question, with everything that is computed from it (torchtune keeps the same
/// in its `GRPOTrajectory`).
#[derive(Clone, Debug)]
pub struct Sample {
    /// Tokens, and their log-probabilities when they were drawn.
    pub completion: Completion,
    /// The completion as text, without its end token.
    pub text: String,
    /// Its reward.
    pub reward: Reward,
    /// Its value relative to its group.
    pub advantage: f64,
    /// Whether the loss counts it.
    pub is_counted: bool,
    /// Log-probabilities under the policy that sampled, in nats; `None` while that policy is the
    /// current one.
    pub old_log_probs: Option<Vec<f32>>,
    /// Log-probabilities under the reference policy, in nats, if the loss needs them.
    pub reference_log_probs: Option<Vec<f32>>,
}

impl Sample {
    /// A completion that has no reward yet.
    pub fn new(completion: Completion, text: String) -> Self {
        Self {
            completion,
            text,
            reward: Reward {
                total: f64::NAN,
                values: Vec::new(),
            },
            advantage: 0.0,
            is_counted: true,
            old_log_probs: None,
            reference_log_probs: None,
        }
    }
}

/// A question and its completions.
#[derive(Clone, Debug)]
pub struct Group {
    /// The question with its prompt.
    pub question: Question,
    /// In the order in which they were drawn.
    pub samples: Vec<Sample>,
}

impl Group {
    /// A group of which only the tokens matter, for measurements and tests; advantages are 0.
    pub fn of_tokens(prompt: Vec<u32>, completions: Vec<Vec<u32>>) -> Self {
        let sample = |tokens: Vec<u32>| {
            let completion = Completion {
                log_probs: vec![0.0; tokens.len()],
                tokens,
                finish_reason: FinishReason::Length,
            };
            Sample::new(completion, String::new())
        };
        Self {
            question: Question::of_tokens(prompt),
            samples: completions.into_iter().map(sample).collect(),
        }
    }

    /// The completions as the reward functions see them; `step` is the one that will learn from them.
    pub fn reward_samples(&self, step: u64) -> impl Iterator<Item = RewardSample<'_>> {
        let record = &self.question.record;
        self.samples.iter().map(move |sample| RewardSample {
            id: &record.id,
            prompt: &self.question.text,
            completion: &sample.text,
            label: record.answer.as_deref().unwrap_or_default(),
            question_type: record.question_type.name(),
            tokens: sample.completion.tokens.len(),
            step,
        })
    }
}

/// The groups of one rollout, and how optimizer steps share them.
#[derive(Clone, Debug)]
pub struct Generation {
    /// All with the same number of samples.
    pub groups: Vec<Group>,
    /// Groups of a micro-batch.
    pub groups_per_micro_batch: usize,
    /// Optimizer steps that share the generation, each on an equal slice of its groups.
    pub slices: usize,
}

impl Generation {
    /// The number of samples of each group.
    pub fn group_size(&self) -> usize {
        self.groups.first().map_or(0, |group| group.samples.len())
    }

    /// The groups of a slice.
    pub fn slice(&self, index: usize) -> Range<usize> {
        let size = self.groups.len() / self.slices.max(1);
        index * size..(index + 1) * size
    }

    /// Cuts groups into micro-batches.
    pub fn micro_batches(&self, groups: Range<usize>) -> Vec<Range<usize>> {
        let size = self.groups_per_micro_batch.max(1);
        let starts = groups.clone().step_by(size);
        starts
            .map(|start| start..(start + size).min(groups.end))
            .collect()
    }

    /// All samples, group after group.
    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.groups.iter().flat_map(|group| &group.samples)
    }

    /// As [`Generation::samples`], to be changed.
    pub fn samples_mut(&mut self) -> impl Iterator<Item = &mut Sample> {
        self.groups.iter_mut().flat_map(|group| &mut group.samples)
    }

    /// The rewards of each group.
    pub fn rewards(&self) -> Vec<Vec<&Reward>> {
        let groups = self.groups.iter();
        groups
            .map(|group| group.samples.iter().map(|sample| &sample.reward).collect())
            .collect()
    }

    /// The combined reward of each completion, group by group.
    pub fn totals(&self) -> Vec<Vec<f64>> {
        let totals = |group: &Group| {
            let samples = group.samples.iter();
            samples.map(|sample| sample.reward.total).collect()
        };
        self.groups.iter().map(totals).collect()
    }

    /// Whether the current policy is no longer the one that sampled.
    pub fn has_old_log_probs(&self) -> bool {
        self.samples().any(|sample| sample.old_log_probs.is_some())
    }

    /// Sets the log-probabilities under the policy that sampled, one row per completion.
    pub fn set_old_log_probs(&mut self, rows: Vec<Vec<f32>>) {
        for (sample, row) in self.samples_mut().zip(rows) {
            sample.old_log_probs = Some(row);
        }
    }

    /// Tokens of the prompts, each counted once.
    pub fn prompt_tokens(&self) -> usize {
        let groups = self.groups.iter();
        groups.map(|group| group.question.prompt.tokens.len()).sum()
    }

    /// Tokens of the completions.
    pub fn completion_tokens(&self) -> usize {
        self.samples()
            .map(|sample| sample.completion.tokens.len())
            .sum()
    }

    /// Counted tokens of an optimizer step, on the mean over the generation's steps: the divisor of
    /// `dapo`, as TRL computes it.
    pub fn tokens_per_step(&self) -> f64 {
        let counted = self.samples().filter(|sample| sample.is_counted);
        let tokens: usize = counted.map(|sample| sample.completion.tokens.len()).sum();
        tokens as f64 / self.slices.max(1) as f64
    }
}
