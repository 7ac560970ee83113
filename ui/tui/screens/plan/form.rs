//! An experiment file that is open: its text, what the text says, and what can be undone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use moim_core::experiment::{Document, EditError, Experiment, Fault, Key};

use crate::tui::filter::Filter;
use crate::tui::message::Effect;
use crate::tui::widgets::list::Item;

/// Changes that can be undone; the oldest is dropped when there are more.
const REMEMBERED: usize = 500;

/// An experiment file and the changes made to it. Nothing is written here, and fields change
/// only through the methods.
#[derive(Debug)]
pub struct Form {
    pub path: PathBuf,
    /// Every key there is, in the order of the sections.
    pub fields: Vec<Field>,
    /// Faults of no key of the form: unknown keys and sections, text that is not TOML.
    pub loose: Vec<Fault>,
    /// What the text says; keys that were refused have their defaults.
    pub experiment: Experiment,
    /// The text, or why it has no keys that could be changed.
    pub document: Result<Document, EditError>,
    /// The file as it was read or written last.
    pub on_disk: Arc<str>,
    /// What another program has written since the file was read.
    pub newer: Option<Arc<str>>,
    undo: Vec<Document>,
    /// What is being written, until it is known to be written.
    saving: Option<Arc<str>>,
    /// The file before it was written last: a reader may have seen it before it was replaced.
    replaced: Option<Arc<str>>,
}

/// A key of the form and what the text says about it.
#[derive(Debug)]
pub struct Field {
    pub key: Key,
    /// `section.key`.
    pub path: String,
    /// As it is written in the text; `None` if the default is in effect.
    pub value: Option<String>,
    /// As it is written on the disk.
    pub saved: Option<String>,
    /// Faults of the key and of its parts, such as `reward.commands[0].name`.
    pub faults: Vec<Fault>,
}

impl Field {
    /// The value in effect, as TOML: the one in the text, else the default.
    pub fn present(&self) -> Option<&str> {
        self.value.as_deref().or(self.key.default.as_deref())
    }
}

/// A line of the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormLine {
    /// The head of a section; the cursor skips it.
    Section(&'static str),
    /// A key, as an index of [`Form::fields`].
    Key(usize),
    /// A fault of no key, as an index of [`Form::loose`].
    Loose(usize),
}

impl Item for FormLine {
    type Id = Self;

    fn id(&self) -> Option<&Self> {
        (!matches!(self, Self::Section(_))).then_some(self)
    }
}

/// How the file on the disk relates to the one that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDisk {
    /// The same, or known already.
    Known,
    /// It was changed, and nothing here was: it has been read again.
    Reloaded,
    /// It was changed, and so was the one here.
    Conflict,
}

impl Form {
    /// Opens the text of a file.
    pub fn new(path: &Path, text: &Arc<str>) -> Self {
        let fields = Experiment::keys().into_iter().map(|key| Field {
            path: key.path(),
            key,
            value: None,
            saved: None,
            faults: Vec::new(),
        });
        let mut form = Self {
            path: path.to_owned(),
            fields: fields.collect(),
            loose: Vec::new(),
            experiment: Experiment::default(),
            document: Document::parse(text),
            on_disk: Arc::clone(text),
            newer: None,
            undo: Vec::new(),
            saving: None,
            replaced: None,
        };
        form.understand();
        form.mark_saved();
        form
    }

    /// The lines that pass the filter: faults of no key first, then the keys below their sections.
    pub fn lines(&self, filter: &Filter) -> Vec<FormLine> {
        let loose = self.loose.iter().enumerate();
        let mut lines: Vec<FormLine> = loose
            .filter(|(_, fault)| filter.passes([fault.to_string().as_str()]))
            .map(|(index, _)| FormLine::Loose(index))
            .collect();
        if self.document.is_err() {
            return lines;
        }
        let mut section = "";
        for (index, field) in self.fields.iter().enumerate() {
            // The value as it was saved: a line must not disappear while it is edited.
            let saved = field.saved.as_deref().unwrap_or_default();
            if !filter.passes([field.path.as_str(), field.key.help.as_str(), saved]) {
                continue;
            }
            if field.key.section != section {
                section = field.key.section;
                lines.push(FormLine::Section(section));
            }
            lines.push(FormLine::Key(index));
        }
        lines
    }

    /// The key of a line.
    pub fn field(&self, line: FormLine) -> Option<&Field> {
        match line {
            FormLine::Key(index) => self.fields.get(index),
            _ => None,
        }
    }

    /// The text with all changes.
    pub fn text(&self) -> &str {
        match &self.document {
            Ok(document) => document.text(),
            Err(_) => &self.on_disk,
        }
    }

    /// How many faults the text has.
    pub fn fault_count(&self) -> usize {
        let of_keys = self.fields.iter().map(|field| field.faults.len());
        self.loose.len() + of_keys.sum::<usize>()
    }

    /// Whether there are changes that are not saved.
    pub fn is_changed(&self) -> bool {
        self.text() != &*self.on_disk
    }

    /// Puts a value into `before`, which replaces the present text; an empty value removes the
    /// key. Nothing is remembered for undo.
    ///
    /// # Errors
    /// The key cannot be changed in place.
    pub fn try_out(&mut self, before: &Document, key: usize, typed: &str) -> Result<(), EditError> {
        let Some(field) = self.fields.get(key) else {
            return Ok(());
        };
        let mut document = before.clone();
        match typed.trim() {
            "" => document.unset(&field.path)?,
            typed => document.set(&field.path, typed)?,
        }
        self.show(document);
        Ok(())
    }

    /// Replaces the present text; nothing is remembered for undo.
    pub fn show(&mut self, document: Document) {
        self.document = Ok(document);
        self.understand();
    }

    /// Remembers the text before a change that has been made.
    pub fn remember(&mut self, before: Document) {
        if before.text() == self.text() {
            return;
        }
        self.undo.push(before);
        if self.undo.len() > REMEMBERED {
            self.undo.remove(0);
        }
    }

    /// Sets a key, or removes it if the value is empty.
    ///
    /// # Errors
    /// The text is not TOML, or the key cannot be changed in place.
    pub fn set(&mut self, key: usize, typed: &str) -> Result<(), EditError> {
        let before = self.document.clone()?;
        self.try_out(&before, key, typed)?;
        self.remember(before);
        Ok(())
    }

    /// Undoes the last change; false if there is none.
    pub fn undo(&mut self) -> bool {
        let before = self.undo.pop();
        let is_undone = before.is_some();
        before.into_iter().for_each(|before| self.show(before));
        is_undone
    }

    /// Writes the text, if the file still is `replaces`.
    pub fn save(&mut self, replaces: Arc<str>) -> Effect {
        let text = self.text().to_owned();
        self.saving = Some(text.as_str().into());
        Effect::Write {
            path: self.path.clone(),
            text,
            replaces: Some(replaces),
        }
    }

    /// The text has been written.
    pub fn written(&mut self) {
        if let Some(text) = self.saving.take() {
            self.replaced = Some(std::mem::replace(&mut self.on_disk, text));
            self.newer = None;
            if !self.is_changed() {
                self.mark_saved();
            }
        }
    }

    /// Compares with the file as it has just been read.
    pub fn compare(&mut self, text: &Arc<str>) -> OnDisk {
        if *text == self.on_disk {
            self.newer = None;
            return OnDisk::Known;
        }
        let known = [&self.replaced, &self.saving, &self.newer];
        if known.into_iter().flatten().any(|known| known == text) {
            return OnDisk::Known;
        }
        if self.is_changed() {
            self.newer = Some(Arc::clone(text));
            return OnDisk::Conflict;
        }
        self.replace(text);
        OnDisk::Reloaded
    }

    /// Takes over what another program has written; undo restores the changes made here.
    pub fn reload(&mut self) {
        if let Some(newer) = self.newer.take() {
            self.replace(&newer);
        }
    }

    fn replace(&mut self, text: &Arc<str>) {
        let before = std::mem::replace(&mut self.document, Document::parse(text));
        self.on_disk = Arc::clone(text);
        self.saving = None;
        self.understand();
        self.mark_saved();
        if let Ok(before) = before {
            self.remember(before);
        }
    }

    fn mark_saved(&mut self) {
        for field in &mut self.fields {
            field.saved.clone_from(&field.value);
        }
    }

    /// Derives values and faults from the text.
    fn understand(&mut self) {
        let faults;
        (self.experiment, faults) = match &self.document {
            Ok(document) => document.understood(),
            Err(_) => {
                let parsed = Experiment::parse(&self.on_disk, &[]);
                (Experiment::default(), parsed.err().unwrap_or_default())
            }
        };
        for field in &mut self.fields {
            let document = self.document.as_ref().ok();
            field.value = document.and_then(|document| document.get(&field.path));
            field.faults.clear();
        }
        self.loose.clear();
        for fault in faults {
            let field = self.fields.iter_mut().find(|field| {
                let rest = fault.key.strip_prefix(&field.path);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            });
            match field {
                Some(field) => field.faults.push(fault),
                None => self.loose.push(fault),
            }
        }
    }
}
