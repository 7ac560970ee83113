//! The settings of the metrics.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::experiment::{RewardSection, RougeTokenizer};
use crate::text::answer;

/// The files of a compiled dictionary that determine how it cuts a text.
const DICTIONARY_FILES: [&str; 5] = ["sys.dic", "unk.dic", "matrix.bin", "char.bin", "dicrc"];

/// How the metrics are computed. The defaults are those of the experiment
/// file's `[reward]` section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricSettings {
    /// Regular expression that a well-formed completion matches at its start;
    /// default `^"[^"]+"[이가] 옳다[.]?`.
    pub format_pattern: String,
    /// What ROUGE-1 counts; default `eojeol`.
    pub rouge_tokenizer: RougeTokenizer,
    /// Folder of a compiled mecab-ko dictionary, only for `mecab`.
    pub mecab_dict: Option<PathBuf>,
    /// Where an answer ends and its reason begins, in order of search; default
    /// `["가 옳다", "이 옳다"]`.
    pub answer_endings: Vec<String>,
    /// Text handling exactly as in the contest's evaluation: only ASCII quotes are removed, nothing is
    /// NFC-normalised, no `답변:` is stripped, and `#` alternatives count only inside the answer
    /// part. Default false.
    pub contest: bool,
}

impl Default for MetricSettings {
    fn default() -> Self {
        Self {
            format_pattern: r#"^"[^"]+"[이가] 옳다[.]?"#.to_owned(),
            rouge_tokenizer: RougeTokenizer::Eojeol,
            mecab_dict: None,
            answer_endings: answer::default_endings(),
            contest: false,
        }
    }
}

impl From<&RewardSection> for MetricSettings {
    /// The settings of an experiment; never contest mode.
    fn from(section: &RewardSection) -> Self {
        Self {
            format_pattern: section.format_pattern.clone(),
            rouge_tokenizer: section.rouge_tokenizer,
            mecab_dict: section.mecab_dict.clone(),
            answer_endings: section.answer_endings.clone(),
            contest: false,
        }
    }
}

impl MetricSettings {
    /// Every setting that determines a number, on one line. A dictionary counts by its content, not
    /// its path; one that is not used does not count.
    pub(super) fn fingerprint(&self) -> Result<String> {
        let dictionary = match (self.rouge_tokenizer, &self.mecab_dict) {
            (RougeTokenizer::Mecab, Some(dir)) => format!(":{}", dictionary_hash(dir)?),
            _ => String::new(),
        };
        Ok(format!(
            "format={:?} rouge={}{dictionary} endings={:?} contest={}",
            self.format_pattern, self.rouge_tokenizer, self.answer_endings, self.contest
        ))
    }
}

/// A hash of the dictionary's files.
fn dictionary_hash(dir: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    for name in DICTIONARY_FILES {
        let path = dir.join(name);
        let file = match crate::regular_file::open(&path) {
            Ok(file) => file,
            // The dictionary's reader decides whether a file can be missing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(error).with_context(|| format!("reading {}", path.display()));
            }
        };
        hasher.update(name.as_bytes());
        hasher
            .update_reader(file)
            .with_context(|| format!("reading {}", path.display()))?;
    }
    Ok(hasher.finalize().to_hex().chars().take(16).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_experiment_file() {
        assert_eq!(
            MetricSettings::from(&RewardSection::default()),
            MetricSettings::default()
        );
    }

    #[test]
    fn a_dictionary_counts_by_content_and_only_if_it_is_used() {
        let fingerprint_of = |content: &str, rouge_tokenizer| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("sys.dic"), content).unwrap();
            let settings = MetricSettings {
                rouge_tokenizer,
                mecab_dict: Some(dir.path().to_owned()),
                ..MetricSettings::default()
            };
            settings.fingerprint().unwrap()
        };
        let mecab = RougeTokenizer::Mecab;
        assert_eq!(fingerprint_of("a", mecab), fingerprint_of("a", mecab));
        assert_ne!(fingerprint_of("a", mecab), fingerprint_of("b", mecab));
        let eojeol = RougeTokenizer::Eojeol;
        assert_eq!(fingerprint_of("a", eojeol), fingerprint_of("b", eojeol));
    }
}
