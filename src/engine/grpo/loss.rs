//! The clipped policy loss and its gradient with respect to each
//! log-probability, as pure arithmetic over ragged rows.
//!
//! Reference: TRL 1.16 `GRPOTrainer._compute_loss`; the papers are named at [`LossType`].

use moim_core::experiment::{Experiment, ImportanceSamplingLevel, LossType};

/// Constants of the loss.
#[derive(Clone, Debug, PartialEq)]
pub struct LossSettings {
    /// The term of a token, and how the terms are averaged.
    pub loss_type: LossType,
    /// Whether ratios are per token or per sequence.
    pub importance_sampling_level: ImportanceSamplingLevel,
    /// Ratios below `1 − epsilon` are clipped.
    pub epsilon: f64,
    /// Ratios above `1 + epsilon_high` are clipped; in `cispo`, those above `epsilon_high` itself.
    pub epsilon_high: f64,
    /// Upper bound of the unclipped ratio (two-sided clipping).
    pub delta: Option<f64>,
    /// Weight of the divergence from the reference policy.
    pub beta: f64,
    /// Whether the divergence is multiplied by the ratio (an unbiased estimate off-policy).
    pub use_bias_correction_kl: bool,
    /// Divides by it in `dr_grpo`, in tokens.
    pub max_completion_length: usize,
    /// Micro-batches per optimizer step (A).
    pub gradient_accumulation_steps: usize,
    /// Steepness of `sapo`'s gate where the advantage is positive, and where it is not.
    pub sapo_temperatures: BySign<f64>,
    /// `vespo`'s weighting where the advantage is not negative, and where it is.
    pub vespo: BySign<GammaWeighting>,
    /// Only this part of a micro-batch's tokens, those of the highest entropy, moves the policy.
    pub top_entropy_quantile: f64,
    /// Completions with a negative advantage that the policy has since moved away from by more than
    /// this, in nats a token, do not move it further.
    pub off_policy_mask_threshold: Option<f64>,
}

/// A constant that depends on the advantage's sign.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BySign<T> {
    /// For completions better than their group.
    pub positive: T,
    /// For the others.
    pub negative: T,
}

/// `φ(w) = exp(λ)·w^k·exp(−λ·w)`, which is 1 at w = 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GammaWeighting {
    /// The power.
    pub k: f64,
    /// The rate of decay.
    pub lambda: f64,
}

impl LossSettings {
    /// As `[grpo]` sets them.
    pub fn new(experiment: &Experiment) -> Self {
        let grpo = &experiment.grpo;
        Self {
            loss_type: grpo.loss_type,
            importance_sampling_level: grpo.importance_sampling_level,
            epsilon: grpo.epsilon,
            epsilon_high: grpo.epsilon_high.unwrap_or(grpo.epsilon),
            delta: grpo.delta,
            beta: grpo.beta,
            use_bias_correction_kl: grpo.use_bias_correction_kl,
            max_completion_length: experiment.rollout.max_completion_length,
            gradient_accumulation_steps: grpo.gradient_accumulation_steps
                * experiment.model.num_devices,
            sapo_temperatures: BySign {
                positive: grpo.sapo_temperature_pos,
                negative: grpo.sapo_temperature_neg,
            },
            vespo: BySign {
                positive: GammaWeighting {
                    k: grpo.vespo_k_pos,
                    lambda: grpo.vespo_lambda_pos,
                },
                negative: GammaWeighting {
                    k: grpo.vespo_k_neg,
                    lambda: grpo.vespo_lambda_neg,
                },
            },
            top_entropy_quantile: grpo.top_entropy_quantile,
            off_policy_mask_threshold: grpo.off_policy_mask_threshold,
        }
    }
}

impl Default for LossSettings {
    /// Those of an empty `[grpo]`, which are TRL's.
    fn default() -> Self {
        Self::new(&Experiment::default())
    }
}

/// One completion of a micro-batch; entries are tokens.
#[derive(Clone, Copy, Debug)]
pub struct LossRow<'a> {
    /// Log-probabilities under the policy being trained, in nats.
    pub log_probs: &'a [f32],
    /// Log-probabilities under the policy that sampled; `None` if it is the same policy.
    pub old_log_probs: Option<&'a [f32]>,
    /// Log-probabilities under the reference policy; needed if `beta` is not 0.
    pub reference_log_probs: Option<&'a [f32]>,
    /// Entropies of the policy at each token, in nats; read if `top_entropy_quantile` is below 1.
    pub entropies: &'a [f32],
    /// The completion's advantage.
    pub advantage: f64,
    /// Whether it counts; a row left out counts as having no tokens.
    pub is_counted: bool,
}

/// The loss of a micro-batch as its share of the step's loss.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LossOutput {
    /// Loss, already divided for accumulation.
    pub loss: f64,
    /// Derivative of `loss` with respect to each log-probability.
    pub gradient: Vec<Vec<f32>>,
    /// Sums for the metrics.
    pub statistics: LossStatistics,
}

/// Sums over counted tokens (over rows, for sequence-level ratios).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossStatistics {
    /// Counted tokens.
    pub tokens: f64,
    /// Sum of the divergence estimates, in nats.
    pub kl: f64,
    /// What the clip counts are out of: tokens, or rows.
    pub ratios: f64,
    /// Ratios clipped from below with a negative advantage.
    pub clipped_low: f64,
    /// Ratios clipped from above with a positive advantage.
    pub clipped_high: f64,
    /// The smallest part of a row's ratios that was clipped from below; `None` before the first row.
    pub clipped_low_min: Option<f64>,
    /// The largest part of a row's ratios that was clipped from above.
    pub clipped_high_max: Option<f64>,
    /// Counted rows.
    pub rows: f64,
    /// Sum over rows of `vespo`'s φ.
    pub phi: f64,
}

/// The loss of one micro-batch and its gradient. `step_tokens` are the counted tokens of the whole
/// optimizer step, the divisor of `dapo`.
pub fn policy_loss(rows: &[LossRow], step_tokens: f64, settings: &LossSettings) -> LossOutput {
    let counted = rows.iter().filter(|row| row.is_counted);
    let micro_batch_tokens: usize = counted.map(|row| row.log_probs.len()).sum();
    let mut output = LossOutput {
        gradient: rows
            .iter()
            .map(|row| vec![0.0; row.log_probs.len()])
            .collect(),
        ..Default::default()
    };
    let entropy_threshold = entropy_threshold(rows, settings);
    for (index, row) in rows.iter().enumerate() {
        let tokens = row.log_probs.len();
        if !row.is_counted || tokens == 0 {
            continue;
        }
        let rows = rows.len();
        let accumulation = settings.gradient_accumulation_steps as f64;
        let weight = match settings.loss_type {
            LossType::Grpo | LossType::Sapo => 1.0 / (tokens as f64 * rows as f64 * accumulation),
            LossType::Bnpo => 1.0 / (micro_batch_tokens as f64 * accumulation),
            LossType::DrGrpo => {
                1.0 / ((rows * settings.max_completion_length) as f64 * accumulation)
            }
            LossType::Dapo | LossType::Cispo | LossType::Vespo => 1.0 / step_tokens.max(1.0),
            LossType::Luspo => 1.0 / (rows as f64 * accumulation),
        };
        WeightedRow {
            row,
            settings,
            weight,
            entropy_threshold,
        }
        .add_to(&mut output, index);
    }
    output
}

/// The smallest entropy of a token that moves the policy, in nats: torch's `quantile`, in f32 as there.
fn entropy_threshold(rows: &[LossRow], settings: &LossSettings) -> Option<f32> {
    if settings.top_entropy_quantile >= 1.0 {
        return None;
    }
    let counted = rows.iter().filter(|row| row.is_counted);
    let mut entropies: Vec<f32> = counted.flat_map(|row| row.entropies).copied().collect();
    entropies.sort_by(f32::total_cmp);
    let last = entropies.len().checked_sub(1)?;
    let position = (1.0 - settings.top_entropy_quantile) as f32 * last as f32;
    let (below, above) = (
        entropies[position.floor() as usize],
        entropies[(position.ceil() as usize).min(last)],
    );
    Some(below + (above - below) * position.fract())
}

/// A completion and its share of the step's loss.
struct WeightedRow<'a> {
    row: &'a LossRow<'a>,
    settings: &'a LossSettings,
    /// Multiplies a token's term in the step's loss.
    weight: f64,
    entropy_threshold: Option<f32>,
}

/// A token's term of the loss, with its slopes.
#[derive(Clone, Copy, Default)]
struct Term {
    value: f64,
    of_ratio: f64,
    of_log_prob: f64,
}

impl WeightedRow<'_> {
    /// Adds the loss and statistics of the row, and its gradient, which is the one at `index`.
    fn add_to(&self, output: &mut LossOutput, index: usize) {
        let Self {
            row,
            settings,
            weight,
            ..
        } = *self;
        let length = row.log_probs.len() as f64;
        let is_sequence = settings.importance_sampling_level == ImportanceSamplingLevel::Sequence;
        let sequence_ratio = is_sequence.then(|| {
            let sum: f64 = (0..row.log_probs.len()).map(|t| self.log_ratio(t)).sum();
            (sum / length).exp()
        });
        let phi = match settings.loss_type {
            LossType::Vespo => self.phi(),
            _ => 0.0,
        };
        let is_masked = self.is_off_policy();
        // Derivative of the row's loss with respect to the sequence ratio.
        let mut of_sequence_ratio = 0.0;
        let mut clips = Clips::default();
        for (t, &log_prob) in row.log_probs.iter().enumerate() {
            let log_prob = f64::from(log_prob);
            let ratio = sequence_ratio.unwrap_or_else(|| self.log_ratio(t).exp());
            let mut term = Term::default();
            if !is_masked && self.is_uncertain(t) {
                term = self.policy_term(ratio, log_prob, phi);
            }
            if let Some(reference) = row.reference_log_probs.filter(|_| settings.beta != 0.0) {
                let gap = f64::from(reference[t]) - log_prob;
                let divergence = gap.exp() - gap - 1.0;
                let correction = if settings.use_bias_correction_kl {
                    ratio
                } else {
                    1.0
                };
                term.value += settings.beta * divergence * correction;
                term.of_log_prob += settings.beta * (1.0 - gap.exp()) * correction;
                if settings.use_bias_correction_kl {
                    term.of_ratio += settings.beta * divergence;
                }
                output.statistics.kl += divergence * correction;
            }
            output.loss += weight * term.value;
            match sequence_ratio {
                Some(_) => of_sequence_ratio += weight * term.of_ratio,
                None => {
                    term.of_log_prob += term.of_ratio * ratio;
                    clips.count(ratio, row.advantage, settings);
                }
            }
            output.gradient[index][t] = (weight * term.of_log_prob) as f32;
        }
        if let Some(ratio) = sequence_ratio {
            clips.count(ratio, row.advantage, settings);
            let shared = (of_sequence_ratio * ratio / length) as f32;
            output.gradient[index].iter_mut().for_each(|g| *g += shared);
        }
        output.statistics.tokens += length;
        output.statistics.rows += 1.0;
        output.statistics.phi += phi;
        clips.add_to(&mut output.statistics);
    }

    fn log_ratio(&self, t: usize) -> f64 {
        let log_prob = self.row.log_probs[t];
        let old = self.row.old_log_probs;
        f64::from(log_prob) - f64::from(old.map_or(log_prob, |old| old[t]))
    }

    /// The term that moves the policy.
    fn policy_term(&self, ratio: f64, log_prob: f64, phi: f64) -> Term {
        let (settings, advantage) = (self.settings, self.row.advantage);
        // A weight that is a constant to the gradient, times the log-probability.
        let weighted = |weight: f64| Term {
            value: -weight * advantage * log_prob,
            of_ratio: 0.0,
            of_log_prob: -weight * advantage,
        };
        match settings.loss_type {
            LossType::Cispo => weighted(ratio.min(settings.epsilon_high)),
            LossType::Vespo => weighted(phi),
            LossType::Sapo => {
                let temperature = if advantage > 0.0 {
                    settings.sapo_temperatures.positive
                } else {
                    settings.sapo_temperatures.negative
                };
                let gate = 1.0 / (1.0 + (-temperature * (ratio - 1.0)).exp());
                Term {
                    value: -gate * 4.0 / temperature * advantage,
                    of_ratio: -gate * (1.0 - gate) * 4.0 * advantage,
                    of_log_prob: 0.0,
                }
            }
            LossType::Grpo
            | LossType::Bnpo
            | LossType::DrGrpo
            | LossType::Dapo
            | LossType::Luspo => {
                let (value, of_ratio) = clipped_term(ratio, advantage, settings);
                Term {
                    value,
                    of_ratio,
                    of_log_prob: 0.0,
                }
            }
        }
    }

    /// Whether a token is among those of the highest entropy.
    fn is_uncertain(&self, t: usize) -> bool {
        self.entropy_threshold
            .is_none_or(|threshold| self.row.entropies[t] >= threshold)
    }

    /// Whether the policy has moved away from a completion that was worse than its group
    /// (DeepSeek-V3.2's off-policy sequence mask).
    fn is_off_policy(&self) -> bool {
        let Some(threshold) = self.settings.off_policy_mask_threshold else {
            return false;
        };
        let tokens = self.row.log_probs.len();
        let moved: f64 = (0..tokens).map(|t| -self.log_ratio(t)).sum();
        self.row.advantage < 0.0 && moved / tokens as f64 > threshold
    }

    /// `vespo`'s weight of a completion, from the ratio of its whole probability.
    fn phi(&self) -> f64 {
        let GammaWeighting { k, lambda } = if self.row.advantage >= 0.0 {
            self.settings.vespo.positive
        } else {
            self.settings.vespo.negative
        };
        let lambda = lambda.max(1e-4);
        let log_ratios = (0..self.row.log_probs.len()).map(|t| self.log_ratio(t));
        let sum: f64 = log_ratios.map(|ratio| ratio.clamp(-20.0, 20.0)).sum();
        let log_w = sum.clamp(1e-8_f64.ln(), 20.0);
        let phi = (lambda + k * log_w - lambda * log_w.exp()).exp();
        if phi.is_finite() { phi } else { 0.0 }
    }
}

/// `−min(min(ρ, δ)·A, clip(ρ, 1−ε, 1+ε_high)·A)` and its derivative with respect to ρ.
fn clipped_term(ratio: f64, advantage: f64, settings: &LossSettings) -> (f64, f64) {
    let (low, high) = (1.0 - settings.epsilon, 1.0 + settings.epsilon_high);
    let bound = settings.delta.unwrap_or(f64::INFINITY);
    // Not `min`, which would make a number of NaN.
    let bounded = if ratio > bound { bound } else { ratio };
    let plain = (
        bounded * advantage,
        if ratio <= bound { advantage } else { 0.0 },
    );
    let clipped = (
        ratio.clamp(low, high) * advantage,
        if (low..=high).contains(&ratio) {
            advantage
        } else {
            0.0
        },
    );
    // Where both are equal, so are their derivatives up to the edge itself; torch takes the mean there.
    let (value, slope) = match plain.0.total_cmp(&clipped.0) {
        std::cmp::Ordering::Less => plain,
        std::cmp::Ordering::Greater => clipped,
        std::cmp::Ordering::Equal => (plain.0, (plain.1 + clipped.1) / 2.0),
    };
    (-value, -slope)
}

/// Ratios of one completion that were clipped.
#[derive(Default)]
struct Clips {
    ratios: f64,
    low: f64,
    high: f64,
}

impl Clips {
    fn count(&mut self, ratio: f64, advantage: f64, settings: &LossSettings) {
        let (low, high) = match settings.loss_type {
            LossType::Cispo => (f64::NEG_INFINITY, settings.epsilon_high),
            _ => (1.0 - settings.epsilon, 1.0 + settings.epsilon_high),
        };
        self.ratios += 1.0;
        self.low += f64::from(ratio < low && advantage < 0.0);
        self.high += f64::from(ratio > high && advantage > 0.0);
    }

    fn add_to(self, statistics: &mut LossStatistics) {
        statistics.ratios += self.ratios;
        statistics.clipped_low += self.low;
        statistics.clipped_high += self.high;
        let (low, high) = (self.low / self.ratios, self.high / self.ratios);
        let smallest = statistics.clipped_low_min.map_or(low, |old| old.min(low));
        let largest = statistics
            .clipped_high_max
            .map_or(high, |old| old.max(high));
        statistics.clipped_low_min = Some(smallest);
        statistics.clipped_high_max = Some(largest);
    }
}
