//! Prompts in batches that are decoded together, on one device or several, and in smaller ones where
//! a device has no memory for them.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};

use anyhow::{Result, bail};

use super::decode::decode;
use super::{Completion, Prompt, RolloutProgress, RolloutSettings};
use crate::device::Shrunk;
use crate::model::{Adapter, Llama};
use crate::parallel;

/// Completions that are decoded together: the same samples of some prompts.
pub(super) struct Batch<'p> {
    /// Which of the devices decodes it.
    pub(super) device: usize,
    /// Place of its first prompt.
    pub(super) first: usize,
    pub(super) prompts: Vec<&'p Prompt>,
    pub(super) samples: Range<usize>,
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
pub(super) fn batches<'p>(
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
pub(super) struct Told {
    pub(super) finished: isize,
    pub(super) tokens: isize,
}

impl RolloutProgress {
    fn add(&mut self, told: &Told) {
        self.finished = self.finished.saturating_add_signed(told.finished);
        self.tokens = self.tokens.saturating_add_signed(told.tokens);
    }
}

/// Completions of the prompts of a batch.
pub(super) type Groups = Vec<Vec<Completion>>;

pub(super) fn in_turn<'p>(
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
pub(super) fn side_by_side<'p>(
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

/// How many completions a device has room for, found out by those that had none.
pub(super) struct Room {
    rows: AtomicUsize,
    shrunk: Mutex<Option<Shrunk>>,
}

impl Room {
    pub(super) fn new() -> Self {
        Self {
            rows: AtomicUsize::new(usize::MAX),
            shrunk: Mutex::new(None),
        }
    }

    fn lower(&self, rows: usize, message: String) {
        self.rows.fetch_min(rows, Ordering::Relaxed);
        let mut shrunk = self.shrunk.lock().unwrap_or_else(PoisonError::into_inner);
        if shrunk.as_ref().is_none_or(|old| rows < old.rows) {
            *shrunk = Some(Shrunk { rows, message });
        }
    }

    /// Where it was lowered, and what the device had said.
    pub(super) fn into_shrunk(self) -> Option<Shrunk> {
        self.shrunk
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Decodes a batch, in halves where the device has no memory for it. The draws do not depend on the
/// batch, so nothing of the result does.
pub(super) fn in_pieces(
    (model, adapter): (&Llama, Option<&Adapter>),
    batch: &Batch,
    settings: &RolloutSettings,
    tell: &dyn Fn(Told) -> Result<()>,
    room: &Room,
) -> Result<Groups> {
    let both = |halves: [Batch; 2]| {
        let piece = |half: &Batch| in_pieces((model, adapter), half, settings, tell, room);
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
    };
    // What another batch found out need not be found out again.
    if batch.rows() > room.rows.load(Ordering::Relaxed)
        && let Some(halves) = batch.halves()
    {
        return both(halves);
    }
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
        decode(model, adapter, batch, settings, &tell_and_count)
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
            "the device has no memory for a single completion: {}; lower {}.max_completion_length or \
             data.max_prompt_length, or set quantization.load_in_4bit = true",
            error.message,
            match settings.purpose {
                "inference" => "inference",
                _ => "rollout",
            }
        );
    };
    room.lower(halves[0].rows().max(halves[1].rows()), error.message);
    both(halves)
}
