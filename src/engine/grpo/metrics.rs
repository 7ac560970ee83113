//! The metrics of a step, under TRL's names (and a few of our own that have no name there).

use serde_json::{Map, Value, json};

use super::advantage::mean_and_std;
use super::group::{Generation, Sample};
use super::learner::MicroBatchReport;
use super::loss::LossSettings;
use crate::rollout::FinishReason;
use moim_core::experiment::LossType;
use moim_core::journal::DevicePeaks;
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

/// A number as JSON; one that is not finite becomes a null that keeps its key.
pub(super) fn number(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number)
}

/// Metrics of the completions of one generation. `reward_names` has the order of each reward's values.
pub fn generation_metrics(generation: &Generation, reward_names: &[String]) -> Map<String, Value> {
    let mut metrics = Map::new();
    let totals = generation.totals();
    let (mean, std) = mean_and_std(&totals.concat());
    metrics.insert("reward".into(), json!(mean));
    metrics.insert("reward_std".into(), json!(std));
    let stds: Vec<f64> = totals.iter().map(|group| mean_and_std(group).1).collect();
    metrics.insert("reward_group_std".into(), json!(mean_and_std(&stds).0));
    let flat = stds.iter().filter(|std| std.is_nan() || **std <= 1e-8);
    metrics.insert(
        "frac_reward_zero_std".into(),
        json!(flat.count() as f64 / stds.len().max(1) as f64),
    );
    for (i, name) in reward_names.iter().enumerate() {
        let series: Vec<f64> = generation
            .samples()
            .map(|sample| sample.reward.values[i].unwrap_or(f64::NAN))
            .collect();
        let (mean, std) = mean_and_std(&series);
        metrics.insert(format!("rewards/{name}/mean"), json!(mean));
        metrics.insert(format!("rewards/{name}/std"), json!(std));
    }
    let length = |sample: &Sample| sample.completion.tokens.len() as f64;
    let is_whole = |sample: &&Sample| sample.completion.finish_reason == FinishReason::Stop;
    let all: Vec<f64> = generation.samples().map(length).collect();
    let terminated: Vec<f64> = generation.samples().filter(is_whole).map(length).collect();
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
    insert_lengths("length", &all);
    insert_lengths("terminated_length", &terminated);
    let clipped = 1.0 - terminated.len() as f64 / all.len().max(1) as f64;
    metrics.insert("completions/clipped_ratio".into(), json!(clipped));
    metrics
}

/// The difference of the log-probabilities of the training pass from those of sampling: two
/// computations of the same quantity that differ by rounding only. `step_log_probs` are those of the
/// step itself, for completions that have no old ones.
pub(super) fn sampling_difference(
    generation: &Generation,
    step_log_probs: &[Vec<f32>],
) -> Map<String, Value> {
    let (mut sum, mut largest, mut tokens) = (0.0, 0.0_f64, 0usize);
    let mut of_step = step_log_probs.iter();
    for sample in generation.samples() {
        // Those computed without dropout, if there are any.
        let Some(trained) = sample.old_log_probs.as_ref().or_else(|| of_step.next()) else {
            break;
        };
        for (a, b) in sample.completion.log_probs.iter().zip(trained) {
            let difference = f64::from((a - b).abs());
            sum += difference;
            largest = largest.max(difference);
            tokens += 1;
        }
    }
    Map::from_iter([
        (
            "sampling/sampling_logp_difference/mean".to_owned(),
            number(sum / tokens.max(1) as f64),
        ),
        (
            "sampling/sampling_logp_difference/max".to_owned(),
            number(largest),
        ),
    ])
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

/// Metrics of the memory of a step, in bytes: the process now, and the peaks of the step's phases on
/// the device, if any were seen.
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

/// Metrics of the duration of a step and its tokens in that time.
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
