//! The keys whose value is one of a few words.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use toml::de::DeValue;

use super::schema::{self, Node, Problem, Setting, choice};

choice! {
    /// `model.dtype`: the floating-point type of the base model's weights and activations.
    pub enum Dtype {
        /// float32 on the CPU, bfloat16 on CUDA.
        Auto = "auto",
        /// 32-bit floats.
        Float32 = "float32",
        /// bfloat16.
        Bfloat16 = "bfloat16",
    }
}

choice! {
    /// `quantization.bnb_4bit_quant_type`: the 4-bit code book.
    pub enum QuantType {
        /// NormalFloat4 of the QLoRA paper (arXiv 2305.14314).
        Nf4 = "nf4",
    }
}

choice! {
    /// `quantization.bnb_4bit_compute_dtype`: what 4-bit weights are dequantised to.
    pub enum ComputeDtype {
        /// bfloat16.
        Bfloat16 = "bfloat16",
        /// 32-bit floats.
        Float32 = "float32",
    }
}

choice! {
    /// `data.long_prompts`: what happens to a prompt of more than `max_prompt_length` tokens.
    pub enum LongPrompts {
        /// Refuse to start, naming the prompts.
        Error = "error",
        /// Leave the prompt out of training, and say how many were left out.
        Drop = "drop",
        /// Remove few-shot examples until the prompt fits.
        FewerExamples = "fewer_examples",
    }
}

choice! {
    /// `lr_scheduler_type`: the shape of the learning rate over the run, as in transformers.
    pub enum LrSchedulerType {
        /// Warm-up, then a straight line to zero.
        Linear = "linear",
        /// Warm-up, then half a cosine to zero.
        Cosine = "cosine",
        /// The same rate from the first step to the last.
        Constant = "constant",
        /// Warm-up, then the same rate.
        ConstantWithWarmup = "constant_with_warmup",
    }
}

choice! {
    /// `grpo.loss_type`: how the terms of the tokens are reduced to one number.
    pub enum LossType {
        /// Mean over sequences of the mean over tokens (arXiv 2402.03300).
        Grpo = "grpo",
        /// Sum over tokens divided by the tokens of the micro-batch.
        Bnpo = "bnpo",
        /// Sum over tokens divided by B × `max_completion_length` (arXiv 2503.20783).
        DrGrpo = "dr_grpo",
        /// Sum over tokens divided by the tokens of the whole step (arXiv 2503.14476).
        Dapo = "dapo",
        /// Mean over sequences of the sum over tokens, for sequence-level ratios (arXiv 2602.05261).
        Luspo = "luspo",
        /// Log-probabilities weighted by a ratio that is clipped and not differentiated, averaged as
        /// `dapo` (arXiv 2506.13585).
        Cispo = "cispo",
        /// A soft gate instead of the clip, averaged as `grpo` (arXiv 2511.20347).
        Sapo = "sapo",
        /// Log-probabilities weighted by a smooth function of the sequence's ratio, averaged as `dapo`
        /// (arXiv 2602.10693).
        Vespo = "vespo",
    }
}

choice! {
    /// `grpo.multi_objective_aggregation`: where rewards are normalised.
    pub enum MultiObjectiveAggregation {
        /// The total within its group.
        SumThenNormalize = "sum_then_normalize",
        /// Each reward within its group, then their weighted sum within the batch (GDPO, arXiv 2601.05242).
        NormalizeThenSum = "normalize_then_sum",
    }
}

choice! {
    /// `grpo.importance_sampling_level`: what the probability ratio is taken over.
    pub enum ImportanceSamplingLevel {
        /// One ratio per token.
        Token = "token",
        /// One ratio per sequence, the exponential of the mean log-ratio (GSPO, arXiv 2507.18071).
        Sequence = "sequence",
    }
}

choice! {
    /// `reward.rouge_tokenizer`: the units that ROUGE-1 counts.
    pub enum RougeTokenizer {
        /// Space-separated words of the cleaned text.
        Eojeol = "eojeol",
        /// Single syllables.
        Syllable = "syllable",
        /// Morphemes of mecab-ko; needs `reward.mecab_dict`.
        Mecab = "mecab",
    }
}

choice! {
    /// `sft.init`: where the weights come from.
    pub enum SftInit {
        /// The weights of `model.path`.
        Pretrained = "pretrained",
        /// Random weights with the shapes of the config.json of `model.path`.
        Random = "random",
    }
}

choice! {
    /// `run.save_strategy`: when a checkpoint is written, inferred and scored.
    pub enum SaveStrategy {
        /// After every epoch.
        Epoch = "epoch",
        /// Every `save_steps` optimizer steps.
        Steps = "steps",
        /// Only at the end of the run.
        No = "no",
    }
}

choice! {
    /// One entry of `run.report_to`.
    pub enum Reporter {
        /// TensorBoard event files.
        Tensorboard = "tensorboard",
        /// A W&B offline run.
        Wandb = "wandb",
        /// A CSV file.
        Csv = "csv",
    }
}

/// `grpo.scale_rewards`: what the group's centred rewards are divided by. TRL's older
/// booleans are read too: `true` is `"group"`, `false` is `"none"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScaleRewards {
    /// The standard deviation of the group.
    Group,
    /// The standard deviation of the whole batch.
    Batch,
    /// Nothing.
    None,
}

impl ScaleRewards {
    /// The word in the experiment file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Batch => "batch",
            Self::None => "none",
        }
    }
}

impl fmt::Display for ScaleRewards {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl Setting for ScaleRewards {
    fn expected() -> String {
        "one of \"group\", \"batch\", \"none\"".to_owned()
    }

    fn read(node: &Node<'_>) -> Result<Self, Vec<Problem>> {
        match node.get_ref() {
            DeValue::Boolean(true) => Ok(Self::Group),
            DeValue::Boolean(false) => Ok(Self::None),
            DeValue::String(word) => match &**word {
                "group" => Ok(Self::Group),
                "batch" => Ok(Self::Batch),
                "none" => Ok(Self::None),
                _ => Err(schema::problem(
                    "not one of the allowed values",
                    format!("write {}", Self::expected()),
                )),
            },
            _ => Err(schema::wrong_type::<Self>(node)),
        }
    }

    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::String(self.as_str().to_owned()))
    }
}

/// `model.device`: `auto`, `cpu`, `cuda`, `cuda:N` or `wgpu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum DeviceChoice {
    /// CUDA if this machine has it, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA; `Some(n)` names the card, `None` uses the first ones.
    Cuda(Option<usize>),
    /// The system's default graphics card through wgpu, if moim was built with that feature.
    Wgpu,
}

/// A device name that is none of `auto`, `cpu`, `cuda`, `cuda:N`, `wgpu`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown device {0:?}: write \"auto\", \"cpu\", \"cuda\", \"cuda:N\" or \"wgpu\"")]
pub struct UnknownDevice(pub String);

impl FromStr for DeviceChoice {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(None)),
            "wgpu" => Ok(Self::Wgpu),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(|index| Self::Cuda(Some(index)))
                .ok_or_else(|| UnknownDevice(text.to_owned())),
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = UnknownDevice;

    fn try_from(text: String) -> Result<Self, UnknownDevice> {
        text.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(device: DeviceChoice) -> Self {
        device.to_string()
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.pad("auto"),
            Self::Cpu => formatter.pad("cpu"),
            Self::Cuda(None) => formatter.pad("cuda"),
            Self::Wgpu => formatter.pad("wgpu"),
            Self::Cuda(Some(index)) => formatter.pad(&format!("cuda:{index}")),
        }
    }
}

impl Setting for DeviceChoice {
    fn expected() -> String {
        "\"auto\", \"cpu\", \"cuda\", \"cuda:N\" or \"wgpu\"".to_owned()
    }

    fn read(node: &Node<'_>) -> Result<Self, Vec<Problem>> {
        match node.get_ref() {
            DeValue::String(text) => text.parse().map_err(|_| {
                schema::problem("unknown device", format!("write {}", Self::expected()))
            }),
            _ => Err(schema::wrong_type::<Self>(node)),
        }
    }

    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::String(self.to_string()))
    }
}

choice! {
    /// A linear layer that can carry a LoRA adapter, by its name in the checkpoint.
    pub enum TargetModule {
        /// Attention queries.
        QProj = "q_proj",
        /// Attention keys.
        KProj = "k_proj",
        /// Attention values.
        VProj = "v_proj",
        /// Attention output.
        OProj = "o_proj",
        /// The gate of the feed-forward block.
        GateProj = "gate_proj",
        /// The widening layer of the feed-forward block.
        UpProj = "up_proj",
        /// The narrowing layer of the feed-forward block.
        DownProj = "down_proj",
    }
}

/// `lora.target_modules`: a list of layers, or `"all-linear"` for all seven. Kept in the order
/// of [`TargetModule::ALL`], without duplicates, so that two spellings of one choice are equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TargetModules(Vec<TargetModule>);

impl TargetModules {
    /// The given layers in the order of [`TargetModule::ALL`], without duplicates.
    pub fn new(modules: &[TargetModule]) -> Self {
        Self(
            TargetModule::ALL
                .iter()
                .copied()
                .filter(|module| modules.contains(module))
                .collect(),
        )
    }

    /// All seven linear layers of a decoder layer.
    pub fn all_linear() -> Self {
        Self(TargetModule::ALL.to_vec())
    }

    /// The layers.
    pub fn modules(&self) -> &[TargetModule] {
        &self.0
    }

    /// The layers' names in the checkpoint, e.g. `q_proj`.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|module| module.as_str()).collect()
    }

    /// Whether the layer carries an adapter.
    pub fn contains(&self, module: TargetModule) -> bool {
        self.0.contains(&module)
    }
}

impl Setting for TargetModules {
    fn expected() -> String {
        "\"all-linear\", or an array of \"q_proj\", \"k_proj\", \"v_proj\", \"o_proj\", \
         \"gate_proj\", \"up_proj\", \"down_proj\""
            .to_owned()
    }

    fn read(node: &Node<'_>) -> Result<Self, Vec<Problem>> {
        const ALL_LINEAR: &str = "all-linear";
        match node.get_ref() {
            DeValue::String(word) if &**word == ALL_LINEAR => Ok(Self::all_linear()),
            DeValue::Array(names)
                if names.len() == 1
                    && names
                        .iter()
                        .all(|name| matches!(name.get_ref(), DeValue::String(word) if &**word == ALL_LINEAR)) =>
            {
                Ok(Self::all_linear())
            }
            DeValue::Array(_) => Vec::<TargetModule>::read(node).map(|modules| Self::new(&modules)),
            _ => Err(schema::wrong_type::<Self>(node)),
        }
    }

    fn write(&self) -> Option<toml::Value> {
        self.0.write()
    }
}
