//! Two answer files item by item: what the second fixed, what it broke, and
//! whether the difference is more than noise.

use std::collections::HashMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::answers::AnswerSheet;
use super::average::{self, Averaging, COLUMNS, item_mean};
use super::file::{ScoredFile, ScoredItem};
use super::labels::Labels;
use super::leaderboard::{borrow, is_right};
use super::render::p_value;
use super::statistics::{
    Interval, Resampling, bootstrap, fair_coin_p_value, percentile_interval, permutation_p_values,
};

/// One side of a comparison: the scores of a file and the texts behind them.
#[derive(Clone, Copy, Debug)]
pub struct Side<'run> {
    /// Scores of the file.
    pub scored: &'run ScoredFile,
    /// The answers they were made from.
    pub sheet: &'run AnswerSheet,
}

/// What became of an item from the first file to the second, by exact match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Wrong in the first, right in the second.
    Fixed,
    /// Right in the first, wrong in the second.
    Broken,
    /// Right in both.
    BothRight,
    /// Wrong in both.
    BothWrong,
}

impl Verdict {
    /// The verdict in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fixed => "fixed",
            Self::Broken => "broken",
            Self::BothRight => "both right",
            Self::BothWrong => "both wrong",
        }
    }
}

/// One item that both files answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComparedItem {
    /// The label's id.
    pub id: String,
    /// The label's type.
    pub question_type: String,
    /// The question, empty where the label file has none.
    pub question: String,
    /// The gold answer.
    pub label: String,
    /// What the first file answers.
    pub answer_a: String,
    /// What the second file answers.
    pub answer_b: String,
    /// By exact match.
    pub verdict: Verdict,
    /// Scores of the first file.
    pub a: ItemMetrics,
    /// Scores of the second file.
    pub b: ItemMetrics,
    /// Final Mean of this item, second minus first.
    pub delta: f64,
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

/// Number of items by verdict and by which side has the higher item mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Items compared.
    pub items: usize,
    /// See [`Verdict::Fixed`].
    pub fixed: usize,
    /// See [`Verdict::Broken`].
    pub broken: usize,
    /// See [`Verdict::BothRight`].
    pub both_right: usize,
    /// See [`Verdict::BothWrong`].
    pub both_wrong: usize,
    /// Items whose Final Mean is higher in the second file.
    pub wins: usize,
    /// Items whose Final Mean is lower in the second file.
    pub losses: usize,
    /// Items with the same Final Mean.
    pub ties: usize,
}

/// Second minus first of one metric, over the shared items.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MetricDelta {
    /// Mean of the first file.
    pub a: f64,
    /// Mean of the second file.
    pub b: f64,
    /// `b - a`.
    pub difference: f64,
    /// Paired bootstrap interval of the difference.
    pub interval: Interval,
    /// Two-sided: paired permutation test, for EM the exact McNemar test.
    pub p_value: f64,
}

/// The metrics of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MetricDeltas {
    /// ROUGE-1.
    pub rouge1: MetricDelta,
    /// BERTScore.
    pub bertscore: MetricDelta,
    /// Exact match.
    pub em: MetricDelta,
    /// The Final Mean.
    pub final_mean: MetricDelta,
}

/// A comparison of two answer files over the items both answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Name of the first file.
    pub a: String,
    /// Name of the second file.
    pub b: String,
    /// How means are formed.
    pub averaging: Averaging,
    /// How intervals and p-values were drawn.
    pub resampling: Resampling,
    /// Over all shared items.
    pub counts: Counts,
    /// `None` when the files share no item.
    pub metrics: Option<MetricDeltas>,
    /// Sign test of wins against losses.
    pub sign_test_p_value: f64,
    /// Counts and mean Final Mean difference of each question type, in label
    /// order of first appearance.
    pub types: Vec<TypeComparison>,
    /// Labelled ids that only the first file answers.
    pub only_a: Vec<String>,
    /// Labelled ids that only the second file answers.
    pub only_b: Vec<String>,
    /// Every shared item in label order.
    pub items: Vec<ComparedItem>,
}

/// One question type of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TypeComparison {
    /// As the labels spell it.
    pub question_type: String,
    /// Over its items.
    pub counts: Counts,
    /// Mean over its items of the difference of item means.
    pub difference: f64,
}

/// Compares `b` with `a`. Pure: same input, same numbers.
pub fn compare(
    a: Side<'_>,
    b: Side<'_>,
    labels: &Labels,
    averaging: Averaging,
    resampling: &Resampling,
) -> Comparison {
    let (scores_a, scores_b) = (by_id(a.scored), by_id(b.scored));
    let (join_a, join_b) = (a.sheet.join(labels), b.sheet.join(labels));
    let (mut only_a, mut only_b, mut items, mut shared) = (vec![], vec![], vec![], vec![]);
    for (position, label) in labels.items().iter().enumerate() {
        match (
            scores_a.get(label.id.as_str()),
            scores_b.get(label.id.as_str()),
        ) {
            (Some(&item_a), Some(&item_b)) => {
                shared.push((item_a, item_b));
                items.push(ComparedItem {
                    id: label.id.clone(),
                    question_type: label.question_type.clone(),
                    question: label.question.clone(),
                    label: label.answer.clone(),
                    answer_a: join_a.texts[position].unwrap_or_default().to_owned(),
                    answer_b: join_b.texts[position].unwrap_or_default().to_owned(),
                    verdict: verdict(item_a, item_b),
                    a: item_a.into(),
                    b: item_b.into(),
                    delta: item_mean(&item_b.scores) - item_mean(&item_a.scores),
                });
            }
            (Some(_), None) => only_a.push(label.id.clone()),
            (None, Some(_)) => only_b.push(label.id.clone()),
            (None, None) => {}
        }
    }
    let counts = count(items.iter());
    Comparison {
        a: a.scored.file.clone(),
        b: b.scored.file.clone(),
        averaging,
        resampling: *resampling,
        metrics: metric_deltas(&shared, &counts, averaging, resampling),
        sign_test_p_value: fair_coin_p_value(counts.wins, counts.losses),
        types: compare_types(&items),
        counts,
        only_a,
        only_b,
        items,
    }
}

fn by_id(file: &ScoredFile) -> HashMap<&str, &ScoredItem> {
    file.items
        .iter()
        .map(|item| (item.id.as_str(), item))
        .collect()
}

fn verdict(a: &ScoredItem, b: &ScoredItem) -> Verdict {
    match (
        is_right(a.scores.exact_match),
        is_right(b.scores.exact_match),
    ) {
        (false, true) => Verdict::Fixed,
        (true, false) => Verdict::Broken,
        (true, true) => Verdict::BothRight,
        (false, false) => Verdict::BothWrong,
    }
}

fn count<'item>(items: impl Iterator<Item = &'item ComparedItem>) -> Counts {
    /// Below this, two sums of the same terms differ by rounding alone.
    const ROUNDING: f64 = 1e-12;
    let mut counts = Counts::default();
    for item in items {
        counts.items += 1;
        match item.verdict {
            Verdict::Fixed => counts.fixed += 1,
            Verdict::Broken => counts.broken += 1,
            Verdict::BothRight => counts.both_right += 1,
            Verdict::BothWrong => counts.both_wrong += 1,
        }
        if item.delta > ROUNDING {
            counts.wins += 1;
        } else if item.delta < -ROUNDING {
            counts.losses += 1;
        } else {
            counts.ties += 1;
        }
    }
    counts
}

fn compare_types(items: &[ComparedItem]) -> Vec<TypeComparison> {
    let mut order: Vec<&str> = Vec::new();
    for item in items {
        if !order.contains(&item.question_type.as_str()) {
            order.push(&item.question_type);
        }
    }
    order
        .into_iter()
        .map(|question_type| {
            let of_type = || {
                let items = items.iter();
                items.filter(move |item| item.question_type == question_type)
            };
            let counts = count(of_type());
            let total: f64 = of_type().map(|item| item.delta).sum();
            TypeComparison {
                question_type: question_type.to_owned(),
                counts,
                difference: total / counts.items as f64,
            }
        })
        .collect()
}

fn metric_deltas(
    shared: &[(&ScoredItem, &ScoredItem)],
    counts: &Counts,
    averaging: Averaging,
    resampling: &Resampling,
) -> Option<MetricDeltas> {
    if shared.is_empty() {
        return None;
    }
    let columns_a = average::columns(shared.iter().map(|(a, _)| a.scores));
    let columns_b = average::columns(shared.iter().map(|(_, b)| b.scores));
    let samples: [[&[f64]; COLUMNS]; 2] = [borrow(&columns_a), borrow(&columns_b)];
    let statistic = |sums| averaging.values(shared.len() as f64, sums);
    let drawn = bootstrap(&samples, statistic, resampling);
    let p_values = permutation_p_values(&samples[0], &samples[1..], statistic, resampling);
    let [values_a, values_b] =
        samples.map(|sample| statistic(sample.map(|column| column.iter().sum())));
    let delta = |value: usize| {
        let pairs = drawn[1][value].iter().zip(&drawn[0][value]);
        MetricDelta {
            a: values_a[value],
            b: values_b[value],
            difference: values_b[value] - values_a[value],
            interval: percentile_interval(
                pairs.map(|(b, a)| b - a).collect(),
                resampling.confidence,
            ),
            p_value: p_values[0][value],
        }
    };
    Some(MetricDeltas {
        rouge1: delta(0),
        bertscore: delta(1),
        em: MetricDelta {
            p_value: fair_coin_p_value(counts.fixed, counts.broken),
            ..delta(2)
        },
        final_mean: delta(3),
    })
}

impl Comparison {
    /// The comparison for reading: totals, metrics, types, then the items whose
    /// verdict changed.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = self.write_text(&mut text);
        text
    }

    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        let counts = &self.counts;
        writeln!(text, "A: {}", self.a)?;
        writeln!(text, "B: {}", self.b)?;
        writeln!(
            text,
            "Items: {} in both, {} only in A, {} only in B",
            counts.items,
            self.only_a.len(),
            self.only_b.len()
        )?;
        writeln!(
            text,
            "Exact match: {} fixed, {} broken, {} both right, {} both wrong",
            counts.fixed, counts.broken, counts.both_right, counts.both_wrong
        )?;
        writeln!(
            text,
            "Item means: B better {}, worse {}, equal {}; sign test p {}",
            counts.wins,
            counts.losses,
            counts.ties,
            p_value(self.sign_test_p_value)
        )?;
        let Some(metrics) = &self.metrics else {
            return Ok(());
        };
        let percent = 100.0 * self.resampling.confidence;
        writeln!(
            text,
            "\n                 A       B     B - A    {percent:.0} % interval       p"
        )?;
        for (name, delta) in [
            ("ROUGE-1", metrics.rouge1),
            ("BERTScore", metrics.bertscore),
            ("EM", metrics.em),
            ("Final Mean", metrics.final_mean),
        ] {
            writeln!(
                text,
                "{name:<11} {:>7.4} {:>7.4}   {:>+7.4}   {:>+7.4} to {:>+7.4}  {}",
                delta.a,
                delta.b,
                delta.difference,
                delta.interval.low,
                delta.interval.high,
                p_value(delta.p_value)
            )?;
        }
        writeln!(text)?;
        for kind in &self.types {
            writeln!(
                text,
                "{}: {} items, {} fixed, {} broken, mean difference {:+.4}",
                super::file::shown_type(&kind.question_type),
                kind.counts.items,
                kind.counts.fixed,
                kind.counts.broken,
                kind.difference
            )?;
        }
        for item in &self.items {
            if matches!(item.verdict, Verdict::Fixed | Verdict::Broken) {
                writeln!(
                    text,
                    "\n[{}] {} {} {:+.4}",
                    item.verdict.name(),
                    item.id,
                    item.question_type,
                    item.delta
                )?;
                writeln!(text, "   label: {}", item.label)?;
                writeln!(text, "   A    : {}", item.answer_a)?;
                writeln!(text, "   B    : {}", item.answer_b)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
