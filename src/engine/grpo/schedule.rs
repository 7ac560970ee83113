//! Learning-rate schedules; transformers' `get_scheduler`.

use std::f64::consts::PI;

use moim_core::experiment::LrSchedulerType;

/// A schedule over a fixed number of optimizer steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Shape after the warm-up.
    pub kind: LrSchedulerType,
    /// Rate at the end of the warm-up.
    pub learning_rate: f64,
    /// Steps over which the rate rises from 0.
    pub warmup_steps: usize,
    /// Steps in all.
    pub total_steps: usize,
}

impl Schedule {
    /// Warm-up steps as transformers counts them: `warmup_steps` if set, else a
    /// share of all steps, rounded up.
    pub fn warmup(warmup_steps: usize, warmup_ratio: f64, total_steps: usize) -> usize {
        if warmup_steps > 0 {
            warmup_steps
        } else {
            (warmup_ratio * total_steps as f64).ceil() as usize
        }
    }

    /// The rate that optimizer step `step` (counted from 0) uses.
    pub fn learning_rate(&self, step: usize) -> f64 {
        let warmup = match self.kind {
            LrSchedulerType::Constant => 0,
            _ => self.warmup_steps,
        };
        if step < warmup {
            return self.learning_rate * step as f64 / warmup as f64;
        }
        let remaining = self.total_steps.saturating_sub(warmup).max(1) as f64;
        let factor = match self.kind {
            LrSchedulerType::Constant | LrSchedulerType::ConstantWithWarmup => 1.0,
            LrSchedulerType::Linear => {
                (self.total_steps.saturating_sub(step) as f64 / remaining).max(0.0)
            }
            LrSchedulerType::Cosine => {
                let progress = (step - warmup) as f64 / remaining;
                (0.5 * (1.0 + (PI * progress).cos())).max(0.0)
            }
        };
        self.learning_rate * factor
    }
}
