//! The one exporter: asks in which form, and to which file, something is written.

use std::path::PathBuf;

use crate::tui::message::{Choice, Command, Dialog, Input, InputPurpose};

/// A form in which something can be written.
pub(super) struct Form {
    /// The letter that chooses it.
    pub(super) key: char,
    /// Its name, e.g. `Markdown`.
    pub(super) label: String,
    /// The proposed file; the user can type another.
    pub(super) file: PathBuf,
    pub(super) text: String,
}

impl Form {
    pub(super) fn new(key: char, label: &str, file: impl Into<PathBuf>, text: String) -> Self {
        Self {
            key,
            label: label.to_owned(),
            file: file.into(),
            text,
        }
    }

    /// JSON with indentation. A value whose keys are strings always serialises.
    pub(super) fn json(file: impl Into<PathBuf>, value: &serde_json::Value) -> Self {
        let text = serde_json::to_string_pretty(value).unwrap_or_default() + "\n";
        Self::new('j', "JSON", file, text)
    }
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
