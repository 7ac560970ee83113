//! What the table comes to, in sentences.

use moim_core::score::statistics::Interval;
use moim_core::score::{Leaderboard, Row};
use moim_core::watch::{DirectoryCondition, WatchMode};

use super::columns::{excludes_zero, number};
use crate::tui::data::World;
use crate::tui::data::ranking::Ranking as Files;
use crate::tui::screens::NO_RUN;
use crate::tui::text;

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
            "These {items} items do not tell it apart from {}.",
            rivals.join(", ")
        ),
    });
    sentences.extend(since_epoch_zero(best, board));
    sentences
}

/// What training has gained by the best file.
fn since_epoch_zero(best: &Row, board: &Leaderboard) -> Option<String> {
    if best.scored.epoch == Some(0) {
        return Some(
            "No epoch is better than epoch 0: training has gained nothing yet.".to_owned(),
        );
    }
    let delta = best.against_epoch0.as_ref()?.final_mean;
    let verdict = match excludes_zero(delta.interval) {
        true => "more than chance explains",
        false => "which may be chance",
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

/// What the numbers are made of.
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

/// How the folder is watched and what is being done.
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
            words.push(format!("{} is not there", files.directory.display()));
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

/// What is said where there is no table.
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
         soon as it is there. Press 3 to see how far training is."
            .to_owned(),
    );
    lines.push(watching(files));
    lines
}
