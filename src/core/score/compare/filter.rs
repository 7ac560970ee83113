//! Selects items of a comparison.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use thiserror::Error;
use unicode_normalization::UnicodeNormalization;

use super::super::file::shown_type;
use super::{ComparedItem, Verdict};

/// A choice of items by their verdicts against the baseline.
///
/// With more than two files, changed, fixed and broken need the verdict of one file, both wrong and
/// both right that of every file. An item without a verdict, because an answer is missing, only
/// matches `All`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemFilter {
    /// Every item.
    #[default]
    All,
    /// Fixed or broken in some file.
    Changed,
    /// Wrong in the baseline, right in some file.
    Fixed,
    /// Right in the baseline, wrong in some file.
    Broken,
    /// Wrong in every file.
    BothWrong,
    /// Right in every file.
    BothRight,
}

/// A word that names no [`ItemFilter`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("write one of all, changed, fixed, broken, both-wrong, both-right")]
pub struct UnknownFilter;

impl ItemFilter {
    /// In display order.
    pub const ALL: [Self; 6] = [
        Self::All,
        Self::Changed,
        Self::Fixed,
        Self::Broken,
        Self::BothWrong,
        Self::BothRight,
    ];

    /// The word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Changed => "changed",
            Self::Fixed => "fixed",
            Self::Broken => "broken",
            Self::BothWrong => "both-wrong",
            Self::BothRight => "both-right",
        }
    }

    /// Whether the item matches.
    pub fn keeps(self, item: &ComparedItem) -> bool {
        let any = |wanted: &[Verdict]| verdicts(item).any(|verdict| wanted.contains(&verdict));
        let every = |wanted| any(&[wanted]) && verdicts(item).all(|verdict| verdict == wanted);
        match self {
            Self::All => true,
            Self::Changed => any(&[Verdict::Fixed, Verdict::Broken]),
            Self::Fixed => any(&[Verdict::Fixed]),
            Self::Broken => any(&[Verdict::Broken]),
            Self::BothWrong => every(Verdict::BothWrong),
            Self::BothRight => every(Verdict::BothRight),
        }
    }
}

fn verdicts(item: &ComparedItem) -> impl Iterator<Item = Verdict> {
    let answers = item.answers.iter().flatten();
    answers.filter_map(|answer| Some(answer.against_baseline?.verdict))
}

impl fmt::Display for ItemFilter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for ItemFilter {
    type Err = UnknownFilter;

    fn from_str(word: &str) -> Result<Self, UnknownFilter> {
        let mut all = Self::ALL.into_iter();
        all.find(|filter| filter.as_str() == word)
            .ok_or(UnknownFilter)
    }
}

/// The items that are shown or exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// By verdict.
    pub filter: ItemFilter,
    /// Only this question type, as spelled in the labels or in reports; `None` for every type.
    pub question_type: Option<String>,
}

impl Selection {
    /// Whether the item is part of it.
    pub fn keeps(&self, item: &ComparedItem) -> bool {
        let is_of_type = |wanted: &String| {
            // Some terminals and file names use decomposed Hangul.
            let of = |kind: &str| kind.nfc().eq(wanted.nfc());
            of(&item.question_type) || of(shown_type(&item.question_type))
        };
        self.filter.keeps(item) && self.question_type.as_ref().is_none_or(is_of_type)
    }

    /// A description such as `changed, 선택형`.
    pub fn description(&self) -> String {
        match &self.question_type {
            Some(question_type) => format!("{}, {question_type}", self.filter),
            None => self.filter.to_string(),
        }
    }
}
