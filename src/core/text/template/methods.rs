//! Python's methods on strings and dicts that templates call.

use minijinja::value::{ValueKind, from_args};
use minijinja::{Error, State, Value};
use minijinja_contrib::pycompat;

use super::bounds;
use crate::text::whitespace::is_python_whitespace;

/// Calls a method of a template value. Methods that minijinja-contrib does not have, or that trim
/// other white space there, are implemented here.
pub(super) fn call(
    state: &mut State,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    guard(value, method, arguments)?;
    if value.kind() == ValueKind::String
        && let Some(text) = value.as_str()
        && let Some(result) = string_method(text, method, arguments)?
    {
        return Ok(result);
    }
    pycompat::unknown_method_callback(state, value, method, arguments)
}

/// Refuses a method that would produce too long a text.
fn guard(value: &Value, method: &str, arguments: &[Value]) -> Result<(), Error> {
    let with_value = || -> Vec<Value> {
        let value = std::iter::once(value.clone());
        value.chain(arguments.iter().cloned()).collect()
    };
    match (method, arguments) {
        ("join", [items]) => bounds::join(&[items.clone(), value.clone()]),
        ("replace", _) => bounds::replace(&with_value()),
        ("format", _) => bounds::format(&with_value()),
        ("split" | "rsplit" | "splitlines", _) => bounds::listed(&with_value()),
        _ => Ok(()),
    }
}

/// Jinja's test `iterable`, which is true for `none` in minijinja.
pub(super) fn is_iterable(value: &Value) -> bool {
    value.is_undefined() || (!value.is_none() && value.try_iter().is_ok())
}

/// Jinja's test `sequence`: any value with a length and items, so strings and dicts too.
pub(super) fn is_sequence(value: &Value) -> bool {
    matches!(
        value.kind(),
        ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map
    )
}

fn string_method(text: &str, method: &str, arguments: &[Value]) -> Result<Option<Value>, Error> {
    let result = match method {
        "strip" | "lstrip" | "rstrip" => {
            let (characters,): (Option<&str>,) = from_args(arguments)?;
            let is_stripped = |character: char| match characters {
                Some(characters) => characters.contains(character),
                None => is_python_whitespace(character),
            };
            let mut rest = text;
            if method != "rstrip" {
                rest = rest.trim_start_matches(is_stripped);
            }
            if method != "lstrip" {
                rest = rest.trim_end_matches(is_stripped);
            }
            Value::from(rest)
        }
        "split" if arguments.is_empty() => text
            .split(is_python_whitespace)
            .filter(|word| !word.is_empty())
            .map(Value::from)
            .collect(),
        "rsplit" => {
            let (separator, limit): (&str, Option<i64>) = from_args(arguments)?;
            let limit = limit.and_then(|limit| usize::try_from(limit).ok());
            let mut parts: Vec<&str> = match limit {
                Some(limit) => text.rsplitn(limit.saturating_add(1), separator).collect(),
                None => text.rsplit(separator).collect(),
            };
            parts.reverse();
            parts.into_iter().map(Value::from).collect()
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(arguments)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(arguments)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(arguments)?;
            let parts = if method == "partition" {
                text.split_once(separator)
                    .map_or([text, "", ""], |(head, tail)| [head, separator, tail])
            } else {
                text.rsplit_once(separator)
                    .map_or(["", "", text], |(head, tail)| [head, separator, tail])
            };
            parts.into_iter().map(Value::from).collect()
        }
        _ => return Ok(None),
    };
    Ok(Some(result))
}
