//! Metrics of a step that have a healthy range of their own.
//!
//! [The ranges](super::ranges) are taken as those of means over several steps, because single steps
//! are noise.

use super::latch::{Latch, Verdict};
use super::ranges::{
    self, COLLAPSED_ENTROPY, HIGHEST_ENTROPY, HIGHEST_GRAD_NORM, LOWEST_ENTROPY, LOWEST_GRAD_NORM,
    UNSTABLE_GRAD_NORM,
};
use super::window::Window;
use crate::run::Severity;

/// Steps of a mean.
const STEPS: usize = 10;
/// Steps of a mean of what harms quickly.
const FEW_STEPS: usize = 5;
/// How far inside the healthy range a mean must be before an alarm is taken back, so that one on
/// the border raises it once. Ours.
const CLEARLY: f64 = 0.9;

/// The alarm of a metric whose high values are bad.
struct Ceiling {
    code: &'static str,
    range: ranges::Ceiling,
    steps: usize,
    /// The start of the message, before the mean.
    what: &'static str,
    /// The end of the message.
    hint: &'static str,
}

const CEILINGS: [Ceiling; 4] = [
    Ceiling {
        code: "zero_variance_groups",
        range: ranges::ZERO_VARIANCE,
        steps: STEPS,
        what: "the share of groups whose completions all got the same reward, which teach nothing, is",
        hint: "use questions that the model gets right only sometimes, a reward with finer steps, a higher \
                  rollout.temperature, or a larger grpo.num_generations",
    },
    Ceiling {
        code: "kl",
        range: ranges::KL,
        steps: FEW_STEPS,
        what: "the KL divergence from the base model is",
        hint: "lower grpo.learning_rate or raise grpo.beta, and resume from a save point before it rose",
    },
    Ceiling {
        code: "clipped_completions",
        range: ranges::CLIPPED,
        steps: STEPS,
        what: "the share of completions that were cut off before their end is",
        hint: "raise rollout.max_completion_length; if they should have ended long before, look at the completions \
                  and at the stop tokens that the run named at its start",
    },
    Ceiling {
        code: "sampling_mismatch",
        range: ranges::MISMATCH,
        steps: FEW_STEPS,
        what: "the log-probabilities of sampling and of training, which are two computations of one number, differ by",
        hint: "set model.dtype = \"float32\"; if that does not help, what is sampled is not what is trained, and \
                  this deserves a bug report",
    },
];

/// Watches every metric that has a ceiling.
#[derive(Clone, Debug)]
pub(super) struct Ceilings {
    watched: Vec<(Window, Latch)>,
}

impl Default for Ceilings {
    fn default() -> Self {
        let new = |ceiling: &Ceiling| (Window::new(ceiling.steps), Latch::new(ceiling.code));
        Self {
            watched: CEILINGS.iter().map(new).collect(),
        }
    }
}

impl Ceilings {
    /// Each metric's verdict on a step, with its latch. `metric` returns the step's value.
    pub(super) fn judge(
        &mut self,
        metric: impl Fn(&str) -> Option<f64>,
    ) -> impl Iterator<Item = (&mut Latch, Verdict)> {
        CEILINGS
            .iter()
            .zip(&mut self.watched)
            .filter_map(move |(ceiling, (window, latch))| {
                window.push(metric(ceiling.range.metric)?);
                Some((latch, ceiling.judge(window)))
            })
    }
}

impl Ceiling {
    fn judge(&self, window: &Window) -> Verdict {
        let Some(mean) = window.full_mean() else {
            return Verdict::Between;
        };
        let ranges::Ceiling {
            warning, critical, ..
        } = self.range;
        let severity = match mean {
            _ if mean >= critical => Severity::Critical,
            _ if mean >= warning => Severity::Warning,
            _ if mean < warning * CLEARLY => return Verdict::Well,
            _ => return Verdict::Between,
        };
        let message = format!(
            "{} {mean:.2} over the last {} steps (healthy: under {warning}); {}",
            self.what, self.steps, self.hint
        );
        Verdict::Bad(severity, message)
    }
}

/// Under this share of what it was in the first steps the entropy is falling too far. Ours: users
/// report collapses after long stable phases (trl#2980), and a run that learns halves it.
const SMALL_SHARE_OF_EARLY_ENTROPY: f64 = 0.2;

/// Watches the entropy of what the model samples from.
#[derive(Clone, Debug)]
pub(super) struct Entropy {
    window: Window,
    /// The mean of the first steps.
    early: Option<f64>,
    pub(super) latch: Latch,
}

impl Default for Entropy {
    fn default() -> Self {
        Self {
            window: Window::new(STEPS),
            early: None,
            latch: Latch::new("entropy_collapse"),
        }
    }
}

impl Entropy {
    pub(super) fn judge(&mut self, entropy: f64) -> Verdict {
        self.window.push(entropy);
        let Some(mean) = self.window.full_mean() else {
            return Verdict::Between;
        };
        let early = *self.early.get_or_insert(mean);
        let severity = match mean {
            _ if mean < COLLAPSED_ENTROPY => Severity::Critical,
            _ if mean < early * SMALL_SHARE_OF_EARLY_ENTROPY => Severity::Warning,
            _ if mean * CLEARLY > COLLAPSED_ENTROPY
                && mean * CLEARLY > early * SMALL_SHARE_OF_EARLY_ENTROPY =>
            {
                return Verdict::Well;
            }
            _ => return Verdict::Between,
        };
        let message = format!(
            "the entropy of the model's choices fell to {mean:.4} nats per token over the last {STEPS} steps, from \
             {early:.4} in the first ones (healthy: {LOWEST_ENTROPY} to {HIGHEST_ENTROPY}; under {COLLAPSED_ENTROPY} it has collapsed), \
             so the completions of a group become alike; lower grpo.learning_rate, raise rollout.temperature, \
             grpo.epsilon_high or grpo.beta, and resume from an earlier save point"
        );
        Verdict::Bad(severity, message)
    }
}

/// A spike is this many times the median of the steps before, and outside the healthy range. Ours.
const SPIKE: f64 = 10.0;
/// Steps whose median a spike is measured against.
const STEPS_BEFORE_SPIKE: usize = 20;
/// Calm steps after which a spike is over. Ours.
const CALM_STEPS: usize = 10;
/// No larger norm counts as none. Ours, far under [`LOWEST_GRAD_NORM`], which an adapter with a small
/// scale stays under in good health.
const NO_GRAD_NORM: f64 = 1e-7;

/// Watches the norm of the gradient.
#[derive(Clone, Debug)]
pub(super) struct Gradient {
    before: Window,
    few: Window,
    calm_steps: usize,
    pub(super) spike: Latch,
    pub(super) zero: Latch,
}

impl Default for Gradient {
    fn default() -> Self {
        Self {
            before: Window::new(STEPS_BEFORE_SPIKE),
            few: Window::new(FEW_STEPS),
            calm_steps: 0,
            spike: Latch::new("grad_norm_spike"),
            zero: Latch::new("grad_norm_zero"),
        }
    }
}

impl Gradient {
    pub(super) fn judge_spike(&mut self, norm: f64) -> Verdict {
        // A step without a finite norm was dropped; it is no calm one.
        if !norm.is_finite() {
            self.calm_steps = 0;
            return Verdict::Between;
        }
        let usual = self.before.median();
        let is_known = self.before.len() >= FEW_STEPS;
        self.before.push(norm);
        let is_spike = is_known && norm > usual * SPIKE && norm > HIGHEST_GRAD_NORM;
        let severity = match norm {
            _ if norm > UNSTABLE_GRAD_NORM => Severity::Critical,
            _ if is_spike => Severity::Warning,
            _ => {
                self.calm_steps += 1;
                return if self.calm_steps >= CALM_STEPS {
                    Verdict::Well
                } else {
                    Verdict::Between
                };
            }
        };
        self.calm_steps = 0;
        let compared = if is_known {
            format!(", where {usual:.3} was usual")
        } else {
            String::new()
        };
        let message = format!(
            "the gradient's norm is {norm:.2}{compared} (healthy: up to {HIGHEST_GRAD_NORM}; above \
             {UNSTABLE_GRAD_NORM} training is unstable); grpo.max_grad_norm limits the harm of one step, and if \
             it continues, lower grpo.learning_rate and resume from a save point before it"
        );
        Verdict::Bad(severity, message)
    }

    pub(super) fn judge_zero(&mut self, norm: f64) -> Verdict {
        self.few.push(norm);
        if !self.few.is_full() {
            return Verdict::Between;
        }
        let (_, largest) = self.few.range();
        if largest > NO_GRAD_NORM {
            return Verdict::Well;
        }
        let message = format!(
            "the gradient's norm was never above {NO_GRAD_NORM:e} in the last {FEW_STEPS} steps (healthy: {LOWEST_GRAD_NORM} to \
             {HIGHEST_GRAD_NORM}), so nothing is learned; see whether the rewards within a group differ \
             (frac_reward_zero_std) and whether grpo.learning_rate is above 0"
        );
        Verdict::Bad(Severity::Critical, message)
    }
}

/// Steps after which a reward that never changed is reported. Ours: axolotl expects a reward to have
/// risen above 0.15 within 20 steps.
const STEPS_OF_CONSTANT_REWARD: usize = 20;

/// Watches whether the reward moves at all.
#[derive(Clone, Debug)]
pub(super) struct ConstantReward {
    window: Window,
    pub(super) latch: Latch,
}

impl Default for ConstantReward {
    fn default() -> Self {
        Self {
            window: Window::new(STEPS_OF_CONSTANT_REWARD),
            latch: Latch::new("reward_constant"),
        }
    }
}

impl ConstantReward {
    pub(super) fn judge(&mut self, reward: f64) -> Verdict {
        self.window.push(reward);
        if !self.window.is_full() {
            return Verdict::Between;
        }
        let (lowest, highest) = self.window.range();
        if highest - lowest > 1e-9 {
            return Verdict::Well;
        }
        let message = format!(
            "the mean reward was {highest:.4} in each of the last {STEPS_OF_CONSTANT_REWARD} steps (healthy: it moves \
             from step to step); look at completions.jsonl for what is sampled and which reward stays the same, and \
             try reward.format_pattern and the formula on one completion by hand"
        );
        Verdict::Bad(Severity::Warning, message)
    }
}

/// Steps whose median speed is compared.
const STEPS_OF_SPEED: usize = 10;
/// Under this share of the best speed so far the run has become slow. Ours: the length of the
/// completions alone moves the speed by a factor of two.
const SLOW: f64 = 1.0 / 3.0;

/// Watches the speed of one phase.
#[derive(Clone, Debug)]
pub(super) struct Speed {
    phase: &'static str,
    window: Window,
    best: f64,
    pub(super) latch: Latch,
}

impl Speed {
    /// `code` of its alarms, for the phase that the message names.
    pub(super) fn new(code: &'static str, phase: &'static str) -> Self {
        Self {
            phase,
            window: Window::new(STEPS_OF_SPEED),
            best: 0.0,
            latch: Latch::new(code),
        }
    }

    /// `tokens_per_second` is 0 where the phase took no part in the step, which says nothing.
    pub(super) fn judge(&mut self, tokens_per_second: f64) -> Verdict {
        if tokens_per_second > 0.0 {
            self.window.push(tokens_per_second);
        }
        if !self.window.is_full() {
            return Verdict::Between;
        }
        let now = self.window.median();
        self.best = self.best.max(now);
        if now * CLEARLY > self.best * SLOW {
            return Verdict::Well;
        }
        if now >= self.best * SLOW {
            return Verdict::Between;
        }
        let message = format!(
            "{} makes {now:.0} tokens/s over the last {STEPS_OF_SPEED} steps, where it made {:.0} (healthy: at least a \
             third of its best); see what else runs on the machine, its temperature and its free memory \
             (system.jsonl), and whether the completions became much longer",
            self.phase, self.best
        );
        Verdict::Bad(Severity::Warning, message)
    }
}
