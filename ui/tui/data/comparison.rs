//! Answer files of a run compared item by item.

use std::path::PathBuf;

use moim_core::score::Comparison;

/// A comparison with its inputs.
#[derive(Debug)]
pub struct ComparisonData {
    /// The run.
    pub run: PathBuf,
    /// The files, the first being the baseline.
    pub files: Vec<String>,
    /// What came of it.
    pub comparison: Comparison,
}
