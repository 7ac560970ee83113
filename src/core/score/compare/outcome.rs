//! The difference between a file and the baseline: counts, means with their uncertainty, and the same
//! for each question type.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::super::average::{self, Averaging, COLUMNS};
use super::super::file::ScoredItem;
use super::super::leaderboard::borrow;
use super::super::statistics::{
    Interval, Resampling, bootstrap, fair_coin_p_value, holm, percentile_interval,
    permutation_p_values,
};
use super::{LabelScores, Verdict, delta, in_order};

/// A file against the baseline, over the items both answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Against {
    /// Over all those items.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// The same for each question type, in label order of first appearance.
    pub types: Vec<TypeOutcome>,
    /// Labelled ids that the baseline answers and this file does not.
    pub only_baseline: Vec<String>,
    /// Labelled ids that this file answers and the baseline does not.
    pub only_this: Vec<String>,
}

/// One question type of [`Against`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TypeOutcome {
    /// As the labels spell it.
    pub question_type: String,
    /// Over its items.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The differences over a set of items that both files answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// By verdict and by item mean.
    pub counts: Counts,
    /// `None` if there is no item.
    pub metrics: Option<MetricDeltas>,
    /// Sign test of wins against losses.
    pub sign_test_p_value: f64,
}

/// Number of items by verdict and by which file has the higher item mean.
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
    /// Items whose Final Mean is higher than in the baseline.
    pub wins: usize,
    /// Items whose Final Mean is lower than in the baseline.
    pub losses: usize,
    /// Items with the same Final Mean.
    pub ties: usize,
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

impl MetricDeltas {
    /// With the names that reports use.
    pub fn named(&self) -> [(&'static str, &MetricDelta); 4] {
        [
            ("ROUGE-1", &self.rouge1),
            ("BERTScore", &self.bertscore),
            ("EM", &self.em),
            ("Final Mean", &self.final_mean),
        ]
    }
}

/// One metric over the items that both files answer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MetricDelta {
    /// Mean of the baseline.
    pub baseline: f64,
    /// Mean of this file.
    pub this: f64,
    /// This file minus the baseline.
    pub difference: f64,
    /// Paired bootstrap interval of the difference.
    pub interval: Interval,
    /// Two-sided: paired permutation test, for EM the exact McNemar test.
    pub p_value: f64,
    /// The same, adjusted by Holm for comparing every file with the baseline.
    pub p_holm: f64,
}

/// Compares every file after the first with the first. Keys are indices.
pub(super) fn against_baseline(
    rows: &[LabelScores<'_>],
    files: usize,
    averaging: Averaging,
    resampling: &Resampling,
) -> BTreeMap<usize, Against> {
    // Files with the same items in common with the baseline, such as complete ones, share the draws.
    let mut groups: HashMap<Vec<usize>, Vec<usize>> = HashMap::new();
    for file in 1..files {
        let shared = (0..rows.len()).filter(|&row| pair(&rows[row], file).is_some());
        groups.entry(shared.collect()).or_default().push(file);
    }
    let mut against = BTreeMap::new();
    for (shared, group) in groups {
        let shared: Vec<&LabelScores<'_>> = shared.into_iter().map(|row| &rows[row]).collect();
        let overall = outcomes(&shared, &group, averaging, resampling);
        let mut types: Vec<Vec<TypeOutcome>> = vec![Vec::new(); group.len()];
        for question_type in in_order(shared.iter().map(|row| type_of(row))) {
            let of_type = shared.iter().filter(|row| type_of(row) == question_type);
            let of_type: Vec<&LabelScores<'_>> = of_type.copied().collect();
            let outcomes = outcomes(&of_type, &group, averaging, resampling);
            for (types, outcome) in types.iter_mut().zip(outcomes) {
                types.push(TypeOutcome {
                    question_type: question_type.to_owned(),
                    outcome,
                });
            }
        }
        for ((file, outcome), types) in group.into_iter().zip(overall).zip(types) {
            let only = |present: usize, absent: usize| {
                rows.iter()
                    .filter(|row| row.scores[present].is_some() && row.scores[absent].is_none())
                    .map(|row| row.label.id.clone())
                    .collect()
            };
            against.insert(
                file,
                Against {
                    outcome,
                    types,
                    only_baseline: only(0, file),
                    only_this: only(file, 0),
                },
            );
        }
    }
    adjust(against.values_mut().map(|against| &mut against.outcome));
    for question_type in in_order(rows.iter().map(type_of)) {
        let types = against.values_mut().flat_map(|against| &mut against.types);
        adjust(
            types
                .filter(|kind| kind.question_type == question_type)
                .map(|kind| &mut kind.outcome),
        );
    }
    against
}

fn type_of<'run>(row: &LabelScores<'run>) -> &'run str {
    &row.label.question_type
}

/// The scores of the baseline and of a file, if both have an answer.
fn pair<'run>(
    row: &LabelScores<'run>,
    file: usize,
) -> Option<(&'run ScoredItem, &'run ScoredItem)> {
    row.scores[0].zip(row.scores[file])
}

/// One outcome for each file. Every file and the baseline must have an answer in each row.
fn outcomes(
    rows: &[&LabelScores<'_>],
    files: &[usize],
    averaging: Averaging,
    resampling: &Resampling,
) -> Vec<Outcome> {
    let counts: Vec<Counts> = files
        .iter()
        .map(|&file| Counts::of(rows.iter().filter_map(|row| pair(row, file))))
        .collect();
    let metrics: Vec<Option<MetricDeltas>> = if rows.is_empty() {
        vec![None; files.len()]
    } else {
        let deltas = metric_deltas(rows, files, &counts, averaging, resampling);
        deltas.into_iter().map(Some).collect()
    };
    counts
        .into_iter()
        .zip(metrics)
        .map(|(counts, metrics)| Outcome {
            counts,
            metrics,
            sign_test_p_value: fair_coin_p_value(counts.wins, counts.losses),
        })
        .collect()
}

impl Counts {
    fn of<'run>(pairs: impl Iterator<Item = (&'run ScoredItem, &'run ScoredItem)>) -> Self {
        /// A smaller difference between two sums of the same terms is only rounding.
        const ROUNDING: f64 = 1e-12;
        let mut counts = Self::default();
        for (baseline, this) in pairs {
            counts.items += 1;
            match Verdict::of(baseline, this) {
                Verdict::Fixed => counts.fixed += 1,
                Verdict::Broken => counts.broken += 1,
                Verdict::BothRight => counts.both_right += 1,
                Verdict::BothWrong => counts.both_wrong += 1,
            }
            let delta = delta(baseline, this);
            if delta > ROUNDING {
                counts.wins += 1;
            } else if delta < -ROUNDING {
                counts.losses += 1;
            } else {
                counts.ties += 1;
            }
        }
        counts
    }
}

fn metric_deltas(
    rows: &[&LabelScores<'_>],
    files: &[usize],
    counts: &[Counts],
    averaging: Averaging,
    resampling: &Resampling,
) -> Vec<MetricDeltas> {
    let with_baseline = std::iter::once(&0).chain(files);
    let columns: Vec<[Vec<f64>; COLUMNS]> = with_baseline
        .map(|&file| {
            let scored = rows.iter().filter_map(|row| row.scores[file]);
            average::columns(scored.map(|item| item.scores))
        })
        .collect();
    let samples: Vec<[&[f64]; COLUMNS]> = columns.iter().map(borrow).collect();
    let statistic = |sums| averaging.values(rows.len() as f64, sums);
    let means = samples
        .iter()
        .map(|sample| statistic(sample.map(|column| column.iter().sum())));
    let means: Vec<_> = means.collect();
    let drawn = bootstrap(&samples, statistic, resampling);
    let p_values = permutation_p_values(&samples[0], &samples[1..], statistic, resampling);
    counts
        .iter()
        .zip(p_values)
        .enumerate()
        .map(|(index, (counts, p_values))| {
            let sample = index + 1;
            let delta = |value: usize, p_value: f64| {
                let pairs = drawn[sample][value].iter().zip(&drawn[0][value]);
                let differences = pairs.map(|(this, baseline)| this - baseline).collect();
                MetricDelta {
                    baseline: means[0][value],
                    this: means[sample][value],
                    difference: means[sample][value] - means[0][value],
                    interval: percentile_interval(differences, resampling.confidence),
                    p_value,
                    p_holm: p_value,
                }
            };
            MetricDeltas {
                rouge1: delta(0, p_values[0]),
                bertscore: delta(1, p_values[1]),
                em: delta(2, fair_coin_p_value(counts.fixed, counts.broken)),
                final_mean: delta(3, p_values[3]),
            }
        })
        .collect()
}

/// Adjusts the p-values of each metric for the number of files compared.
fn adjust<'all>(outcomes: impl Iterator<Item = &'all mut Outcome>) {
    let mut family: Vec<&mut MetricDeltas> = outcomes
        .filter_map(|outcome| outcome.metrics.as_mut())
        .collect();
    let metrics: [fn(&mut MetricDeltas) -> &mut MetricDelta; 4] = [
        |deltas| &mut deltas.rouge1,
        |deltas| &mut deltas.bertscore,
        |deltas| &mut deltas.em,
        |deltas| &mut deltas.final_mean,
    ];
    for metric in metrics {
        let p_values: Vec<f64> = family
            .iter_mut()
            .map(|deltas| metric(deltas).p_value)
            .collect();
        for (deltas, p_holm) in family.iter_mut().zip(holm(&p_values)) {
            metric(deltas).p_holm = p_holm;
        }
    }
}
