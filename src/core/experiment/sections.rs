//! The sections of the experiment file and their keys. Names and defaults follow TRL 1.16,
//! PEFT, transformers, bitsandbytes and bert-score wherever those have the key, except
//! `logging_steps` (1: every step is logged) and `save_strategy` (`epoch`: every epoch is ranked).

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::batch::BatchUnit;
use super::choices::{
    ComputeDtype, DeviceChoice, Dtype, ImportanceSamplingLevel, LongPrompts, LossType,
    LrSchedulerType, MultiObjectiveAggregation, QuantType, Reporter, RougeTokenizer, SaveStrategy,
    ScaleRewards, SftInit, TargetModule, TargetModules,
};
use super::schema::{self, Node, Problem, Setting, section};

section! {
    /// `[model]`: the base model and where it runs.
    pub struct ModelSection in "model" {
        /// A Hugging Face folder: config.json, tokenizer.json, safetensors. Required.
        pub path: PathBuf = PathBuf::new(),
        /// Where it runs.
        pub device: DeviceChoice = DeviceChoice::Auto,
        /// D, the number of devices that share a step.
        pub num_devices: usize = 1,
        /// The type of weights and activations.
        pub dtype: Dtype = Dtype::Auto,
    }
}

section! {
    /// `[quantization]`: 4-bit base weights, with bitsandbytes' names.
    pub struct QuantizationSection in "quantization" {
        /// Store the base model's linear layers in 4 bits.
        pub load_in_4bit: bool = false,
        /// The code book.
        pub bnb_4bit_quant_type: QuantType = QuantType::Nf4,
        /// Quantise the block scales too: 4.127 instead of 4.5 bits per parameter.
        pub bnb_4bit_use_double_quant: bool = false,
        /// What the weights are dequantised to.
        pub bnb_4bit_compute_dtype: ComputeDtype = ComputeDtype::Bfloat16,
    }
}

section! {
    /// `[lora]`: the adapter that is trained, with PEFT's names.
    pub struct LoraSection in "lora" {
        /// The rank.
        pub r: usize = 8,
        /// The adapter's output is scaled by `lora_alpha / r`.
        pub lora_alpha: f64 = 8.0,
        /// The probability of dropping an input of the adapter while training.
        pub lora_dropout: f64 = 0.0,
        /// The linear layers that get an adapter.
        pub target_modules: TargetModules = TargetModules::new(&[
            TargetModule::QProj, TargetModule::KProj, TargetModule::VProj, TargetModule::OProj,
        ]),
        /// Scale by `lora_alpha / sqrt(r)`; not supported.
        pub use_rslora: bool = false,
        /// A PEFT folder to start from, with the same r, lora_alpha and target_modules; it is then the
        /// reference policy too. Without it, a fresh adapter.
        pub init_adapter: Option<PathBuf> = None,
    }
}

section! {
    /// `[data]`: records, instructions, examples and the prompt.
    pub struct DataSection in "data" {
        /// The training records, a JSON array or JSONL. Required.
        pub train: PathBuf = PathBuf::new(),
        /// The records that every checkpoint answers. Required.
        pub eval: PathBuf = PathBuf::new(),
        /// Where the right answers of `eval` are; without it, in `eval` itself.
        pub labels: Option<PathBuf> = None,
        /// A JSON file with `prompt`, `selection_prompt`, `correction_prompt`.
        pub instruct: Option<PathBuf> = None,
        /// The records that few-shot examples are drawn from.
        pub few_shot: Option<PathBuf> = None,
        /// Examples put before each question.
        pub num_few_shot: usize = 0,
        /// The longest prompt, in tokens.
        pub max_prompt_length: usize = 1024,
        /// What happens to a longer one.
        pub long_prompts: LongPrompts = LongPrompts::Error,
        /// Draw a new order of the records for each epoch.
        pub shuffle_dataset: bool = true,
        /// The system message.
        pub system_prompt: Option<String> = None,
        /// A Jinja file used instead of the model's own chat template.
        pub chat_template: Option<PathBuf> = None,
        /// Variables passed to the chat template.
        pub chat_template_kwargs: serde_json::Map<String, serde_json::Value> = serde_json::Map::new(),
        /// The date that the chat template sees, e.g. "22 Nov 2026"; without it, today.
        pub date_string: Option<String> = None,
        /// Written before each question.
        pub question_prefix: String = "[질문]: ".to_owned(),
    }
}

/// Variables of a chat template that cannot be in `data.chat_template_kwargs`, and what to do instead.
pub(super) const TEMPLATE_VARIABLES: [(&str, &str); 9] = [
    (
        "messages",
        "messages are built from the questions and data.system_prompt",
    ),
    ("tools", "prompts here have no tools"),
    ("documents", "prompts here have no documents"),
    (
        "add_generation_prompt",
        "a prompt always ends where the answer begins",
    ),
    ("continue_final_message", "prompts here end with a question"),
    ("chat_template", "write data.chat_template"),
    (
        "date_string",
        "write data.date_string, which strftime_now follows too",
    ),
    ("strftime_now", "write data.date_string to pin the date"),
    ("raise_exception", "it is a function of the template"),
];

impl DataSection {
    /// The file with the right answers: `labels`, else `eval`.
    pub fn labels_path(&self) -> &Path {
        self.labels.as_deref().unwrap_or(&self.eval)
    }
}

section! {
    /// `[grpo]`: the batch, the schedule, the optimizer and the loss, with TRL's names.
    pub struct GrpoSection in "grpo" {
        /// G, the completions of one prompt that are compared with each other.
        pub num_generations: usize = 8,
        /// B, counted in `batch_unit`.
        pub per_device_train_batch_size: usize = 8,
        /// A, the micro-batches of one optimizer step.
        pub gradient_accumulation_steps: usize = 1,
        /// What B counts: completions (TRL since 0.15) or prompts (TRL 0.14).
        pub batch_unit: BatchUnit = BatchUnit::Completions,
        /// Passes over the training records.
        pub num_train_epochs: usize = 3,
        /// Optimizer steps in all; -1 leaves the length to `num_train_epochs`.
        pub max_steps: i64 = -1,
        /// The highest learning rate of the schedule.
        pub learning_rate: f64 = 1e-6,
        /// The shape of the schedule.
        pub lr_scheduler_type: LrSchedulerType = LrSchedulerType::Linear,
        /// Optimizer steps of warm-up.
        pub warmup_steps: usize = 0,
        /// Warm-up as a fraction of all steps, used if `warmup_steps` is 0.
        pub warmup_ratio: f64 = 0.0,
        /// AdamW's decay of the first moment.
        pub adam_beta1: f64 = 0.9,
        /// AdamW's decay of the second moment.
        pub adam_beta2: f64 = 0.999,
        /// AdamW's epsilon.
        pub adam_epsilon: f64 = 1e-8,
        /// AdamW's decoupled weight decay.
        pub weight_decay: f64 = 0.0,
        /// Gradients are scaled down to this norm; 0 leaves them unchanged.
        pub max_grad_norm: f64 = 1.0,
        /// The weight of the KL divergence to the reference policy.
        pub beta: f64 = 0.0,
        /// Multiply the KL estimate by the probability ratio.
        pub use_bias_correction_kl: bool = true,
        /// The ratio is clipped from below at 1 - epsilon.
        pub epsilon: f64 = 0.2,
        /// The ratio is clipped from above at 1 + epsilon_high (without it, at 1 + epsilon); with
        /// loss_type = "cispo", at epsilon_high itself.
        pub epsilon_high: Option<f64> = None,
        /// An upper bound of the ratio if the advantage is negative (two-sided clipping).
        pub delta: Option<f64> = None,
        /// The term of a token, and how the terms are reduced to one number.
        pub loss_type: LossType = LossType::Dapo,
        /// One ratio per token or one per sequence.
        pub importance_sampling_level: ImportanceSamplingLevel = ImportanceSamplingLevel::Token,
        /// μ, the optimizer steps taken on each batch of completions.
        pub num_iterations: usize = 1,
        /// S, the micro-batches of one generation, a multiple of A; above A, completions for several
        /// optimizer steps are sampled together. Without it, A.
        pub steps_per_generation: Option<usize> = None,
        /// What centred rewards are divided by.
        pub scale_rewards: ScaleRewards = ScaleRewards::Group,
        /// Where the rewards are normalised: their sum, or each before it is summed (GDPO).
        pub multi_objective_aggregation: MultiObjectiveAggregation = MultiObjectiveAggregation::SumThenNormalize,
        /// Leave completions that did not end out of the loss.
        pub mask_truncated_completions: bool = false,
        /// The fraction of the tokens, those with the highest entropy, that the policy learns from; 1
        /// is all.
        pub top_entropy_quantile: f64 = 1.0,
        /// Completions worse than their group are masked once the policy has moved away from them by
        /// more than this, in nats per token.
        pub off_policy_mask_threshold: Option<f64> = None,
        /// Steepness of the gate of loss_type = "sapo" if the advantage is positive.
        pub sapo_temperature_pos: f64 = 1.0,
        /// The same if it is not.
        pub sapo_temperature_neg: f64 = 1.05,
        /// The power in the weight of loss_type = "vespo" if the advantage is not negative.
        pub vespo_k_pos: f64 = 2.0,
        /// The decay in that weight.
        pub vespo_lambda_pos: f64 = 3.0,
        /// The power if the advantage is negative.
        pub vespo_k_neg: f64 = 3.0,
        /// The decay if it is negative.
        pub vespo_lambda_neg: f64 = 2.0,
    }
}

section! {
    /// `[rollout]`: how completions are sampled in training.
    pub struct RolloutSection in "rollout" {
        /// The longest completion, in tokens.
        pub max_completion_length: usize = 512,
        /// Logits are divided by this number; above 0.
        pub temperature: f64 = 1.0,
        /// Keep the k most likely tokens; 0 keeps all.
        pub top_k: usize = 0,
        /// Keep the most likely tokens, up to this total probability.
        pub top_p: f64 = 1.0,
        /// Keep tokens with at least this fraction of the most likely token's probability.
        pub min_p: Option<f64> = None,
        /// Above 1, tokens that have occurred become less likely.
        pub repetition_penalty: f64 = 1.0,
        /// Tokens that end a completion, added to the model's own.
        pub stop_token_ids: Vec<u32> = Vec::new(),
    }
}

section! {
    /// `[reward]`: what a completion is worth.
    pub struct RewardSection in "reward" {
        /// The reward as a formula over the names of metrics and commands.
        pub formula: String = "(bertscore + exact_match + (format + 3*rouge1)/2)/3".to_owned(),
        /// A completion has the right form if it begins with this regular expression.
        pub format_pattern: String = r#"^"[^"]+"[이가] 옳다[.]?"#.to_owned(),
        /// The units that ROUGE-1 counts.
        pub rouge_tokenizer: RougeTokenizer = RougeTokenizer::Eojeol,
        /// A compiled mecab-ko dictionary directory, for rouge_tokenizer = "mecab".
        pub mecab_dict: Option<PathBuf> = None,
        /// The endings that separate the answer from the reason.
        pub answer_endings: Vec<String> = vec!["가 옳다".to_owned(), "이 옳다".to_owned()],
        /// The last tokens before rollout.max_completion_length, over which the reward `overlong` falls
        /// from 0 to -1 (DAPO); 0 turns that reward off.
        pub soft_punish_cache: usize = 0,
        /// Rewards computed by programs that speak JSON lines.
        pub commands: Vec<RewardCommand> = Vec::new(),
    }
}

/// The names that a formula can use without a reward command.
pub const BUILT_IN_REWARDS: [&str; 5] =
    ["format", "exact_match", "rouge1", "bertscore", "overlong"];

/// One entry of `[[reward.commands]]`: a program that scores completions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardCommand {
    /// The name in the formula and in the metrics.
    pub name: String,
    /// The program and its arguments; no shell is involved.
    pub command: Vec<String>,
    /// The longest time for the replies to one batch, in seconds. Default 60.
    #[serde(default = "default_timeout_seconds")]
    pub timeout_seconds: f64,
}

fn default_timeout_seconds() -> f64 {
    60.0
}

impl Setting for RewardCommand {
    fn expected() -> String {
        "a table { name = \"…\", command = [\"program\", \"argument\"], timeout_seconds = 60.0 }"
            .to_owned()
    }

    fn read(node: &Node<'_>) -> Result<Self, Vec<Problem>> {
        let mut command = Self {
            name: String::new(),
            command: Vec::new(),
            timeout_seconds: default_timeout_seconds(),
        };
        schema::read_table(
            node,
            &["name", "command", "timeout_seconds"],
            &["name", "command"],
            |key, value| match key {
                "name" => String::read(value).map(|name| command.name = name),
                "command" => Vec::read(value).map(|words| command.command = words),
                _ => f64::read(value).map(|seconds| command.timeout_seconds = seconds),
            },
        )?;
        Ok(command)
    }

    fn write(&self) -> Option<toml::Value> {
        let mut table = toml::Table::new();
        table.insert("name".to_owned(), self.name.write()?);
        table.insert("command".to_owned(), self.command.write()?);
        table.insert("timeout_seconds".to_owned(), self.timeout_seconds.write()?);
        Some(toml::Value::Table(table))
    }
}

section! {
    /// `[bertscore]`: the encoder that compares reasons, with bert-score's names.
    pub struct BertScoreSection in "bertscore" {
        /// A Hugging Face folder of a BERT, RoBERTa or XLM-R encoder.
        pub model: Option<PathBuf> = None,
        /// The layer whose output is compared; without it, bert-score's choice by model name.
        pub num_layers: Option<usize> = None,
        /// Weight tokens by inverse document frequency over the references.
        pub idf: bool = false,
        /// Rescale by a baseline, so that unrelated texts score near 0.
        pub rescale_with_baseline: bool = false,
        /// The baseline's TSV file.
        pub baseline_path: Option<PathBuf> = None,
        /// Texts encoded together.
        pub batch_size: usize = 64,
    }
}

section! {
    /// `[inference]`: how each checkpoint answers the evaluation set.
    pub struct InferenceSection in "inference" {
        /// The longest answer, in tokens.
        pub max_completion_length: usize = 512,
        /// 0 is greedy, whatever the model's generation_config.json says.
        pub temperature: f64 = 0.0,
        /// Keep the k most likely tokens; 0 keeps all.
        pub top_k: usize = 0,
        /// Keep the most likely tokens, up to this total probability.
        pub top_p: f64 = 1.0,
        /// Keep tokens with at least this fraction of the most likely token's probability.
        pub min_p: Option<f64> = None,
        /// Above 1, tokens that have occurred become less likely.
        pub repetition_penalty: f64 = 1.0,
        /// Prompts answered together.
        pub batch_size: usize = 16,
        /// Also infer and score the untouched model, as epoch 0.
        pub before_training: bool = true,
    }
}

section! {
    /// `[sft]`: the supervised warm-up of `moim sft`.
    pub struct SftSection in "sft" {
        /// Train every weight; otherwise the adapter of `[lora]`.
        pub full_finetuning: bool = false,
        /// Where the weights come from.
        pub init: SftInit = SftInit::Pretrained,
        /// The records to learn; without it, data.train.
        pub train: Option<PathBuf> = None,
        /// Where the trained model is written; `moim sft` requires it.
        pub output_dir: Option<PathBuf> = None,
        /// Passes over the records.
        pub num_train_epochs: usize = 3,
        /// Optimizer steps in all; -1 leaves the length to `num_train_epochs`.
        pub max_steps: i64 = -1,
        /// Records in a micro-batch.
        pub per_device_train_batch_size: usize = 8,
        /// Micro-batches of one optimizer step.
        pub gradient_accumulation_steps: usize = 1,
        /// The highest learning rate of the schedule.
        pub learning_rate: f64 = 2e-5,
        /// The shape of the schedule.
        pub lr_scheduler_type: LrSchedulerType = LrSchedulerType::Linear,
        /// Warm-up as a fraction of all steps.
        pub warmup_ratio: f64 = 0.0,
        /// AdamW's decoupled weight decay.
        pub weight_decay: f64 = 0.0,
        /// Gradients are scaled down to this norm; 0 leaves them unchanged.
        pub max_grad_norm: f64 = 1.0,
        /// The longest record, prompt and answer together, in tokens.
        pub max_length: usize = 1024,
        /// Learn the answer only, not the prompt.
        pub completion_only_loss: bool = true,
    }
}

section! {
    /// `[run]`: where results are written and what is logged.
    pub struct RunSection in "run" {
        /// The folder of all runs: `output_dir/<experiment>/<run>`.
        pub output_dir: PathBuf = PathBuf::from("outputs"),
        /// The run's name; without it, a time stamp.
        pub name: Option<String> = None,
        /// Every random draw follows from this number.
        pub seed: u64 = 42,
        /// Optimizer steps between two lines of metrics.
        pub logging_steps: usize = 1,
        /// When a checkpoint is written, inferred and scored.
        pub save_strategy: SaveStrategy = SaveStrategy::Epoch,
        /// Optimizer steps between checkpoints, for save_strategy = "steps".
        pub save_steps: usize = 500,
        /// Keep only the latest checkpoints, this many; without it, all.
        pub save_total_limit: Option<usize> = None,
        /// Further formats that metrics are written in.
        pub report_to: Vec<Reporter> = Vec::new(),
        /// Write sampled completions to completions.jsonl.
        pub log_completions: bool = true,
        /// Minutes without progress in a phase after which an alarm is raised; 0 raises none.
        pub watchdog_minutes: f64 = 10.0,
    }
}

section! {
    /// `[memory]`: how much memory the run can use.
    pub struct MemorySection in "memory" {
        /// The most device memory, in GiB; without it, what is free.
        pub budget_gib: Option<f64> = None,
        /// Keep the inputs of layers in the host's memory until the backward pass: slower, less device memory.
        pub offload_layer_inputs: bool = false,
    }
}
