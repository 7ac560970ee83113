//! Notifications of the operating system, reduced to "scan again".

use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::score::names::is_answer_file;

/// Wakes the watching thread early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nudge {
    /// Something happened in the directory.
    Hint,
    /// Notifications were lost, or the user asked: read everything again.
    Rescan,
    /// End the watch.
    Stop,
}

/// A notification source that follows a directory when it is deleted and recreated.
pub(super) struct Hints {
    watcher: RecommendedWatcher,
    directory: PathBuf,
    /// Inode of the directory being watched.
    armed: Option<u64>,
}

impl Hints {
    /// Starts notifications for `directory`, which need not exist yet, and for its parent, which reports
    /// when the directory is created or deleted.
    ///
    /// # Errors
    /// The system has no notifications left, for example because `fs.inotify.max_user_instances` is
    /// reached.
    pub(super) fn start(directory: &Path, nudges: Sender<Nudge>) -> notify::Result<Self> {
        let watched = directory.to_owned();
        let mut watcher = notify::recommended_watcher(move |event| {
            if let Some(nudge) = nudge_of(event, &watched) {
                // Fails only when the watch has ended.
                let _ = nudges.send(nudge);
            }
        })?;
        if let Some(parent) = directory.parent().filter(|parent| parent.is_dir()) {
            watcher.watch(parent, RecursiveMode::NonRecursive)?;
        }
        Ok(Self {
            watcher,
            directory: directory.to_owned(),
            armed: None,
        })
    }

    /// Follows the directory to its current inode, `None` while it is missing. A watch belongs to an
    /// inode: after the directory is deleted and recreated it stays silent.
    ///
    /// # Errors
    /// The system refuses another watch (`fs.inotify.max_user_watches`).
    pub(super) fn follow(&mut self, inode: Option<u64>) -> notify::Result<()> {
        if self.armed == inode {
            return Ok(());
        }
        if self.armed.take().is_some() {
            // Fails if the system has dropped the watch with the directory.
            let _ = self.watcher.unwatch(&self.directory);
        }
        if inode.is_some() {
            self.watcher
                .watch(&self.directory, RecursiveMode::NonRecursive)?;
            self.armed = inode;
        }
        Ok(())
    }
}

fn nudge_of(event: notify::Result<Event>, directory: &Path) -> Option<Nudge> {
    let Ok(event) = event else {
        return Some(Nudge::Rescan);
    };
    if event.need_rescan() {
        return Some(Nudge::Rescan);
    }
    let is_reading = matches!(event.kind, EventKind::Access(access)
        if access != AccessKind::Close(AccessMode::Write));
    let is_relevant = |path: &PathBuf| {
        path == directory
            || (path.parent() == Some(directory)
                && path
                    .file_name()
                    .is_some_and(|name| is_answer_file(&name.to_string_lossy())))
    };
    // Our own reading opens files: treating that as a change would never end.
    (!is_reading && event.paths.iter().any(is_relevant)).then_some(Nudge::Hint)
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange, Flag, ModifyKind, RenameMode};

    use super::*;

    #[test]
    fn only_changes_of_answer_files_and_the_directory_are_hints() {
        let changed = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        let opened = EventKind::Access(AccessKind::Open(AccessMode::Any));
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let created = EventKind::Create(CreateKind::Folder);
        let cases = [
            (changed, "/run/infer/epoch1.json", true),
            (renamed, "/run/infer/epoch1.json", true),
            (written, "/run/infer/epoch1.json", true),
            (opened, "/run/infer/epoch1.json", false),
            (changed, "/run/infer/.epoch1.json.writing", false),
            (changed, "/run/events.jsonl", false),
            (created, "/run/infer", true),
        ];
        for (kind, path, is_hint) in cases {
            let event = Event::new(kind).add_path(path.into());
            let nudge = nudge_of(Ok(event), Path::new("/run/infer"));
            assert_eq!(nudge, is_hint.then_some(Nudge::Hint), "{kind:?} {path}");
        }
    }

    #[test]
    fn overflow_and_errors_rescan_everything() {
        let overflow = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert_eq!(nudge_of(Ok(overflow), Path::new("/x")), Some(Nudge::Rescan));
        let error = notify::Error::generic("lost");
        assert_eq!(nudge_of(Err(error), Path::new("/x")), Some(Nudge::Rescan));
    }
}
