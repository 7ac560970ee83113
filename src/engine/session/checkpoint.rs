//! Save points: the adapter as PEFT reads it, and the files that the trainer
//! needs to resume exactly.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::tensor::Tensor;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::{Deserialize, Serialize};

use crate::device::Compute;
use crate::model::{Adapter, WeightFiles, f32_tensor, load_adapter, save_adapter, to_f32};
use crate::optimizer::AdamW;
use moim_core::architecture::LlamaConfig;
use moim_core::run::file_fingerprint;
use moim_core::run::publish::{publish, publish_folder};

const STATE: &str = "trainer_state.json";
const OPTIMIZER: &str = "optimizer.safetensors";
/// The files that inference reads.
const ADAPTER: [&str; 2] = ["adapter_model.safetensors", "adapter_config.json"];
/// All files besides [`STATE`].
const FILES: [&str; 3] = [ADAPTER[0], ADAPTER[1], OPTIMIZER];

/// The progress of a run, without tensors. Draws and prompt order follow from the
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

/// The content of trainer_state.json.
#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(flatten)]
    state: TrainerState,
    /// BLAKE3 of the other files, by name. Save points of earlier releases have none, and their
    /// files are not checked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    blake3: BTreeMap<String, String>,
}

/// The contents of a save point besides the trainer's state.
pub struct SavePointContents<'a> {
    /// The policy's adapter.
    pub adapter: &'a Adapter,
    /// Its moments.
    pub optimizer: &'a AdamW,
    /// Folder of the base model, for PEFT.
    pub base_model: &'a str,
    /// Its shape.
    pub model: &'a LlamaConfig,
    /// The device on which the adapter is read back.
    pub compute: &'a Compute,
}

/// Writes a save point as one directory that appears whole or not at all.
///
/// Once the adapter is written it is read back and compared; `state` receives the largest difference,
/// which is 0, and returns the state to write last.
///
/// # Errors
/// A file cannot be written, the adapter read back differs, or an error of `state`.
pub fn save(
    directory: &Path,
    contents: &SavePointContents,
    state: impl FnOnce(f32) -> Result<TrainerState>,
) -> Result<()> {
    publish_folder(directory, |partial| {
        save_adapter(partial, contents.adapter, contents.base_model)?;
        let difference = largest_difference(partial, contents)?;
        if difference != 0.0 {
            bail!("the adapter read back differs by up to {difference} from the one saved");
        }
        save_optimizer(&partial.join(OPTIMIZER), contents.optimizer)?;
        let mut blake3 = BTreeMap::new();
        for name in FILES {
            blake3.insert(name.to_owned(), file_fingerprint(&partial.join(name))?);
        }
        let stored = Stored {
            state: state(difference)?,
            blake3,
        };
        publish(
            &partial.join(STATE),
            format!("{}\n", serde_json::to_string_pretty(&stored)?).as_bytes(),
        )?;
        Ok(())
    })
    .with_context(|| format!("{}: the save point cannot be written", directory.display()))
}

/// The largest difference between the adapter in a folder and the one that was written there.
fn largest_difference(folder: &Path, contents: &SavePointContents) -> Result<f32> {
    let reloaded = load_adapter(folder, contents.model, contents.compute)?;
    let pairs = contents.adapter.parameters().into_iter();
    let mut largest = 0.0_f32;
    for (kept, read) in pairs.zip(reloaded.parameters()) {
        for (a, b) in to_f32(kept).into_iter().zip(to_f32(read)) {
            largest = largest.max((a - b).abs());
        }
    }
    Ok(largest)
}

/// Reads a save point back.
///
/// # Errors
/// A file is missing, truncated, or belongs to another adapter.
pub fn load(
    directory: &Path,
    optimizer: &mut AdamW,
    model: &LlamaConfig,
    compute: &Compute,
) -> Result<(Adapter, TrainerState)> {
    let adapter = load_adapter(directory, model, compute)?;
    let path = directory.join(STATE);
    let text = moim_core::regular_file::read_to_string(&path)
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

/// The save points that a run can resume from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latest {
    /// The complete save point with the most steps.
    pub whole: Option<PathBuf>,
    /// Damaged ones that may be later than that, each with its problem.
    pub damaged: Vec<(PathBuf, String)>,
}

/// Finds the save point with the most steps among `directories`. File times are not used. A folder
/// without trainer_state.json is no save point and is ignored.
///
/// # Errors
/// A file that exists cannot be read, by name.
pub fn latest(directories: &[PathBuf]) -> Result<Latest> {
    let mut latest = Latest::default();
    let mut readable = Vec::new();
    for directory in directories {
        match read_state(directory)? {
            Read::Whole(stored) => readable.push((directory, stored)),
            Read::Damaged(problem) => latest.damaged.push((directory.clone(), problem)),
            Read::Absent => {}
        }
    }
    readable.sort_by_key(|(_, stored)| stored.state.step);
    for (directory, stored) in readable.into_iter().rev() {
        match problem_of(directory, &stored, &FILES)? {
            None => {
                latest.whole = Some(directory.clone());
                break;
            }
            Some(problem) => latest.damaged.push((directory.clone(), problem)),
        }
    }
    Ok(latest)
}

/// Checks that the adapter of a save point is the one that was saved. Save points of an earlier release
/// and adapters of other programs have nothing to check.
///
/// # Errors
/// Names the file that differs.
pub fn verify_adapter(directory: &Path) -> Result<()> {
    let problem = match read_state(directory)? {
        Read::Absent => None,
        Read::Damaged(problem) => Some(problem),
        Read::Whole(stored) => problem_of(directory, &stored, &ADAPTER)?,
    };
    match problem {
        Some(problem) => bail!(
            "{}: {problem}; use another save point, or put a copy of the file back",
            directory.display()
        ),
        None => Ok(()),
    }
}

/// The state of a trainer_state.json.
enum Read {
    Whole(Stored),
    Damaged(String),
    Absent,
}

fn read_state(directory: &Path) -> Result<Read> {
    let path = directory.join(STATE);
    let bytes = match moim_core::regular_file::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Read::Absent),
        Err(error) => {
            return Err(error).with_context(|| format!("{}: cannot be read", path.display()));
        }
    };
    Ok(match serde_json::from_slice(&bytes) {
        Ok(stored) => Read::Whole(stored),
        Err(error) => Read::Damaged(format!("{STATE} is no trainer state ({error})")),
    })
}

/// The problem with the files of a save point; `None` if there is none.
fn problem_of(directory: &Path, stored: &Stored, names: &[&str]) -> Result<Option<String>> {
    for &name in names {
        let path = directory.join(name);
        if !path.exists() {
            return Ok(Some(format!("{name} is missing")));
        }
        let problem = match stored.blake3.get(name) {
            Some(saved) if *saved == file_fingerprint(&path)? => None,
            Some(_) => Some(format!(
                "{name} is not as it was saved (its BLAKE3 differs)"
            )),
            // The header of a safetensors file shows truncation, but no other damage.
            None if name.ends_with(".safetensors") => WeightFiles::open_files(vec![path])
                .err()
                .map(|error| format!("{error:#}")),
            None => None,
        };
        if problem.is_some() {
            return Ok(problem);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A save point whose files are no tensors; nothing here reads them.
    fn save_point(folder: &Path, name: &str, step: usize, has_sums: bool) -> PathBuf {
        let directory = folder.join(name);
        std::fs::create_dir(&directory).unwrap();
        let mut blake3 = BTreeMap::new();
        for file in FILES {
            let content = format!("{name} {file}");
            std::fs::write(directory.join(file), &content).unwrap();
            blake3.insert(
                file.to_owned(),
                blake3::hash(content.as_bytes()).to_string(),
            );
        }
        if !has_sums {
            blake3.clear();
            for file in [FILES[0], FILES[2]] {
                let empty: [(&str, TensorView); 0] = [];
                let bytes = safetensors::serialize(empty, None).unwrap();
                std::fs::write(directory.join(file), bytes).unwrap();
            }
        }
        let state = TrainerState {
            step,
            ..TrainerState::default()
        };
        let stored = serde_json::to_vec(&Stored { state, blake3 }).unwrap();
        std::fs::write(directory.join(STATE), stored).unwrap();
        directory
    }

    #[test]
    fn the_latest_has_the_most_steps_and_damaged_ones_are_reported_with_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let of = |name: &str, step| save_point(folder.path(), name, step, true);
        let all = [of("epoch_1", 2), of("epoch_2", 4), of("step_5", 5)];
        let found = latest(&all).unwrap();
        assert_eq!(
            (found.whole.as_ref(), found.damaged.len()),
            (Some(&all[2]), 0)
        );

        std::fs::write(all[2].join(FILES[0]), "\0\0\0").unwrap();
        std::fs::write(all[1].join(STATE), "{\"step\": 4, ").unwrap();
        // Ignored: it is before the complete one.
        let first = of("step_1", 1);
        std::fs::write(first.join(OPTIMIZER), "").unwrap();
        let mut known = all.to_vec();
        known.push(first);
        known.push(folder.path().join("absent"));
        let found = latest(&known).unwrap();
        assert_eq!(found.whole.as_ref(), Some(&all[0]));
        let problems: Vec<&str> = found.damaged.iter().map(|(_, why)| why.as_str()).collect();
        assert!(
            problems.len() == 2
                && problems[0].contains(STATE)
                && problems[1].contains("adapter_model.safetensors is not as it was saved"),
            "{problems:?}"
        );
        let error = verify_adapter(&all[2]).unwrap_err().to_string();
        assert!(
            error.contains("step_5: adapter_model.safetensors"),
            "{error}"
        );
        verify_adapter(&all[0]).unwrap();
        std::fs::remove_file(all[0].join("adapter_config.json")).unwrap();
        assert_eq!(latest(&known).unwrap().whole, None);
    }

    #[test]
    fn a_save_point_of_an_earlier_release_is_accepted_unless_it_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let old = save_point(folder.path(), "epoch_1", 2, false);
        assert_eq!(
            latest(std::slice::from_ref(&old)).unwrap().whole.as_ref(),
            Some(&old)
        );
        let bytes = std::fs::read(old.join(OPTIMIZER)).unwrap();
        std::fs::write(old.join(OPTIMIZER), &bytes[..bytes.len() - 1]).unwrap();
        let found = latest(&[old]).unwrap();
        assert!(
            found.damaged[0].1.contains("optimizer.safetensors"),
            "{found:?}"
        );
    }
}
