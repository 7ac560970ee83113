//! `moim export`: a run, finished or not, in the formats of other programs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use moim_core::experiment::Reporter;
use moim_core::report::{self, Point};
use moim_core::run::{RunDir, publish};
use ratatui::style::Style;

use crate::cli::{ExportArguments, ExportFormat};
use crate::console::{to_stderr, to_stdout};
use crate::failure::{Outcome, exit, of_work};
use crate::tui::{Chart, Line};

/// Width and height of an image in pixels.
const IMAGE: (u32, u32) = (800, 450);

/// The images: file name, title, and the metrics in it. A star matches any part of a name.
const CHARTS: [(&str, &str, &[&str]); 14] = [
    ("reward", "reward", &["train/reward"]),
    ("rewards", "rewards, mean", &["train/rewards/*/mean"]),
    (
        "reward_std",
        "spread of rewards",
        &["train/reward_std", "train/reward_group_std"],
    ),
    ("loss", "loss", &["train/loss"]),
    ("kl", "KL divergence", &["train/kl"]),
    ("entropy", "entropy", &["train/entropy"]),
    ("grad_norm", "gradient norm", &["train/grad_norm"]),
    ("learning_rate", "learning rate", &["train/learning_rate"]),
    (
        "lengths",
        "length of completions, tokens",
        &["train/completions/*_length"],
    ),
    (
        "clipped_ratio",
        "completions cut at the limit",
        &["train/completions/clipped_ratio"],
    ),
    ("seconds", "seconds of a step", &["train/time/*"]),
    (
        "tokens_per_second",
        "tokens per second",
        &["train/tokens_per_second/*"],
    ),
    (
        "scores",
        "scores of checkpoints",
        &[
            "eval/final_mean",
            "eval/em",
            "eval/rouge1",
            "eval/bertscore",
        ],
    ),
    (
        "scores_by_type",
        "Final Mean by question type",
        &["eval/*/final_mean"],
    ),
];

/// Runs the command. Exit code 1 if the run has no metrics to draw.
pub fn run(arguments: &ExportArguments) -> Outcome {
    let run = RunDir::open(&arguments.run)?;
    let folder = arguments.output.clone().unwrap_or_else(|| {
        let format = arguments.format.name();
        run.path().join("export").join(format)
    });
    let format = match arguments.format {
        ExportFormat::Tensorboard => Reporter::Tensorboard,
        ExportFormat::Wandb => Reporter::Wandb,
        ExportFormat::Csv => Reporter::Csv,
        ExportFormat::Svg => return draw(&run, &folder),
    };
    let exported = report::export(&run, format, &folder).map_err(of_work)?;
    if exported.unreadable > 0 {
        to_stderr(&format!(
            "warning: {} line(s) of the logs of {} cannot be read and were left out",
            exported.unreadable,
            run.path().display()
        ));
    }
    to_stdout(&format!("{}\n", exported.path.display()))?;
    Ok(exit::DONE)
}

fn draw(run: &RunDir, folder: &Path) -> Outcome {
    let points = report::points(run)?;
    let drawn = draw_charts(&points, folder).map_err(of_work)?;
    if drawn == 0 {
        to_stderr(&format!(
            "{} has no metrics yet; there is something to draw after its first step",
            run.path().display()
        ));
        return Ok(exit::NOTHING);
    }
    to_stdout(&format!("{}\n", folder.display()))?;
    Ok(exit::DONE)
}

/// Writes an image for each chart that has values; returns how many.
fn draw_charts(points: &[Point], folder: &Path) -> Result<usize> {
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot create the folder {}", folder.display()))?;
    let mut drawn = 0;
    for (file, title, patterns) in CHARTS {
        let series = series_of(points, patterns);
        let lines: Vec<Line<'_>> = series
            .iter()
            .map(|(name, points)| Line {
                name: name.split_once('/').map_or(name, |(_, name)| name),
                points,
                style: Style::new(),
            })
            .collect();
        if lines.is_empty() {
            continue;
        }
        let svg = Chart::new(title, &lines).to_svg(IMAGE.0, IMAGE.1);
        publish(&folder.join(format!("{file}.svg")), svg.as_bytes())?;
        drawn += 1;
    }
    Ok(drawn)
}

/// The values of each metric over steps, in the order of the patterns, then of the log.
fn series_of<'a>(points: &'a [Point], patterns: &[&str]) -> Vec<(&'a str, Vec<(f64, f64)>)> {
    let mut series: Vec<(&str, Vec<(f64, f64)>)> = Vec::new();
    for pattern in patterns {
        for point in points {
            for (name, value) in &point.scalars {
                if !is_like(name, pattern) {
                    continue;
                }
                let at = (point.step as f64, *value);
                match series.iter_mut().find(|(known, _)| known == name) {
                    Some((_, values)) => values.push(at),
                    None => series.push((name, vec![at])),
                }
            }
        }
    }
    series
}

fn is_like(name: &str, pattern: &str) -> bool {
    let Some((start, end)) = pattern.split_once('*') else {
        return name == pattern;
    };
    let middle = name
        .strip_prefix(start)
        .and_then(|rest| rest.strip_suffix(end));
    middle.is_some_and(|middle| !middle.is_empty())
}

#[cfg(test)]
mod tests {
    use moim_core::run::{Event, Metrics, Step};

    use super::*;

    fn points() -> Vec<Point> {
        let step = |step: usize, reward: f64| {
            let metrics = Metrics::default()
                .with("reward", reward)
                .with("rewards/format/mean", reward)
                .with("rewards/길이/mean", 1.0)
                .with("rewards/format/std", 0.5);
            Event::new(Step {
                step,
                total_steps: 3,
                metrics,
            })
        };
        [step(1, 0.25), step(2, f64::NAN), step(3, 0.75)]
            .iter()
            .filter_map(Point::of_event)
            .collect()
    }

    #[test]
    fn a_pattern_gathers_the_metrics_of_its_kind() {
        let points = points();
        let series = series_of(&points, &["train/rewards/*/mean", "train/reward"]);
        let names: Vec<&str> = series.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            [
                "train/rewards/format/mean",
                "train/rewards/길이/mean",
                "train/reward"
            ]
        );
        assert_eq!((series[2].1[0], series[2].1[2]), ((1.0, 0.25), (3.0, 0.75)));
        assert!(series[2].1[1].1.is_nan());
    }

    #[test]
    fn only_metrics_that_are_there_are_drawn() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(draw_charts(&points(), folder.path()).unwrap(), 2);
        let svg = fs::read_to_string(folder.path().join("rewards.svg")).unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("rewards/길이/mean"));
        assert_eq!(draw_charts(&[], folder.path()).unwrap(), 0);
    }
}
