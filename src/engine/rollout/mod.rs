//! Sampling completions: every prompt is computed once, its group decodes
//! together over the shared prompt, and finished rows leave the batch.

mod decode;
mod recorded;
mod sampling;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use anyhow::{Error, Result, ensure};

pub use sampling::{Drawn, SamplingParameters};

use crate::execution::{MicroSlice, OomRetry, Replicas, retry_with_smaller_batches};
use crate::model::{Adapter, Llama};
use decode::decode;
use moim_core::memory::limits::CPU_ROLLOUT_ROWS;

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// An end token was drawn; it is the completion's last token.
    Stop,
    /// `max_completion_length` was reached.
    Length,
}

impl FinishReason {
    /// `stop` or `length`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// A sampled completion.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Tokens, the end token included.
    pub tokens: Vec<u32>,
    /// Log-probability of each token when it was drawn, in nats (see [`Drawn::log_prob`]).
    pub log_probs: Vec<f32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// A prompt to complete.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Token ids, at least one.
    pub tokens: Vec<u32>,
    /// Identity within the run: draws depend on it and not on the batch.
    pub key: u64,
}

/// How completions are sampled.
#[derive(Clone, Debug)]
pub struct RolloutSettings {
    /// Distribution that tokens are drawn from.
    pub sampling: SamplingParameters,
    /// Tokens after which a completion is cut off.
    pub max_completion_length: usize,
    /// Tokens that end a completion.
    pub stop: BTreeSet<u32>,
    /// Completions of each prompt (G).
    pub num_generations: usize,
    /// Completions decoded together at most: whole groups if one fits, else parts of a group.
    pub max_rows: usize,
    /// Seed of the run.
    pub seed: u64,
    /// The generation (the step of the save point, for inference) that the draws belong to.
    pub step: u64,
    /// The purpose of the draws; training and inference have different streams.
    pub purpose: &'static str,
}

/// The progress of a rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RolloutProgress {
    /// Completions that ended.
    pub finished: usize,
    /// Completions in all.
    pub total: usize,
    /// Tokens drawn so far.
    pub tokens: usize,
}

/// Called after every token that a batch has drawn, from any thread, one call at a time. An error stops
/// the rollout.
pub type OnProgress<'p> = dyn FnMut(RolloutProgress) -> Result<()> + Send + 'p;

/// Samples `num_generations` completions of every prompt; the result is in the order of `prompts`.
///
/// Draws come from (seed, step, prompt key, sample, token), so the same seed
/// gives the same completions whatever the batch.
///
/// # Errors
/// Logits that are not numbers, or an error of `progress`.
pub fn generate(
    model: &Llama,
    adapter: Option<&Adapter>,
    prompts: &[Prompt],
    settings: &RolloutSettings,
    progress: &mut OnProgress,
) -> Result<Vec<Vec<Completion>>> {
    let replicas = Replicas::new(vec![model], adapter);
    Ok(generate_on(&replicas, prompts, settings, progress)?.groups)
}

/// As [`generate`], on every device: batches go to the devices in turn. If a device runs out of
/// memory, what is left to do continues in smaller batches.
///
/// # Errors
/// As [`generate`]; a single completion that does not fit a device's memory.
pub fn generate_on(
    replicas: &Replicas,
    prompts: &[Prompt],
    settings: &RolloutSettings,
    progress: &mut OnProgress,
) -> Result<Rollout> {
    settings.sampling.validate()?;
    // Prompts of similar length pad each other least.
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(prompts[i].tokens.len()));
    let sorted: Vec<&Prompt> = order.iter().map(|&i| &prompts[i]).collect();
    let rows = if replicas.compute().is_cpu {
        settings.max_rows.min(CPU_ROLLOUT_ROWS)
    } else {
        settings.max_rows
    };
    let num_generations = settings.num_generations;
    let mut todo = MicroSlice::whole(prompts.len(), num_generations).split(rows);
    for (index, slice) in todo.iter_mut().enumerate() {
        slice.micro_batch = index % replicas.devices();
    }
    // Adapters are kept in f32; converted once, not for each token.
    let replicas = replicas.in_dtype_of_models();
    let reporter = Reporter::new(prompts.len() * num_generations, progress);
    let mut done: Vec<(MicroSlice, Vec<Vec<Completion>>)> = Vec::new();
    let mut out_of_memory = None;
    while !todo.is_empty() {
        let ran = replicas.run(&todo, |replica, _, slice| {
            let prompts = &sorted[slice.prompts.clone()];
            decode(replica, prompts, &slice.samples, settings, &reporter)
        });
        if let Some(error) = reporter.take_error() {
            return Err(error);
        }
        let mut left = Vec::new();
        for (slice, completions) in todo.into_iter().zip(ran.done) {
            match completions {
                Some(completions) => done.push((slice, completions)),
                None => left.push(slice),
            }
        }
        todo = Vec::new();
        if let Some(error) = ran.error {
            let too_large = too_large(settings);
            let retry = retry_with_smaller_batches(error, &left, num_generations, too_large)?;
            todo.extend(left.iter().flat_map(|slice| slice.split(retry.rows)));
            out_of_memory = Some(retry);
            // What failed attempts had drawn is drawn again.
            let completions = done.iter().flat_map(|(_, groups)| groups.iter().flatten());
            reporter.restart_from(completions);
        }
    }
    // A slice has whole groups, or some samples of one.
    done.sort_by_key(|(slice, _)| (slice.prompts.start, slice.samples.start));
    let mut groups: Vec<Vec<Completion>> = vec![Vec::new(); prompts.len()];
    for (slice, completions) in done {
        for (prompt, completions) in slice.prompts.zip(completions) {
            groups[order[prompt]].extend(completions);
        }
    }
    Ok(Rollout {
        groups,
        out_of_memory,
    })
}

/// The settings to lower when a single completion does not fit.
fn too_large(settings: &RolloutSettings) -> &'static str {
    match settings.purpose {
        "inference" => {
            "lower inference.max_completion_length or data.max_prompt_length, or set quantization.load_in_4bit = true"
        }
        _ => {
            "lower rollout.max_completion_length or data.max_prompt_length, or set quantization.load_in_4bit = true"
        }
    }
}

/// Sampled completions.
#[derive(Clone, Debug, Default)]
pub struct Rollout {
    /// Completions of every prompt, in the order of the prompts.
    pub groups: Vec<Vec<Completion>>,
    /// The smallest size of batches that running out of memory led to; `None` if it never happened.
    pub out_of_memory: Option<OomRetry>,
}

/// Adds up the progress of all batches and reports it.
struct Reporter<'r, 'p>(Mutex<Reported<'r, 'p>>);

struct Reported<'r, 'p> {
    sum: RolloutProgress,
    progress: &'r mut OnProgress<'p>,
    /// That of the callback.
    error: Option<Error>,
}

impl<'r, 'p> Reporter<'r, 'p> {
    fn new(total: usize, progress: &'r mut OnProgress<'p>) -> Self {
        Self(Mutex::new(Reported {
            sum: RolloutProgress {
                total,
                ..Default::default()
            },
            progress,
            error: None,
        }))
    }

    /// A batch has drawn a token of each of its completions.
    ///
    /// # Errors
    /// The callback has failed; [`Reporter::take_error`] is its error.
    fn add(&self, finished: usize, tokens: usize) -> Result<()> {
        let mut reported = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Reported {
            sum,
            progress,
            error,
        } = &mut *reported;
        if error.is_none() {
            sum.finished += finished;
            sum.tokens += tokens;
            *error = progress(*sum).err();
        }
        ensure!(error.is_none(), "sampling was stopped");
        Ok(())
    }

    fn take_error(&self) -> Option<Error> {
        let mut reported = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reported.error.take()
    }

    /// Counts these completions only.
    fn restart_from<'c>(&self, completions: impl Iterator<Item = &'c Completion>) {
        let mut reported = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (reported.sum.finished, reported.sum.tokens) = (0, 0);
        for completion in completions {
            reported.sum.finished += 1;
            reported.sum.tokens += completion.tokens.len();
        }
    }
}
