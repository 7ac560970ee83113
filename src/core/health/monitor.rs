//! Shows each event of a run to every rule.

use crate::run::{Alarm, Event, EventKind, Step};

use super::hacking::{InTraining, InValidation};
use super::latch::{Latch, Verdict};
use super::levels::{Ceilings, ConstantReward, Entropy, Gradient, Speed};

/// Watches a run's events for conditions that harm it.
#[derive(Clone, Debug)]
pub struct Monitor {
    ceilings: Ceilings,
    entropy: Entropy,
    gradient: Gradient,
    constant_reward: ConstantReward,
    in_training: InTraining,
    in_validation: InValidation,
    rollout: Speed,
    backward: Speed,
}

impl Default for Monitor {
    fn default() -> Self {
        Self {
            ceilings: Ceilings::default(),
            entropy: Entropy::default(),
            gradient: Gradient::default(),
            constant_reward: ConstantReward::default(),
            in_training: InTraining::default(),
            in_validation: InValidation::default(),
            rollout: Speed::new(Self::SLOW_ROLLOUT, "the rollout"),
            backward: Speed::new(Self::SLOW_BACKWARD, "training on completions"),
        }
    }
}

impl Monitor {
    /// The code of a rollout that became slow. It is measured: a run that is repeated may
    /// not raise it again.
    pub const SLOW_ROLLOUT: &'static str = "slow_rollout";
    /// The same of the forward and backward passes.
    pub const SLOW_BACKWARD: &'static str = "slow_backward";

    /// Observes the next event of the run; returns the conditions that begin with it.
    pub fn observe(&mut self, event: &Event) -> Vec<Alarm> {
        match &event.kind {
            EventKind::Step(step) => self.observe_step(step),
            EventKind::Score(score) => {
                let verdict = self.in_validation.judge(score);
                let latch = &mut self.in_validation.latch;
                let step = score.step.unwrap_or_default();
                latch.take(verdict, step).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn observe_step(&mut self, Step { step, metrics, .. }: &Step) -> Vec<Alarm> {
        let mut alarms = Vec::new();
        let mut take = |latch: &mut Latch, verdict: Verdict| {
            alarms.extend(latch.take(verdict, *step));
        };
        // Several steps may share a generation and repeat what is known of it: that counts once.
        let is_first = metrics
            .get("tokens_per_second/rollout")
            .is_none_or(|speed| speed > 0.0);
        let metric = |name: &str| metrics.get(name).filter(|_| is_first || name == "kl");
        for (latch, verdict) in self.ceilings.judge(metric) {
            take(latch, verdict);
        }
        if let Some(entropy) = metrics.get("entropy") {
            let verdict = self.entropy.judge(entropy);
            take(&mut self.entropy.latch, verdict);
        }
        if let Some(norm) = metrics.get("grad_norm") {
            let verdict = self.gradient.judge_spike(norm);
            take(&mut self.gradient.spike, verdict);
            let verdict = self.gradient.judge_zero(norm);
            take(&mut self.gradient.zero, verdict);
        }
        if let Some(reward) = metrics.get("reward").filter(|_| is_first) {
            let verdict = self.constant_reward.judge(reward);
            take(&mut self.constant_reward.latch, verdict);
            self.in_validation.observe_step(reward);
        }
        if is_first {
            let verdict = self.in_training.judge(metrics);
            take(&mut self.in_training.latch, verdict);
        }
        for (speed, metric) in [
            (&mut self.rollout, "tokens_per_second/rollout"),
            (&mut self.backward, "tokens_per_second/backward"),
        ] {
            let verdict = speed.judge(metrics.get(metric).unwrap_or_default());
            take(&mut speed.latch, verdict);
        }
        alarms
    }
}

#[cfg(test)]
mod tests;
