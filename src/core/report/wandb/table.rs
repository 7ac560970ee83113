//! Completions as W&B keeps a table: a JSON file of columns and rows, and an entry in the history
//! that points at it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::run::CompletionRecord;

/// Letters of the checksum in a file's name.
const NAME_DIGITS: usize = 20;

/// The completions of one step.
#[derive(Debug)]
pub(super) struct Table {
    bytes: Vec<u8>,
    columns: usize,
    rows: usize,
    checksum: String,
}

impl Table {
    /// A row for each completion, a column for each reward that any of them has.
    pub(super) fn of(completions: &[CompletionRecord]) -> Self {
        let rewards: BTreeSet<&String> = completions
            .iter()
            .flat_map(|completion| completion.rewards.keys())
            .collect();
        let fixed = [
            "step",
            "epoch",
            "id",
            "question_type",
            "sample",
            "prompt",
            "completion",
            "label",
            "length",
            "finish_reason",
            "reward",
            "advantage",
        ];
        let mut columns: Vec<String> = fixed.map(str::to_owned).to_vec();
        columns.extend(rewards.iter().map(|reward| format!("rewards/{reward}")));
        let rows: Vec<Value> = completions
            .iter()
            .map(|completion| row(completion, &rewards))
            .collect();
        let (width, height) = (columns.len(), rows.len());
        let bytes = json!({ "columns": columns, "data": rows })
            .to_string()
            .into_bytes();
        let checksum = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            bytes,
            columns: width,
            rows: height,
            checksum,
        }
    }

    /// The content of the file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The file below `files/`.
    pub(super) fn path(&self, step: u64) -> String {
        let digits: String = self.checksum.chars().take(NAME_DIGITS).collect();
        format!("media/table/completions_{step}_{digits}.table.json")
    }

    /// What stands in the history for the table.
    pub(super) fn entry(&self, step: u64) -> Value {
        json!({
            "_type": "table-file",
            "path": self.path(step),
            "sha256": self.checksum,
            "size": self.bytes.len(),
            "ncols": self.columns,
            "nrows": self.rows,
            "log_mode": "IMMUTABLE",
        })
    }
}

fn row(completion: &CompletionRecord, rewards: &BTreeSet<&String>) -> Value {
    let mut row = vec![
        json!(completion.step),
        json!(completion.epoch),
        json!(completion.id),
        json!(completion.question_type),
        json!(completion.sample),
        json!(completion.prompt),
        json!(completion.completion),
        json!(completion.label),
        json!(completion.length),
        json!(completion.finish_reason),
        json!(completion.reward),
        json!(completion.advantage),
    ];
    row.extend(
        rewards
            .iter()
            .map(|reward| json!(completion.rewards.get(*reward).copied().flatten())),
    );
    Value::Array(row)
}
