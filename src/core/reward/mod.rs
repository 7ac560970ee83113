//! The rewards: the values of each completion, and the formula that combines them into one number.
//!
//! Every value is reported under its own name. A value that the formula does not use is
//! monitor-only: it is computed and logged, but does not affect training.

mod command;
mod formula;
mod overlong;
mod process;
mod protocol;
#[cfg(test)]
mod tests;

use std::time::Duration;

use anyhow::{Result, bail, ensure};

pub use command::{CommandError, CommandReward};
pub use formula::{Formula, FormulaError, is_identifier};

use crate::experiment::{BUILT_IN_REWARDS, RewardCommand, RewardSection};
use crate::metric::{ItemScores, Metrics};
use overlong::Overlong;

/// The name of the total among the rows of [`RewardSet::check`].
pub const TOTAL: &str = "reward";

/// The metric that exists only if an encoder is configured.
const BERTSCORE: &str = "bertscore";

/// The reward that exists only if `reward.soft_punish_cache` is above 0.
const OVERLONG: &str = "overlong";

/// An answer that deserves no reward: no sentence, no form, no reason.
pub const BAD_ANSWER: &str = "asdf 1234 ???";

/// One completion to be scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RewardSample<'a> {
    /// The record's id.
    pub id: &'a str,
    /// The rendered prompt.
    pub prompt: &'a str,
    /// The model's text, without special tokens.
    pub completion: &'a str,
    /// The record's answer.
    pub label: &'a str,
    /// The record's question type, as written in the data.
    pub question_type: &'a str,
    /// Length of the completion, in tokens.
    pub tokens: usize,
    /// The optimizer step that the completion is for, from 1; 0 before the first one.
    pub step: u64,
}

/// The reward of one completion.
#[derive(Debug, Clone, PartialEq)]
pub struct Reward {
    /// The formula's value; NaN if values that it needs are missing (see [`Formula::evaluate`]). Such
    /// a completion is excluded from its group's statistics, as in TRL if every reward function
    /// returns `None`.
    pub total: f64,
    /// The values in the order of [`RewardSet::names`]; `None` if a command answered `null`.
    pub values: Vec<Option<f64>>,
}

/// How one reward distinguishes good answers from bad ones.
#[derive(Debug, Clone, PartialEq)]
pub struct RewardCheck {
    /// The name of the reward, or [`TOTAL`].
    pub name: String,
    /// Its value for each sample's label as the completion.
    pub good: Vec<Option<f64>>,
    /// Its value for [`BAD_ANSWER`] instead of each sample's completion.
    pub bad: Vec<Option<f64>>,
}

/// All rewards of an experiment, ready to score.
#[derive(Debug)]
pub struct RewardSet {
    metrics: Metrics,
    overlong: Overlong,
    commands: Vec<CommandReward>,
    formula: Formula,
    names: Vec<String>,
    /// The number of metrics in `names`; the commands follow them.
    built_in: usize,
}

impl RewardSet {
    /// Reads the formula and starts the commands. Completions have at most
    /// `max_completion_length` tokens.
    ///
    /// # Errors
    /// The formula is not well-formed or uses a name without a value (such as `bertscore` without an
    /// encoder), a command's name or time-out is not usable, or a command cannot be started.
    pub fn new(
        section: &RewardSection,
        max_completion_length: usize,
        metrics: Metrics,
    ) -> Result<Self> {
        let formula = Formula::parse(&section.formula)
            .map_err(|error| anyhow::Error::new(error).context("reward.formula"))?;
        let mut names: Vec<String> = BUILT_IN_REWARDS
            .iter()
            .filter(|name| **name != BERTSCORE || metrics.has_reason_scorer())
            .filter(|name| **name != OVERLONG || section.soft_punish_cache > 0)
            .map(|name| (*name).to_owned())
            .collect();
        let built_in = names.len();
        for command in &section.commands {
            check_command(command, &names)?;
            names.push(command.name.clone());
        }
        if !metrics.has_reason_scorer() && formula.names().iter().any(|name| name == BERTSCORE) {
            bail!(
                "reward.formula = \"{}\" uses bertscore, but no encoder is configured: set \
                 bertscore.model to the folder of a BERT, RoBERTa or XLM-R encoder, or set a \
                 formula without it, for example \
                 \"(exact_match + (format + 3*rouge1)/2)/3\"",
                section.formula
            );
        }
        if section.soft_punish_cache == 0 && formula.names().iter().any(|name| name == OVERLONG) {
            bail!(
                "reward.formula = \"{}\" uses overlong, but reward.soft_punish_cache = 0 turns it off: set it \
                 to the number of tokens before rollout.max_completion_length over which the reward falls",
                section.formula
            );
        }
        formula
            .require_known(&names)
            .map_err(|error| anyhow::Error::new(error).context("reward.formula"))?;
        Ok(Self {
            metrics,
            overlong: Overlong {
                cache: section.soft_punish_cache,
                max_completion_length,
            },
            commands: start(section)?,
            formula,
            names,
            built_in,
        })
    }

    /// The names of the values, in the order of [`Reward::values`]: the metrics (`bertscore` only with
    /// an encoder), then the commands.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The names that the formula does not use.
    pub fn monitor_only(&self) -> impl Iterator<Item = &str> {
        let used = self.formula.names();
        self.names
            .iter()
            .filter(|name| !used.contains(name))
            .map(String::as_str)
    }

    /// The weight of each value in the total, in the order of [`Reward::values`]; `None` if the formula
    /// is not a weighted sum.
    pub fn weights(&self) -> Option<Vec<f64>> {
        let (names, weights) = (self.formula.names(), self.formula.weights()?);
        let of = |name: &String| names.iter().position(|used| used == name);
        let weight = |name| of(name).map_or(0.0, |at| weights[at]);
        Some(self.names.iter().map(weight).collect())
    }

    /// Whether the total depends on a program.
    pub fn uses_program(&self) -> bool {
        let (used, weights) = (self.formula.names(), self.weights());
        let counts = |at: usize| weights.as_ref().is_none_or(|weights| weights[at] != 0.0);
        (self.built_in..self.names.len()).any(|at| used.contains(&self.names[at]) && counts(at))
    }

    /// The formula of the total.
    pub fn formula(&self) -> &Formula {
        &self.formula
    }

    /// The metrics, which also rank checkpoints.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The metrics, for scoring.
    pub fn metrics_mut(&mut self) -> &mut Metrics {
        &mut self.metrics
    }

    /// Scores each sample, in order. The commands run while the metrics are computed.
    ///
    /// # Errors
    /// A metric or a command fails, or the formula gives a number that is not finite (a division by 0).
    pub fn evaluate(&mut self, samples: &[RewardSample<'_>]) -> Result<Vec<Reward>> {
        for command in &mut self.commands {
            command.send(samples)?;
        }
        let pairs: Vec<(&str, &str)> = samples
            .iter()
            .map(|sample| (sample.completion, sample.label))
            .collect();
        let scores = self.metrics.score(&pairs)?;
        let answers = self
            .commands
            .iter_mut()
            .map(CommandReward::collect)
            .collect::<Result<Vec<_>, _>>()?;
        samples
            .iter()
            .zip(&scores)
            .enumerate()
            .map(|(at, (sample, score))| {
                let metrics = self.names[..self.built_in]
                    .iter()
                    .map(|name| match name.as_str() {
                        OVERLONG => Some(self.overlong.punishment(sample.tokens)),
                        metric => built_in(metric, score),
                    });
                let values = metrics
                    .chain(answers.iter().map(|answers| answers[at]))
                    .collect();
                self.total(sample, values)
            })
            .collect()
    }

    /// For each program that returned NaN or infinite rewards since the last call, their number. They
    /// count as missing.
    pub fn take_nonfinite(&mut self) -> Vec<(String, usize)> {
        let counted = self.commands.iter_mut().map(|command| {
            let count = command.take_nonfinite();
            (command.name().to_owned(), count)
        });
        counted.filter(|(_, count)| *count > 0).collect()
    }

    /// Scores the label of each of `samples` as a completion, and a bad answer, with each reward and the
    /// total. A reward that does not distinguish the two cannot teach anything. The samples' own
    /// completions are ignored. A label should have one alternative and a reason, else it is not a
    /// perfect answer to itself.
    ///
    /// # Errors
    /// As [`RewardSet::evaluate`].
    pub fn check(&mut self, samples: &[RewardSample<'_>]) -> Result<Vec<RewardCheck>> {
        let good = samples.iter().map(|sample| RewardSample {
            completion: sample.label,
            ..*sample
        });
        let bad = samples.iter().map(|sample| RewardSample {
            completion: BAD_ANSWER,
            ..*sample
        });
        let rewards = self.evaluate(&good.chain(bad).collect::<Vec<_>>())?;
        let (good, bad) = rewards.split_at(samples.len());
        let values = |rewards: &[Reward], at: usize| rewards.iter().map(|r| r.values[at]).collect();
        let totals = |rewards: &[Reward]| {
            let total = |reward: &Reward| Some(reward.total).filter(|total| !total.is_nan());
            rewards.iter().map(total).collect()
        };
        let mut checks: Vec<RewardCheck> = self
            .names
            .iter()
            .enumerate()
            // It depends only on the length.
            .filter(|(_, name)| *name != OVERLONG)
            .map(|(at, name)| RewardCheck {
                name: name.clone(),
                good: values(good, at),
                bad: values(bad, at),
            })
            .collect();
        checks.push(RewardCheck {
            name: TOTAL.to_owned(),
            good: totals(good),
            bad: totals(bad),
        });
        Ok(checks)
    }

    /// Restarts the commands. Without a restart, a failed command stays stopped.
    ///
    /// # Errors
    /// A command cannot be started.
    pub fn restart(&mut self, section: &RewardSection) -> Result<()> {
        self.commands = start(section)?;
        Ok(())
    }

    fn total(&self, sample: &RewardSample<'_>, values: Vec<Option<f64>>) -> Result<Reward> {
        let value_of = |wanted: &str| {
            let position = self.names.iter().position(|name| name == wanted)?;
            values[position]
        };
        let total = self.formula.evaluate(&value_of);
        if let Some(total) = total {
            ensure!(
                total.is_finite(),
                "reward.formula = \"{}\" gives {total} for the completion of item {:?} at step \
                 {}, where {}: change the formula so that it divides by nothing that can be 0",
                self.formula.text(),
                sample.id,
                sample.step,
                self.named(&values)
            );
        }
        Ok(Reward {
            total: total.unwrap_or(f64::NAN),
            values,
        })
    }

    /// `format = 1, exact_match = 0, …`, of the values the formula uses.
    fn named(&self, values: &[Option<f64>]) -> String {
        self.names
            .iter()
            .zip(values)
            .filter(|(name, _)| self.formula.names().contains(name))
            .filter_map(|(name, value)| value.map(|value| format!("{name} = {value}")))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// The value of a metric by its name.
fn built_in(name: &str, scores: &ItemScores) -> Option<f64> {
    match name {
        "format" => Some(scores.format),
        "exact_match" => Some(scores.exact_match),
        "rouge1" => Some(scores.rouge1),
        BERTSCORE => Some(scores.bertscore),
        _ => None,
    }
}

/// # Errors
/// A command cannot be started, or its time-out is not usable.
fn start(section: &RewardSection) -> Result<Vec<CommandReward>> {
    let commands = section.commands.iter();
    commands
        .map(|command| {
            let timeout = timeout(command)?;
            Ok(CommandReward::start(
                &command.name,
                &command.command,
                timeout,
            )?)
        })
        .collect()
}

/// Checks what can be known about a command before it is started.
fn check_command(command: &RewardCommand, taken: &[String]) -> Result<()> {
    let name = &command.name;
    ensure!(
        is_identifier(name),
        "reward.commands: name = \"{name}\" cannot be used in a formula: use letters, digits and \
         _, not beginning with a digit"
    );
    ensure!(
        !BUILT_IN_REWARDS.contains(&name.as_str()) && name != TOTAL,
        "reward.commands: name = \"{name}\" is the name of a built-in value: choose another \
         (taken are {} and {TOTAL})",
        BUILT_IN_REWARDS.join(", ")
    );
    ensure!(
        !taken.contains(name),
        "reward.commands: name = \"{name}\" occurs twice: give each command its own"
    );
    timeout(command).map(drop)
}

/// The time-out of a batch.
fn timeout(command: &RewardCommand) -> Result<Duration> {
    let seconds = command.timeout_seconds;
    match Duration::try_from_secs_f64(seconds) {
        Ok(timeout) if !timeout.is_zero() => Ok(timeout),
        _ => bail!(
            "reward.commands: `{}` has timeout_seconds = {seconds}: set a number of seconds above \
             0, for example 60.0",
            command.name
        ),
    }
}
