//! The inputs that an experiment names, except weights: data, prompts, tokenizer, end tokens, `config.json`.

use anyhow::{Context, Result, bail};

use super::{Questions, prompt_builder, questions};
use moim_core::architecture::LlamaConfig;
use moim_core::dataset::{PromptBuilder, Record, load_records, require_answers};
use moim_core::experiment::{DataSection, Experiment, LongPrompts};
use moim_core::score::Labels;
use moim_core::text::{StopSet, Tokenizer};

/// Everything that can be read in a moment: no weights, no encoder.
pub struct Texts {
    /// The experiment, its date written down.
    pub experiment: Experiment,
    /// All training records, each with its answer.
    pub train_records: Vec<Record>,
    /// All records of the evaluation set.
    pub eval_records: Vec<Record>,
    /// The records that examples are drawn from; empty if there are none.
    pub few_shot: Vec<Record>,
    /// Right answers of the evaluation set.
    pub labels: Labels,
    /// Builds prompts from records.
    pub builder: PromptBuilder,
    /// Text to tokens and back.
    pub tokenizer: Tokenizer,
    /// Tokens that end a completion.
    pub stop: StopSet,
    /// The shape of the model.
    pub model: LlamaConfig,
    /// Training prompts.
    pub train: Questions,
    /// Evaluation prompts; none is left out.
    pub eval: Questions,
}

impl Texts {
    /// Reads and checks the data of an experiment and the text side of its model.
    ///
    /// # Errors
    /// The first thing that cannot be used, by key and file.
    pub fn load(experiment: &Experiment) -> Result<Self> {
        // The date is part of the prompts: written down, a run resumed another day keeps them.
        let mut experiment = experiment.clone();
        if experiment.data.date_string.is_none() {
            experiment.data.date_string = Some(jiff::Zoned::now().strftime("%d %b %Y").to_string());
        }
        let data = &experiment.data;
        let train_records = load_records(&data.train)?;
        require_answers(&data.train, &train_records)?;
        let eval_records = load_records(&data.eval)?;
        let labels = labels(data, &eval_records)?;

        let model_dir = &experiment.model.path;
        let tokenizer = Tokenizer::from_model_dir(model_dir)?;
        let builder = prompt_builder(model_dir, data, experiment.run.seed)?;
        let few_shot = match &data.few_shot {
            Some(path) if data.num_few_shot > 0 => load_records(path)?,
            _ => Vec::new(),
        };
        let train = questions(&train_records, &builder, &tokenizer, data).context("data.train")?;
        fill_a_generation(&experiment, train.kept.len())?;
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
        let stop =
            StopSet::from_model_dir(model_dir, &tokenizer, &experiment.rollout.stop_token_ids)?;
        let model = LlamaConfig::from_dir(model_dir)?;
        Ok(Self {
            experiment,
            train_records,
            eval_records,
            few_shot,
            labels,
            builder,
            tokenizer,
            stop,
            model,
            train,
            eval,
        })
    }
}

/// The right answers of the evaluation set, one for each of its records.
fn labels(data: &DataSection, eval_records: &[Record]) -> Result<Labels> {
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
    Ok(labels)
}

/// # Errors
/// The prompts are fewer than one generation takes, which is one optimizer step or several.
fn fill_a_generation(experiment: &Experiment, prompts: usize) -> Result<()> {
    let needed = experiment.batch().prompts_per_generation();
    if prompts < needed {
        bail!(
            "data.train has {prompts} prompt(s), one generation takes {needed}; lower \
             grpo.per_device_train_batch_size{} or grpo.{}",
            if experiment.model.num_devices > 1 {
                ", model.num_devices"
            } else {
                ""
            },
            if experiment.grpo.steps_per_generation.is_some() {
                "steps_per_generation"
            } else {
                "gradient_accumulation_steps"
            }
        );
    }
    Ok(())
}
