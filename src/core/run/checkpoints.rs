//! Save points: which there are, and which may go.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::publish::{WriteError, remove_folder};

/// A moment of a run that was saved. Written as `epoch_3` or `step_500`, which is also the name of
/// its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum SavePoint {
    /// The end of an epoch, counted from 1; 0 is the untouched model.
    Epoch(usize),
    /// After this many optimizer steps.
    Step(usize),
}

impl SavePoint {
    /// The name of the answer file and of the score file: `inference_epoch3.json`.
    pub fn answers_file_name(&self) -> String {
        match self {
            Self::Epoch(epoch) => format!("inference_epoch{epoch}.json"),
            Self::Step(step) => format!("inference_step{step}.json"),
        }
    }
}

impl fmt::Display for SavePoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Epoch(epoch) => formatter.pad(&format!("epoch_{epoch}")),
            Self::Step(step) => formatter.pad(&format!("step_{step}")),
        }
    }
}

/// A name that is neither `epoch_N` nor `step_N`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither epoch_N nor step_N")]
pub struct NoSavePoint(pub String);

impl FromStr for SavePoint {
    type Err = NoSavePoint;

    fn from_str(name: &str) -> Result<Self, NoSavePoint> {
        // Only the spelling that `Display` writes: `epoch_+3` and `epoch_03` are other folders.
        let number = |prefix: &str| {
            let digits = name.strip_prefix(prefix)?;
            let number: usize = digits.parse().ok()?;
            (number.to_string() == digits).then_some(number)
        };
        number("epoch_")
            .map(Self::Epoch)
            .or_else(|| number("step_").map(Self::Step))
            .ok_or_else(|| NoSavePoint(name.to_owned()))
    }
}

impl TryFrom<String> for SavePoint {
    type Error = NoSavePoint;

    fn try_from(name: String) -> Result<Self, NoSavePoint> {
        name.parse()
    }
}

impl From<SavePoint> for String {
    fn from(point: SavePoint) -> Self {
        point.to_string()
    }
}

/// A saved adapter and trainer state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The folder.
    pub path: PathBuf,
    /// What it is a checkpoint of.
    pub kind: SavePoint,
}

/// The complete checkpoints of a run directory: epochs ascending, then steps ascending. Folders
/// are renamed into place when complete, so every one found can be loaded.
///
/// # Errors
/// The directory cannot be listed.
pub fn checkpoints(directory: &Path) -> anyhow::Result<Vec<Checkpoint>> {
    let unlisted = || format!("cannot list the checkpoints in {}", directory.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(unlisted)? {
        let path = entry.with_context(unlisted)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(Ok(kind)) = name.map(str::parse)
            && path.is_dir()
        {
            found.push(Checkpoint { path, kind });
        }
    }
    found.sort_by_key(|checkpoint| checkpoint.kind);
    Ok(found)
}

/// Takes a checkpoint out of use: its folder gets `.damaged` behind its name, with a number where
/// that is taken. Answers the new place.
///
/// # Errors
/// The folder cannot be moved, by name.
pub fn set_aside(path: &Path) -> Result<PathBuf, WriteError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut number = 1;
    let aside = loop {
        let aside = path.with_file_name(match number {
            1 => format!("{name}.damaged"),
            _ => format!("{name}.damaged-{number}"),
        });
        if !aside.exists() {
            break aside;
        }
        number += 1;
    };
    std::fs::rename(path, &aside).map_err(WriteError::on("set aside", path))?;
    Ok(aside)
}

/// Removes the oldest checkpoints of the kind of `latest` until `limit` are left, never `latest`
/// and none of `protected` (the best one, say). Returns what was removed.
///
/// # Errors
/// The directory cannot be listed, or a checkpoint cannot be removed, by name.
pub fn prune_checkpoints(
    directory: &Path,
    limit: usize,
    latest: SavePoint,
    protected: &[SavePoint],
) -> anyhow::Result<Vec<SavePoint>> {
    let is_like_latest = |kind: SavePoint| {
        matches!(kind, SavePoint::Epoch(_)) == matches!(latest, SavePoint::Epoch(_))
    };
    let mut kept = checkpoints(directory)?;
    kept.retain(|checkpoint| is_like_latest(checkpoint.kind));
    let mut surplus = kept.len().saturating_sub(limit);
    let mut removed = Vec::new();
    for Checkpoint { path, kind } in kept {
        if surplus == 0 {
            break;
        }
        if kind == latest || protected.contains(&kind) {
            continue;
        }
        remove_folder(&path)?;
        removed.push(kind);
        surplus -= 1;
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_folders(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        folder
    }

    #[test]
    fn only_complete_checkpoints_are_listed_in_order() {
        let folder = with_folders(&[
            "epoch_10",
            "epoch_2",
            "step_500",
            "epoch_03",
            ".epoch_4.writing-1-2-3",
            "scores",
            "epoch_x",
        ]);
        std::fs::write(folder.path().join("epoch_7"), "a file").unwrap();
        let kinds: Vec<SavePoint> = checkpoints(folder.path())
            .unwrap()
            .into_iter()
            .map(|checkpoint| checkpoint.kind)
            .collect();
        assert_eq!(
            kinds,
            [
                SavePoint::Epoch(2),
                SavePoint::Epoch(10),
                SavePoint::Step(500)
            ]
        );
        assert!(checkpoints(&folder.path().join("absent")).is_err());
    }

    #[test]
    fn the_oldest_go_first_and_the_protected_stay() {
        let folder = with_folders(&["epoch_1", "epoch_2", "epoch_3", "epoch_10", "step_5"]);
        let removed = prune_checkpoints(
            folder.path(),
            2,
            SavePoint::Epoch(10),
            &[SavePoint::Epoch(1)],
        )
        .unwrap();
        assert_eq!(removed, [SavePoint::Epoch(2), SavePoint::Epoch(3)]);
        assert!(folder.path().join("step_5").exists());
        assert!(
            prune_checkpoints(folder.path(), 2, SavePoint::Epoch(10), &[])
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn what_is_set_aside_is_no_checkpoint_any_more() {
        let folder = with_folders(&["epoch_1", "epoch_1.damaged"]);
        let aside = set_aside(&folder.path().join("epoch_1")).unwrap();
        assert_eq!(aside, folder.path().join("epoch_1.damaged-2"));
        assert!(aside.is_dir() && checkpoints(folder.path()).unwrap().is_empty());
        let error = set_aside(&folder.path().join("epoch_1")).unwrap_err();
        assert!(error.to_string().contains("epoch_1"), "{error}");
    }

    #[test]
    fn names_round_trip() {
        for point in [SavePoint::Epoch(0), SavePoint::Step(1500)] {
            assert_eq!(point.to_string().parse(), Ok(point));
            let json = serde_json::to_string(&point).unwrap();
            assert_eq!(serde_json::from_str::<SavePoint>(&json).unwrap(), point);
        }
        assert_eq!(
            SavePoint::Epoch(3).answers_file_name(),
            "inference_epoch3.json"
        );
        assert!("epoch_".parse::<SavePoint>().is_err());
    }
}
