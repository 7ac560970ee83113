//! Names and counts as several screens write them.

use std::path::Path;

/// The last part of an experiment's path, without `.toml`.
pub(super) fn name(path: &Path) -> String {
    moim_core::experiment::experiment_name(path)
}

/// `1 fault`, `3 faults`.
pub(super) fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

/// The name of an answer file without its ending: `inference_epoch3`.
pub(super) fn without_ending(file: &str) -> &str {
    file.strip_suffix(".json").unwrap_or(file)
}

/// The part of an answer file's name that distinguishes it: `epoch3`.
pub(super) fn point_of(file: &str) -> &str {
    let stem = without_ending(file);
    stem.strip_prefix("inference_").unwrap_or(stem)
}
