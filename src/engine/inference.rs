//! Answering questions with a model, by which checkpoints are judged.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use crate::execution::{OomRetry, Replicas};
use crate::model::Adapter;
use crate::rollout::{OnProgress, RolloutSettings, SamplingParameters, generate_on};
use crate::setup::{Policy, Question};
use moim_core::dataset::{AnswerFile, GeneratedAnswer};

/// How questions are answered.
#[derive(Clone, Debug)]
pub struct AnswerSettings {
    /// Distribution that tokens are drawn from; temperature 0 is greedy.
    pub sampling: SamplingParameters,
    /// Tokens after which an answer is cut off.
    pub max_completion_length: usize,
    /// Questions answered together.
    pub batch_size: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// Distinguishes the draws of different checkpoints.
    pub step: u64,
}

/// The answer of a model to one question.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// The text, without its end token.
    pub text: String,
    /// Tokens, the end token included.
    pub tokens: Vec<u32>,
    /// Log-probability of each token, in nats.
    pub log_probs: Vec<f32>,
}

/// The answers of a model to all questions.
#[derive(Clone, Debug)]
pub struct Answers {
    /// In the order of the questions.
    pub answers: Vec<Answered>,
    /// The smallest number answered together that running out of memory led to; `None` if it never
    /// happened.
    pub out_of_memory: Option<OomRetry>,
}

/// The content of an answer file; `with_log_probs` adds tokens and log-probabilities.
///
/// # Errors
/// None that is known.
pub fn answer_file(
    questions: &[Question],
    answers: &[Answered],
    with_log_probs: bool,
) -> Result<Vec<u8>> {
    let items: Vec<GeneratedAnswer> = questions
        .iter()
        .zip(answers)
        .map(|(question, answer)| GeneratedAnswer {
            record: &question.record,
            completion: &answer.text,
            token_ids: with_log_probs.then_some(answer.tokens.as_slice()),
            log_probs: with_log_probs.then_some(answer.log_probs.as_slice()),
        })
        .collect();
    Ok(AnswerFile::to_bytes(&items)?)
}

/// Answers every question once, in order.
///
/// # Errors
/// Tokens that do not decode, logits that are not numbers, or an error of `progress`.
pub fn answer_questions(
    policy: &Policy,
    adapter: Option<&Adapter>,
    questions: &[Question],
    settings: &AnswerSettings,
    progress: &mut OnProgress,
) -> Result<Answers> {
    let rollout = RolloutSettings {
        sampling: settings.sampling.clone(),
        max_completion_length: settings.max_completion_length,
        stop: policy.stop_ids(),
        num_generations: 1,
        max_rows: settings.batch_size,
        seed: settings.seed,
        step: settings.step,
        purpose: "inference",
    };
    let prompts: Vec<_> = questions
        .iter()
        .map(|question| question.prompt.clone())
        .collect();
    let replicas = Replicas::new(policy.models(), adapter);
    let sampled = generate_on(&replicas, &prompts, &rollout, progress)?;
    let mut answers = Vec::with_capacity(questions.len());
    for (question, mut group) in questions.iter().zip(sampled.groups) {
        let completion = group
            .pop()
            .with_context(|| format!("item {:?} got no completion", question.record.id))?;
        let text = decode_completion(policy, &completion.tokens, &rollout.stop)?;
        answers.push(Answered {
            text,
            tokens: completion.tokens,
            log_probs: completion.log_probs,
        });
    }
    Ok(Answers {
        answers,
        out_of_memory: sampled.out_of_memory,
    })
}

/// The text of a completion without its end token and without special tokens.
///
/// # Errors
/// Tokens the tokenizer does not know.
pub fn decode_completion(policy: &Policy, tokens: &[u32], stop: &BTreeSet<u32>) -> Result<String> {
    let end = match tokens.last() {
        Some(last) if stop.contains(last) => tokens.len() - 1,
        _ => tokens.len(),
    };
    policy.tokenizer.decode(&tokens[..end], true)
}
