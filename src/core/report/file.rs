//! A file that other programs read while it grows.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::run::WriteError;
use crate::run::publish::sync_folder_of;

/// Bytes gathered before a write, as long as no program reads the file.
const BUFFER: usize = 256 * 1024;

/// A file that is started next to its final path, is renamed to it when it is complete, and is appended to from
/// then on.
#[derive(Debug)]
pub(super) struct GrowingFile {
    path: PathBuf,
    /// Where the file is until it is published.
    hidden: Option<PathBuf>,
    file: File,
    /// Appended and not yet written; empty once published.
    waiting: Vec<u8>,
    /// Bytes in the file.
    written: u64,
}

impl GrowingFile {
    /// Starts a file for `path`, and creates its folder.
    pub(super) fn create(path: &Path) -> Result<Self, WriteError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(WriteError::on("create the folder", folder))?;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // One name, so that what a killed process left is written over.
        let hidden = path.with_file_name(format!(".{name}.writing-report"));
        let file = File::create(&hidden).map_err(WriteError::on("write", path))?;
        Ok(Self {
            path: path.to_owned(),
            hidden: Some(hidden),
            file,
            waiting: Vec::new(),
            written: 0,
        })
    }

    /// Where the file is, or will be.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes appended so far.
    pub(super) fn length(&self) -> u64 {
        self.written + self.waiting.len() as u64
    }

    /// Appends bytes that belong together. If they cannot be written, a published file keeps what it had.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.waiting.extend_from_slice(bytes);
        if self.hidden.is_some() && self.waiting.len() < BUFFER {
            return Ok(());
        }
        self.write_out()
    }

    fn write_out(&mut self) -> Result<(), WriteError> {
        let written = self.file.write_all(&self.waiting);
        if let Err(error) = written {
            self.waiting.clear();
            // If even this fails, readers see an incomplete end, which they leave out.
            let _ = self.file.set_len(self.written);
            return Err(WriteError::new("append to", &self.path, error));
        }
        self.written += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    /// Renames the file to its final path; a second time it does nothing.
    pub(super) fn publish(&mut self) -> Result<(), WriteError> {
        let Some(hidden) = &self.hidden else {
            return Ok(());
        };
        let hidden = hidden.clone();
        self.write_out()?;
        self.file
            .sync_all()
            .and_then(|()| fs::rename(&hidden, &self.path))
            .and_then(|()| sync_folder_of(&self.path))
            .map_err(WriteError::on("write", &self.path))?;
        self.hidden = None;
        Ok(())
    }
}

impl Drop for GrowingFile {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            // Nothing reads it, and the next attempt writes over it.
            let _ = fs::remove_file(hidden);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_file_stands_until_the_new_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/scalars.csv");
        let read = || fs::read_to_string(&path).unwrap();
        let mut file = GrowingFile::create(&path).unwrap();
        file.append(b"one").unwrap();
        assert!(!path.exists());
        file.publish().unwrap();
        file.append(b" two").unwrap();
        assert_eq!((read().as_str(), file.length()), ("one two", 7));

        let mut again = GrowingFile::create(&path).unwrap();
        again.append(b"new").unwrap();
        assert_eq!(read(), "one two");
        again.publish().unwrap();
        again.append(b"er").unwrap();
        assert_eq!(read(), "newer");

        let mut abandoned = GrowingFile::create(&path).unwrap();
        abandoned.append(&vec![b'x'; 2 * BUFFER]).unwrap();
        assert_eq!(abandoned.length(), 2 * BUFFER as u64);
        drop(abandoned);
        assert_eq!(read(), "newer");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
