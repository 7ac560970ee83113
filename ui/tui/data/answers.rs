//! Completions as they were sampled, read by the page.

use std::path::PathBuf;

use moim_core::run::CompletionRecord;

/// Which completions to read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AnswersQuery {
    /// The run.
    pub run: PathBuf,
    /// Told back with the page, so that an answer to an older question is known.
    pub number: u64,
    /// Which group to show.
    pub place: Place,
    /// Only groups of the question with this id: its history over the steps.
    pub id: Option<String>,
    /// Only groups of this question type.
    pub question_type: Option<String>,
    /// Only groups where prompt, label or a completion match; see [`Filter`](super::super::filter::Filter).
    pub filter: Option<String>,
}

/// A place in the sequence of groups that a query leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// The newest group.
    #[default]
    Latest,
    /// The oldest group.
    First,
    /// The group at or after this one.
    At(GroupPlace),
    /// The next group after this one; the same where it is the last.
    After(GroupPlace),
    /// The group before this one; the same where it is the first.
    Before(GroupPlace),
}

/// Where a group lies: the byte offset of its first line in completions.jsonl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupPlace(pub u64);

/// The completions of one prompt at one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    pub place: GroupPlace,
    pub step: usize,
    pub epoch: usize,
    pub id: String,
    pub question_type: String,
    /// In the order of `sample`.
    pub completions: Vec<CompletionRecord>,
}

/// A group in the list beside the one that is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupLine {
    pub place: GroupPlace,
    pub step: usize,
    pub id: String,
    pub question_type: String,
    /// Mean of the combined rewards.
    pub mean_reward: Option<f64>,
    /// Whether all rewards are the same, so that the group teaches nothing.
    pub is_constant: bool,
    /// The prompt's last line with content, shortened.
    pub question: String,
}

/// The answer to an [`AnswersQuery`].
#[derive(Clone, Debug, PartialEq)]
pub struct AnswersPage {
    pub run: PathBuf,
    pub number: u64,
    /// The group asked for; `None` where nothing matches.
    pub group: Option<Group>,
    /// Groups around it, in the order of the file; the shown one is among them.
    pub neighbours: Vec<GroupLine>,
    /// Whether there is a later group that matches.
    pub has_later: bool,
    /// Whether there is an earlier group that matches.
    pub has_earlier: bool,
    /// What could not be read, or how much of a long file the search has covered, in words.
    pub note: Option<String>,
}
