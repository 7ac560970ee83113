//! Saving, what follows it, and a file that somebody else changes meanwhile.

use super::Plan;
use super::form::OnDisk;
use crate::tui::message::{Choice, Command, Dialog, Effect, Notice};
use crate::tui::screens::experiments::launch::file;
use crate::tui::screens::words::{count, name};
use crate::tui::state::Context;

/// What is to be done with the experiment once it is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Start,
    Queue,
}

impl Next {
    const fn verb(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Queue => "queue",
        }
    }
}

impl Plan {
    /// Writes the file.
    pub(super) fn save(&mut self) -> Vec<Command> {
        let Some(form) = &mut self.form else {
            return vec![nothing_open()];
        };
        let path = form.path().to_owned();
        if let Some(newer) = form.newer().cloned() {
            let (text, replaces) = form.save(&newer);
            self.is_reload_offered = true;
            let write = Effect::Write {
                path: path.clone(),
                text,
                replaces: Some(replaces),
            };
            return vec![Command::Ask(conflict(&path, write))];
        }
        if !form.is_changed() {
            return vec![Notice::info("nothing has changed since it was saved")];
        }
        let on_disk = form.on_disk().clone();
        let (text, replaces) = form.save(&on_disk);
        vec![Command::Effect(Effect::Write {
            path,
            text,
            replaces: Some(replaces),
        })]
    }

    /// Starts or queues the experiment: faults refuse it, and changes are saved first.
    pub(super) fn go_on(&mut self, next: Next, context: &Context<'_>) -> Vec<Command> {
        let Some(form) = &self.form else {
            return vec![nothing_open()];
        };
        let faults = form.faults().len();
        if faults > 0 {
            let mut commands = self.next_fault();
            commands.push(Notice::error(format!(
                "{} to correct first; ] goes to the next one",
                count(faults, "fault")
            )));
            return commands;
        }
        if !form.is_changed() {
            return self.carry_on(next, context);
        }
        let path = form.path().to_owned();
        let save = self.save();
        let Some(Command::Effect(_)) = save.first() else {
            // The file was changed by somebody else, which is asked about first.
            return save;
        };
        self.after_save = Some(next);
        vec![Command::Ask(Dialog {
            title: format!("{} has unsaved changes", name(&path)),
            lines: vec![format!(
                "A trainer reads the file, so the changes count only once they are in {}.",
                path.display()
            )],
            choices: vec![Choice::new('s', &format!("save and {}", next.verb()), save)],
        })]
    }

    /// Starts or queues the file as it is on the disk.
    fn carry_on(&mut self, next: Next, context: &Context<'_>) -> Vec<Command> {
        let Some(form) = &self.form else {
            return Vec::new();
        };
        let path = form.path().to_owned();
        match next {
            Next::Start => self.launch.start(&path, context),
            Next::Queue => vec![Command::Enqueue(path)],
        }
    }

    /// Compares with what was read from the disk: opens what is wanted, takes changes over, and
    /// goes on with what waits for a saved file.
    pub(super) fn look_at_disk(&mut self, context: &Context<'_>) -> Vec<Command> {
        if let Some(path) = self.wanted.clone()
            && let Some(file) = file(context, &path)
        {
            self.wanted = None;
            if self.form.is_none() {
                self.form = Some(super::form::Form::new(&path, &file.text));
            }
        }
        // While a value is typed the text is in between, so there is nothing to compare.
        let Some(form) = self.form.as_mut().filter(|_| self.entry.is_none()) else {
            return Vec::new();
        };
        let Some(file) = file(context, form.path()) else {
            return Vec::new();
        };
        let shown = form.path().display().to_string();
        let mut commands = match form.look(&file.text) {
            OnDisk::Known => Vec::new(),
            OnDisk::Reloaded => vec![Notice::info(format!(
                "{shown} was changed on the disk and has been read again"
            ))],
            OnDisk::Conflict => vec![Notice::error(format!(
                "{shown} was changed on the disk, and here as well: w asks which of the two stays"
            ))],
        };
        let is_read = file.text == *form.on_disk();
        if is_read && let Some(next) = self.after_reading.take() {
            commands.extend(self.carry_on(next, context));
        }
        commands
    }
}

fn conflict(path: &std::path::Path, write: Effect) -> Dialog {
    let reload = Choice::new(
        'r',
        "reload: take over what is on the disk (undo brings your changes back)",
        vec![Command::Plan(path.to_owned())],
    );
    Dialog {
        title: format!("{} was changed on the disk", name(path)),
        lines: vec![format!(
            "{} was written by somebody else since it was opened here.",
            path.display()
        )],
        choices: vec![
            reload,
            Choice::new('o', "overwrite it with what is here", vec![write.into()]),
        ],
    }
}

/// Said where no experiment is open.
pub fn nothing_open() -> Command {
    Notice::error("no experiment is open: select one on the Experiments screen (1) and press e")
}
