//! The small JSON files of a Hugging Face model folder.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// The object in `directory/name`; `None` if the file does not exist.
///
/// # Errors
/// An unreadable file, or one that is not a JSON object: the message names the file, the line and
/// the column.
pub fn read_object(directory: &Path, name: &str) -> Result<Option<Map<String, Value>>> {
    let path = directory.join(name);
    let text = match crate::regular_file::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let value: Value = serde_json::from_str(text.strip_prefix('\u{feff}').unwrap_or(&text))
        .with_context(|| {
            format!(
                "{} is not valid JSON; copy the model folder again",
                path.display()
            )
        })?;
    match value {
        Value::Object(object) => Ok(Some(object)),
        _ => bail!(
            "{} is not a JSON object; copy the model folder again",
            path.display()
        ),
    }
}

/// The text of a special token, written `"</s>"` or `{"content": "</s>", …}`.
pub fn token_text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        Value::Object(fields) => fields.get("content")?.as_str(),
        _ => None,
    }
}
