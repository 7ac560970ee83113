//! One trainer a run directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::process::host_name;
use super::publish::WriteError;

/// Who holds a lock, as the holder wrote it into the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockOwner {
    /// The process.
    pub pid: u32,
    /// The machine.
    pub host: String,
    /// Since when, RFC 3339.
    pub since: String,
}

impl std::fmt::Display for LockOwner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "process {} on {} since {}",
            self.pid, self.host, self.since
        )
    }
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another trainer works in the directory.
    #[error(
        "{} is in use by {}; wait for it, stop it with a file named control/stop in that folder, \
         or start another run",
        directory.display(),
        owner.as_ref().map_or_else(|| "another process".to_owned(), LockOwner::to_string)
    )]
    Held {
        /// The run directory.
        directory: PathBuf,
        /// Who holds it, where the file says so.
        owner: Option<LockOwner>,
    },
    /// The lock file could not be opened, written or locked.
    #[error(transparent)]
    File(#[from] WriteError),
}

/// The exclusive right to write into a run directory, held until it is dropped or the process
/// ends, however it ends: the operating system keeps it, and what the file says only names the
/// holder.
#[derive(Debug)]
pub struct RunLock {
    file: File,
}

impl RunLock {
    /// Takes the lock file `path`, without waiting.
    ///
    /// # Errors
    /// [`LockError::Held`] names the process that holds it.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(WriteError::on("open", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Without a readable name the error still stands.
                let _ = file.read_to_string(&mut text);
                let directory = path.parent().unwrap_or(path).to_owned();
                return Err(LockError::Held {
                    directory,
                    owner: serde_json::from_str(&text).ok(),
                });
            }
            Err(TryLockError::Error(error)) => {
                return Err(WriteError::new("lock", path, error).into());
            }
        }
        let owner = LockOwner {
            pid: std::process::id(),
            host: host_name(),
            since: jiff::Timestamp::now().to_string(),
        };
        let text = serde_json::to_string(&owner).unwrap_or_default();
        file.set_len(0)
            .and_then(|()| file.write_all(text.as_bytes()))
            .map_err(WriteError::on("write", path))?;
        Ok(Self { file })
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // An empty file names no process; closing it releases the lock even if this fails.
        let _ = self.file.set_len(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_trainer_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let lock = RunLock::acquire(&path).unwrap();
        let error = RunLock::acquire(&path).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(&format!(
                "process {} on {}",
                std::process::id(),
                host_name()
            )),
            "{text}"
        );
        drop(lock);
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        RunLock::acquire(&path).unwrap();
    }

    #[test]
    fn what_a_killed_trainer_left_does_not_hinder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        std::fs::write(
            &path,
            "a much longer text than the owner's, from some other program ".repeat(9),
        )
        .unwrap();
        let _lock = RunLock::acquire(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            serde_json::from_str::<LockOwner>(&text).unwrap().pid,
            std::process::id()
        );
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = RunLock::acquire(Path::new("/nowhere/run/lock")).unwrap_err();
        assert!(
            error.to_string().contains("cannot open /nowhere/run/lock"),
            "{error}"
        );
    }
}
