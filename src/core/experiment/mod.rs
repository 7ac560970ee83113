//! What a user writes: the experiment file, its validation, overrides and batch arithmetic.
//!
//! A file is checked completely: [`Experiment::load`] either returns an experiment that satisfies
//! every rule, or lists all its faults at once, each with the key, the value, the problem, how to
//! fix it and the line. Loading reads only the experiment file. [`Experiment::check_files`] checks
//! separately whether the files it names exist, so that a run can be planned on a machine without
//! the model.
//!
//! Paths in an experiment are relative to the current directory.

pub mod batch;
mod choices;
pub mod edit;
mod fault;
mod files;
mod read;
mod resume;
pub(crate) mod schema;
mod sections;
mod settings;
mod validate;

use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use batch::{BatchArithmetic, BatchUnit, Horizon};
pub use choices::{
    ComputeDtype, DeviceChoice, Dtype, ImportanceSamplingLevel, LongPrompts, LossType,
    LrSchedulerType, MultiObjectiveAggregation, QuantType, Reporter, RougeTokenizer, SaveStrategy,
    ScaleRewards, SftInit, TargetModule, TargetModules, UnknownDevice,
};
pub use edit::{Document, EditError};
pub use fault::{ExperimentError, Fault, Origin};
pub use resume::{Difference, SAFE_ON_RESUME};
pub use schema::{Key, Section};
pub use sections::{
    BUILT_IN_REWARDS, BertScoreSection, DataSection, GrpoSection, InferenceSection, LoraSection,
    MemorySection, ModelSection, QuantizationSection, RewardCommand, RewardSection, RolloutSection,
    RunSection, SftSection,
};
pub(crate) use validate::is_folder_name;

/// A whole experiment, every key resolved.
///
/// `Experiment::default()` has the defaults. Its three required paths are empty, so it is not valid.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Experiment {
    /// `[model]`
    pub model: ModelSection,
    /// `[quantization]`
    pub quantization: QuantizationSection,
    /// `[lora]`
    pub lora: LoraSection,
    /// `[data]`
    pub data: DataSection,
    /// `[grpo]`
    pub grpo: GrpoSection,
    /// `[rollout]`
    pub rollout: RolloutSection,
    /// `[reward]`
    pub reward: RewardSection,
    /// `[bertscore]`
    pub bertscore: BertScoreSection,
    /// `[inference]`
    pub inference: InferenceSection,
    /// `[sft]`
    pub sft: SftSection,
    /// `[run]`
    pub run: RunSection,
    /// `[memory]`
    pub memory: MemorySection,
}

impl Experiment {
    /// Reads an experiment file and applies `overrides`, each `section.key=value` with the value
    /// in TOML (a value that is not TOML is a string, so quotes can be left out).
    ///
    /// # Errors
    /// [`ExperimentError::Unreadable`] if the file cannot be read, else
    /// [`ExperimentError::Faults`] with every fault of the file and of the overrides.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, ExperimentError> {
        let unreadable = |source| ExperimentError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let bytes = read_short(path).map_err(unreadable)?;
        let faults = |faults| ExperimentError::Faults {
            path: path.to_owned(),
            faults,
        };
        match std::str::from_utf8(&bytes) {
            Ok(text) => Self::parse(text, overrides).map_err(faults),
            Err(error) => Err(faults(vec![read::not_utf8(&bytes, error.valid_up_to())])),
        }
    }

    /// As [`Experiment::load`], from the text of a file.
    ///
    /// # Errors
    /// Every fault of the text and of the overrides.
    pub fn parse(text: &str, overrides: &[String]) -> Result<Self, Vec<Fault>> {
        let mut reading = read::read(text, overrides);
        reading.validate();
        let (experiment, faults) = reading.finish();
        if faults.is_empty() {
            Ok(experiment)
        } else {
            Err(faults)
        }
    }

    /// The faults of the values themselves: ranges, and keys that cannot be combined. Pure: no file
    /// is read.
    pub fn validate(&self) -> Vec<Fault> {
        validate::validate(self, &Default::default())
    }

    /// The resolved configuration as TOML: every key, an unset key as a comment. Parsing it gives
    /// an equal experiment.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for section in self.sections() {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(&format!("[{}]\n", section.name()));
            for key in section.keys() {
                match section.get(key.name).flatten() {
                    Some(value) => {
                        text.push_str(&format!("{} = {}\n", key.name, schema::to_text(&value)));
                    }
                    None => text.push_str(&format!("# {} is not set\n", key.name)),
                }
            }
        }
        text
    }

    /// Every key of an experiment file with its help, in the order of the sections.
    pub fn keys() -> Vec<Key> {
        Self::default()
            .sections()
            .iter()
            .flat_map(|section| section.keys())
            .collect()
    }

    /// The value of `section.key` as TOML text; `None` if it is not set or does not exist.
    pub fn get(&self, key: &str) -> Option<String> {
        let (section, name) = key.split_once('.')?;
        let section = self
            .sections()
            .into_iter()
            .find(|known| known.name() == section)?;
        section
            .get(name)
            .flatten()
            .map(|value| schema::to_text(&value))
    }

    /// The batch of GRPO.
    pub fn batch(&self) -> BatchArithmetic {
        BatchArithmetic {
            b: self.grpo.per_device_train_batch_size,
            g: self.grpo.num_generations,
            a: self.grpo.gradient_accumulation_steps,
            d: self.model.num_devices,
            unit: self.grpo.batch_unit,
            slices: self.grpo.steps_per_generation.map_or(1, |steps| {
                steps
                    .checked_div(self.grpo.gradient_accumulation_steps)
                    .unwrap_or(1)
                    .max(1)
            }),
        }
    }

    /// What determines the run's length, for `num_prompts` training prompts.
    pub fn horizon(&self, num_prompts: Option<usize>) -> Horizon {
        Horizon {
            num_prompts,
            epochs: self.grpo.num_train_epochs,
            num_iterations: self.grpo.num_iterations,
            max_steps: usize::try_from(self.grpo.max_steps).ok(),
        }
    }

    /// The batch panel: both conventions worked out, then the length of an epoch and of the run.
    pub fn batch_lines(&self, num_prompts: Option<usize>) -> Vec<String> {
        self.batch().panel(&self.horizon(num_prompts))
    }

    /// The sections in the order of the file.
    pub fn sections(&self) -> [&dyn Section; 12] {
        [
            &self.model,
            &self.quantization,
            &self.lora,
            &self.data,
            &self.grpo,
            &self.rollout,
            &self.reward,
            &self.bertscore,
            &self.inference,
            &self.sft,
            &self.run,
            &self.memory,
        ]
    }

    fn section_mut(&mut self, name: &str) -> Option<&mut dyn Section> {
        Some(match name {
            "model" => &mut self.model,
            "quantization" => &mut self.quantization,
            "lora" => &mut self.lora,
            "data" => &mut self.data,
            "grpo" => &mut self.grpo,
            "rollout" => &mut self.rollout,
            "reward" => &mut self.reward,
            "bertscore" => &mut self.bertscore,
            "inference" => &mut self.inference,
            "sft" => &mut self.sft,
            "run" => &mut self.run,
            "memory" => &mut self.memory,
            _ => return None,
        })
    }
}

/// Reads a file, unless it is too large to be an experiment.
fn read_short(path: &Path) -> io::Result<Vec<u8>> {
    const LONGEST: u64 = 256 << 10;
    let mut bytes = Vec::new();
    let file = crate::regular_file::open(path)?;
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        let problem = "it is larger than 256 KiB; an experiment file has a few thousand bytes";
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    Ok(bytes)
}

/// The name of an experiment: its file's name without `.toml`.
pub fn experiment_name(path: &Path) -> String {
    path.file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
