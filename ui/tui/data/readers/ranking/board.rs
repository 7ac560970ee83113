//! The scores of watched files, as far as they are kept.

use std::collections::BTreeMap;
use std::path::Path;

use moim_core::score::{FileState, Provenance, ScoredFile};
use moim_core::watch::FileUpdate;

use super::super::scores::RunScores;

/// Every file with its scores.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub files: Vec<ScoredFile>,
    /// What the scores are made of; `None` before anything was read.
    pub provenance: Option<Provenance>,
    /// Names and revisions of files that can be scored and are not.
    pub unscored: BTreeMap<String, u32>,
}

/// Looks up the scores of each file.
pub(super) fn rank(
    directory: &Path,
    files: &BTreeMap<String, FileUpdate>,
    scores: &RunScores,
) -> Board {
    // The run may have been scored by another encoder since the last time, so nothing of the
    // last time is kept.
    let mut kept = scores.kept.clone();
    let mut board = Board::default();
    for (name, update) in files {
        let found = update
            .answers
            .as_ref()
            .and_then(|sheet| kept.score(&directory.join(name), sheet, &scores.labels));
        let was_read = matches!(update.state, FileState::Complete | FileState::Partial);
        let scored = match found {
            Some(scored) if was_read => scored,
            // The last good version is what is scored.
            Some(scored) => ScoredFile {
                state: update.state.clone(),
                ..scored
            },
            None => {
                if was_read {
                    board.unscored.insert(name.clone(), update.revision);
                }
                ScoredFile {
                    coverage: update.coverage.clone(),
                    ..ScoredFile::unscored(name, update.state.clone())
                }
            }
        };
        board.files.push(scored);
    }
    board.provenance = Some(kept.provenance(&scores.labels));
    board
}
