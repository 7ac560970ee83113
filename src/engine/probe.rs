//! Worst-case rollouts and training steps on the experiment's device: memory, which the plan predicts,
//! and time, measured.
//!
//! Every prompt has `data.max_prompt_length` tokens, every completion
//! `rollout.max_completion_length`, and no token ends one. Nothing is written.

use std::collections::BTreeSet;
use std::fs;
use std::num::NonZeroUsize;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nvml_wrapper::Nvml;

use crate::device::Compute;
use crate::execution::{OomRetry, Replicas};
use crate::grpo::group::{Generation, Group};
use crate::grpo::learner::{Learner, UpdateReport};
use crate::model::{Llama, LoadProgress};
use crate::rollout::{Prompt, Rollout, RolloutSettings, generate_on};
use crate::setup;
use moim_core::architecture::LlamaConfig;
use moim_core::experiment::Experiment;
use moim_core::memory::limits::MAX_ROLLOUT_ROWS;
use moim_core::memory::{Inputs, Shapes, page_bytes};
use moim_core::run::resident_memory;

/// The time, memory and tokens of one phase of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Phase {
    /// Wall time in seconds, until the device had nothing left to do.
    pub seconds: f64,
    /// Bytes over what there was before the model was loaded: the process's largest resident memory
    /// on the CPU, what the pools had reserved on CUDA. Neither holds the encoder, nor a plan's
    /// reserve.
    pub memory: u64,
    /// Tokens that were drawn, or that went through the backward pass: a prompt once a group.
    pub tokens: usize,
}

impl Phase {
    /// Tokens per second.
    pub fn tokens_per_second(&self) -> f64 {
        self.tokens as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }

    /// Median seconds and largest memory; every step has the same tokens.
    fn median(phases: &[Self]) -> Option<Self> {
        let mut seconds: Vec<f64> = phases.iter().map(|phase| phase.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let middle = seconds.len() / 2;
        let seconds = match seconds.len() % 2 {
            0 => f64::midpoint(*seconds.get(middle.checked_sub(1)?)?, seconds[middle]),
            _ => seconds[middle],
        };
        Some(Self {
            seconds,
            memory: phases.iter().map(|phase| phase.memory).max()?,
            tokens: phases.first()?.tokens,
        })
    }
}

/// Both phases of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Completions were sampled.
    pub rollout: Phase,
    /// A step was trained: forward, backward and update.
    pub training: Phase,
}

/// The measurements.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// The device by its maker's name if the machine reports it, else as in an experiment.
    pub device: String,
    /// Bytes that were there before the model was loaded, of the kind of [`Phase::memory`].
    pub memory_before: u64,
    /// Seconds until the model was on the device.
    pub load_seconds: f64,
    /// Whether the folder has no weights, so that they were drawn.
    pub is_drawn: bool,
    /// The first of several steps, which also compiles kernels and tries their variants.
    pub warm_up: Option<Step>,
    /// The steps that count: all but the first, or the only one.
    pub steps: Vec<Step>,
    /// Medians of the seconds of `steps`, and their largest memory.
    pub median: Step,
    /// The message of a device that ran out of memory. The work then continued in smaller batches, so
    /// that the measurements are not of what was planned.
    pub out_of_memory: Option<String>,
    /// Whether loss and gradients of all steps were finite. If not, the adapter was left unchanged and
    /// the training's seconds do not include the optimizer's.
    pub is_finite: bool,
}

/// Called with the current activity; an error stops the probe.
pub type OnActivity<'p> = dyn FnMut(&str) -> Result<()> + Send + 'p;

/// Samples and trains `steps` times. `progress` receives the current activity; an error from it stops
/// the probe. If the model's folder has a configuration and no weights, they are drawn.
///
/// Memory is returned to the device before each phase, so that each is measured by itself. A
/// phase's seconds therefore include the reservation of its memory, which a run does once.
///
/// # Errors
/// Settings that this program cannot use, a model that cannot be loaded, a machine that does not
/// report its memory, or an error of `progress`.
pub fn probe(
    experiment: &Experiment,
    steps: NonZeroUsize,
    progress: &mut OnActivity,
) -> Result<Measured> {
    // One device's part of a step, on the first of those that share it.
    let devices = setup::devices(experiment)?;
    let compute = devices.first().context("a device is required")?.clone();
    let meter = Meter::new(&compute)?;
    progress("loading the model")?;
    let start = Instant::now();
    let is_drawn = !has_weights(experiment)?;
    let shapes = Shapes {
        has_cuda: !compute.is_cpu,
        ..Shapes::read(experiment)
    };
    if let Some(inputs) = Inputs::of(experiment, &shapes) {
        compute.cut_memory_into(page_bytes(&inputs));
    }
    let model = load(experiment, is_drawn, &compute, progress)?;
    compute.device.sync()?;
    let load_seconds = start.elapsed().as_secs_f64();
    let mut learner = Learner::new(experiment, vec![&model])?;
    // The reference pass keeps nothing and takes less than the step does.
    learner.loss.beta = 0.0;
    let worst = WorstCase::new(experiment, model.config.vocab_size);

    let mut taken = Vec::with_capacity(steps.get());
    let (mut is_finite, mut out_of_memory) = (true, None);
    for index in 0..steps.get() {
        let mut on_activity = |activity: &str| match steps.get() {
            1 => progress(activity),
            steps => progress(&format!("step {} of {steps}, {activity}", index + 1)),
        };
        let (rollout, sampled) =
            worst.sample(experiment, &learner, index, &meter, &mut on_activity)?;
        let (training, update) = worst.train(&mut learner, index, &meter, &mut on_activity)?;
        taken.push(Step { rollout, training });
        is_finite &= update.is_applied;
        let retries = sampled
            .out_of_memory
            .into_iter()
            .chain(update.out_of_memory);
        let mut messages = retries.map(|OomRetry { message, .. }| message);
        out_of_memory = out_of_memory.or_else(|| messages.next());
    }
    let warm_up = (taken.len() > 1).then(|| taken.remove(0));
    let phases = |phase: fn(&Step) -> Phase| -> Vec<Phase> { taken.iter().map(phase).collect() };
    let median = Step {
        rollout: Phase::median(&phases(|step| step.rollout)).context("no step was taken")?,
        training: Phase::median(&phases(|step| step.training)).context("no step was taken")?,
    };
    Ok(Measured {
        device: device_name(&compute),
        memory_before: meter.before,
        load_seconds,
        is_drawn,
        warm_up,
        steps: taken,
        median,
        out_of_memory,
        is_finite,
    })
}

fn has_weights(experiment: &Experiment) -> Result<bool> {
    let folder = &experiment.model.path;
    let mut entries = fs::read_dir(folder)
        .with_context(|| folder.display().to_string())?
        .flatten();
    Ok(entries.any(|entry| {
        entry
            .path()
            .extension()
            .is_some_and(|kind| kind == "safetensors")
    }))
}

fn load(
    experiment: &Experiment,
    is_drawn: bool,
    compute: &Compute,
    progress: &mut OnActivity,
) -> Result<Llama> {
    let folder = &experiment.model.path;
    let format = setup::weight_format(experiment);
    if is_drawn {
        let config = LlamaConfig::from_dir(folder)?;
        return Llama::noise(config, experiment.run.seed, compute, format);
    }
    Llama::load_as(
        folder,
        compute,
        &format.into(),
        &mut |message| match message {
            LoadProgress::Quantizing { done, total } => {
                progress(&format!("quantising: {done} of {total} layers"))
            }
            LoadProgress::Warning(warning) => progress(&warning),
        },
    )
}

/// The name of a device as its maker gives it.
fn device_name(compute: &Compute) -> String {
    let name = match compute.name.strip_prefix("cuda:") {
        Some(index) => card_name(index),
        None => processor_name(),
    };
    match name {
        Some(name) => format!("{name} ({})", compute.name),
        None => compute.name.clone(),
    }
}

fn card_name(index: &str) -> Option<String> {
    // The library's name where no development files are.
    let nvml = Nvml::builder()
        .lib_path("libnvidia-ml.so.1".as_ref())
        .init()
        .ok()?;
    let card = nvml.device_by_index(index.parse().ok()?).ok()?;
    card.name().ok()
}

fn processor_name() -> Option<String> {
    let processors = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name"))?;
    let name = line.trim_start_matches([' ', '\t', ':']).trim();
    let cores = std::thread::available_parallelism().ok()?;
    Some(format!("{name}, {cores} threads"))
}

/// Prompts and completions of one step, all as long as they may be.
struct WorstCase {
    generation: Generation,
}

impl WorstCase {
    fn new(experiment: &Experiment, vocabulary: usize) -> Self {
        let batch = experiment.batch();
        let prompts = batch.prompts_per_step().checked_div(batch.d).unwrap_or(0);
        // Which tokens they are takes no memory; they only have to exist.
        let tokens = |length: usize, seed: usize| -> Vec<u32> {
            let id = |index: usize| (index * 31 + seed * 17) % vocabulary.max(1);
            (0..length).map(|index| id(index) as u32).collect()
        };
        let length = experiment.rollout.max_completion_length;
        let group = |prompt: usize| {
            let rows = prompt * batch.g..(prompt + 1) * batch.g;
            let completions = rows.map(|row| tokens(length, row)).collect();
            let mut group = Group::of_tokens(
                tokens(experiment.data.max_prompt_length, prompt),
                completions,
            );
            group.question.prompt.key = prompt as u64;
            group
        };
        let mut generation = Generation {
            groups: (0..prompts).map(group).collect(),
            groups_per_micro_batch: batch.prompts_per_micro_batch(),
            slices: 1,
        };
        // None of them zero: a group without a gradient would not go back.
        for (row, sample) in generation.samples_mut().enumerate() {
            sample.advantage = if row % 2 == 0 { 1.0 } else { -1.0 };
        }
        Self { generation }
    }

    fn sample(
        &self,
        experiment: &Experiment,
        learner: &Learner,
        step: usize,
        meter: &Meter,
        progress: &mut OnActivity,
    ) -> Result<(Phase, Rollout)> {
        let settings = RolloutSettings {
            sampling: setup::rollout_sampling(experiment),
            max_completion_length: experiment.rollout.max_completion_length,
            stop: BTreeSet::new(),
            num_generations: self.generation.group_size(),
            max_rows: MAX_ROLLOUT_ROWS,
            seed: experiment.run.seed,
            step: step as u64,
            purpose: "probe",
        };
        progress("sampling")?;
        let mut rollout = Rollout::default();
        let groups = self.generation.groups.iter();
        let prompts: Vec<Prompt> = groups.map(|group| group.question.prompt.clone()).collect();
        let phase = meter.measure(|| {
            let replicas = Replicas::new(vec![learner.model()], Some(&learner.adapter));
            rollout = generate_on(&replicas, &prompts, &settings, &mut |at| {
                progress(&format!("sampling: {} tokens", at.tokens))
            })?;
            let rows = rollout.groups.iter().flatten();
            Ok(rows.map(|row| row.tokens.len()).sum())
        })?;
        Ok((phase, rollout))
    }

    fn train(
        &self,
        learner: &mut Learner,
        step: usize,
        meter: &Meter,
        progress: &mut OnActivity,
    ) -> Result<(Phase, UpdateReport)> {
        progress("training")?;
        let mut done = 0;
        let mut report = UpdateReport::default();
        let phase = meter.measure(|| {
            let generation = &self.generation;
            report = learner.step(generation, 0, 0.0, [step as u64, 0], &mut |groups| {
                done += groups;
                let all = generation.groups.len();
                progress(&format!("training: {done} of {all} prompts"))
            })?;
            Ok(report.tokens)
        })?;
        Ok((phase, report))
    }
}

/// Measures time and the largest memory of a phase.
struct Meter<'a> {
    compute: &'a Compute,
    before: u64,
}

impl<'a> Meter<'a> {
    fn new(compute: &'a Compute) -> Result<Self> {
        let before = if compute.is_cpu {
            resident_memory().context("/proc/self/status has no resident memory")?
        } else {
            reserved(compute)?
        };
        Ok(Self { compute, before })
    }

    /// Runs a phase, which returns its tokens.
    fn measure(&self, work: impl FnOnce() -> Result<usize>) -> Result<Phase> {
        self.reset();
        self.compute.device.sync()?;
        let start = Instant::now();
        let tokens = work()?;
        self.compute.device.sync()?;
        Ok(Phase {
            seconds: start.elapsed().as_secs_f64(),
            memory: self.read()?,
            tokens,
        })
    }

    /// Forgets earlier peaks.
    fn reset(&self) {
        if self.compute.is_cpu {
            // proc(5): 5 resets the peak of the resident memory. If the system forbids it, the peak of
            // loading counts as well, which is seldom the largest.
            let _ = fs::write("/proc/self/clear_refs", "5");
        } else {
            self.compute.release();
        }
    }

    fn read(&self) -> Result<u64> {
        let now = if self.compute.is_cpu {
            peak_resident().context("/proc/self/status has no VmHWM")?
        } else {
            // Pools keep what they have once reserved until the next clean-up.
            reserved(self.compute)?
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
    let usage = usage.with_context(|| format!("{} does not report its memory", compute.name))?;
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
