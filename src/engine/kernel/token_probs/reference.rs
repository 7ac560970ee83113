//! Token probabilities in plain loops, with sums in f64, and the shapes that the kernels are checked at.

use crate::kernel::case::{
    Case, Cases, Comparison, Inputs, Reference, SMALL_VOCABULARIES, VOCABULARY, bits, noise,
    normalised, values,
};

/// See [`super::token_log_probs`].
///
/// # Shapes
/// `logits: [rows, vocabulary]`, row-major, `targets: [rows]` → `[rows]` and `[rows]`
pub fn token_log_probs(logits: &[f32], vocabulary: usize, targets: &[i32]) -> (Vec<f64>, Vec<f64>) {
    let row = |(logits, target): (&[f32], &i32)| {
        let logits: Vec<f64> = logits.iter().copied().map(f64::from).collect();
        let (probabilities, normaliser) = normalised(logits.clone());
        let terms = probabilities.iter().zip(&logits);
        let entropy: f64 = terms.map(|(p, logit)| p * (normaliser - logit)).sum();
        (logits[*target as usize] - normaliser, entropy)
    };
    logits.chunks(vocabulary).zip(targets).map(row).unzip()
}

/// See [`super::logits_gradient`].
///
/// # Shapes
/// As [`token_log_probs`], `scale: [rows]` → `[rows, vocabulary]`
pub fn logits_gradient(
    logits: &[f32],
    vocabulary: usize,
    targets: &[i32],
    scale: &[f32],
) -> Vec<f64> {
    let row = |((logits, target), scale): ((&[f32], &i32), &f32)| {
        let (mut gradient, _) = normalised(logits.iter().copied().map(f64::from).collect());
        for (token, p) in gradient.iter_mut().enumerate() {
            let is_target = f64::from(u8::from(token == *target as usize));
            *p = f64::from(*scale) * (is_target - *p);
        }
        gradient
    };
    let rows = logits.chunks(vocabulary).zip(targets).zip(scale);
    rows.flat_map(row).collect()
}

/// The nearest f32 of each value.
pub fn in_f32(values: Vec<f64>) -> Vec<f32> {
    values.into_iter().map(|value| value as f32).collect()
}

pub(in crate::kernel) fn cases(cases: &mut Cases) {
    for [rows, vocabulary] in SMALL_VOCABULARIES {
        cases.small(move |inputs| log_probs(inputs, rows, vocabulary));
        cases.small(move |inputs| gradient(inputs, rows, vocabulary));
    }
    for rows in [1, 8, 32, 64, MOST_ROWS] {
        cases.large(move |inputs| log_probs(inputs, rows, VOCABULARY));
    }
    cases.large(|inputs| gradient(inputs, MOST_ROWS, VOCABULARY));
}

/// A chunk of the head has at most this many rows of the large vocabulary.
const MOST_ROWS: usize = 127;

fn targets(rows: usize, vocabulary: usize) -> Vec<i32> {
    (0..rows as u32)
        .map(|row| (bits(row, 18) % vocabulary as u32) as i32)
        .collect()
}

fn log_probs(inputs: &Inputs, rows: usize, vocabulary: usize) -> Case {
    let logits = inputs.f32_noise([rows, vocabulary], 19, 12.0);
    let targets = targets(rows, vocabulary);
    let ids = inputs.int_tensor(targets.clone(), [rows]);
    let given = logits.clone();
    Case {
        kernel: "token_log_probs",
        shape: format!("{rows}×{vocabulary}"),
        bytes: 4 * rows * vocabulary,
        tolerance: 1e-5,
        reference: Reference::Cpu,
        run: Box::new(move |_| {
            let (log_probs, entropies) = super::token_log_probs(logits.clone(), ids.clone());
            vec![log_probs.into(), entropies.into()]
        }),
        plain: Box::new(move |_| {
            let logits = values(given.clone());
            let (log_probs, entropies) = token_log_probs(&logits, vocabulary, &targets);
            Comparison::Values(vec![in_f32(log_probs), in_f32(entropies)])
        }),
    }
}

fn gradient(inputs: &Inputs, rows: usize, vocabulary: usize) -> Case {
    let logits = inputs.f32_noise([rows, vocabulary], 19, 12.0);
    let targets = targets(rows, vocabulary);
    let ids = inputs.int_tensor(targets.clone(), [rows]);
    let scale = noise(rows, 20, 1.0);
    let scales = inputs.f32_tensor(scale.clone(), [rows]);
    let given = logits.clone();
    Case {
        kernel: "logits_gradient",
        shape: format!("{rows}×{vocabulary}"),
        bytes: 8 * rows * vocabulary,
        tolerance: 1e-5,
        reference: Reference::Cpu,
        run: Box::new(move |_| {
            vec![super::logits_gradient(logits.clone(), ids.clone(), scales.clone()).into()]
        }),
        plain: Box::new(move |_| {
            let logits = values(given.clone());
            let gradient = logits_gradient(&logits, vocabulary, &targets, &scale);
            Comparison::Values(vec![in_f32(gradient)])
        }),
    }
}
