//! Tiny data with the demo's tokenizer, for the tests of this module.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::setup::Texts;
use moim_core::dataset::{QuestionType, Record};
use moim_core::experiment::{DeviceChoice, Experiment};

/// An experiment on the demo's model; its data is missing.
pub fn experiment() -> Experiment {
    let mut experiment = Experiment::default();
    experiment.model.path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/demo/model");
    experiment.model.device = DeviceChoice::Cpu;
    experiment.grpo.num_generations = 4;
    experiment.grpo.per_device_train_batch_size = 4;
    experiment.data.date_string = Some("22 Nov 2026".to_owned());
    // Without an encoder.
    experiment.reward.formula = "exact_match + format + rouge1".to_owned();
    experiment.rollout.max_completion_length = 64;
    experiment.inference.max_completion_length = 64;
    experiment
}

/// A record about a word, answered.
pub fn record(id: &str, word: &str) -> Record {
    Record {
        id: id.to_owned(),
        question_type: QuestionType::Selection,
        question: format!("{word} 가운데 무엇이 옳은가?"),
        answer: Some(format!("\"{word}.\"가 옳다. 이유는 {word}라는 규칙이다.")),
        raw: Value::Null,
    }
}

/// A folder with data files, deleted when this value is dropped.
pub struct Folder(tempfile::TempDir);

impl Folder {
    /// Four training questions, the last the longest, and two others for validation.
    pub fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let train = [
            ("1", "가다"),
            ("2", "오다"),
            ("3", "하다"),
            ("4", "보다 보다 보다 보다"),
        ];
        folder.write_records("train.json", &train.map(|(id, word)| record(id, word)));
        let eval = [("1", "자다"), ("2", "살다")];
        folder.write_records("eval.json", &eval.map(|(id, word)| record(id, word)));
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn write_records(&self, name: &str, records: &[Record]) {
        let items: Vec<Value> = records
            .iter()
            .map(|record| {
                let kind = record.question_type.name();
                json!({
                    "id": record.id,
                    "input": { "question_type": kind, "question": record.question },
                    "output": { "answer": record.answer },
                })
            })
            .collect();
        self.write(name, &serde_json::to_string(&items).unwrap());
    }

    /// The experiment on this data, changed by `change`.
    pub fn experiment(&self, change: impl FnOnce(&mut Experiment)) -> Experiment {
        let mut experiment = experiment();
        experiment.data.train = self.path("train.json");
        experiment.data.eval = self.path("eval.json");
        experiment.run.output_dir = self.path("outputs");
        change(&mut experiment);
        experiment
    }

    /// The loaded texts of that experiment.
    pub fn texts(&self, change: impl FnOnce(&mut Experiment)) -> Texts {
        Texts::load(&self.experiment(change)).unwrap()
    }
}
