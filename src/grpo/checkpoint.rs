//! Save points: the adapter as PEFT reads it, and beside it what the trainer
//! needs to go on exactly where it was.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn::tensor::Tensor;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::{Deserialize, Serialize};

use crate::device::Compute;
use crate::model::{
    Adapter, LlamaConfig, WeightFiles, f32_tensor, load_adapter, save_adapter, to_f32,
};
use crate::optimizer::AdamW;
use crate::run::publish::{publish, publish_folder};

const STATE: &str = "trainer_state.json";
const OPTIMIZER: &str = "optimizer.safetensors";

/// Where a run is, apart from tensors. Draws and prompt order follow from the
/// seed and the step, so no generator state is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainerState {
    /// Optimizer steps taken.
    pub step: usize,
    /// Optimizer updates applied; fewer than steps where a step was dropped.
    pub updates: usize,
    /// Tokens seen: prompts once per group, and completions.
    pub num_tokens: u64,
    /// Steps dropped in a row because loss or gradients were not finite.
    pub dropped_in_a_row: usize,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Length of events.jsonl when this was saved, in bytes.
    pub events_position: u64,
    /// Length of completions.jsonl when this was saved, in bytes.
    pub completions_position: u64,
}

/// Writes a save point as one directory that appears whole or not at all.
/// The adapter is read back and compared; answers the largest difference found.
///
/// # Errors
/// A file cannot be written, or what is read back differs in shape.
pub fn save(
    directory: &Path,
    adapter: &Adapter,
    optimizer: &AdamW,
    state: &TrainerState,
    base_model: &str,
    model: &LlamaConfig,
    compute: &Compute,
) -> Result<f32> {
    publish_folder(directory, |partial| {
        save_adapter(partial, adapter, base_model)?;
        save_optimizer(&partial.join(OPTIMIZER), optimizer)?;
        publish(
            &partial.join(STATE),
            format!("{}\n", serde_json::to_string_pretty(state)?).as_bytes(),
        )?;
        Ok(())
    })
    .with_context(|| format!("{}: the save point cannot be written", directory.display()))?;
    let reloaded = load_adapter(directory, model, compute)?;
    let mut largest = 0.0_f32;
    for (kept, read) in adapter.parameters().into_iter().zip(reloaded.parameters()) {
        for (a, b) in to_f32(kept).into_iter().zip(to_f32(read)) {
            largest = largest.max((a - b).abs());
        }
    }
    Ok(largest)
}

/// Reads a save point back.
///
/// # Errors
/// A file is absent, torn, or belongs to another adapter.
pub fn load(
    directory: &Path,
    optimizer: &mut AdamW,
    model: &LlamaConfig,
    compute: &Compute,
) -> Result<(Adapter, TrainerState)> {
    let adapter = load_adapter(directory, model, compute)?;
    let path = directory.join(STATE);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{}: cannot be read", path.display()))?;
    let state: TrainerState = serde_json::from_str(&text)
        .with_context(|| format!("{}: not a trainer state", path.display()))?;
    let path = directory.join(OPTIMIZER);
    let files = WeightFiles::open_files(vec![path.clone()])?;
    let read = |kind: &str| -> Result<Vec<Tensor<2>>> {
        let parameters = adapter.parameters();
        let tensors = parameters.iter().enumerate().map(|(i, parameter)| {
            let shape = parameter.dims();
            Ok(f32_tensor(
                files.read_f32(&moment_name(kind, i), &shape)?,
                shape,
                compute,
            ))
        });
        tensors.collect()
    };
    optimizer
        .restore(state.updates, read("exp_avg")?, read("exp_avg_sq")?)
        .with_context(|| path.display().to_string())?;
    Ok((adapter, state))
}

fn moment_name(kind: &str, index: usize) -> String {
    format!("{index:05}.{kind}")
}

fn save_optimizer(path: &Path, optimizer: &AdamW) -> Result<()> {
    let (first, second) = optimizer.moments();
    let mut stored = Vec::new();
    for (kind, moments) in [("exp_avg", first), ("exp_avg_sq", second)] {
        for (i, moment) in moments.iter().enumerate() {
            let bytes: Vec<u8> = to_f32(moment.clone())
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect();
            stored.push((moment_name(kind, i), moment.dims().to_vec(), bytes));
        }
    }
    let mut views = Vec::new();
    for (name, shape, bytes) in &stored {
        views.push((
            name.as_str(),
            TensorView::new(Dtype::F32, shape.clone(), bytes)?,
        ));
    }
    publish(path, &safetensors::serialize(views, None)?)?;
    Ok(())
}

/// The save point with the most steps among `directories`; those that cannot be read are passed over.
pub fn latest(directories: &[PathBuf]) -> Option<PathBuf> {
    let step = |directory: &PathBuf| {
        let text = std::fs::read_to_string(directory.join(STATE)).ok()?;
        Some(serde_json::from_str::<TrainerState>(&text).ok()?.step)
    };
    directories
        .iter()
        .filter_map(|directory| Some((step(directory)?, directory)))
        .max_by_key(|(step, _)| *step)
        .map(|(_, d)| d.clone())
}
