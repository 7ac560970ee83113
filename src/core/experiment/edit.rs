//! Changes single keys of an experiment file and leaves everything else unchanged, byte for byte:
//! comments, order, spacing and line endings.
//!
//! `toml_edit` finds the keys and values. The text itself is spliced here, because `toml_edit`
//! regroups dotted keys and changes line endings when it writes a document.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;
use toml_edit::{Item, TableLike, Value};

use super::schema::{Node, to_text};
use super::{Experiment, Fault, read};

/// The text of an experiment file whose keys can be set and removed.
#[derive(Clone, Debug)]
pub struct Document {
    tree: toml_edit::Document<String>,
}

/// Why a key cannot be changed in place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The text is not TOML, so no key can be found in it.
    #[error("line {line} is not TOML: {message}; correct it in an editor")]
    NotToml {
        /// The line, from 1.
        line: usize,
        /// The parser's message.
        message: String,
    },
    /// No experiment has such a key.
    #[error("there is no key {0}")]
    UnknownKey(String),
    /// The key is spread over several lines or headers, with comments between them.
    #[error("{0} is written as a separate table; change it in an editor")]
    IsTable(String),
    /// The section's name is used for something that has no keys.
    #[error("{0} is not a section in this file; correct it in an editor")]
    NoSection(String),
}

impl Document {
    /// Parses the text of a file.
    ///
    /// # Errors
    /// [`EditError::NotToml`] if it is not TOML.
    pub fn parse(text: &str) -> Result<Self, EditError> {
        let tree = toml_edit::Document::parse(text.to_owned()).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let before = text.get(..start).unwrap_or_default();
            EditError::NotToml {
                line: before.matches('\n').count() + 1,
                message: error.message().trim().replace('\n', ", "),
            }
        })?;
        Ok(Self { tree })
    }

    /// The current text.
    pub fn text(&self) -> &str {
        self.tree.raw()
    }

    /// The experiment, as far as the text can be understood, and every fault. A key whose value is
    /// refused has its default in the experiment.
    pub fn understood(&self) -> (Experiment, Vec<Fault>) {
        let mut reading = read::read(self.text(), &[]);
        reading.validate();
        reading.finish()
    }

    /// The value of `section.key` as written in the file; `None` if the file does not set it. A
    /// value that is spread over separate tables is returned on one line.
    pub fn get(&self, key: &str) -> Option<String> {
        let (section, name) = key.split_once('.')?;
        let item = self.section(section)?.as_table_like()?.get(name)?;
        match value_span(item) {
            Some(span) => self.text().get(span).map(str::to_owned),
            None => {
                let table: toml::Table = self.text().parse().ok()?;
                Some(to_text(table.get(section)?.get(name)?))
            }
        }
    }

    /// What a user would type into a one-line field to get the current value: on one line, and
    /// without the quotes of a string if [`Document::set`] adds them again.
    pub fn typed(&self, key: &str) -> Option<String> {
        let written = self.get(key)?;
        let value = single_value(&written)?;
        if let DeValue::String(text) = value.get_ref() {
            let bare = text.to_string();
            let is_plain = !bare.is_empty() && bare.trim() == bare && !has_control(&bare);
            let round_trips = encoded(key, &bare).ok().and_then(|again| {
                let again = single_value(&again)?;
                Some(matches!(again.get_ref(), DeValue::String(same) if same == text))
            });
            return Some(if is_plain && round_trips == Some(true) {
                bare
            } else {
                quoted(&bare)
            });
        }
        if written.contains('\n') {
            let table: toml::Table = format!("value = {written}").parse().ok()?;
            Some(to_text(table.get("value")?))
        } else {
            Some(written)
        }
    }

    /// Writes `section.key`: in place if the file has it, else at the end of its section, which is
    /// added if it does not exist. The value is TOML; quotes around strings and paths can be left
    /// out, as with `--set`. A value that the key does not accept is written anyway, so that
    /// [`Document::understood`] can report what is wrong with it.
    ///
    /// # Errors
    /// An unknown key, or one that cannot be changed in place; the text is unchanged then.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), EditError> {
        let value = encoded(key, value)?;
        let (section, name) = parts(key)?;
        let (target, inserted) = match self.section(section) {
            None => self.new_section(section, name, &value),
            Some(item) => {
                let table = item
                    .as_table_like()
                    .ok_or_else(|| EditError::NoSection(section.to_owned()))?;
                match table.get(name) {
                    Some(current) => {
                        let span = value_span(current);
                        (
                            span.ok_or_else(|| EditError::IsTable(key.to_owned()))?,
                            value,
                        )
                    }
                    None => match item {
                        Item::Value(_) => self.inside_braces(item, table, name, &value)?,
                        _ => self.below_section(section, table, name, &value),
                    },
                }
            }
        };
        self.splice(target, &inserted)
    }

    /// Removes `section.key` from the file with the rest of its line, so that its default applies.
    /// Does nothing if the file does not have it.
    ///
    /// # Errors
    /// As [`Document::set`].
    pub fn unset(&mut self, key: &str) -> Result<(), EditError> {
        let (section, name) = parts(key)?;
        let Some(section) = self.section(section) else {
            return Ok(());
        };
        let table = section.as_table_like();
        let Some((found, item)) = table.and_then(|table| table.get_key_value(name)) else {
            return Ok(());
        };
        let (Some(key_span), Some(value_span)) = (found.span(), value_span(item)) else {
            return Err(EditError::IsTable(key.to_owned()));
        };
        let removed = match section {
            Item::Value(_) => self.with_comma(key_span.start..value_span.end),
            _ => self.line_start(key_span.start)..self.next_line(value_span.end),
        };
        self.splice(removed, "")
    }

    fn section(&self, name: &str) -> Option<&Item> {
        self.tree.as_table().get(name)
    }

    /// Replaces a part of the text. If the result is not TOML, nothing changes.
    fn splice(&mut self, target: Range<usize>, inserted: &str) -> Result<(), EditError> {
        let text = self.text();
        let before = text.get(..target.start).unwrap_or_default();
        let after = text.get(target.end..).unwrap_or_default();
        *self = Self::parse(&format!("{before}{inserted}{after}"))?;
        Ok(())
    }

    /// A new section is added at the end of the file.
    fn new_section(&self, section: &str, name: &str, value: &str) -> (Range<usize>, String) {
        let (text, ending) = (self.text(), self.line_ending());
        let gap = match text {
            "" => String::new(),
            _ if text.ends_with('\n') => ending.to_owned(),
            _ => ending.repeat(2),
        };
        let inserted = format!("{gap}[{section}]{ending}{name} = {value}{ending}");
        (text.len()..text.len(), inserted)
    }

    /// A new key is added below the last one of its section.
    fn below_section(
        &self,
        section: &str,
        table: &dyn TableLike,
        name: &str,
        value: &str,
    ) -> (Range<usize>, String) {
        let header = match self.section(section) {
            Some(Item::Table(table)) if !table.is_dotted() && !table.is_implicit() => table.span(),
            _ => None,
        };
        let last = last_end(table);
        let (after, prefix) = match (header, last) {
            (Some(_), Some(last)) => (last, String::new()),
            (Some(header), None) => (header.start, String::new()),
            // `grpo.beta = 0.1` above every header: the section's name is a prefix of the key.
            (None, Some(last)) => (last, format!("{section}.")),
            // Only its sub-tables have headers.
            (None, None) => return self.new_section(section, name, value),
        };
        let (text, ending) = (self.text(), self.line_ending());
        let line = text.get(self.line_start(after)..after).unwrap_or_default();
        let indent: String = line
            .chars()
            .take_while(|letter| matches!(letter, ' ' | '\t'))
            .collect();
        let target = self.next_line(after);
        // The last line of a file may have no line ending.
        let gap = match text.get(..target) {
            Some(before) if !before.ends_with('\n') => ending,
            _ => "",
        };
        let inserted = format!("{gap}{indent}{prefix}{name} = {value}{ending}");
        (target..target, inserted)
    }

    /// `grpo = { beta = 0.1 }`: a new key is added after the last one between the braces.
    fn inside_braces(
        &self,
        item: &Item,
        table: &dyn TableLike,
        name: &str,
        value: &str,
    ) -> Result<(Range<usize>, String), EditError> {
        let braces = item
            .span()
            .ok_or_else(|| EditError::IsTable(name.to_owned()))?;
        Ok(match last_end(table) {
            Some(last) => (last..last, format!(", {name} = {value}")),
            None => (
                braces.start + 1..braces.end.saturating_sub(1).max(braces.start + 1),
                format!(" {name} = {value} "),
            ),
        })
    }

    /// An entry between braces together with one of the commas next to it.
    fn with_comma(&self, entry: Range<usize>) -> Range<usize> {
        let text = self.text();
        let after = text.get(entry.end..).unwrap_or_default();
        let rest = after.trim_start();
        if let Some(rest) = rest.strip_prefix(',') {
            return entry.start..text.len() - rest.trim_start_matches([' ', '\t']).len();
        }
        let before = text.get(..entry.start).unwrap_or_default().trim_end();
        match before.strip_suffix(',') {
            Some(before) => before.len()..entry.end,
            None => entry,
        }
    }

    fn line_start(&self, at: usize) -> usize {
        let before = self.text().get(..at).unwrap_or_default();
        before.rfind('\n').map_or(0, |newline| newline + 1)
    }

    /// The start of the line after the one that contains `at`, or the end of the text.
    fn next_line(&self, at: usize) -> usize {
        let after = self.text().get(at..).unwrap_or_default();
        after
            .find('\n')
            .map_or(self.text().len(), |newline| at + newline + 1)
    }

    /// The line ending of the file's first line.
    fn line_ending(&self) -> &'static str {
        match self.text().split_once('\n') {
            Some((first, _)) if first.ends_with('\r') => "\r\n",
            _ => "\n",
        }
    }
}

/// Splits a known key into section and name.
fn parts(key: &str) -> Result<(&str, &str), EditError> {
    let experiment = Experiment::default();
    let is_known = |(section, name): &(&str, &str)| {
        let mut sections = experiment.sections().into_iter();
        sections.any(|known| known.name() == *section && known.get(name).is_some())
    };
    key.split_once('.')
        .filter(is_known)
        .ok_or_else(|| EditError::UnknownKey(key.to_owned()))
}

/// The span of a value; `None` if it is spread over headers or dotted keys.
fn value_span(item: &Item) -> Option<Range<usize>> {
    match item {
        Item::Value(Value::InlineTable(table)) if table.is_dotted() => None,
        Item::Value(value) => value.span(),
        Item::None | Item::Table(_) | Item::ArrayOfTables(_) => None,
    }
}

/// The end of a table's last value. Values below dotted keys count, those below separate headers do
/// not.
fn last_end(table: &dyn TableLike) -> Option<usize> {
    let ends = table.iter().filter_map(|(_, item)| match item {
        Item::Value(Value::InlineTable(table)) if table.is_dotted() => last_end(table),
        Item::Table(table) if table.is_dotted() => last_end(table),
        _ => value_span(item).map(|span| span.end),
    });
    ends.max()
}

/// The value as TOML: as typed if the key accepts that, else as a string if the key accepts that.
/// A value that the key accepts in neither form stays as typed if it is TOML.
fn encoded(key: &str, typed: &str) -> Result<String, EditError> {
    let (section, name) = parts(key)?;
    let typed = typed.trim();
    let mut experiment = Experiment::default();
    let mut accepts = |node: &Node<'_>| {
        let section = experiment.section_mut(section);
        let outcome = section.and_then(|section| section.set(name, node));
        matches!(outcome, Some(Ok(())))
    };
    let as_toml = single_value(typed);
    if as_toml.as_ref().is_some_and(&mut accepts) {
        return Ok(typed.to_owned());
    }
    let as_string = Spanned::new(0..0, DeValue::String(typed.into()));
    Ok(if as_toml.is_none() || accepts(&as_string) {
        quoted(typed)
    } else {
        typed.to_owned()
    })
}

/// Parses a text that is one TOML value, without comments or line breaks around it.
fn single_value(text: &str) -> Option<Node<'_>> {
    let value = DeValue::parse(text).ok()?;
    (value.span() == (0..text.len())).then_some(value)
}

/// A string in quotes, on one line.
fn quoted(text: &str) -> String {
    if !has_control(text) {
        return Value::from(text).to_string().trim().to_owned();
    }
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            letter if letter.is_control() => {
                quoted.push_str(&format!("\\u{:04X}", u32::from(letter)));
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests;
