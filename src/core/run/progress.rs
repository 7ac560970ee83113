//! progress.json: what the trainer is doing right now.
//!
//! ```json
//! {"v":1,"time":"2026-11-22T03:33:24.5Z","phase":"rollout","done":30,"total":64,
//!  "detail":"1820 tokens","step":12,"since":"2026-11-22T03:33:23.9Z"}
//! ```
//!
//! The file is there while a trainer works. A trainer that was killed leaves its last one behind:
//! whether it is still true follows from [`RunState::liveness`](super::RunState::liveness).

use std::io;
use std::path::Path;

use anyhow::Context;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::jsonl::Versioned;
use super::publish::{WriteError, replace};
use super::state::{read_time, write_time};

/// The content of progress.json. Fields that a later version adds are ignored here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// When this was written. A phase that reports seldom is written seldom.
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    pub time: Timestamp,
    /// `rollout`, `reward`, `reference`, `backward`, `save`, `inference`, `scoring` or `paused`.
    pub phase: String,
    /// Units of the phase that are done: completions, prompts or items.
    pub done: usize,
    /// Units in all; up to 1 where the phase does not count.
    pub total: usize,
    /// A few words more, e.g. `1820 tokens` or the save point; empty where there are none.
    #[serde(default)]
    pub detail: String,
    /// Optimizer steps taken so far; the current one is the next.
    #[serde(default)]
    pub step: usize,
    /// When the phase began.
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    pub since: Timestamp,
}

impl Progress {
    /// Reads progress.json; `None` where no trainer is at work. A file without content, as a power
    /// cut may leave one, counts as none: it is written without waiting for the disk.
    ///
    /// # Errors
    /// The file cannot be read or is not a run's progress, with line and column.
    pub fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        let bytes = match crate::regular_file::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        // A power cut leaves nothing, or zero bytes where the content had not reached the disk.
        if bytes
            .iter()
            .all(|byte| byte.is_ascii_whitespace() || *byte == 0)
        {
            return Ok(None);
        }
        let progress = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not the progress of a run", path.display()))?;
        Ok(Some(progress))
    }

    /// Writes progress.json, so that a reader sees the old content or this one. Nothing waits for
    /// the disk: what is lost with the machine is of no use afterwards.
    ///
    /// # Errors
    /// Names the file.
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        let json = serde_json::to_vec(&Versioned::new(self)).map_err(io::Error::from);
        let mut json = json.map_err(WriteError::on("write", path))?;
        json.push(b'\n');
        replace(path, &json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_as_it_was_written_and_may_be_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("progress.json");
        assert_eq!(Progress::read(&path).unwrap(), None);
        let progress = Progress {
            time: "2026-11-22T03:33:24.5Z".parse().unwrap(),
            phase: "rollout".to_owned(),
            done: 30,
            total: 64,
            detail: "1820 tokens".to_owned(),
            step: 12,
            since: "2026-11-22T03:33:23Z".parse().unwrap(),
        };
        progress.write(&path).unwrap();
        assert_eq!(Progress::read(&path).unwrap(), Some(progress));
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"v\":1,\"time\":\"2026-11-22T03:33:24.5Z\",\"phase\":\"rollout\",\"done\":30,\
             \"total\":64,\"detail\":\"1820 tokens\",\"step\":12,\"since\":\"2026-11-22T03:33:23Z\"}\n"
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        for lost in ["", "\0\0\0\0"] {
            std::fs::write(&path, lost).unwrap();
            assert_eq!(Progress::read(&path).unwrap(), None);
        }
        std::fs::write(&path, "{\"phase\":").unwrap();
        let error = format!("{:#}", Progress::read(&path).unwrap_err());
        assert!(error.contains("progress.json is not"), "{error}");
    }
}
