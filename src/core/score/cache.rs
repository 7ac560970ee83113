//! Per-item scores cached in a run: `scores/inference_epoch{E}.json`.
//!
//! A cached file is used only if the answers, the labels and the settings are still those it was
//! made from. Otherwise, or if the file is damaged, the scores are recomputed and it is overwritten.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::file::ScoredItem;
use crate::metric::ItemScores;
use crate::run::publish;

/// Version of the file format.
const VERSION: u32 = 1;

/// A directory of cached scores.
#[derive(Clone, Debug)]
pub struct ScoreCache {
    directory: PathBuf,
}

/// Everything that scores depend on: the blake3 of the answers and of the labels, and the
/// fingerprint of metric settings and encoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheKey {
    /// [`AnswerSheet::fingerprint`](super::AnswerSheet::fingerprint).
    pub answers: String,
    /// [`Labels::fingerprint`](super::Labels::fingerprint).
    pub labels: String,
    /// [`Metrics::fingerprint`](crate::metric::Metrics::fingerprint).
    pub settings: String,
}

/// One file of cached scores.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptFile {
    /// What the scores were made from.
    pub key: CacheKey,
    /// The encoder's name in reports; `None` in files of older releases.
    pub encoder: Option<String>,
    /// Scores of the answered items.
    pub items: Vec<ScoredItem>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    v: u32,
    #[serde(flatten)]
    key: CacheKey,
    #[serde(default)]
    encoder: Option<String>,
    items: Vec<KeptItem>,
}

#[derive(Serialize, Deserialize)]
struct KeptItem {
    id: String,
    question_type: String,
    format: f64,
    exact_match: f64,
    rouge1: f64,
    bertscore: f64,
    reason_missing: bool,
}

impl ScoreCache {
    /// A cache in `directory`, which is created when first written to.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// The path of the scores of an answer file with this name.
    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    /// The scores cached under this name, whatever they were made from.
    pub fn read(&self, file: &str) -> Option<KeptFile> {
        let bytes = crate::regular_file::read(&self.path(file)).ok()?;
        let kept: Kept = serde_json::from_slice(&bytes).ok()?;
        (kept.v == VERSION).then(|| KeptFile {
            key: kept.key,
            encoder: kept.encoder,
            items: kept.items.into_iter().map(ScoredItem::from).collect(),
        })
    }

    /// The cached scores, if they were made from exactly `key`.
    pub fn load(&self, file: &str, key: &CacheKey) -> Option<Vec<ScoredItem>> {
        let kept = self.read(file)?;
        (kept.key == *key).then_some(kept.items)
    }

    /// Publishes the scores of an answer file. `encoder` is the encoder's name, for readers that do
    /// not load it.
    ///
    /// # Errors
    /// The directory cannot be created or the file cannot be written.
    pub fn store(
        &self,
        file: &str,
        key: &CacheKey,
        encoder: &str,
        items: &[ScoredItem],
    ) -> Result<()> {
        create_directory(&self.directory)?;
        let kept = Kept {
            v: VERSION,
            key: key.clone(),
            encoder: Some(encoder.to_owned()),
            items: items.iter().map(KeptItem::from).collect(),
        };
        let path = self.path(file);
        let mut bytes = serde_json::to_vec_pretty(&kept)
            .with_context(|| format!("writing scores as JSON for {}", path.display()))?;
        bytes.push(b'\n');
        publish(&path, &bytes).with_context(|| format!("keeping scores in {}", path.display()))
    }
}

fn create_directory(directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("creating the score directory {}", directory.display()))
}

impl From<&ScoredItem> for KeptItem {
    fn from(item: &ScoredItem) -> Self {
        let scores = item.scores;
        Self {
            id: item.id.clone(),
            question_type: item.question_type.clone(),
            format: scores.format,
            exact_match: scores.exact_match,
            rouge1: scores.rouge1,
            bertscore: scores.bertscore,
            reason_missing: scores.reason_missing,
        }
    }
}

impl From<KeptItem> for ScoredItem {
    fn from(item: KeptItem) -> Self {
        Self {
            id: item.id,
            question_type: item.question_type,
            scores: ItemScores {
                format: item.format,
                exact_match: item.exact_match,
                rouge1: item.rouge1,
                bertscore: item.bertscore,
                reason_missing: item.reason_missing,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(answers: &str) -> CacheKey {
        CacheKey {
            answers: answers.to_owned(),
            labels: "labels".to_owned(),
            settings: "settings".to_owned(),
        }
    }

    #[test]
    fn scores_are_returned_only_for_the_same_key_and_a_whole_file() {
        let directory = tempfile::tempdir().unwrap();
        let cache = ScoreCache::new(directory.path().join("scores"));
        let items = vec![ScoredItem {
            id: "한 1".to_owned(),
            question_type: "선택형".to_owned(),
            scores: ItemScores {
                format: 1.0,
                exact_match: 0.0,
                rouge1: 2.0 / 3.0,
                bertscore: 0.123_456_789_012_345_67,
                reason_missing: false,
            },
        }];
        let file = "inference_epoch1.json";
        assert_eq!(cache.load(file, &key("a")), None);
        cache.store(file, &key("a"), "encoder", &items).unwrap();
        assert_eq!(cache.load(file, &key("a")).as_ref(), Some(&items));
        assert_eq!(cache.load(file, &key("b")), None);

        let text = std::fs::read_to_string(cache.path(file)).unwrap();
        let older = text.replace("  \"encoder\": \"encoder\",\n", "");
        assert_ne!(older, text);
        std::fs::write(cache.path(file), older).unwrap();
        assert_eq!(cache.load(file, &key("a")).as_ref(), Some(&items));
        std::fs::write(cache.path(file), &text.as_bytes()[..text.len() / 2]).unwrap();
        assert_eq!(cache.load(file, &key("a")), None);
        std::fs::write(cache.path(file), text.replace("\"v\": 1", "\"v\": 0")).unwrap();
        assert_eq!(cache.load(file, &key("a")), None);
        cache.store(file, &key("a"), "encoder", &items).unwrap();
        assert_eq!(cache.load(file, &key("a")), Some(items));
    }
}
