//! Whether a token was drawn rightly: sums on the device are in f32, so a uniform next to a boundary
//! between two tokens may fall on its other side, and the error is how far that boundary is.

use super::plain::normalised;
use crate::kernel::sample::Draw;

/// What a boundary, or a log-probability, may be off.
pub const TOLERANCE: f64 = 1e-5;

/// The ways through the kernel.
pub const SETTINGS: [Draw; 3] = [
    Draw {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
    },
    Draw {
        temperature: 0.8,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
    },
    Draw {
        temperature: 1.3,
        top_k: 50,
        top_p: 0.9,
        min_p: 0.01,
    },
];

pub fn name(draw: &Draw) -> &'static str {
    match (draw.temperature > 0.0, draw.top_k > 0) {
        (false, _) => "sample, greedy",
        (true, false) => "sample",
        (true, true) => "sample, truncated",
    }
}

/// How far `u` is from the probabilities under which `token` is drawn, or the log-probability from
/// what it should be, whichever is more.
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
        // What this token and those behind it weigh.
        let is_within = left > (1.0 - draw.top_p) * mass;
        left -= probabilities[token];
        let is_likely = probabilities[token] >= draw.min_p * probabilities[order[0]];
        if place == 0 || (is_likely && (draw.top_p >= 1.0 || is_within)) {
            kept[token] = probabilities[token];
        }
    }
    kept
}
