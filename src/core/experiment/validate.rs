//! The rules: ranges, and keys that cannot be combined. Nothing here reads a file.

mod grpo;

use std::collections::{BTreeMap, BTreeSet};

use super::choices::{DeviceChoice, LrSchedulerType, RougeTokenizer, SaveStrategy};
use super::sections::{BUILT_IN_REWARDS, RewardCommand, TEMPLATE_VARIABLES};
use super::{Experiment, Fault};

/// The longest `run.watchdog_minutes`: a week.
const LONGEST_WATCH: f64 = 10_080.0;

/// Every broken rule. Rules that involve a key of `refused` are skipped: its value could not be
/// read, so the experiment has the default instead.
pub(super) fn validate(experiment: &Experiment, refused: &BTreeSet<String>) -> Vec<Fault> {
    let mut rules = Rules {
        experiment,
        refused,
        faults: Vec::new(),
    };
    rules.model();
    rules.data();
    rules.batch();
    rules.grpo_numbers();
    rules.sampling();
    rules.reward();
    rules.bertscore();
    rules.sft();
    rules.run();
    rules.faults
}

struct Rules<'a> {
    experiment: &'a Experiment,
    refused: &'a BTreeSet<String>,
    faults: Vec<Fault>,
}

impl Rules<'_> {
    /// Records a fault of `key` unless the rule holds.
    fn require(
        &mut self,
        key: &str,
        holds: bool,
        problem: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.require_together(&[key], holds, problem, hint);
    }

    /// As [`Rules::require`], for a rule over several keys; the fault names the first one.
    fn require_together(
        &mut self,
        keys: &[&str],
        holds: bool,
        problem: impl Into<String>,
        hint: impl Into<String>,
    ) {
        // `reward.commands[0].name` cannot be read if `reward.commands` was refused.
        let was_refused = |key: &&str| {
            let whole = key.split('[').next().unwrap_or(key);
            self.refused.contains(whole) || self.refused.contains(*key)
        };
        if holds || keys.iter().any(was_refused) {
            return;
        }
        let key = keys.first().copied().unwrap_or_default();
        self.faults
            .push(Fault::new(key, self.experiment.get(key), problem, hint));
    }

    fn at_least_one(&mut self, key: &str, value: usize) {
        self.require(
            key,
            value >= 1,
            "is less than 1",
            "write a whole number of at least 1",
        );
    }

    fn not_negative(&mut self, key: &str, value: f64) {
        self.require(
            key,
            value >= 0.0,
            "is negative",
            "write a number of at least 0",
        );
    }

    fn above_zero(&mut self, key: &str, value: f64) {
        self.require(key, value > 0.0, "is not above 0", "write a number above 0");
    }

    fn fraction(&mut self, key: &str, value: f64) {
        let holds = (0.0..=1.0).contains(&value);
        self.require(
            key,
            holds,
            "is not between 0 and 1",
            "write a number from 0 to 1",
        );
    }

    fn below_one(&mut self, key: &str, value: f64) {
        let holds = (0.0..1.0).contains(&value);
        self.require(
            key,
            holds,
            "is out of range",
            "write a number from 0 up to, but not, 1",
        );
    }

    fn required_path(&mut self, key: &str, is_empty: bool, example: &str) {
        let (section, name) = key.split_once('.').unwrap_or_default();
        let hint = format!("write {name} = \"{example}\" under [{section}]");
        if is_empty && !self.refused.contains(key) {
            self.faults.push(Fault::new(key, None, "is missing", hint));
        }
    }

    fn model(&mut self) {
        let Experiment {
            model,
            quantization: _,
            lora,
            memory,
            ..
        } = self.experiment;
        self.required_path("model.path", model.path.as_os_str().is_empty(), "models/…");
        self.at_least_one("model.num_devices", model.num_devices);
        self.require_together(
            &["model.num_devices", "model.device"],
            model.num_devices <= 1 || !matches!(model.device, DeviceChoice::Cuda(Some(_))),
            format!(
                "needs {} devices, but model.device names one",
                model.num_devices
            ),
            "write device = \"cuda\" for the first ones, or num_devices = 1",
        );
        self.at_least_one("lora.r", lora.r);
        self.above_zero("lora.lora_alpha", lora.lora_alpha);
        self.below_one("lora.lora_dropout", lora.lora_dropout);
        self.require(
            "lora.target_modules",
            !lora.target_modules.modules().is_empty(),
            "names no layer, so nothing would be trained",
            "write [\"q_proj\", \"k_proj\", \"v_proj\", \"o_proj\"] or \"all-linear\"",
        );
        // rsLoRA scales by α/√r, LoRA by α/r: α√r under LoRA is the same scale.
        let same_scale = lora.lora_alpha * (lora.r as f64).sqrt();
        self.require(
            "lora.use_rslora",
            !lora.use_rslora,
            "rank-stabilised LoRA is not supported",
            format!("write false; lora_alpha = {same_scale:.4} gives the scale it would have"),
        );
        if let Some(budget) = memory.budget_gib {
            self.above_zero("memory.budget_gib", budget);
        }
    }

    fn data(&mut self) {
        let data = &self.experiment.data;
        self.required_path(
            "data.train",
            data.train.as_os_str().is_empty(),
            "data/…/train.json",
        );
        self.required_path(
            "data.eval",
            data.eval.as_os_str().is_empty(),
            "data/…/dev.json",
        );
        self.at_least_one("data.max_prompt_length", data.max_prompt_length);
        self.require_together(
            &["data.num_few_shot", "data.few_shot"],
            data.num_few_shot == 0 || data.few_shot.is_some(),
            "needs records to draw examples from",
            "write few_shot = \"data/…/train.json\" under [data], or num_few_shot = 0",
        );
        for (name, instead) in TEMPLATE_VARIABLES {
            self.require(
                "data.chat_template_kwargs",
                !data.chat_template_kwargs.contains_key(name),
                format!("sets {name}, which cannot be set here"),
                format!("leave it out: {instead}"),
            );
        }
    }

    fn steps(&mut self, key: &str, max_steps: i64) {
        self.require(
            key,
            max_steps == -1 || max_steps >= 1,
            "is neither -1 nor a number of steps",
            "write -1 to train for num_train_epochs, or at least 1",
        );
    }

    fn learning_rate(&mut self, key: &str, rate: f64) {
        self.require(
            key,
            (0.0..=1.0).contains(&rate),
            "is not a learning rate between 0 and 1",
            "write e.g. 1e-6",
        );
    }

    fn warmup(&mut self, section: &str, schedule: LrSchedulerType, has_warmup: bool) {
        let key = format!("{section}.lr_scheduler_type");
        self.require(
            &key,
            schedule != LrSchedulerType::Constant || !has_warmup,
            "has no warm-up, but warm-up is set",
            "write \"constant_with_warmup\", or remove warmup_steps and warmup_ratio",
        );
    }

    fn sampling(&mut self) {
        let Experiment {
            rollout, inference, ..
        } = self.experiment;
        self.at_least_one(
            "rollout.max_completion_length",
            rollout.max_completion_length,
        );
        self.require(
            "rollout.temperature",
            rollout.temperature > 0.0,
            "a group of greedy completions would be one completion repeated",
            "write a number above 0; for greedy answers set inference.temperature = 0.0",
        );
        self.probability_cut(
            "rollout",
            rollout.top_p,
            rollout.min_p,
            rollout.repetition_penalty,
        );
        self.at_least_one(
            "inference.max_completion_length",
            inference.max_completion_length,
        );
        self.not_negative("inference.temperature", inference.temperature);
        self.probability_cut(
            "inference",
            inference.top_p,
            inference.min_p,
            inference.repetition_penalty,
        );
        self.at_least_one("inference.batch_size", inference.batch_size);
    }

    fn probability_cut(&mut self, section: &str, top_p: f64, min_p: Option<f64>, penalty: f64) {
        self.require(
            &format!("{section}.top_p"),
            top_p > 0.0 && top_p <= 1.0,
            "is out of range",
            "write a number above 0 and up to 1; 1.0 keeps all tokens",
        );
        if let Some(min_p) = min_p {
            self.fraction(&format!("{section}.min_p"), min_p);
        }
        self.above_zero(&format!("{section}.repetition_penalty"), penalty);
    }

    fn reward(&mut self) {
        let reward = &self.experiment.reward;
        let (cache, longest) = (
            reward.soft_punish_cache,
            self.experiment.rollout.max_completion_length,
        );
        self.require_together(
            &["reward.soft_punish_cache", "rollout.max_completion_length"],
            cache <= longest,
            format!("{cache} is more than the {longest} tokens of the longest completion"),
            "write at most rollout.max_completion_length",
        );
        self.require(
            "reward.formula",
            !reward.formula.trim().is_empty(),
            "is empty",
            "write a formula over format, exact_match, rouge1, bertscore and the commands' names",
        );
        if let Err(error) = regex::Regex::new(&reward.format_pattern) {
            // The last line of regex's report is the cause; the others show where it is.
            let report = error.to_string();
            let cause = report
                .lines()
                .last()
                .unwrap_or_default()
                .trim()
                .trim_start_matches("error: ");
            self.require(
                "reward.format_pattern",
                false,
                format!("is not a regular expression: {cause}"),
                "correct it (look-around and back-references are not supported); in single quotes \
                 TOML leaves backslashes unchanged",
            );
        }
        self.require_together(
            &["reward.rouge_tokenizer", "reward.mecab_dict"],
            reward.rouge_tokenizer != RougeTokenizer::Mecab || reward.mecab_dict.is_some(),
            "needs a compiled mecab-ko dictionary",
            "write mecab_dict = \"…\" under [reward], or rouge_tokenizer = \"eojeol\"",
        );
        self.require(
            "reward.answer_endings",
            !reward.answer_endings.is_empty()
                && reward
                    .answer_endings
                    .iter()
                    .all(|ending| !ending.is_empty()),
            "is empty or has an empty ending",
            "write [\"가 옳다\", \"이 옳다\"], or what separates answer and reason in your data",
        );
        let mut names = BTreeMap::new();
        for (index, command) in reward.commands.iter().enumerate() {
            self.reward_command(index, command, &mut names);
        }
    }

    fn reward_command<'c>(
        &mut self,
        index: usize,
        command: &'c RewardCommand,
        names: &mut BTreeMap<&'c str, usize>,
    ) {
        let below = |name: &str| format!("reward.commands[{index}].{name}");
        let name = command.name.as_str();
        let is_word = name.starts_with(|first: char| first.is_alphabetic() || first == '_')
            && name
                .chars()
                .all(|letter| letter.is_alphanumeric() || letter == '_');
        let mut add = |key: &str, value: String, holds: bool, problem: String, hint: &str| {
            if !holds && !self.refused.contains("reward.commands") {
                self.faults
                    .push(Fault::new(below(key), Some(value), problem, hint));
            }
        };
        let quoted = format!("{name:?}");
        add(
            "name",
            quoted.clone(),
            is_word,
            "cannot be used in a formula".to_owned(),
            "use letters, digits and _, beginning with a letter",
        );
        add(
            "name",
            quoted.clone(),
            !BUILT_IN_REWARDS.contains(&name),
            "is the name of a built-in metric".to_owned(),
            "choose another name",
        );
        if let Some(first) = names.insert(name, index) {
            add(
                "name",
                quoted,
                false,
                format!("is already the name of commands[{first}]"),
                "choose another name",
            );
        }
        add(
            "command",
            format!("{:?}", command.command),
            command
                .command
                .first()
                .is_some_and(|program| !program.is_empty()),
            "names no program".to_owned(),
            "write [\"program\", \"argument\", …]",
        );
        add(
            "timeout_seconds",
            format!("{:?}", command.timeout_seconds),
            command.timeout_seconds > 0.0,
            "is not above 0".to_owned(),
            "write a number of seconds above 0",
        );
    }

    fn bertscore(&mut self) {
        let bertscore = &self.experiment.bertscore;
        if let Some(num_layers) = bertscore.num_layers {
            self.at_least_one("bertscore.num_layers", num_layers);
        }
        self.require_together(
            &["bertscore.rescale_with_baseline", "bertscore.baseline_path"],
            !bertscore.rescale_with_baseline || bertscore.baseline_path.is_some(),
            "needs a baseline file",
            "write baseline_path = \"…tsv\" under [bertscore], or rescale_with_baseline = false",
        );
        self.at_least_one("bertscore.batch_size", bertscore.batch_size);
    }

    fn sft(&mut self) {
        let sft = &self.experiment.sft;
        self.at_least_one("sft.num_train_epochs", sft.num_train_epochs);
        self.steps("sft.max_steps", sft.max_steps);
        self.at_least_one(
            "sft.per_device_train_batch_size",
            sft.per_device_train_batch_size,
        );
        self.at_least_one(
            "sft.gradient_accumulation_steps",
            sft.gradient_accumulation_steps,
        );
        self.learning_rate("sft.learning_rate", sft.learning_rate);
        self.fraction("sft.warmup_ratio", sft.warmup_ratio);
        self.warmup("sft", sft.lr_scheduler_type, sft.warmup_ratio > 0.0);
        self.not_negative("sft.weight_decay", sft.weight_decay);
        self.not_negative("sft.max_grad_norm", sft.max_grad_norm);
        self.at_least_one("sft.max_length", sft.max_length);
        self.require_together(
            &["sft.init", "sft.full_finetuning"],
            sft.init != super::SftInit::Random || sft.full_finetuning,
            "an adapter on random weights would learn nothing worth keeping",
            "write full_finetuning = true, or init = \"pretrained\"",
        );
    }

    fn run(&mut self) {
        let run = &self.experiment.run;
        self.require(
            "run.output_dir",
            !run.output_dir.as_os_str().is_empty(),
            "is empty",
            "write a folder, e.g. \"outputs\"",
        );
        if let Some(name) = &run.name {
            self.require(
                "run.name",
                is_folder_name(name),
                "cannot be the name of a folder",
                "use no slash, no leading dot and no control characters",
            );
        }
        self.at_least_one("run.logging_steps", run.logging_steps);
        if run.save_strategy == SaveStrategy::Steps {
            self.at_least_one("run.save_steps", run.save_steps);
        }
        if let Some(limit) = run.save_total_limit {
            self.at_least_one("run.save_total_limit", limit);
        }
        let minutes = run.watchdog_minutes;
        self.require(
            "run.watchdog_minutes",
            (0.0..=LONGEST_WATCH).contains(&minutes),
            "is out of range",
            format!("write minutes from 0 (no alarm) to {LONGEST_WATCH} (a week)"),
        );
    }
}

/// Whether a run or an experiment with this name can have its own folder.
pub(crate) fn is_folder_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.len() <= 200
        && name.trim() == name
        && !name.contains(|letter: char| matches!(letter, '/' | '\\') || letter.is_control())
}
