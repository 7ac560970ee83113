//! The statistics of the leaderboard against scipy and statsmodels
//! (`tests/golden/score/make_statistics.py`).

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;

use serde::Deserialize;

use moim_core::metric::ItemScores;
use moim_core::score::statistics::{
    Resampling, bootstrap, fair_coin_p_value, holm, percentile_interval, permutation_p_values,
};
use moim_core::score::{
    Averaging, Coverage, FileState, Leaderboard, Provenance, ScoredFile, ScoredItem,
};

/// Both sides draw at random: four standard errors of ours, since scipy's are
/// four times smaller.
const P_TOLERANCE: f64 = 0.02;
const INTERVAL_TOLERANCE: f64 = 0.01;

#[derive(Deserialize)]
struct Golden {
    files: HashMap<String, Columns>,
    intervals: HashMap<String, Values<[f64; 2]>>,
    comparisons: Vec<Compared>,
    holm: Vec<Family>,
    fair_coin: Vec<Coin>,
}

#[derive(Deserialize)]
struct Columns {
    em: Vec<f64>,
    rouge1: Vec<f64>,
    bertscore: Vec<f64>,
}

#[derive(Deserialize)]
struct Values<T> {
    rouge1: T,
    bertscore: T,
    em: T,
    final_mean: T,
}

impl<T: Copy> Values<T> {
    fn in_order(&self) -> [T; 4] {
        [self.rouge1, self.bertscore, self.em, self.final_mean]
    }
}

#[derive(Deserialize)]
struct Compared {
    a: String,
    b: String,
    permutation_p: Values<f64>,
    permutation_p_first_12: Values<f64>,
    difference_interval: Values<[f64; 2]>,
    won: usize,
    lost: usize,
    mcnemar_p: f64,
}

#[derive(Deserialize)]
struct Family {
    p: Vec<f64>,
    adjusted: Vec<f64>,
}

#[derive(Deserialize)]
struct Coin {
    first: usize,
    second: usize,
    p: f64,
}

fn golden() -> Result<Golden, Box<dyn Error>> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .join("tests/golden/score/statistics.json");
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// The reported values of `items` items: ROUGE-1, BERTScore, EM, Final Mean.
fn means(items: usize) -> impl Fn([f64; 3]) -> [f64; 4] + Sync {
    move |sums| {
        let [rouge1, bertscore, em] = sums.map(|sum| sum / items as f64);
        [rouge1, bertscore, em, (rouge1 + bertscore + em) / 3.0]
    }
}

impl Columns {
    fn first(&self, items: usize) -> [&[f64]; 3] {
        [
            &self.rouge1[..items],
            &self.bertscore[..items],
            &self.em[..items],
        ]
    }

    fn scored(&self, name: &str) -> ScoredFile {
        let items = (0..self.em.len()).map(|item| ScoredItem {
            id: item.to_string(),
            question_type: String::new(),
            scores: ItemScores {
                format: 1.0,
                exact_match: self.em[item],
                rouge1: self.rouge1[item],
                bertscore: self.bertscore[item],
                reason_missing: false,
            },
        });
        ScoredFile {
            coverage: Some(Coverage {
                answered: self.em.len(),
                expected: self.em.len(),
                ..Coverage::default()
            }),
            items: items.collect(),
            ..ScoredFile::unscored(name, FileState::Complete)
        }
    }
}

fn assert_near(found: f64, expected: f64, tolerance: f64, what: &str) {
    assert!(
        (found - expected).abs() <= tolerance,
        "{what}: {found}, expected {expected}"
    );
}

#[test]
fn intervals_agree_with_scipy() -> Result<(), Box<dyn Error>> {
    let golden = golden()?;
    for (name, expected) in &golden.intervals {
        let file = &golden.files[name];
        let items = file.em.len();
        let drawn = bootstrap(&[file.first(items)], means(items), &Resampling::default());
        for (value, expected) in expected.in_order().iter().enumerate() {
            let found = percentile_interval(drawn[0][value].clone(), 0.95);
            let what = format!("file {name}, value {value}");
            assert_near(found.low, expected[0], INTERVAL_TOLERANCE, &what);
            assert_near(found.high, expected[1], INTERVAL_TOLERANCE, &what);
        }
    }
    Ok(())
}

#[test]
fn permutation_tests_agree_with_scipy() -> Result<(), Box<dyn Error>> {
    let golden = golden()?;
    for compared in &golden.comparisons {
        let (a, b) = (&golden.files[&compared.a], &golden.files[&compared.b]);
        let p_values = |items: usize| {
            let (reference, other) = (a.first(items), b.first(items));
            permutation_p_values(&reference, &[other], means(items), &Resampling::default())[0]
        };
        // 2^12 swaps are enumerated on both sides.
        let exact = p_values(12);
        let random = p_values(a.em.len());
        for value in 0..4 {
            let what = format!("{} against {}, value {value}", compared.b, compared.a);
            let expected = compared.permutation_p_first_12.in_order()[value];
            assert_near(exact[value], expected, 1e-12, &what);
            let expected = compared.permutation_p.in_order()[value];
            assert_near(random[value], expected, P_TOLERANCE, &what);
        }
    }
    Ok(())
}

#[test]
fn exact_tests_agree_with_statsmodels() -> Result<(), Box<dyn Error>> {
    let golden = golden()?;
    for coin in &golden.fair_coin {
        let found = fair_coin_p_value(coin.first, coin.second);
        let what = format!("{} against {}", coin.first, coin.second);
        assert_near(found, coin.p, 1e-9 * coin.p, &what);
    }
    for family in &golden.holm {
        for (found, expected) in holm(&family.p).iter().zip(&family.adjusted) {
            assert_near(*found, *expected, 1e-12, "holm");
        }
    }
    Ok(())
}

#[test]
fn the_leaderboard_reports_these_statistics() -> Result<(), Box<dyn Error>> {
    let golden = golden()?;
    // Only two files, so that Holm changes nothing.
    for compared in &golden.comparisons {
        let pair = [&compared.a, &compared.b];
        let files = pair.map(|name| golden.files[name].scored(name));
        let provenance = Provenance {
            averaging: Averaging::AllItems,
            labels: "golden".to_owned(),
            items: 60,
            rouge_tokenizer: "eojeol".to_owned(),
            encoder: "golden".to_owned(),
            settings: String::new(),
        };
        let board = Leaderboard::new(files.into(), provenance, Resampling::default());
        let best = board.best().ok_or("nothing ranked")?;
        // Golden differences are b - a, the board's are file - best.
        let sign = if best.scored.file == compared.b {
            -1.0
        } else {
            1.0
        };
        let difference = board.rows[1].against_best.as_ref().ok_or("no difference")?;
        let (won, lost) = (difference.em_won, difference.em_lost);
        let expected = (compared.won, compared.lost);
        assert_eq!(if sign < 0.0 { (lost, won) } else { (won, lost) }, expected);
        assert_near(difference.em.p_value, compared.mcnemar_p, 1e-12, "McNemar");
        assert_eq!(difference.final_mean.p_value, difference.final_mean.p_holm);
        let deltas = [
            difference.rouge1,
            difference.bertscore,
            difference.em,
            difference.final_mean,
        ];
        for (delta, [low, high]) in deltas.iter().zip(compared.difference_interval.in_order()) {
            let (low, high) = if sign < 0.0 {
                (-high, -low)
            } else {
                (low, high)
            };
            assert_near(delta.interval.low, low, INTERVAL_TOLERANCE, "difference");
            assert_near(delta.interval.high, high, INTERVAL_TOLERANCE, "difference");
        }
    }
    Ok(())
}
