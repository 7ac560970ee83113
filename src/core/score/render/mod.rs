//! A leaderboard as text, JSON, CSV and Markdown. All four have the same content; the text has four
//! decimals, JSON and CSV every digit.

mod csv;
mod json;
mod markdown;
mod text;

pub(in crate::score) use csv::shown;
pub use csv::{csv, line as csv_line};
pub use json::json;
pub(in crate::score) use markdown::escape;
pub use markdown::markdown;
pub use text::text;
pub(in crate::score) use text::{p_value, percent};

use super::answers::Fault;
use super::file::FileState;
use super::leaderboard::{Row, is_stale};

/// A short description of a row's state: `complete`, `partial 120/127`,
/// `broken: 3:14: trailing comma`.
pub fn state_in_words(row: &Row) -> String {
    let scored = &row.scored;
    let mut words = match (&scored.state, &scored.coverage) {
        (FileState::Partial, Some(coverage)) => {
            format!("partial {}/{}", coverage.answered, coverage.expected)
        }
        (FileState::Broken(fault), _) => format!("broken: {fault}"),
        (FileState::Pending { reason }, _) => format!("pending: {reason}"),
        (state, _) => state.name().to_owned(),
    };
    if is_stale(row) {
        words.push_str(" (scores of the last good version)");
    }
    words
}

/// The fault of a broken row.
fn fault(row: &Row) -> Option<&Fault> {
    match &row.scored.state {
        FileState::Broken(fault) => Some(fault),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
