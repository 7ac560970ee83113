//! Loads the parts that an experiment names: the policy with its text side, the
//! questions with their prompts, and the metrics.

mod texts;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::tensor::DType;

use crate::device::Compute;
use crate::encoder::{BertScoreOptions, BertScorer};
use crate::model::{Adapter, Llama, LoadProgress, LoraConfig, load_adapter};
use crate::rollout::{Prompt, SamplingParameters};
use moim_core::architecture::{Projection, WeightFormat};
use moim_core::dataset::{
    Instructions, PromptBuilder, PromptSettings, QuestionType, Record, load_records,
};
use moim_core::experiment::{
    BertScoreSection, ComputeDtype, DataSection, Dtype, Experiment, LongPrompts,
    MultiObjectiveAggregation,
};
use moim_core::metric::{MetricSettings, Metrics, ReasonScorer};
use moim_core::reward::RewardSet;
use moim_core::score::Labels;
use moim_core::text::answer::split_label;
use moim_core::text::{ChatTemplate, RenderOptions, StopSet, Tokenizer};

pub use texts::Texts;

/// A language model with the text side of its folder.
pub struct Policy {
    /// The frozen weights.
    pub model: Llama,
    /// Copies of it on the other devices that share a step.
    pub replicas: Vec<Llama>,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// Tokens that end a completion.
    pub stop: StopSet,
}

impl Policy {
    /// Loads the end tokens and the weights of the folder that `tokenizer` is of, the weights onto
    /// each of `devices`; `extra_stop` adds end tokens to the model's own.
    ///
    /// # Errors
    /// Any part is missing or unsupported, by file and name.
    pub fn load(
        directory: &Path,
        tokenizer: Tokenizer,
        devices: &[Compute],
        format: WeightFormat,
        extra_stop: &[u32],
        progress: &mut dyn FnMut(LoadProgress) -> Result<()>,
    ) -> Result<Self> {
        let stop = StopSet::from_model_dir(directory, &tokenizer, extra_stop)?;
        let (first, others) = devices.split_first().context("a device is required")?;
        let model = Llama::load_as(directory, first, &format.into(), progress)?;
        let replicas = others
            .iter()
            .map(|device| model.to_device(device))
            .collect();
        if tokenizer.vocab_size() > model.config.vocab_size {
            bail!(
                "{}: tokenizer.json knows {} tokens, config.json has vocab_size = {}; \
                 the tokenizer belongs to another model",
                directory.display(),
                tokenizer.vocab_size(),
                model.config.vocab_size
            );
        }
        Ok(Self {
            model,
            replicas,
            tokenizer,
            stop,
        })
    }

    /// The model on every device.
    pub fn models(&self) -> Vec<&Llama> {
        std::iter::once(&self.model).chain(&self.replicas).collect()
    }

    /// The end tokens as a set.
    pub fn stop_ids(&self) -> BTreeSet<u32> {
        self.stop.ids().into_iter().collect()
    }
}

/// Builds prompts from the records of an experiment, for the model in `model_dir`.
///
/// # Errors
/// Instructions, examples or a chat template that cannot be used, by file.
pub fn prompt_builder(model_dir: &Path, data: &DataSection, seed: u64) -> Result<PromptBuilder> {
    let few_shot = match &data.few_shot {
        Some(path) if data.num_few_shot > 0 => load_records(path)?,
        _ => Vec::new(),
    };
    PromptBuilder::new(PromptSettings {
        instructions: data
            .instruct
            .as_deref()
            .map(Instructions::load)
            .transpose()?,
        system_prompt: data.system_prompt.clone(),
        few_shot,
        num_few_shot: data.num_few_shot,
        question_prefix: data.question_prefix.clone(),
        seed,
        template: ChatTemplate::load(model_dir, data.chat_template.as_deref())?,
        render_options: RenderOptions {
            add_generation_prompt: true,
            kwargs: data.chat_template_kwargs.clone(),
            date_string: data.date_string.clone(),
        },
    })
}

/// The devices that share the steps of an experiment.
///
/// # Errors
/// A device that the machine does not have, or a type that it does not compute in.
pub fn devices(experiment: &Experiment) -> Result<Vec<Compute>> {
    let model = &experiment.model;
    let mut compute = Compute::new(model.device, model.dtype)?;
    if experiment.quantization.load_in_4bit && !compute.is_cpu && model.dtype == Dtype::Auto {
        compute.dtype = match experiment.quantization.bnb_4bit_compute_dtype {
            ComputeDtype::Float32 => DType::F32,
            ComputeDtype::Bfloat16 => DType::BF16,
        };
    }
    compute.and_following(model.num_devices)
}

/// The format of the base model's weights, from `[quantization]`.
pub fn weight_format(experiment: &Experiment) -> WeightFormat {
    let quantization = &experiment.quantization;
    if quantization.load_in_4bit {
        WeightFormat::Nf4 {
            double_quant: quantization.bnb_4bit_use_double_quant,
        }
    } else {
        WeightFormat::Dense
    }
}

/// The adapter that `[lora]` describes.
///
/// # Errors
/// Target modules that do not exist.
pub fn lora_config(experiment: &Experiment) -> Result<LoraConfig> {
    let lora = &experiment.lora;
    Ok(LoraConfig {
        r: lora.r,
        lora_alpha: lora.lora_alpha,
        lora_dropout: lora.lora_dropout,
        target_modules: Projection::parse_targets(&lora.target_modules.names())?,
    })
}

/// The adapter that training starts from: a new one, or that of `lora.init_adapter`.
///
/// # Errors
/// The folder cannot be used, or its adapter is not the one that `[lora]` describes.
pub fn initial_adapter(experiment: &Experiment, model: &Llama) -> Result<Adapter> {
    let config = lora_config(experiment)?;
    let Some(folder) = &experiment.lora.init_adapter else {
        return Ok(Adapter::new(
            config,
            &model.config,
            experiment.run.seed,
            &model.compute,
        ));
    };
    let mut adapter = load_adapter(folder, &model.config, &model.compute)?;
    let modules = |config: &LoraConfig| -> BTreeSet<&'static str> {
        config
            .target_modules
            .iter()
            .map(|module| module.name())
            .collect()
    };
    let found = &adapter.config;
    if (found.r, found.lora_alpha) != (config.r, config.lora_alpha)
        || modules(found) != modules(&config)
    {
        bail!(
            "lora.init_adapter = {}: its adapter has r = {}, lora_alpha = {}, target_modules = {:?}, and [lora] says \
             r = {}, lora_alpha = {}, target_modules = {:?}; write the adapter's own there",
            folder.display(),
            found.r,
            found.lora_alpha,
            modules(found),
            config.r,
            config.lora_alpha,
            modules(&config)
        );
    }
    adapter.config = config;
    Ok(adapter)
}

/// The sampling parameters of `[rollout]`.
pub fn rollout_sampling(experiment: &Experiment) -> SamplingParameters {
    let rollout = &experiment.rollout;
    SamplingParameters {
        temperature: rollout.temperature,
        top_k: rollout.top_k,
        top_p: rollout.top_p,
        min_p: rollout.min_p,
        repetition_penalty: rollout.repetition_penalty,
    }
}

/// The sampling parameters of `[inference]`.
pub fn inference_sampling(experiment: &Experiment) -> SamplingParameters {
    let inference = &experiment.inference;
    SamplingParameters {
        temperature: inference.temperature,
        top_k: inference.top_k,
        top_p: inference.top_p,
        min_p: inference.min_p,
        repetition_penalty: inference.repetition_penalty,
    }
}

/// A record with its prompt.
#[derive(Clone, Debug)]
pub struct Question {
    /// The record.
    pub record: Record,
    /// Its prompt as text.
    pub text: String,
    /// Its prompt as tokens.
    pub prompt: Prompt,
}

impl Question {
    /// A question of which only the tokens of its prompt matter, for measurements and tests.
    pub fn of_tokens(tokens: Vec<u32>) -> Self {
        Self {
            record: Record {
                id: String::new(),
                question_type: QuestionType::Other(String::new()),
                question: String::new(),
                answer: None,
                raw: serde_json::Value::Null,
            },
            text: String::new(),
            prompt: Prompt { tokens, key: 0 },
        }
    }
}

/// Records that have a prompt within the limit, and the others.
#[derive(Clone, Debug, Default)]
pub struct Questions {
    /// In the order of the records.
    pub kept: Vec<Question>,
    /// Ids and lengths of prompts that were left out.
    pub dropped: Vec<(String, usize)>,
    /// Ids of prompts that got fewer examples than configured.
    pub shortened: Vec<String>,
}

/// Renders and tokenises the prompt of every record, and treats those longer
/// than `max_prompt_length` as `long_prompts` says.
///
/// # Errors
/// A prompt cannot be rendered, or is too long if that is an error (all of them are counted).
pub fn questions(
    records: &[Record],
    builder: &PromptBuilder,
    tokenizer: &Tokenizer,
    data: &DataSection,
) -> Result<Questions> {
    let mut questions = Questions::default();
    let mut too_long = Vec::new();
    for record in records {
        let encode = |examples: usize| -> Result<(String, Vec<u32>)> {
            let text = builder
                .render_with_examples(record, examples)
                .with_context(|| format!("the prompt of item {:?}", record.id))?;
            let tokens = tokenizer.encode(&text, false)?;
            Ok((text, tokens))
        };
        let mut examples = builder.num_few_shot();
        let (mut text, mut tokens) = encode(examples)?;
        if tokens.len() > data.max_prompt_length && data.long_prompts == LongPrompts::FewerExamples
        {
            while tokens.len() > data.max_prompt_length && examples > 0 {
                examples -= 1;
                (text, tokens) = encode(examples)?;
            }
            questions.shortened.push(record.id.clone());
        }
        if tokens.is_empty() {
            bail!(
                "the prompt of item {:?} is empty after tokenisation",
                record.id
            );
        }
        if tokens.len() > data.max_prompt_length {
            match data.long_prompts {
                LongPrompts::Drop => questions.dropped.push((record.id.clone(), tokens.len())),
                LongPrompts::Error | LongPrompts::FewerExamples => {
                    too_long.push((record.id.clone(), tokens.len()))
                }
            }
            continue;
        }
        questions.kept.push(Question {
            prompt: Prompt {
                tokens,
                key: prompt_key(&record.id),
            },
            record: record.clone(),
            text,
        });
    }
    if let Some(longest) = too_long.iter().map(|(_, length)| *length).max() {
        let ids: Vec<&str> = too_long.iter().take(5).map(|(id, _)| id.as_str()).collect();
        bail!(
            "{} prompt(s) are longer than data.max_prompt_length = {} tokens (the longest has {longest}; ids {}{}); \
             raise data.max_prompt_length, or set data.long_prompts to \"drop\" or \"fewer_examples\"",
            too_long.len(),
            data.max_prompt_length,
            ids.join(", "),
            if too_long.len() > ids.len() {
                ", …"
            } else {
                ""
            }
        );
    }
    Ok(questions)
}

/// The key of the draws for a prompt, from its id, so that they depend neither on its index nor on the batch.
fn prompt_key(id: &str) -> u64 {
    let hash = blake3::hash(id.as_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

/// The encoder of `[bertscore]`; `None` if none is configured. `labels`
/// are the references that inverse document frequencies are counted in.
///
/// # Errors
/// An encoder or baseline that cannot be used.
pub fn bert_scorer<'a>(
    section: &BertScoreSection,
    endings: &[String],
    labels: impl Iterator<Item = &'a str>,
    compute: &Compute,
) -> Result<Option<BertScorer>> {
    let Some(directory) = &section.model else {
        return Ok(None);
    };
    let options = BertScoreOptions {
        num_layers: section.num_layers,
        idf: section.idf,
        rescale_with_baseline: section.rescale_with_baseline,
        baseline_path: section.baseline_path.clone(),
        batch_size: section.batch_size,
        ..BertScoreOptions::default()
    };
    let mut scorer =
        BertScorer::load(directory, &options, &compute.device).context("bertscore.model")?;
    if section.idf {
        let reasons: Vec<String> = labels
            .map(|label| split_label(label, endings).reason)
            .collect();
        scorer.set_idf_references(&reasons)?;
    }
    Ok(Some(scorer))
}

/// The metrics that an experiment configures, with its encoder if it names one.
///
/// # Errors
/// A pattern, dictionary or encoder that cannot be used.
pub fn metrics(experiment: &Experiment, labels: &Labels, compute: &Compute) -> Result<Metrics> {
    let labels = labels.items().iter().map(|label| label.answer.as_str());
    let scorer = bert_scorer(
        &experiment.bertscore,
        &experiment.reward.answer_endings,
        labels,
        compute,
    )?;
    let scorer = scorer.map(|scorer| Box::new(scorer) as Box<dyn ReasonScorer>);
    Metrics::new(MetricSettings::from(&experiment.reward), scorer)
}

/// The rewards of an experiment, with the metrics that also score its evaluation set.
///
/// # Errors
/// Those of [`metrics`] and of [`RewardSet::new`].
pub fn rewards(experiment: &Experiment, labels: &Labels, compute: &Compute) -> Result<RewardSet> {
    let rewards = RewardSet::new(
        &experiment.reward,
        experiment.rollout.max_completion_length,
        metrics(experiment, labels, compute)?,
    )?;
    if experiment.grpo.multi_objective_aggregation == MultiObjectiveAggregation::NormalizeThenSum
        && rewards.weights().is_none()
    {
        bail!(
            "grpo.multi_objective_aggregation = \"normalize_then_sum\" needs the weight of each reward, and \
             reward.formula = \"{}\" is no weighted sum; write one, or \"sum_then_normalize\"",
            experiment.reward.formula
        );
    }
    Ok(rewards)
}
