//! The arithmetic of BERTScore: idf weights, greedy matching, rescaling.
//!
//! After bert-score 0.3.13, `utils.py`: `get_idf_dict`, `greedy_cos_idf`; and
//! `score.py` for the baseline.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Precision, recall and their harmonic mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BertScore {
    /// How well the candidate's tokens are found in the reference.
    pub precision: f64,
    /// How well the reference's tokens are found in the candidate.
    pub recall: f64,
    /// 2PR / (P + R), 0 where that is undefined.
    pub f1: f64,
}

/// A sentence as BERTScore sees it.
#[derive(Clone, Debug)]
pub struct Sentence {
    /// Token ids, special tokens included.
    pub ids: Vec<u32>,
    /// `[tokens, width]`, each row of unit length.
    vectors: Vec<f32>,
    width: usize,
}

impl Sentence {
    /// Normalises hidden states `[tokens, width]`, row-major, to rows of unit length.
    pub fn new(ids: Vec<u32>, mut hidden: Vec<f32>, width: usize) -> Sentence {
        for row in hidden.chunks_exact_mut(width) {
            let norm = dot(row, row).sqrt();
            row.iter_mut().for_each(|value| *value /= norm);
        }
        Sentence {
            ids,
            vectors: hidden,
            width,
        }
    }

    /// Its memory in bytes.
    pub fn bytes(&self) -> usize {
        self.ids.len() * size_of::<u32>() + self.vectors.len() * size_of::<f32>()
    }

    /// Whether it has only the two special tokens, an empty sentence for bert-score.
    fn is_empty(&self) -> bool {
        self.ids.len() == 2
    }

    fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.vectors.chunks_exact(self.width)
    }
}

/// The inner product, summed in sixteen lanes so that it vectorises.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a_chunks
        .remainder()
        .iter()
        .zip(b_chunks.remainder())
        .map(|(x, y)| x * y)
        .sum();
    for (x, y) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    lanes.iter().sum::<f32>() + tail
}

/// The weight of each token.
#[derive(Clone, Debug)]
pub enum TokenWeights {
    /// 1 for every token except the two special ones, which have 0.
    Uniform {
        /// Opens a sentence.
        cls: u32,
        /// Closes a sentence.
        sep: u32,
    },
    /// ln((N+1)/(df+1)) over N reference sentences.
    Idf {
        /// Weight of each token that occurs in the references.
        known: HashMap<u32, f64>,
        /// ln(N+1), for tokens that do not.
        unseen: f64,
    },
}

impl TokenWeights {
    /// Inverse document frequencies over the references, each counted as often
    /// as it occurs in the list; special tokens, which are in all, get 0.
    pub fn idf<'a>(references: impl Iterator<Item = &'a [u32]>) -> TokenWeights {
        let mut counts: HashMap<u32, usize> = HashMap::new();
        let mut sentences = 0usize;
        for ids in references {
            sentences += 1;
            for id in ids.iter().collect::<HashSet<_>>() {
                *counts.entry(*id).or_default() += 1;
            }
        }
        let total = (sentences + 1) as f64;
        TokenWeights::Idf {
            known: counts
                .into_iter()
                .map(|(id, count)| (id, (total / (count + 1) as f64).ln()))
                .collect(),
            unseen: total.ln(),
        }
    }

    fn weight(&self, id: u32) -> f64 {
        match self {
            TokenWeights::Uniform { cls, sep } if id == *cls || id == *sep => 0.0,
            TokenWeights::Uniform { .. } => 1.0,
            TokenWeights::Idf { known, unseen } => known.get(&id).copied().unwrap_or(*unseen),
        }
    }
}

/// The score of one pair. Every token of the other side is a match target, including the special ones;
/// only a token's own weight decides whether it counts.
///
/// The package scores a pair inside a batch, where a padding column counts as similarity 0 and so
/// raises maxima that are all negative. This is its result for a single pair, independent of any batch.
pub fn greedy_match(
    candidate: &Sentence,
    reference: &Sentence,
    weights: &TokenWeights,
) -> BertScore {
    let mut best_of_candidate = vec![f32::NEG_INFINITY; candidate.ids.len()];
    let mut best_of_reference = vec![f32::NEG_INFINITY; reference.ids.len()];
    for (row, best_row) in candidate.rows().zip(&mut best_of_candidate) {
        for (column, best_column) in reference.rows().zip(&mut best_of_reference) {
            let similarity = dot(row, column);
            *best_row = best_row.max(similarity);
            *best_column = best_column.max(similarity);
        }
    }
    let mean = |sentence: &Sentence, best: &[f32]| {
        let (mut sum, mut total) = (0.0, 0.0);
        for (&id, &similarity) in sentence.ids.iter().zip(best) {
            let weight = weights.weight(id);
            sum += weight * f64::from(similarity);
            total += weight;
        }
        sum / total
    };
    let precision = mean(candidate, &best_of_candidate);
    let recall = mean(reference, &best_of_reference);
    let f1 = 2.0 * precision * recall / (precision + recall);
    let is_empty = candidate.is_empty() || reference.is_empty();
    BertScore {
        precision: if is_empty { 0.0 } else { precision },
        recall: if is_empty { 0.0 } else { recall },
        // NaN if a side is empty or its weights sum to 0.
        f1: if is_empty || f1.is_nan() { 0.0 } else { f1 },
    }
}

/// The score of an unrelated pair, for rescaling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Baseline {
    /// P, R and F1 of unrelated sentences at the layer in use.
    pub score: BertScore,
}

impl Baseline {
    /// Reads the row of `num_layers` from bert-score's file (`LAYER,P,R,F`, one row per layer from 0;
    /// tabs are accepted instead of commas).
    ///
    /// # Errors
    /// The message names the file and the line.
    pub fn from_file(path: &Path, num_layers: usize) -> Result<Baseline> {
        let text = moim_core::regular_file::read_to_string(path)
            .with_context(|| format!("cannot read the baseline {}", path.display()))?;
        let mut lines = text
            .lines()
            .enumerate()
            .filter(|(_, l)| !l.trim().is_empty());
        lines.next();
        // The package selects the row by its position and ignores its LAYER column.
        let (index, line) = lines.nth(num_layers).with_context(|| {
            format!(
                "the baseline {} has no row for layer {num_layers}; write a header line, then one \
                 line LAYER,P,R,F for each layer from 0",
                path.display()
            )
        })?;
        let row = || format!("{}:{}: {line:?}", path.display(), index + 1);
        let numbers: Vec<f64> = line
            .split([',', '\t'])
            .map(|field| field.trim().parse::<f64>())
            .collect::<Result<_, _>>()
            .with_context(|| format!("{} is not a row LAYER,P,R,F", row()))?;
        let [layer, precision, recall, f1] = numbers[..] else {
            bail!("{} has {} fields, not LAYER,P,R,F", row(), numbers.len());
        };
        if layer != num_layers as f64 {
            bail!(
                "{} is where layer {num_layers} should be; list every layer from 0",
                row()
            );
        }
        if [precision, recall, f1]
            .iter()
            .any(|&b| b.is_nan() || b >= 1.0)
        {
            bail!("{}: a baseline must be below 1", row());
        }
        Ok(Baseline {
            score: BertScore {
                precision,
                recall,
                f1,
            },
        })
    }

    /// (x − b) / (1 − b) for each of P, R and F1; an empty side falls below 0.
    pub fn rescale(&self, raw: BertScore) -> BertScore {
        let spread = |x: f64, b: f64| (x - b) / (1.0 - b);
        BertScore {
            precision: spread(raw.precision, self.score.precision),
            recall: spread(raw.recall, self.score.recall),
            f1: spread(raw.f1, self.score.f1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFORM: TokenWeights = TokenWeights::Uniform { cls: 1, sep: 2 };

    /// Tokens as unit vectors at given angles.
    fn sentence(ids: &[u32], degrees: &[f32]) -> Sentence {
        let hidden = degrees
            .iter()
            .flat_map(|d| [3.0 * d.to_radians().cos(), 3.0 * d.to_radians().sin()])
            .collect();
        Sentence::new(ids.to_vec(), hidden, 2)
    }

    #[test]
    fn special_tokens_are_targets_but_do_not_count() {
        // The candidate's word is nearest to the reference's [SEP] at 10°.
        let candidate = sentence(&[1, 9, 2], &[90.0, 0.0, 180.0]);
        let reference = sentence(&[1, 8, 2], &[-90.0, 60.0, 10.0]);
        let score = greedy_match(&candidate, &reference, &UNIFORM);
        let cos = |d: f64| d.to_radians().cos();
        assert!((score.precision - cos(10.0)).abs() < 1e-6);
        assert!((score.recall - cos(30.0)).abs() < 1e-6);
        let f1 = 2.0 * cos(10.0) * cos(30.0) / (cos(10.0) + cos(30.0));
        assert!((score.f1 - f1).abs() < 1e-6);
    }

    #[test]
    fn all_negative_similarities_stay_negative() {
        let candidate = sentence(&[1, 9, 2], &[0.0, 0.0, 0.0]);
        let reference = sentence(&[1, 8, 2], &[180.0, 180.0, 180.0]);
        let score = greedy_match(&candidate, &reference, &UNIFORM);
        assert!((score.precision + 1.0).abs() < 1e-6);
    }

    #[test]
    fn an_empty_side_scores_zero() {
        let empty = sentence(&[1, 2], &[0.0, 90.0]);
        let word = sentence(&[1, 9, 2], &[0.0, 45.0, 90.0]);
        let zero = BertScore {
            precision: 0.0,
            recall: 0.0,
            f1: 0.0,
        };
        assert_eq!(greedy_match(&empty, &word, &UNIFORM), zero);
        assert_eq!(greedy_match(&word, &empty, &UNIFORM), zero);
    }

    #[test]
    fn idf_counts_each_sentence_once() {
        let references: [&[u32]; 3] = [&[1, 5, 5, 2], &[1, 5, 6, 2], &[1, 7, 2]];
        let weights = TokenWeights::idf(references.into_iter());
        assert_eq!(weights.weight(1), 0.0);
        assert_eq!(weights.weight(5), (4.0f64 / 3.0).ln());
        assert_eq!(weights.weight(7), (4.0f64 / 2.0).ln());
        assert_eq!(weights.weight(99), 4.0f64.ln());
    }

    #[test]
    fn baseline_rows_and_faults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("baseline.tsv");
        std::fs::write(
            &path,
            "LAYER,P,R,F\n0,0.1,0.2,0.3\n1,0.4,0.5,0.6\n3,0,0,0\n",
        )
        .unwrap();
        let baseline = Baseline::from_file(&path, 1).unwrap();
        let one = BertScore {
            precision: 1.0,
            recall: 0.75,
            f1: 0.0,
        };
        let scaled = baseline.rescale(one);
        assert!((scaled.precision - 1.0).abs() < 1e-12);
        assert!((scaled.recall - 0.5).abs() < 1e-12);
        assert!((scaled.f1 + 1.5).abs() < 1e-12);
        let fault = |layer| format!("{:#}", Baseline::from_file(&path, layer).unwrap_err());
        assert!(fault(9).contains("no row for layer 9"));
        assert!(fault(2).contains("baseline.tsv:4"), "{}", fault(2));
    }
}
