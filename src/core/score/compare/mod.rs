//! Compares answer files with a baseline, item by item: what the others fixed, what they broke, and
//! whether the difference is more than noise.
//!
//! The first file is the baseline. The epochs of a run are in chronological order. Only items with a
//! label count.

mod csv;
mod filter;
mod json;
mod markdown;
mod outcome;
mod text;

use std::collections::HashMap;

use serde::Serialize;
use unicode_normalization::UnicodeNormalization;

use super::answers::AnswerSheet;
use super::average::{Averaging, Means, item_mean};
use super::file::{ScoredFile, ScoredItem};
use super::labels::{Label, Labels};
use super::leaderboard::is_right;
use super::statistics::Resampling;

pub use filter::{ItemFilter, Selection, UnknownFilter};
pub use outcome::{Against, Counts, MetricDelta, MetricDeltas, Outcome, TypeOutcome};

/// One of the files to compare: its scores and the texts behind them.
#[derive(Clone, Copy, Debug)]
pub struct Side<'run> {
    /// The file's name in the comparison. Files of two runs have the same names, so this may be a path.
    pub name: &'run str,
    /// Scores of the file, made with the same labels and settings as the others.
    pub scored: &'run ScoredFile,
    /// The answers they were made from.
    pub sheet: &'run AnswerSheet,
}

/// A comparison of answer files, item by item.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// How means are computed.
    pub averaging: Averaging,
    /// How intervals and p-values were sampled.
    pub resampling: Resampling,
    /// In the order given; the first is the baseline.
    pub files: Vec<ComparedFile>,
    /// Every labelled item that at least one file answers, in label order.
    pub items: Vec<ComparedItem>,
}

/// One file of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedFile {
    /// As [`Side::name`].
    pub file: String,
    /// The epoch in its name, if any.
    pub epoch: Option<u64>,
    /// Labelled items that it answers.
    pub answered: usize,
    /// Means over those items; `None` if there is none.
    pub means: Option<Means>,
    /// How it differs from the baseline; `None` for the baseline itself.
    pub against_baseline: Option<Against>,
}

/// One item of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedItem {
    /// The label's id.
    pub id: String,
    /// The label's type.
    pub question_type: String,
    /// The question, empty if the label file has none.
    pub question: String,
    /// The gold answer.
    pub label: String,
    /// The answer of each file in order, `None` if the file does not have the item.
    pub answers: Vec<Option<ItemAnswer>>,
    /// Index of the first file that got it right.
    pub first_right: Option<usize>,
    /// How often the answer changed between right and wrong, along the files that have one.
    pub flips: usize,
}

/// The answer of one file to an item.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ItemAnswer {
    /// The model's text.
    pub text: String,
    /// Its scores.
    #[serde(flatten)]
    pub metrics: ItemMetrics,
    /// Against the baseline's answer; `None` for the baseline itself and if it does not have the item.
    pub against_baseline: Option<Change>,
}

/// The metrics of one item, as they are reported.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ItemMetrics {
    /// 1 or 0.
    pub format: f64,
    /// 1 or 0.
    pub em: f64,
    /// F1 of the reasons.
    pub rouge1: f64,
    /// F1 of the reasons.
    pub bertscore: f64,
    /// Mean of EM, ROUGE-1 and BERTScore.
    pub final_mean: f64,
}

impl ItemMetrics {
    /// Whether the answer is right, by exact match.
    pub fn is_right(&self) -> bool {
        is_right(self.em)
    }
}

impl From<&ScoredItem> for ItemMetrics {
    fn from(item: &ScoredItem) -> Self {
        Self {
            format: item.scores.format,
            em: item.scores.exact_match,
            rouge1: item.scores.rouge1,
            bertscore: item.scores.bertscore,
            final_mean: item_mean(&item.scores),
        }
    }
}

/// How an item changed from the baseline to another file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Change {
    /// By exact match.
    pub verdict: Verdict,
    /// Whether both answers are the same text (in NFC).
    #[serde(rename = "same")]
    pub is_same: bool,
    /// Final Mean of the item, this file minus the baseline.
    pub delta: f64,
}

/// How an item changed from the baseline to another file, by exact match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Wrong in the baseline, right in the other.
    Fixed,
    /// Right in the baseline, wrong in the other.
    Broken,
    /// Right in both.
    BothRight,
    /// Wrong in both.
    BothWrong,
}

impl Verdict {
    /// The verdict as text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Broken => "broken",
            Self::BothRight => "both right",
            Self::BothWrong => "both wrong",
        }
    }

    fn of(baseline: &ScoredItem, other: &ScoredItem) -> Self {
        let right = |item: &ScoredItem| is_right(item.scores.exact_match);
        match (right(baseline), right(other)) {
            (false, true) => Self::Fixed,
            (true, false) => Self::Broken,
            (true, true) => Self::BothRight,
            (false, false) => Self::BothWrong,
        }
    }
}

/// Compares every file with the first. Pure: same input, same numbers.
pub fn compare(
    sides: &[Side<'_>],
    labels: &Labels,
    averaging: Averaging,
    resampling: &Resampling,
) -> Comparison {
    let scores: Vec<HashMap<&str, &ScoredItem>> = sides.iter().map(by_id).collect();
    let joins: Vec<_> = sides.iter().map(|side| side.sheet.join(labels)).collect();
    let mut rows = Vec::new();
    let mut items = Vec::new();
    for (position, label) in labels.items().iter().enumerate() {
        let scores: Vec<Option<&ScoredItem>> = scores
            .iter()
            .map(|file| file.get(label.id.as_str()).copied())
            .collect();
        if scores.iter().all(Option::is_none) {
            continue;
        }
        let texts = joins.iter().map(|join| join.texts[position]);
        items.push(item(label, &scores, texts.collect()));
        rows.push(LabelScores { label, scores });
    }
    let mut against = outcome::against_baseline(&rows, sides.len(), averaging, resampling);
    let files = sides
        .iter()
        .enumerate()
        .map(|(index, side)| ComparedFile {
            file: side.name.to_owned(),
            epoch: side.scored.epoch,
            answered: side.scored.items.len(),
            means: side.scored.means(averaging),
            against_baseline: against.remove(&index),
        })
        .collect();
    Comparison {
        averaging,
        resampling: *resampling,
        files,
        items,
    }
}

/// The scores of one label in every file.
struct LabelScores<'run> {
    label: &'run Label,
    scores: Vec<Option<&'run ScoredItem>>,
}

fn by_id<'run>(side: &Side<'run>) -> HashMap<&'run str, &'run ScoredItem> {
    let items = side.scored.items.iter();
    items.map(|item| (item.id.as_str(), item)).collect()
}

fn item(label: &Label, scores: &[Option<&ScoredItem>], texts: Vec<Option<&str>>) -> ComparedItem {
    let texts: Vec<&str> = texts.into_iter().map(Option::unwrap_or_default).collect();
    let baseline = scores
        .first()
        .copied()
        .flatten()
        .zip(texts.first().copied());
    let answers: Vec<Option<ItemAnswer>> = scores
        .iter()
        .zip(&texts)
        .enumerate()
        .map(|(index, (scored, &text))| {
            let scored = (*scored)?;
            let baseline = baseline.filter(|_| index > 0);
            Some(ItemAnswer {
                text: text.to_owned(),
                metrics: scored.into(),
                against_baseline: baseline.map(|(baseline, baseline_text)| Change {
                    verdict: Verdict::of(baseline, scored),
                    is_same: text.nfc().eq(baseline_text.nfc()),
                    delta: delta(baseline, scored),
                }),
            })
        })
        .collect();
    let right: Vec<(usize, bool)> = answers
        .iter()
        .enumerate()
        .filter_map(|(index, answer)| Some((index, answer.as_ref()?.metrics.is_right())))
        .collect();
    ComparedItem {
        id: label.id.clone(),
        question_type: label.question_type.clone(),
        question: label.question.clone(),
        label: label.answer.clone(),
        first_right: right
            .iter()
            .find(|(_, right)| *right)
            .map(|(index, _)| *index),
        flips: right
            .windows(2)
            .filter(|pair| pair[0].1 != pair[1].1)
            .count(),
        answers,
    }
}

/// Final Mean of an item, the other file minus the baseline.
fn delta(baseline: &ScoredItem, other: &ScoredItem) -> f64 {
    item_mean(&other.scores) - item_mean(&baseline.scores)
}

impl Comparison {
    /// Whether any file shares an item with the baseline.
    pub fn has_pairs(&self) -> bool {
        let against =
            |file: &ComparedFile| Some(file.against_baseline.as_ref()?.outcome.counts.items);
        self.files.iter().filter_map(against).any(|items| items > 0)
    }

    /// The types that occur, as the labels spell them, in order of appearance.
    pub fn question_types(&self) -> Vec<&str> {
        in_order(self.items.iter().map(|item| item.question_type.as_str()))
    }

    /// The items that a selection keeps, in label order.
    pub fn selected<'all>(
        &'all self,
        selection: &'all Selection,
    ) -> impl Iterator<Item = &'all ComparedItem> {
        self.items.iter().filter(|item| selection.keeps(item))
    }
}

/// The distinct words in order of first appearance.
fn in_order<'word>(words: impl Iterator<Item = &'word str>) -> Vec<&'word str> {
    let mut order: Vec<&str> = Vec::new();
    for word in words {
        if !order.contains(&word) {
            order.push(word);
        }
    }
    order
}

#[cfg(test)]
mod tests;
