//! What changed between two experiments, and which changes a resumed run can tolerate.

use super::Experiment;
use super::schema::to_text;

/// Keys that change where a run takes place, what it writes or how fast it is, but not what it
/// computes. A run can be resumed with other values of them.
pub const SAFE_ON_RESUME: [&str; 12] = [
    "model.device",
    "bertscore.batch_size",
    "inference.batch_size",
    "memory.budget_gib",
    "memory.offload_layer_inputs",
    "run.output_dir",
    "run.name",
    "run.logging_steps",
    "run.save_total_limit",
    "run.report_to",
    "run.log_completions",
    "run.watchdog_minutes",
];

/// Keys that hold the path of an input.
const INPUT_PATHS: [&str; 9] = [
    "model.path",
    "data.train",
    "data.eval",
    "data.labels",
    "data.instruct",
    "data.few_shot",
    "data.chat_template",
    "bertscore.model",
    "bertscore.baseline_path",
];

/// Keys that divide a step into micro-batches. Micro-batches run sequentially or on separate
/// devices, so only the product of the first two changes what a step computes. The third counts
/// the micro-batches of one device.
const MICRO_BATCHES: [&str; 3] = [
    "model.num_devices",
    "grpo.gradient_accumulation_steps",
    "grpo.steps_per_generation",
];

/// A key whose value differs between two experiments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `section.key`.
    pub key: String,
    /// The first value as TOML; `None` if it is not set.
    pub before: Option<String>,
    /// The second value as TOML; `None` if it is not set.
    pub after: Option<String>,
}

impl Difference {
    /// Whether a run can be resumed despite it: [`SAFE_ON_RESUME`], and `[sft]`, which only
    /// `moim sft` reads.
    pub fn is_safe_on_resume(&self) -> bool {
        SAFE_ON_RESUME.contains(&self.key.as_str()) || self.key.starts_with("sft.")
    }

    /// Whether only the path of an input differs. A resumed run compares the content itself, so the
    /// input may have moved; an input that was added or removed is a real difference.
    pub fn is_path_of_input(&self) -> bool {
        INPUT_PATHS.contains(&self.key.as_str()) && self.before.is_some() && self.after.is_some()
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
        write!(
            formatter,
            "{}: {} → {}",
            self.key,
            value(&self.before),
            value(&self.after)
        )
    }
}

impl Experiment {
    /// The keys whose values differ from `before` to `after`, in the order of the sections.
    pub fn differences(before: &Self, after: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (first, second) in before.sections().into_iter().zip(after.sections()) {
            for key in first.keys() {
                let (before, after) = (
                    first.get(key.name).flatten(),
                    second.get(key.name).flatten(),
                );
                if before != after {
                    differences.push(Difference {
                        key: key.path(),
                        before: before.map(|value| to_text(&value)),
                        after: after.map(|value| to_text(&value)),
                    });
                }
            }
        }
        differences
    }

    /// The differences that would change what a run computes, so that it cannot be resumed. More
    /// devices with correspondingly less accumulation do not count.
    pub fn differences_unsafe_on_resume(before: &Self, after: &Self) -> Vec<Difference> {
        let micro_batches = |experiment: &Self| {
            let accumulation = experiment.grpo.gradient_accumulation_steps;
            accumulation.saturating_mul(experiment.model.num_devices)
        };
        let as_many = micro_batches(before) == micro_batches(after)
            && before.batch().slices == after.batch().slices;
        let mut differences = Self::differences(before, after);
        differences.retain(|difference| {
            let is_shared = MICRO_BATCHES.contains(&difference.key.as_str());
            !(difference.is_safe_on_resume() || (as_many && is_shared))
        });
        differences
    }
}
