//! The files that an experiment names, loaded and checked before a run has a directory.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};

use crate::device::Compute;
use crate::model::LoadProgress;
use crate::preflight::{self, Machine, Report, Severity};
use crate::setup::{self, Policy, Questions, Texts};
use moim_core::experiment::Experiment;
use moim_core::memory::{self, Bytes, Inputs, Shapes, Sizes, Verdict};
use moim_core::reward::RewardSet;
use moim_core::run::{Card, RunDir, file_fingerprint, model_fingerprint};
use moim_core::score::Labels;

/// Everything an experiment names, loaded; nothing is written yet.
pub struct Ready {
    /// The experiment.
    pub experiment: Experiment,
    /// The model with its text side.
    pub policy: Arc<Policy>,
    /// Training prompts.
    pub train: Questions,
    /// Evaluation prompts.
    pub eval: Questions,
    /// Right answers of the evaluation set.
    pub(super) labels: Labels,
    /// Rewards, with the metrics that also score the evaluation set.
    pub rewards: RewardSet,
    /// How much goes through the model at a time, to stay within `memory.budget_gib`.
    pub sizes: Sizes,
    /// The same as text; `None` if nothing had to become smaller.
    pub sizes_text: Option<String>,
    /// The predicted peak of memory, in bytes; `None` if it cannot be predicted.
    pub(super) predicted_bytes: Option<u64>,
    /// The report of the checks before the first step; `None` if they were not run.
    pub(super) preflight: Option<Report>,
    /// Problems that are no errors, for the user.
    pub warnings: Vec<String>,
}

/// Everything an experiment names except the weights of its model; nothing is written yet.
pub struct Loaded {
    /// Data, prompts and the text side of the model.
    pub texts: Texts,
    /// Rewards, with the metrics that also score the evaluation set.
    pub rewards: RewardSet,
    /// The report of the checks before the first step, for the run's log.
    pub preflight: Option<Report>,
    devices: Vec<Compute>,
}

impl Loaded {
    /// Reads and checks everything that an experiment names except the weights of its model.
    ///
    /// # Errors
    /// The first problem, by key and file; missing files are listed together.
    pub fn load(experiment: &Experiment) -> Result<Self> {
        let missing = experiment.check_files();
        if !missing.is_empty() {
            let lines: Vec<String> = missing.iter().map(ToString::to_string).collect();
            bail!("{}", lines.join("\n"));
        }
        let devices = setup::devices(experiment)?;
        let texts = Texts::load(experiment)?;
        let rewards = setup::rewards(&texts.experiment, &texts.labels, &devices[0])?;
        Ok(Self {
            texts,
            rewards,
            preflight: None,
            devices,
        })
    }

    /// Runs the checks before the first step, and keeps the report for the run's log. A reward program
    /// that failed is restarted, for a run that continues anyway.
    ///
    /// # Errors
    /// A program cannot be restarted.
    pub fn check(&mut self) -> Result<&Report> {
        let machine = Machine::of(&self.texts.experiment);
        let report = preflight::check(&self.texts, Ok(&mut self.rewards), &machine);
        let have_failed = report
            .of(Severity::Error)
            .any(|check| check.name == "rewards");
        if have_failed {
            self.rewards.restart(&self.texts.experiment.reward)?;
        }
        Ok(self.preflight.insert(report))
    }

    /// Checks what may have changed for `run`, which resumes from a save point. Nothing is kept: its log
    /// has the report from its start.
    pub fn check_again(&self, run: &RunDir) -> Report {
        // A run may have been moved: it writes to its current folder.
        let machine = Machine::of(&self.texts.experiment).with_output(run.path());
        preflight::check_again(&self.texts, &machine, size_of(run.path()))
    }

    /// Loads the weights.
    ///
    /// # Errors
    /// They cannot be used, the memory budget is too small for the smallest sizes, or an error of
    /// `progress`.
    pub fn with_weights(
        self,
        progress: &mut dyn FnMut(LoadProgress) -> Result<()>,
    ) -> Result<Ready> {
        let Self {
            texts,
            rewards,
            preflight,
            devices,
        } = self;
        let experiment = &texts.experiment;
        let planned = Planned::of(experiment, &devices[0])?;
        let mut warnings = Vec::new();
        for device in &devices {
            device.cut_memory_into(planned.page_bytes);
        }
        let policy = Policy::load(
            &experiment.model.path,
            texts.tokenizer,
            &devices,
            setup::weight_format(experiment),
            &experiment.rollout.stop_token_ids,
            &mut |message| match message {
                LoadProgress::Warning(warning) => {
                    warnings.push(warning);
                    Ok(())
                }
                other => progress(other),
            },
        )?;
        Ok(Ready {
            experiment: texts.experiment,
            policy: Arc::new(policy),
            train: texts.train,
            eval: texts.eval,
            labels: texts.labels,
            rewards,
            sizes: planned.sizes,
            sizes_text: planned.sizes_text,
            predicted_bytes: planned.predicted_bytes,
            preflight,
            warnings,
        })
    }
}

/// Bytes of all files in a folder; those that cannot be read do not count.
fn size_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

impl Ready {
    /// Loads everything an experiment names, without the checks before the first step.
    ///
    /// # Errors
    /// Those of [`Loaded::load`] and [`Loaded::with_weights`].
    pub fn load(
        experiment: &Experiment,
        progress: &mut dyn FnMut(LoadProgress) -> Result<()>,
    ) -> Result<Self> {
        Loaded::load(experiment)?.with_weights(progress)
    }

    /// BLAKE3 of every input, by its key in the experiment.
    ///
    /// # Errors
    /// An input cannot be read.
    pub(super) fn fingerprints(&self) -> Result<Vec<(String, String)>> {
        let data = &self.experiment.data;
        let mut all = vec![
            (
                "model".to_string(),
                model_fingerprint(&self.experiment.model.path)?,
            ),
            ("data.train".to_string(), file_fingerprint(&data.train)?),
            ("data.eval".to_string(), file_fingerprint(&data.eval)?),
        ];
        for (key, path) in [
            ("data.labels", &data.labels),
            ("data.instruct", &data.instruct),
            ("data.few_shot", &data.few_shot),
            ("data.chat_template", &data.chat_template),
            (
                "bertscore.baseline_path",
                &self.experiment.bertscore.baseline_path,
            ),
        ] {
            if let Some(path) = path {
                all.push((key.to_string(), file_fingerprint(path)?));
            }
        }
        if let Some(path) = &self.experiment.lora.init_adapter {
            all.push(("lora.init_adapter".to_string(), model_fingerprint(path)?));
        }
        if let Some(path) = &self.experiment.bertscore.model {
            all.push(("bertscore.model".to_string(), model_fingerprint(path)?));
        }
        Ok(all)
    }
}

/// The memory plan, checked against `memory.budget_gib`, else against the card's free memory.
struct Planned {
    sizes: Sizes,
    sizes_text: Option<String>,
    predicted_bytes: Option<u64>,
    page_bytes: u64,
}

impl Planned {
    /// # Errors
    /// The budget is too small for the smallest sizes.
    fn of(experiment: &Experiment, compute: &Compute) -> Result<Self> {
        let mut shapes = Shapes::read(experiment);
        shapes.has_cuda = !compute.is_cpu;
        let Some(inputs) = Inputs::of(experiment, &shapes) else {
            return Ok(Self {
                sizes: Sizes::unbounded(experiment.inference.batch_size),
                sizes_text: None,
                predicted_bytes: None,
                page_bytes: 0,
            });
        };
        let capacity = memory::capacity(experiment, None, free_on_card(compute));
        let plan = memory::plan(&inputs, capacity.map(|capacity| capacity.0));
        // Without a budget, a plan that is slightly too high must not stop a run that would fit.
        if let (Some(_), Verdict::TooLarge { missing, phase }) =
            (experiment.memory.budget_gib, plan.verdict())
        {
            bail!(
                "memory.budget_gib = {}: {} needs {} more even with the smallest slices; raise it, or see moim plan for \
                 what would fit",
                experiment.memory.budget_gib.unwrap_or_default(),
                phase.name(),
                Bytes(missing)
            );
        }
        Ok(Self {
            sizes: plan.sizes,
            sizes_text: plan.sizes_in_words(&inputs),
            predicted_bytes: Some(plan.fullest().1),
            page_bytes: memory::page_bytes(&Inputs {
                sizes: plan.sizes,
                ..inputs
            }),
        })
    }
}

/// The free memory of a CUDA device, if its driver reports it.
fn free_on_card(compute: &Compute) -> Option<Bytes> {
    let card = Card::open(&compute.name)?.ok()?.sample()?;
    Some(Bytes(card.total?.checked_sub(card.used?)?))
}
