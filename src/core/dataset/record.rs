//! Question files: train, evaluation and few-shot sets.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::document::{DataError, DataFault, Item, items, read};
use super::fields::{self, ANSWER_SPELLINGS, ID_SPELLINGS};

/// The task of a question.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum QuestionType {
    /// 선택형: choose the right one of several spellings.
    Selection,
    /// 교정형: find and correct what is wrong.
    Correction,
    /// Any other type, as written; empty if the item names none.
    Other(String),
}

impl QuestionType {
    /// The type with this name.
    pub fn from_name(name: &str) -> Self {
        match name {
            "선택형" => Self::Selection,
            "교정형" => Self::Correction,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The name as written in files.
    pub fn name(&self) -> &str {
        match self {
            Self::Selection => "선택형",
            Self::Correction => "교정형",
            Self::Other(name) => name,
        }
    }
}

/// One question, with its answer if the file has one.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Unique within its file; a number is kept as its digits.
    pub id: String,
    /// The task.
    pub question_type: QuestionType,
    /// The question.
    pub question: String,
    /// The reference answer; `None` in a test set.
    pub answer: Option<String>,
    /// The item as read, with every key.
    pub raw: Value,
}

/// Reads a question file: a JSON array, `{"data": […]}` or JSON lines, in any of the
/// field spellings of the contest and its descendants.
///
/// # Errors
/// [`DataError`] lists everything wrong with the file, each fault with line, column, item, id, key
/// and how to fix it. A file without items and a duplicate id are faults. A missing answer is not
/// (see [`require_answers`]), nor is an unknown question type (see [`question_type_warnings`]).
pub fn load_records(path: &Path) -> Result<Vec<Record>, DataError> {
    parse_records(path, &read(path)?)
}

/// [`load_records`] on bytes already read; `path` is for messages.
///
/// # Errors
/// Those of [`load_records`].
pub fn parse_records(path: &Path, bytes: &[u8]) -> Result<Vec<Record>, DataError> {
    let items = items(path, bytes)?;
    let mut faults = Vec::new();
    if items.is_empty() {
        faults.push(DataFault {
            problem: "the file has no items".to_owned(),
            hint: "add at least one question".to_owned(),
            ..DataFault::default()
        });
    }
    let mut records: Vec<Record> = Vec::with_capacity(items.len());
    let mut seen = SeenIds::default();
    for item in items {
        match record(&item, &mut seen) {
            Ok(fields) => records.push(Record {
                raw: Value::Object(item.fields),
                ..fields
            }),
            Err(item_faults) => faults.extend(item_faults),
        }
    }
    if faults.is_empty() {
        Ok(records)
    } else {
        Err(DataError::Invalid {
            path: path.to_owned(),
            faults,
        })
    }
}

/// The fields of `item`, or everything wrong with them.
fn record(item: &Item, seen: &mut SeenIds) -> Result<Record, Vec<DataFault>> {
    let id = fields::id(item).and_then(|id| seen.insert(item, id));
    let question_type = fields::question_type(item);
    let question = fields::question(item);
    let answer = fields::answer(item);
    match (id, question_type, question, answer) {
        (Ok(id), Ok(question_type), Ok(question), Ok(answer)) => Ok(Record {
            id,
            question_type: QuestionType::from_name(&question_type),
            question,
            answer,
            raw: Value::Null,
        }),
        (id, question_type, question, answer) => {
            let known = id.as_ref().ok().cloned();
            let faults = [id.err(), question_type.err(), question.err(), answer.err()];
            Err(faults
                .into_iter()
                .flatten()
                .map(|fault| DataFault {
                    id: fault.id.clone().or_else(|| known.clone()),
                    ..*fault
                })
                .collect())
        }
    }
}

/// The ids read so far and the line of each.
#[derive(Default)]
pub(super) struct SeenIds {
    lines: HashMap<String, usize>,
}

impl SeenIds {
    /// Returns a new id and refuses a duplicate.
    pub fn insert(&mut self, item: &Item, id: String) -> Result<String, Box<DataFault>> {
        match self.lines.get(&id) {
            Some(line) => {
                let problem = format!("already occurs in line {line}");
                let mut fault = item.fault(ID_SPELLINGS, problem, "give each item its own id");
                fault.id = Some(id);
                Err(fault)
            }
            None => {
                self.lines.insert(id.clone(), item.line);
                Ok(id)
            }
        }
    }
}

/// Refuses records without an answer: training and scoring need one for each.
///
/// # Errors
/// One fault that names the ids (the first 20 of them).
pub fn require_answers(path: &Path, records: &[Record]) -> Result<(), DataError> {
    const SHOWN: usize = 20;
    let missing: Vec<&str> = records
        .iter()
        .filter(|record| record.answer.is_none())
        .map(|record| record.id.as_str())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut ids = missing[..missing.len().min(SHOWN)].join(", ");
    if missing.len() > SHOWN {
        ids.push_str(", …");
    }
    Err(DataError::Invalid {
        path: path.to_owned(),
        faults: vec![DataFault {
            key: Some(ANSWER_SPELLINGS.to_owned()),
            problem: format!(
                "{} of {} items have no answer: id {ids}",
                missing.len(),
                records.len()
            ),
            hint: "give each an answer, or name a file with the answers in data.labels".to_owned(),
            ..DataFault::default()
        }],
    })
}

/// One line for each question type that is neither 선택형 nor 교정형, with the number of its
/// items: they get the general prompt.
pub fn question_type_warnings(path: &Path, records: &[Record]) -> Vec<String> {
    let mut kinds: Vec<(&str, usize, &str)> = Vec::new();
    for record in records {
        let QuestionType::Other(name) = &record.question_type else {
            continue;
        };
        match kinds.iter_mut().find(|(known, _, _)| known == name) {
            Some((_, count, _)) => *count += 1,
            None => kinds.push((name, 1, &record.id)),
        }
    }
    kinds
        .into_iter()
        .map(|(name, count, id)| {
            let what = if name.is_empty() {
                "no question type".to_owned()
            } else {
                format!("the unknown question type {name:?}")
            };
            format!(
                "{}: {count} item(s) have {what} (first: id {id}); they get the general prompt only",
                path.display()
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Record>, String> {
        parse_records(Path::new("train.json"), text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn every_spelling_and_shape_is_read() {
        let nested = r#"{"id": "1", "input": {"question_type": "선택형", "question": "무엇?", "장르": "x"}, "output": {"answer": "답"}}"#;
        let flat = r#"{"Question_ID": 2, "Question_Type": "교정형", "Question": "무엇?", "Answer": "답", "Description": "d"}"#;
        let lower = r#"{"ID": 3, "question_type": "선택형형", "question": "무엇?", "answer": {"answer": "답"}}"#;
        let test = r#"{"id": "4", "input": {"question": "무엇?"}}"#;
        let all = [nested, flat, lower, test];
        for text in [
            format!("\u{feff}[\n{}\n]\n", all.join(",\n")),
            format!("{{\"version\": 1, \"data\": [{}]}}", all.join(",")),
            format!("{{\n\"data\" : [{}] }}\n", all.join(",")),
            format!("{}\n", all.join("\n")),
            format!("\n{}", all.join("\r\n\n")),
        ] {
            let records = parse(&text).unwrap();
            assert_eq!(records.len(), 4, "{text}");
            let ids: Vec<&str> = records.iter().map(|record| record.id.as_str()).collect();
            assert_eq!(ids, ["1", "2", "3", "4"]);
            assert_eq!(records[0].question_type, QuestionType::Selection);
            assert_eq!(records[1].question_type, QuestionType::Correction);
            assert_eq!(
                records[2].question_type,
                QuestionType::Other("선택형형".to_owned())
            );
            assert!(
                records[..3]
                    .iter()
                    .all(|record| record.answer.as_deref() == Some("답"))
            );
            assert_eq!(records[3].answer, None);
            assert_eq!(records[0].raw["input"]["장르"], "x");
            let path = Path::new("train.json");
            assert_eq!(question_type_warnings(path, &records).len(), 2);
            let message = require_answers(path, &records).unwrap_err().to_string();
            assert!(
                message.contains("1 of 4 items have no answer: id 4"),
                "{message}"
            );
        }
        assert_eq!(parse(nested).unwrap().len(), 1);
    }

    #[test]
    fn faults_are_listed_with_their_position() {
        let message = parse(
            "[\n  {\"id\": \"1\", \"question\": \"ㄱ\"},\n  {\"id\": \"1\", \"quesiton\": \"ㄴ\"},\n  3,\n {\"id\": 1.5, \"question\": [], \"answer\": 1}\n]",
        );
        assert_eq!(
            message.unwrap_err(),
            "train.json:4:3: item 2: is a number, not an object; write {\"id\": …, \"input\": \
             {\"question\": …}, …}"
        );
        let message = parse(
            "[\n  {\"id\": \"1\", \"question\": \"ㄱ\"},\n  {\"id\": \"1\", \"quesiton\": \"ㄴ\"},\n {\"id\": 1.5, \"question\": [], \"answer\": 1}\n]",
        )
        .unwrap_err();
        for line in [
            "train.json:3:3: item 1 (id \"1\"): id (or Question_ID, ID): already occurs in line 2; ",
            "train.json:3:3: item 1: input.question (or question, Question): is missing (the item has id, quesiton); ",
            "train.json:4:2: item 2: id (or Question_ID, ID): is a number (1.5); ",
            "train.json:4:2: item 2: input.question (or question, Question): is an array; ",
            "train.json:4:2: item 2: output.answer (or answer, Answer): is a number; ",
        ] {
            assert!(message.contains(line), "{message}\nlacks {line}");
        }
    }

    #[test]
    fn broken_json_has_line_and_column() {
        for (text, expected) in [
            (
                "[{\"id\": 1,\n\"question\": \"가나\" \"x\"}]",
                "train.json:2:18: item 0: is not JSON: expected `,` or `}`",
            ),
            ("[{\"id\": 1, \"question\": tru}]", "is not JSON"),
            (
                "[{\"id\": 1},]",
                "train.json:1:12: ] does not match an open bracket",
            ),
            (
                "[{\"id\": 1} {\"id\": 2}]",
                "train.json:1:12: expected , or ]",
            ),
            ("[{\"id\": [1}]", "train.json:1:11: } does not match"),
            (
                "[{\"id\": \"가\n\"}]",
                "train.json:1:11: a string is not closed on its line",
            ),
            ("[] []", "train.json:1:4: '[' follows the end"),
            ("[]", "train.json: the file has no items"),
            (
                "id,question\n1,x",
                "train.json:1:1: a data file starts with [ or {, not 'i'",
            ),
            (
                "{\"id\": 1}\n{\"id\": 2\n{\"id\": 3}\n",
                "train.json:2:1: the line is not one whole JSON object",
            ),
            (
                "{\"id\": 1}\n{\"id\": 2} 3\n",
                "train.json:2:11: text follows",
            ),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
        let bytes = |bytes: &[u8]| {
            parse_records(Path::new("x"), bytes)
                .unwrap_err()
                .to_string()
        };
        assert!(bytes(b"[\n\"\xb0\xa1\"]").contains("x:2:2: byte 0xb0 is not UTF-8"));
        assert!(bytes(b"\xff\xfe[\0").contains("UTF-16"));
    }

    #[test]
    fn a_file_cut_anywhere_ends_early_and_is_not_broken() {
        let text = "[\n  {\"id\": \"1\", \"question\": \"가\\\"나\", \"output\": {\"answer\": null}, \"x\": [1, true]},\n  {\"id\": \"2\", \"question\": \"다\"}\n]\n";
        let end = text.trim_end().len();
        for length in 0..end {
            let error = parse_records(Path::new("x"), &text.as_bytes()[..length]).unwrap_err();
            assert!(
                matches!(error, DataError::EndsEarly { .. }),
                "{length}: {error}"
            );
        }
        assert_eq!(parse(text).unwrap().len(), 2);
        let lines =
            "{\"id\": \"1\", \"question\": \"가\"}\n{\"id\": \"2\", \"question\": \"나\"}\n";
        for length in 0..lines.len() {
            match parse_records(Path::new("x"), &lines.as_bytes()[..length]) {
                Ok(records) => assert!(lines[..length].lines().count() == records.len()),
                Err(error) => assert!(
                    matches!(error, DataError::EndsEarly { .. }),
                    "{length}: {error}"
                ),
            }
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic() {
        let text = "[{\"id\": \"1\", \"question\": \"가\\\"나\\\\\", \"output\": {\"answer\": [1, true]}}, {\"id\": 2}]";
        for position in 0..text.len() {
            for byte in [b'"', b'\\', b'[', b'}', b',', b'\n', b' ', 0xff, 0xea, 0] {
                let mut bytes = text.as_bytes().to_vec();
                bytes[position] = byte;
                let _ = parse_records(Path::new("x"), &bytes);
                bytes.remove(position);
                let _ = parse_records(Path::new("x"), &bytes);
            }
        }
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert!(parse(&deep).unwrap_err().contains("recursion limit"));
    }
}
