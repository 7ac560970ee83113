//! Asking in which form, and to which file, something is to be written.

use std::path::PathBuf;

use crate::tui::message::{Choice, Command, Dialog, Input, InputPurpose};

/// A form in which something can be written.
pub(super) struct Form {
    /// The letter that chooses it.
    pub(super) key: char,
    /// What it is, e.g. `Markdown`.
    pub(super) label: String,
    /// The file that is proposed; the person may type another.
    pub(super) file: PathBuf,
    pub(super) text: String,
}

/// Asks in which form to write `what`, then for the file.
pub(super) fn ask(what: &str, forms: Vec<Form>) -> Command {
    let choice = |form: Form| Choice {
        key: form.key,
        commands: vec![Command::Input(Input {
            title: format!("Write {what} as {} to", form.label),
            initial: form.file.display().to_string(),
            purpose: InputPurpose::ExportTo { text: form.text },
        })],
        label: form.label,
    };
    Command::Ask(Dialog {
        title: "Export".to_owned(),
        lines: vec![format!("Write {what} to a file as:")],
        choices: forms.into_iter().map(choice).collect(),
    })
}
