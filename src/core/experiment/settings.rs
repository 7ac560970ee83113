//! The plain types of values in an experiment file.

use std::path::PathBuf;

use toml::de::DeValue;

use super::schema::{Node, Problem, Setting, Word, nearest, wrong_type};

impl<W: Word> Setting for W {
    fn expected() -> String {
        one_of(W::WORDS)
    }

    fn read(node: &Node<'_>) -> Result<Self, Vec<Problem>> {
        let DeValue::String(word) = node.get_ref() else {
            return Err(wrong_type::<Self>(node));
        };
        W::from_word(word).ok_or_else(|| {
            let hint = match nearest(word, W::WORDS.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"? Allowed: {}", listed(W::WORDS)),
                None => format!("write {}", one_of(W::WORDS)),
            };
            vec![Problem::new("not one of the allowed values", hint)]
        })
    }

    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::String(self.word().to_owned()))
    }
}

fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    quoted.join(", ")
}

fn one_of(words: &[&str]) -> String {
    match words {
        [only] => format!("\"{only}\" (the only value supported)"),
        _ => format!("one of {}", listed(words)),
    }
}

/// A TOML integer as `i128`, so that each key's own range can be checked and named.
fn integer(node: &Node<'_>) -> Option<i128> {
    match node.get_ref() {
        DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix()).ok(),
        _ => None,
    }
}

macro_rules! whole_number {
    ($($type:ty => $expected:literal,)*) => {$(
        impl Setting for $type {
            fn expected() -> String {
                $expected.to_owned()
            }

            fn read(node: &Node<'_>) -> Result<Self, Vec<Problem>> {
                let number = integer(node).ok_or_else(|| wrong_type::<Self>(node))?;
                // TOML integers are i64: a larger one could not be written back.
                if number > i128::from(i64::MAX) {
                    return Err(vec![Problem::new("is too large", format!("write at most {}", i64::MAX))]);
                }
                <$type>::try_from(number)
                    .map_err(|_| vec![Problem::new("is out of range", format!("write {}", $expected))])
            }

            fn write(&self) -> Option<toml::Value> {
                Some(toml::Value::Integer(i64::try_from(*self).unwrap_or(i64::MAX)))
            }
        }
    )*};
}

whole_number! {
    usize => "a whole number of at least 0",
    u64 => "a whole number of at least 0",
    u32 => "a whole number of at least 0",
    i64 => "a whole number",
}

impl Setting for f64 {
    fn expected() -> String {
        "a number".to_owned()
    }

    fn read(node: &Node<'_>) -> Result<Self, Vec<Problem>> {
        let number = match node.get_ref() {
            DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
            DeValue::Integer(_) => integer(node).map(|number| number as f64),
            _ => None,
        };
        match number {
            Some(number) if number.is_finite() => Ok(number),
            Some(_) => Err(vec![Problem::new("is not finite", "write a finite number")]),
            None => Err(wrong_type::<Self>(node)),
        }
    }

    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::Float(*self))
    }
}

impl Setting for bool {
    fn expected() -> String {
        "true or false".to_owned()
    }

    fn read(node: &Node<'_>) -> Result<Self, Vec<Problem>> {
        match node.get_ref() {
            DeValue::Boolean(value) => Ok(*value),
            _ => Err(wrong_type::<Self>(node)),
        }
    }

    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::Boolean(*self))
    }
}

impl Setting for String {
    fn expected() -> String {
        "a string in quotes".to_owned()
    }

    fn read(node: &Node<'_>) -> Result<Self, Vec<Problem>> {
        match node.get_ref() {
            DeValue::String(text) => Ok(text.clone().into_owned()),
            _ => Err(wrong_type::<Self>(node)),
        }
    }

    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::String(self.clone()))
    }
}

impl Setting for PathBuf {
    fn expected() -> String {
        "a path in quotes, relative to the current directory or absolute".to_owned()
    }

    fn read(node: &Node<'_>) -> Result<Self, Vec<Problem>> {
        match node.get_ref() {
            DeValue::String(text) => Ok(PathBuf::from(&**text)),
            _ => Err(wrong_type::<Self>(node)),
        }
    }

    fn write(&self) -> Option<toml::Value> {
        // Read from UTF-8, so the loss that `display` allows cannot happen.
        Some(toml::Value::String(self.display().to_string()))
    }
}

impl<T: Setting> Setting for Option<T> {
    fn expected() -> String {
        format!("{}, or \"none\"", T::expected())
    }

    fn read(node: &Node<'_>) -> Result<Self, Vec<Problem>> {
        // TOML has no null, and `--set bertscore.model=none` must be able to unset a key.
        if matches!(node.get_ref(), DeValue::String(text) if &**text == "none") {
            return Ok(None);
        }
        T::read(node).map(Some)
    }

    fn write(&self) -> Option<toml::Value> {
        self.as_ref().and_then(T::write)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn expected() -> String {
        format!("an array in brackets, each element {}", T::expected())
    }

    fn read(node: &Node<'_>) -> Result<Self, Vec<Problem>> {
        let DeValue::Array(elements) = node.get_ref() else {
            return Err(wrong_type::<Self>(node));
        };
        let mut values = Vec::new();
        let mut problems = Vec::new();
        for (index, element) in elements.iter().enumerate() {
            match T::read(element) {
                Ok(value) => values.push(value),
                Err(found) => problems.extend(
                    found
                        .into_iter()
                        .map(|problem| problem.inside(&format!("[{index}]"), element.span())),
                ),
            }
        }
        if problems.is_empty() {
            Ok(values)
        } else {
            Err(problems)
        }
    }

    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::Array(
            self.iter().filter_map(T::write).collect(),
        ))
    }
}

/// A free table, passed on as JSON (`chat_template_kwargs`).
impl Setting for serde_json::Map<String, serde_json::Value> {
    fn expected() -> String {
        "a table, e.g. { enable_thinking = false }".to_owned()
    }

    fn read(node: &Node<'_>) -> Result<Self, Vec<Problem>> {
        match (node.get_ref(), to_json(node.get_ref())) {
            (DeValue::Table(_), Some(serde_json::Value::Object(table))) => Ok(table),
            (DeValue::Table(_), _) => Err(vec![Problem::new(
                "contains a number that is not finite or is too large",
                "write finite numbers within 64 bits",
            )]),
            _ => Err(wrong_type::<Self>(node)),
        }
    }

    fn write(&self) -> Option<toml::Value> {
        let entries = self
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), from_json(value)?)));
        Some(toml::Value::Table(entries.collect()))
    }
}

fn to_json(value: &DeValue<'_>) -> Option<serde_json::Value> {
    use serde_json::Value as Json;
    Some(match value {
        DeValue::String(text) => Json::String(text.clone().into_owned()),
        DeValue::Integer(number) => {
            Json::from(i64::from_str_radix(number.as_str(), number.radix()).ok()?)
        }
        DeValue::Float(number) => {
            Json::Number(serde_json::Number::from_f64(number.as_str().parse().ok()?)?)
        }
        DeValue::Boolean(value) => Json::Bool(*value),
        DeValue::Datetime(date) => Json::String(date.to_string()),
        DeValue::Array(elements) => Json::Array(
            elements
                .iter()
                .map(|element| to_json(element.get_ref()))
                .collect::<Option<_>>()?,
        ),
        DeValue::Table(entries) => Json::Object(
            entries
                .iter()
                .map(|(key, value)| {
                    Some((
                        key.get_ref().clone().into_owned(),
                        to_json(value.get_ref())?,
                    ))
                })
                .collect::<Option<_>>()?,
        ),
    })
}

fn from_json(value: &serde_json::Value) -> Option<toml::Value> {
    use serde_json::Value as Json;
    Some(match value {
        // Nothing read from TOML is null.
        Json::Null => return None,
        Json::Bool(value) => toml::Value::Boolean(*value),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => toml::Value::Integer(integer),
            None => toml::Value::Float(number.as_f64()?),
        },
        Json::String(text) => toml::Value::String(text.clone()),
        Json::Array(elements) => {
            toml::Value::Array(elements.iter().filter_map(from_json).collect())
        }
        Json::Object(entries) => toml::Value::Table(
            entries
                .iter()
                .filter_map(|(key, value)| Some((key.clone(), from_json(value)?)))
                .collect(),
        ),
    })
}
