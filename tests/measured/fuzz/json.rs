//! Changes of a JSON value that keep most of it in place.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value, json};

use super::mutate::{NUMBERS, pick};

/// Stands for text that no [`Value`] can hold, until it is written.
const RAW: &str = "@raw@";

/// What is written where a [`RAW`] stands: besides numbers, lone surrogates and other slips.
const RAW_TEXTS: [&str; 7] = [
    "\"\\ud800\"",
    "\"\\udc00 \\ud83d\"",
    "\"\\u0000\"",
    "undefined",
    "'a'",
    "{\"a\":1,\"a\":2}",
    "",
];

/// Values of other types than the one expected.
fn strange(rng: &mut ChaCha8Rng, words: &[&'static str]) -> Value {
    match rng.random_range(0..16) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!([]),
        3 => json!({}),
        4 => json!(""),
        5 => json!([[]]),
        6 => json!({"": null}),
        7 => json!("\0"),
        8 => json!("a".repeat(rng.random_range(1..2000))),
        9 => nested(rng),
        10 => json!(RAW),
        11 => json!("../../../../etc/passwd"),
        12 | 13 if !words.is_empty() => json!(*pick(rng, words)),
        _ => number(rng),
    }
}

fn number(rng: &mut ChaCha8Rng) -> Value {
    let text: &str = pick::<&str>(rng, &NUMBERS);
    match serde_json::from_str(text) {
        Ok(number) => number,
        Err(_) => json!(RAW),
    }
}

/// Brackets in brackets: below and above what serde_json follows.
fn nested(rng: &mut ChaCha8Rng) -> Value {
    let depth = *pick(rng, &[3, 60, 120, 140]);
    let is_array = rng.random_bool(0.5);
    (0..depth).fold(Value::Null, |inner, _| {
        if is_array {
            Value::Array(vec![inner])
        } else {
            Value::Object(Map::from_iter([("type".to_owned(), inner)]))
        }
    })
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// The `index`-th value in the order in which they are written.
fn nth<'all>(value: &'all mut Value, index: &mut usize) -> Option<&'all mut Value> {
    if *index == 0 {
        return Some(value);
    }
    *index -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, index)),
        Value::Object(fields) => fields.values_mut().find_map(|item| nth(item, index)),
        _ => None,
    }
}

/// A value, near the root as often as deep inside.
fn any<'all>(rng: &mut ChaCha8Rng, value: &'all mut Value) -> Option<&'all mut Value> {
    let total = count(value);
    let most = if rng.random_bool(0.5) {
        total.min(40)
    } else {
        total
    };
    nth(value, &mut rng.random_range(0..most))
}

/// Changes one place.
pub fn change(rng: &mut ChaCha8Rng, value: &mut Value, words: &[&'static str]) {
    let copy = any(rng, value).cloned();
    let new = strange(rng, words);
    let kind = rng.random_range(0..10);
    let Some(there) = any(rng, value) else { return };
    match (kind, there) {
        (0 | 1, there @ Value::Number(_)) => *there = number(rng),
        (2, there) => *there = copy.unwrap_or(new),
        (3, Value::Array(items)) if !items.is_empty() => {
            let at = rng.random_range(0..items.len());
            let item = items[at].clone();
            let times = rng.random_range(1..20);
            items.splice(at..at, std::iter::repeat_n(item, times));
        }
        (4, Value::Array(items)) if !items.is_empty() => {
            items.remove(rng.random_range(0..items.len()));
        }
        (5, Value::Array(items)) => items.push(new),
        (3 | 4, Value::Object(fields)) if !fields.is_empty() => {
            let key = fields
                .keys()
                .nth(rng.random_range(0..fields.len()))
                .cloned();
            let removed = key.and_then(|key| fields.shift_remove(&key));
            if kind == 3 {
                fields.insert("another".to_owned(), removed.unwrap_or(new));
            }
        }
        (5, Value::Object(fields)) => {
            let key = words.get(rng.random_range(0..words.len().max(1)));
            fields.insert((*key.unwrap_or(&"")).to_owned(), new);
        }
        (6, Value::String(text)) => {
            let cut = text.char_indices().map(|(at, _)| at);
            let cut = cut.clone().nth(rng.random_range(0..cut.count().max(1)));
            text.truncate(cut.unwrap_or(0));
        }
        (7, there @ (Value::Array(_) | Value::Object(_))) => {
            *there = if rng.random_bool(0.5) {
                Value::Array(vec![there.take()])
            } else {
                json!({ "a": there.take() })
            };
        }
        (_, there) => *there = new,
    }
}

/// The value as text, with what no value can hold.
pub fn written(rng: &mut ChaCha8Rng, value: &Value) -> Vec<u8> {
    let text = if rng.random_bool(0.2) {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    let mut text = text.unwrap_or_default();
    let quoted = format!("\"{RAW}\"");
    while text.contains(&quoted) {
        let raw = if rng.random_bool(0.5) {
            *pick(rng, &NUMBERS)
        } else {
            *pick(rng, &RAW_TEXTS)
        };
        text = text.replacen(&quoted, raw, 1);
    }
    text.into_bytes()
}
