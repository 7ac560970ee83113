//! Sampling completions: every prompt is computed once, its group decodes
//! together over the shared prompt, and finished rows leave the batch.

mod sampling;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use anyhow::{Context, Result, bail};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

pub use sampling::{Drawn, SamplingParameters};

use crate::model::{Adapter, CPU_ROLLOUT_ROWS, Decoding, Llama, stream, to_f32, uniform};
use crate::parallel;

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
    /// Completions decoded together at most, in whole groups.
    pub max_rows: usize,
    /// Seed of the run.
    pub seed: u64,
    /// Optimizer step (or epoch, for inference) that the draws belong to.
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
    settings.sampling.validate()?;
    // Prompts of similar length pad each other least.
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(prompts[i].tokens.len()));
    let rows = if model.compute.is_cpu {
        settings.max_rows.min(CPU_ROLLOUT_ROWS)
    } else {
        settings.max_rows
    };
    let batches: Vec<Vec<&Prompt>> = order
        .chunks((rows / settings.group_size).max(1))
        .map(|chunk| chunk.iter().map(|&i| &prompts[i]).collect())
        .collect();
    let total = RolloutProgress {
        total: prompts.len() * settings.group_size,
        ..Default::default()
    };
    let sample = |batch: &Vec<&Prompt>, tell: &dyn Fn(Told) -> Result<()>| {
        generate_batch(model, adapter, batch, settings, tell)
    };
    let done = match parallel::workers(&model.compute) {
        1 => in_turn(&batches, sample, total, progress)?,
        workers => side_by_side(&batches, workers, sample, total, progress)?,
    };
    let mut results: Vec<Vec<Completion>> = vec![Vec::new(); prompts.len()];
    for (i, completions) in order.into_iter().zip(done.into_iter().flatten()) {
        results[i] = completions;
    }
    Ok(results)
}

/// What a batch reports after each token.
struct Told {
    finished: usize,
    tokens: usize,
}

impl RolloutProgress {
    fn add(&mut self, told: &Told) {
        self.finished += told.finished;
        self.tokens += told.tokens;
    }
}

/// Completions of the prompts of a batch.
type Groups = Vec<Vec<Completion>>;

fn in_turn<'p>(
    batches: &[Vec<&'p Prompt>],
    sample: impl Fn(&Vec<&'p Prompt>, &dyn Fn(Told) -> Result<()>) -> Result<Groups>,
    report: RolloutProgress,
    progress: &mut dyn FnMut(RolloutProgress) -> Result<()>,
) -> Result<Vec<Groups>> {
    let state = RefCell::new((report, progress));
    let tell = |told: Told| {
        let (report, progress) = &mut *state.borrow_mut();
        report.add(&told);
        progress(*report)
    };
    batches.iter().map(|batch| sample(batch, &tell)).collect()
}

/// Batches on threads of their own; progress is told on the caller's.
fn side_by_side<'p>(
    batches: &[Vec<&'p Prompt>],
    workers: usize,
    sample: impl Fn(&Vec<&'p Prompt>, &dyn Fn(Told) -> Result<()>) -> Result<Groups> + Sync,
    mut report: RolloutProgress,
    progress: &mut dyn FnMut(RolloutProgress) -> Result<()>,
) -> Result<Vec<Groups>> {
    let is_stopped = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel();
    let mut stopped_by = None;
    let done = std::thread::scope(|scope| {
        let (is_stopped, sample) = (&is_stopped, &sample);
        let working = scope.spawn(move || {
            parallel::map(batches, workers, |_, batch| {
                let tell = |told: Told| {
                    if is_stopped.load(Ordering::Relaxed) {
                        bail!("sampling was stopped");
                    }
                    // The receiver outlives the workers.
                    let _ = sender.send(told);
                    Ok(())
                };
                sample(batch, &tell)
            })
        });
        for told in receiver {
            report.add(&told);
            if stopped_by.is_none()
                && let Err(error) = progress(report)
            {
                stopped_by = Some(error);
                is_stopped.store(true, Ordering::Relaxed);
            }
        }
        working
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    match stopped_by {
        Some(error) => Err(error),
        None => done.into_iter().collect(),
    }
}

/// One completion in the making.
struct Row {
    rng: ChaCha8Rng,
    completion: Completion,
    is_finished: bool,
}

fn generate_batch(
    model: &Llama,
    adapter: Option<&Adapter>,
    prompts: &[&Prompt],
    settings: &RolloutSettings,
    tell: &dyn Fn(Told) -> Result<()>,
) -> Result<Vec<Vec<Completion>>> {
    let group = settings.group_size;
    let mut rows: Vec<Row> = prompts
        .iter()
        .flat_map(|prompt| {
            (0..group as u64).map(|sample| Row {
                rng: stream(
                    settings.seed,
                    settings.purpose,
                    &[settings.step, prompt.key, sample],
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
    let (mut decoding, logits) = model.prefill(&tokens, group, adapter);
    let vocabulary = model.config.vocab_size;
    let mut logits = to_f32(logits);
    let mut slots = Slots::new(prompts.len(), group);
    // After the prefill a group shares one row of logits, afterwards each completion has its own.
    let mut rows_per_logits = group;
    loop {
        draw(
            &mut rows,
            &slots.rows,
            prompts,
            &logits,
            (vocabulary, rows_per_logits, group),
            settings,
        )?;
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
        tell(Told { finished, tokens })?;
        if rows.iter().all(|row| row.is_finished) {
            return Ok(into_groups(rows, group));
        }
        slots.compact(&rows, &mut decoding);
        let last: Vec<u32> = slots
            .rows
            .iter()
            .map(|&row| rows[row].completion.tokens.last().copied().unwrap_or(0))
            .collect();
        logits = to_f32(decoding.step(&last, adapter));
        rows_per_logits = 1;
    }
}

fn into_groups(rows: Vec<Row>, group: usize) -> Vec<Vec<Completion>> {
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

/// Draws the next token of every row that is not finished, in parallel.
fn draw(
    rows: &mut [Row],
    batch: &[usize],
    prompts: &[&Prompt],
    logits: &[f32],
    (vocabulary, rows_per_logits, group): (usize, usize, usize),
    settings: &RolloutSettings,
) -> Result<()> {
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
