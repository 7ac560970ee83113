//! What an experiment's plan follows from besides its text.

use std::path::PathBuf;
use std::sync::Arc;

use moim_core::memory::Shapes;

/// Read from the model's folder and the data, for the experiment on the Plan screen.
#[derive(Clone, Debug, Default)]
pub struct PlanFacts {
    /// The values that the facts were read for: the model, the encoder and the training data.
    pub model: PathBuf,
    pub encoder: Option<PathBuf>,
    pub train: PathBuf,
    /// Records of the training data, or why they cannot be read.
    pub records: Option<Result<usize, String>>,
    /// Files that do not exist, as text.
    pub missing: Vec<String>,
    /// Bytes of memory of the device in use, where known; of the host for the CPU.
    pub capacity: Option<u64>,
    /// Shapes of the models, for the plan of the memory.
    pub shapes: Option<Arc<Shapes>>,
}
