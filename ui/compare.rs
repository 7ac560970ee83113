//! `moim compare`: two answer files item by item.

use std::path::Path;

use anyhow::{Context, Result};
use moim::metric::Metrics;
use moim::score::compare::Side;
use moim::score::{AnswerSheet, Averaging, Comparison, Resampling, ScoredFile, compare};

use crate::cli::CompareArguments;
use crate::console::{json_to_stdout, to_stderr, to_stdout};
use crate::failure::{Outcome, exit};
use crate::scoring::{Scoring, cache_of};

/// Runs the command.
pub fn run(arguments: &CompareArguments) -> Outcome {
    let sheets = [read(&arguments.a)?, read(&arguments.b)?];
    let scoring = Scoring::resolve(&arguments.scoring, folder_of(&arguments.a))?;
    let mut metrics = scoring.metrics()?;
    let a = score(&scoring, &mut metrics, &arguments.a, &sheets[0])?;
    let b = score(&scoring, &mut metrics, &arguments.b, &sheets[1])?;
    let averaging = match arguments.scoring.contest {
        true => Averaging::Contest,
        false => Averaging::AllItems,
    };
    let [sheet_a, sheet_b] = &sheets;
    let mut comparison = compare(
        Side {
            scored: &a,
            sheet: sheet_a,
        },
        Side {
            scored: &b,
            sheet: sheet_b,
        },
        &scoring.labels,
        averaging,
        &Resampling::default(),
    );
    // Files of two runs have the same names.
    comparison.a = arguments.a.display().to_string();
    comparison.b = arguments.b.display().to_string();
    if arguments.json {
        json_to_stdout(&serde_json::to_value(&comparison)?)?;
    } else {
        to_stdout(&comparison.to_text())?;
    }
    if comparison.counts.items == 0 {
        to_stderr("the two files share no labelled item: nothing to compare");
        return Ok(exit::NOTHING);
    }
    if arguments.fail_on_regression
        && let Some(reason) = regression(&comparison)
    {
        to_stderr(&format!("regression: {reason}"));
        return Ok(exit::NOTHING);
    }
    Ok(exit::DONE)
}

fn read(path: &Path) -> Result<AnswerSheet> {
    let bytes = std::fs::read(path)
        .with_context(|| format!("cannot read the answers {}", path.display()))?;
    AnswerSheet::parse(&bytes).with_context(|| format!("answers {}", path.display()))
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn score(
    scoring: &Scoring,
    metrics: &mut Metrics,
    path: &Path,
    sheet: &AnswerSheet,
) -> Result<ScoredFile> {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut scorer = scoring.scorer(metrics, cache_of(folder_of(path)))?;
    let scored = scorer.score(&name, sheet)?;
    for warning in scorer.take_warnings() {
        to_stderr(&format!("warning: {warning}"));
    }
    if let moim::score::FileState::Broken(fault) = scored.state {
        return Err(fault).with_context(|| format!("answers {}", path.display()));
    }
    Ok(scored)
}

/// Why B is worse than A by more than chance explains, if it is.
fn regression(comparison: &Comparison) -> Option<String> {
    if !comparison.only_a.is_empty() {
        return Some(format!(
            "B lacks {} item(s) that A answers, the first is {:?}",
            comparison.only_a.len(),
            comparison.only_a[0]
        ));
    }
    let delta = comparison.metrics.as_ref()?.final_mean;
    let is_noise = delta.p_value > 1.0 - comparison.resampling.confidence;
    (delta.difference < 0.0 && !is_noise).then(|| {
        format!(
            "Final Mean {:.4} to {:.4}, difference {:+.4} (p = {:.4})",
            delta.a, delta.b, delta.difference, delta.p_value
        )
    })
}
