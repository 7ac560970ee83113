//! Scoring answer files against labels, one file at a time.

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

/// How long a file that ends early may have been quiet and still count as being
/// written.
pub const WRITING_GRACE: Duration = Duration::from_secs(30);

/// Scores answer files against one set of labels.
///
/// Borrows the metrics, so that a trainer scores its epochs with the encoder
/// that its rewards have loaded already.
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
    /// `encoder` names the BERTScore encoder and layer in reports. The contest's
    /// way is taken where the metrics were made for it.
    ///
    /// # Errors
    /// Without an encoder: BERTScore is a third of the Final Mean, and a made-up
    /// zero would rank by something else.
    pub fn new(labels: &'run Labels, metrics: &'run mut Metrics, encoder: &str) -> Result<Self> {
        if !metrics.has_reason_scorer() {
            bail!(
                "no BERTScore encoder is configured, and the Final Mean needs one: give \
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

    /// Keeps per-item scores in a directory and takes them from there.
    #[must_use]
    pub fn with_cache(mut self, cache: ScoreCache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// The labels scored against.
    pub fn labels(&self) -> &'run Labels {
        self.labels
    }

    /// What to print above the numbers.
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

    /// What went wrong without touching the numbers (scores that could not be
    /// kept), emptied by the call.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Scores answers that have been read already. `file` is the name without
    /// its directory.
    ///
    /// # Errors
    /// If the encoder fails. Faults of the answers are no error but a state.
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
                // As the next process will read them: from text to f64 the last place of a number may
                // change, and a run that was resumed is to give the same scores.
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
                .push(format!("{error:#}; the scores themselves are fine"));
        }
    }

    /// Reads and scores one answer file. What is wrong with the file becomes its
    /// state: one that ends early and was written to within [`WRITING_GRACE`] is
    /// pending, any other that cannot be read is broken.
    ///
    /// # Errors
    /// If the encoder fails.
    pub fn score_path(&mut self, path: &Path) -> Result<ScoredFile> {
        let file = file_name(path);
        match read_sheet(path) {
            Ok(sheet) => self.score(&file, &sheet),
            Err(state) => Ok(ScoredFile::unscored(&file, state)),
        }
    }
}

/// The answers of a file, or the state of one that cannot be read now: pending
/// where it ends early and was written to within [`WRITING_GRACE`], else broken.
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

/// What keeps complete answers from being scored in the contest's way.
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

/// Kept items with the types of these labels; `None` unless they are exactly the
/// answered items.
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

/// A file that was read and cannot be scored.
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
        // A time stamp in the future is a clock that differs, hence fresh.
        SystemTime::now()
            .duration_since(modified)
            .map_or(true, |age| age < WRITING_GRACE)
    })
}
