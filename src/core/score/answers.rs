//! One file of answers, joined to the labels by id.
//!
//! Nothing is repaired silently. An id without an answer is *missing*, an id that the labels do not
//! have is *extra*; both are counted and listed, and neither is ever scored as an empty text. A
//! duplicate id makes the file broken, since it is unknown which answer counts.

use std::path::Path;

use serde::Serialize;
use thiserror::Error;

use super::labels::Labels;
use crate::dataset::{AnswerFile, DataError};

/// Why an answer file cannot be read or scored, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Error)]
#[error("{}{reason}", position(*.line, *.column))]
pub struct Fault {
    /// What is wrong, as text.
    pub reason: String,
    /// Line from 1, if the fault has a position in the file.
    pub line: Option<usize>,
    /// Column from 1, in characters.
    pub column: Option<usize>,
    /// The text ends inside the JSON, as in a file that is still being written.
    #[serde(skip)]
    pub ends_early: bool,
}

fn position(line: Option<usize>, column: Option<usize>) -> String {
    match (line, column) {
        (Some(line), Some(column)) => format!("{line}:{column}: "),
        _ => String::new(),
    }
}

impl Fault {
    /// A fault without a position.
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            line: None,
            column: None,
            ends_early: false,
        }
    }
}

impl From<DataError> for Fault {
    /// The first fault with its position. The file's name is dropped, since a fault is always shown
    /// next to it.
    fn from(error: DataError) -> Self {
        match error {
            DataError::Read { source, .. } => Self::new(format!("cannot be read: {source}")),
            DataError::EndsEarly { line, column, .. } => Self {
                reason: "the file ends inside its JSON".to_owned(),
                line: Some(line),
                column: Some(column),
                ends_early: true,
            },
            DataError::Invalid { faults, .. } => {
                let more = match faults.len() {
                    0 | 1 => String::new(),
                    count => format!(" (and {} more faults)", count - 1),
                };
                let first = faults.into_iter().next().unwrap_or_default();
                let has_position = first.line > 0;
                Self {
                    reason: format!("{first}{more}"),
                    line: has_position.then_some(first.line),
                    column: has_position.then_some(first.column),
                    ends_early: false,
                }
            }
        }
    }
}

/// One item of an answer file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The id of its label; unique within its file.
    pub id: String,
    /// The model's text, possibly empty.
    pub text: String,
}

/// The content of one answer file, in file order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerSheet {
    answers: Vec<Answer>,
    /// Ids of items that have no answer.
    unanswered: Vec<String>,
    fingerprint: String,
}

impl AnswerSheet {
    /// Parses the bytes of an answer file.
    ///
    /// # Errors
    /// A [`Fault`] with line and column. [`Fault::ends_early`] marks a file that may still be growing.
    pub fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        // The path is only for messages, and a fault drops it.
        let file = AnswerFile::parse(Path::new(""), bytes).map_err(|error| {
            let fault = Fault::from(error);
            // Network file systems show bytes that have not arrived as NUL.
            let is_arriving = bytes.last() == Some(&0);
            Fault {
                ends_early: fault.ends_early || is_arriving,
                ..fault
            }
        })?;
        let answers = file.answers.into_iter();
        Ok(Self {
            unanswered: file.missing,
            ..Self::new(answers.map(|(id, text)| Answer { id, text }).collect())
        })
    }

    /// Answers already in memory, with unique ids.
    pub fn new(answers: Vec<Answer>) -> Self {
        let fingerprint = hash_fields(answers.iter().flat_map(|answer| [&answer.id, &answer.text]));
        Self {
            answers,
            unanswered: Vec::new(),
            fingerprint,
        }
    }

    /// The answered items in file order.
    pub fn answers(&self) -> &[Answer] {
        &self.answers
    }

    /// Number of items, answered or not.
    pub fn item_count(&self) -> usize {
        self.answers.len() + self.unanswered.len()
    }

    /// blake3 of ids and answers in order, in hexadecimal.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Joins the answers to the labels by id.
    pub fn join<'sheet>(&'sheet self, labels: &Labels) -> Join<'sheet> {
        let mut texts: Vec<Option<&str>> = vec![None; labels.items().len()];
        let mut extra = Vec::new();
        for answer in &self.answers {
            match labels.position(&answer.id) {
                Some(position) => texts[position] = Some(&answer.text),
                None => extra.push(answer.id.clone()),
            }
        }
        let unknown = self.unanswered.iter();
        extra.extend(unknown.filter(|id| labels.position(id).is_none()).cloned());
        let labelled = texts.iter().zip(labels.ids());
        let missing: Vec<String> = labelled
            .filter(|(text, _)| text.is_none())
            .map(|(_, id)| id.to_owned())
            .collect();
        Join {
            coverage: Coverage {
                answered: texts.len() - missing.len(),
                expected: texts.len(),
                missing,
                extra,
            },
            texts,
        }
    }
}

/// Answers in the order of the labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join<'sheet> {
    /// The answer to score for each label, `None` if there is none.
    pub texts: Vec<Option<&'sheet str>>,
    /// How the file covers the labels.
    pub coverage: Coverage,
}

/// How an answer file covers the labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Labels that have an answer.
    pub answered: usize,
    /// Number of labels.
    pub expected: usize,
    /// Labels without an answer, in label order.
    pub missing: Vec<String>,
    /// Ids of the file that no label has, those with an answer first.
    pub extra: Vec<String>,
}

impl Coverage {
    /// Whether every label has an answer.
    pub fn is_complete(&self) -> bool {
        self.answered == self.expected
    }

    /// The deviations as text, one per line; empty when ids match exactly.
    pub fn notes(&self) -> Vec<String> {
        let cases = [
            (&self.missing, "without an answer"),
            (&self.extra, "extra, not among the labels"),
        ];
        cases
            .into_iter()
            .filter(|(ids, _)| !ids.is_empty())
            .map(|(ids, what)| format!("{} {what}: {}", ids.len(), first_few(ids)))
            .collect()
    }
}

/// The first ids of a list, and the number of the others.
pub(super) fn first_few(ids: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = ids[..ids.len().min(SHOWN)].join(", ");
    match ids.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// blake3 over length-prefixed fields, so that no two lists collide by joining.
pub(super) fn hash_fields<'field>(fields: impl Iterator<Item = &'field String>) -> String {
    let mut hasher = blake3::Hasher::new();
    for field in fields {
        hasher.update(&(field.len() as u64).to_le_bytes());
        hasher.update(field.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::super::labels::Label;
    use super::*;

    fn labels(ids: &[&str]) -> Labels {
        let items = ids.iter().map(|id| Label {
            id: (*id).to_owned(),
            question_type: String::new(),
            question: String::new(),
            answer: format!("gold {id}"),
        });
        Labels::new(items.collect()).unwrap()
    }

    #[test]
    fn answers_are_joined_by_id_whatever_their_order() {
        let text = r#"[{"id": "2", "output": {"answer": "b"}}, {"id": 1, "answer": "a"}]"#;
        let sheet = AnswerSheet::parse(text.as_bytes()).unwrap();
        let join = sheet.join(&labels(&["1", "2"]));
        assert_eq!(join.texts, [Some("a"), Some("b")]);
        assert!(join.coverage.is_complete());
        assert!(join.coverage.notes().is_empty());
    }

    #[test]
    fn missing_and_extra_ids_are_reported_and_duplicates_break() {
        let text = r#"[{"id": "1", "answer": "a"}, {"id": "3"}, {"id": "9", "answer": "x"},
            {"id": "8"}, {"id": "5", "answer": ""}]"#;
        let sheet = AnswerSheet::parse(text.as_bytes()).unwrap();
        let join = sheet.join(&labels(&["1", "2", "3", "5"]));
        // An empty answer is an answer; an absent one is not.
        assert_eq!(join.texts, [Some("a"), None, None, Some("")]);
        let coverage = join.coverage;
        assert_eq!((coverage.answered, coverage.expected), (2, 4));
        assert_eq!(coverage.missing, ["2", "3"]);
        assert_eq!(coverage.extra, ["9", "8"]);
        assert_eq!(
            coverage.notes(),
            [
                "2 without an answer: 2, 3",
                "2 extra, not among the labels: 9, 8"
            ]
        );
        let text = "[{\"id\": \"1\", \"answer\": \"a\"},\n {\"id\": 1, \"answer\": \"b\"}]";
        let fault = AnswerSheet::parse(text.as_bytes()).unwrap_err();
        assert_eq!((fault.line, fault.column), (Some(2), Some(2)));
        assert!(fault.reason.contains("already occurs in line 1"), "{fault}");
    }

    #[test]
    fn long_lists_of_ids_are_cut() {
        let ids: Vec<String> = (1..=7).map(|id| id.to_string()).collect();
        assert_eq!(first_few(&ids), "1, 2, 3, 4, 5 and 2 more");
        assert_eq!(first_few(&ids[..5]), "1, 2, 3, 4, 5");
    }

    #[test]
    fn faults_have_a_position_and_mark_growing_files() {
        let cases: [(&[u8], bool, Option<usize>); 8] = [
            (b"", true, Some(1)),
            (b"[", true, Some(1)),
            (b"[\n  {\"id\": \"1\", \"output\": {\"ans", true, Some(2)),
            (b"[{\"id\": \"1\"}\0\0\0", true, Some(1)),
            (b"[\n{\"id\": \"1\"},]", false, Some(2)),
            (b"[{\"id\": \"\xff\"}]", false, Some(1)),
            (b"[{\"answer\": \"a\"}]", false, Some(1)),
            (b"3", false, Some(1)),
        ];
        for (bytes, ends_early, line) in cases {
            let fault = AnswerSheet::parse(bytes).unwrap_err();
            let shown = String::from_utf8_lossy(bytes);
            assert_eq!(fault.ends_early, ends_early, "{shown}: {fault}");
            assert_eq!(fault.line, line, "{shown}: {fault}");
        }
        let two_faults = b"[{\"answer\": \"a\"}, {\"answer\": \"a\"}]";
        let fault = AnswerSheet::parse(two_faults).unwrap_err();
        assert!(fault.to_string().starts_with("1:2: item 0"), "{fault}");
        assert!(fault.reason.ends_with("(and 1 more faults)"), "{fault}");
    }

    #[test]
    fn fingerprints_follow_the_content() {
        let of = |text: &str| {
            let sheet = AnswerSheet::parse(text.as_bytes()).unwrap();
            sheet.fingerprint().to_owned()
        };
        let nested = of(r#"[{"id": "1", "output": {"answer": "a"}}]"#);
        assert_eq!(nested, of(r#"[{"id": 1, "answer": "a"}]"#));
        assert_ne!(nested, of(r#"[{"id": "1", "answer": ""}]"#));
        assert_ne!(
            of(r#"[{"id": "1", "answer": "ab"}]"#),
            of(r#"[{"id": "1a", "answer": "b"}]"#)
        );
    }
}
