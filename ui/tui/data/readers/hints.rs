//! Notifications of the operating system, reduced to "look again".

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use moim_core::watch::filesystem::polling_reason;
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

/// Notifications for a changing set of directories, not for what lies deeper. Where they do not
/// work there are none, and whoever uses them looks from time to time anyway.
pub(super) struct Hints {
    watcher: Option<RecommendedWatcher>,
    /// The inode that each directory had; `None` where it gives no notifications.
    watched: BTreeMap<PathBuf, Option<u64>>,
}

impl Hints {
    /// Calls `wake` for every change of a path that `is_of_interest`; never where `is_polling`.
    pub fn start(
        is_polling: bool,
        is_of_interest: impl Fn(&Path) -> bool + Send + 'static,
        wake: impl Fn() + Send + 'static,
    ) -> Self {
        let handler = move |event| {
            if is_hint(&event, &is_of_interest) {
                wake();
            }
        };
        let watcher = match is_polling {
            true => None,
            false => notify::recommended_watcher(handler).ok(),
        };
        Self {
            watcher,
            watched: BTreeMap::new(),
        }
    }

    /// Watches these directories from now on, and no others. A watch sits on an inode, so one
    /// that was deleted and made again is watched anew.
    pub fn follow<'a>(&mut self, directories: impl IntoIterator<Item = &'a Path>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let mut wanted = BTreeMap::new();
        for directory in directories {
            let Ok(metadata) = std::fs::metadata(directory) else {
                continue;
            };
            let inode = metadata.ino();
            let known = self.watched.remove(directory);
            let is_watched = match known {
                // Asked once: what does not notify will not begin to.
                Some(None) => None,
                Some(Some(same)) if same == inode => Some(inode),
                _ => {
                    if known.is_some() {
                        // Fails where the system has dropped the watch with the directory.
                        let _ = watcher.unwatch(directory);
                    }
                    let works = polling_reason(directory).is_none()
                        && watcher
                            .watch(directory, RecursiveMode::NonRecursive)
                            .is_ok();
                    works.then_some(inode)
                }
            };
            wanted.insert(directory.to_owned(), is_watched);
        }
        for (directory, inode) in std::mem::replace(&mut self.watched, wanted) {
            if inode.is_some() {
                let _ = watcher.unwatch(&directory);
            }
        }
    }
}

fn is_hint(event: &notify::Result<Event>, is_of_interest: impl Fn(&Path) -> bool) -> bool {
    let Ok(event) = event else {
        return true;
    };
    // Our own reading opens files: taking that for a change would never end.
    let is_reading = matches!(event.kind, EventKind::Access(access)
        if access != AccessKind::Close(AccessMode::Write));
    event.need_rescan() || (!is_reading && event.paths.iter().any(|path| is_of_interest(path)))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use notify::event::Flag;

    use super::*;

    #[test]
    fn reading_is_no_change_and_lost_notifications_are() {
        let is_log = |path: &Path| path.ends_with("log.txt");
        let event = |kind| Ok(Event::new(kind).add_path("/run/log.txt".into()));
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let opened = EventKind::Access(AccessKind::Open(AccessMode::Any));
        assert!(is_hint(&event(written), is_log));
        assert!(!is_hint(&event(opened), is_log));
        assert!(!is_hint(&event(written), |_| false));
        assert!(is_hint(
            &Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)),
            |_| false
        ));
        assert!(is_hint(&Err(notify::Error::generic("lost")), |_| false));
    }

    #[test]
    fn a_directory_that_was_made_again_is_watched_again() {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("실행");
        let (sender, hints_seen) = channel();
        let wake = move || sender.send(()).unwrap();
        let mut hints = Hints::start(false, |path| path.ends_with("log.txt"), wake);
        for _ in 0..2 {
            std::fs::create_dir(&run).unwrap();
            hints.follow([run.as_path(), Path::new("/nowhere")]);
            if hints.watched.get(&run) == Some(&None) {
                // A file system without notifications.
                return;
            }
            std::fs::write(run.join("log.txt"), "가").unwrap();
            hints_seen.recv_timeout(Duration::from_secs(10)).unwrap();
            std::fs::remove_dir_all(&run).unwrap();
        }
        hints.follow([]);
        assert!(hints.watched.is_empty());
    }
}
