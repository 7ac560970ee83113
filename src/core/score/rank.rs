//! Ranks a directory of answer files.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::cache::ScoreCache;
use super::leaderboard::Leaderboard;
use super::names::{is_answer_file, natural_order};
use super::scorer::Scorer;
use super::statistics::Resampling;

/// Why a directory cannot be ranked.
#[derive(Debug, Error)]
pub enum RankError {
    /// The directory cannot be listed.
    #[error("cannot list {}: {source}", directory.display())]
    Unreadable {
        /// The directory.
        directory: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// There is nothing to rank.
    #[error(
        "no answer file in {}: expected inference_epoch{{E}}.json or any other *.json",
        directory.display()
    )]
    NothingFound {
        /// The directory.
        directory: PathBuf,
    },
    /// The metrics failed.
    #[error(transparent)]
    Scoring(#[from] anyhow::Error),
}

/// The progress of ranking a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RankProgress<'file> {
    /// The file that is scored next; empty at the end.
    pub file: &'file str,
    /// Files done.
    pub done: usize,
    /// The total number of files.
    pub total: usize,
}

/// The directory with the answers: `infer_results` of a run directory, else the directory itself.
pub fn answers_directory(directory: &Path) -> PathBuf {
    let inner = directory.join("infer_results");
    if inner.is_dir() {
        inner
    } else {
        directory.to_owned()
    }
}

/// The run that these answers belong to: the folder of their `infer_results`, if it has an
/// `experiment.toml`.
pub fn run_of(answers: &Path) -> Option<PathBuf> {
    if answers.file_name()? != "infer_results" {
        return None;
    }
    let run = match answers.parent()? {
        parent if parent.as_os_str().is_empty() => Path::new("."),
        parent => parent,
    };
    run.join("experiment.toml")
        .is_file()
        .then(|| run.to_owned())
}

/// The cache of these answers' scores: `scores` next to the `infer_results` of a run directory.
/// Outside of a run nothing is cached.
pub fn cache_of(answers: &Path) -> Option<ScoreCache> {
    Some(ScoreCache::new(run_of(answers)?.join("scores")))
}

/// The names of the answer files of a directory (see [`answers_directory`]) in natural order, without
/// the label file and hidden or temporary files.
///
/// # Errors
/// The directory cannot be listed or contains no answer file.
pub fn answer_files(directory: &Path, labels: Option<&Path>) -> Result<Vec<String>, RankError> {
    Ok(Listing::of(&answers_directory(directory), labels)?.answers)
}

/// Scores and ranks every answer file of a directory (see [`answers_directory`]) and calls `progress`
/// before each file.
///
/// # Errors
/// The directory cannot be listed or contains no answer file, or the encoder fails. A file that cannot
/// be read is listed as broken and is not an error.
pub fn rank(
    directory: &Path,
    scorer: &mut Scorer<'_>,
    resampling: Resampling,
    progress: &mut dyn FnMut(RankProgress<'_>),
) -> Result<Leaderboard, RankError> {
    let directory = answers_directory(directory);
    let listing = Listing::of(&directory, scorer.labels().path())?;
    let total = listing.answers.len();
    let mut files = Vec::with_capacity(total);
    for (done, file) in listing.answers.iter().enumerate() {
        progress(RankProgress { file, done, total });
        files.push(scorer.score_path(&directory.join(file))?);
    }
    progress(RankProgress {
        file: "",
        done: total,
        total,
    });
    let mut leaderboard = Leaderboard::new(files, scorer.provenance(), resampling);
    leaderboard.notes = listing.notes;
    leaderboard.notes.extend(scorer.take_warnings());
    Ok(leaderboard)
}

/// The answer files of a directory, at least one, with notes about files that were left out.
pub(super) struct Listing {
    pub answers: Vec<String>,
    pub notes: Vec<String>,
}

impl Listing {
    pub fn of(directory: &Path, labels: Option<&Path>) -> Result<Self, RankError> {
        let listing = Self::read(directory, labels).map_err(|source| RankError::Unreadable {
            directory: directory.to_owned(),
            source,
        })?;
        if listing.answers.is_empty() {
            return Err(RankError::NothingFound {
                directory: directory.to_owned(),
            });
        }
        Ok(listing)
    }

    fn read(directory: &Path, labels: Option<&Path>) -> io::Result<Self> {
        let labels = labels.and_then(|path| path.canonicalize().ok());
        let (mut answers, mut notes, mut unpublished) = (Vec::new(), Vec::new(), Vec::new());
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_dir() {
                continue;
            }
            if !is_answer_file(&name) {
                if name.contains(".json") {
                    unpublished.push(name);
                }
            } else if labels.is_some() && entry.path().canonicalize().ok() == labels {
                notes.push(format!("{name} is the label file and is not ranked"));
            } else {
                answers.push(name);
            }
        }
        answers.sort_by(|left, right| natural_order(left, right));
        unpublished.sort_by(|left, right| natural_order(left, right));
        if !unpublished.is_empty() {
            notes.push(format!(
                "temporary or hidden, not ranked: {}",
                unpublished.join(", ")
            ));
        }
        Ok(Self { answers, notes })
    }
}

#[cfg(test)]
mod tests;
