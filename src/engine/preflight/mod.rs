//! Checks before the first step: everything that can be found out about a run in seconds, without its
//! weights.
//!
//! Each check tests one problem that has ruined runs (a reward that is the same for every completion, an
//! end token that does not end a completion, answers that are longer than any completion, a full disk)
//! and returns one [`Check`]. `docs/preflight.md` lists them with their severities.
//!
//! The checks read what [`Texts`] has loaded and do not affect the run: rendering a prompt twice gives
//! the same text, since random draws depend only on seed and item. Programs of `[[reward.commands]]`
//! get the samples of the check with step 0.

mod data;
mod disk;
mod lengths;
mod machine;
mod memory;
mod prompt;
mod rewards;
mod settings;

use std::time::Instant;

pub use machine::{Disk, Machine};
pub use moim_core::findings::{Check, Report, Severity};

use crate::setup::Texts;
use moim_core::experiment::Experiment;
use moim_core::reward::RewardSet;

/// Runs all checks. `rewards` can be the reason why there are no rewards.
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

/// Checks a run that resumes from a save point. Its data, model, rewards and settings were checked when
/// it started, and resuming refuses any change of them, so only disk and memory are checked. `written` is
/// the current size of the run directory, in bytes.
pub fn check_again(texts: &Texts, machine: &Machine, written: u64) -> Report {
    let clock = Instant::now();
    Report {
        checks: of_machine(texts, machine, written),
        seconds: clock.elapsed().as_secs_f64(),
    }
}

/// The remaining checks if the data or the model cannot be read, for the reason `why`.
pub fn check_unread(experiment: &Experiment, why: &str, machine: &Machine) -> Report {
    let clock = Instant::now();
    let skipped = "prompt, lengths, rewards, data and disk are checked once that is fixed";
    let mut checks = vec![
        Check::error("inputs", format!("{why}\n({skipped})")),
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
