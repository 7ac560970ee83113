//! Saving, what follows it, and a file that another program changes meanwhile.

use std::path::{Path, PathBuf};

use super::Plan;
use super::form::{Form, OnDisk};
use crate::tui::message::{Choice, Command, Dialog, Effect, Notice};
use crate::tui::screens::experiments::launch::file;
use crate::tui::screens::words::{count, name};
use crate::tui::state::Context;
use crate::tui::widgets::list::List;

/// What is done with the experiment once it is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Start,
    Queue,
}

impl Plan {
    /// Opens an experiment file; it is read with the next index. Changes to another file are
    /// kept until it is opened again.
    pub fn load(&mut self, path: &Path) {
        self.cancel_entry();
        if let Some(form) = self.form.as_mut().filter(|form| form.path == path) {
            if std::mem::take(&mut self.is_reload_offered) {
                form.reload();
            }
            return;
        }
        if let Some(form) = self.form.take().filter(Form::is_changed) {
            self.parked.insert(form.path.clone(), form);
        }
        self.form = self.parked.remove(path);
        self.wanted = Some(path.to_owned());
        self.list = List::default();
        self.asked = None;
        self.after_save = None;
        self.after_reading = None;
    }

    /// A file was written; if it is an open one, its changes are saved now.
    pub fn written(&mut self, path: &Path) {
        let open = self.form.as_mut().filter(|form| form.path == path);
        if open.is_some() {
            self.after_reading = self.after_save.take();
        }
        if let Some(form) = open.or(self.parked.get_mut(path)) {
            form.written();
        }
    }

    /// The files with changes that are not saved.
    pub fn unsaved(&self) -> Vec<PathBuf> {
        let forms = self.form.iter().chain(self.parked.values());
        let changed = forms.filter(|form| form.is_changed());
        changed.map(|form| form.path.clone()).collect()
    }

    /// Writes every file with changes.
    pub fn save_all(&mut self) -> Vec<Effect> {
        let forms = self.form.iter_mut().chain(self.parked.values_mut());
        let changed = forms.filter(|form| form.is_changed());
        changed
            .map(|form| form.save(form.on_disk.clone()))
            .collect()
    }

    /// Writes the file.
    pub(super) fn save(&mut self) -> Vec<Command> {
        let Some(form) = &mut self.form else {
            return vec![nothing_open()];
        };
        if let Some(newer) = form.newer.clone() {
            self.is_reload_offered = true;
            let path = form.path.clone();
            return vec![Command::Ask(Dialog {
                title: format!("{} was changed on the disk", name(&path)),
                lines: vec![format!(
                    "Another program has written {} since it was opened here.",
                    path.display()
                )],
                choices: vec![
                    Choice::new(
                        'r',
                        "reload: take over what is on the disk (undo restores your changes)",
                        vec![Command::Plan(path)],
                    ),
                    Choice::new(
                        'o',
                        "overwrite it with what is here",
                        vec![form.save(newer).into()],
                    ),
                ],
            })];
        }
        if !form.is_changed() {
            return vec![Notice::info("nothing has changed since it was saved")];
        }
        vec![form.save(form.on_disk.clone()).into()]
    }

    /// Starts or queues the experiment: faults refuse it, and changes are saved first.
    pub(super) fn launch(&mut self, next: Next, context: &Context<'_>) -> Vec<Command> {
        let Some(form) = &self.form else {
            return vec![nothing_open()];
        };
        let faults = form.fault_count();
        if faults > 0 {
            let mut commands = self.next_fault();
            commands.push(Notice::error(format!(
                "{} to correct first; ] goes to the next one",
                count(faults, "fault")
            )));
            return commands;
        }
        if !form.is_changed() {
            return self.launch_saved(next, context);
        }
        let path = form.path.clone();
        let save = self.save();
        let Some(Command::Effect(_)) = save.first() else {
            // Another program changed the file, which is asked about first.
            return save;
        };
        self.after_save = Some(next);
        let label = match next {
            Next::Start => "save and start",
            Next::Queue => "save and queue",
        };
        vec![Command::Ask(Dialog {
            title: format!("{} has unsaved changes", name(&path)),
            lines: vec![format!(
                "A trainer reads the file, so the changes count only once they are in {}.",
                path.display()
            )],
            choices: vec![Choice::new('s', label, save)],
        })]
    }

    /// Starts or queues the file as it is on the disk.
    fn launch_saved(&mut self, next: Next, context: &Context<'_>) -> Vec<Command> {
        match (&self.form, next) {
            (Some(form), Next::Start) => self.launch.start(&form.path, context),
            (Some(form), Next::Queue) => vec![Command::Enqueue(form.path.clone())],
            (None, _) => Vec::new(),
        }
    }

    /// Compares with what was read from the disk: opens the file that is to be opened, takes
    /// changes over, and continues with what waits for a saved file.
    pub(super) fn compare_with_disk(&mut self, context: &Context<'_>) -> Vec<Command> {
        if let Some(path) = &self.wanted
            && let Some(file) = file(context, path)
        {
            self.form.get_or_insert_with(|| Form::new(path, &file.text));
            self.wanted = None;
        }
        // While a value is typed the text is incomplete, so there is nothing to compare.
        let Some(form) = self.form.as_mut().filter(|_| self.entry.is_none()) else {
            return Vec::new();
        };
        let Some(file) = file(context, &form.path) else {
            return Vec::new();
        };
        let path = form.path.display().to_string();
        let mut commands = match form.compare(&file.text) {
            OnDisk::Known => Vec::new(),
            OnDisk::Reloaded => vec![Notice::info(format!(
                "{path} was changed on the disk and has been read again"
            ))],
            OnDisk::Conflict => vec![Notice::error(format!(
                "{path} was changed on the disk, and here as well: w asks which of the two stays"
            ))],
        };
        if file.text == form.on_disk
            && let Some(next) = self.after_reading.take()
        {
            commands.extend(self.launch_saved(next, context));
        }
        commands
    }
}

/// The error if no experiment is open.
pub fn nothing_open() -> Command {
    Notice::error("no experiment is open: select one on the Experiments screen (1) and press e")
}
