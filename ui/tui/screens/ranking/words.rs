//! The table in sentences, and its numbers as they are written.

use moim_core::score::statistics::Interval;
use moim_core::score::{Delta, Leaderboard, Row};
use moim_core::watch::{DirectoryCondition, WatchMode};
use ratatui::style::Style;

use crate::tui::data::World;
use crate::tui::data::ranking::Ranking as Files;
use crate::tui::screens::NO_RUN;
use crate::tui::text;
use crate::tui::theme::Theme;

/// Which file is the best and how sure that is.
pub(super) fn verdict(board: &Leaderboard) -> Vec<String> {
    let Some((best, means)) = board.best().and_then(|row| Some((row, row.means?))) else {
        return vec!["No file answers every label yet, so nothing is ranked.".to_owned()];
    };
    let mut sentences = vec![format!(
        "{} is the best: Final Mean {}.",
        best.scored.file,
        number(means.final_mean)
    )];
    if !best.tied_with.is_empty() {
        sentences.push(format!(
            "It ties with {}; the first in file order is named.",
            best.tied_with.join(", ")
        ));
    }
    let rivals: Vec<&str> = board
        .indistinguishable_from_best()
        .into_iter()
        .map(|row| row.scored.file.as_str())
        .collect();
    let items = board.provenance.items;
    sentences.push(match (rivals.is_empty(), board.ranked().count()) {
        (_, 1) => {
            "It is the only complete file, so there is nothing to compare it with.".to_owned()
        }
        (true, _) => "Every other file is worse by more than chance explains.".to_owned(),
        (false, _) => format!(
            "These {items} items do not distinguish it from {}.",
            rivals.join(", ")
        ),
    });
    sentences.extend(since_epoch_zero(best, board));
    sentences
}

/// What the best file gains over epoch 0.
fn since_epoch_zero(best: &Row, board: &Leaderboard) -> Option<String> {
    if best.scored.epoch == Some(0) {
        return Some(
            "No epoch is better than epoch 0: training has gained nothing yet.".to_owned(),
        );
    }
    let delta = best.against_epoch0.as_ref()?.final_mean;
    let verdict = if excludes_zero(delta.interval) {
        "more than chance explains"
    } else {
        "which may be chance"
    };
    Some(format!(
        "Against epoch 0 it has {}, {} % interval {}: {verdict}.",
        text::delta(delta.difference, 4),
        percent(board),
        signed_interval(delta.interval)
    ))
}

/// The confidence of the intervals, as `95`.
pub(super) fn percent(board: &Leaderboard) -> f64 {
    (board.resampling.confidence * 1e4).round() / 1e2
}

/// Both ends of the interval of a difference.
pub(in crate::tui::screens) fn signed_interval(interval: Interval) -> String {
    format!(
        "{} to {}",
        text::delta(interval.low, 4),
        text::delta(interval.high, 4)
    )
}

/// What the numbers are computed from.
pub(super) fn provenance(board: &Leaderboard) -> Vec<String> {
    let about = &board.provenance;
    vec![
        format!("{} items of {}", about.items, about.labels),
        format!("ROUGE-1 over {} tokens", about.rouge_tokenizer),
        format!("BERTScore by {}", about.encoder),
        format!("Final Mean = {}", about.averaging.formula()),
        format!(
            "{} % bootstrap intervals, {} resamples; p adjusted by Holm; * where the interval of \
             a difference excludes 0",
            percent(board),
            board.resampling.resamples
        ),
    ]
}

/// How the folder is watched and what is running.
pub(super) fn watching(files: &Files) -> String {
    let mut words = Vec::new();
    words.extend(
        files
            .scoring
            .as_ref()
            .map(|scoring| text::single_line(scoring)),
    );
    words.push(match &files.mode {
        None => "not watched yet".to_owned(),
        Some(WatchMode::Events) => "watched by notifications".to_owned(),
        Some(WatchMode::Polling { reason }) => format!("watched by polling: {reason}"),
    });
    match &files.condition {
        None | Some(DirectoryCondition::Present) => {}
        Some(DirectoryCondition::Missing) => {
            words.push(format!("{} does not exist", files.directory.display()));
        }
        Some(DirectoryCondition::Unreadable(reason)) => {
            words.push(format!(
                "{} cannot be listed: {reason}",
                files.directory.display()
            ));
        }
    }
    words.join("; ")
}

/// Said if there is no table.
pub(super) fn nothing_yet(world: &World) -> Vec<String> {
    let files = &world.ranking;
    if world.open.is_none() {
        return vec![
            "The answer files of a run are ranked here as they appear, by Final Mean with its \
             interval."
                .to_owned(),
            NO_RUN.to_owned(),
        ];
    }
    if let Some(problem) = &files.problem {
        return vec![
            "The answer files cannot be ranked:".to_owned(),
            problem.clone(),
            "Press r to try again.".to_owned(),
        ];
    }
    let mut lines = vec![match (&files.board, &files.condition) {
        (None, None | Some(DirectoryCondition::Present)) => {
            "The answer files are being read.".to_owned()
        }
        _ => format!(
            "There is no answer file in {} yet.",
            files.directory.display()
        ),
    }];
    lines.push(
        "The trainer writes one at epoch 0 and at the end of every epoch; each is ranked here as \
         soon as it exists. Press 3 to see the progress of training."
            .to_owned(),
    );
    lines.push(watching(files));
    lines
}

/// Whether a difference is more than these items leave to chance, by its interval.
pub(in crate::tui::screens) fn excludes_zero(interval: Interval) -> bool {
    interval.low > 0.0 || interval.high < 0.0
}

/// The colours of a difference: good or bad if chance does not explain it.
pub(in crate::tui::screens) fn certainty(
    difference: f64,
    interval: Interval,
    theme: &Theme,
) -> Style {
    if !excludes_zero(interval) {
        theme.text
    } else if difference > 0.0 {
        theme.good
    } else {
        theme.bad
    }
}

/// A difference with its sign; a star if its interval excludes 0.
pub(super) fn marked_difference(delta: &Delta) -> String {
    let mark = if excludes_zero(delta.interval) {
        "*"
    } else {
        " "
    };
    format!("{}{mark}", text::delta(delta.difference, 4))
}

/// A mean with four decimals; `-` if it could not be computed.
pub(in crate::tui::screens) fn number(value: f64) -> String {
    if value.is_finite() {
        format!("{value:.4}")
    } else {
        "-".to_owned()
    }
}

/// Both ends of an interval.
pub(super) fn interval(interval: Interval) -> String {
    if interval.low.is_finite() && interval.high.is_finite() {
        format!("{:.4}-{:.4}", interval.low, interval.high)
    } else {
        "-".to_owned()
    }
}

/// A p-value; of a probability zero is never claimed.
pub(in crate::tui::screens) fn probability(p: f64) -> String {
    match p {
        p if !p.is_finite() => "-".to_owned(),
        p if p < 0.00005 => "<.0001".to_owned(),
        p => format!("{p:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_probability_is_called_zero() {
        assert_eq!(probability(0.0), "<.0001");
        assert_eq!(probability(0.04996), "0.0500");
        assert_eq!(probability(f64::NAN), "-");
    }
}
