//! One worst-case rollout and training step on the experiment's device: what the plan of memory
//! predicts, measured.
//!
//! Every prompt has `data.max_prompt_length` tokens, every completion
//! `rollout.max_completion_length`, and no token ends one. Nothing is written.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};

use crate::device::Compute;
use crate::experiment::Experiment;
use crate::grpo::update::{Generation, Learner};
use crate::model::{Llama, LlamaConfig, MAX_ROLLOUT_ROWS};
use crate::rollout::{Prompt, RolloutSettings, generate};
use crate::run::resident_memory;
use crate::setup;

/// What was measured, in bytes over what there was before the model was loaded: the process's
/// largest resident memory on the CPU, what the pools had reserved on CUDA. Neither holds the
/// encoder, nor a plan's reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// While completions were sampled.
    pub rollout: u64,
    /// While a step was trained.
    pub training: u64,
}

/// Samples and trains once; `progress` is told what is under way, and may answer an error to stop.
/// Where the model's folder has a configuration and no weights, they are drawn.
///
/// # Errors
/// What the experiment asks for and this program cannot do, a model that cannot be loaded, a
/// machine that does not tell its memory, or what `progress` answers.
pub fn probe(
    experiment: &Experiment,
    progress: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<Measured> {
    setup::refuse_unavailable(experiment)?;
    let compute = Compute::new(experiment.model.device, experiment.model.dtype)?;
    let meter = Meter::new(&compute)?;
    progress("loading the model")?;
    let model = load(experiment, &compute)?;
    let mut learner = Learner::new(experiment, &model)?;
    // The reference pass keeps nothing and takes less than the step does.
    learner.loss.beta = 0.0;
    let batch = experiment.batch();
    let worst = WorstCase::new(experiment, model.config.vocab_size);

    meter.begin();
    progress("sampling")?;
    let settings = RolloutSettings {
        sampling: setup::rollout_sampling(experiment),
        max_completion_length: experiment.rollout.max_completion_length,
        stop: BTreeSet::new(),
        group_size: batch.g,
        max_rows: MAX_ROLLOUT_ROWS,
        seed: experiment.run.seed,
        step: 0,
        purpose: "probe",
    };
    let adapter = Some(&learner.adapter);
    generate(&model, adapter, &worst.prompts, &settings, &mut |at| {
        progress(&format!("sampling: {} tokens", at.tokens))
    })?;
    let rollout = meter.read()?;

    meter.begin();
    progress("training")?;
    let mut done = 0;
    learner.step(&worst.generation(experiment), 0.0, [0, 0], &mut |groups| {
        done += groups;
        progress(&format!(
            "training: {done} of {} prompts",
            worst.prompts.len()
        ))
    })?;
    let training = meter.read()?;
    Ok(Measured { rollout, training })
}

fn load(experiment: &Experiment, compute: &Compute) -> Result<Llama> {
    let folder = &experiment.model.path;
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let has_weights = entries.flatten().any(|entry| {
        entry
            .path()
            .extension()
            .is_some_and(|kind| kind == "safetensors")
    });
    match has_weights {
        true => Llama::load(folder, compute),
        false => Llama::random(LlamaConfig::from_dir(folder)?, experiment.run.seed, compute),
    }
}

/// Prompts and completions of one step, all as long as they may be.
struct WorstCase {
    prompts: Vec<Prompt>,
    completions: Vec<Vec<u32>>,
    group: usize,
}

impl WorstCase {
    fn new(experiment: &Experiment, vocabulary: usize) -> Self {
        let batch = experiment.batch();
        let prompts = batch.prompts_per_step().checked_div(batch.d).unwrap_or(0);
        // Which tokens they are takes no memory; they only have to exist.
        let tokens = |length: usize, seed: usize| -> Vec<u32> {
            let id = |place: usize| (place * 31 + seed * 17) % vocabulary.max(1);
            (0..length).map(|place| id(place) as u32).collect()
        };
        let length = experiment.rollout.max_completion_length;
        Self {
            prompts: (0..prompts)
                .map(|prompt| Prompt {
                    tokens: tokens(experiment.data.max_prompt_length, prompt),
                    key: prompt as u64,
                })
                .collect(),
            completions: (0..prompts * batch.g)
                .map(|row| tokens(length, row))
                .collect(),
            group: batch.g,
        }
    }

    fn generation(&self, experiment: &Experiment) -> Generation<'_> {
        let rows = self.completions.len();
        Generation {
            groups: self
                .prompts
                .iter()
                .zip(self.completions.chunks(self.group))
                .map(|(prompt, rows)| {
                    let rows = rows.iter().map(Vec::as_slice).collect();
                    (prompt.tokens.as_slice(), rows)
                })
                .collect(),
            // None of them zero: a group without a gradient would not go back.
            advantages: (0..rows)
                .map(|row| if row % 2 == 0 { 1.0 } else { -1.0 })
                .collect(),
            is_counted: vec![true; rows],
            groups_per_micro_batch: experiment.batch().prompts_per_micro_batch(),
            old_log_probs: None,
            reference_log_probs: None,
        }
    }
}

/// Measures the largest memory between [`Meter::begin`] and [`Meter::read`].
struct Meter<'a> {
    compute: &'a Compute,
    before: u64,
}

impl<'a> Meter<'a> {
    fn new(compute: &'a Compute) -> Result<Self> {
        let before = match compute.is_cpu {
            true => resident_memory().context("/proc/self/status tells no resident memory")?,
            false => reserved(compute)?,
        };
        Ok(Self { compute, before })
    }

    /// Forgets earlier peaks.
    fn begin(&self) {
        match self.compute.is_cpu {
            // proc(5): 5 resets the peak of the resident memory. Where the system does not let us,
            // the peak of loading counts as well, which is seldom the largest.
            true => drop(fs::write("/proc/self/clear_refs", "5")),
            false => self.compute.device.memory_cleanup(),
        }
    }

    fn read(&self) -> Result<u64> {
        let now = match self.compute.is_cpu {
            true => peak_resident().context("/proc/self/status tells no VmHWM")?,
            false => {
                self.compute.device.sync()?;
                // Pools keep what they have once reserved until the next clean-up.
                reserved(self.compute)?
            }
        };
        ensure!(
            now > self.before,
            "memory did not grow, so nothing was measured"
        );
        Ok(now - self.before)
    }
}

fn reserved(compute: &Compute) -> Result<u64> {
    let usage = compute.device.memory_pool_usage();
    let usage = usage.with_context(|| format!("{} does not tell its memory", compute.name))?;
    Ok(usage.bytes_reserved)
}

/// The largest resident memory of this process, in bytes.
fn peak_resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    kibibytes.checked_mul(1024)
}
