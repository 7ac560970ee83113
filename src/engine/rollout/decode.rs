//! Decoding one batch, a token of every completion at a time.

use std::collections::BTreeSet;
use std::ops::Range;

use anyhow::{Context, Result};
use burn::tensor::Tensor;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::recorded::{Recorded, WORTH_RECORDING};
use super::{Completion, FinishReason, Prompt, Reporter, RolloutSettings, SamplingParameters};
use crate::execution::Replica;
use crate::kernel::sample::{Draw, sample, upload};
use crate::model::{Adapter, Decoding, Llama, indices, stream, to_f32, uniform};

/// One completion in the making.
struct Row {
    rng: ChaCha8Rng,
    completion: Completion,
    is_finished: bool,
}

/// Prefills a batch, some samples of each of `prompts`, and draws until every completion has ended.
/// Returns the completions of each prompt.
pub(super) fn decode(
    replica: Replica,
    prompts: &[&Prompt],
    samples: &Range<usize>,
    settings: &RolloutSettings,
    reporter: &Reporter,
) -> Result<Vec<Vec<Completion>>> {
    let Replica { model, adapter } = replica;
    let group_size = samples.len();
    let mut rows: Vec<Row> = prompts
        .iter()
        .flat_map(|prompt| {
            samples.clone().map(|sample| Row {
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
        return Ok(into_groups(rows, group_size));
    }

    let tokens: Vec<&[u32]> = prompts
        .iter()
        .map(|prompt| prompt.tokens.as_slice())
        .collect();
    // The last token is drawn and not fed.
    let capacity = settings.max_completion_length - 1;
    let (decoding, logits) = model.prefill(&tokens, (group_size, capacity), adapter);
    let mut next = Next {
        decoding,
        adapter,
        after_prompts: Some(logits),
        recorded: None,
    };
    let mut slots = Slots::new(prompts.len(), group_size);
    let mut last = Vec::new();
    loop {
        if draws_on_device(model, settings) {
            draw_on_device(&mut rows, &slots, &mut next, &last, model, settings)?;
        } else {
            draw(&mut rows, &slots, prompts, &mut next, &last, settings)?;
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
        reporter.add(finished, tokens)?;
        if rows.iter().all(|row| row.is_finished) {
            return Ok(into_groups(rows, group_size));
        }
        slots.compact(&rows, &mut next, model.compute.is_cpu);
        last = slots
            .rows
            .iter()
            .map(|&row| rows[row].completion.tokens.last().copied().unwrap_or(0))
            .collect();
    }
}

/// The source of the next token of every row.
struct Next<'a> {
    decoding: Decoding<'a>,
    adapter: Option<&'a Adapter>,
    /// After the prefill a group shares one row of logits, afterwards each completion has its own.
    after_prompts: Option<Tensor<2>>,
    /// The step recorded for the current rows.
    recorded: Option<Recorded<'a>>,
}

impl Next<'_> {
    /// Logits, and how many rows share each; `last` are the tokens drawn before.
    fn logits(&mut self, last: &[u32], slots: &Slots) -> (Tensor<2>, usize) {
        match self.after_prompts.take() {
            Some(logits) => (logits, slots.rows_per_prompt),
            None => (self.decoding.step(last, self.adapter), 1),
        }
    }

    /// Tokens and log-probabilities, drawn on the device.
    fn draw(
        &mut self,
        last: &[u32],
        uniforms: &[f64],
        slots: &Slots,
        model: &Llama,
        draw: Draw,
    ) -> Result<(Vec<u32>, Vec<f32>)> {
        let is_worth_recording =
            model.compute.records_steps && self.decoding.room_left() >= WORTH_RECORDING;
        if self.after_prompts.is_some() || !(is_worth_recording || self.recorded.is_some()) {
            let (logits, shared) = self.logits(last, slots);
            let logits = match shared {
                1 => logits,
                // A row of logits for each completion of a group.
                shared => {
                    let places = (0..slots.rows.len()).map(|slot| slot / shared);
                    logits.select(0, indices(places, &model.compute))
                }
            };
            return Ok(sample(logits, uniforms, draw)?);
        }
        let numbers = self.decoding.feed(last);
        let step = self.decoding.shared_step();
        let recorded = self.recorded.get_or_insert_with(|| {
            let (numbers, uniforms) = (numbers.clone(), upload(uniforms, &model.compute.device));
            Recorded::new(&self.decoding, self.adapter, numbers, uniforms, draw)
        });
        recorded.run(numbers.clone(), uniforms, || {
            let logits = step.borrow_mut().run(&numbers, self.adapter);
            Ok(sample(logits, uniforms, draw)?)
        })
    }
}

fn into_groups(rows: Vec<Row>, group_size: usize) -> Vec<Vec<Completion>> {
    let mut completions = rows.into_iter().map(|row| row.completion);
    let mut groups = Vec::new();
    loop {
        let next: Vec<Completion> = completions.by_ref().take(group_size).collect();
        if next.is_empty() {
            return groups;
        }
        groups.push(next);
    }
}

/// Whether tokens are drawn where the logits are: on a device other than the CPU, but not with a
/// repetition penalty, which needs the text.
fn draws_on_device(model: &Llama, settings: &RolloutSettings) -> bool {
    !model.compute.is_cpu && settings.sampling.repetition_penalty == 1.0
}

/// Draws the next token of every row of the batch on the device.
fn draw_on_device(
    rows: &mut [Row],
    slots: &Slots,
    next: &mut Next,
    last: &[u32],
    model: &Llama,
    settings: &RolloutSettings,
) -> Result<()> {
    let SamplingParameters {
        temperature,
        top_k,
        top_p,
        min_p,
        ..
    } = settings.sampling;
    let uniforms: Vec<f64> = slots
        .rows
        .iter()
        .map(|&row| {
            if rows[row].is_finished {
                0.0
            } else {
                uniform(&mut rows[row].rng)
            }
        })
        .collect();
    let draw = Draw {
        temperature,
        top_k,
        top_p,
        min_p: min_p.unwrap_or(0.0),
    };
    let (tokens, log_probs) = next.draw(last, &uniforms, slots, model, draw)?;
    for ((&row, token), log_prob) in slots.rows.iter().zip(tokens).zip(log_probs) {
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
    slots: &Slots,
    prompts: &[&Prompt],
    next: &mut Next,
    last: &[u32],
    settings: &RolloutSettings,
) -> Result<()> {
    let group_size = rows.len() / prompts.len();
    let (logits, rows_per_logits) = next.logits(last, slots);
    let vocabulary = logits.dims()[1];
    let logits = to_f32(logits);
    let mut slot_of_row = vec![usize::MAX; rows.len()];
    for (slot, &row) in slots.rows.iter().enumerate() {
        slot_of_row[row] = slot / rows_per_logits;
    }
    let penalty = settings.sampling.repetition_penalty != 1.0;
    rows.par_iter_mut()
        .zip(slot_of_row)
        .enumerate()
        .try_for_each(|(index, (row, slot))| {
            if row.is_finished || slot == usize::MAX {
                return Ok(());
            }
            let prompt = prompts[index / group_size];
            let logits = &logits[slot * vocabulary..(slot + 1) * vocabulary];
            let seen: BTreeSet<u32> = if penalty {
                let drawn = &row.completion.tokens;
                prompt.tokens.iter().chain(drawn).copied().collect()
            } else {
                BTreeSet::new()
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
    fn new(prompts: usize, group_size: usize) -> Self {
        Self {
            rows: (0..prompts * group_size).collect(),
            rows_per_prompt: group_size,
        }
    }

    /// Removes groups that are finished, and finished rows if every group
    /// left has some to spare. Copying the cache costs about as much as a few
    /// steps, so only a quarter fewer rows is worth it on the CPU, and half as many on a GPU, where
    /// rows cost little and the step is recorded again.
    fn compact(&mut self, rows: &[Row], next: &mut Next, is_cpu: bool) {
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
        let most = if is_cpu {
            self.rows.len() * 3 / 4
        } else {
            self.rows.len() / 2
        };
        if prompts.len() * widest > most {
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
        // It was recorded for other rows, whose cache is freed.
        next.recorded = None;
        next.decoding.keep(&prompts, &kept, widest);
        self.rows = kept.into_iter().map(|slot| self.rows[slot]).collect();
        self.rows_per_prompt = widest;
    }
}
