//! The gold answers for scoring.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::answers::hash_fields;
use crate::dataset::{AnswerFile, DataError, Record, parse_records};

/// One label: the accepted answer of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Joins labels and answers; a string even if the file has a number.
    pub id: String,
    /// As spelled in the file: 선택형, 교정형 or another; empty when absent.
    pub question_type: String,
    /// The question, for display; empty when absent.
    pub question: String,
    /// The gold answer; `#` joins alternatives.
    pub answer: String,
}

/// The labels of an evaluation set, in file order; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    items: Vec<Label>,
    positions: HashMap<String, usize>,
    fingerprint: String,
    path: Option<PathBuf>,
}

/// Why labels cannot be used.
#[derive(Debug, Error)]
pub enum LabelsError {
    /// The file cannot be read, or is not a data file.
    #[error("labels: {0}")]
    File(#[from] DataError),
    /// The items cannot be labels.
    #[error("labels{}: {reason}", of_file(path.as_deref()))]
    Invalid {
        /// The label file, if there is one.
        path: Option<PathBuf>,
        /// Why, and how to fix it.
        reason: String,
    },
}

fn of_file(path: Option<&Path>) -> String {
    path.map(|path| format!(" {}", path.display()))
        .unwrap_or_default()
}

impl Labels {
    /// Reads a label file in any shape of a data file. Types and questions are read if every item has
    /// a question; a file of ids and answers is enough.
    ///
    /// # Errors
    /// The file cannot be read or parsed, an id is absent or occurs twice, an item has no answer, or
    /// there is no item.
    pub fn load(path: &Path) -> Result<Self, LabelsError> {
        let bytes = crate::regular_file::read(path).map_err(|source| DataError::Read {
            path: path.to_owned(),
            source,
        })?;
        let file = AnswerFile::parse(path, &bytes)?;
        let invalid = |reason| LabelsError::Invalid {
            path: Some(path.to_owned()),
            reason,
        };
        if !file.missing.is_empty() {
            return Err(invalid(no_answers(&file.missing, file.answers.len())));
        }
        let items = file.answers.into_iter().map(|(id, answer)| Label {
            id,
            question_type: String::new(),
            question: String::new(),
            answer,
        });
        let mut labels = Self::new(items.collect()).map_err(|error| match error {
            LabelsError::Invalid { reason, .. } => invalid(reason),
            other => other,
        })?;
        labels.path = Some(path.to_owned());
        Ok(match parse_records(path, &bytes) {
            Ok(records) => labels.with_questions(&records),
            Err(_) => labels,
        })
    }

    /// Labels from records with answers.
    ///
    /// # Errors
    /// [`LabelsError::Invalid`] if a record has no answer, or as [`Self::new`].
    pub fn from_records(records: &[Record]) -> Result<Self, LabelsError> {
        let mut missing = Vec::new();
        let mut items = Vec::with_capacity(records.len());
        for record in records {
            match &record.answer {
                Some(answer) => items.push(Label {
                    id: record.id.clone(),
                    question_type: record.question_type.name().to_owned(),
                    question: record.question.clone(),
                    answer: answer.clone(),
                }),
                None => missing.push(record.id.clone()),
            }
        }
        if missing.is_empty() {
            Self::new(items)
        } else {
            Err(LabelsError::Invalid {
                path: None,
                reason: no_answers(&missing, items.len()),
            })
        }
    }

    /// Labels from items already in memory.
    ///
    /// # Errors
    /// [`LabelsError::Invalid`] if there is no item or an id occurs twice.
    pub fn new(items: Vec<Label>) -> Result<Self, LabelsError> {
        let invalid = |reason| LabelsError::Invalid { path: None, reason };
        if items.is_empty() {
            return Err(invalid("there is no item to score".to_owned()));
        }
        let mut positions = HashMap::with_capacity(items.len());
        for (position, label) in items.iter().enumerate() {
            if let Some(first) = positions.insert(label.id.clone(), position) {
                return Err(invalid(format!(
                    "id {:?} is used by items {} and {}; ids must be unique",
                    label.id,
                    first + 1,
                    position + 1
                )));
            }
        }
        let fingerprint = hash_fields(items.iter().flat_map(|label| [&label.id, &label.answer]));
        Ok(Self {
            items,
            positions,
            fingerprint,
            path: None,
        })
    }

    /// The same labels with the types and questions of the records with the same ids, for label files
    /// that contain only answers.
    #[must_use]
    pub fn with_questions(mut self, records: &[Record]) -> Self {
        for record in records {
            if let Some(&position) = self.positions.get(&record.id) {
                let label = &mut self.items[position];
                label.question_type = record.question_type.name().to_owned();
                label.question.clone_from(&record.question);
            }
        }
        self
    }

    /// The labels in file order; never empty.
    pub fn items(&self) -> &[Label] {
        &self.items
    }

    /// The ids in file order.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.items.iter().map(|label| label.id.as_str())
    }

    /// The index of an id in [`Labels::items`].
    pub fn position(&self, id: &str) -> Option<usize> {
        self.positions.get(id).copied()
    }

    /// blake3 of ids and answers in order, in hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The file they came from, if any.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The name of that file in reports.
    pub(super) fn shown_path(&self) -> String {
        self.path()
            .map_or_else(|| "labels".to_owned(), |path| path.display().to_string())
    }
}

fn no_answers(missing: &[String], answered: usize) -> String {
    format!(
        "{} of {} items have no output.answer ({}); give the file that has the gold answers",
        missing.len(),
        missing.len() + answered,
        super::answers::first_few(missing)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_gaps_and_empty_files_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("labels.json");
        let cases = [
            ("[]", "no item"),
            (
                r#"[{"id":"1","answer":"a"},{"id":"1","answer":"a"}]"#,
                "already occurs",
            ),
            (
                r#"[{"id":"7","input":{}}]"#,
                "1 of 1 items have no output.answer (7)",
            ),
            (r#"[{"id":"7","answer":"a"}"#, ":1:25: the file ends"),
        ];
        for (text, expected) in cases {
            std::fs::write(&path, text).unwrap();
            let message = Labels::load(&path).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
            assert!(message.contains("labels.json"), "{message}");
        }
        let absent = Labels::load(&directory.path().join("absent.json")).unwrap_err();
        assert!(absent.to_string().contains("absent.json"));
    }

    #[test]
    fn types_and_questions_come_from_the_file_or_from_records() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("labels.json");
        let full = r#"[{"id": 1, "input": {"question_type": "선택형", "question": "무엇?"}, "output": {"answer": "a"}}]"#;
        std::fs::write(&path, full).unwrap();
        let from_full = Labels::load(&path).unwrap();
        assert_eq!(from_full.items()[0].question_type, "선택형");
        assert_eq!(from_full.items()[0].question, "무엇?");
        let records = parse_records(&path, full.as_bytes()).unwrap();
        assert_eq!(
            Labels::from_records(&records).unwrap().items(),
            from_full.items()
        );

        std::fs::write(&path, r#"[{"id": "1", "answer": "a"}]"#).unwrap();
        let bare = Labels::load(&path).unwrap();
        assert_eq!(bare.items()[0].question_type, "");
        assert_eq!(bare.with_questions(&records), from_full);
    }

    #[test]
    fn the_fingerprint_is_that_of_ids_and_answers() {
        let label = |id: &str, question_type: &str, answer: &str| Label {
            id: id.to_owned(),
            question_type: question_type.to_owned(),
            question: String::new(),
            answer: answer.to_owned(),
        };
        let of = |item| Labels::new(vec![item]).unwrap().fingerprint().to_owned();
        assert_eq!(of(label("1", "선택형", "a")), of(label("1", "", "a")));
        assert_ne!(of(label("1", "", "a")), of(label("1", "", "b")));
        assert_ne!(of(label("1a", "", "b")), of(label("1", "", "ab")));
        let twice = Labels::new(vec![label("1", "", "a"), label("1", "", "b")]);
        assert!(twice.unwrap_err().to_string().contains("items 1 and 2"));
    }
}
