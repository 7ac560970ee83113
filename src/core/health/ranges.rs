//! Healthy ranges of a step's metrics: what alarms go by, and what a chart may draw as lines.
//!
//! They are those that axolotl's documentation gives for GRPO, unless a line says otherwise.
//! The reward has none: its scale is that of the experiment's own formula.

/// Where a metric is healthy, and where a run that continues is most likely wasted, in the unit of
/// the metric. `None` is no border.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Range {
    /// The smallest healthy value.
    pub low: Option<f64>,
    /// The largest healthy value.
    pub high: Option<f64>,
    /// Smaller values are critical.
    pub critically_low: Option<f64>,
    /// Larger values are critical.
    pub critically_high: Option<f64>,
}

/// The healthy range of a metric by its name in `step` events; `None` where none is published.
pub fn healthy(metric: &str) -> Option<Range> {
    if let Some(ceiling) = [ZERO_VARIANCE, KL, CLIPPED, MISMATCH, CLIP_REGION]
        .into_iter()
        .find(|ceiling| ceiling.metric == metric)
    {
        return Some(Range {
            high: Some(ceiling.warning),
            critically_high: Some(ceiling.critical),
            ..Range::default()
        });
    }
    match metric {
        "entropy" => Some(Range {
            low: Some(LOWEST_ENTROPY),
            high: Some(HIGHEST_ENTROPY),
            critically_low: Some(COLLAPSED_ENTROPY),
            critically_high: None,
        }),
        "grad_norm" => Some(Range {
            low: Some(LOWEST_GRAD_NORM),
            high: Some(HIGHEST_GRAD_NORM),
            critically_low: None,
            critically_high: Some(UNSTABLE_GRAD_NORM),
        }),
        _ => None,
    }
}

/// The borders of a metric whose high values are bad.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ceiling {
    pub(super) metric: &'static str,
    pub(super) warning: f64,
    pub(super) critical: f64,
}

/// Share of groups whose completions all got the same reward.
pub(super) const ZERO_VARIANCE: Ceiling = Ceiling {
    metric: "frac_reward_zero_std",
    warning: 0.8,
    // Ours: next to no group is left to learn from.
    critical: 0.99,
};

/// KL divergence from the base model, in nats per token.
pub(super) const KL: Ceiling = Ceiling {
    metric: "kl",
    warning: 0.5,
    critical: 2.0,
};

/// Share of completions that were cut off before their end.
pub(super) const CLIPPED: Ceiling = Ceiling {
    metric: "completions/clipped_ratio",
    warning: 0.3,
    critical: 0.8,
};

/// Difference between the log-probabilities of sampling and of training, in nats.
pub(super) const MISMATCH: Ceiling = Ceiling {
    metric: "sampling/sampling_logp_difference/mean",
    warning: 0.1,
    critical: 1.0,
};

/// Share of tokens whose ratio was clipped. No alarm goes by it: what it harms shows in the KL
/// divergence and in the gradient.
const CLIP_REGION: Ceiling = Ceiling {
    metric: "clip_ratio/region_mean",
    warning: 0.1,
    critical: 0.3,
};

/// Entropy in nats per token. A run may begin under the healthy range and be well: what alarms go
/// by is the fall.
pub(super) const LOWEST_ENTROPY: f64 = 0.05;
pub(super) const HIGHEST_ENTROPY: f64 = 0.5;
/// Under this the entropy has collapsed.
pub(super) const COLLAPSED_ENTROPY: f64 = 0.01;

/// Norm of the gradient before it is clipped.
pub(super) const LOWEST_GRAD_NORM: f64 = 0.001;
pub(super) const HIGHEST_GRAD_NORM: f64 = 1.0;
/// Above this training is unstable.
pub(super) const UNSTABLE_GRAD_NORM: f64 = 10.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_lie_in_order_and_metrics_without_a_range_have_none() {
        for metric in [
            "entropy",
            "grad_norm",
            "kl",
            "frac_reward_zero_std",
            "completions/clipped_ratio",
            "clip_ratio/region_mean",
            "sampling/sampling_logp_difference/mean",
        ] {
            let range = healthy(metric).unwrap_or_else(|| panic!("{metric}"));
            let borders: Vec<f64> = [
                range.critically_low,
                range.low,
                range.high,
                range.critically_high,
            ]
            .into_iter()
            .flatten()
            .collect();
            assert!(borders.is_sorted() && borders.len() > 1, "{metric}");
        }
        assert_eq!(healthy("reward"), None);
    }
}
