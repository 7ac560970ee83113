//! One scored answer file: its state, its items and its means.

use std::collections::BTreeMap;

use serde::Serialize;

use super::answers::{Coverage, Fault};
use super::average::{Averaging, Means};
use crate::metric::ItemScores;

/// The state of an answer file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileState {
    /// Every label has an answer.
    Complete,
    /// Readable, but some labels have no usable answer.
    Partial,
    /// Still being written, or not read yet.
    Pending {
        /// What it is waiting for.
        reason: String,
    },
    /// Cannot be read or scored.
    Broken(Fault),
    /// No longer exists.
    Gone,
}

impl FileState {
    /// The word for this state in every report.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Partial => "partial",
            Self::Pending { .. } => "pending",
            Self::Broken(_) => "broken",
            Self::Gone => "gone",
        }
    }
}

/// The scores of one item.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredItem {
    /// The label's id.
    pub id: String,
    /// The label's type as spelled in its file.
    pub question_type: String,
    /// The four metrics.
    pub scores: ItemScores,
}

/// One answer file with its scores. If the file is pending, broken or gone, `coverage` and `items`
/// are those of its last good version, if there was one.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredFile {
    /// File name without its directory.
    pub file: String,
    /// The epoch in the name, if any.
    pub epoch: Option<u64>,
    /// The current state of the file.
    pub state: FileState,
    /// How the answers cover the labels; `None` if never read.
    pub coverage: Option<Coverage>,
    /// Scores of the answered items, in label order.
    pub items: Vec<ScoredItem>,
}

impl ScoredFile {
    /// A file without scores.
    pub fn unscored(file: &str, state: FileState) -> Self {
        Self {
            file: file.to_owned(),
            epoch: super::names::epoch_of(file),
            state,
            coverage: None,
            items: Vec::new(),
        }
    }

    /// Whether the scores, of the current or of the last good version, cover every label. A deleted
    /// file is not ranked.
    pub fn is_ranked(&self) -> bool {
        self.state != FileState::Gone
            && self.coverage.as_ref().is_some_and(Coverage::is_complete)
            && !self.items.is_empty()
    }

    /// Means over all scored items; `None` when there is none.
    pub fn means(&self, averaging: Averaging) -> Option<Means> {
        Means::of(self.items.iter().map(|item| item.scores), averaging)
    }

    /// Means of each question type: 선택형, 교정형, then the others by name.
    pub fn means_by_type(&self, averaging: Averaging) -> Vec<TypeMeans> {
        let mut groups: BTreeMap<(usize, &str), Vec<ItemScores>> = BTreeMap::new();
        for item in &self.items {
            groups
                .entry(type_order(&item.question_type))
                .or_default()
                .push(item.scores);
        }
        groups
            .into_iter()
            .filter_map(|((_, question_type), scores)| {
                Some(TypeMeans {
                    question_type: question_type.to_owned(),
                    items: scores.len(),
                    means: Means::of(scores.into_iter(), averaging)?,
                })
            })
            .collect()
    }
}

/// Means over the items of one question type.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TypeMeans {
    /// 선택형, 교정형 or another type in the labels.
    #[serde(skip)]
    pub question_type: String,
    /// Number of items.
    pub items: usize,
    /// Their means.
    #[serde(flatten)]
    pub means: Means,
}

/// 선택형, then 교정형, then the others by name; an absent type is last.
fn type_order(question_type: &str) -> (usize, &str) {
    let order = match question_type {
        "선택형" => 0,
        "교정형" => 1,
        "" => 3,
        _ => 2,
    };
    (order, shown_type(question_type))
}

/// A question type for reports.
pub(super) fn shown_type(question_type: &str) -> &str {
    match question_type {
        "" => "(no type)",
        named => named,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_listed_in_a_fixed_order() {
        let scores = ItemScores {
            format: 1.0,
            exact_match: 1.0,
            rouge1: 0.5,
            bertscore: 0.6,
            reason_missing: false,
        };
        let items = ["", "교정형", "서술형", "선택형", "교정형"].map(|kind| ScoredItem {
            id: String::new(),
            question_type: kind.to_owned(),
            scores,
        });
        let file = ScoredFile {
            items: items.to_vec(),
            ..ScoredFile::unscored("inference_epoch3.json", FileState::Complete)
        };
        assert_eq!(file.epoch, Some(3));
        let types: Vec<(String, usize)> = file
            .means_by_type(Averaging::AllItems)
            .into_iter()
            .map(|means| (means.question_type, means.items))
            .collect();
        let expected = [
            ("선택형", 1),
            ("교정형", 2),
            ("서술형", 1),
            ("(no type)", 1),
        ];
        assert_eq!(
            types,
            expected.map(|(name, count)| (name.to_owned(), count))
        );
        assert!(!file.is_ranked(), "never joined to labels");
    }
}
