//! Answer files: `infer_results/inference_epoch{E}.json`, and label files, which have the
//! same shape.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::document::{DataError, DataFault, items, read};
use super::fields::{self, FLAT_ANSWER_KEYS};
use super::record::{Record, SeenIds};
use crate::text::answer::{normalize, strip_prefixes};

/// One completion, to be written to an answer file.
#[derive(Clone, Copy, Debug)]
pub struct GeneratedAnswer<'run> {
    /// The question it answers.
    pub record: &'run Record,
    /// The completion's text, special tokens left out.
    pub completion: &'run str,
    /// The completion's token ids, if they should be written.
    pub token_ids: Option<&'run [u32]>,
    /// The log-probability of each of them in nats.
    pub log_probs: Option<&'run [f32]>,
}

impl GeneratedAnswer<'_> {
    /// The item as read, with the reference answer replaced by this one:
    /// `output: {"answer", "normalized_answer"}` and, if given, `token_ids` and `logprobs`.
    fn item(&self) -> Value {
        let answer = strip_prefixes(self.completion);
        let mut output = Map::new();
        output.insert("answer".to_owned(), Value::from(answer.as_str()));
        output.insert(
            "normalized_answer".to_owned(),
            Value::from(normalize(&answer)),
        );
        if let Some(token_ids) = self.token_ids {
            output.insert("token_ids".to_owned(), json!(token_ids));
        }
        if let Some(log_probs) = self.log_probs {
            output.insert(
                "logprobs".to_owned(),
                log_probs.iter().copied().map(short).collect(),
            );
        }
        let mut item = match &self.record.raw {
            Value::Object(fields) => fields.clone(),
            _ => Map::from_iter([
                ("id".to_owned(), Value::from(self.record.id.as_str())),
                (
                    "input".to_owned(),
                    json!({
                        "question_type": self.record.question_type.name(),
                        "question": self.record.question,
                    }),
                ),
            ]),
        };
        // A flat reference answer could be mistaken for this one.
        for key in FLAT_ANSWER_KEYS {
            item.shift_remove(key);
        }
        item.insert("output".to_owned(), Value::Object(output));
        Value::Object(item)
    }
}

/// An f32 with its shortest digits; converted to f64 it would be written with nine more.
fn short(number: f32) -> Value {
    number
        .to_string()
        .parse::<f64>()
        .map_or(Value::Null, Value::from)
}

/// The answers of a file, joined to questions by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerFile {
    /// (id, answer) in file order; ids are unique.
    pub answers: Vec<(String, String)>,
    /// Ids of items that have no answer yet.
    pub missing: Vec<String>,
}

impl AnswerFile {
    /// The bytes of an answer file: a JSON array in unescaped UTF-8, indented by 4, as the
    /// contest's own files are.
    ///
    /// # Errors
    /// Those of serde_json; none is known.
    pub fn to_bytes(answers: &[GeneratedAnswer<'_>]) -> Result<Vec<u8>, serde_json::Error> {
        let items: Vec<Value> = answers.iter().map(GeneratedAnswer::item).collect();
        let mut bytes = Vec::new();
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        items.serialize(&mut serde_json::Serializer::with_formatter(
            &mut bytes, formatter,
        ))?;
        Ok(bytes)
    }

    /// Reads an answer or label file in any of the shapes and spellings of
    /// [`super::load_records`]; questions may be missing from it.
    ///
    /// # Errors
    /// [`DataError::EndsEarly`] for a file that is still being written (an empty one too),
    /// [`DataError::Invalid`] for an invalid one, with every fault's line and column.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        Self::parse(path, &read(path)?)
    }

    /// [`Self::read`] on bytes already read; `path` is for messages.
    ///
    /// # Errors
    /// Those of [`Self::read`].
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, DataError> {
        let mut file = Self::default();
        let mut faults = Vec::new();
        let mut seen = SeenIds::default();
        for item in items(path, bytes)? {
            let id = fields::id(&item).and_then(|id| seen.insert(&item, id));
            match (id, fields::answer(&item)) {
                (Ok(id), Ok(Some(answer))) => file.answers.push((id, answer)),
                (Ok(id), Ok(None)) => file.missing.push(id),
                (id, answer) => {
                    let known = id.as_ref().ok().cloned();
                    faults.extend(id.err().map(|fault| *fault));
                    faults.extend(answer.err().map(|fault| DataFault {
                        id: known,
                        ..*fault
                    }));
                }
            }
        }
        if faults.is_empty() {
            Ok(file)
        } else {
            Err(DataError::Invalid {
                path: path.to_owned(),
                faults,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::parse_records;

    #[test]
    fn a_written_file_is_read_back() {
        let path = Path::new("eval.json");
        let records = parse_records(
            path,
            r#"[{"id": "1", "input": {"question_type": "선택형", "question": "무엇?"}, "output": {"answer": "정답"}},
                {"Question_ID": 2, "Question": "무엇?", "Answer": "정답"}]"#.as_bytes(),
        )
        .unwrap();
        let answers = [
            GeneratedAnswer {
                record: &records[0],
                completion: " [답변]\n“가다.”가  옳다. 이유.\n",
                token_ids: None,
                log_probs: None,
            },
            GeneratedAnswer {
                record: &records[1],
                completion: "",
                token_ids: Some(&[1, 2]),
                log_probs: Some(&[-0.1, f32::NEG_INFINITY]),
            },
        ];
        let bytes = AnswerFile::to_bytes(&answers).unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert_eq!(
            text,
            r#"[
    {
        "id": "1",
        "input": {
            "question_type": "선택형",
            "question": "무엇?"
        },
        "output": {
            "answer": "“가다.”가  옳다. 이유.",
            "normalized_answer": "\"가다.\"가 옳다. 이유."
        }
    },
    {
        "Question_ID": 2,
        "Question": "무엇?",
        "output": {
            "answer": "",
            "normalized_answer": "",
            "token_ids": [
                1,
                2
            ],
            "logprobs": [
                -0.1,
                null
            ]
        }
    }
]"#
        );
        let file = AnswerFile::parse(path, &bytes).unwrap();
        let expected = [("1", "“가다.”가  옳다. 이유."), ("2", "")]
            .map(|(id, answer)| (id.to_owned(), answer.to_owned()));
        assert_eq!(file.answers, expected);
        for length in 0..bytes.len() {
            let error = AnswerFile::parse(path, &bytes[..length]).unwrap_err();
            assert!(
                matches!(error, DataError::EndsEarly { .. }),
                "{length}: {error}"
            );
        }
    }

    #[test]
    fn items_without_an_answer_are_named_and_ids_are_unique() {
        let parse = |text: &str| AnswerFile::parse(Path::new("x.json"), text.as_bytes());
        let file =
            parse("{\"id\": 1, \"answer\": \"가\"}\n{\"id\": 2, \"output\": {}}\n{\"id\": 3}\n")
                .unwrap();
        assert_eq!(file.answers, [("1".to_owned(), "가".to_owned())]);
        assert_eq!(file.missing, ["2", "3"]);
        assert_eq!(parse("[]").unwrap(), AnswerFile::default());
        let message = parse("[{\"id\": 1, \"answer\": 3}, {\"id\": \"1\"}]")
            .unwrap_err()
            .to_string();
        assert!(
            message.contains(
                "x.json:1:2: item 0 (id \"1\"): output.answer (or answer, Answer): is a number"
            ),
            "{message}"
        );
        assert!(
            message.contains(
                "x.json:1:26: item 1 (id \"1\"): id (or Question_ID, ID): already occurs in line 1"
            ),
            "{message}"
        );
    }
}
