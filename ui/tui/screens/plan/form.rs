//! An experiment file that is open: its text, what that comes to, and what can be undone.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use moim_core::experiment::{Document, EditError, Experiment, Fault, Key};

/// Changes that can be taken back; the oldest goes when there are more.
const REMEMBERED: usize = 500;

/// An experiment file and the changes made to it. Nothing is written here.
#[derive(Debug)]
pub struct Form {
    path: PathBuf,
    keys: Vec<Key>,
    /// The text, or why it has no keys that could be changed.
    document: Result<Document, EditError>,
    /// The file as it was read or written last.
    on_disk: Arc<str>,
    /// Values on the disk, to mark what has changed.
    saved: Vec<Option<String>>,
    /// Values as they are written in the text, in the order of the keys.
    values: Vec<Option<String>>,
    /// What the text says; keys that were refused have their defaults.
    experiment: Experiment,
    faults: Vec<Fault>,
    undo: Vec<Document>,
    /// What is being written, until it is known to be written.
    saving: Option<Arc<str>>,
    /// The file before it was written last: a reader may have seen it before it was replaced.
    replaced: Option<Arc<str>>,
    /// What somebody else has written since the file was read.
    newer: Option<Arc<str>>,
}

/// What the file on the disk is to the one that is open.
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
        let mut form = Self {
            path: path.to_owned(),
            keys: Experiment::keys(),
            document: Document::parse(text),
            on_disk: Arc::clone(text),
            saved: Vec::new(),
            values: Vec::new(),
            experiment: Experiment::default(),
            faults: Vec::new(),
            undo: Vec::new(),
            saving: None,
            replaced: None,
            newer: None,
        };
        form.work_out();
        form.saved.clone_from(&form.values);
        form
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every key there is, in the order of the sections.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// The text with all changes.
    pub fn text(&self) -> &str {
        match &self.document {
            Ok(document) => document.text(),
            Err(_) => &self.on_disk,
        }
    }

    /// The text whose keys can be changed, or why there is none.
    pub fn document(&self) -> Result<&Document, &EditError> {
        self.document.as_ref()
    }

    /// What the text says, or as much of it as can be understood.
    pub fn experiment(&self) -> &Experiment {
        &self.experiment
    }

    /// Everything that is wrong with the text.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// The value of a key as it was saved.
    pub fn saved_value(&self, key: usize) -> Option<&str> {
        self.saved.get(key)?.as_deref()
    }

    /// Whether there are changes that are not saved.
    pub fn is_changed(&self) -> bool {
        self.text() != &*self.on_disk
    }

    /// What somebody else has written since the file was read.
    pub fn newer(&self) -> Option<&Arc<str>> {
        self.newer.as_ref()
    }

    /// The file as it was read or written last.
    pub fn on_disk(&self) -> &Arc<str> {
        &self.on_disk
    }

    /// The value of a key as it is written; `None` where its default holds.
    pub fn value(&self, key: usize) -> Option<&str> {
        self.values.get(key)?.as_deref()
    }

    /// Whether a key's value is another than on the disk.
    pub fn is_key_changed(&self, key: usize) -> bool {
        self.values.get(key) != self.saved.get(key)
    }

    /// The faults of a key, those of its parts among them.
    pub fn faults_of(&self, key: usize) -> impl Iterator<Item = &Fault> {
        let path = self.keys.get(key).map(Key::path).unwrap_or_default();
        self.faults.iter().filter(move |fault| is_of(fault, &path))
    }

    /// Faults of no key of the form: unknown keys and sections, text that is not TOML.
    pub fn loose_faults(&self) -> Vec<&Fault> {
        let paths: Vec<String> = self.keys.iter().map(Key::path).collect();
        let is_loose = |fault: &&Fault| !paths.iter().any(|path| is_of(fault, path));
        self.faults.iter().filter(is_loose).collect()
    }

    /// What a person would type to get the present value of a key; empty where it has none.
    pub fn typed(&self, key: usize) -> String {
        let path = self.keys.get(key).map(Key::path).unwrap_or_default();
        let typed = self
            .document
            .as_ref()
            .ok()
            .and_then(|document| document.typed(&path));
        typed.unwrap_or_default()
    }

    /// Puts a value into `before`, which takes the place of the present text; an empty one takes
    /// the key out. Nothing is remembered for undo.
    ///
    /// # Errors
    /// The key cannot be changed in place.
    pub fn try_out(&mut self, before: &Document, key: usize, typed: &str) -> Result<(), EditError> {
        let path = self.keys.get(key).map(Key::path).unwrap_or_default();
        let mut document = before.clone();
        match typed.trim() {
            "" => document.unset(&path)?,
            typed => document.set(&path, typed)?,
        }
        self.show(document);
        Ok(())
    }

    /// Puts a text in place of the present one; nothing is remembered for undo.
    pub fn show(&mut self, document: Document) {
        self.document = Ok(document);
        self.work_out();
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

    /// Sets a key, or takes it out where the value is empty.
    ///
    /// # Errors
    /// The text is not TOML, or the key cannot be changed in place.
    pub fn set(&mut self, key: usize, typed: &str) -> Result<(), EditError> {
        let before = self.document.clone()?;
        self.try_out(&before, key, typed)?;
        self.remember(before);
        Ok(())
    }

    /// Takes the last change back; false where there is none.
    pub fn undo(&mut self) -> bool {
        match self.undo.pop() {
            Some(before) => {
                self.show(before);
                true
            }
            None => false,
        }
    }

    /// The text is about to be written; answers it, and the text that it may replace.
    pub fn save(&mut self, replaces: &Arc<str>) -> (String, Arc<str>) {
        let text = self.text().to_owned();
        self.saving = Some(Arc::from(text.as_str()));
        (text, Arc::clone(replaces))
    }

    /// What was about to be written is written.
    pub fn written(&mut self) {
        if let Some(text) = self.saving.take() {
            self.replaced = Some(std::mem::replace(&mut self.on_disk, text));
            self.newer = None;
            if !self.is_changed() {
                self.saved.clone_from(&self.values);
            }
        }
    }

    /// Compares with the file as it was read now.
    pub fn look(&mut self, text: &Arc<str>) -> OnDisk {
        let is_known = |known: &Option<Arc<str>>| known.as_ref() == Some(text);
        if *text == self.on_disk {
            self.newer = None;
            return OnDisk::Known;
        }
        if is_known(&self.replaced) || is_known(&self.saving) || is_known(&self.newer) {
            return OnDisk::Known;
        }
        if self.is_changed() {
            self.newer = Some(Arc::clone(text));
            return OnDisk::Conflict;
        }
        self.take_in(text);
        OnDisk::Reloaded
    }

    /// Goes over to what somebody else has written; undo brings the changes made here back.
    pub fn reload(&mut self) {
        if let Some(newer) = self.newer.take() {
            self.take_in(&newer);
        }
    }

    fn take_in(&mut self, text: &Arc<str>) {
        let before = std::mem::replace(&mut self.document, Document::parse(text));
        self.on_disk = Arc::clone(text);
        self.saving = None;
        self.work_out();
        self.saved.clone_from(&self.values);
        if let Ok(before) = before {
            self.remember(before);
        }
    }

    fn work_out(&mut self) {
        match &self.document {
            Ok(document) => {
                (self.experiment, self.faults) = document.understood();
                self.values = self
                    .keys
                    .iter()
                    .map(|key| document.get(&key.path()))
                    .collect();
            }
            Err(_) => {
                self.experiment = Experiment::default();
                self.faults = Experiment::parse(&self.on_disk, &[])
                    .err()
                    .unwrap_or_default();
                self.values = vec![None; self.keys.len()];
            }
        }
    }
}

/// Whether a fault is one of a key or of a part of it, such as `reward.commands[0].name`.
fn is_of(fault: &Fault, path: &str) -> bool {
    let rest = fault.key.strip_prefix(path);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}
