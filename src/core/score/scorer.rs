//! Scores answer files against labels, one file at a time.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

use super::answers::{AnswerSheet, Coverage, Fault, Join};
use super::average::Averaging;
use super::cache::{CacheKey, ScoreCache};
use super::contest;
use super::file::{FileState, ScoredFile, ScoredItem};
use super::labels::Labels;
use super::leaderboard::Provenance;
use crate::metric::Metrics;

/// A truncated file that was written to within this time counts as being written.
pub const WRITING_GRACE: Duration = Duration::from_secs(30);

/// Scores answer files against one set of labels.
///
/// Borrows the metrics, so that a trainer can score its epochs with the encoder that its rewards have
/// already loaded.
#[derive(Debug)]
pub struct Scorer<'run> {
    labels: &'run Labels,
    metrics: &'run mut Metrics,
    encoder: String,
    averaging: Averaging,
    cache: Option<ScoreCache>,
    warnings: Vec<String>,
}

impl<'run> Scorer<'run> {
    /// `encoder` is the name of the BERTScore encoder and layer in reports. Uses contest mode if the
    /// metrics were made for it.
    ///
    /// # Errors
    /// There is no encoder: BERTScore is a third of the Final Mean, and a zero instead would rank by
    /// something else.
    pub fn new(labels: &'run Labels, metrics: &'run mut Metrics, encoder: &str) -> Result<Self> {
        if !metrics.has_reason_scorer() {
            bail!(
                "no BERTScore encoder is configured, but the Final Mean needs one: give \
                 --encoder DIR [--layer N], or an experiment with [bertscore] model"
            );
        }
        let averaging = if metrics.settings().contest {
            Averaging::Contest
        } else {
            Averaging::AllItems
        };
        Ok(Self {
            labels,
            metrics,
            encoder: encoder.to_owned(),
            averaging,
            cache: None,
            warnings: Vec::new(),
        })
    }

    /// Caches per-item scores in a directory.
    #[must_use]
    pub fn with_cache(mut self, cache: ScoreCache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// The labels.
    pub fn labels(&self) -> &'run Labels {
        self.labels
    }

    /// The header of the numbers.
    pub fn provenance(&self) -> Provenance {
        Provenance {
            averaging: self.averaging,
            labels: self.labels.shown_path(),
            items: self.labels.items().len(),
            rouge_tokenizer: self.metrics.settings().rouge_tokenizer.to_string(),
            encoder: self.encoder.clone(),
            settings: self.metrics.fingerprint().to_owned(),
        }
    }

    /// Returns and clears the warnings about problems that do not affect the numbers (scores that could
    /// not be cached).
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Scores answers that have already been read. `file` is the name without its directory.
    ///
    /// # Errors
    /// The encoder fails. Faults of the answers are not errors; they become the file's state.
    pub fn score(&mut self, file: &str, sheet: &AnswerSheet) -> Result<ScoredFile> {
        let join = sheet.join(self.labels);
        if let Some(fault) = order_fault(sheet, &join, self.labels, self.averaging) {
            return Ok(broken(file, join.coverage, fault));
        }
        let key = CacheKey {
            answers: sheet.fingerprint().to_owned(),
            labels: self.labels.fingerprint().to_owned(),
            settings: self.metrics.fingerprint().to_owned(),
        };
        let kept = self.cache.as_ref().and_then(|cache| cache.load(file, &key));
        let items = match kept.and_then(|items| labelled(items, &join.texts, self.labels)) {
            Some(items) => items,
            None => {
                let items = self
                    .score_items(&join.texts)
                    .with_context(|| format!("scoring {file}"))?;
                self.keep(file, &key, &items);
                // Read them back as the next process will: the last digit of a number can change
                // between f64 and text, and a resumed run must give the same scores.
                let kept = self.cache.as_ref().and_then(|cache| cache.load(file, &key));
                kept.and_then(|items| labelled(items, &join.texts, self.labels))
                    .unwrap_or(items)
            }
        };
        Ok(scored(file, join.coverage, items))
    }

    fn score_items(&mut self, texts: &[Option<&str>]) -> Result<Vec<ScoredItem>> {
        let labels = self.labels.items();
        let answered = || {
            let pairs = texts.iter().zip(labels);
            pairs.filter_map(|(text, label)| Some(((*text)?, label)))
        };
        let pairs: Vec<(&str, &str)> = answered()
            .map(|(text, label)| (text, label.answer.as_str()))
            .collect();
        let scores = self.metrics.score(&pairs)?;
        Ok(answered()
            .zip(scores)
            .map(|((_, label), scores)| ScoredItem {
                id: label.id.clone(),
                question_type: label.question_type.clone(),
                scores,
            })
            .collect())
    }

    fn keep(&mut self, file: &str, key: &CacheKey, items: &[ScoredItem]) {
        if let Some(cache) = &self.cache
            && let Err(error) = cache.store(file, key, &self.encoder, items)
        {
            self.warnings
                .push(format!("{error:#}; the scores themselves are correct"));
        }
    }

    /// Reads and scores one answer file. A problem with the file becomes its state: a truncated file
    /// that was written to within [`WRITING_GRACE`] is pending, any other unreadable file is broken.
    ///
    /// # Errors
    /// The encoder fails.
    pub fn score_path(&mut self, path: &Path) -> Result<ScoredFile> {
        let file = file_name(path);
        match read_sheet(path) {
            Ok(sheet) => self.score(&file, &sheet),
            Err(state) => Ok(ScoredFile::unscored(&file, state)),
        }
    }
}

/// The answers of a file, or its state if it cannot be read now: pending if it is truncated and was
/// written to within [`WRITING_GRACE`], else broken.
pub(super) fn read_sheet(path: &Path) -> Result<AnswerSheet, FileState> {
    let bytes = crate::regular_file::read(path)
        .map_err(|error| FileState::Broken(Fault::new(format!("cannot be read: {error}"))))?;
    AnswerSheet::parse(&bytes).map_err(|fault| {
        if fault.ends_early && is_fresh(path) {
            let reason = format!("still being written: {fault}");
            FileState::Pending { reason }
        } else {
            FileState::Broken(fault)
        }
    })
}

/// The fault that prevents complete answers from being scored in contest mode.
pub(super) fn order_fault(
    sheet: &AnswerSheet,
    join: &Join<'_>,
    labels: &Labels,
    averaging: Averaging,
) -> Option<Fault> {
    if averaging != Averaging::Contest || !join.coverage.is_complete() {
        return None;
    }
    contest::check_positions(sheet, labels).err()
}

/// Cached items with the types of these labels; `None` unless they are exactly the answered items.
pub(super) fn labelled(
    items: Vec<ScoredItem>,
    texts: &[Option<&str>],
    labels: &Labels,
) -> Option<Vec<ScoredItem>> {
    let labels = texts.iter().zip(labels.items());
    let answered: Vec<_> = labels.filter(|(text, _)| text.is_some()).collect();
    if items.len() != answered.len() {
        return None;
    }
    let pairs = items.into_iter().zip(answered);
    pairs
        .map(|(item, (_, label))| {
            (item.id == label.id).then(|| ScoredItem {
                question_type: label.question_type.clone(),
                ..item
            })
        })
        .collect()
}

/// A file with its scores.
pub(super) fn scored(file: &str, coverage: Coverage, items: Vec<ScoredItem>) -> ScoredFile {
    let state = if coverage.is_complete() {
        FileState::Complete
    } else {
        FileState::Partial
    };
    ScoredFile {
        coverage: Some(coverage),
        items,
        ..ScoredFile::unscored(file, state)
    }
}

/// A file that was read but cannot be scored.
pub(super) fn broken(file: &str, coverage: Coverage, fault: Fault) -> ScoredFile {
    ScoredFile {
        coverage: Some(coverage),
        ..ScoredFile::unscored(file, FileState::Broken(fault))
    }
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn is_fresh(path: &Path) -> bool {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.is_ok_and(|modified| {
        // A time stamp in the future comes from a different clock and counts as fresh.
        SystemTime::now()
            .duration_since(modified)
            .map_or(true, |age| age < WRITING_GRACE)
    })
}
