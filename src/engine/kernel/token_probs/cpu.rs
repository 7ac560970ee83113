//! Token probabilities on the CPU: a row of logits stays in the second-level cache between passes.

use burn::backend::Flex;
use burn::backend::tensor::{FloatTensor, IntTensor};

use super::TokenProbsOps;
use crate::kernel::rows::cpu::{f32_rows, for_each_row, indices, map_rows, tensor};
use crate::kernel::simd::{Vectorised, dot, exp, exp_shifted, map, max, sum, vectorised};

/// Logits that are treated at a time, on the stack.
const BLOCK: usize = 1024;

/// Log-probability of the target and entropy of one row.
struct LogProb<'a> {
    logits: &'a [f32],
    target: usize,
}

impl Vectorised for LogProb<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run<const FMA: bool>(self) -> Self::Output {
        let largest = max(self.logits);
        let (mut total, mut weighted) = (0.0, 0.0);
        let (mut differences, mut powers) = ([0.0f32; BLOCK], [0.0f32; BLOCK]);
        for logits in self.logits.chunks(BLOCK) {
            let differences = &mut differences[..logits.len()];
            let powers = &mut powers[..logits.len()];
            for (difference, &logit) in differences.iter_mut().zip(logits) {
                let x = logit - largest;
                // The power of less is 0, and 0 · −∞ would be no number.
                *difference = if x < -1e3 { -1e3 } else { x };
            }
            powers.copy_from_slice(differences);
            map(powers, exp::<FMA>);
            total += sum(powers);
            weighted += dot::<FMA>(powers, differences);
        }
        let log_total = total.ln();
        let log_prob = f64::from(self.logits[self.target]) - f64::from(largest) - log_total;
        // −Σ p ln p with ln p = d − ln Σ e^d
        (log_prob as f32, (log_total - weighted / total) as f32)
    }
}

/// The gradient of some rows of logits, written over them.
struct Gradient<'a> {
    logits: &'a mut [f32],
    vocabulary: usize,
    targets: &'a [usize],
    scale: &'a [f32],
}

impl Vectorised for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let rows = self.logits.chunks_exact_mut(self.vocabulary);
        for ((row, &target), &scale) in rows.zip(self.targets).zip(self.scale) {
            let largest = max(row);
            let total = exp_shifted::<FMA>(row, largest, 1.0);
            let share = -(f64::from(scale) / total) as f32;
            map(row, |power| power * share);
            row[target] += scale;
        }
    }
}

impl TokenProbsOps for Flex {
    fn token_log_probs(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [rows, vocabulary] = logits.layout().shape().dims();
        let (logits, targets) = (f32_rows(logits), indices(targets));
        let mut results = vec![(0.0f32, 0.0f32); rows];
        for_each_row(
            logits.storage(),
            vocabulary,
            &mut results,
            |row, logits, result| {
                *result = vectorised(LogProb {
                    logits,
                    target: targets[row],
                });
            },
        );
        let (log_probs, entropies): (Vec<f32>, Vec<f32>) = results.into_iter().unzip();
        (tensor(log_probs, [rows]), tensor(entropies, [rows]))
    }

    fn logits_gradient(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        scale: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [_, vocabulary] = logits.layout().shape().dims();
        let (targets, scale) = (indices(targets), f32_rows(scale));
        let scale: &[f32] = scale.storage();
        map_rows(logits, vocabulary, |row, logits| {
            let rows = row..row + logits.len() / vocabulary;
            let (targets, scale) = (&targets[rows.clone()], &scale[rows]);
            vectorised(Gradient {
                logits,
                vocabulary,
                targets,
                scale,
            });
        })
    }
}
