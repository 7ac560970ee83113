//! A folder in which commands are run, and what they answer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};

/// A folder with an experiment, data and labels, in which commands are run.
pub struct Folder {
    folder: tempfile::TempDir,
}

/// What a command came to.
pub struct Answer {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Answer {
    #[track_caller]
    pub fn expect(self, code: i32, in_stderr: &[&str]) -> Self {
        assert_eq!(
            self.code, code,
            "stdout: {}\nstderr: {}",
            self.stdout, self.stderr
        );
        for words in in_stderr {
            assert!(
                self.stderr.contains(words),
                "{words:?} is not in: {}",
                self.stderr
            );
        }
        for never in ["panicked", "stack backtrace", "RUST_BACKTRACE"] {
            assert!(!self.stderr.contains(never), "{}", self.stderr);
        }
        self
    }
}

impl Folder {
    pub fn new() -> Self {
        let folder = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        folder.write("demo.toml", EXPERIMENT);
        folder.write(
            "train.json",
            &records(&["가다", "오다", "하다", "보다", "자다"]),
        );
        folder.write("labels.json", &records(&["가다", "오다"]));
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// `moim` with these arguments, to be run in the folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moim"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            // A message must stay one message even if backtraces are enabled.
            .env("RUST_BACKTRACE", "1")
            .env("MOIM_CACHE_DIR", self.path("cache"));
        command
    }

    pub fn moim(&self, arguments: &[&str]) -> Answer {
        self.command(arguments).output().unwrap().into()
    }

    /// `moim rank` or the like with the tiny encoder on the CPU.
    pub fn scored(&self, arguments: &[&str]) -> Answer {
        let encoder = encoder();
        let mut all = arguments.to_vec();
        all.extend(["--encoder", encoder.to_str().unwrap(), "--device", "cpu"]);
        self.moim(&all)
    }
}

/// The model is absent, everything else is there.
pub const EXPERIMENT: &str = r#"
[model]
path = "absent-model"
device = "cpu"
[data]
train = "train.json"
eval = "labels.json"
[grpo]
num_generations = 4
per_device_train_batch_size = 8
num_train_epochs = 2
"#;

/// A tiny encoder with random weights.
pub fn encoder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/encoder/bert")
}

/// Items with ids from 1 whose answers are these words.
pub fn records(words: &[&str]) -> String {
    let items: Vec<Value> = words
        .iter()
        .enumerate()
        .map(|(index, word)| {
            json!({
                "id": (index + 1).to_string(),
                "input": { "question_type": "선택형", "question": format!("{word}?") },
                "output": { "answer": format!("\"{word}.\"가 옳다. 이유는 {word}라는 규칙이다.") },
            })
        })
        .collect();
    serde_json::to_string_pretty(&items).unwrap()
}
