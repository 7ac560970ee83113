//! Changing single keys of an experiment file while everything else in it stays as it is, byte
//! for byte: comments, order, spacing and line endings.
//!
//! `toml_edit` says where keys and values lie; the text itself is spliced here, because a
//! document that `toml_edit` writes has its dotted keys regrouped and its line endings changed.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;
use toml_edit::{Item, TableLike, Value};

use super::schema::{Node, to_text};
use super::{Experiment, Fault, read};

/// The text of an experiment file whose keys can be set and taken out.
#[derive(Clone, Debug)]
pub struct Document {
    tree: toml_edit::Document<String>,
}

/// Why a key cannot be changed in place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The text is not TOML, so nothing in it has a place.
    #[error("line {line} is not TOML: {message}; correct it in an editor")]
    NotToml {
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// No experiment has such a key.
    #[error("there is no key {0}")]
    UnknownKey(String),
    /// The key is written over several lines or headers, comments between them.
    #[error("{0} is written as a table of its own; change it in an editor")]
    IsTable(String),
    /// The section's name stands for something that holds no keys.
    #[error("{0} is no section in this file; correct it in an editor")]
    NoSection(String),
}

impl Document {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// [`EditError::NotToml`] where it is not TOML.
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

    /// The text as it is now.
    pub fn text(&self) -> &str {
        self.tree.raw()
    }

    /// What the text comes to, as far as it can be understood, and every fault: a key whose value
    /// is refused has its default in the experiment.
    pub fn understood(&self) -> (Experiment, Vec<Fault>) {
        let mut reading = read::read(self.text(), &[]);
        reading.validate();
        reading.finish()
    }

    /// The value of `section.key` as it is written in the file; `None` where the file does not
    /// say. A value that is spread over tables of its own is written in one line.
    pub fn get(&self, key: &str) -> Option<String> {
        let (section, name) = key.split_once('.')?;
        let item = self.section(section)?.as_table_like()?.get(name)?;
        match own_span(item) {
            Some(span) => self.text().get(span).map(str::to_owned),
            None => {
                let table: toml::Table = self.text().parse().ok()?;
                Some(to_text(table.get(section)?.get(name)?))
            }
        }
    }

    /// What a person would type into a one-line field to get the present value: without the
    /// quotes of a string where [`Document::set`] adds them again, and in one line.
    pub fn typed(&self, key: &str) -> Option<String> {
        let written = self.get(key)?;
        let value = single_value(&written)?;
        if let DeValue::String(text) = value.get_ref() {
            let bare = text.to_string();
            let is_plain = !bare.is_empty() && bare.trim() == bare && !has_control(&bare);
            let comes_back = encoded(key, &bare).ok().and_then(|again| {
                let again = single_value(&again)?;
                Some(matches!(again.get_ref(), DeValue::String(same) if same == text))
            });
            return Some(match is_plain && comes_back == Some(true) {
                true => bare,
                false => quoted(&bare),
            });
        }
        match written.contains('\n') {
            true => {
                let table: toml::Table = format!("value = {written}").parse().ok()?;
                Some(to_text(table.get("value")?))
            }
            false => Some(written),
        }
    }

    /// Writes `section.key`, in its place where the file has it, else at the end of its section,
    /// which is added where there is none. The value is TOML; quotes of strings and paths may be
    /// left out, as `--set` allows. A value that the key does not accept is written all the
    /// same, so that [`Document::understood`] can say what is wrong with it.
    ///
    /// # Errors
    /// An unknown key, or one that cannot be changed in place; the text is as before then.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), EditError> {
        let value = encoded(key, value)?;
        let (section, name) = parts(key)?;
        let (place, inserted) = match self.section(section) {
            None => self.new_section(section, name, &value),
            Some(item) => {
                let table = item
                    .as_table_like()
                    .ok_or_else(|| EditError::NoSection(section.to_owned()))?;
                match table.get(name) {
                    Some(present) => {
                        let span = own_span(present);
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
        self.splice(place, &inserted)
    }

    /// Takes `section.key` out of the file with the rest of its line, so that its default holds.
    /// Nothing happens where the file does not have it.
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
        let (Some(of_key), Some(of_value)) = (found.span(), own_span(item)) else {
            return Err(EditError::IsTable(key.to_owned()));
        };
        let place = match section {
            Item::Value(_) => self.with_comma(of_key.start..of_value.end),
            _ => self.line_start(of_key.start)..self.next_line(of_value.end),
        };
        self.splice(place, "")
    }

    fn section(&self, name: &str) -> Option<&Item> {
        self.tree.as_table().get(name)
    }

    /// Replaces a part of the text; the result is TOML again, or nothing changes.
    fn splice(&mut self, place: Range<usize>, inserted: &str) -> Result<(), EditError> {
        let text = self.text();
        let before = text.get(..place.start).unwrap_or_default();
        let after = text.get(place.end..).unwrap_or_default();
        *self = Self::parse(&format!("{before}{inserted}{after}"))?;
        Ok(())
    }

    /// A section that the file does not have goes to its end.
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

    /// A new key goes below the last one of its section.
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
            // `grpo.beta = 0.1` above every header: the section's name goes before the key.
            (None, Some(last)) => (last, format!("{section}.")),
            // Only sub-tables of it have headers.
            (None, None) => return self.new_section(section, name, value),
        };
        let (text, ending) = (self.text(), self.line_ending());
        let line = text.get(self.line_start(after)..after).unwrap_or_default();
        let indent: String = line
            .chars()
            .take_while(|letter| matches!(letter, ' ' | '\t'))
            .collect();
        let place = self.next_line(after);
        // The last line of a file may lack its ending.
        let gap = match text.get(..place) {
            Some(before) if !before.ends_with('\n') => ending,
            _ => "",
        };
        let inserted = format!("{gap}{indent}{prefix}{name} = {value}{ending}");
        (place..place, inserted)
    }

    /// `grpo = { beta = 0.1 }`: a new key goes after the last one between the braces.
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

    /// A part between braces together with one of the commas beside it.
    fn with_comma(&self, part: Range<usize>) -> Range<usize> {
        let text = self.text();
        let after = text.get(part.end..).unwrap_or_default();
        let rest = after.trim_start();
        if let Some(rest) = rest.strip_prefix(',') {
            return part.start..text.len() - rest.trim_start_matches([' ', '\t']).len();
        }
        let before = text.get(..part.start).unwrap_or_default().trim_end();
        match before.strip_suffix(',') {
            Some(before) => before.len()..part.end,
            None => part,
        }
    }

    fn line_start(&self, at: usize) -> usize {
        let before = self.text().get(..at).unwrap_or_default();
        before.rfind('\n').map_or(0, |newline| newline + 1)
    }

    /// Where the line after the one of `at` begins, or the end of the text.
    fn next_line(&self, at: usize) -> usize {
        let after = self.text().get(at..).unwrap_or_default();
        after
            .find('\n')
            .map_or(self.text().len(), |newline| at + newline + 1)
    }

    /// As the first line of the file ends.
    fn line_ending(&self) -> &'static str {
        match self.text().split_once('\n') {
            Some((first, _)) if first.ends_with('\r') => "\r\n",
            _ => "\n",
        }
    }
}

/// Section and name of a key that experiments have.
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

/// Where a value lies; `None` where it is spread over headers or dotted keys.
fn own_span(item: &Item) -> Option<Range<usize>> {
    match item {
        Item::Value(Value::InlineTable(table)) if table.is_dotted() => None,
        Item::Value(value) => value.span(),
        Item::None | Item::Table(_) | Item::ArrayOfTables(_) => None,
    }
}

/// Where the last value of a table ends, those below dotted keys among them and those below
/// headers of their own not.
fn last_end(table: &dyn TableLike) -> Option<usize> {
    let ends = table.iter().filter_map(|(_, item)| match item {
        Item::Value(Value::InlineTable(table)) if table.is_dotted() => last_end(table),
        Item::Table(table) if table.is_dotted() => last_end(table),
        _ => own_span(item).map(|span| span.end),
    });
    ends.max()
}

/// The value as TOML: as it was typed where the key accepts that, else as a string where the key
/// accepts that. What the key accepts in neither form stays TOML if it is TOML.
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
    Ok(match as_toml.is_none() || accepts(&as_string) {
        true => quoted(typed),
        false => typed.to_owned(),
    })
}

/// The one TOML value that a text is, without comments or line breaks around it.
fn single_value(text: &str) -> Option<Node<'_>> {
    let value = DeValue::parse(text).ok()?;
    (value.span() == (0..text.len())).then_some(value)
}

/// A string in quotes, in one line.
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
