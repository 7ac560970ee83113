//! The decisions of a watch, without I/O: they turn scans and readings with their times into updates.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::sync::Arc;
use std::time::Duration;

use super::{DirectoryCondition, FileUpdate, Timing, WatchUpdate};
use crate::score::names::epoch_of;
use crate::score::{AnswerSheet, Coverage, Fault, FileState, Labels};

/// Identifies a version of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Changes when a file is replaced by a rename.
    pub inode: u64,
    /// Bytes.
    pub len: u64,
    /// Modification time, nanoseconds since 1970.
    pub modified_ns: i128,
}

/// One answer file of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// File name without its directory.
    pub name: String,
    /// As of the scan.
    pub stamp: Stamp,
    /// The time since the file was last written to, by the clock of this machine.
    pub age: Duration,
}

/// The result of listing the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scan {
    /// Its answer files.
    Entries(Vec<Entry>),
    /// There is no such directory.
    Missing,
    /// It cannot be listed.
    Failed(String),
}

/// The result of reading a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// All bytes, with the stamps before and after.
    Content {
        /// Before the first byte was read.
        before: Stamp,
        /// After the last byte was read.
        after: Stamp,
        /// The content.
        bytes: Vec<u8>,
    },
    /// The file no longer exists.
    Vanished,
    /// The file is larger than the limit.
    TooLarge {
        /// Bytes.
        len: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The file cannot be read.
    Failed(String),
}

/// Everything known about the directory. Times are durations since a fixed moment and never go back.
#[derive(Debug)]
pub struct DirectoryState {
    labels: Arc<Labels>,
    timing: Timing,
    files: BTreeMap<String, Tracked>,
    condition: Option<DirectoryCondition>,
    last_scan: Duration,
    active_until: Duration,
}

#[derive(Debug)]
struct Tracked {
    /// As of the last scan or reading; `None` forces a reading at the next scan that finds the file.
    stamp: Option<Stamp>,
    next_read: Option<Duration>,
    retry: Duration,
    /// When an unfinished file becomes broken, unless it changes before.
    broken_at: Duration,
    /// Hash of the content that determined the state.
    content: Option<blake3::Hash>,
    state: FileState,
    revision: u32,
    good: Option<Good>,
    /// The state and revision of the last update.
    reported: Option<(FileState, u32)>,
}

#[derive(Clone, Debug)]
struct Good {
    content: blake3::Hash,
    answers: Arc<AnswerSheet>,
    coverage: Coverage,
}

impl DirectoryState {
    /// An empty state. A file is complete when it answers all of `labels`.
    pub fn new(labels: Arc<Labels>, timing: Timing) -> Self {
        Self {
            labels,
            timing,
            files: BTreeMap::new(),
            condition: None,
            last_scan: Duration::ZERO,
            active_until: Duration::ZERO,
        }
    }

    /// Applies a scan. [`Self::due`] has the files to read after it.
    pub fn scanned(&mut self, now: Duration, scan: Scan) -> Vec<WatchUpdate> {
        self.last_scan = now;
        let (condition, entries) = match scan {
            Scan::Entries(entries) => (DirectoryCondition::Present, Some(entries)),
            Scan::Missing => (DirectoryCondition::Missing, Some(Vec::new())),
            // Nothing is known about the files: their states stay unchanged.
            Scan::Failed(reason) => (DirectoryCondition::Unreadable(reason), None),
        };
        let mut updates = Vec::new();
        if self.condition.as_ref() != Some(&condition) {
            self.condition = Some(condition.clone());
            updates.push(WatchUpdate::Directory(condition));
        }
        if let Some(entries) = entries {
            updates.extend(self.mark_gone(&entries));
            for entry in entries {
                self.notice(now, entry);
            }
        }
        if !updates.is_empty() {
            self.active_until = now + self.timing.active_for;
        }
        updates
    }

    fn mark_gone(&mut self, entries: &[Entry]) -> Vec<WatchUpdate> {
        let is_listed = |name: &str| entries.iter().any(|entry| entry.name == name);
        let mut updates = Vec::new();
        for (name, file) in &mut self.files {
            if !is_listed(name) && file.state != FileState::Gone {
                file.state = FileState::Gone;
                file.stamp = None;
                file.next_read = None;
                updates.extend(file.update(name));
            }
        }
        updates
    }

    fn notice(&mut self, now: Duration, entry: Entry) {
        let timing = self.timing;
        match self.files.entry(entry.name) {
            Slot::Vacant(slot) => {
                slot.insert(Tracked {
                    stamp: Some(entry.stamp),
                    next_read: Some(now),
                    retry: timing.first_retry,
                    // Do not wait for a file that was left unfinished long ago.
                    broken_at: now + timing.quiet_limit.saturating_sub(entry.age),
                    content: None,
                    state: FileState::Pending {
                        reason: "not read yet".to_owned(),
                    },
                    revision: 0,
                    good: None,
                    reported: None,
                });
            }
            Slot::Occupied(mut slot) => {
                let file = slot.get_mut();
                if file.stamp != Some(entry.stamp) {
                    file.changed(now, entry.stamp, &timing);
                    file.next_read = Some(now);
                }
            }
        }
    }

    /// Ignores the stamps: every file is read at the next opportunity. For lost notifications and for a
    /// user who asks.
    pub fn rescan(&mut self, now: Duration) {
        for file in self.files.values_mut() {
            if file.state != FileState::Gone {
                file.next_read = Some(now);
            }
        }
    }

    /// The files to read now, in order of their names.
    pub fn due(&self, now: Duration) -> Vec<String> {
        let is_due = |file: &Tracked| file.next_read.is_some_and(|at| at <= now);
        self.files
            .iter()
            .filter(|(_, file)| is_due(file))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Applies the result of reading a file.
    pub fn read(&mut self, now: Duration, name: &str, reading: Reading) -> Option<WatchUpdate> {
        let timing = self.timing;
        let file = self.files.get_mut(name)?;
        file.next_read = None;
        match reading {
            // Deleted or moved: the next scan decides, and reads it again if it comes back with
            // the same stamp.
            Reading::Vanished => file.stamp = None,
            Reading::TooLarge { len, limit } => {
                file.state = FileState::Broken(Fault::new(format!(
                    "is too large: {len} bytes, the limit is {limit}"
                )));
                file.content = None;
            }
            Reading::Failed(reason) => {
                file.state = FileState::Broken(Fault::new(format!("cannot be read: {reason}")));
                file.content = None;
                file.next_read = Some(now + timing.longest_retry);
            }
            Reading::Content { before, after, .. } if before != after => {
                file.changed(now, after, &timing);
                file.wait(now, "changed while it was read".to_owned(), &timing);
            }
            Reading::Content { after, bytes, .. } => {
                // The scan and the reading can have seen different versions.
                if file.stamp != Some(after) {
                    file.changed(now, after, &timing);
                }
                file.decide(now, &bytes, &self.labels, &timing);
            }
        }
        let update = file.update(name);
        if update.is_some() {
            self.active_until = now + timing.active_for;
        }
        update
    }

    /// The number of pending files.
    pub fn pending(&self) -> usize {
        let is_pending = |file: &&Tracked| matches!(file.state, FileState::Pending { .. });
        self.files.values().filter(is_pending).count()
    }

    /// When to scan next, if no hint comes before.
    pub fn next_wake(&self, now: Duration) -> Duration {
        let is_active = now < self.active_until || self.pending() > 0;
        let heartbeat = if is_active {
            self.timing.active_heartbeat
        } else {
            self.timing.idle_heartbeat
        };
        let reads = self.files.values().filter_map(|file| file.next_read);
        reads.fold(self.last_scan + heartbeat, Duration::min)
    }
}

impl Tracked {
    fn changed(&mut self, now: Duration, stamp: Stamp, timing: &Timing) {
        self.stamp = Some(stamp);
        self.retry = timing.first_retry;
        self.broken_at = now + timing.quiet_limit;
    }

    /// Makes the file pending, to be read again after a wait that doubles each time.
    fn wait(&mut self, now: Duration, reason: String, timing: &Timing) {
        self.state = FileState::Pending { reason };
        self.content = None;
        self.next_read = Some((now + self.retry).min(self.broken_at));
        self.retry = (2 * self.retry).min(timing.longest_retry);
    }

    fn decide(&mut self, now: Duration, bytes: &[u8], labels: &Labels, timing: &Timing) {
        let content = blake3::hash(bytes);
        if self.content == Some(content) && self.state != FileState::Gone {
            return;
        }
        match AnswerSheet::parse(bytes) {
            Err(fault) if fault.ends_early && now < self.broken_at => {
                self.wait(now, format!("still being written: {fault}"), timing);
                return;
            }
            Err(fault) => self.state = FileState::Broken(fault),
            Ok(answers) => {
                let coverage = answers.join(labels).coverage;
                self.state = if coverage.is_complete() {
                    FileState::Complete
                } else {
                    FileState::Partial
                };
                if self.good.as_ref().map(|good| good.content) != Some(content) {
                    self.revision += 1;
                    self.good = Some(Good {
                        content,
                        answers: Arc::new(answers),
                        coverage,
                    });
                }
            }
        }
        self.content = Some(content);
        self.next_read = Some(now + timing.confirm_after);
    }

    /// The update, if there is something new.
    fn update(&mut self, name: &str) -> Option<WatchUpdate> {
        let current = (self.state.clone(), self.revision);
        if self.reported.as_ref() == Some(&current) {
            return None;
        }
        self.reported = Some(current);
        Some(WatchUpdate::File(FileUpdate {
            name: name.to_owned(),
            epoch: epoch_of(name),
            state: self.state.clone(),
            revision: self.revision,
            answers: self.good.as_ref().map(|good| Arc::clone(&good.answers)),
            coverage: self.good.as_ref().map(|good| good.coverage.clone()),
        }))
    }
}

#[cfg(test)]
mod tests;
