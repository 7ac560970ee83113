//! The answer files of the open run, ranked as they appear.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use moim_core::score::Leaderboard;
use moim_core::watch::{DirectoryCondition, WatchMode};

/// The ranked list so far.
#[derive(Debug, Default)]
pub struct Ranking {
    /// The folder of the answer files.
    pub directory: PathBuf,
    /// Every file, the best first; `None` until the directory has been read once.
    pub board: Option<Arc<Leaderboard>>,
    /// Good versions read of each file; from 2 on it was updated.
    pub revisions: BTreeMap<String, u32>,
    /// Files that are being scored, as text.
    pub scoring: Option<String>,
    /// Whether the directory can be listed.
    pub condition: Option<DirectoryCondition>,
    /// How changes are noticed.
    pub mode: Option<WatchMode>,
    /// Why there is no list, e.g. labels that cannot be read.
    pub problem: Option<String>,
}

/// Changes of the answer files. Fields that are `None` have not changed.
#[derive(Debug, Default)]
pub struct RankingUpdate {
    /// The run they belong to.
    pub run: PathBuf,
    pub directory: Option<PathBuf>,
    pub board: Option<Arc<Leaderboard>>,
    pub revisions: Option<BTreeMap<String, u32>>,
    pub scoring: Option<Option<String>>,
    pub condition: Option<DirectoryCondition>,
    pub mode: Option<WatchMode>,
    pub problem: Option<Option<String>>,
}

impl Ranking {
    /// Applies an update.
    pub fn apply(&mut self, update: RankingUpdate) {
        if let Some(directory) = update.directory {
            self.directory = directory;
        }
        if let Some(board) = update.board {
            self.board = Some(board);
        }
        if let Some(revisions) = update.revisions {
            self.revisions = revisions;
        }
        if let Some(scoring) = update.scoring {
            self.scoring = scoring;
        }
        if let Some(condition) = update.condition {
            self.condition = Some(condition);
        }
        if let Some(mode) = update.mode {
            self.mode = Some(mode);
        }
        if let Some(problem) = update.problem {
            self.problem = problem;
        }
    }
}
