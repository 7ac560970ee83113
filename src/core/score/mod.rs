//! Turns answers into a ranked list.
//!
//! Labels and answer files are joined by id ([`labels`], [`answers`]). Every item is scored once
//! ([`scorer`]); the scores are stored in [`cache`] and read from there without an encoder by
//! [`kept`]. The means are computed ([`average`]) and ranked with their uncertainty
//! ([`leaderboard`], [`statistics`]; [`mod@rank`] ranks a directory). Files are compared item by item
//! ([`mod@compare`]) and word by word ([`mod@diff`]). The result is written as text, JSON, CSV or
//! Markdown ([`render`]).
//!
//! ```text
//! answers ─┐
//! labels ──┴─ join ─ Metrics ─ ScoredFile ─ Leaderboard ─ render
//!                       └ scores/ cache        └ statistics
//! ```
//!
//! Nothing is skipped silently: a file without some of the items is `partial`, a file that cannot be
//! read is `broken` with its line and column, and both are listed.

pub mod answers;
pub mod average;
pub mod cache;
pub mod compare;
pub mod contest;
pub mod diff;
pub mod file;
pub mod kept;
pub mod labels;
pub mod leaderboard;
pub mod names;
pub mod rank;
pub mod render;
pub mod scorer;
pub mod statistics;

pub use answers::{Answer, AnswerSheet, Coverage, Fault};
pub use average::{Averaging, Means};
pub use cache::ScoreCache;
pub use compare::{Comparison, ItemFilter, Selection, Side, Verdict, compare};
pub use diff::{DiffUnit, Segment, SegmentKind, diff};
pub use file::{FileState, ScoredFile, ScoredItem};
pub use kept::{KeptScores, encoder_name};
pub use labels::{Label, Labels, LabelsError};
pub use leaderboard::{Delta, Difference, Intervals, Leaderboard, Provenance, Row};
pub use rank::{RankError, RankProgress, answer_files, answers_directory, cache_of, rank, run_of};
pub use scorer::Scorer;
pub use statistics::{Interval, Resampling};
