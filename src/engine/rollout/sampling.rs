//! From logits to a token: transformers' logits processors, in transformers' order.

use anyhow::{Result, bail};

/// How a token is drawn. The defaults sample from the model's own distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParameters {
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f64,
    /// Keeps this many of the most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the smallest set of most likely tokens with at least this probability; 1 keeps all.
    pub top_p: f64,
    /// Keeps tokens at least this likely relative to the most likely one.
    pub min_p: Option<f64>,
    /// Divides positive and multiplies negative logits of tokens already seen; 1 changes nothing.
    pub repetition_penalty: f64,
}

impl Default for SamplingParameters {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: None,
            repetition_penalty: 1.0,
        }
    }
}

/// A drawn token with its log-probability.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn {
    /// The token.
    pub token: u32,
    /// Its log-probability in nats under the policy at this temperature, before
    /// any truncation or penalty: the quantity the loss compares with. At
    /// temperature 0 it is taken at temperature 1.
    pub log_prob: f32,
}

impl SamplingParameters {
    /// # Errors
    /// A value outside its range, by name.
    pub fn validate(&self) -> Result<()> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            bail!("temperature = {} must be 0 or more", self.temperature);
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            bail!("top_p = {} must be in (0, 1]", self.top_p);
        }
        if self.min_p.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
            bail!(
                "min_p = {} must be in [0, 1]",
                self.min_p.unwrap_or_default()
            );
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            bail!(
                "repetition_penalty = {} must be positive",
                self.repetition_penalty
            );
        }
        Ok(())
    }

    /// Draws a token with the uniform `u` in [0, 1). `seen` returns whether a
    /// token occurs in the prompt or the completion so far.
    ///
    /// # Errors
    /// Logits that are not numbers.
    pub fn draw(&self, logits: &[f32], seen: impl Fn(u32) -> bool, u: f64) -> Result<Drawn> {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if !largest.is_finite() || logits.iter().any(|logit| logit.is_nan()) {
            bail!(
                "the model produced logits that are not numbers; the weights or the learning rate are the cause"
            );
        }
        let temperature = if self.temperature > 0.0 {
            self.temperature
        } else {
            1.0
        };
        let scale = (1.0 / temperature) as f32;
        let normaliser: f64 = logits
            .iter()
            .map(|&logit| f64::from(((logit - largest) * scale).exp()))
            .sum();
        let log_prob = |token: u32| {
            (f64::from((logits[token as usize] - largest) * scale) - normaliser.ln()) as f32
        };
        let token = if self.temperature == 0.0 {
            self.greedy(logits, seen)
        } else {
            let candidates = self.candidates(logits, seen);
            pick(&candidates, u)
        };
        Ok(Drawn {
            token,
            log_prob: log_prob(token),
        })
    }

    fn penalised(&self, logit: f32, seen: bool) -> f32 {
        if !seen || self.repetition_penalty == 1.0 {
            logit
        } else if logit > 0.0 {
            logit / self.repetition_penalty as f32
        } else {
            logit * self.repetition_penalty as f32
        }
    }

    fn greedy(&self, logits: &[f32], seen: impl Fn(u32) -> bool) -> u32 {
        let mut best = (0, f32::NEG_INFINITY);
        for (token, &logit) in logits.iter().enumerate() {
            let logit = if self.repetition_penalty == 1.0 {
                logit
            } else {
                self.penalised(logit, seen(token as u32))
            };
            if logit > best.1 {
                best = (token as u32, logit);
            }
        }
        best.0
    }

    /// Tokens that may be drawn with their probabilities, which sum to 1.
    /// Order of application: penalty, temperature, top-k, top-p, min-p.
    pub fn candidates(&self, logits: &[f32], seen: impl Fn(u32) -> bool) -> Vec<(u32, f64)> {
        let scale = 1.0 / self.temperature;
        let mut kept: Vec<(u32, f64)> = logits
            .iter()
            .enumerate()
            .map(|(token, &logit)| {
                let logit = if self.repetition_penalty == 1.0 {
                    logit
                } else {
                    self.penalised(logit, seen(token as u32))
                };
                (token as u32, f64::from(logit) * scale)
            })
            .collect();
        let truncated = self.top_k > 0 || self.top_p < 1.0 || self.min_p.is_some_and(|p| p > 0.0);
        if !truncated {
            normalise(&mut kept);
            return kept;
        }
        if self.top_k > 0 && self.top_k < kept.len() {
            // Ties with the k-th logit are kept, as transformers keeps them.
            let mut sorted: Vec<f64> = kept.iter().map(|(_, logit)| *logit).collect();
            let (_, kth, _) = sorted.select_nth_unstable_by(self.top_k - 1, |a, b| b.total_cmp(a));
            let kth = *kth;
            kept.retain(|(_, logit)| *logit >= kth);
        }
        if self.top_p < 1.0 {
            normalise(&mut kept);
            kept.sort_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)));
            // From the least likely up, drop while the dropped mass stays within 1 − top_p.
            let mut mass = 0.0;
            let last = kept.len() - 1;
            let mut index = 0;
            kept.retain(|(_, p)| {
                mass += p;
                let keep = mass > 1.0 - self.top_p || index == last;
                index += 1;
                keep
            });
            kept.iter_mut().for_each(|(_, p)| *p = p.ln());
        }
        if let Some(min_p) = self.min_p.filter(|p| *p > 0.0) {
            normalise(&mut kept);
            let largest = kept.iter().map(|(_, p)| *p).fold(0.0, f64::max);
            kept.retain(|(_, p)| *p >= min_p * largest);
            kept.iter_mut().for_each(|(_, p)| *p = p.ln());
        }
        normalise(&mut kept);
        // The draw walks tokens by id, so that it does not depend on how ties were sorted.
        kept.sort_by_key(|(token, _)| *token);
        kept
    }
}

/// Turns logits into probabilities in place.
fn normalise(candidates: &mut [(u32, f64)]) {
    let largest = candidates
        .iter()
        .map(|(_, logit)| *logit)
        .fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for (_, value) in candidates.iter_mut() {
        *value = (*value - largest).exp();
        sum += *value;
    }
    candidates.iter_mut().for_each(|(_, value)| *value /= sum);
}

/// The token under which the cumulative probability passes `u`.
fn pick(candidates: &[(u32, f64)], u: f64) -> u32 {
    let mut cumulative = 0.0;
    let mut chosen = 0;
    for &(token, p) in candidates {
        if p > 0.0 {
            chosen = token;
        }
        cumulative += p;
        if u < cumulative {
            return token;
        }
    }
    // Rounding left the sum a hair below 1: the last possible token.
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        let parameters = SamplingParameters {
            temperature: 0.0,
            ..Default::default()
        };
        assert_eq!(
            parameters
                .draw(&[0.0, 3.0, 3.0], |_| false, 0.99)
                .unwrap()
                .token,
            1
        );
        let penalised = SamplingParameters {
            repetition_penalty: 2.0,
            ..parameters
        };
        assert_eq!(
            penalised
                .draw(&[0.0, 3.0, 2.0], |token| token == 1, 0.0)
                .unwrap()
                .token,
            2
        );
    }

    #[test]
    fn draws_follow_the_distribution() {
        let parameters = SamplingParameters {
            temperature: 0.7,
            ..Default::default()
        };
        let logits = [0.3_f32, -1.0, 2.0, 0.0];
        let candidates = parameters.candidates(&logits, |_| false);
        let draws = 40_000;
        let mut counts = [0usize; 4];
        for i in 0..draws {
            counts[parameters
                .draw(&logits, |_| false, (i as f64 + 0.5) / draws as f64)
                .unwrap()
                .token as usize] += 1;
        }
        for (token, p) in candidates {
            let share = counts[token as usize] as f64 / draws as f64;
            assert!((share - p).abs() < 1e-4, "{token}: {share} against {p}");
        }
    }

    #[test]
    fn logits_that_are_not_numbers_are_an_error() {
        assert!(
            SamplingParameters::default()
                .draw(&[0.0, f32::NAN], |_| false, 0.5)
                .is_err()
        );
    }
}
