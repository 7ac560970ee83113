//! The lines of the form: sections, keys, and faults that belong to no key.

use super::form::Form;
use crate::tui::filter::Filter;

/// A line of the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormLine {
    /// The head of a section; the cursor skips it.
    Section(&'static str),
    /// A key, by its place among all of them.
    Key(usize),
    /// A fault of no key, by its place among those.
    Loose(usize),
}

impl FormLine {
    /// Whether the cursor can stand on it.
    pub fn is_place(self) -> bool {
        !matches!(self, Self::Section(_))
    }
}

/// The lines that pass the filter: faults of no key first, then the keys below their sections.
pub fn lines(form: &Form, filter: &Filter) -> Vec<FormLine> {
    let loose = form.loose_faults();
    let mut lines: Vec<FormLine> = loose
        .iter()
        .enumerate()
        .filter(|(_, fault)| filter.passes([fault.to_string().as_str()]))
        .map(|(index, _)| FormLine::Loose(index))
        .collect();
    if form.document().is_err() {
        return lines;
    }
    let mut section = "";
    for (index, key) in form.keys().iter().enumerate() {
        // As it was saved: a line must not go away under the person who edits it.
        let value = form.saved_value(index).unwrap_or_default();
        if !filter.passes([key.path().as_str(), key.help.as_str(), value]) {
            continue;
        }
        if key.section != section {
            section = key.section;
            lines.push(FormLine::Section(section));
        }
        lines.push(FormLine::Key(index));
    }
    lines
}

/// The lines that the cursor can stand on.
pub fn places(form: &Form, filter: &Filter) -> Vec<FormLine> {
    let mut lines = lines(form, filter);
    lines.retain(|line| line.is_place());
    lines
}

/// Whether a line has a fault.
pub fn has_fault(form: &Form, line: FormLine) -> bool {
    match line {
        FormLine::Section(_) => false,
        FormLine::Key(key) => form.faults_of(key).next().is_some(),
        FormLine::Loose(_) => true,
    }
}

/// The section of a line; `None` for a fault of no key.
pub fn section_of(form: &Form, line: FormLine) -> Option<&'static str> {
    match line {
        FormLine::Section(section) => Some(section),
        FormLine::Key(key) => form.keys().get(key).map(|key| key.section),
        FormLine::Loose(_) => None,
    }
}
