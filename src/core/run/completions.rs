//! completions.jsonl: sampled completions with their texts, rewards and advantages.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::jsonl::JsonLines;
use super::publish::WriteError;

/// One sampled completion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompletionRecord {
    /// The optimizer step that learned from it, from 1.
    pub step: usize,
    /// The epoch, from 1.
    pub epoch: usize,
    /// The id of the record that the prompt comes from.
    pub id: String,
    /// The question type as written in the data, e.g. `선택형`.
    pub question_type: String,
    /// Its place in the group, from 0.
    pub sample: usize,
    /// The rendered prompt.
    pub prompt: String,
    /// The completion, end tokens left out.
    pub completion: String,
    /// The right answer.
    pub label: String,
    /// Sampled tokens, the end token included.
    pub length: usize,
    /// Why it ended: `stop` or `length`.
    pub finish_reason: String,
    /// Each reward by name; `None` where it has none for this completion.
    pub rewards: BTreeMap<String, Option<f64>>,
    /// The combined reward; `None` where it is not finite.
    pub reward: Option<f64>,
    /// The advantage; `None` where it is not finite.
    pub advantage: Option<f64>,
}

/// The writer of completions.jsonl, with the mechanics of [`EventLog`](super::EventLog).
#[derive(Debug)]
pub struct CompletionLog {
    lines: JsonLines,
}

impl CompletionLog {
    /// Opens `path` for appending; a last line that a crash left incomplete is moved to
    /// `completions.discarded.jsonl`.
    ///
    /// # Errors
    /// Names the file.
    pub fn open(path: &Path) -> Result<Self, WriteError> {
        Ok(Self {
            lines: JsonLines::open(path)?,
        })
    }

    /// Appends one completion, in one write.
    ///
    /// # Errors
    /// Names the file (a full disk, say); the file keeps its whole lines.
    pub fn append(&mut self, record: &CompletionRecord) -> Result<(), WriteError> {
        // serde_json writes floats that are not finite as null, which reads as `None`.
        let line = serde_json::to_string(record).map_err(std::io::Error::from);
        self.lines
            .append(&line.map_err(WriteError::on("append to", self.lines.path()))?)
    }

    /// The length of the file in bytes, to be saved with a checkpoint.
    pub fn position(&self) -> u64 {
        self.lines.position()
    }

    /// Waits until everything is on the disk; called at save points.
    ///
    /// # Errors
    /// Names the file.
    pub fn sync(&self) -> Result<(), WriteError> {
        self.lines.sync()
    }

    /// Whether the log is as long as a saved [`CompletionLog::position`].
    ///
    /// # Errors
    /// Names the file: it is shorter.
    pub fn check_length(&self, position: u64) -> Result<(), WriteError> {
        self.lines.check_length(position)
    }

    /// Cuts the log back to a saved [`CompletionLog::position`]; what is cut goes to
    /// `completions.discarded.jsonl`.
    ///
    /// # Errors
    /// Names the file: it is shorter than that, or the position is inside a line.
    pub fn truncate_to(&mut self, position: u64) -> Result<(), WriteError> {
        self.lines.truncate_to(position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::read_lines;

    #[test]
    fn a_record_survives_and_nan_becomes_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("completions.jsonl");
        let mut log = CompletionLog::open(&path).unwrap();
        let mut record = CompletionRecord {
            step: 1,
            epoch: 1,
            id: "7".to_owned(),
            question_type: "선택형".to_owned(),
            sample: 3,
            prompt: "줄\n바꿈".to_owned(),
            completion: "\"가\"가 옳다.".to_owned(),
            label: "\"가\"가 옳다. 이유".to_owned(),
            length: 9,
            finish_reason: "stop".to_owned(),
            rewards: BTreeMap::from([("format".to_owned(), Some(1.0)), ("x".to_owned(), None)]),
            reward: Some(0.5),
            advantage: Some(f64::NAN),
        };
        log.append(&record).unwrap();
        log.sync().unwrap();
        assert_eq!(log.position(), std::fs::metadata(&path).unwrap().len());
        record.advantage = None;
        let back: Vec<CompletionRecord> = read_lines(&path).unwrap().map(Result::unwrap).collect();
        assert_eq!(back, [record]);
        log.truncate_to(0).unwrap();
        assert!(folder.path().join("completions.discarded.jsonl").exists());
    }
}
