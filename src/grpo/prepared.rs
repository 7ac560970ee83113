//! What an experiment names, loaded and checked before a run has a directory.

use std::sync::Arc;

use anyhow::{Context, Result, bail};

use crate::dataset::{load_records, question_type_warnings, require_answers};
use crate::device::Compute;
use crate::experiment::{DataSection, Experiment, LongPrompts, MultiObjectiveAggregation};
use crate::memory::{self, Bytes, Inputs, Shapes, Sizes, Verdict};
use crate::model::LoadProgress;
use crate::reward::RewardSet;
use crate::run::{Card, file_fingerprint, model_fingerprint};
use crate::score::Labels;
use crate::setup::{self, Policy, Questions, questions};
use crate::text::Tokenizer;

/// Everything an experiment names, loaded; nothing is written yet.
pub struct Prepared {
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
    /// How much goes through the model at a time, to keep to `memory.budget_gib`.
    pub sizes: Sizes,
    /// The same for people; `None` where nothing had to become smaller.
    pub sizes_in_words: Option<String>,
    /// The predicted peak of memory, in bytes; `None` where it cannot be predicted.
    pub(super) predicted_bytes: Option<u64>,
    /// Things a person should know that are no error.
    pub warnings: Vec<String>,
}

impl Prepared {
    /// Loads and checks everything an experiment names.
    ///
    /// # Errors
    /// The first thing that cannot be used, by key and file; files that are
    /// absent are listed together; what `progress` answers.
    pub fn load(
        experiment: &Experiment,
        progress: &mut dyn FnMut(LoadProgress) -> Result<()>,
    ) -> Result<Self> {
        let absent = experiment.check_files();
        if !absent.is_empty() {
            let lines: Vec<String> = absent.iter().map(ToString::to_string).collect();
            bail!("{}", lines.join("\n"));
        }
        let devices = setup::devices(experiment)?;
        let compute = &devices[0];
        let planned = Planned::of(experiment, compute)?;
        let mut warnings = Vec::new();
        // The date is part of the prompts: written down, a run resumed another day keeps them.
        let mut experiment = experiment.clone();
        if experiment.data.date_string.is_none() {
            experiment.data.date_string = Some(jiff::Zoned::now().strftime("%d %b %Y").to_string());
        }
        let experiment = &experiment;

        let data = &experiment.data;
        let train_records = load_records(&data.train)?;
        require_answers(&data.train, &train_records)?;
        let eval_records = load_records(&data.eval)?;
        warnings.extend(question_type_warnings(&data.train, &train_records));
        warnings.extend(question_type_warnings(&data.eval, &eval_records));
        let labels = Labels::load(data.labels_path())?;
        let unlabelled: Vec<&str> = eval_records
            .iter()
            .map(|record| record.id.as_str())
            .filter(|id| labels.position(id).is_none())
            .collect();
        if !unlabelled.is_empty() {
            bail!(
                "{}: {} item(s) of data.eval have no label there, the first is {:?}; name the file with the \
                 right answers as data.labels",
                data.labels_path().display(),
                unlabelled.len(),
                unlabelled[0]
            );
        }
        let rewards = RewardSet::new(
            &experiment.reward,
            experiment.rollout.max_completion_length,
            setup::metrics(experiment, &labels, compute)?,
        )?;
        if experiment.grpo.multi_objective_aggregation
            == MultiObjectiveAggregation::NormalizeThenSum
            && rewards.weights().is_none()
        {
            bail!(
                "grpo.multi_objective_aggregation = \"normalize_then_sum\" needs the weight of each reward, and \
                 reward.formula = \"{}\" is no weighted sum; write one, or \"sum_then_normalize\"",
                experiment.reward.formula
            );
        }
        // Prompts first: what is wrong with them shows before the weights are read.
        let model_dir = &experiment.model.path;
        let tokenizer = Tokenizer::from_model_dir(model_dir)?;
        let builder = setup::prompt_builder(model_dir, data, experiment.run.seed)?;
        let train = questions(&train_records, &builder, &tokenizer, data).context("data.train")?;
        let needed = experiment.batch().prompts_per_generation();
        if train.kept.len() < needed {
            bail!(
                "data.train has {} prompt(s), one generation takes {needed}; lower \
                 grpo.per_device_train_batch_size{} or grpo.gradient_accumulation_steps",
                train.kept.len(),
                match experiment.model.num_devices {
                    0 | 1 => "",
                    _ => ", model.num_devices",
                }
            );
        }
        // Every item of the evaluation set must be answered, so none is dropped.
        let eval_data = match data.long_prompts {
            LongPrompts::Drop => DataSection {
                long_prompts: LongPrompts::FewerExamples,
                ..data.clone()
            },
            _ => data.clone(),
        };
        let eval =
            questions(&eval_records, &builder, &tokenizer, &eval_data).context("data.eval")?;
        let policy = Policy::load(
            model_dir,
            tokenizer,
            &devices,
            setup::weight_format(experiment),
            &experiment.rollout.stop_token_ids,
            &mut |told| match told {
                LoadProgress::Warning(warning) => {
                    warnings.push(warning);
                    Ok(())
                }
                other => progress(other),
            },
        )?;
        warnings.extend(prompt_warnings(
            "data.train",
            &train,
            data.max_prompt_length,
        ));
        warnings.extend(prompt_warnings("data.eval", &eval, data.max_prompt_length));
        let longest = train
            .kept
            .iter()
            .map(|question| question.prompt.tokens.len())
            .max()
            .unwrap_or(0);
        let reach = longest + experiment.rollout.max_completion_length;
        if reach > policy.model.config.max_position_embeddings {
            warnings.push(format!(
                "the longest prompt ({longest} tokens) with rollout.max_completion_length = {} passes the model's \
                 max_position_embeddings = {}",
                experiment.rollout.max_completion_length, policy.model.config.max_position_embeddings
            ));
        }
        Ok(Self {
            experiment: experiment.clone(),
            policy: Arc::new(policy),
            train,
            eval,
            labels,
            rewards,
            sizes: planned.sizes,
            sizes_in_words: planned.sizes_in_words,
            predicted_bytes: planned.predicted_bytes,
            warnings,
        })
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

/// What the plan of memory comes to, held against `memory.budget_gib`, else what is free on the card.
struct Planned {
    sizes: Sizes,
    sizes_in_words: Option<String>,
    predicted_bytes: Option<u64>,
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
                sizes_in_words: None,
                predicted_bytes: None,
            });
        };
        let capacity = memory::capacity(experiment, None, free_on_card(compute));
        let plan = memory::plan(&inputs, capacity.map(|capacity| capacity.0));
        // Without a budget a plan that is a little too careful must not stop a run that would fit.
        if let (Some(_), Verdict::TooLarge { missing, phase }) =
            (experiment.memory.budget_gib, plan.verdict())
        {
            bail!(
                "memory.budget_gib = {}: {} lacks {} even in the smallest parts; raise it, or see moim plan for \
                 what would fit",
                experiment.memory.budget_gib.unwrap_or_default(),
                phase.name(),
                Bytes(missing)
            );
        }
        Ok(Self {
            sizes: plan.sizes,
            sizes_in_words: plan.sizes_in_words(&inputs),
            predicted_bytes: Some(plan.fullest().1),
        })
    }
}

/// Memory of a CUDA device that nobody uses, where its driver tells.
fn free_on_card(compute: &Compute) -> Option<Bytes> {
    let card = Card::open(&compute.name)?.ok()?.sample()?;
    Some(Bytes(card.total?.checked_sub(card.used?)?))
}

fn prompt_warnings(key: &str, questions: &Questions, limit: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    if !questions.dropped.is_empty() {
        warnings.push(format!(
            "{key}: {} prompt(s) longer than data.max_prompt_length = {limit} tokens are left out (data.long_prompts = \"drop\")",
            questions.dropped.len()
        ));
    }
    if !questions.shortened.is_empty() {
        warnings.push(format!(
            "{key}: {} prompt(s) have fewer examples than data.num_few_shot to stay within {limit} tokens",
            questions.shortened.len()
        ));
    }
    warnings
}
