//! Sampling completions: every prompt is computed once, its group decodes
//! together over the shared prompt, and finished rows leave the batch.

mod batches;
mod decode;
mod recorded;
mod sampling;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use anyhow::Result;

pub use sampling::{Drawn, SamplingParameters};

use crate::device::Shrunk;
use crate::model::{Adapter, Llama};
use crate::parallel;
use batches::{Batch, Room, Told, batches, in_pieces, in_turn, side_by_side};
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
    /// Identity within the run: draws depend on it and not on the batch it comes in.
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
    pub group_size: usize,
    /// Completions decoded together at most: whole groups where one fits, else pieces of a group.
    pub max_rows: usize,
    /// Seed of the run.
    pub seed: u64,
    /// The generation (the step of the save point, for inference) that the draws belong to.
    pub step: u64,
    /// What the draws are for; keeps training and inference streams apart.
    pub purpose: &'static str,
}

/// How far a rollout is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RolloutProgress {
    /// Completions that ended.
    pub finished: usize,
    /// Completions in all.
    pub total: usize,
    /// Tokens drawn so far.
    pub tokens: usize,
}

/// Samples `group_size` completions of every prompt; the answer is in the order of `prompts`.
///
/// Draws come from (seed, step, prompt key, sample, token), so the same seed
/// gives the same completions whatever the batch. `progress` is told after
/// every token; it may answer an error to stop.
///
/// # Errors
/// Logits that are not numbers, or what `progress` answers.
pub fn generate(
    model: &Llama,
    adapter: Option<&Adapter>,
    prompts: &[Prompt],
    settings: &RolloutSettings,
    progress: &mut dyn FnMut(RolloutProgress) -> Result<()>,
) -> Result<Vec<Vec<Completion>>> {
    Ok(generate_on(&[(model, adapter)], prompts, settings, progress)?.groups)
}

/// As [`generate`], on every device that has the model and its adapter: batches go to the devices
/// in turn. A batch that a device has no memory for is cut in two.
///
/// # Errors
/// As [`generate`]; a device without room for a single completion.
pub fn generate_on(
    models: &[(&Llama, Option<&Adapter>)],
    prompts: &[Prompt],
    settings: &RolloutSettings,
    progress: &mut dyn FnMut(RolloutProgress) -> Result<()>,
) -> Result<Rollout> {
    settings.sampling.validate()?;
    let compute = &models[0].0.compute;
    // Prompts of similar length pad each other least.
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(prompts[i].tokens.len()));
    let rows = if compute.is_cpu {
        settings.max_rows.min(CPU_ROLLOUT_ROWS)
    } else {
        settings.max_rows
    };
    let in_order: Vec<&Prompt> = order.iter().map(|&i| &prompts[i]).collect();
    let batches = batches(&in_order, settings.group_size, rows.max(1), models.len());
    let total = RolloutProgress {
        total: prompts.len() * settings.group_size,
        ..Default::default()
    };
    // Adapters are kept in f32; converted once, not for each token.
    let adapters: Vec<Option<Adapter>> = models
        .iter()
        .map(|(model, adapter)| adapter.map(|adapter| adapter.in_dtype(model.compute.dtype)))
        .collect();
    let room = Room::new();
    let sample = |batch: &Batch, tell: &dyn Fn(Told) -> Result<()>| {
        let device = (models[batch.device].0, adapters[batch.device].as_ref());
        in_pieces(device, batch, settings, tell, &room)
    };
    let devices = models.len();
    let workers = parallel::workers(compute).div_ceil(devices);
    let done = match devices * workers {
        1 => in_turn(&batches, sample, total, progress)?,
        _ => side_by_side(&batches, (devices, workers), sample, total, progress)?,
    };
    // Batches hold whole groups, or pieces of one group one after another.
    let mut groups: Vec<Vec<Completion>> = vec![Vec::new(); prompts.len()];
    for (batch, completions) in batches.iter().zip(done) {
        for (offset, completions) in completions.into_iter().enumerate() {
            groups[order[batch.first + offset]].extend(completions);
        }
    }
    Ok(Rollout {
        groups,
        out_of_memory: room.into_shrunk(),
    })
}

/// What was sampled.
#[derive(Clone, Debug, Default)]
pub struct Rollout {
    /// Completions of every prompt, in the order of the prompts.
    pub groups: Vec<Vec<Completion>>,
    /// Where a device ran out of memory.
    pub out_of_memory: Option<Shrunk>,
}
