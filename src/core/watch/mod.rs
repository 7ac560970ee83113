//! Watches a directory of answer files: which files exist, and whether each is pending, partial,
//! complete, broken, updated or gone.
//!
//! Notifications of the operating system are only hints. A scan of the directory decides, by inode,
//! length and time stamp, and finally by the hash of the content. It runs on every hint and
//! periodically, so that lost notifications, network file systems and a directory that is deleted and
//! recreated cost seconds but never an answer.
//!
//! - [`DirectoryState`] decides; it does no I/O and receives the time as an argument.
//! - [`Watcher`] is the thin thread that scans, reads and sends [`WatchUpdate`]s.
//! - [`LiveRanking`] turns updates into a leaderboard.
//! - [`filesystem`] knows file systems without notifications.

pub mod filesystem;
mod hints;
mod ranking;
mod state;
mod thread;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

pub use crate::score::FileState;
use crate::score::{AnswerSheet, Coverage};
pub use hints::{Hint, Hints};
pub use ranking::LiveRanking;
pub use state::{DirectoryState, Entry, Reading, Scan, Stamp};
pub use thread::{WatchOptions, Watcher};

/// A change of a watched directory.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchUpdate {
    /// A file appeared or changed its state or content.
    File(FileUpdate),
    /// The directory itself appeared, vanished or cannot be listed.
    Directory(DirectoryCondition),
    /// How changes are noticed from now on.
    Mode(WatchMode),
    /// All changes of a scan have been sent: a good moment to rank. Sent after the first scan, and after
    /// each later one that found a change.
    Settled {
        /// Files that are still pending.
        pending: usize,
    },
}

/// A change of one file.
#[derive(Clone, Debug, PartialEq)]
pub struct FileUpdate {
    /// File name without its directory.
    pub name: String,
    /// The epoch in the name, if any.
    pub epoch: Option<u64>,
    /// The file's state.
    pub state: FileState,
    /// Number of good versions read so far; from 2 on the file was *updated*.
    pub revision: u32,
    /// The last good version; it stays while the file is rewritten, after it
    /// breaks and after it is deleted.
    pub answers: Option<Arc<AnswerSheet>>,
    /// How that version covers the labels.
    pub coverage: Option<Coverage>,
}

impl FileUpdate {
    /// Whether an earlier good version has been replaced by another.
    pub fn is_updated(&self) -> bool {
        self.revision > 1
    }
}

/// Whether the directory can be listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DirectoryCondition {
    /// It exists.
    Present,
    /// It does not exist (yet, or no longer).
    Missing,
    /// It exists, but listing it fails for this reason.
    Unreadable(String),
}

/// How changes are noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WatchMode {
    /// By notifications, with periodic scans in addition.
    Events,
    /// Only by scanning.
    Polling {
        /// Why there are no notifications.
        reason: String,
    },
}

/// The times of a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Scan at least this often while something changes. Default 2 s.
    pub active_heartbeat: Duration,
    /// Scan at least this often while nothing does. Default 10 s.
    pub idle_heartbeat: Duration,
    /// The time after a change during which a directory counts as active. Default 60 s.
    pub active_for: Duration,
    /// The time to gather hints before scanning. Default 200 ms.
    pub coalesce: Duration,
    /// First wait before an unfinished file is read again. Default 50 ms; it
    /// doubles up to `longest_retry`.
    pub first_retry: Duration,
    /// Longest wait between two readings of an unfinished file. Default 2 s.
    pub longest_retry: Duration,
    /// The time without a change after which an unfinished file is broken. Default 30 s.
    pub quiet_limit: Duration,
    /// The time after which new content is read again: file systems with coarse time stamps hide a
    /// second write of the same length. Default 3 s.
    pub confirm_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            active_heartbeat: Duration::from_secs(2),
            idle_heartbeat: Duration::from_secs(10),
            active_for: Duration::from_secs(60),
            coalesce: Duration::from_millis(200),
            first_retry: Duration::from_millis(50),
            longest_retry: Duration::from_secs(2),
            quiet_limit: crate::score::scorer::WRITING_GRACE,
            confirm_after: Duration::from_secs(3),
        }
    }
}
