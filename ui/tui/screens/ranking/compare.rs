//! Which files are compared, from what is marked and what there is.

use std::path::Path;

use moim_core::score::names::natural_order;
use moim_core::score::{FileState, Leaderboard, Row};

use crate::tui::message::{Command, Effect, Notice};
use crate::tui::state::Screen;

/// Files to compare, the baseline first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tui::screens) struct Choice {
    pub(in crate::tui::screens) files: Vec<String>,
    /// Why these.
    pub(in crate::tui::screens) words: String,
}

/// Whether a file has answers that can be read and scored.
fn is_comparable(row: &Row) -> bool {
    matches!(row.scored.state, FileState::Complete | FileState::Partial)
        && !row.scored.items.is_empty()
}

/// Chooses by the marks: two or more marked files against each other, one marked file and the
/// best, or with none what [`best_and_first`] returns. The earliest epoch is the baseline.
///
/// # Errors
/// A message: what is missing.
pub(super) fn choice(board: &Leaderboard, marked: Vec<&str>) -> Result<Choice, String> {
    let row_of = |file: &str| board.rows.iter().find(|row| row.scored.file == file);
    for file in &marked {
        match row_of(file) {
            Some(row) if is_comparable(row) => {}
            Some(row) => {
                let state = row.scored.state.name();
                return Err(format!(
                    "{file} is {state} and cannot be compared; space unmarks it"
                ));
            }
            None => return Err(format!("{file} no longer exists; space unmarks it")),
        }
    }
    match (marked.as_slice(), board.best()) {
        ([], _) => best_and_first(board).ok_or_else(|| {
            "mark at least two files with space; there is nothing to compare yet".to_owned()
        }),
        ([file], Some(best)) if best.scored.file != *file => {
            let words = format!("{file} and the best");
            Ok(in_order(vec![file, &best.scored.file], words))
        }
        ([file], _) => {
            let Some(choice) = best_and_first(board).filter(|choice| choice.is_about(file)) else {
                return Err(format!("mark another file to compare {file} with"));
            };
            Ok(choice)
        }
        (marked, _) => {
            let words = format!("{} marked files", marked.len());
            Ok(in_order(marked.to_vec(), words))
        }
    }
}

/// The best complete file against epoch 0; if there is none or it is the best, against the
/// first or the last other file. `None` without two complete files.
pub(in crate::tui::screens) fn best_and_first(board: &Leaderboard) -> Option<Choice> {
    let best = board.ranked().find(|row| is_comparable(row))?;
    let mut others: Vec<&Row> = board
        .ranked()
        .filter(|row| is_comparable(row) && row.scored.file != best.scored.file)
        .collect();
    others.sort_by(|left, right| natural_order(&left.scored.file, &right.scored.file));
    let epoch_zero = others.iter().find(|row| row.scored.epoch == Some(0));
    let (other, name) = match (epoch_zero, best.scored.epoch) {
        (Some(row), _) => (*row, "epoch 0"),
        (None, Some(0)) => (*others.last()?, "the last file"),
        (None, _) => (*others.first()?, "the first file"),
    };
    let words = format!("the best and {name}");
    Some(in_order(vec![&other.scored.file, &best.scored.file], words))
}

/// Time runs along the names, so the earliest file is what the others are compared with.
fn in_order(mut files: Vec<&str>, words: String) -> Choice {
    files.sort_by(|left, right| natural_order(left, right));
    Choice {
        files: files.into_iter().map(str::to_owned).collect(),
        words,
    }
}

impl Choice {
    fn is_about(&self, file: &str) -> bool {
        self.files.iter().any(|known| known == file)
    }
}

/// Goes to the Compare screen and has the comparison made.
pub(super) fn commands(run: &Path, choice: Choice) -> Vec<Command> {
    let Choice { files, words } = choice;
    let baseline = files.first().cloned().unwrap_or_default();
    let run = run.to_owned();
    vec![
        // Before the screen is shown, which would request another comparison.
        Effect::Compare { run, files }.into(),
        Command::Show(Screen::Compare),
        Notice::info(format!("comparing {words}; {baseline} is the baseline")),
    ]
}
