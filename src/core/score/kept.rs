//! Cached scores of runs, read without an encoder.
//!
//! The terminal UI, which loads no encoder, can still show the scores of a run. Answers and labels
//! are checked by their hashes, the settings by their text. Of the encoder, the name is checked, and
//! that the same one scored all files. A file without valid scores must be scored by
//! [`rank`](super::rank()).

use std::path::Path;

use anyhow::Result;

use super::answers::AnswerSheet;
use super::average::Averaging;
use super::file::{FileState, ScoredFile};
use super::labels::Labels;
use super::leaderboard::{Leaderboard, Provenance};
use super::rank::{Listing, RankError, answers_directory, cache_of};
use super::scorer::{broken, file_name, labelled, order_fault, read_sheet, scored};
use super::statistics::Resampling;
use crate::experiment::{BertScoreSection, Experiment};
use crate::metric::{MetricSettings, Metrics};

/// Reads the cached scores of runs for the settings of one experiment.
#[derive(Clone, Debug)]
pub struct KeptScores {
    /// The fingerprint of the settings without the encoder's part at its end.
    wanted: String,
    averaging: Averaging,
    rouge_tokenizer: String,
    encoder: String,
    /// The whole fingerprint, from the first file that was read.
    settings: Option<String>,
}

impl KeptScores {
    /// For the settings of an experiment, optionally in contest mode.
    ///
    /// # Errors
    /// A format pattern or a mecab dictionary that cannot be used.
    pub fn new(experiment: &Experiment, is_contest: bool) -> Result<Self> {
        let settings = MetricSettings {
            contest: is_contest,
            ..MetricSettings::from(&experiment.reward)
        };
        let without_encoder = Metrics::new(settings, None)?;
        let fingerprint = without_encoder.fingerprint();
        Ok(Self {
            wanted: fingerprint
                .strip_suffix("none")
                .unwrap_or(fingerprint)
                .to_owned(),
            averaging: if is_contest {
                Averaging::Contest
            } else {
                Averaging::AllItems
            },
            rouge_tokenizer: experiment.reward.rouge_tokenizer.to_string(),
            encoder: encoder_name(&experiment.bertscore),
            settings: None,
        })
    }

    /// How means are computed.
    pub fn averaging(&self) -> Averaging {
        self.averaging
    }

    /// The header of the numbers. The fingerprint is empty until a file has been read.
    pub fn provenance(&self, labels: &Labels) -> Provenance {
        Provenance {
            averaging: self.averaging,
            labels: labels.shown_path(),
            items: labels.items().len(),
            rouge_tokenizer: self.rouge_tokenizer.clone(),
            encoder: self.encoder.clone(),
            settings: self.settings.clone().unwrap_or_default(),
        }
    }

    /// The scores of the answers at `path`, `infer_results/FILE` of a run; `None` if no scores are
    /// cached for these answers, labels and settings.
    pub fn score(
        &mut self,
        path: &Path,
        sheet: &AnswerSheet,
        labels: &Labels,
    ) -> Option<ScoredFile> {
        let file = file_name(path);
        let join = sheet.join(labels);
        if let Some(fault) = order_fault(sheet, &join, labels, self.averaging) {
            return Some(broken(&file, join.coverage, fault));
        }
        let kept = cache_of(path.parent()?)?.read(&file)?;
        let settings = kept.key.settings;
        let is_wanted = kept.key.answers == sheet.fingerprint()
            && kept.key.labels == labels.fingerprint()
            && settings.starts_with(&self.wanted)
            && kept.encoder.is_none_or(|encoder| encoder == self.encoder)
            && self.settings.as_ref().is_none_or(|all| *all == settings);
        if !is_wanted {
            return None;
        }
        let items = labelled(kept.items, &join.texts, labels)?;
        self.settings = Some(settings);
        Some(scored(&file, join.coverage, items))
    }

    /// Ranks a directory of answers as [`rank`](super::rank()) does, but only with cached scores. A
    /// file without them is pending.
    ///
    /// # Errors
    /// The directory cannot be listed or contains no answer file.
    pub fn rank(
        &mut self,
        directory: &Path,
        labels: &Labels,
        resampling: Resampling,
    ) -> Result<Leaderboard, RankError> {
        // The run may have been scored by another encoder since the last time.
        self.settings = None;
        let answers = answers_directory(directory);
        let listing = Listing::of(&answers, labels.path())?;
        let mut files = Vec::with_capacity(listing.answers.len());
        for file in &listing.answers {
            let path = answers.join(file);
            files.push(match read_sheet(&path) {
                Ok(sheet) => self
                    .score(&path, &sheet, labels)
                    .unwrap_or_else(|| unscored(file, directory, &sheet, labels)),
                Err(state) => ScoredFile::unscored(file, state),
            });
        }
        let mut leaderboard = Leaderboard::new(files, self.provenance(labels), resampling);
        leaderboard.notes = listing.notes;
        Ok(leaderboard)
    }
}

/// A file that was read and has no cached scores.
fn unscored(file: &str, directory: &Path, sheet: &AnswerSheet, labels: &Labels) -> ScoredFile {
    let reason = format!(
        "not scored yet; moim rank {} scores it",
        directory.display()
    );
    ScoredFile {
        coverage: Some(sheet.join(labels).coverage),
        ..ScoredFile::unscored(file, FileState::Pending { reason })
    }
}

/// The name of an experiment's BERTScore encoder in reports.
pub fn encoder_name(section: &BertScoreSection) -> String {
    let Some(model) = &section.model else {
        return "none".to_owned();
    };
    let name = model.file_name().map_or_else(
        || model.display().to_string(),
        |name| name.to_string_lossy().into_owned(),
    );
    match section.num_layers {
        Some(layer) => format!("{name} layer {layer}"),
        None => name,
    }
}

#[cfg(test)]
mod tests;
