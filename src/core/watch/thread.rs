//! The thread of a watch: it scans, reads, calls [`DirectoryState`] and sends updates.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::hints::{Hint, Hints};
use super::state::{DirectoryState, Entry, Reading, Scan, Stamp};
use super::{Timing, WatchMode, WatchUpdate, filesystem};
use crate::run::is_absence;
use crate::score::Labels;
use crate::score::names::is_answer_file;

/// How to watch.
#[derive(Clone, Copy, Debug)]
pub struct WatchOptions {
    /// The times.
    pub timing: Timing,
    /// Only scan, on every file system. Default false.
    pub poll: bool,
    /// The largest answer file that is read, in bytes. Default 256 MiB.
    pub largest_file: u64,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            timing: Timing::default(),
            poll: false,
            largest_file: 256 << 20,
        }
    }
}

/// A running watch of one directory; dropping it ends the thread.
#[derive(Debug)]
pub struct Watcher {
    updates: Receiver<WatchUpdate>,
    nudges: Sender<Nudge>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts watching. The directory need not exist yet.
    ///
    /// # Errors
    /// The current directory is unknown and `directory` is relative to it, or the system refuses a thread.
    pub fn start(directory: &Path, labels: Arc<Labels>, options: WatchOptions) -> io::Result<Self> {
        // Notifications contain the path as it was requested, so it must have one form.
        let directory = std::path::absolute(directory)?;
        let (nudges, nudged) = mpsc::channel();
        let (sender, updates) = mpsc::channel();
        let worker = Worker {
            label_file: labels.path().and_then(|path| path.canonicalize().ok()),
            state: DirectoryState::new(labels, options.timing),
            directory,
            options,
            origin: Instant::now(),
            nudged,
            updates: sender,
        };
        let to_hints = nudges.clone();
        let thread = std::thread::Builder::new()
            .name("moim-watch".to_owned())
            .spawn(move || worker.run(to_hints))?;
        Ok(Self {
            updates,
            nudges,
            thread: Some(thread),
        })
    }

    /// The updates, in order. The channel closes when the thread ends.
    pub fn updates(&self) -> &Receiver<WatchUpdate> {
        &self.updates
    }

    /// Reads everything again, regardless of time stamps.
    pub fn rescan(&self) {
        // A thread that has ended has nothing to read.
        let _ = self.nudges.send(Nudge::Rescan);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.nudges.send(Nudge::Stop);
        if let Some(thread) = self.thread.take() {
            // The panic hook has already reported a panic of the thread.
            let _ = thread.join();
        }
    }
}

struct Worker {
    directory: PathBuf,
    label_file: Option<PathBuf>,
    state: DirectoryState,
    options: WatchOptions,
    origin: Instant,
    nudged: Receiver<Nudge>,
    updates: Sender<WatchUpdate>,
}

/// What wakes the thread before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nudge {
    /// Something happened in the directory.
    Hint,
    /// Notifications were lost, or the user asked: read everything again.
    Rescan,
    /// The watch is over.
    Stop,
}

/// The receiver of updates was dropped.
struct Abandoned;

impl Worker {
    fn run(mut self, to_hints: Sender<Nudge>) {
        // Ends on a stop request, or when the receiver is dropped.
        let _ = self.watch(to_hints);
    }

    fn watch(&mut self, to_hints: Sender<Nudge>) -> Result<(), Abandoned> {
        let mut hints = self.start_hints(to_hints)?;
        let mut is_first = true;
        loop {
            self.follow(&mut hints)?;
            let has_changed = self.scan_and_read()?;
            if has_changed || is_first {
                let pending = self.state.pending();
                self.send(WatchUpdate::Settled { pending })?;
                is_first = false;
            }
            match self.wait() {
                Nudge::Stop => return Ok(()),
                Nudge::Rescan => self.state.rescan(self.now()),
                Nudge::Hint => {}
            }
        }
    }

    fn start_hints(&self, to_hints: Sender<Nudge>) -> Result<Option<Hints>, Abandoned> {
        let reason = if self.options.poll {
            Some("requested".to_owned())
        } else {
            filesystem::polling_reason(&self.directory)
        };
        let (mode, hints) = match reason {
            Some(reason) => (WatchMode::Polling { reason }, None),
            None => match self.hints(to_hints) {
                Ok(hints) => (WatchMode::Events, Some(hints)),
                Err(error) => (polling_after(&error), None),
            },
        };
        self.send(WatchUpdate::Mode(mode))?;
        Ok(hints)
    }

    fn hints(&self, nudges: Sender<Nudge>) -> notify::Result<Hints> {
        let directory = self.directory.clone();
        let wake = move |hint| {
            let nudge = match hint {
                Hint::Changed => Nudge::Hint,
                Hint::Lost => Nudge::Rescan,
            };
            // The receiver is dropped only when the watch is over.
            let _ = nudges.send(nudge);
        };
        let mut hints = Hints::start(move |path| concerns(&directory, path), wake)?;
        hints.follow(self.watched())?;
        Ok(hints)
    }

    /// The directory, and its parent, in which it appears and disappears.
    fn watched(&self) -> impl Iterator<Item = &Path> {
        [Some(self.directory.as_path()), self.directory.parent()]
            .into_iter()
            .flatten()
    }

    /// Moves the notifications to the current directory; falls back to polling if the system refuses.
    fn follow(&self, hints: &mut Option<Hints>) -> Result<(), Abandoned> {
        let Some(source) = hints else { return Ok(()) };
        if let Err(error) = source.follow(self.watched()) {
            *hints = None;
            self.send(WatchUpdate::Mode(polling_after(&error)))?;
        }
        Ok(())
    }

    /// One scan and the readings after it. Returns whether an update was sent.
    fn scan_and_read(&mut self) -> Result<bool, Abandoned> {
        let scan = self.scan();
        let mut has_changed = false;
        for update in self.state.scanned(self.now(), scan) {
            self.send(update)?;
            has_changed = true;
        }
        for name in self.state.due(self.now()) {
            let reading = self.read(&name);
            if let Some(update) = self.state.read(self.now(), &name, reading) {
                self.send(update)?;
                has_changed = true;
            }
        }
        Ok(has_changed)
    }

    /// Sleeps until the next scan is due or something happens. After a hint it waits a little for those
    /// that follow.
    fn wait(&self) -> Nudge {
        let wake = self.state.next_wake(self.now());
        match self.nudge_before(wake) {
            Some(Nudge::Hint) => {}
            Some(other) => return other,
            None => return Nudge::Hint,
        }
        let end = self.now() + self.options.timing.coalesce;
        loop {
            match self.nudge_before(end) {
                Some(Nudge::Hint) => {}
                Some(other) => return other,
                None => return Nudge::Hint,
            }
        }
    }

    fn nudge_before(&self, time: Duration) -> Option<Nudge> {
        match self.nudged.recv_timeout(time.saturating_sub(self.now())) {
            Ok(nudge) => Some(nudge),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Nudge::Stop),
        }
    }

    fn scan(&self) -> Scan {
        match self.entries() {
            Ok(entries) => Scan::Entries(entries),
            Err(error) if is_absence(&error) => Scan::Missing,
            Err(error) => Scan::Failed(error.to_string()),
        }
    }

    fn entries(&self) -> io::Result<Vec<Entry>> {
        let canonical = self.directory.canonicalize()?;
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let is_label_file = self
                .label_file
                .as_ref()
                .is_some_and(|labels| *labels == canonical.join(&name));
            if !is_answer_file(&name) || is_label_file {
                continue;
            }
            // It vanished after it was listed, or is a broken link: the next scan finds it if it appears.
            let Ok(metadata) = std::fs::metadata(self.directory.join(&name)) else {
                continue;
            };
            if metadata.is_file() {
                entries.push(Entry {
                    name,
                    stamp: stamp(&metadata),
                    age: age(&metadata),
                });
            }
        }
        Ok(entries)
    }

    fn read(&self, name: &str) -> Reading {
        let path = self.directory.join(name);
        match self.read_between_stamps(&path) {
            Ok(reading) => reading,
            Err(error) if is_absence(&error) => Reading::Vanished,
            Err(error) => Reading::Failed(error.to_string()),
        }
    }

    fn read_between_stamps(&self, path: &Path) -> io::Result<Reading> {
        let before = std::fs::metadata(path)?;
        let limit = self.options.largest_file;
        if before.len() > limit {
            return Ok(Reading::TooLarge {
                len: before.len(),
                limit,
            });
        }
        let bytes = crate::regular_file::read(path)?;
        let after = std::fs::metadata(path)?;
        Ok(Reading::Content {
            before: stamp(&before),
            after: stamp(&after),
            bytes,
        })
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn send(&self, update: WatchUpdate) -> Result<(), Abandoned> {
        self.updates.send(update).map_err(|_| Abandoned)
    }
}

fn polling_after(error: &notify::Error) -> WatchMode {
    WatchMode::Polling {
        reason: format!("no notifications: {error}"),
    }
}

/// Whether a path is the directory or an answer file in it.
fn concerns(directory: &Path, path: &Path) -> bool {
    path == directory
        || (path.parent() == Some(directory)
            && path
                .file_name()
                .is_some_and(|name| is_answer_file(&name.to_string_lossy())))
}

fn stamp(metadata: &Metadata) -> Stamp {
    Stamp {
        inode: metadata.ino(),
        len: metadata.len(),
        modified_ns: i128::from(metadata.mtime()) * 1_000_000_000
            + i128::from(metadata.mtime_nsec()),
    }
}

fn age(metadata: &Metadata) -> Duration {
    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    // A time in the future comes from the clock of another machine and counts as now.
    SystemTime::now()
        .duration_since(modified)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
