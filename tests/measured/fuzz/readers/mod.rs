//! The readers, by room: where they read, what of, and what the program does next with what was read.

mod data;
mod encoder;
mod experiment;
mod model;
mod reward;
mod run;
mod text;

use std::fmt::Display;
use std::path::{Path, PathBuf};

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The content of a file of the repository.
pub fn content(path: &str) -> Vec<u8> {
    std::fs::read(repository(path)).unwrap()
}

/// A folder in which one file changes from case to case.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With copies of files of a folder of the repository.
    pub fn with(folder: &str, names: &[&str]) -> Self {
        let new = Self::new();
        for name in names {
            new.write(name, &content(&format!("{folder}/{name}")));
        }
        new
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

/// An error with all its causes, as the program shows it.
pub fn told(error: anyhow::Error) -> String {
    format!("{error:#}")
}

/// An error as it is displayed.
pub fn shown(error: impl Display) -> String {
    error.to_string()
}
