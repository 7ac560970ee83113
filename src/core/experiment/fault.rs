//! The faults of an experiment file and how they are reported.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In the experiment file; both numbers start at 1, the column counts characters.
    File {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// In an override, as it was given to `--set`.
    Override(String),
}

/// One thing that is wrong: the key, its value, the problem and how to fix it.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// `section.key`; empty for an error of TOML syntax.
    pub key: String,
    /// The value, as TOML; `None` if the key is missing or is itself the fault.
    pub value: Option<String>,
    /// What is wrong, ready to follow the key: `is a string`.
    pub problem: String,
    /// How to fix it.
    pub hint: String,
    /// Where it was written, if anywhere.
    pub origin: Option<Origin>,
}

impl Fault {
    /// A fault of a key that is not written anywhere.
    pub fn new(
        key: impl Into<String>,
        value: Option<String>,
        problem: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            key: key.into(),
            value,
            problem: problem.into(),
            hint: hint.into(),
            origin: None,
        }
    }

    /// The line of the experiment file, if the fault is there.
    pub fn line(&self) -> Option<usize> {
        match self.origin {
            Some(Origin::File { line, .. }) => Some(line),
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Some(Origin::File { line, column }) => {
                write!(formatter, "line {line}, column {column}: ")?
            }
            Some(Origin::Override(text)) => write!(formatter, "--set {text}: ")?,
            None => {}
        }
        formatter.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(formatter, " = {value}")?;
        }
        if !self.key.is_empty() {
            formatter.write_str(": ")?;
        }
        write!(formatter, "{}; {}", self.problem, self.hint)
    }
}

/// Why an experiment could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    /// The file could not be read at all.
    #[error("cannot read the experiment file {}: {source}{}", path.display(), did_you_mean(path))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file was read and has faults, all of which are listed.
    #[error("{}", list(path, faults))]
    Faults {
        /// The file.
        path: PathBuf,
        /// The faults, in the order of the file, then of the overrides.
        faults: Vec<Fault>,
    },
}

impl ExperimentError {
    /// The faults, for a form or for JSON; empty if the file could not be read.
    pub fn faults(&self) -> &[Fault] {
        match self {
            Self::Unreadable { .. } => &[],
            Self::Faults { faults, .. } => faults,
        }
    }
}

fn list(path: &Path, faults: &[Fault]) -> String {
    let count = match faults.len() {
        1 => "1 fault".to_owned(),
        number => format!("{number} faults"),
    };
    let mut text = format!("{}: {count}", path.display());
    for fault in faults {
        text.push_str("\n  ");
        text.push_str(&fault.to_string());
    }
    text
}

/// Suggests the experiment file of the same folder (or of ./experiments) with the nearest name.
fn did_you_mean(path: &Path) -> String {
    if path.exists() {
        return String::new();
    }
    let wanted = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut candidates = Vec::new();
    for folder in [folder, Path::new("experiments")] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let file = entry.path();
            if file
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                candidates.push((entry.file_name().to_string_lossy().into_owned(), file));
            }
        }
    }
    let near = super::schema::nearest(&wanted, candidates.iter().map(|(name, _)| name.as_str()));
    match candidates
        .iter()
        .find(|(name, _)| Some(name.as_str()) == near)
    {
        Some((_, file)) => format!("; did you mean {}?", file.display()),
        None => "; an experiment is a TOML file with at least model.path, data.train and data.eval"
            .to_owned(),
    }
}
