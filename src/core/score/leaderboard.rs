//! Ranks the answer files of an evaluation set and tests which differences are more than noise.

use serde::Serialize;

use super::average::{self, Averaging, COLUMNS, Means, VALUES};
use super::file::{FileState, ScoredFile, TypeMeans};
use super::names::natural_order;
use super::statistics::{
    Interval, Resampling, bootstrap, fair_coin_p_value, holm, percentile_interval,
    permutation_p_values,
};

/// How the numbers of a leaderboard were made; printed above it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Provenance {
    /// How means are computed.
    pub averaging: Averaging,
    /// The label file, or another name of the labels.
    pub labels: String,
    /// Number of labels.
    pub items: usize,
    /// `eojeol`, `syllable` or `mecab`.
    pub rouge_tokenizer: String,
    /// The BERTScore encoder and its layer, as text.
    pub encoder: String,
    /// Fingerprint of the metric settings and the encoder.
    pub settings: String,
}

/// The files of one directory, ranked.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaderboard {
    /// How the numbers were made.
    pub provenance: Provenance,
    /// How intervals and tests were sampled.
    pub resampling: Resampling,
    /// Ranked files best first, then partial ones by their mean, then those
    /// without scores; natural order of names breaks ties.
    pub rows: Vec<Row>,
    /// What a reader must know besides the rows, such as files that were left out.
    pub notes: Vec<String>,
}

/// One file of the leaderboard.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Rank from 1; files that tie share it. `None` for a file that is not ranked.
    pub rank: Option<usize>,
    /// The file and its items.
    pub scored: ScoredFile,
    /// Means over the scored items.
    pub means: Option<Means>,
    /// Bootstrap intervals of those means.
    pub intervals: Option<Intervals>,
    /// Means of each question type.
    pub types: Vec<TypeMeans>,
    /// Other files with the same Final Mean.
    pub tied_with: Vec<String>,
    /// This file minus the best; `None` for the best itself.
    pub against_best: Option<Difference>,
    /// This file minus epoch 0; `None` without an epoch 0 and for epoch 0 itself.
    pub against_epoch0: Option<Difference>,
}

/// Percentile bootstrap intervals over items.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Intervals {
    /// Of ROUGE-1.
    pub rouge1: Interval,
    /// Of BERTScore.
    pub bertscore: Interval,
    /// Of EM.
    pub em: Interval,
    /// Of the Final Mean.
    pub final_mean: Interval,
}

/// One file minus another over the same items.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The other file.
    pub file: String,
    /// Paired permutation test.
    pub rouge1: Delta,
    /// Paired permutation test.
    pub bertscore: Delta,
    /// Exact McNemar test.
    pub em: Delta,
    /// Paired permutation test.
    pub final_mean: Delta,
    /// Items that only this file has right.
    pub em_won: usize,
    /// Items that only the other file has right.
    pub em_lost: usize,
}

/// A difference of means.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Delta {
    /// This file minus the other.
    pub difference: f64,
    /// Paired bootstrap interval of the difference.
    pub interval: Interval,
    /// Two-sided p-value of only this comparison.
    pub p_value: f64,
    /// The same, adjusted by Holm for comparing every ranked file with the other one. Decide by this
    /// value.
    pub p_holm: f64,
}

impl Leaderboard {
    /// Ranks the files.
    ///
    /// Ranked files must have been scored on the same labels: their items are
    /// compared position by position.
    pub fn new(files: Vec<ScoredFile>, provenance: Provenance, resampling: Resampling) -> Self {
        let averaging = provenance.averaging;
        let mut rows: Vec<Row> = files
            .into_iter()
            .map(|scored| Row {
                rank: None,
                means: scored.means(averaging),
                intervals: None,
                types: scored.means_by_type(averaging),
                tied_with: Vec::new(),
                against_best: None,
                against_epoch0: None,
                scored,
            })
            .collect();
        rows.sort_by(|left, right| {
            let group = |row: &Row| (!row.scored.is_ranked(), row.means.is_none());
            let score = |row: &Row| row.means.map_or(i64::MIN, |means| rank_key(&means));
            group(left)
                .cmp(&group(right))
                .then_with(|| score(right).cmp(&score(left)))
                .then_with(|| natural_order(&left.scored.file, &right.scored.file))
        });
        let ranked = rows.iter().take_while(|row| row.scored.is_ranked()).count();
        mark_ranks(&mut rows[..ranked]);
        compare_ranked(&mut rows[..ranked], averaging, &resampling);
        for row in &mut rows[ranked..] {
            row.intervals = lone_intervals(&row.scored, averaging, &resampling);
        }
        Self {
            provenance,
            resampling,
            rows,
            notes: Vec::new(),
        }
    }

    /// The files that cover every label, best first.
    pub fn ranked(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.rank.is_some())
    }

    /// The files that are not ranked: partial, pending, broken, gone.
    pub fn unranked(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.rank.is_none())
    }

    /// The file with the highest Final Mean, the first in natural order of those
    /// that tie.
    pub fn best(&self) -> Option<&Row> {
        self.rows.first().filter(|row| row.rank.is_some())
    }

    /// Ranked files whose Final Mean these items do not distinguish from the best, at the confidence
    /// of the intervals, ties included.
    pub fn indistinguishable_from_best(&self) -> Vec<&Row> {
        let threshold = 1.0 - self.resampling.confidence;
        let is_noise = |row: &&Row| {
            let difference = row.against_best.as_ref();
            difference.is_some_and(|difference| difference.final_mean.p_holm > threshold)
        };
        self.ranked().filter(is_noise).collect()
    }
}

/// Final Means that differ by less than 1e-9 are the same number, summed in another order.
fn rank_key(means: &Means) -> i64 {
    (means.final_mean * 1e9).round() as i64
}

fn mark_ranks(rows: &mut [Row]) {
    let keys: Vec<Option<i64>> = rows
        .iter()
        .map(|row| row.means.as_ref().map(rank_key))
        .collect();
    let names: Vec<String> = rows.iter().map(|row| row.scored.file.clone()).collect();
    for (index, row) in rows.iter_mut().enumerate() {
        let same = |&other: &usize| keys[other] == keys[index];
        row.rank = (0..keys.len()).find(same).map(|first| first + 1);
        row.tied_with = (0..keys.len())
            .filter(same)
            .filter(|&other| other != index)
            .map(|other| names[other].clone())
            .collect();
    }
}

fn compare_ranked(rows: &mut [Row], averaging: Averaging, resampling: &Resampling) {
    let Some(first) = rows.first() else { return };
    let items = first.scored.items.len() as f64;
    let columns: Vec<[Vec<f64>; COLUMNS]> = rows.iter().map(columns_of).collect();
    let samples: Vec<[&[f64]; COLUMNS]> = columns.iter().map(borrow).collect();
    let statistic = |sums| averaging.values(items, sums);
    let drawn = bootstrap(&samples, statistic, resampling);

    let against_best = differences(rows, 0, &samples, &drawn, statistic, resampling);
    let epoch0 = rows.iter().position(|row| row.scored.epoch == Some(0));
    let against_epoch0 = match epoch0 {
        Some(0) => against_best.clone(),
        Some(epoch0) => differences(rows, epoch0, &samples, &drawn, statistic, resampling),
        None => vec![None; rows.len()],
    };
    for (((row, drawn), best), epoch0) in rows
        .iter_mut()
        .zip(drawn)
        .zip(against_best)
        .zip(against_epoch0)
    {
        row.intervals = Some(intervals(drawn, resampling));
        row.against_best = best;
        row.against_epoch0 = epoch0;
    }
}

/// Each row minus `rows[reference]`, `None` for the reference itself.
fn differences(
    rows: &[Row],
    reference: usize,
    samples: &[[&[f64]; COLUMNS]],
    drawn: &[[Vec<f64>; VALUES]],
    statistic: impl Fn([f64; COLUMNS]) -> [f64; VALUES] + Sync,
    resampling: &Resampling,
) -> Vec<Option<Difference>> {
    const EM: usize = 2;
    let others: Vec<usize> = (0..rows.len()).filter(|&row| row != reference).collect();
    let other_samples: Vec<[&[f64]; COLUMNS]> = others.iter().map(|&row| samples[row]).collect();
    let mut p_values =
        permutation_p_values(&samples[reference], &other_samples, &statistic, resampling);
    let discordant: Vec<(usize, usize)> = others
        .iter()
        .map(|&row| discordant_items(&rows[row].scored, &rows[reference].scored))
        .collect();
    for (p_values, &(won, lost)) in p_values.iter_mut().zip(&discordant) {
        p_values[EM] = fair_coin_p_value(won, lost);
    }
    let adjusted: [Vec<f64>; VALUES] = std::array::from_fn(|value| {
        let family: Vec<f64> = p_values.iter().map(|values| values[value]).collect();
        holm(&family)
    });
    let observed = |row: usize| statistic(samples[row].map(|column| column.iter().sum()));
    let mut differences = vec![None; rows.len()];
    for (position, &row) in others.iter().enumerate() {
        let [rouge1, bertscore, em, final_mean] = std::array::from_fn(|value| {
            let pairs = drawn[row][value].iter().zip(&drawn[reference][value]);
            let distribution = pairs.map(|(this, reference)| this - reference).collect();
            Delta {
                difference: observed(row)[value] - observed(reference)[value],
                interval: percentile_interval(distribution, resampling.confidence),
                p_value: p_values[position][value],
                p_holm: adjusted[value][position],
            }
        });
        let (em_won, em_lost) = discordant[position];
        differences[row] = Some(Difference {
            file: rows[reference].scored.file.clone(),
            rouge1,
            bertscore,
            em,
            final_mean,
            em_won,
            em_lost,
        });
    }
    differences
}

/// (items only `this` has right, items only `other` has right).
pub(super) fn discordant_items(this: &ScoredFile, other: &ScoredFile) -> (usize, usize) {
    let mut counts = (0, 0);
    for (this, other) in this.items.iter().zip(&other.items) {
        match (
            is_right(this.scores.exact_match),
            is_right(other.scores.exact_match),
        ) {
            (true, false) => counts.0 += 1,
            (false, true) => counts.1 += 1,
            _ => {}
        }
    }
    counts
}

/// Exact match is 0 or 1.
pub(super) fn is_right(exact_match: f64) -> bool {
    exact_match > 0.5
}

/// Intervals of a file that is not compared with others.
fn lone_intervals(
    scored: &ScoredFile,
    averaging: Averaging,
    resampling: &Resampling,
) -> Option<Intervals> {
    let items = scored.items.len();
    if items == 0 {
        return None;
    }
    let columns = average::columns(scored.items.iter().map(|item| item.scores));
    let statistic = |sums| averaging.values(items as f64, sums);
    let mut drawn = bootstrap(&[borrow(&columns)], statistic, resampling);
    Some(intervals(drawn.pop()?, resampling))
}

fn intervals(drawn: [Vec<f64>; VALUES], resampling: &Resampling) -> Intervals {
    let [rouge1, bertscore, em, final_mean] =
        drawn.map(|distribution| percentile_interval(distribution, resampling.confidence));
    Intervals {
        rouge1,
        bertscore,
        em,
        final_mean,
    }
}

fn columns_of(row: &Row) -> [Vec<f64>; COLUMNS] {
    average::columns(row.scored.items.iter().map(|item| item.scores))
}

pub(super) fn borrow(columns: &[Vec<f64>; COLUMNS]) -> [&[f64]; COLUMNS] {
    columns.each_ref().map(Vec::as_slice)
}

/// Whether the row's file has changed since it was scored.
pub(super) fn is_stale(row: &Row) -> bool {
    row.means.is_some() && !matches!(row.scored.state, FileState::Complete | FileState::Partial)
}

#[cfg(test)]
mod tests {
    use super::super::answers::Coverage;
    use super::super::file::ScoredItem;
    use super::*;
    use crate::metric::ItemScores;

    fn provenance(items: usize) -> Provenance {
        Provenance {
            averaging: Averaging::AllItems,
            labels: "labels".to_owned(),
            items,
            rouge_tokenizer: "eojeol".to_owned(),
            encoder: "encoder".to_owned(),
            settings: String::new(),
        }
    }

    fn complete(file: &str, exact_matches: &[f64]) -> ScoredFile {
        let items = exact_matches
            .iter()
            .enumerate()
            .map(|(index, &exact_match)| ScoredItem {
                id: index.to_string(),
                question_type: String::new(),
                scores: ItemScores {
                    format: 1.0,
                    exact_match,
                    rouge1: 0.5,
                    bertscore: 0.5,
                    reason_missing: false,
                },
            });
        ScoredFile {
            coverage: Some(Coverage {
                answered: exact_matches.len(),
                expected: exact_matches.len(),
                ..Coverage::default()
            }),
            items: items.collect(),
            ..ScoredFile::unscored(file, FileState::Complete)
        }
    }

    #[test]
    fn noise_and_real_differences_are_distinguished() {
        let half: Vec<f64> = (0..60).map(|index| f64::from(index % 2)).collect();
        let mut one_more = half.clone();
        one_more[0] = 1.0;
        let files = vec![
            complete("epoch0.json", &[0.0; 60]),
            complete("epoch1.json", &half),
            complete("epoch2.json", &one_more),
        ];
        let board = Leaderboard::new(files, provenance(60), Resampling::default());
        let names: Vec<&str> = board.ranked().map(|row| row.scored.file.as_str()).collect();
        assert_eq!(names, ["epoch2.json", "epoch1.json", "epoch0.json"]);
        let rivals = board.indistinguishable_from_best();
        assert_eq!(rivals.len(), 1);
        assert_eq!(rivals[0].scored.file, "epoch1.json");

        let near = board.rows[1].against_best.as_ref().unwrap();
        assert_eq!((near.em_won, near.em_lost), (0, 1));
        assert_eq!(near.em.p_value, 1.0);
        assert!((near.final_mean.difference + 1.0 / 180.0).abs() < 1e-12);
        let far = board.rows[2].against_best.as_ref().unwrap();
        assert!(far.em.p_holm < 1e-6 && far.final_mean.p_holm < 0.001);
        assert!(far.final_mean.interval.high < 0.0);
        // ROUGE-1 is the same everywhere.
        assert_eq!(far.rouge1.p_value, 1.0);

        let gain = board.rows[0].against_epoch0.as_ref().unwrap();
        assert_eq!(gain.file, "epoch0.json");
        assert!(gain.final_mean.interval.low > 0.0);
        assert!(board.rows[2].against_epoch0.is_none());
    }

    #[test]
    fn ties_share_a_rank_in_natural_order() {
        let files = ["epoch10.json", "epoch9.json", "epoch1.json"];
        let values = [&[1.0, 0.0][..], &[0.0, 1.0], &[0.0, 0.0]];
        let files = files
            .iter()
            .zip(values)
            .map(|(name, values)| complete(name, values));
        let board = Leaderboard::new(files.collect(), provenance(2), Resampling::default());
        let ranks: Vec<(&str, Option<usize>)> = board
            .rows
            .iter()
            .map(|row| (row.scored.file.as_str(), row.rank))
            .collect();
        assert_eq!(
            ranks,
            [
                ("epoch9.json", Some(1)),
                ("epoch10.json", Some(1)),
                ("epoch1.json", Some(3))
            ]
        );
        assert_eq!(board.rows[0].tied_with, ["epoch10.json"]);
        assert!(board.rows[2].tied_with.is_empty());
    }

    #[test]
    fn no_files_do_not_panic() {
        let board = Leaderboard::new(Vec::new(), provenance(2), Resampling::default());
        assert!(board.best().is_none());
    }

    #[test]
    #[ignore = "a measurement: cargo test --release -- --ignored large_boards"]
    fn large_boards_take_less_than_a_second() {
        let files = (0..20).map(|epoch| {
            let values: Vec<f64> = (0..500)
                .map(|index| f64::from(u8::from((index * (epoch + 3)) % 7 < 3)))
                .collect();
            complete(&format!("epoch{epoch}.json"), &values)
        });
        let files: Vec<ScoredFile> = files.collect();
        let start = std::time::Instant::now();
        let board = Leaderboard::new(files, provenance(500), Resampling::default());
        let taken = start.elapsed();
        assert_eq!(board.ranked().count(), 20);
        assert!(taken.as_secs_f64() < 1.0, "{taken:?}");
    }
}
