//! What still fits, and what makes it fit.

use super::peak::{MemoryPlan, Phase};
use super::plan;
use super::shape::Inputs;
use super::size::Bytes;
use crate::experiment::BatchUnit;

/// Searches stop here; a larger value would be told by the length of an epoch, not by memory.
const LARGEST_BATCH: usize = 65_536;

/// The shortest completion worth proposing, in tokens.
const SHORTEST_COMPLETION: usize = 16;

/// The largest legal values that still fit, each alone, the others as they are; `None` where no
/// value does, or where the size of the memory is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `grpo.num_generations` (G). Where B counts completions, one of B's divisors.
    pub num_generations: Option<usize>,
    /// `grpo.per_device_train_batch_size` (B), up to 65536. Where it counts completions, a multiple of G.
    pub per_device_train_batch_size: Option<usize>,
    /// `rollout.max_completion_length`, in tokens; with the prompt at most the model's positions.
    pub max_completion_length: Option<usize>,
}

/// A change of the experiment: keys with their new values, and what they come to.
struct Change {
    keys: Vec<(&'static str, usize)>,
    inputs: Inputs,
}

impl Change {
    fn none(inputs: &Inputs) -> Self {
        Self {
            keys: Vec::new(),
            inputs: inputs.clone(),
        }
    }

    fn with_batch(&self, b: usize, g: usize, a: usize) -> Self {
        let mut inputs = self.inputs.clone();
        let before = inputs.batch;
        (inputs.batch.b, inputs.batch.g, inputs.batch.a) = (b, g, a);
        let mut keys = self.keys.clone();
        for (key, old, new) in [
            ("grpo.num_generations", before.g, g),
            ("grpo.per_device_train_batch_size", before.b, b),
            ("grpo.gradient_accumulation_steps", before.a, a),
        ] {
            if old != new {
                keys.push((key, new));
            }
        }
        Self { keys, inputs }
    }

    fn with_length(&self, length: usize) -> Self {
        let mut inputs = self.inputs.clone();
        inputs.completion_length = length;
        let mut keys = self.keys.clone();
        keys.push(("rollout.max_completion_length", length));
        Self { keys, inputs }
    }

    fn with_answers(&self, batch_size: usize) -> Self {
        let mut inputs = self.inputs.clone();
        inputs.answered_together = batch_size;
        let mut keys = self.keys.clone();
        keys.push(("inference.batch_size", batch_size));
        Self { keys, inputs }
    }

    fn fits(&self, capacity: u64) -> bool {
        plan(&self.inputs, Some(capacity)).is_possible()
    }

    /// `set a.b = 1 and c.d = 2`.
    fn words(&self) -> String {
        let settings: Vec<String> = self
            .keys
            .iter()
            .map(|(key, value)| format!("{key} = {value}"))
            .collect();
        format!("set {}", settings.join(" and "))
    }
}

impl MemoryPlan {
    /// The largest values that still fit, for the inputs that this is the plan of.
    pub fn limits(&self, inputs: &Inputs) -> Limits {
        let Some(capacity) = self.capacity else {
            return Limits::default();
        };
        let present = Change::none(inputs);
        let batch = inputs.batch;
        let with_b = |b: usize| present.with_batch(b, batch.g, batch.a).fits(capacity);
        let with_g = |g: usize| present.with_batch(batch.b, g, batch.a).fits(capacity);
        let step = match batch.unit {
            BatchUnit::Completions => batch.g.max(2),
            BatchUnit::Prompts => 1,
        };
        let num_generations = match batch.unit {
            // More memory for a longer group, less for fewer prompts: not monotone, but few.
            BatchUnit::Completions => (2..=batch.b.min(LARGEST_BATCH))
                .rev()
                .filter(|&g| batch.b.is_multiple_of(g))
                .find(|&g| with_g(g)),
            BatchUnit::Prompts => largest(2, LARGEST_BATCH, with_g),
        };
        let positions = inputs.decoder.max_position_embeddings;
        Limits {
            num_generations,
            per_device_train_batch_size: largest(1, LARGEST_BATCH / step, |n| with_b(n * step))
                .map(|n| n * step),
            max_completion_length: largest(
                1,
                positions.saturating_sub(inputs.prompt_length),
                |length| present.with_length(length).fits(capacity),
            ),
        }
    }

    /// The cheapest change that makes it fit, in words with keys and values; `None` where it fits
    /// or where the size of the memory is not known.
    ///
    /// Cheap is what changes the result least: fewer answers at a time changes nothing, a step in
    /// more micro-batches nothing but time; then completions of at least half their length, then
    /// fewer prompts a step, then smaller groups, then shorter completions, then everything at its least.
    pub fn suggestion(&self, inputs: &Inputs) -> Option<String> {
        let capacity = self.capacity?;
        if self.is_possible() {
            return None;
        }
        let mut base = Change::none(inputs);
        if self.inference.total() > capacity {
            let fitting = largest(1, inputs.answered_together, |size| {
                let inference = plan(&base.with_answers(size).inputs, None).inference;
                inference.total() <= capacity
            });
            base = base.with_answers(fitting.unwrap_or(1));
        }
        if base.fits(capacity) {
            return Some(format!(
                "{}: the same answers, fewer at a time",
                base.words()
            ));
        }
        let half = inputs
            .completion_length
            .div_ceil(2)
            .max(SHORTEST_COMPLETION);
        let whole = same_steps(&base, capacity)
            .map(|change| (change, "the same steps in smaller parts"))
            .or_else(|| {
                shorter(&base, half, capacity).map(|change| (change, "shorter completions"))
            })
            .or_else(|| fewer_prompts(&base, capacity).map(|change| (change, "smaller steps")))
            .or_else(|| smaller_group(&base, capacity).map(|change| (change, "fewer to compare")))
            .or_else(|| {
                let change = shorter(&base, SHORTEST_COMPLETION, capacity)?;
                Some((change, "much shorter completions"))
            })
            .or_else(|| {
                let change = shorter(&least_batch(&base), SHORTEST_COMPLETION, capacity)?;
                Some((change, "the smallest batch, and shorter completions"))
            });
        Some(match whole {
            Some((change, consequence)) => format!("{}: {consequence}", change.words()),
            None => no_way(&base, capacity),
        })
    }
}

/// The largest number from `low` to `high` that `fits`, where every number below one that fits
/// does as well.
fn largest(low: usize, high: usize, fits: impl Fn(usize) -> bool) -> Option<usize> {
    if high < low || !fits(low) {
        return None;
    }
    let (mut good, mut bad) = (low, high.saturating_add(1));
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if fits(middle) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Some(good)
}

/// B for so many prompts of a micro-batch.
fn b_of(inputs: &Inputs, prompts: usize, group: usize) -> usize {
    match inputs.batch.unit {
        BatchUnit::Completions => prompts.saturating_mul(group),
        BatchUnit::Prompts => prompts,
    }
}

/// The same prompts a step in more micro-batches.
fn same_steps(base: &Change, capacity: u64) -> Option<Change> {
    let batch = base.inputs.batch;
    let now = batch.prompts_per_micro_batch().min(LARGEST_BATCH);
    let step = now.checked_mul(batch.a)?;
    (1..now)
        .rev()
        .filter(|&prompts| step.is_multiple_of(prompts))
        .map(|prompts| {
            base.with_batch(
                b_of(&base.inputs, prompts, batch.g),
                batch.g,
                step / prompts,
            )
        })
        .find(|change| change.fits(capacity))
}

/// Completions of at least `least` tokens.
fn shorter(base: &Change, least: usize, capacity: u64) -> Option<Change> {
    let most = base.inputs.completion_length.checked_sub(1)?;
    let length = largest(least, most, |length| {
        base.with_length(length).fits(capacity)
    })?;
    Some(base.with_length(length))
}

/// Fewer micro-batches a step, and so fewer prompts to sample for at once.
fn fewer_prompts(base: &Change, capacity: u64) -> Option<Change> {
    let batch = base.inputs.batch;
    let with = |a: usize| base.with_batch(batch.b, batch.g, a);
    let a = largest(1, batch.a.checked_sub(1)?, |a| with(a).fits(capacity))?;
    Some(with(a))
}

/// Fewer completions a prompt, for as many prompts.
fn smaller_group(base: &Change, capacity: u64) -> Option<Change> {
    let batch = base.inputs.batch;
    let prompts = batch.prompts_per_micro_batch().max(1);
    let with = |group: usize| base.with_batch(b_of(&base.inputs, prompts, group), group, batch.a);
    let group = largest(2, batch.g.min(LARGEST_BATCH).checked_sub(1)?, |group| {
        with(group).fits(capacity)
    })?;
    Some(with(group))
}

/// One prompt a step with the smallest group.
fn least_batch(base: &Change) -> Change {
    base.with_batch(b_of(&base.inputs, 1, 2), 2, 1)
}

fn no_way(base: &Change, capacity: u64) -> String {
    let least = least_batch(base).with_length(SHORTEST_COMPLETION);
    let plan = plan(&least.inputs, Some(capacity));
    let (phase, bytes) = plan.fullest();
    let lengths = match phase {
        Phase::Inference => "inference.max_completion_length, data.max_prompt_length",
        Phase::Rollout | Phase::Training => "data.max_prompt_length",
    };
    format!(
        "no batch and no completion length fits: at their least, {} still takes {}; lower {lengths}, \
         take a smaller model, or a device with more memory than {}",
        phase.name(),
        Bytes(bytes),
        Bytes(capacity)
    )
}
