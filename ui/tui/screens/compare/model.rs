//! What the screen shows of a comparison: which items, in which order, and how they changed.

use std::borrow::Cow;

use moim_core::score::compare::{Change, ComparedItem, ItemFilter, ItemMetrics, Selection};
use moim_core::score::names::natural_order;
use moim_core::score::{Comparison, Verdict};

use super::list;
use crate::tui::filter::Filter;
pub(super) use crate::tui::screens::ranking::details::type_name;
use crate::tui::text;
use crate::tui::widgets::table::Sort;

/// A metric of an item.
#[derive(Debug)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    /// Of the column of its change.
    pub(super) heading: &'static str,
    /// Whether it is 0 or 1 for every item.
    pub(super) is_binary: bool,
    pub(super) of: fn(&ItemMetrics) -> f64,
}

const fn metric(
    name: &'static str,
    heading: &'static str,
    is_binary: bool,
    of: fn(&ItemMetrics) -> f64,
) -> Metric {
    Metric {
        name,
        heading,
        is_binary,
        of,
    }
}

/// The metrics in the order of sorting and of the details.
pub(super) static METRICS: [Metric; 5] = [
    metric("Final Mean", "change", false, |metrics| metrics.final_mean),
    metric("EM", "EM", true, |metrics| metrics.em),
    metric("ROUGE-1", "ROUGE", false, |metrics| metrics.rouge1),
    metric("BERTScore", "BERT", false, |metrics| metrics.bertscore),
    metric("Format", "form", true, |metrics| metrics.format),
];

/// Final Mean.
pub(super) static FINAL_MEAN: &Metric = &METRICS[0];

/// Which items are listed, and in which order.
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    pub(super) selection: Selection,
    /// Over ids, questions, labels and answers.
    pub(super) filter: Filter,
    /// Sorted by the change of this metric of [`METRICS`]; `None` keeps the order of the labels.
    pub(super) sorted: Option<usize>,
    pub(super) is_reversed: bool,
}

impl Query {
    /// The metric whose values the list shows.
    pub(super) fn metric(&self) -> &'static Metric {
        let metric = self.sorted.and_then(|index| METRICS.get(index));
        metric.unwrap_or(FINAL_MEAN)
    }

    /// Sorts by the next metric; after the last one in the order of the labels.
    pub(super) fn next_metric(&mut self) {
        let next = self.sorted.map_or(0, |index| index + 1);
        self.sorted = (next < METRICS.len()).then_some(next);
    }

    /// The order of the list; `None` is that of the labels.
    pub(super) fn sort(&self) -> Option<Sort> {
        self.sorted.map(|_| Sort {
            column: list::CHANGE,
            is_reversed: self.is_reversed,
        })
    }

    /// The items in their order, as indices into the comparison. Changes are those of the file
    /// `other`; items without one come last.
    pub(super) fn items(&self, comparison: &Comparison, other: usize) -> Vec<usize> {
        let mut shown: Vec<(usize, &ComparedItem)> = (0..)
            .zip(&comparison.items)
            .filter(|(_, item)| self.selection.keeps(item) && self.matches(item))
            .collect();
        if let Some(sort) = self.sort() {
            let columns = list::columns(comparison, other, self.metric());
            shown.sort_by(|(_, left), (_, right)| sort.compare(&columns, left, right));
        } else if self.is_reversed {
            shown.reverse();
        }
        shown.into_iter().map(|(index, _)| index).collect()
    }

    fn matches(&self, item: &ComparedItem) -> bool {
        if self.filter.is_empty() {
            return true;
        }
        let answers = item.answers.iter().flatten().map(|answer| &answer.text);
        let texts: Vec<Cow<'_, str>> = [&item.id, &item.question, &item.label]
            .into_iter()
            .chain(answers)
            .map(|text| composed(text))
            .collect();
        self.filter.passes(texts.iter().map(AsRef::as_ref))
    }

    /// What is listed, as text.
    pub(super) fn in_words(&self, files: usize) -> String {
        let mut words = match (self.selection.filter, files > 2) {
            (ItemFilter::All, _) => "all items",
            (ItemFilter::Changed, _) => "changed items",
            (ItemFilter::Fixed, _) => "fixed items",
            (ItemFilter::Broken, _) => "broken items",
            (ItemFilter::BothWrong, false) => "items both have wrong",
            (ItemFilter::BothRight, false) => "items both have right",
            (ItemFilter::BothWrong, true) => "items all have wrong",
            (ItemFilter::BothRight, true) => "items all have right",
        }
        .to_owned();
        if let Some(question_type) = &self.selection.question_type {
            words.push_str(&format!(", {}", type_name(question_type)));
        }
        if !self.filter.is_empty() {
            words.push_str(&format!(", /{}/", self.filter.text()));
        }
        words
    }
}

/// The text with its syllables composed. A look at each character is many times faster than
/// asking whether a text is in normal form, and every key of a filter goes over all texts.
fn composed(text: &str) -> Cow<'_, str> {
    let is_part = |sign: char| matches!(sign, '\u{300}'..='\u{36f}' | '\u{1100}'..='\u{11ff}' | '\u{d7b0}'..='\u{d7ff}');
    if text.chars().any(is_part) {
        Cow::Owned(text::nfc(text))
    } else {
        Cow::Borrowed(text)
    }
}

/// How a file is called on the screen: A, B, … Z, then by number.
pub(super) fn letter(file: usize) -> String {
    match u8::try_from(file) {
        Ok(place @ 0..26) => char::from(b'A' + place).to_string(),
        _ => (file + 1).to_string(),
    }
}

/// How an item changed from the baseline to a file.
pub(super) fn change(item: &ComparedItem, other: usize) -> Option<Change> {
    item.answers.get(other)?.as_ref()?.against_baseline
}

/// A metric of an item, a file minus the baseline; `None` if either lacks the item or the
/// metric could not be computed.
pub(super) fn delta(item: &ComparedItem, other: usize, metric: &Metric) -> Option<f64> {
    let of = |file: usize| Some((metric.of)(&item.answers.get(file)?.as_ref()?.metrics));
    let difference = of(other)? - of(0)?;
    difference.is_finite().then_some(difference)
}

fn changes(item: &ComparedItem) -> impl Iterator<Item = Change> {
    item.answers
        .iter()
        .flatten()
        .filter_map(|answer| answer.against_baseline)
}

/// Whether any file has another verdict or another answer than the baseline.
pub(super) fn is_changed(item: &ComparedItem) -> bool {
    changes(item)
        .any(|change| !change.is_same || matches!(change.verdict, Verdict::Fixed | Verdict::Broken))
}

/// Whether the baseline has it right and any file wrong.
pub(super) fn is_regression(item: &ComparedItem) -> bool {
    changes(item).any(|change| change.verdict == Verdict::Broken)
}

/// Right and wrong along the epochs, whichever file is the baseline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Course {
    /// (file, whether it is right); `None` if the file lacks the item.
    pub(super) marks: Vec<(usize, Option<bool>)>,
    /// The first file that has it right.
    pub(super) first_right: Option<usize>,
    /// How often right and wrong changed.
    pub(super) flips: usize,
}

/// The files in the order of their names, which is that of the epochs.
pub(super) fn by_time(comparison: &Comparison) -> Vec<usize> {
    let mut files: Vec<(usize, &str)> = (0..)
        .zip(comparison.files.iter().map(|file| file.file.as_str()))
        .collect();
    files.sort_by(|(_, left), (_, right)| natural_order(left, right));
    files.into_iter().map(|(file, _)| file).collect()
}

/// The course of an item along the files of [`by_time`].
pub(super) fn course(item: &ComparedItem, files: &[usize]) -> Course {
    let marks: Vec<(usize, Option<bool>)> = files
        .iter()
        .map(|&file| {
            let answer = item.answers.get(file).and_then(Option::as_ref);
            (file, answer.map(|answer| answer.metrics.is_right()))
        })
        .collect();
    let known: Vec<bool> = marks.iter().filter_map(|(_, mark)| *mark).collect();
    let first_right = marks.iter().find(|(_, mark)| *mark == Some(true));
    Course {
        first_right: first_right.map(|(file, _)| *file),
        flips: known
            .iter()
            .zip(known.iter().skip(1))
            .filter(|(one, next)| one != next)
            .count(),
        marks,
    }
}
