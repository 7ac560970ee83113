//! Turns TOML text and overrides into an [`Experiment`] and collects every fault.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, Origin};
use super::schema::{Key, Node, Problem, most_alike, nearest, type_name};
use super::{Experiment, validate};

/// The most faults that are collected: a file with more is not an experiment file.
const MOST_FAULTS: usize = 1000;

/// The most keys below a key in `--set section.key.a.b=value`.
const DEEPEST: usize = 32;

/// A partly read experiment: what was understood, and what was not.
pub(super) struct Reading {
    experiment: Experiment,
    faults: Vec<Fault>,
    /// Where each key was last written, and with which value.
    written: BTreeMap<String, (Origin, String)>,
    /// Keys whose value was refused. Rules that involve them are not checked, because the
    /// experiment only has their default.
    refused: BTreeSet<String>,
    /// Whether the text is not TOML. Then nothing read from it shows what was meant.
    is_garbled: bool,
}

/// Reads a file's text, then the overrides in order.
pub(super) fn read(text: &str, overrides: &[String]) -> Reading {
    let mut reading = Reading {
        experiment: Experiment::default(),
        faults: Vec::new(),
        written: BTreeMap::new(),
        refused: BTreeSet::new(),
        is_garbled: false,
    };
    reading.read_file(text);
    for text in overrides {
        reading.read_override(text);
    }
    reading
}

impl Reading {
    /// Adds a fault for each broken rule.
    pub(super) fn validate(&mut self) {
        if self.is_garbled {
            return;
        }
        for mut fault in validate::validate(&self.experiment, &self.refused) {
            // `reward.commands[0].name` was written as part of `reward.commands`.
            let whole_key = fault.key.split('[').next().unwrap_or_default();
            match self.written.get(whole_key) {
                Some((origin, value)) => {
                    fault.origin = Some(origin.clone());
                    if whole_key == fault.key {
                        fault.value = Some(value.clone());
                    }
                }
                None => fault.value = fault.value.map(|value| format!("{value} (default)")),
            }
            self.faults.push(fault);
        }
    }

    /// The experiment, and its faults in the order of the file, then of the overrides.
    pub(super) fn finish(mut self) -> (Experiment, Vec<Fault>) {
        self.faults.sort_by_key(|fault| match &fault.origin {
            Some(Origin::File { line, column }) => (0, *line, *column),
            Some(Origin::Override(_)) => (1, 0, 0),
            None => (2, 0, 0),
        });
        self.faults.dedup();
        (self.experiment, self.faults)
    }

    fn read_file(&mut self, text: &str) {
        let (root, errors) = DeTable::parse_recoverable(text);
        let mut garbled_lines = BTreeSet::new();
        for error in errors.iter().take(MOST_FAULTS) {
            let (line, column) = line_and_column(text, error.span().map_or(0, |span| span.start));
            // One mistake can confuse the parser several times; the first error is the cause.
            if !garbled_lines.insert(line) {
                continue;
            }
            let content = text.lines().nth(line - 1).unwrap_or_default().trim();
            self.faults.push(Fault {
                key: String::new(),
                value: None,
                problem: format!("not TOML: {}", error.message()),
                hint: format!("correct the line: {}", shortened(content)),
                origin: Some(Origin::File { line, column }),
            });
        }
        self.is_garbled = !errors.is_empty();
        let source = Source {
            text,
            garbled_lines,
        };
        for (name, node) in root.get_ref() {
            if self.faults.len() >= MOST_FAULTS {
                break;
            }
            self.read_section(name, node, &source);
        }
    }

    fn read_section(&mut self, name: &Spanned<Cow<'_, str>>, node: &Node<'_>, source: &Source<'_>) {
        let section_name = name.get_ref();
        let Some(keys) = section_keys(&self.experiment, section_name) else {
            let hint = unknown_section(section_name);
            self.add(
                source,
                name.span(),
                section_label(section_name, node),
                None,
                "unknown",
                hint,
            );
            return;
        };
        let DeValue::Table(entries) = node.get_ref() else {
            let hint = match node.get_ref() {
                DeValue::Array(_) => format!("write [{section_name}] in single brackets, once"),
                _ => format!("write [{section_name}] on its own line, and its keys below"),
            };
            let problem = format!("is {} where a section belongs", type_name(node.get_ref()));
            self.add(
                source,
                name.span(),
                section_name.to_string(),
                None,
                &problem,
                hint,
            );
            return;
        };
        for (key, node) in entries {
            if self.faults.len() >= MOST_FAULTS {
                return;
            }
            let path = format!("{section_name}.{}", key.get_ref());
            let outcome = self
                .experiment
                .section_mut(section_name)
                .and_then(|section| section.set(key.get_ref(), node));
            match outcome {
                None => {
                    let hint = unknown_key(section_name, key.get_ref(), &keys);
                    self.add(source, key.span(), path, None, "unknown key", hint);
                }
                Some(Err(problems)) => {
                    for Problem {
                        span,
                        below,
                        problem,
                        hint,
                    } in problems
                    {
                        let span = span.unwrap_or_else(|| node.span());
                        let value = source.slice(&span);
                        self.add(
                            source,
                            span,
                            format!("{path}{below}"),
                            value,
                            &problem,
                            hint,
                        );
                    }
                    self.refused.insert(path);
                }
                Some(Ok(())) => {
                    let (line, column) = line_and_column(source.text, key.span().start);
                    let value = source.slice(&node.span()).unwrap_or_default();
                    self.written
                        .insert(path, (Origin::File { line, column }, value));
                }
            }
        }
    }

    fn add(
        &mut self,
        source: &Source<'_>,
        span: Range<usize>,
        key: String,
        value: Option<String>,
        problem: &str,
        hint: String,
    ) {
        let (line, column) = line_and_column(source.text, span.start);
        if source.garbled_lines.contains(&line) {
            return;
        }
        let origin = Some(Origin::File { line, column });
        self.faults.push(Fault {
            key,
            value,
            problem: problem.to_owned(),
            hint,
            origin,
        });
    }

    fn read_override(&mut self, text: &str) {
        let origin = Origin::Override(text.to_owned());
        let outcome = match text.split_once('=') {
            None => Err(vec![(
                String::new(),
                None,
                "not an override".to_owned(),
                "write --set section.key=value, e.g. --set grpo.num_generations=4".to_owned(),
            )]),
            Some((path, value)) => self.apply_override(path.trim(), value.trim()),
        };
        match outcome {
            Ok((path, value)) => {
                // An override replaces the value of the file, right or wrong.
                self.refused.remove(&path);
                self.faults
                    .retain(|fault| fault.key != path || fault.line().is_none());
                self.written.insert(path, (origin, value));
            }
            Err(found) => {
                for (key, value, problem, hint) in found {
                    self.refused.insert(key.clone());
                    self.faults.push(Fault {
                        key,
                        value,
                        problem,
                        hint,
                        origin: Some(origin.clone()),
                    });
                }
            }
        }
    }

    fn apply_override(
        &mut self,
        path: &str,
        value: &str,
    ) -> Result<(String, String), OverrideFaults> {
        let refuse = |problem: &str, hint: String| {
            Err(vec![(path.to_owned(), None, problem.to_owned(), hint)])
        };
        let mut parts = path.split('.');
        let (Some(section), Some(name)) = (parts.next(), parts.next()) else {
            let known = paths_of(path);
            return refuse(
                "has no section",
                match known.as_slice() {
                    [] => "write --set section.key=value, e.g. --set grpo.num_generations=4"
                        .to_owned(),
                    _ => format!("did you mean {}?", known.join(" or ")),
                },
            );
        };
        let below: Vec<&str> = parts.collect();
        if below.len() > DEEPEST {
            let hint = format!("write --set {section}.{name}={{…}}");
            return refuse(&format!("is nested more than {DEEPEST} keys deep"), hint);
        }
        let Some(keys) = section_keys(&self.experiment, section) else {
            return refuse("unknown section", unknown_section(section));
        };
        let target = format!("{section}.{name}");
        let Some(experiment_section) = self.experiment.section_mut(section) else {
            return refuse("unknown section", unknown_section(section));
        };
        let Some(current) = experiment_section.get(name) else {
            return refuse("unknown key", unknown_key(section, name, &keys));
        };
        let written = if below.is_empty() {
            value.to_owned()
        } else {
            match current {
                Some(toml::Value::Table(mut table)) => {
                    insert_below(&mut table, &below, toml_or_string(value));
                    toml::Value::Table(table).to_string()
                }
                _ => return refuse("is not a table", format!("write --set {target}=value")),
            }
        };
        let as_toml = format!("value = {written}");
        let parsed = DeTable::parse(&as_toml).ok();
        // A line break in the value could add further keys.
        let node = parsed
            .as_ref()
            .map(Spanned::get_ref)
            .filter(|table| table.len() == 1);
        let node = node.and_then(|table| table.values().next());
        let bare = Spanned::new(0..0, DeValue::String(Cow::Borrowed(value)));
        let mut outcome = experiment_section.set(name, node.unwrap_or(&bare));
        // `--set run.name=2026` means the string, and `--set run.name=2026-11-22` too.
        if matches!(outcome, Some(Err(_))) && below.is_empty() {
            let second = experiment_section.set(name, &bare);
            if matches!(second, Some(Ok(()))) {
                outcome = second;
            }
        }
        match outcome {
            Some(Err(problems)) => Err(problems
                .into_iter()
                .map(
                    |Problem {
                         below,
                         problem,
                         hint,
                         ..
                     }| {
                        (
                            format!("{target}{below}"),
                            Some(shortened(value)),
                            problem,
                            hint,
                        )
                    },
                )
                .collect()),
            _ => Ok((target, shortened(&written))),
        }
    }
}

/// Key, value, problem and hint of an override's faults.
type OverrideFaults = Vec<(String, Option<String>, String, String)>;

/// The text that spans point into, and its lines that are not TOML.
struct Source<'a> {
    text: &'a str,
    garbled_lines: BTreeSet<usize>,
}

impl Source<'_> {
    fn slice(&self, span: &Range<usize>) -> Option<String> {
        self.text.get(span.clone()).map(shortened)
    }
}

/// The fault of bytes that are not UTF-8.
pub(super) fn not_utf8(bytes: &[u8], offset: usize) -> Fault {
    let text = String::from_utf8_lossy(&bytes[..offset]);
    let (line, column) = line_and_column(&text, text.len());
    Fault {
        key: String::new(),
        value: None,
        problem: "not UTF-8 text".to_owned(),
        hint: "save the file as UTF-8".to_owned(),
        origin: Some(Origin::File { line, column }),
    }
}

/// Line and column of a byte offset, both starting at 1, the column in characters.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = &text[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}

/// A value on one line, cut if it is long.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 60;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line,
    }
}

fn section_keys(experiment: &Experiment, name: &str) -> Option<Vec<Key>> {
    experiment
        .sections()
        .into_iter()
        .find(|section| section.name() == name)
        .map(|section| section.keys())
}

fn section_label(name: &str, node: &Node<'_>) -> String {
    match node.get_ref() {
        DeValue::Table(_) => format!("[{name}]"),
        _ => name.to_owned(),
    }
}

fn unknown_section(name: &str) -> String {
    let known = paths_of(name);
    if !known.is_empty() {
        return format!("did you mean {}?", known.join(" or "));
    }
    let experiment = Experiment::default();
    let names: Vec<&str> = experiment
        .sections()
        .iter()
        .map(|section| section.name())
        .collect();
    match nearest(name, names.iter().copied()) {
        Some(near) => format!("did you mean [{near}]?"),
        None => format!("known sections: {}", names.join(", ")),
    }
}

fn unknown_key(section: &str, name: &str, keys: &[Key]) -> String {
    let known = paths_of(name);
    if !known.is_empty() {
        return format!("did you mean {}?", known.join(" or "));
    }
    if let Some(near) = nearest(name, keys.iter().map(|key| key.name)) {
        return format!("did you mean {near}?");
    }
    let everywhere = Experiment::keys();
    match most_alike(name, everywhere.iter().map(|key| key.name)) {
        Some((_, near)) => format!(
            "remove it; the nearest known key is {}",
            paths_of(near).join(" or ")
        ),
        None => format!("remove it from [{section}]"),
    }
}

/// Every `section.key` with this key.
fn paths_of(name: &str) -> Vec<String> {
    Experiment::keys()
        .iter()
        .filter(|key| key.name == name)
        .map(Key::path)
        .collect()
}

fn insert_below(table: &mut toml::Table, path: &[&str], value: toml::Value) {
    match path {
        [] => {}
        [last] => {
            table.insert((*last).to_owned(), value);
        }
        [first, rest @ ..] => {
            let entry = table
                .entry((*first).to_owned())
                .or_insert_with(|| toml::Table::new().into());
            if !entry.is_table() {
                *entry = toml::Table::new().into();
            }
            if let Some(inner) = entry.as_table_mut() {
                insert_below(inner, rest, value);
            }
        }
    }
}

fn toml_or_string(text: &str) -> toml::Value {
    text.parse()
        .unwrap_or_else(|_| toml::Value::String(text.to_owned()))
}
