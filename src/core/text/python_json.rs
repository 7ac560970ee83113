//! `json.dumps` for chat templates: Python's separators, escapes and numbers.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

/// Values nested deeper than this are refused, so that no template can exhaust the stack.
const MAX_DEPTH: usize = 128;

/// Texts longer than this are refused, in bytes.
const MAX_LENGTH: usize = 16 << 20;

/// The arguments of `json.dumps`. Defaults are those of transformers' `tojson` filter.
#[derive(Clone, Debug)]
pub(super) struct DumpOptions {
    /// Text of one level of indentation; `None` writes one line.
    pub indent: Option<String>,
    /// Between items; `None` is `", "`, or `","` with an indent.
    pub item_separator: Option<String>,
    pub key_separator: String,
    pub ensure_ascii: bool,
    pub sort_keys: bool,
}

impl Default for DumpOptions {
    fn default() -> Self {
        Self {
            indent: None,
            item_separator: None,
            key_separator: ": ".to_owned(),
            ensure_ascii: false,
            sort_keys: false,
        }
    }
}

/// `json.dumps(value, …)`.
pub(super) fn dumps(value: &Value, options: &DumpOptions) -> Result<String, Error> {
    let mut text = String::new();
    write_value(value, options, 0, &mut text)?;
    Ok(text)
}

fn write_value(
    value: &Value,
    options: &DumpOptions,
    depth: usize,
    text: &mut String,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("tojson: the value is nested deeper than {MAX_DEPTH} levels"),
        ));
    }
    match value.kind() {
        ValueKind::None => text.push_str("null"),
        ValueKind::Bool => text.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => write_number(value, text),
        ValueKind::String => write_string(value.as_str().unwrap_or_default(), options, text),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter()?.checked().collect::<Result<Vec<_>, _>>()?;
            write_items(&items, ['[', ']'], options, depth, text, |item, text| {
                write_value(item, options, depth + 1, text)
            })?;
        }
        ValueKind::Map => {
            let mut pairs = Vec::new();
            for key in value.try_iter()?.checked() {
                let key = key?;
                pairs.push((key_text(&key), value.get_item(&key)?));
            }
            if options.sort_keys {
                pairs.sort_by(|left, right| left.0.cmp(&right.0));
            }
            write_items(
                &pairs,
                ['{', '}'],
                options,
                depth,
                text,
                |(key, item), text| {
                    write_string(key, options, text);
                    text.push_str(&options.key_separator);
                    write_value(item, options, depth + 1, text)
                },
            )?;
        }
        other => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("tojson: {other} has no JSON form"),
            ));
        }
    }
    Ok(())
}

fn write_items<Item>(
    items: &[Item],
    [open, close]: [char; 2],
    options: &DumpOptions,
    depth: usize,
    text: &mut String,
    mut write: impl FnMut(&Item, &mut String) -> Result<(), Error>,
) -> Result<(), Error> {
    text.push(open);
    let default_separator = if options.indent.is_some() { "," } else { ", " };
    let separator = options
        .item_separator
        .as_deref()
        .unwrap_or(default_separator);
    let new_line = |depth: usize, text: &mut String| {
        if let Some(indent) = &options.indent {
            text.push('\n');
            text.push_str(&indent.repeat(depth));
        }
    };
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push_str(separator);
        }
        new_line(depth + 1, text);
        write(item, text)?;
        // The template chooses separators and indentation, and values can contain each other many times.
        if text.len() > MAX_LENGTH {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("tojson: the text is longer than {} MiB", MAX_LENGTH >> 20),
            ));
        }
    }
    if !items.is_empty() {
        new_line(depth, text);
    }
    text.push(close);
    Ok(())
}

/// Python writes keys of other types as their JSON text.
fn key_text(key: &Value) -> String {
    match key.kind() {
        ValueKind::Bool => if key.is_true() { "true" } else { "false" }.to_owned(),
        ValueKind::None => "null".to_owned(),
        ValueKind::Number => {
            let mut text = String::new();
            write_number(key, &mut text);
            text
        }
        _ => key.to_string(),
    }
}

fn write_number(value: &Value, text: &mut String) {
    match f64::try_from(value.clone()) {
        Ok(number) if !value.is_integer() => text.push_str(&python_float(number)),
        _ => text.push_str(&value.to_string()),
    }
}

/// `repr` of a Python float: shortest digits, an exponent below 1e-4 and from 1e16.
fn python_float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .to_owned();
    }
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if number != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    let plain = number.to_string();
    if plain.contains('.') {
        plain
    } else {
        format!("{plain}.0")
    }
}

fn write_string(string: &str, options: &DumpOptions, text: &mut String) {
    text.push('"');
    for character in string.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            control if control < ' ' => text.push_str(&format!("\\u{:04x}", u32::from(control))),
            other if options.ensure_ascii && !other.is_ascii() => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    text.push_str(&format!("\\u{unit:04x}"));
                }
            }
            other => text.push(other),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_read_as_in_python() {
        for (number, text) in [
            (0.1, "0.1"),
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (1e16, "1e+16"),
            (123456789012345.0, "123456789012345.0"),
            (1e-5, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (0.0001, "0.0001"),
            (1e100, "1e+100"),
        ] {
            assert_eq!(python_float(number), text);
        }
    }
}
