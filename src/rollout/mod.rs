//! Sampling completions: every prompt is computed once, its group decodes
//! together over the shared prompt, and finished rows leave the batch.

mod sampling;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};

use anyhow::{Context, Result, bail};
use burn::tensor::Tensor;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

pub use sampling::{Drawn, SamplingParameters};

use crate::kernel::sample::{Draw, sample};
use crate::model::{Adapter, CPU_ROLLOUT_ROWS, Decoding, Llama, indices, stream, to_f32, uniform};
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
    let shrunk = Mutex::new(None);
    let sample = |batch: &Batch, tell: &dyn Fn(Told) -> Result<()>| {
        let (model, adapter) = models[batch.device];
        let told = |message: String, rows: usize| {
            let mut shrunk = shrunk.lock().unwrap_or_else(PoisonError::into_inner);
            let rows = shrunk
                .as_ref()
                .map_or(rows, |old: &Shrunk| old.rows.min(rows));
            *shrunk = Some(Shrunk { rows, message });
        };
        generate_in_pieces(model, adapter, batch, settings, tell, &told)
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
        out_of_memory: shrunk.into_inner().unwrap_or_else(PoisonError::into_inner),
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

/// Batches that became smaller for want of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk {
    /// Completions that went through together.
    pub rows: usize,
    /// What the device said.
    pub message: String,
}

/// Completions that are decoded together: the same samples of some prompts.
struct Batch<'p> {
    /// Which of the devices decodes it.
    device: usize,
    /// Place of its first prompt.
    first: usize,
    prompts: Vec<&'p Prompt>,
    samples: Range<usize>,
}

impl Batch<'_> {
    fn rows(&self) -> usize {
        self.prompts.len() * self.samples.len()
    }

    /// Two halves: of the prompts, or of the samples of the only one.
    fn halves(&self) -> Option<[Self; 2]> {
        let piece = |prompts: Range<usize>, samples: Range<usize>| Self {
            device: self.device,
            first: self.first + prompts.start,
            prompts: self.prompts[prompts].to_vec(),
            samples,
        };
        let (prompts, samples) = (self.prompts.len(), &self.samples);
        let middle = samples.start + samples.len() / 2;
        match (prompts, samples.len()) {
            (1, 0 | 1) => None,
            (1, _) => Some([
                piece(0..1, samples.start..middle),
                piece(0..1, middle..samples.end),
            ]),
            _ => Some([
                piece(0..prompts / 2, samples.clone()),
                piece(prompts / 2..prompts, samples.clone()),
            ]),
        }
    }
}

/// Cuts prompts into batches of at most `rows` completions, which go to the devices in turn.
fn batches<'p>(
    prompts: &[&'p Prompt],
    group_size: usize,
    rows: usize,
    devices: usize,
) -> Vec<Batch<'p>> {
    let at_once = (rows / group_size.max(1)).max(1);
    let samples = group_size.min(rows).max(1);
    let mut batches: Vec<Batch> = Vec::new();
    for (index, chunk) in prompts.chunks(at_once).enumerate() {
        let mut start = 0;
        while start < group_size {
            batches.push(Batch {
                device: batches.len() % devices,
                first: index * at_once,
                prompts: chunk.to_vec(),
                samples: start..(start + samples).min(group_size),
            });
            start += samples;
        }
    }
    batches
}

/// What a batch reports after each token; negative where an attempt failed and is made again.
#[derive(Clone, Copy, Default)]
struct Told {
    finished: isize,
    tokens: isize,
}

impl RolloutProgress {
    fn add(&mut self, told: &Told) {
        self.finished = self.finished.saturating_add_signed(told.finished);
        self.tokens = self.tokens.saturating_add_signed(told.tokens);
    }
}

/// Completions of the prompts of a batch.
type Groups = Vec<Vec<Completion>>;

fn in_turn<'p>(
    batches: &[Batch<'p>],
    sample: impl Fn(&Batch<'p>, &dyn Fn(Told) -> Result<()>) -> Result<Groups>,
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
    batches: &[Batch<'p>],
    (devices, workers): (usize, usize),
    sample: impl Fn(&Batch<'p>, &dyn Fn(Told) -> Result<()>) -> Result<Groups> + Sync,
    mut report: RolloutProgress,
    progress: &mut dyn FnMut(RolloutProgress) -> Result<()>,
) -> Result<Vec<Groups>> {
    let is_stopped = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel();
    let mut stopped_by = None;
    let done = std::thread::scope(|scope| {
        let (is_stopped, sample) = (&is_stopped, &sample);
        let working = scope.spawn(move || {
            let device = |batch: &Batch| batch.device;
            parallel::map_on_devices(batches, device, devices, workers, |_, batch| {
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

/// Decodes a batch, in halves where the device has no memory for it. The draws do not depend on the
/// batch, so nothing of the result does.
fn generate_in_pieces(
    model: &Llama,
    adapter: Option<&Adapter>,
    batch: &Batch,
    settings: &RolloutSettings,
    tell: &dyn Fn(Told) -> Result<()>,
    told: &dyn Fn(String, usize),
) -> Result<Groups> {
    // What a failed attempt had told is taken back.
    let done = Cell::new(Told::default());
    let tell_and_count = |new: Told| {
        let mut sum = done.get();
        sum.finished += new.finished;
        sum.tokens += new.tokens;
        done.set(sum);
        tell(new)
    };
    let error = match model.compute.attempt(batch.rows(), || {
        generate_batch(model, adapter, batch, settings, &tell_and_count)
    }) {
        Ok(groups) => return groups,
        Err(error) => error,
    };
    let failed = done.get();
    tell(Told {
        finished: -failed.finished,
        tokens: -failed.tokens,
    })?;
    let Some(halves) = batch.halves() else {
        bail!(
            "the device has no memory for a single completion: {}; lower \
             rollout.max_completion_length or data.max_prompt_length, or set quantization.load_in_4bit = true",
            error.message
        );
    };
    told(error.message, halves[0].rows().max(halves[1].rows()));
    let piece = |half: &Batch| generate_in_pieces(model, adapter, half, settings, tell, told);
    let (mut groups, second) = (piece(&halves[0])?, piece(&halves[1])?);
    match batch.prompts.len() {
        // Samples of the same prompt.
        1 => {
            for (group, more) in groups.iter_mut().zip(second) {
                group.extend(more);
            }
        }
        _ => groups.extend(second),
    }
    Ok(groups)
}

fn generate_batch(
    model: &Llama,
    adapter: Option<&Adapter>,
    batch: &Batch,
    settings: &RolloutSettings,
    tell: &dyn Fn(Told) -> Result<()>,
) -> Result<Vec<Vec<Completion>>> {
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
