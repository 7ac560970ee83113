//! Limits that keep a template from producing endless text.
//!
//! minijinja limits the instructions of a rendering, a range, and a text repeated with `*` (100 MB).
//! This module limits the results of filters and methods, the text that is written, and every value
//! that gets a name ([`super::bindings`]).

use std::cell::Cell;
use std::io;

use minijinja::value::{Rest, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value, escape_formatter, filters};

use super::bindings;

/// The most bytes that a filter or method returns, and that a rendering writes in total. A prompt of a
/// million tokens has a few MiB.
pub(super) const LONGEST: usize = 16 << 20;

/// The most levels of nested lists and dicts.
const DEEPEST: usize = 128;

/// The largest width or count of a filter.
const WIDEST: usize = 10_000;

/// The instructions that a rendering can use, by the template's length; a long conversation needs some
/// ten thousand. Nothing counts the text of a captured block, so a long template gets fewer.
const FUEL: std::ops::RangeInclusive<u64> = 200_000..=5_000_000;
const FUEL_TIMES_LENGTH: u64 = 1 << 33;

thread_local! {
    /// Bytes that the current rendering has written.
    static WRITTEN: Cell<usize> = const { Cell::new(0) };
}

/// The most words and signs in one tag. Each can be a level of recursion in the parser.
const MOST_WORDS: usize = 1000;

/// Refuses a tag that would exhaust the parser's stack.
///
/// # Errors
/// The message quotes the start of the tag.
pub(super) fn check_tag(tag: &str) -> Result<(), Error> {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let (mut words, mut in_word, mut quote) = (0, false, None);
    let mut characters = tag.chars();
    while let Some(character) = characters.next() {
        match quote {
            Some(_) if character == '\\' => _ = characters.next(),
            Some(end) if character == end => quote = None,
            Some(_) => {}
            None if character == '"' || character == '\'' => {
                quote = Some(character);
                words += 1;
            }
            None => {
                let continues = is_word(character) && in_word;
                words += usize::from(!continues && !character.is_whitespace());
            }
        }
        in_word = is_word(character);
    }
    if words <= MOST_WORDS {
        return Ok(());
    }
    let shown: String = tag.chars().take(30).collect();
    let problem = format!("the tag {shown:?}… has more than {MOST_WORDS} words and signs");
    Err(Error::new(ErrorKind::SyntaxError, problem))
}

/// The instructions that a rendering of `source` can use.
pub(super) fn fuel(source: &str) -> u64 {
    let share = FUEL_TIMES_LENGTH / (source.len() as u64).max(1);
    share.clamp(*FUEL.start(), *FUEL.end())
}

/// Installs the limits for everything except the final text.
pub(super) fn set(environment: &mut Environment<'_>) {
    environment.set_formatter(write_counted);
    environment.add_filter(bindings::FILTER, bounded);
    let filters = [
        ("join", Value::from_function(filters::join), join as Guard),
        ("replace", Value::from_function(filters::replace), replace),
        ("indent", Value::from_function(filters::indent), indent),
        ("format", Value::from_function(filters::format), format),
        ("batch", Value::from_function(filters::batch), count),
        ("slice", Value::from_function(filters::slice), count),
        ("pprint", Value::from_function(filters::pprint), escaped),
    ];
    let listing = [
        ("list", Value::from_function(filters::list)),
        ("split", Value::from_function(filters::split)),
        ("lines", Value::from_function(filters::lines)),
        ("reverse", Value::from_function(filters::reverse)),
        ("sort", Value::from_function(filters::sort)),
        ("unique", Value::from_function(filters::unique)),
        ("map", Value::from_function(filters::map)),
        ("select", Value::from_function(filters::select)),
        ("reject", Value::from_function(filters::reject)),
        ("groupby", Value::from_function(filters::groupby)),
    ];
    let listing = listing.map(|(name, filter)| (name, filter, listed as Guard));
    for (name, filter, guard) in filters.into_iter().chain(listing) {
        let guarded = move |state: &mut State, arguments: Rest<ValueOrKwargs>| {
            let arguments = arguments.into_values();
            guard(&arguments)?;
            filter.call(state, &arguments)
        };
        environment.add_filter(name, guarded);
    }
}

/// Resets the count for a new rendering.
pub(super) fn reset() {
    WRITTEN.set(0);
}

/// Refuses arguments from which a filter or method would produce too much.
type Guard = fn(&[Value]) -> Result<(), Error>;

/// # Errors
/// `bytes` are more than [`LONGEST`].
fn check_length(bytes: usize) -> Result<(), Error> {
    if bytes <= LONGEST {
        return Ok(());
    }
    let problem = format!(
        "the template produces a text of more than {} MiB",
        LONGEST >> 20
    );
    Err(Error::new(ErrorKind::InvalidOperation, problem))
}

/// The approximate bytes of a value as text. Values can contain each other many times over, so counting
/// stops at [`LONGEST`]. Deeply nested values are refused too: writing or dropping one would exhaust the
/// stack.
fn length(value: &Value) -> Result<usize, Error> {
    let mut total = 0;
    add_length(value, 0, &mut total)?;
    Ok(total)
}

fn add_length(value: &Value, depth: usize, total: &mut usize) -> Result<(), Error> {
    if depth > DEEPEST {
        let problem = format!("a value is nested deeper than {DEEPEST} levels");
        return Err(Error::new(ErrorKind::InvalidOperation, problem));
    }
    match value.kind() {
        ValueKind::String => *total += value.as_str().map_or(0, str::len),
        ValueKind::Seq | ValueKind::Iterable => {
            for item in value.try_iter()? {
                add_length(&item, depth + 1, total)?;
            }
        }
        ValueKind::Map => {
            for key in value.try_iter()? {
                add_length(&key, depth + 1, total)?;
                add_length(&value.get_item(&key)?, depth + 1, total)?;
            }
        }
        _ => {}
    }
    // The memory of a value besides its text: a list of a million values reaches the limit.
    *total += 16;
    check_length(*total)
}

/// The value, unless it is too large.
fn bounded(value: Value) -> Result<Value, Error> {
    length(&value)?;
    Ok(value)
}

fn write_counted(
    out: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    let written = WRITTEN.get() + length(value)?;
    check_length(written)?;
    WRITTEN.set(written);
    escape_formatter(out, state, value)
}

/// `value|join(separator)`, and `separator.join(value)` with the arguments swapped.
pub(super) fn join(arguments: &[Value]) -> Result<(), Error> {
    let [value, others @ ..] = arguments else {
        return Ok(());
    };
    let separator = others.iter().map(length).sum::<Result<usize, Error>>()?;
    let Ok(items) = value.try_iter() else {
        return Ok(());
    };
    let mut total = 0;
    for item in items {
        total += length(&item)? + separator;
        check_length(total)?;
    }
    Ok(())
}

/// `text|replace(old, new)`, `text.replace(old, new)`.
pub(super) fn replace(arguments: &[Value]) -> Result<(), Error> {
    let [text, old, new, ..] = arguments else {
        return Ok(());
    };
    let (Some(text), Some(old)) = (text.as_str(), old.as_str()) else {
        return Ok(());
    };
    let times = text.matches(old).count();
    check_length(
        text.len()
            .saturating_add(times.saturating_mul(length(new)?)),
    )
}

fn indent(arguments: &[Value]) -> Result<(), Error> {
    count(arguments)?;
    let lines = arguments
        .first()
        .and_then(Value::as_str)
        .map_or(0, |text| text.matches('\n').count());
    let width = arguments.iter().skip(1).find_map(|argument| {
        let named = argument
            .get_attr("width")
            .ok()
            .filter(|it| !it.is_undefined());
        usize::try_from(named.unwrap_or_else(|| argument.clone())).ok()
    });
    check_length(lines.saturating_mul(width.unwrap_or(USUAL_INDENT)))
}

/// The indent filter's default, in spaces.
const USUAL_INDENT: usize = 4;

/// `text|format(…)`, `text.format(…)`: no wide fields.
pub(super) fn format(arguments: &[Value]) -> Result<(), Error> {
    let text = arguments
        .first()
        .and_then(Value::as_str)
        .unwrap_or_default();
    // A width is part of a field: it follows `{` or `%`.
    let fields = text.split(['{', '%']).skip(1);
    let widths = fields.flat_map(|field| {
        let end = field.find(|c: char| c == '}' || c.is_whitespace());
        field[..end.unwrap_or(field.len())].split(|character: char| !character.is_ascii_digit())
    });
    if let Some(wide) = widths.into_iter().find(|number| number.len() > 4) {
        return Err(too_wide(wide));
    }
    if text.contains('*') {
        count(arguments)?;
    }
    let total = arguments
        .iter()
        .skip(1)
        .map(length)
        .sum::<Result<usize, Error>>()?;
    let fields = text.matches(['{', '%']).count();
    check_length(text.len().saturating_add(total.saturating_mul(fields)))
}

/// Refuses large counts and widths, positional or named.
fn count(arguments: &[Value]) -> Result<(), Error> {
    for argument in arguments.iter().skip(1) {
        let named = match argument.get_attr("width") {
            Ok(width) if !width.is_undefined() => width,
            _ => argument.clone(),
        };
        if i128::try_from(named.clone()).is_ok_and(|number| number > WIDEST as i128) {
            return Err(too_wide(&named.to_string()));
        }
    }
    Ok(())
}

fn too_wide(number: &str) -> Error {
    let problem = format!("{number} is too wide or too many; the limit is {WIDEST}");
    Error::new(ErrorKind::InvalidOperation, problem)
}

/// Refuses a long value that is split into a list: each character can become a separate value.
pub(super) fn listed(arguments: &[Value]) -> Result<(), Error> {
    const LISTED: usize = LONGEST / 8;
    let total = arguments.first().map_or(Ok(0), length)?;
    if total > LISTED {
        let problem = format!("a list would be made from more than {} MiB", LISTED >> 20);
        return Err(Error::new(ErrorKind::InvalidOperation, problem));
    }
    Ok(())
}

fn escaped(arguments: &[Value]) -> Result<(), Error> {
    const WIDTH_OF_A_BYTE: usize = 4;
    let total = arguments.iter().map(length).sum::<Result<usize, Error>>()?;
    check_length(total.saturating_mul(WIDTH_OF_A_BYTE))
}

/// The final text while it is written.
#[derive(Default)]
pub(super) struct Text(pub(super) Vec<u8>);

impl io::Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        check_length(self.0.len() + bytes.len()).map_err(io::Error::other)?;
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
