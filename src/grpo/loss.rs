//! The clipped policy loss and its gradient with respect to each
//! log-probability, as pure arithmetic over ragged rows.
//!
//! Reference: TRL 1.16 `GRPOTrainer._compute_loss`; Shao et al. 2024 (GRPO),
//! Liu et al. 2025 (Dr. GRPO), Yu et al. 2025 (DAPO), Zheng et al. 2025 (GSPO).

use crate::experiment::{ImportanceSamplingLevel, LossType};

/// Constants of the loss.
#[derive(Clone, Debug, PartialEq)]
pub struct LossSettings {
    /// How token terms are averaged.
    pub loss_type: LossType,
    /// Whether ratios are per token or per sequence.
    pub importance_sampling_level: ImportanceSamplingLevel,
    /// Ratios below `1 − epsilon` are clipped.
    pub epsilon: f64,
    /// Ratios above `1 + epsilon_high` are clipped.
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
}

/// The completions of one micro-batch; rows are completions, entries tokens.
pub struct LossInput<'a> {
    /// Log-probabilities under the policy being trained, in nats.
    pub log_probs: &'a [Vec<f32>],
    /// Log-probabilities under the policy that sampled; `None` when it is the same policy.
    pub old_log_probs: Option<&'a [Vec<f32>]>,
    /// Log-probabilities under the reference policy; wanted when `beta` is not 0.
    pub reference_log_probs: Option<&'a [Vec<f32>]>,
    /// One per row.
    pub advantages: &'a [f64],
    /// Rows that count; a row left out counts as having no tokens.
    pub is_counted: &'a [bool],
    /// Counted tokens of the whole optimizer step, the divisor of `dapo`.
    pub step_tokens: usize,
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
}

/// The loss of one micro-batch and its gradient.
pub fn policy_loss(input: &LossInput, settings: &LossSettings) -> LossOutput {
    let rows = input.log_probs.len();
    let micro_batch_tokens: usize = counted(input).map(|row| input.log_probs[row].len()).sum();
    let mut output = LossOutput {
        gradient: input
            .log_probs
            .iter()
            .map(|row| vec![0.0; row.len()])
            .collect(),
        ..Default::default()
    };
    for row in counted(input) {
        let length = input.log_probs[row].len();
        if length == 0 {
            continue;
        }
        let weight = token_weight(
            settings,
            length,
            rows,
            micro_batch_tokens,
            input.step_tokens,
        );
        row_loss(input, settings, row, weight, &mut output);
    }
    output
}

fn counted<'a>(input: &'a LossInput) -> impl Iterator<Item = usize> + 'a {
    (0..input.log_probs.len()).filter(|&row| input.is_counted[row])
}

/// What a token's term is multiplied by in the step's loss.
fn token_weight(
    settings: &LossSettings,
    row_tokens: usize,
    rows: usize,
    micro_batch_tokens: usize,
    step_tokens: usize,
) -> f64 {
    let accumulation = settings.gradient_accumulation_steps as f64;
    match settings.loss_type {
        LossType::Grpo => 1.0 / (row_tokens as f64 * rows as f64 * accumulation),
        LossType::Bnpo => 1.0 / (micro_batch_tokens as f64 * accumulation),
        LossType::DrGrpo => 1.0 / ((rows * settings.max_completion_length) as f64 * accumulation),
        LossType::Dapo => 1.0 / step_tokens.max(1) as f64,
    }
}

fn row_loss(
    input: &LossInput,
    settings: &LossSettings,
    row: usize,
    weight: f64,
    output: &mut LossOutput,
) {
    let log_probs = &input.log_probs[row];
    let length = log_probs.len() as f64;
    let old = |t: usize| f64::from(input.old_log_probs.map_or(log_probs[t], |old| old[row][t]));
    let advantage = input.advantages[row];
    let is_sequence = settings.importance_sampling_level == ImportanceSamplingLevel::Sequence;
    let sequence_ratio = is_sequence.then(|| {
        let sum: f64 = (0..log_probs.len())
            .map(|t| f64::from(log_probs[t]) - old(t))
            .sum();
        (sum / length).exp()
    });
    // Derivative of the row's loss with respect to the sequence ratio.
    let mut of_sequence_ratio = 0.0;
    for (t, &log_prob) in log_probs.iter().enumerate() {
        let log_prob = f64::from(log_prob);
        let ratio = sequence_ratio.unwrap_or_else(|| (log_prob - old(t)).exp());
        let (mut term, mut of_ratio) = clipped_term(ratio, advantage, settings);
        let mut of_log_prob = 0.0;
        if let Some(reference) = input.reference_log_probs.filter(|_| settings.beta != 0.0) {
            let gap = f64::from(reference[row][t]) - log_prob;
            let divergence = gap.exp() - gap - 1.0;
            let correction = if settings.use_bias_correction_kl {
                ratio
            } else {
                1.0
            };
            term += settings.beta * divergence * correction;
            of_log_prob += settings.beta * (1.0 - gap.exp()) * correction;
            if settings.use_bias_correction_kl {
                of_ratio += settings.beta * divergence;
            }
            output.statistics.kl += divergence * correction;
        }
        output.loss += weight * term;
        match sequence_ratio {
            Some(_) => of_sequence_ratio += weight * of_ratio,
            None => {
                of_log_prob += of_ratio * ratio;
                count_clip(ratio, advantage, settings, &mut output.statistics);
            }
        }
        output.gradient[row][t] = (weight * of_log_prob) as f32;
    }
    output.statistics.tokens += length;
    if let Some(ratio) = sequence_ratio {
        count_clip(ratio, advantage, settings, &mut output.statistics);
        let shared = (of_sequence_ratio * ratio / length) as f32;
        output.gradient[row].iter_mut().for_each(|g| *g += shared);
    }
}

/// `−min(min(ρ, δ)·A, clip(ρ, 1−ε, 1+ε_high)·A)` and its derivative with respect to ρ.
fn clipped_term(ratio: f64, advantage: f64, settings: &LossSettings) -> (f64, f64) {
    let (low, high) = (1.0 - settings.epsilon, 1.0 + settings.epsilon_high);
    let bound = settings.delta.unwrap_or(f64::INFINITY);
    let plain = (
        ratio.min(bound) * advantage,
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

fn count_clip(
    ratio: f64,
    advantage: f64,
    settings: &LossSettings,
    statistics: &mut LossStatistics,
) {
    statistics.ratios += 1.0;
    statistics.clipped_low += f64::from(ratio < 1.0 - settings.epsilon && advantage < 0.0);
    statistics.clipped_high += f64::from(ratio > 1.0 + settings.epsilon_high && advantage > 0.0);
}
