//! A directory of answer files, watched: which files are there, and whether each
//! is pending, partial, complete, broken, updated or gone.
//!
//! Notifications of the operating system are only hints. The truth is a scan of
//! the directory, keyed by inode, length and time stamp, and in the end by the
//! hash of the content; it runs on every hint and on a heartbeat, so that lost
//! notifications, network file systems and a directory that is deleted and made
//! again cost seconds and never an answer.
//!
//! - [`DirectoryState`] decides; it does no I/O and is told the time.
//! - [`Watcher`] is the thin thread that scans, reads and sends [`WatchUpdate`]s.
//! - [`LiveRanking`] turns updates into a leaderboard.
//! - [`filesystem`] knows where notifications do not arrive.

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

/// One thing a watched directory has to tell.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchUpdate {
    /// A file appeared or changed its state or content.
    File(FileUpdate),
    /// The directory itself appeared, vanished or cannot be listed.
    Directory(DirectoryCondition),
    /// How changes are noticed from now on.
    Mode(WatchMode),
    /// Everything that a scan found has been told: a good moment to rank. Sent
    /// after the first scan, and after each later one that told something.
    Settled {
        /// Files still waited for.
        pending: usize,
    },
}

/// The news of one file.
#[derive(Clone, Debug, PartialEq)]
pub struct FileUpdate {
    /// File name without its directory.
    pub name: String,
    /// The epoch in the name, if any.
    pub epoch: Option<u64>,
    /// Where the file stands.
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
    /// It is there.
    Present,
    /// It is not there (yet, or any more).
    Missing,
    /// It is there, and listing it fails for this reason.
    Unreadable(String),
}

/// How changes are noticed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WatchMode {
    /// By notifications, with a heartbeat scan behind them.
    Events,
    /// By scanning alone.
    Polling {
        /// Why there are no notifications.
        reason: String,
    },
}

/// The times a watch goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Scan at least this often while something changes. Default 2 s.
    pub active_heartbeat: Duration,
    /// Scan at least this often while nothing does. Default 10 s.
    pub idle_heartbeat: Duration,
    /// How long after a change a directory counts as active. Default 60 s.
    pub active_for: Duration,
    /// How long to gather hints before scanning. Default 200 ms.
    pub coalesce: Duration,
    /// First wait before an unfinished file is read again. Default 50 ms; it
    /// doubles up to `longest_retry`.
    pub first_retry: Duration,
    /// Longest wait between two readings of an unfinished file. Default 2 s.
    pub longest_retry: Duration,
    /// How long an unfinished file may be quiet before it is broken.
    /// Default 30 s.
    pub quiet_limit: Duration,
    /// When a new content is read once more: file systems with coarse time
    /// stamps hide a second write of the same length. Default 3 s.
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
