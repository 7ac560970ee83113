//! Turns per-item scores into the means of a file and its Final Mean, in two ways: over all items,
//! and as in the contest's official evaluation.

use serde::Serialize;

use crate::metric::ItemScores;

/// How a file's means and its Final Mean are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Averaging {
    /// Every metric over all items, with a missing reason counting as 0;
    /// Final Mean = (ROUGE-1 + BERTScore + EM) / 3.
    AllItems,
    /// The official evaluation of the 2025 contest, without its third measure:
    /// EM over all items, ROUGE-1 and BERTScore over the items where both sides
    /// have a reason; final = (EM + (ROUGE-1 + BERTScore) / 2) / 2. The official
    /// value averages BLEURT in with those two, and BLEURT is not computed here.
    Contest,
}

impl Averaging {
    /// The formula of the Final Mean as text, for headers.
    pub fn formula(self) -> &'static str {
        match self {
            Self::AllItems => "(ROUGE-1 + BERTScore + EM) / 3 over all items",
            Self::Contest => {
                "(EM + (ROUGE-1 + BERTScore) / 2) / 2, contest way without BLEURT; \
                 ROUGE-1 and BERTScore over the items with both reasons"
            }
        }
    }

    /// The reported values, computed from column sums over `items` items.
    pub(super) fn values(self, items: f64, sums: [f64; COLUMNS]) -> [f64; VALUES] {
        let [exact_match, rouge1, bertscore, reasons] = sums;
        let em = exact_match / items;
        match self {
            Self::AllItems => {
                let (rouge1, bertscore) = (rouge1 / items, bertscore / items);
                [rouge1, bertscore, em, (rouge1 + bertscore + em) / 3.0]
            }
            Self::Contest => {
                // Without any pair of reasons the sums are 0 as well.
                let reasons = reasons.max(1.0);
                let (rouge1, bertscore) = (rouge1 / reasons, bertscore / reasons);
                [
                    rouge1,
                    bertscore,
                    em,
                    (em + (rouge1 + bertscore) / 2.0) / 2.0,
                ]
            }
        }
    }
}

/// Columns of a sample: exact match, ROUGE-1, BERTScore, has both reasons.
pub(super) const COLUMNS: usize = 4;
/// Reported values: ROUGE-1, BERTScore, EM, Final Mean.
pub(super) const VALUES: usize = 4;

/// The columns of one file, `[column][item]`.
pub(super) fn columns(scores: impl Iterator<Item = ItemScores>) -> [Vec<f64>; COLUMNS] {
    let mut columns: [Vec<f64>; COLUMNS] = Default::default();
    for item in scores {
        let has_reasons = f64::from(u8::from(!item.reason_missing));
        let row = [item.exact_match, item.rouge1, item.bertscore, has_reasons];
        for (column, value) in columns.iter_mut().zip(row) {
            column.push(value);
        }
    }
    columns
}

/// The means of a set of items.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Means {
    /// ROUGE-1 F1 of the reasons, 0 to 1.
    pub rouge1: f64,
    /// BERTScore F1 of the reasons.
    pub bertscore: f64,
    /// Share of exact matches.
    pub em: f64,
    /// See [`Averaging`].
    pub final_mean: f64,
    /// Share of completions in the required form; not part of the Final Mean.
    pub format: f64,
}

impl Means {
    /// Means of the given items; `None` when there is none.
    pub fn of(scores: impl Iterator<Item = ItemScores>, averaging: Averaging) -> Option<Self> {
        let mut format = 0.0;
        let columns = columns(scores.inspect(|item| format += item.format));
        let items = columns[0].len();
        if items == 0 {
            return None;
        }
        let sums = columns.map(|column| column.iter().sum());
        let [rouge1, bertscore, em, final_mean] = averaging.values(items as f64, sums);
        Some(Self {
            rouge1,
            bertscore,
            em,
            final_mean,
            format: format / items as f64,
        })
    }
}

/// The Final Mean of a single item, for per-item comparisons.
pub fn item_mean(scores: &ItemScores) -> f64 {
    (scores.rouge1 + scores.bertscore + scores.exact_match) / 3.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(exact_match: f64, rouge1: f64, bertscore: f64, reason_missing: bool) -> ItemScores {
        ItemScores {
            format: exact_match,
            exact_match,
            rouge1,
            bertscore,
            reason_missing,
        }
    }

    #[test]
    fn a_missing_reason_counts_zero_or_leaves_the_average() {
        let items = [item(1.0, 0.4, 0.8, false), item(0.0, 0.0, 0.0, true)];
        let all = Means::of(items.into_iter(), Averaging::AllItems).unwrap();
        assert_eq!((all.rouge1, all.bertscore, all.em), (0.2, 0.4, 0.5));
        assert!((all.final_mean - (0.2 + 0.4 + 0.5) / 3.0).abs() < 1e-15);
        let contest = Means::of(items.into_iter(), Averaging::Contest).unwrap();
        assert_eq!(
            (contest.rouge1, contest.bertscore, contest.em),
            (0.4, 0.8, 0.5)
        );
        assert!((contest.final_mean - (0.5 + 0.6) / 2.0).abs() < 1e-15);
    }

    #[test]
    fn no_items_have_no_mean_and_missing_reasons_do_not_divide_by_zero() {
        assert_eq!(Means::of([].into_iter(), Averaging::AllItems), None);
        let silent = [item(1.0, 0.0, 0.0, true)];
        let contest = Means::of(silent.into_iter(), Averaging::Contest).unwrap();
        assert_eq!(contest.final_mean, 0.5);
    }

    #[test]
    fn the_design_example_adds_up() {
        let [.., final_mean] = Averaging::AllItems.values(1.0, [0.5528, 0.4132, 0.6871, 1.0]);
        assert_eq!(format!("{final_mean:.4}"), "0.5510");
    }
}
