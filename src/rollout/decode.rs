//! Decoding one batch, a token of every completion at a time.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use burn::tensor::Tensor;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::batches::{Batch, Groups, Told};
use super::{Completion, FinishReason, Prompt, RolloutSettings, SamplingParameters};
use crate::kernel::sample::{Draw, sample};
use crate::model::{Adapter, Decoding, Llama, indices, stream, to_f32, uniform};

/// One completion in the making.
struct Row {
    rng: ChaCha8Rng,
    completion: Completion,
    is_finished: bool,
}

/// Prefills the prompts of a batch and draws until every completion has ended.
pub(super) fn decode(
    model: &Llama,
    adapter: Option<&Adapter>,
    batch: &Batch,
    settings: &RolloutSettings,
    tell: &dyn Fn(Told) -> Result<()>,
) -> Result<Groups> {
    let (prompts, group) = (batch.prompts.as_slice(), batch.samples.len());
    let mut rows: Vec<Row> = prompts
        .iter()
        .flat_map(|prompt| {
            batch.samples.clone().map(|sample| Row {
                rng: stream(
                    settings.seed,
                    settings.purpose,
                    &[settings.step, prompt.key, sample as u64],
                ),
                completion: Completion {
                    tokens: Vec::new(),
                    log_probs: Vec::new(),
                    finish_reason: FinishReason::Length,
                },
                is_finished: settings.max_completion_length == 0,
            })
        })
        .collect();
    if settings.max_completion_length == 0 {
        return Ok(into_groups(rows, group));
    }

    let tokens: Vec<&[u32]> = prompts
        .iter()
        .map(|prompt| prompt.tokens.as_slice())
        .collect();
    let (mut decoding, mut logits) = model.prefill(&tokens, group, adapter);
    let mut slots = Slots::new(prompts.len(), group);
    // After the prefill a group shares one row of logits, afterwards each completion has its own.
    let mut rows_per_logits = group;
    loop {
        // The logits go before the next step begins.
        match draws_on_device(model, settings) {
            true => draw_on_device(
                &mut rows,
                &slots.rows,
                logits,
                rows_per_logits,
                model,
                settings,
            )?,
            false => draw(
                &mut rows,
                &slots.rows,
                prompts,
                logits,
                (rows_per_logits, group),
                settings,
            )?,
        }
        let tokens = slots
            .rows
            .iter()
            .filter(|&&row| !rows[row].is_finished)
            .count();
        let finished = slots
            .rows
            .iter()
            .filter(|&&row| finish(&mut rows[row], settings))
            .count();
        tell(Told {
            finished: finished as isize,
            tokens: tokens as isize,
        })?;
        if rows.iter().all(|row| row.is_finished) {
            return Ok(into_groups(rows, group));
        }
        slots.compact(&rows, &mut decoding);
        let last: Vec<u32> = slots
            .rows
            .iter()
            .map(|&row| rows[row].completion.tokens.last().copied().unwrap_or(0))
            .collect();
        logits = decoding.step(&last, adapter);
        rows_per_logits = 1;
    }
}

fn into_groups(rows: Vec<Row>, group: usize) -> Groups {
    let mut completions = rows.into_iter().map(|row| row.completion);
    let mut groups = Vec::new();
    loop {
        let next: Vec<Completion> = completions.by_ref().take(group).collect();
        if next.is_empty() {
            return groups;
        }
        groups.push(next);
    }
}

/// Whether tokens are drawn where the logits are: on a device of its own, but not with a repetition
/// penalty, which needs the text.
fn draws_on_device(model: &Llama, settings: &RolloutSettings) -> bool {
    !model.compute.is_cpu && settings.sampling.repetition_penalty == 1.0
}

/// Draws the next token of every row of the batch on the device.
fn draw_on_device(
    rows: &mut [Row],
    batch: &[usize],
    logits: Tensor<2>,
    rows_per_logits: usize,
    model: &Llama,
    settings: &RolloutSettings,
) -> Result<()> {
    let logits = match rows_per_logits {
        1 => logits,
        // A row of logits for each completion of a group.
        shared => {
            let places = (0..batch.len()).map(|slot| slot / shared);
            logits.select(0, indices(places, &model.compute))
        }
    };
    let SamplingParameters {
        temperature,
        top_k,
        top_p,
        min_p,
        ..
    } = settings.sampling;
    let uniforms: Vec<f64> = batch
        .iter()
        .map(|&row| match rows[row].is_finished {
            true => 0.0,
            false => uniform(&mut rows[row].rng),
        })
        .collect();
    let draw = Draw {
        temperature,
        top_k,
        top_p,
        min_p: min_p.unwrap_or(0.0),
    };
    let (tokens, log_probs) = sample(logits, &uniforms, draw)?;
    for ((&row, token), log_prob) in batch.iter().zip(tokens).zip(log_probs) {
        let row = &mut rows[row];
        if !row.is_finished {
            row.completion.tokens.push(token);
            row.completion.log_probs.push(log_prob);
        }
    }
    Ok(())
}

/// Draws the next token of every row that is not finished on the host, in parallel.
fn draw(
    rows: &mut [Row],
    batch: &[usize],
    prompts: &[&Prompt],
    logits: Tensor<2>,
    (rows_per_logits, group): (usize, usize),
    settings: &RolloutSettings,
) -> Result<()> {
    let vocabulary = logits.dims()[1];
    let logits = to_f32(logits);
    let mut place = vec![usize::MAX; rows.len()];
    for (slot, &row) in batch.iter().enumerate() {
        place[row] = slot / rows_per_logits;
    }
    let penalty = settings.sampling.repetition_penalty != 1.0;
    rows.par_iter_mut()
        .zip(place)
        .enumerate()
        .try_for_each(|(index, (row, slot))| {
            if row.is_finished || slot == usize::MAX {
                return Ok(());
            }
            let prompt = prompts[index / group];
            let logits = &logits[slot * vocabulary..(slot + 1) * vocabulary];
            let seen: BTreeSet<u32> = match penalty {
                true => prompt
                    .tokens
                    .iter()
                    .chain(&row.completion.tokens)
                    .copied()
                    .collect(),
                false => BTreeSet::new(),
            };
            let u = uniform(&mut row.rng);
            let drawn = settings
                .sampling
                .draw(logits, |token| seen.contains(&token), u)
                .with_context(|| {
                    format!("token {} of a completion", row.completion.tokens.len() + 1)
                })?;
            row.completion.tokens.push(drawn.token);
            row.completion.log_probs.push(drawn.log_prob);
            Ok(())
        })
}

/// Whether the token just drawn ends this row, which it then marks.
fn finish(row: &mut Row, settings: &RolloutSettings) -> bool {
    if row.is_finished {
        return false;
    }
    let tokens = &row.completion.tokens;
    if tokens
        .last()
        .is_some_and(|token| settings.stop.contains(token))
    {
        row.completion.finish_reason = FinishReason::Stop;
        row.is_finished = true;
    } else if tokens.len() >= settings.max_completion_length {
        row.is_finished = true;
    }
    row.is_finished
}

/// Which completions are in the batch: the same number for every prompt left.
struct Slots {
    rows: Vec<usize>,
    rows_per_prompt: usize,
}

impl Slots {
    fn new(prompts: usize, group: usize) -> Self {
        Self {
            rows: (0..prompts * group).collect(),
            rows_per_prompt: group,
        }
    }

    /// Leaves out groups that are finished, and finished rows where every group
    /// left has some to spare. Copying the cache costs about as much as a few
    /// steps, so only a quarter fewer rows is worth it.
    fn compact(&mut self, rows: &[Row], decoding: &mut Decoding) {
        let groups: Vec<&[usize]> = self.rows.chunks(self.rows_per_prompt).collect();
        let active = |group: &[usize]| group.iter().filter(|&&row| !rows[row].is_finished).count();
        let prompts: Vec<usize> = (0..groups.len())
            .filter(|&i| active(groups[i]) > 0)
            .collect();
        let widest = prompts
            .iter()
            .map(|&i| active(groups[i]))
            .max()
            .unwrap_or(0);
        if prompts.len() * widest * 4 > self.rows.len() * 3 {
            return;
        }
        let mut kept = Vec::new();
        for &prompt in &prompts {
            let mut slots: Vec<usize> = (0..self.rows_per_prompt).collect();
            slots.sort_by_key(|&slot| (rows[groups[prompt][slot]].is_finished, slot));
            slots.truncate(widest);
            slots.sort_unstable();
            kept.extend(
                slots
                    .into_iter()
                    .map(|slot| prompt * self.rows_per_prompt + slot),
            );
        }
        decoding.keep(&prompts, &kept, widest);
        self.rows = kept.into_iter().map(|slot| self.rows[slot]).collect();
        self.rows_per_prompt = widest;
    }
}
