//! The spellings of each field in the contest's files and their descendants.

use serde_json::{Map, Value};

use super::document::{DataFault, Item, kind};

pub(super) const ID_SPELLINGS: &str = "id (or Question_ID, ID)";
pub(super) const QUESTION_SPELLINGS: &str = "input.question (or question, Question)";
pub(super) const TYPE_SPELLINGS: &str = "input.question_type (or question_type, Question_Type)";
pub(super) const ANSWER_SPELLINGS: &str = "output.answer (or answer, Answer)";

/// Flat keys of the answer.
pub(super) const FLAT_ANSWER_KEYS: [&str; 2] = ["answer", "Answer"];

fn first<'item>(fields: &'item Map<String, Value>, keys: &[&str]) -> Option<&'item Value> {
    keys.iter()
        .filter_map(|key| fields.get(*key))
        .find(|value| !value.is_null())
}

fn in_input_or_flat<'item>(item: &'item Item, keys: &[&str]) -> Option<&'item Value> {
    item.fields
        .get("input")
        .and_then(Value::as_object)
        .and_then(|input| first(input, keys))
        .or_else(|| first(&item.fields, keys))
}

/// The id as text; a number is written out.
pub(super) fn id(item: &Item) -> Result<String, Box<DataFault>> {
    let hint = "give each item its own id, a string or a whole number";
    match first(&item.fields, &["id", "Question_ID", "ID"]) {
        Some(Value::String(id)) if !id.trim().is_empty() => Ok(id.clone()),
        Some(Value::Number(id)) if id.is_i64() || id.is_u64() => Ok(id.to_string()),
        Some(Value::String(_)) => Err(item.fault(ID_SPELLINGS, "is empty", hint)),
        Some(other) => Err(item.fault(ID_SPELLINGS, format!("is {} ({other})", kind(other)), hint)),
        None => Err(item.fault(ID_SPELLINGS, missing(item), hint)),
    }
}

/// The question.
pub(super) fn question(item: &Item) -> Result<String, Box<DataFault>> {
    let hint = "write the question as a string";
    match in_input_or_flat(item, &["question", "Question"]) {
        Some(Value::String(question)) if !question.trim().is_empty() => Ok(question.clone()),
        Some(Value::String(_)) => Err(item.fault(QUESTION_SPELLINGS, "is empty", hint)),
        Some(other) => Err(item.fault(QUESTION_SPELLINGS, format!("is {}", kind(other)), hint)),
        None => Err(item.fault(QUESTION_SPELLINGS, missing(item), hint)),
    }
}

/// The question's type as written; empty if there is none.
pub(super) fn question_type(item: &Item) -> Result<String, Box<DataFault>> {
    match in_input_or_flat(item, &["question_type", "Question_Type"]) {
        None => Ok(String::new()),
        Some(Value::String(name)) => Ok(name.trim().to_owned()),
        Some(other) => Err(item.fault(
            TYPE_SPELLINGS,
            format!("is {}", kind(other)),
            "write 선택형 or 교정형",
        )),
    }
}

/// The answer; `None` if the item has none (a test set). `output` takes precedence over a flat key.
pub(super) fn answer(item: &Item) -> Result<Option<String>, Box<DataFault>> {
    let candidates = [
        item.fields.get("output"),
        first(&item.fields, &FLAT_ANSWER_KEYS),
    ];
    for candidate in candidates.into_iter().flatten() {
        let value = match candidate {
            Value::Object(fields) => first(fields, &FLAT_ANSWER_KEYS).unwrap_or(&Value::Null),
            other => other,
        };
        match value {
            Value::Null => {}
            Value::String(answer) => return Ok(Some(answer.clone())),
            other => return Err(wrong_answer(item, other)),
        }
    }
    Ok(None)
}

fn wrong_answer(item: &Item, value: &Value) -> Box<DataFault> {
    item.fault(
        ANSWER_SPELLINGS,
        format!("is {}", kind(value)),
        "write the answer as a string",
    )
}

/// "is missing", with the keys that exist, so that a typing error is visible.
fn missing(item: &Item) -> String {
    let mut keys: Vec<String> = Vec::new();
    for (key, value) in &item.fields {
        match value {
            Value::Object(inner) if key == "input" || key == "output" => {
                keys.extend(inner.keys().map(|inner| format!("{key}.{inner}")));
            }
            _ => keys.push(key.clone()),
        }
    }
    if keys.is_empty() {
        "is missing (the item is empty)".to_owned()
    } else {
        format!("is missing (the item has {})", keys.join(", "))
    }
}
