//! What a step reports, under TRL's names (and a few of our own, which have no name there).

use serde_json::{Map, Value, json};

use super::activity::DevicePeaks;
use super::advantage::{Advantages, mean_and_std};
use super::loss::LossSettings;
use super::update::MicroBatchReport;
use crate::rollout::{Completion, FinishReason};
use moim_core::experiment::LossType;
use moim_core::reward::Reward;
use moim_core::run::resident_memory;

/// Seconds spent in each phase of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PhaseSeconds {
    /// Sampling completions.
    pub rollout: f64,
    /// Computing rewards.
    pub reward: f64,
    /// Reference log-probabilities, forward, backward and update.
    pub backward: f64,
}

/// Everything a step's metrics are made of.
pub struct StepReport<'a> {
    /// Names of the rewards, in the order of each reward's values.
    pub reward_names: &'a [String],
    /// The rewards of each completion.
    pub rewards: &'a [Reward],
    /// Combined reward of each completion.
    pub totals: &'a [f64],
    /// Advantages and group statistics.
    pub advantages: &'a Advantages,
    /// The completions, group after group.
    pub completions: &'a [Completion],
}

/// Metrics of the completions of one generation.
pub fn generation_metrics(report: &StepReport) -> Map<String, Value> {
    let mut metrics = Map::new();
    let (mean, std) = mean_and_std(report.totals);
    metrics.insert("reward".into(), json!(mean));
    metrics.insert("reward_std".into(), json!(std));
    metrics.insert(
        "reward_group_std".into(),
        json!(mean_and_std(&report.advantages.group_stds).0),
    );
    let groups = report.advantages.group_stds.len().max(1);
    let flat = report
        .advantages
        .group_stds
        .iter()
        .filter(|std| std.is_nan() || **std <= 1e-8)
        .count();
    metrics.insert(
        "frac_reward_zero_std".into(),
        json!(flat as f64 / groups as f64),
    );
    for (i, name) in report.reward_names.iter().enumerate() {
        let series: Vec<f64> = report
            .rewards
            .iter()
            .map(|reward| reward.values[i].unwrap_or(f64::NAN))
            .collect();
        let (mean, std) = mean_and_std(&series);
        metrics.insert(format!("rewards/{name}/mean"), json!(mean));
        metrics.insert(format!("rewards/{name}/std"), json!(std));
    }
    let lengths = |kept: &dyn Fn(&&Completion) -> bool| -> Vec<f64> {
        report
            .completions
            .iter()
            .filter(|c| kept(c))
            .map(|c| c.tokens.len() as f64)
            .collect()
    };
    let mut insert_lengths = |name: &str, lengths: &[f64]| {
        if lengths.is_empty() {
            return;
        }
        let mean = lengths.iter().sum::<f64>() / lengths.len() as f64;
        metrics.insert(format!("completions/mean_{name}"), json!(mean));
        metrics.insert(
            format!("completions/min_{name}"),
            json!(lengths.iter().copied().fold(f64::MAX, f64::min)),
        );
        metrics.insert(
            format!("completions/max_{name}"),
            json!(lengths.iter().copied().fold(0.0, f64::max)),
        );
    };
    let all = lengths(&|_| true);
    let terminated = lengths(&|c| c.finish_reason == FinishReason::Stop);
    insert_lengths("length", &all);
    insert_lengths("terminated_length", &terminated);
    let clipped = 1.0 - terminated.len() as f64 / all.len().max(1) as f64;
    metrics.insert("completions/clipped_ratio".into(), json!(clipped));
    metrics
}

/// Metrics of one optimizer step over a generation: means over its micro-batches' means.
pub fn update_metrics(
    micro_batches: &[MicroBatchReport],
    settings: &LossSettings,
) -> Map<String, Value> {
    let mean = |value: &dyn Fn(&MicroBatchReport) -> f64| {
        let sum: f64 = micro_batches.iter().map(value).sum();
        json!(sum / micro_batches.len().max(1) as f64)
    };
    let per_token = |sum: f64, report: &MicroBatchReport| sum / report.statistics.tokens.max(1.0);
    let per_ratio = |sum: f64, report: &MicroBatchReport| sum / report.statistics.ratios.max(1.0);
    let mut metrics = Map::new();
    metrics.insert("entropy".into(), mean(&|m| per_token(m.entropy, m)));
    if settings.beta != 0.0 {
        metrics.insert("kl".into(), mean(&|m| per_token(m.statistics.kl, m)));
    }
    let mut insert = |name: &str, value: Value| {
        metrics.insert(name.to_owned(), value);
    };
    match settings.loss_type {
        LossType::Sapo => {}
        LossType::Cispo => insert(
            "cispo_clip_ratio",
            mean(&|m| per_ratio(m.statistics.clipped_high, m)),
        ),
        LossType::Vespo => insert(
            "vespo/phi_seq_mean",
            mean(&|m| m.statistics.phi / m.statistics.rows.max(1.0)),
        ),
        LossType::Grpo | LossType::Bnpo | LossType::DrGrpo | LossType::Dapo | LossType::Luspo => {
            let low = |m: &MicroBatchReport| per_ratio(m.statistics.clipped_low, m);
            let high = |m: &MicroBatchReport| per_ratio(m.statistics.clipped_high, m);
            insert("clip_ratio/low_mean", mean(&low));
            insert(
                "clip_ratio/low_min",
                mean(&|m| m.statistics.clipped_low_min.unwrap_or(0.0)),
            );
            insert("clip_ratio/high_mean", mean(&high));
            insert(
                "clip_ratio/high_max",
                mean(&|m| m.statistics.clipped_high_max.unwrap_or(0.0)),
            );
            insert("clip_ratio/region_mean", mean(&|m| low(m) + high(m)));
        }
    }
    metrics
}

/// Metrics of the memory that a step took, in bytes: the process now, and what the phases of the step
/// needed on the device at most, where that was seen.
pub(super) fn memory_metrics(peaks: DevicePeaks) -> Map<String, Value> {
    [
        ("memory/host_rss", resident_memory()),
        ("memory/device_peak/rollout", peaks.rollout),
        ("memory/device_peak/backward", peaks.backward),
    ]
    .into_iter()
    .filter_map(|(name, bytes)| Some((name.to_owned(), json!(bytes?))))
    .collect()
}

/// Metrics of how long a step took and what it got done in that time.
pub fn time_metrics(
    seconds: &PhaseSeconds,
    generated: usize,
    trained: usize,
) -> Map<String, Value> {
    let per_second = |tokens: usize, seconds: f64| {
        if seconds > 0.0 {
            tokens as f64 / seconds
        } else {
            0.0
        }
    };
    let mut metrics = Map::new();
    metrics.insert(
        "step_time".into(),
        json!(seconds.rollout + seconds.reward + seconds.backward),
    );
    metrics.insert("time/rollout".into(), json!(seconds.rollout));
    metrics.insert("time/reward".into(), json!(seconds.reward));
    metrics.insert("time/backward".into(), json!(seconds.backward));
    metrics.insert(
        "tokens_per_second/rollout".into(),
        json!(per_second(generated, seconds.rollout)),
    );
    metrics.insert(
        "tokens_per_second/backward".into(),
        json!(per_second(trained, seconds.backward)),
    );
    metrics
}
