//! The largest values that still fit, and the cheapest change that makes a run fit.

use super::peak::MemoryPlan;
use super::plan;
use super::shape::Inputs;
use super::size::Bytes;
use crate::architecture::WeightFormat;
use crate::experiment::BatchUnit;

/// Searches stop here: a value that fits at this number is not limited by memory.
const LARGEST_BATCH: usize = 65_536;

/// The shortest completion worth proposing, in tokens.
const SHORTEST_COMPLETION: usize = 16;

/// The largest legal value of each key that still fits with the smallest parts, the other keys
/// unchanged; `None` if no value fits or the size of the memory is not known.
///
/// A group can be split, so G and B are often limited only by the search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `grpo.num_generations` (G). If B counts completions, one of B's divisors.
    pub num_generations: Option<usize>,
    /// `grpo.per_device_train_batch_size` (B), up to 65536. If it counts completions, a multiple of G.
    pub per_device_train_batch_size: Option<usize>,
    /// `rollout.max_completion_length`, in tokens; together with the prompt at most the model's positions.
    pub max_completion_length: Option<usize>,
}

impl Limits {
    /// `at most completions of 900 tokens; G and B of any size`; empty if nothing is known.
    pub fn words(&self) -> String {
        let (mut bounded, mut any) = (Vec::new(), Vec::new());
        for (name, value) in [
            ("G", self.num_generations),
            ("B", self.per_device_train_batch_size),
        ] {
            match value {
                // The largest multiple of G can be below the end of the search.
                Some(value) if value > LARGEST_BATCH / 2 => any.push(name),
                Some(value) => bounded.push(format!("{name} {value}")),
                None => {}
            }
        }
        if let Some(length) = self.max_completion_length {
            bounded.push(format!("completions of {length} tokens"));
        }
        let mut words = Vec::new();
        if !bounded.is_empty() {
            words.push(format!("at most {}", bounded.join(", ")));
        }
        if !any.is_empty() {
            words.push(format!("{} of any size", any.join(" and ")));
        }
        words.join("; ")
    }
}

/// A change of the experiment: keys with their new values, and the resulting inputs.
#[derive(Clone)]
struct Change {
    keys: Vec<(&'static str, String)>,
    inputs: Inputs,
}

impl Change {
    fn none(inputs: &Inputs) -> Self {
        Self {
            keys: Vec::new(),
            inputs: inputs.clone(),
        }
    }

    fn with(&self, key: &'static str, value: impl ToString, set: impl FnOnce(&mut Inputs)) -> Self {
        let (mut keys, mut inputs) = (self.keys.clone(), self.inputs.clone());
        keys.push((key, value.to_string()));
        set(&mut inputs);
        Self { keys, inputs }
    }

    fn with_length(&self, length: usize) -> Self {
        let key = "rollout.max_completion_length";
        self.with(key, length, |inputs| inputs.completion_length = length)
    }

    fn with_answers_of(&self, length: usize) -> Self {
        let key = "inference.max_completion_length";
        self.with(key, length, |inputs| inputs.answer_length = length)
    }

    fn with_inputs_on_host(&self) -> Self {
        self.with("memory.offload_layer_inputs", true, |inputs| {
            inputs.offloads_layer_inputs = true;
        })
    }

    fn in_4_bits(&self) -> Self {
        // Scales in 32 bits need more memory, so it fits with either kind.
        let format = WeightFormat::Nf4 {
            double_quant: false,
        };
        self.with("quantization.load_in_4bit", true, |inputs| {
            inputs.weight_format = format;
        })
    }

    fn fits(&self, capacity: u64) -> bool {
        self.inputs.clone().can_fit(capacity)
    }

    /// Completions of at least `least` tokens that fit, and shorter answers if those do not fit.
    fn shorter(&self, least: usize, capacity: u64) -> Option<Self> {
        let now = self.inputs.completion_length;
        let lengths = (least, now.checked_sub(1)?);
        if let Some(length) = largest(lengths.0, lengths.1, |n| self.with_length(n).fits(capacity))
        {
            return Some(self.with_length(length));
        }
        let now = self.inputs.answer_length;
        let answers = |change: &Self| {
            let fits = |n| change.with_answers_of(n).fits(capacity);
            let length = largest(least, now.checked_sub(1)?, fits)?;
            Some(change.with_answers_of(length))
        };
        answers(self)
            .or_else(|| answers(&self.with_length(least.min(self.inputs.completion_length))))
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
        let batch = inputs.batch;
        let mut changed = inputs.clone();
        let mut fits = |set: &dyn Fn(&mut Inputs)| {
            changed.clone_from(inputs);
            set(&mut changed);
            changed.can_fit(capacity)
        };
        let step = match batch.unit {
            BatchUnit::Completions => batch.g.max(2),
            BatchUnit::Prompts => 1,
        };
        let num_generations = match batch.unit {
            // Fewer prompts for a longer group: not monotone, but few.
            BatchUnit::Completions => (2..=batch.b.min(LARGEST_BATCH))
                .rev()
                .filter(|&g| batch.b.is_multiple_of(g))
                .find(|&g| fits(&|inputs| inputs.batch.g = g)),
            BatchUnit::Prompts => largest(2, LARGEST_BATCH, |g| fits(&|inputs| inputs.batch.g = g)),
        };
        let per_device_train_batch_size = largest(1, LARGEST_BATCH / step, |n| {
            fits(&|inputs| inputs.batch.b = n * step)
        });
        let positions = inputs.decoder.max_position_embeddings;
        Limits {
            num_generations,
            per_device_train_batch_size: per_device_train_batch_size.map(|n| n * step),
            max_completion_length: largest(
                1,
                positions.saturating_sub(inputs.prompt_length),
                |length| fits(&|inputs| inputs.completion_length = length),
            ),
        }
    }

    /// The cheapest change that makes the run fit, as text with keys and values; `None` if it fits or
    /// the size of the memory is not known.
    ///
    /// Phases already run in parts as small as necessary ([`Inputs::sized_for`]), so this is about a
    /// run that does not fit even with one completion at a time. The cheapest change affects the
    /// result least: layer inputs on the host cost only time; then completions of at least half their
    /// length, then a base model in 4 bits, then both, then completions as short as necessary.
    pub fn suggestion(&self, inputs: &Inputs) -> Option<String> {
        let capacity = self.capacity?;
        if self.is_possible() {
            return None;
        }
        let mut base = Change::none(inputs);
        if !inputs.is_cpu && !inputs.offloads_layer_inputs {
            base = base.with_inputs_on_host();
            if base.fits(capacity) {
                return Some(format!("{}: the same steps, slower", base.words()));
            }
        }
        let half = inputs
            .completion_length
            .div_ceil(2)
            .max(SHORTEST_COMPLETION);
        let narrow = (inputs.weight_format == WeightFormat::Dense).then(|| base.in_4_bits());
        let narrow = narrow.as_ref();
        let found = base
            .shorter(half, capacity)
            .map(|change| (change, "shorter completions"))
            .or_else(|| {
                let change = narrow.filter(|change| change.fits(capacity))?;
                Some((Change::clone(change), "a base model of a quarter the size"))
            })
            .or_else(|| {
                let change = narrow?.shorter(half, capacity)?;
                Some((
                    change,
                    "a base model of a quarter the size, and shorter completions",
                ))
            })
            .or_else(|| {
                let change = base.shorter(SHORTEST_COMPLETION, capacity)?;
                Some((change, "much shorter completions"))
            })
            .or_else(|| {
                let change = narrow?.shorter(SHORTEST_COMPLETION, capacity)?;
                Some((
                    change,
                    "a base model of a quarter the size, and much shorter completions",
                ))
            });
        Some(match found {
            Some((change, consequence)) => format!("{}: {consequence}", change.words()),
            None => nothing_fits(&base, capacity),
        })
    }
}

/// The largest number from `low` to `high` that `fits`, if every number below one that fits does too.
fn largest(low: usize, high: usize, mut fits: impl FnMut(usize) -> bool) -> Option<usize> {
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

fn nothing_fits(base: &Change, capacity: u64) -> String {
    let mut least = base.inputs.clone();
    least.completion_length = least.completion_length.min(SHORTEST_COMPLETION);
    least.answer_length = least.answer_length.min(SHORTEST_COMPLETION);
    let (phase, bytes) = plan(&least, Some(capacity)).fullest();
    format!(
        "no completion length fits: at {SHORTEST_COMPLETION} tokens {} still needs {}; lower \
         data.max_prompt_length or lora.r, or use a smaller model or a device with more memory than {}",
        phase.name(),
        Bytes(bytes),
        Bytes(capacity)
    )
}
