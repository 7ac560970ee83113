//! The Jinja environment of `apply_chat_template`.

use std::sync::LazyLock;

use jiff::civil::Date;
use jiff::fmt::strtime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};
use regex::{Captures, Regex};

use super::{bindings, bounds, methods};
use crate::text::python_json::{DumpOptions, dumps};

const TEMPLATE_NAME: &str = "chat_template";

/// An environment with `source` as its only template.
pub(super) fn compile(source: &str) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()?;
    environment.set_syntax(syntax);
    environment.set_fuel(Some(bounds::fuel(source)));
    bounds::set(&mut environment);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(methods::call);
    environment.add_filter("tojson", tojson);
    environment.add_test("iterable", methods::is_iterable);
    environment.add_test("sequence", methods::is_sequence);
    environment.add_function("raise_exception", raise_exception);
    environment.add_template_owned(TEMPLATE_NAME, bindings::measured(&prepared(source))?)?;
    Ok(environment)
}

/// Renders the template.
pub(super) fn render(environment: &Environment<'_>, variables: Value) -> Result<String, Error> {
    bounds::reset();
    let mut text = bounds::Text::default();
    environment
        .get_template(TEMPLATE_NAME)?
        .render_captured_to(variables, &mut text)?;
    String::from_utf8(text.0)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

/// `{% generation %}` and its end, with their white-space marks.
static GENERATION_TAG: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}").ok());

/// The source with LF line ends, as Jinja's lexer reads it, and with each generation block as a
/// plain scope, since the block does not change the rendered text.
fn prepared(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    match GENERATION_TAG.as_ref() {
        Some(tag) => tag
            .replace_all(&source, |found: &Captures| {
                let end = found.get(2).map_or("", |end| end.as_str());
                format!("{{%{} {end}with {}%}}", &found[1], &found[3])
            })
            .into_owned(),
        None => source,
    }
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(
        ErrorKind::InvalidOperation,
        format!("the template refused the conversation: {message}"),
    ))
}

/// `tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
fn tojson(value: &Value, ensure_ascii: Option<bool>, arguments: Kwargs) -> Result<String, Error> {
    let ensure_ascii = match ensure_ascii {
        Some(ensure_ascii) => Some(ensure_ascii),
        None => arguments.get("ensure_ascii")?,
    };
    let mut options = DumpOptions {
        ensure_ascii: ensure_ascii.unwrap_or(false),
        sort_keys: arguments.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        ..DumpOptions::default()
    };
    if let Some(indent) = arguments
        .get::<Option<Value>>("indent")?
        .filter(|indent| !indent.is_none())
    {
        options.indent = Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(indent)?.min(64)),
        });
    }
    if let Some(separators) = arguments
        .get::<Option<Value>>("separators")?
        .filter(|pair| !pair.is_none())
    {
        options.item_separator = Some(separators.get_item_by_index(0)?.to_string());
        options.key_separator = separators.get_item_by_index(1)?.to_string();
    }
    arguments.assert_all_used()?;
    dumps(value, &options)
}

/// The function `strftime_now(format)`, applied to `date` or else to the current time.
pub(super) fn strftime_now(date: Option<String>) -> Value {
    Value::from_function(move |format: String| match &date {
        None => formatted(strtime::format(&format, &jiff::Zoned::now()), &format),
        Some(date) => match parsed_date(date) {
            Some(day) => formatted(strtime::format(&format, day.at(0, 0, 0, 0)), &format),
            None => Ok(date.clone()),
        },
    })
}

fn formatted(result: Result<String, jiff::Error>, format: &str) -> Result<String, Error> {
    result.map_err(|error| {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("strftime_now({format:?}): {error}"),
        )
    })
}

fn parsed_date(text: &str) -> Option<Date> {
    ["%Y-%m-%d", "%d %b %Y", "%d %B %Y", "%Y년 %m월 %d일"]
        .iter()
        .find_map(|format| Date::strptime(format, text.trim()).ok())
}

/// A JSON value as the template sees it.
pub(super) fn value_of(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(flag) => Value::from(*flag),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Value::from(integer),
            (None, Some(integer)) => Value::from(integer),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::from(text),
        serde_json::Value::Array(items) => items.iter().map(value_of).collect(),
        serde_json::Value::Object(fields) => Value::from_pairs(
            fields
                .iter()
                .map(|(key, value)| (key.clone(), value_of(value))),
        ),
    }
}
