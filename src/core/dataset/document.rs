//! A file of JSON items with the position of each: an array, `{"data": […]}`, or JSON lines.
//!
//! Items are cut out by a scan for matching brackets and quotes before serde_json reads them. A
//! message about item 412 needs its line, and "the file stops inside an item" (it is still being
//! written) must be distinguished from "the file is wrong".

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::scan::{ScanFault, spans};

/// The most faults of a file that a message lists.
const SHOWN_FAULTS: usize = 20;

/// Why a data file was refused.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file could not be read at all.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file stops inside its JSON: another program is still writing it, or it was truncated.
    #[error(
        "{path}:{line}:{column}: the file ends inside its JSON; it is still being written, or it \
         was truncated and must be written again"
    )]
    EndsEarly {
        /// The file.
        path: PathBuf,
        /// Line of its end, from 1.
        line: usize,
        /// Column of its end in characters, from 1.
        column: usize,
    },
    /// Everything that is wrong with the file's contents.
    #[error("{}", listing(path, faults))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The faults in file order, at least one.
        faults: Vec<DataFault>,
    },
}

/// One thing that is wrong with a data file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataFault {
    /// Line, from 1; 0 if the fault concerns the whole file.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Index of the item, from 0.
    pub item: Option<usize>,
    /// The item's id, if it has one.
    pub id: Option<String>,
    /// The key that causes it, with its accepted spellings.
    pub key: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// How to fix it.
    pub hint: String,
}

impl fmt::Display for DataFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(item) = self.item {
            write!(formatter, "item {item}")?;
            if let Some(id) = &self.id {
                write!(formatter, " (id {id:?})")?;
            }
            formatter.write_str(": ")?;
        }
        if let Some(key) = &self.key {
            write!(formatter, "{key}: ")?;
        }
        write!(formatter, "{}; {}", self.problem, self.hint)
    }
}

fn listing(path: &Path, faults: &[DataFault]) -> String {
    let mut lines: Vec<String> = faults
        .iter()
        .take(SHOWN_FAULTS)
        .map(|fault| match fault.line {
            0 => format!("{}: {fault}", path.display()),
            line => format!("{}:{line}:{}: {fault}", path.display(), fault.column),
        })
        .collect();
    if faults.len() > SHOWN_FAULTS {
        lines.push(format!("and {} more faults", faults.len() - SHOWN_FAULTS));
    }
    lines.join("\n")
}

/// One item of a file and where it starts.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub index: usize,
    pub line: usize,
    pub column: usize,
    pub fields: Map<String, Value>,
}

impl Item {
    /// A fault of this item.
    pub fn fault(
        &self,
        key: &str,
        problem: impl Into<String>,
        hint: impl Into<String>,
    ) -> Box<DataFault> {
        Box::new(DataFault {
            line: self.line,
            column: self.column,
            item: Some(self.index),
            id: None,
            key: Some(key.to_owned()),
            problem: problem.into(),
            hint: hint.into(),
        })
    }
}

/// Reads a whole file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    crate::regular_file::read(path).map_err(|source| DataError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Cuts `bytes` into items, each a JSON object. `path` is for messages.
pub(super) fn items(path: &Path, bytes: &[u8]) -> Result<Vec<Item>, DataError> {
    let invalid = |fault| DataError::Invalid {
        path: path.to_owned(),
        faults: vec![fault],
    };
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(invalid(DataFault {
            problem: "the file is UTF-16".to_owned(),
            hint: "save it as UTF-8".to_owned(),
            ..DataFault::default()
        }));
    }
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let (text, bad_byte) = match std::str::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => {
            let valid = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
            (valid, error.error_len())
        }
    };
    if bad_byte.is_some() {
        let (line, column) = position(text, text.len());
        return Err(invalid(DataFault {
            line,
            column,
            problem: format!("byte 0x{:02x} is not UTF-8", bytes[text.len()]),
            hint: "save the file as UTF-8".to_owned(),
            ..DataFault::default()
        }));
    }
    let spans = spans(text).map_err(|fault| {
        let (line, column) = position(text, fault.offset());
        match fault {
            ScanFault::EndsEarly { .. } => DataError::EndsEarly {
                path: path.to_owned(),
                line,
                column,
            },
            ScanFault::Syntax { problem, hint, .. } => invalid(DataFault {
                line,
                column,
                problem,
                hint: hint.to_owned(),
                ..DataFault::default()
            }),
        }
    })?;

    let mut positions = Positions::new(text);
    let mut items = Vec::with_capacity(spans.len());
    let mut faults = Vec::new();
    for (index, (start, end)) in spans.into_iter().enumerate() {
        let (line, column) = positions.find(start);
        let whole_item = DataFault {
            line,
            column,
            item: Some(index),
            ..DataFault::default()
        };
        match serde_json::from_str::<Value>(&text[start..end]) {
            Ok(Value::Object(fields)) => items.push(Item {
                index,
                line,
                column,
                fields,
            }),
            Ok(other) => faults.push(DataFault {
                problem: format!("is {}, not an object", kind(&other)),
                hint: "write {\"id\": …, \"input\": {\"question\": …}, …}".to_owned(),
                ..whole_item
            }),
            Err(error) => {
                let offset = start + error_offset(&text[start..end], &error);
                let (line, column) = positions.clone().find(offset);
                faults.push(DataFault {
                    line,
                    column,
                    problem: format!("is not JSON: {}", without_position(&error)),
                    hint: "correct the JSON there".to_owned(),
                    ..whole_item
                });
            }
        }
    }
    if faults.is_empty() {
        Ok(items)
    } else {
        Err(DataError::Invalid {
            path: path.to_owned(),
            faults,
        })
    }
}

/// The type of a JSON value, as text.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Byte offset in `text` of the position that a serde_json error names.
fn error_offset(text: &str, error: &serde_json::Error) -> usize {
    let line_start: usize = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    let mut offset = (line_start + error.column().saturating_sub(1)).min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// serde_json ends its messages with a position inside the item, which would be misleading here.
fn without_position(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rfind(" at line ") {
        Some(end) => message[..end].to_owned(),
        None => message,
    }
}

/// (line, column) of a byte offset, both from 1, the column in characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    Positions::new(text).find(offset)
}

/// Turns ascending byte offsets into lines and columns in one pass.
#[derive(Clone)]
struct Positions<'text> {
    text: &'text str,
    scanned: usize,
    line: usize,
    column: usize,
}

impl<'text> Positions<'text> {
    fn new(text: &'text str) -> Self {
        Self {
            text,
            scanned: 0,
            line: 1,
            column: 1,
        }
    }

    fn find(&mut self, offset: usize) -> (usize, usize) {
        for character in self.text[self.scanned..offset].chars() {
            if character == '\n' {
                self.line += 1;
                self.column = 1;
            } else {
                self.column += 1;
            }
        }
        self.scanned = offset;
        (self.line, self.column)
    }
}
