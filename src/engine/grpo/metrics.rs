//! The metrics of a step, under TRL's names (and a few that TRL does not have).

use super::advantage::mean_and_std;
use super::group::{Generation, Sample};
use super::learner::MicroBatchReport;
use super::loss::LossSettings;
use crate::rollout::FinishReason;
use moim_core::experiment::LossType;
use moim_core::journal::DevicePeaks;
use moim_core::run::{Metrics, resident_memory};

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

/// Metrics of the completions of one generation. `reward_names` has the order of each reward's values.
pub fn generation_metrics(generation: &Generation, reward_names: &[String]) -> Metrics {
    let totals = generation.totals();
    let (mean, std) = mean_and_std(&totals.concat());
    let stds: Vec<f64> = totals.iter().map(|group| mean_and_std(group).1).collect();
    let flat = stds.iter().filter(|std| std.is_nan() || **std <= 1e-8);
    let flat = flat.count() as f64 / stds.len().max(1) as f64;
    let mut metrics = Metrics::default()
        .with("reward", mean)
        .with("reward_std", std)
        .with("reward_group_std", mean_and_std(&stds).0)
        .with("frac_reward_zero_std", flat);
    for (i, name) in reward_names.iter().enumerate() {
        let series: Vec<f64> = generation
            .samples()
            .map(|sample| sample.reward.values[i].unwrap_or(f64::NAN))
            .collect();
        let (mean, std) = mean_and_std(&series);
        metrics.set(&format!("rewards/{name}/mean"), mean);
        metrics.set(&format!("rewards/{name}/std"), std);
    }
    let length = |sample: &Sample| sample.completion.tokens.len() as f64;
    let is_whole = |sample: &&Sample| sample.completion.finish_reason == FinishReason::Stop;
    let all: Vec<f64> = generation.samples().map(length).collect();
    let terminated: Vec<f64> = generation.samples().filter(is_whole).map(length).collect();
    for (name, lengths) in [("length", &all), ("terminated_length", &terminated)] {
        if lengths.is_empty() {
            continue;
        }
        let mean = lengths.iter().sum::<f64>() / lengths.len() as f64;
        let min = lengths.iter().copied().fold(f64::MAX, f64::min);
        let max = lengths.iter().copied().fold(0.0, f64::max);
        metrics.set(&format!("completions/mean_{name}"), mean);
        metrics.set(&format!("completions/min_{name}"), min);
        metrics.set(&format!("completions/max_{name}"), max);
    }
    let clipped = 1.0 - terminated.len() as f64 / all.len().max(1) as f64;
    metrics.with("completions/clipped_ratio", clipped)
}

/// The difference of the log-probabilities of the training pass from those of sampling: two
/// computations of the same quantity that differ by rounding only. `step_log_probs` are those of the
/// step itself, for completions that have no old ones.
pub(super) fn sampling_difference(generation: &Generation, step_log_probs: &[Vec<f32>]) -> Metrics {
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
    let mean = sum / tokens.max(1) as f64;
    Metrics::default()
        .with("sampling/sampling_logp_difference/mean", mean)
        .with("sampling/sampling_logp_difference/max", largest)
}

/// Metrics of one optimizer step over a generation: means over its micro-batches' means.
pub fn update_metrics(micro_batches: &[MicroBatchReport], settings: &LossSettings) -> Metrics {
    let mean = |value: &dyn Fn(&MicroBatchReport) -> f64| {
        let sum: f64 = micro_batches.iter().map(value).sum();
        sum / micro_batches.len().max(1) as f64
    };
    let per_token = |sum: f64, report: &MicroBatchReport| sum / report.statistics.tokens.max(1.0);
    let per_ratio = |sum: f64, report: &MicroBatchReport| sum / report.statistics.ratios.max(1.0);
    let mut metrics = Metrics::default().with("entropy", mean(&|m| per_token(m.entropy, m)));
    if settings.beta != 0.0 {
        metrics.set("kl", mean(&|m| per_token(m.statistics.kl, m)));
    }
    match settings.loss_type {
        LossType::Sapo => metrics,
        LossType::Cispo => metrics.with(
            "cispo_clip_ratio",
            mean(&|m| per_ratio(m.statistics.clipped_high, m)),
        ),
        LossType::Vespo => metrics.with(
            "vespo/phi_seq_mean",
            mean(&|m| m.statistics.phi / m.statistics.rows.max(1.0)),
        ),
        LossType::Grpo | LossType::Bnpo | LossType::DrGrpo | LossType::Dapo | LossType::Luspo => {
            let low = |m: &MicroBatchReport| per_ratio(m.statistics.clipped_low, m);
            let low_min = |m: &MicroBatchReport| m.statistics.clipped_low_min.unwrap_or(0.0);
            let high = |m: &MicroBatchReport| per_ratio(m.statistics.clipped_high, m);
            let high_max = |m: &MicroBatchReport| m.statistics.clipped_high_max.unwrap_or(0.0);
            metrics
                .with("clip_ratio/low_mean", mean(&low))
                .with("clip_ratio/low_min", mean(&low_min))
                .with("clip_ratio/high_mean", mean(&high))
                .with("clip_ratio/high_max", mean(&high_max))
                .with("clip_ratio/region_mean", mean(&|m| low(m) + high(m)))
        }
    }
}

/// Metrics of the memory of a step, in bytes: the process now, and the peaks of the step's phases on
/// the device, if any were seen.
pub(super) fn memory_metrics(peaks: DevicePeaks) -> Metrics {
    let mut metrics = Metrics::default();
    for (name, bytes) in [
        ("memory/host_rss", resident_memory()),
        ("memory/device_peak/rollout", peaks.rollout),
        ("memory/device_peak/backward", peaks.backward),
    ] {
        if let Some(bytes) = bytes {
            metrics.set(name, bytes);
        }
    }
    metrics
}

/// Metrics of the duration of a step and its tokens in that time.
pub fn time_metrics(seconds: &PhaseSeconds, generated: usize, trained: usize) -> Metrics {
    let per_second = |tokens: usize, seconds: f64| {
        if seconds > 0.0 {
            tokens as f64 / seconds
        } else {
            0.0
        }
    };
    let PhaseSeconds {
        rollout,
        reward,
        backward,
    } = *seconds;
    Metrics::default()
        .with("step_time", rollout + reward + backward)
        .with("time/rollout", rollout)
        .with("time/reward", reward)
        .with("time/backward", backward)
        .with("tokens_per_second/rollout", per_second(generated, rollout))
        .with("tokens_per_second/backward", per_second(trained, backward))
}
