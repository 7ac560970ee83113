//! Which charts there are, in which order, and what they are drawn with.

use std::borrow::Cow;

use moim_core::health::{Range, healthy};
use ratatui::style::Style;

use super::Train;
use crate::tui::data::run::OpenRun;
use crate::tui::data::series::History;
use crate::tui::filter::Filter;
use crate::tui::theme::{Look, Theme};
use crate::tui::widgets::chart::{Chart, Line, Reference, Scale};

/// Stands for the mean of every reward, of which each run has its own.
const EVERY_REWARD: &str = "rewards/*/mean";

/// The metrics that matter most, in this order; others follow by name.
const FIRST: [&str; 14] = [
    "reward",
    EVERY_REWARD,
    "loss",
    "kl",
    "entropy",
    "completions/mean_length",
    "completions/clipped_ratio",
    "grad_norm",
    "learning_rate",
    "frac_reward_zero_std",
    "reward_std",
    "step_time",
    "tokens_per_second/rollout",
    "tokens_per_second/backward",
];

/// Metrics that only count up: they are drawn if a filter asks for them.
const COUNTERS: [&str; 5] = [
    "step",
    "total_steps",
    "epoch",
    "num_tokens",
    "elapsed_seconds",
];

/// Steps that a window shows, the longest first; infinite for all.
pub(super) const WINDOWS: [f64; 6] = [f64::INFINITY, 5000.0, 1000.0, 200.0, 50.0, 20.0];

/// Weights of the past in a smoothed line.
pub(super) const SMOOTHINGS: [f64; 6] = [0.0, 0.5, 0.7, 0.9, 0.95, 0.99];

/// The metrics that have a chart, in the order of the charts.
pub(super) fn names<'a>(history: &'a History, filter: &Filter) -> Vec<&'a str> {
    let is_reward = |name: &str| name.starts_with("rewards/") && name.ends_with("/mean");
    let rank = |name: &&str| {
        let place = |first: &&str| match *first {
            EVERY_REWARD => is_reward(name),
            first => *name == first,
        };
        FIRST.iter().position(place).unwrap_or(FIRST.len())
    };
    let mut names: Vec<&str> = history.names().collect();
    names.sort_by_key(rank);
    names.retain(|name| !filter.is_empty() || !COUNTERS.contains(name));
    names.retain(|name| filter.passes([*name]));
    names
}

/// The part of a metric's name that distinguishes it from the other charts.
pub(super) fn short_name(metric: &str) -> Cow<'_, str> {
    if let Some(phase) = metric.strip_prefix("tokens_per_second/") {
        return format!("{phase} tokens/s").into();
    }
    let reward = metric
        .strip_prefix("rewards/")
        .and_then(|rest| rest.strip_suffix("/mean"));
    let completion = metric.strip_prefix("completions/");
    reward.or(completion).unwrap_or(metric).into()
}

/// The first and the newest step of which anything is known.
pub(super) fn whole_range(history: &History) -> Option<(f64, f64)> {
    let series = || history.names().filter_map(|name| history.get(name));
    let firsts = series().filter_map(|series| series.points().first());
    let lasts = series().filter_map(|series| series.last());
    let first = firsts.map(|(step, _)| *step).reduce(f64::min)?;
    Some((first, lasts.map(|(step, _)| step).reduce(f64::max)?))
}

/// First and last step to draw; `None` for everything.
pub(super) fn window(train: &Train, history: &History) -> Option<(f64, f64)> {
    let steps = WINDOWS.get(train.window).filter(|steps| steps.is_finite());
    let Some(steps) = steps else {
        return train.frozen;
    };
    let (_, end) = train.frozen.or_else(|| whole_range(history))?;
    Some((end - steps + 1.0, end))
}

/// What the chart of a metric borrows: its line and its reference lines.
pub(super) type Borrowed<'a> = ([Line<'a>; 1], Vec<Reference<'static>>);

pub(super) fn borrowed<'a>(open: &'a OpenRun, metric: &'a str, look: &Look) -> Borrowed<'a> {
    let points = open.history.get(metric).map(|series| series.points());
    let line = Line {
        name: metric,
        points: points.unwrap_or_default(),
        style: line_style(metric, look),
    };
    ([line], references(metric, &look.theme))
}

/// The chart of a metric.
pub(super) fn chart<'a>(
    train: &Train,
    open: &OpenRun,
    metric: &'a str,
    (lines, references): &'a Borrowed<'_>,
) -> Chart<'a> {
    let is_log = train.log_scales.contains(metric);
    Chart {
        references,
        window: window(train, &open.history),
        smoothing: SMOOTHINGS.get(train.smoothing).copied().unwrap_or(0.0),
        scale: if is_log { Scale::Log } else { Scale::Linear },
        ..Chart::new(metric, lines)
    }
}

/// The borders of a metric's healthy range, those that the alarms of [`moim_core::health`] go by,
/// the nearest to it first; none if no range is published.
fn references(metric: &str, theme: &Theme) -> Vec<Reference<'static>> {
    let Range {
        low,
        high,
        critically_low,
        critically_high,
    } = healthy(metric).unwrap_or_default();
    let borders = [
        (high, "healthy below", theme.warn),
        (low, "healthy above", theme.warn),
        (critically_low, "critical below", theme.bad),
        (critically_high, "critical above", theme.bad),
    ];
    let published = borders.into_iter().filter_map(|(value, label, style)| {
        let value = value?;
        Some(Reference {
            value,
            label,
            style,
        })
    });
    published.collect()
}

/// Metrics of one kind have one colour.
fn line_style(metric: &str, look: &Look) -> Style {
    let kind = match metric {
        "reward" => 0,
        _ if metric.starts_with("rewards/") => 1,
        _ if metric.starts_with("completions/") => 2,
        _ if metric.starts_with("tokens_per_second/") || metric.contains("time") => 3,
        _ => 4,
    };
    look.theme.series(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> History {
        let mut history = History::default();
        for name in [
            "num_tokens",
            "loss",
            "reward",
            "rewards/rouge1/std",
            "rewards/rouge1/mean",
            "rewards/bertscore/mean",
            "clip_ratio/low_mean",
        ] {
            history.push(name, 1.0, 0.5);
            history.push(name, 300.0, 0.5);
        }
        history
    }

    #[test]
    fn rewards_come_first_and_counters_only_when_they_are_asked_for() {
        let history = history();
        assert_eq!(
            names(&history, &Filter::default()),
            [
                "reward",
                "rewards/bertscore/mean",
                "rewards/rouge1/mean",
                "loss",
                "clip_ratio/low_mean",
                "rewards/rouge1/std"
            ]
        );
        assert_eq!(
            names(&history, &Filter::new("tokens|loss")),
            ["loss", "num_tokens"]
        );
        assert_eq!(names(&history, &Filter::new("nothing")), [""; 0]);
    }

    #[test]
    fn a_frozen_window_stays_where_it_was() {
        let mut history = history();
        let mut train = Train::default();
        assert_eq!(window(&train, &history), None);
        train.window = 3;
        assert_eq!(window(&train, &history), Some((101.0, 300.0)));
        train.frozen = whole_range(&history);
        history.push("loss", 400.0, 0.5);
        assert_eq!(window(&train, &history), Some((101.0, 300.0)));
        train.window = 0;
        assert_eq!(window(&train, &history), Some((1.0, 300.0)));
        train.frozen = None;
        train.window = 5;
        assert_eq!(window(&train, &history), Some((381.0, 400.0)));
    }
}
