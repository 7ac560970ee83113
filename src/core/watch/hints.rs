//! Notifications of the operating system, reduced to "look again".

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::filesystem::polling_reason;

/// What a notification means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Something of interest changed.
    Changed,
    /// Notifications were lost: anything may have changed.
    Lost,
}

/// Notifications for a changing set of directories, not for what is deeper in them. They may be lost or may
/// not exist at all, so their user also looks from time to time.
#[derive(Debug)]
pub struct Hints {
    watcher: RecommendedWatcher,
    /// The inode that each directory had; `None` if it gives no notifications.
    watched: BTreeMap<PathBuf, Option<u64>>,
}

impl Hints {
    /// Calls `wake` for every change of a path that `is_of_interest`, once directories are [followed](Self::follow).
    ///
    /// # Errors
    /// The system has no notifications left to give, for example because `fs.inotify.max_user_instances` is
    /// reached.
    pub fn start(
        is_of_interest: impl Fn(&Path) -> bool + Send + 'static,
        wake: impl Fn(Hint) + Send + 'static,
    ) -> notify::Result<Self> {
        let watcher = notify::recommended_watcher(move |event| {
            if let Some(hint) = hint_of(event, &is_of_interest) {
                wake(hint);
            }
        })?;
        Ok(Self {
            watcher,
            watched: BTreeMap::new(),
        })
    }

    /// Watches these directories from now on, and no others; those that do not exist are left out. A watch is
    /// on an inode, so a directory that was deleted and created again is watched again.
    ///
    /// # Errors
    /// The first directory that the system refuses to watch (`fs.inotify.max_user_watches`); the others are
    /// watched all the same.
    pub fn follow<'a>(
        &mut self,
        directories: impl IntoIterator<Item = &'a Path>,
    ) -> notify::Result<()> {
        let mut wanted = BTreeMap::new();
        let mut refused = Ok(());
        for directory in directories {
            let Ok(metadata) = std::fs::metadata(directory) else {
                continue;
            };
            let inode = metadata.ino();
            let known = self.watched.remove(directory);
            let is_watched = match known {
                // Asked once: a file system without notifications will not start to give them.
                Some(None) => None,
                Some(Some(same)) if same == inode => Some(inode),
                _ if polling_reason(directory).is_some() => None,
                _ => {
                    if known.is_some() {
                        // Fails if the system has dropped the watch with the directory.
                        let _ = self.watcher.unwatch(directory);
                    }
                    let watch = self.watcher.watch(directory, RecursiveMode::NonRecursive);
                    match watch {
                        Ok(()) => Some(inode),
                        Err(error) if directory.is_dir() => {
                            refused = refused.and(Err(error));
                            None
                        }
                        // Deleted in the meantime; the next call finds out.
                        Err(_) => continue,
                    }
                }
            };
            wanted.insert(directory.to_owned(), is_watched);
        }
        for (directory, inode) in std::mem::replace(&mut self.watched, wanted) {
            if inode.is_some() {
                let _ = self.watcher.unwatch(&directory);
            }
        }
        refused
    }
}

pub(super) fn hint_of(
    event: notify::Result<Event>,
    is_of_interest: impl Fn(&Path) -> bool,
) -> Option<Hint> {
    let Ok(event) = event else {
        return Some(Hint::Lost);
    };
    if event.need_rescan() {
        return Some(Hint::Lost);
    }
    // Our own reading opens files: taking that for a change would never end.
    let is_reading = matches!(event.kind, EventKind::Access(access)
        if access != AccessKind::Close(AccessMode::Write));
    let is_change = !is_reading && event.paths.iter().any(|path| is_of_interest(path));
    is_change.then_some(Hint::Changed)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use notify::event::{DataChange, Flag, ModifyKind};

    use super::*;

    #[test]
    fn reading_is_no_change_and_lost_notifications_are() {
        let is_log = |path: &Path| path.ends_with("log.txt");
        let event = |kind| Ok(Event::new(kind).add_path("/run/log.txt".into()));
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let changed = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let opened = EventKind::Access(AccessKind::Open(AccessMode::Any));
        assert_eq!(hint_of(event(written), is_log), Some(Hint::Changed));
        assert_eq!(hint_of(event(changed), is_log), Some(Hint::Changed));
        assert_eq!(hint_of(event(opened), is_log), None);
        assert_eq!(hint_of(event(written), |_| false), None);
        let overflow = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert_eq!(hint_of(Ok(overflow), |_| false), Some(Hint::Lost));
        let error = notify::Error::generic("lost");
        assert_eq!(hint_of(Err(error), |_| false), Some(Hint::Lost));
    }

    #[test]
    fn a_directory_that_was_made_again_is_watched_again() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("실행");
        let (sender, hints_seen) = channel();
        let wake = move |hint| sender.send(hint).unwrap();
        let mut hints = Hints::start(|path| path.ends_with("log.txt"), wake).unwrap();
        for _ in 0..2 {
            std::fs::create_dir(&run).unwrap();
            hints
                .follow([run.as_path(), Path::new("/nowhere")])
                .unwrap();
            if hints.watched.get(&run) == Some(&None) {
                // A file system without notifications.
                return;
            }
            std::fs::write(run.join("log.txt"), "가").unwrap();
            hints_seen.recv_timeout(Duration::from_secs(10)).unwrap();
            std::fs::remove_dir_all(&run).unwrap();
        }
        hints.follow([]).unwrap();
        assert!(hints.watched.is_empty());
    }
}
