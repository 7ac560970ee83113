//! Drawing a token on the host, with sums in f64, and the shapes that the kernel is checked at.
//!
//! Sums on the device are in f32, so a uniform next to a boundary between two tokens may fall on its other
//! side: the error of a token is the distance to that boundary.

use crate::device::Compute;
use crate::kernel::case::{
    Case, Cases, Comparison, Inputs, Output, Reference, SMALL_VOCABULARIES, VOCABULARY, largest,
    noise, normalised, values,
};

use super::{Draw, sample};

/// The largest error of a boundary, or of a log-probability.
const TOLERANCE: f64 = 1e-5;

/// The paths through the kernel.
const SETTINGS: [(&str, Draw); 3] = [
    (
        "sample, greedy",
        Draw {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
        },
    ),
    (
        "sample",
        Draw {
            temperature: 0.8,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
        },
    ),
    (
        "sample, truncated",
        Draw {
            temperature: 1.3,
            top_k: 50,
            top_p: 0.9,
            min_p: 0.01,
        },
    ),
];

/// The distance of `u` from the probabilities at which `token` is drawn, or of the log-probability from
/// the right one, whichever is larger.
pub fn error(logits: &[f32], u: f64, draw: &Draw, token: usize, log_prob: f32) -> f64 {
    let Some(logit) = logits.get(token) else {
        return f64::NAN;
    };
    let temperature = if draw.temperature > 0.0 {
        draw.temperature
    } else {
        1.0
    };
    let scaled: Vec<f64> = logits
        .iter()
        .map(|logit| f64::from(*logit) / temperature)
        .collect();
    let (probabilities, normaliser) = normalised(scaled.clone());
    let of_log_prob =
        (f64::from(log_prob) - (scaled[token] - normaliser)).abs() / normaliser.abs().max(1.0);
    if of_log_prob.is_nan() {
        return f64::NAN;
    }
    if draw.temperature == 0.0 {
        let first = logits
            .iter()
            .position(|other| other >= logit && other > &f32::NEG_INFINITY);
        let largest = logits.iter().all(|other| other <= logit);
        let is_first = first == Some(token);
        return if largest && is_first {
            of_log_prob
        } else {
            1.0
        };
    }
    let kept = truncated(&probabilities, draw);
    let sum: f64 = kept.iter().sum();
    let before: f64 = kept[..token].iter().sum::<f64>() / sum;
    let after = before + kept[token] / sum;
    let of_place = (before - u).max(u - after).max(0.0);
    of_place.max(of_log_prob)
}

/// The probability of each token once top-k, top-p and min-p have removed the others.
pub fn probabilities(logits: &[f32], draw: &Draw) -> Vec<f64> {
    let scaled = logits
        .iter()
        .map(|logit| f64::from(*logit) / draw.temperature);
    let (probabilities, _) = normalised(scaled.collect());
    let kept = truncated(&probabilities, draw);
    let sum: f64 = kept.iter().sum();
    kept.iter().map(|p| p / sum).collect()
}

/// Probabilities with those that are never drawn at 0, as `SamplingParameters::candidates` does it.
fn truncated(probabilities: &[f64], draw: &Draw) -> Vec<f64> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    // Of the same probability the first token is the likelier one.
    order.sort_by(|a, b| {
        probabilities[*b]
            .total_cmp(&probabilities[*a])
            .then(a.cmp(b))
    });
    if (1..order.len()).contains(&draw.top_k) {
        let least = probabilities[order[draw.top_k - 1]];
        order.retain(|token| probabilities[*token] >= least);
    }
    let mass: f64 = order.iter().map(|token| probabilities[*token]).sum();
    let mut left = mass;
    let mut kept = vec![0.0; probabilities.len()];
    for (place, &token) in order.iter().enumerate() {
        // The weight of this token and of those after it.
        let is_within = left > (1.0 - draw.top_p) * mass;
        left -= probabilities[token];
        let is_likely = probabilities[token] >= draw.min_p * probabilities[order[0]];
        if place == 0 || (is_likely && (draw.top_p >= 1.0 || is_within)) {
            kept[token] = probabilities[token];
        }
    }
    kept
}

/// For cards only: the CPU draws from logits that are on the host already, see `rollout`.
pub(in crate::kernel) fn cases(cases: &mut Cases) {
    for [rows, vocabulary] in SMALL_VOCABULARIES {
        for setting in SETTINGS {
            cases.small(move |inputs| drawn(inputs, rows, vocabulary, setting));
        }
    }
    for rows in [1, 8, 32, 64] {
        for setting in SETTINGS {
            cases.large(move |inputs| drawn(inputs, rows, VOCABULARY, setting));
        }
    }
}

fn drawn(
    inputs: &Inputs,
    rows: usize,
    vocabulary: usize,
    (kernel, draw): (&'static str, Draw),
) -> Case {
    let logits = inputs.f32_noise([rows, vocabulary], 21, 12.0);
    let uniforms: Vec<f64> = noise(rows, 22, 0.5)
        .into_iter()
        .map(|u| f64::from(u) + 0.5)
        .collect();
    let (given, thrown) = (logits.clone(), uniforms.clone());
    Case {
        kernel,
        shape: format!("{rows}×{vocabulary}"),
        bytes: 4 * rows * vocabulary,
        tolerance: TOLERANCE,
        reference: Reference::Plain,
        run: Box::new(move |_| {
            let (tokens, log_probs) = match sample(logits.clone(), &uniforms, draw) {
                Ok(drawn) => drawn,
                // Reported as an error of the case.
                Err(error) => panic!("{error}"),
            };
            // Ids below 2²⁴ are exact in f32.
            let tokens = tokens
                .into_iter()
                .map(|token| token as f32)
                .collect::<Vec<_>>();
            let on_host = Inputs::on(&Compute::cpu(), 1);
            [tokens, log_probs]
                .map(|values| on_host.f32_tensor(values, [rows]).into())
                .to_vec()
        }),
        plain: Box::new(move |drawn| {
            let logits = values(given.clone());
            let drawn: Vec<Vec<f32>> = drawn.into_iter().map(Output::values).collect();
            let rows = logits
                .chunks(vocabulary)
                .zip(&thrown)
                .zip(drawn[0].iter().zip(&drawn[1]));
            Comparison::Error(largest(rows.map(|((logits, u), (token, log_prob))| {
                error(logits, *u, &draw, *token as usize, *log_prob)
            })))
        }),
    }
}
