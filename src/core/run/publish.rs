//! Writing files that others read: next to their final path, synced, then renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;

/// The end of a hidden name by [`hidden_beside`]; [`clean_up`] removes what has it.
const WRITING: &str = "writing";

/// A file or folder that could not be written, with what was tried and how to fix it.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}{}", path.display(), way_out(source))]
pub struct WriteError {
    /// The file or folder.
    pub path: PathBuf,
    /// What was tried: `write`, `append to`, `create`, …
    pub action: &'static str,
    /// Why it failed.
    pub source: io::Error,
}

impl WriteError {
    pub fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            path: path.to_owned(),
            action,
            source,
        }
    }

    /// For `map_err`: the error of an action on a path.
    pub fn on(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::new(action, path, source)
    }
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        io::Error::new(error.source.kind(), error)
    }
}

fn way_out(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => {
            "; the disk is full: free some space on it, or choose another folder"
        }
        io::ErrorKind::FileTooLarge => {
            "; no file may be larger here: raise the limit (ulimit -f), or choose another file system"
        }
        io::ErrorKind::QuotaExceeded => "; free some of your quota, or choose another folder",
        io::ErrorKind::PermissionDenied => "; choose a folder that you may write to",
        io::ErrorKind::ReadOnlyFilesystem => {
            "; this file system is read-only, choose another folder"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "; a file stands in the way, move it or choose another folder"
        }
        _ => "",
    }
}

/// Writes a file so that a reader sees the old content or the new, never a part: the bytes go to
/// a hidden file beside `path`, are synced, and the file is renamed over `path`. The folder must
/// exist.
///
/// # Errors
/// Names `path`; what was at `path` before is untouched.
pub fn publish(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let beside = hidden_beside(path, WRITING);
    let written = write_synced(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    if let Err(source) = written {
        // Nothing reads the hidden file; the first error is the one worth telling.
        let _ = fs::remove_file(&beside);
        return Err(WriteError::new("write", path, source));
    }
    sync_folder_of(path).map_err(WriteError::on("write", path))
}

/// As [`publish`], without waiting for the disk: for what is written often and means nothing after a
/// power cut, which may leave the file without content.
///
/// # Errors
/// Names `path`; what was at `path` before is untouched.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let beside = hidden_beside(path, WRITING);
    let written = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    written.map_err(|source| {
        // Nothing reads the hidden file; the first error is the one worth telling.
        let _ = fs::remove_file(&beside);
        WriteError::new("write", path, source)
    })
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// As [`publish`], for a folder: `fill` writes into a hidden folder beside `path`, which is synced
/// and takes the place of `path`. A folder that was there before is replaced as a whole.
///
/// # Errors
/// Those of `fill`, or of the file system, naming `path`; what was at `path` before is untouched.
pub fn publish_folder(
    path: &Path,
    fill: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let staging = hidden_beside(path, WRITING);
    fs::create_dir_all(&staging).map_err(WriteError::on("create", &staging))?;
    let replaced = replaced_name(path);
    let outcome = fill(&staging).and_then(|()| {
        sync_tree(&staging).map_err(WriteError::on("sync", &staging))?;
        remove_folder_if_there(&replaced)?;
        if path.exists() {
            fs::rename(path, &replaced).map_err(WriteError::on("replace", path))?;
        }
        fs::rename(&staging, path).map_err(WriteError::on("write", path))?;
        sync_folder_of(path).map_err(WriteError::on("sync", path))?;
        Ok(())
    });
    if let Err(error) = outcome {
        // Put back the old folder; both may fail on a dead disk, and the first error says more.
        if !path.exists() {
            let _ = fs::rename(&replaced, path);
        }
        let _ = fs::remove_dir_all(&staging);
        return Err(error.context(format!("cannot write the folder {}", path.display())));
    }
    remove_folder_if_there(&replaced)?;
    Ok(())
}

/// Puts right what a crash in the middle of [`publish`] or [`publish_folder`] left in `folder`:
/// half-written files and folders go, a folder that was being replaced comes back where its
/// replacement did not arrive. Only the one writer of `folder` may call it.
///
/// # Errors
/// A leftover that cannot be moved or removed, by name.
pub fn clean_up(folder: &Path) -> anyhow::Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let leftover = entry
            .with_context(|| format!("cannot list {}", folder.display()))?
            .path();
        let Some(name) = leftover.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let Some(hidden) = name.strip_prefix('.') else {
            continue;
        };
        if let Some(original) = hidden.strip_suffix(".replaced") {
            let original = folder.join(original);
            if original.exists() {
                remove_folder_if_there(&leftover)?;
            } else {
                fs::rename(&leftover, &original).map_err(WriteError::on("restore", &original))?;
            }
        } else if hidden.contains(&format!(".{WRITING}-")) {
            if leftover.is_dir() {
                remove_folder_if_there(&leftover)?;
            } else {
                fs::remove_file(&leftover).map_err(WriteError::on("remove", &leftover))?;
            }
        }
    }
    Ok(())
}

/// A hidden name in the same folder, so that the rename stays within one file system; unique among
/// processes and threads.
pub(super) fn hidden_beside(path: &Path, purpose: &str) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A clock reading keeps two hosts with equal process ids apart on a shared file system.
    let moment = jiff::Timestamp::now().as_nanosecond();
    path.with_file_name(format!(
        ".{name}.{purpose}-{}-{number}-{moment:x}",
        std::process::id()
    ))
}

/// Removes the folder `path` in one step, so that no reader sees a part of it.
///
/// # Errors
/// Names `path`.
pub(super) fn remove_folder(path: &Path) -> Result<(), WriteError> {
    let hidden = hidden_beside(path, WRITING);
    fs::rename(path, &hidden).map_err(WriteError::on("remove", path))?;
    remove_folder_if_there(&hidden)
}

fn replaced_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.replaced"))
}

fn remove_folder_if_there(path: &Path) -> Result<(), WriteError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(WriteError::new("remove", path, error))
        }
        _ => Ok(()),
    }
}

fn sync_tree(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_folder(folder)
}

/// Syncs the folder that holds `path`, so that a rename in it survives a power cut.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => sync_folder(folder),
        _ => sync_folder(Path::new(".")),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some network file systems cannot sync a folder; the rename itself has happened.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
            ) =>
        {
            Ok(())
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn publishing_replaces_and_leaves_nothing_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.json");
        publish(&path, b"one").unwrap();
        publish(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(folder.path()), ["run.json"]);
    }

    #[test]
    fn a_failed_publish_names_the_file_and_keeps_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("absent/run.json");
        let error = publish(&missing, b"x").unwrap_err();
        assert!(error.to_string().contains("absent/run.json"), "{error}");

        // A folder at the target makes the rename fail after the write.
        let target = folder.path().join("taken");
        fs::create_dir(&target).unwrap();
        publish(&target, b"x").unwrap_err();
        assert_eq!(names(folder.path()), ["taken"]);
    }

    #[test]
    fn a_full_disk_is_told_with_the_way_out() {
        let source = io::Error::from(io::ErrorKind::StorageFull);
        let error = WriteError::new("write", Path::new("outputs/run.json"), source);
        let text = error.to_string();
        assert!(
            text.starts_with("cannot write outputs/run.json: ")
                && text.contains("the disk is full: free some space"),
            "{text}"
        );
        let again = io::Error::from(error);
        assert_eq!(again.kind(), io::ErrorKind::StorageFull);
        assert!(again.to_string().contains("outputs/run.json"));
    }

    #[test]
    fn a_folder_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("epoch_1");
        let write = |name: &'static str| {
            move |staging: &Path| {
                fs::create_dir(staging.join("inner"))?;
                Ok(fs::write(staging.join("inner").join(name), name)?)
            }
        };
        publish_folder(&target, write("a")).unwrap();
        publish_folder(&target, write("b")).unwrap();
        assert_eq!(names(&target.join("inner")), ["b"]);
        let error = publish_folder(&target, |staging| {
            fs::write(staging.join("half"), "")?;
            anyhow::bail!("the adapter has no tensors")
        })
        .unwrap_err();
        assert!(
            format!("{error:#}").contains("epoch_1: the adapter has no tensors"),
            "{error:#}"
        );
        assert_eq!(names(&target), ["inner"]);
        assert_eq!(names(folder.path()), ["epoch_1"]);
    }

    #[test]
    fn a_crash_in_the_middle_is_cleaned_up() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at(".epoch_1.replaced")).unwrap();
        fs::create_dir(at("epoch_2")).unwrap();
        fs::create_dir(at(".epoch_2.replaced")).unwrap();
        fs::create_dir(at(".epoch_3.writing-1-2-3")).unwrap();
        fs::write(at(".run.json.writing-1-2-3"), "{").unwrap();
        fs::write(at(".hidden"), "").unwrap();
        clean_up(folder.path()).unwrap();
        assert_eq!(names(folder.path()), [".hidden", "epoch_1", "epoch_2"]);
    }
}
