//! Before the first step: what can be known of a run in seconds, without its weights.
//!
//! Each check looks at one thing that has cost people a run (a reward that gives every completion
//! the same, a turn's end that ends nothing, answers that no completion is long enough for, a disk
//! that fills) and answers one [`Check`]. `docs/preflight.md` lists them with their severities.
//!
//! The checks read what [`Texts`] has loaded and draw nothing: a prompt is the same whether or not it
//! was rendered before, since draws are keyed by seed and item. Programs of `[[reward.commands]]` see
//! the samples of the check as those of step 0.

mod data;
mod disk;
mod lengths;
mod machine;
mod memory;
mod prompt;
mod report;
mod rewards;
mod settings;

use std::time::Instant;

pub use machine::{Disk, Machine, device_memory};
pub use report::{Check, Report, Severity};

use crate::setup::Texts;
use moim_core::experiment::Experiment;
use moim_core::reward::RewardSet;

/// All checks. `rewards` may be the reason why there are none.
pub fn check(texts: &Texts, rewards: Result<&mut RewardSet, String>, machine: &Machine) -> Report {
    let clock = Instant::now();
    let mut checks = vec![prompt::prompt(texts), prompt::stop(texts)];
    checks.extend(lengths::checks(texts));
    checks.push(rewards::rewards(texts, rewards));
    checks.extend(data::checks(texts));
    checks.push(settings::settings(
        &texts.experiment,
        texts.train.kept.len(),
    ));
    checks.extend(of_machine(texts, machine, 0));
    Report {
        checks,
        seconds: clock.elapsed().as_secs_f64(),
    }
}

/// The checks of a run that goes on from a save point. Its data, model, rewards and settings were
/// checked when it began, and resuming refuses any that changed since; disk and memory are those of
/// today. `written` is what lies in the run directory already, in bytes.
pub fn check_again(texts: &Texts, machine: &Machine, written: u64) -> Report {
    let clock = Instant::now();
    Report {
        checks: of_machine(texts, machine, written),
        seconds: clock.elapsed().as_secs_f64(),
    }
}

/// What is left to check where the data or the model cannot be read, for the reason `why`.
pub fn check_unread(experiment: &Experiment, why: &str, machine: &Machine) -> Report {
    let clock = Instant::now();
    let left_out = "prompt, lengths, rewards, data and disk are checked once that is put right";
    let mut checks = vec![
        Check::error("inputs", format!("{why}\n({left_out})")),
        settings::settings(experiment, 0),
    ];
    checks.extend(memory::memory(experiment, machine));
    Report {
        checks,
        seconds: clock.elapsed().as_secs_f64(),
    }
}

fn of_machine(texts: &Texts, machine: &Machine, written: u64) -> Vec<Check> {
    let mut checks = disk::checks(texts, machine, written);
    checks.extend(memory::memory(&texts.experiment, machine));
    checks
}

#[cfg(test)]
mod sample;
