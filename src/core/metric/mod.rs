//! The metrics: format, exact match, ROUGE-1 and BERTScore.
//!
//! One definition serves both uses: the metric that trains the model as a reward also ranks its
//! checkpoints. A completion and a label are each an answer (`"…"가 옳다`) followed by a reason;
//! exact match compares the answers, ROUGE-1 and BERTScore the reasons.
//!
//! In contest mode the text is split, compared and cleaned exactly as in the contest's evaluation,
//! without our normalisation: see [`MetricSettings::contest`].

mod format;
mod rouge;
mod settings;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

use anyhow::{Context, Result, ensure};
use rayon::prelude::*;

pub use format::FormatPattern;
pub use rouge::Rouge1;
pub use settings::MetricSettings;

pub use crate::experiment::RougeTokenizer;
use crate::text::answer;

/// Incremented whenever a definition in this module changes its numbers, so that scores cached by an
/// older release are recomputed.
const DEFINITION_VERSION: u32 = 1;

/// Scores pairs of reasons by meaning, as BERTScore does.
///
/// A trait, because the encoder needs the tensor library and this module does not.
pub trait ReasonScorer: Send {
    /// Everything that determines the numbers (weights, layer, idf, baseline), in a form that stays
    /// the same from run to run.
    fn fingerprint(&self) -> String;

    /// F1 of each (candidate, reference), in order. Neither side is ever empty.
    ///
    /// # Errors
    /// The encoder fails, for example because it runs out of memory.
    fn f1(&mut self, pairs: &[(String, String)]) -> Result<Vec<f64>>;
}

/// The scores of one completion against its label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ItemScores {
    /// 1 if the completion starts in the required form, else 0.
    pub format: f64,
    /// 1 if the answer is one of the label's alternatives, else 0.
    pub exact_match: f64,
    /// ROUGE-1 F1 of the reasons, 0 to 1; 0 if either is empty.
    pub rouge1: f64,
    /// BERTScore F1 of the reasons; 0 if either is empty. NaN, not 0, if no encoder is configured
    /// ([`Metrics::has_reason_scorer`]).
    pub bertscore: f64,
    /// Whether either reason is empty. The contest leaves such pairs out of
    /// the means of ROUGE-1 and BERTScore; we count them as 0.
    pub reason_missing: bool,
}

/// The metrics with everything they need loaded.
pub struct Metrics {
    text: TextMetrics,
    reason_scorer: Option<Box<dyn ReasonScorer>>,
    fingerprint: String,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Metrics")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

impl Metrics {
    /// Compiles the pattern and opens the dictionary.
    ///
    /// # Errors
    /// The pattern is not a regular expression, an ending is empty, or the dictionary that `mecab`
    /// needs is missing or cannot be read.
    pub fn new(
        settings: MetricSettings,
        reason_scorer: Option<Box<dyn ReasonScorer>>,
    ) -> Result<Self> {
        ensure!(
            !settings.answer_endings.is_empty()
                && settings.answer_endings.iter().all(|e| !e.trim().is_empty()),
            "reward.answer_endings = {:?} must have at least one ending and no empty one, for \
             example [\"가 옳다\", \"이 옳다\"]",
            settings.answer_endings
        );
        let format = FormatPattern::new(&settings.format_pattern)?;
        let rouge = Rouge1::new(
            settings.rouge_tokenizer,
            settings.mecab_dict.as_deref(),
            settings.contest,
        )?;
        let bertscore = reason_scorer
            .as_ref()
            .map_or_else(|| "none".to_owned(), |scorer| scorer.fingerprint());
        let fingerprint = format!(
            "metrics/{DEFINITION_VERSION} {} bertscore={bertscore}",
            settings.fingerprint()?
        );
        Ok(Self {
            text: TextMetrics {
                settings,
                format,
                rouge,
            },
            reason_scorer,
            fingerprint,
        })
    }

    /// The settings these metrics were made with.
    pub fn settings(&self) -> &MetricSettings {
        &self.text.settings
    }

    /// Whether BERTScore is computed.
    pub fn has_reason_scorer(&self) -> bool {
        self.reason_scorer.is_some()
    }

    /// Everything that determines the numbers, the same from run to run and from machine to machine:
    /// equal fingerprints mean equal scores.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Scores each (completion, label), in order.
    ///
    /// Pairs are scored in parallel. A pair that occurs more than once, as the completions of a group
    /// often do, is scored once.
    ///
    /// # Errors
    /// The encoder fails, or returns the wrong number of values or a value that is not finite.
    pub fn score(&mut self, pairs: &[(&str, &str)]) -> Result<Vec<ItemScores>> {
        let (distinct, positions) = distinct(pairs.iter().copied());
        let text = &self.text;
        let parts: Vec<Parts> = distinct
            .par_iter()
            .map(|(completion, label)| text.parts(completion, label))
            .collect();
        let bertscores = self.bertscores(&parts)?;
        let scores: Vec<ItemScores> = parts
            .iter()
            .zip(bertscores)
            .map(|(part, bertscore)| ItemScores {
                format: part.format,
                exact_match: part.exact_match,
                rouge1: part.rouge1,
                bertscore,
                reason_missing: part.reasons.is_none(),
            })
            .collect();
        Ok(positions.into_iter().map(|at| scores[at]).collect())
    }

    /// BERTScore of each part: 0 without both reasons, NaN without an encoder.
    fn bertscores(&mut self, parts: &[Parts]) -> Result<Vec<f64>> {
        let Some(scorer) = &mut self.reason_scorer else {
            return Ok(vec![f64::NAN; parts.len()]);
        };
        // Completions that differ only in the answer share their reasons.
        let (pairs, positions) = distinct(parts.iter().filter_map(|part| part.reasons.clone()));
        let values = if pairs.is_empty() {
            Vec::new()
        } else {
            scorer
                .f1(&pairs)
                .context("computing BERTScore of the reasons")?
        };
        ensure!(
            values.len() == pairs.len(),
            "the BERTScore encoder returned {} values for {} pairs of reasons",
            values.len(),
            pairs.len()
        );
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let (candidate, reference) = &pairs[at];
            anyhow::bail!(
                "the BERTScore encoder returned {} for candidate {candidate:?}, reference \
                 {reference:?}: its weights are damaged, or its dtype overflows",
                values[at]
            );
        }
        let mut positions = positions.into_iter();
        Ok(parts
            .iter()
            .map(|part| {
                let position = part.reasons.as_ref().and_then(|_| positions.next());
                position.map_or(0.0, |at| values[at])
            })
            .collect())
    }
}

/// The metrics without an encoder, which threads can share.
struct TextMetrics {
    settings: MetricSettings,
    format: FormatPattern,
    rouge: Rouge1,
}

impl TextMetrics {
    /// All scores except BERTScore.
    fn parts(&self, completion: &str, label: &str) -> Parts {
        let endings = &self.settings.answer_endings;
        let (exact_match, candidate, reference) = if self.settings.contest {
            let (_, candidate) = answer::split(completion, endings);
            let (_, reference) = answer::split(label, endings);
            (
                answer::contest_exact_match(completion, label, endings),
                candidate.to_owned(),
                reference.to_owned(),
            )
        } else {
            let answer = answer::split_completion(completion, endings);
            let label = answer::split_label(label, endings);
            (
                answer::sentence_matches(&answer.sentence, &label.alternatives, endings),
                answer.reason,
                label.reason,
            )
        };
        let reasons =
            (!candidate.is_empty() && !reference.is_empty()).then_some((candidate, reference));
        let rouge1 = reasons.as_ref().map_or(0.0, |(candidate, reference)| {
            self.rouge.f1(candidate, reference)
        });
        Parts {
            format: self.format.score(completion),
            exact_match,
            rouge1,
            reasons,
        }
    }
}

/// The scores of a pair that need no encoder, and the reasons that do.
struct Parts {
    format: f64,
    exact_match: f64,
    rouge1: f64,
    reasons: Option<(String, String)>,
}

/// The distinct items in order of first appearance, and the index of each input item among them.
fn distinct<T: Clone + Eq + std::hash::Hash>(
    items: impl Iterator<Item = T>,
) -> (Vec<T>, Vec<usize>) {
    let mut found: HashMap<T, usize> = HashMap::new();
    let mut distinct = Vec::new();
    let positions = items
        .map(|item| match found.entry(item) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                distinct.push(entry.key().clone());
                *entry.insert(distinct.len() - 1)
            }
        })
        .collect();
    (distinct, positions)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use unicode_normalization::UnicodeNormalization;

    use super::*;

    const LABEL: &str = "\"이제 집에 가도 돼요.\"가 옳다. '되어'가 줄면 '돼'로 적는다.";

    type Asked = Arc<Mutex<Vec<(String, String)>>>;

    /// Scores by length and records the pairs it was given.
    struct Recorder {
        asked: Asked,
        value: Option<f64>,
    }

    impl ReasonScorer for Recorder {
        fn fingerprint(&self) -> String {
            "recorder".to_owned()
        }

        fn f1(&mut self, pairs: &[(String, String)]) -> Result<Vec<f64>> {
            self.asked.lock().unwrap().extend_from_slice(pairs);
            Ok(pairs
                .iter()
                .map(|(candidate, _)| {
                    self.value
                        .unwrap_or(candidate.chars().count() as f64 / 1000.0)
                })
                .collect())
        }
    }

    fn with_recorder(value: Option<f64>) -> (Metrics, Asked) {
        let asked = Asked::default();
        let recorder = Recorder {
            asked: Arc::clone(&asked),
            value,
        };
        let metrics = Metrics::new(MetricSettings::default(), Some(Box::new(recorder))).unwrap();
        (metrics, asked)
    }

    #[test]
    fn the_label_itself_is_perfect() {
        let mut metrics = Metrics::new(MetricSettings::default(), None).unwrap();
        let scores = metrics.score(&[(LABEL, LABEL)]).unwrap()[0];
        assert_eq!(
            (scores.format, scores.exact_match, scores.rouge1),
            (1.0, 1.0, 1.0)
        );
        assert!(!scores.reason_missing);
        assert!(scores.bertscore.is_nan(), "no encoder, no number");
    }

    #[test]
    fn the_encoder_sees_each_pair_of_reasons_once_and_no_empty_one() {
        let (mut metrics, asked) = with_recorder(None);
        let other_answer = "\"이제 집에 가도 되요.\"가 옳다. 준말이기 때문이다.";
        let pairs = [
            ("\"이제 집에 가도 돼요.\"가 옳다.", LABEL),
            ("\"이제 집에 가도 돼요.\"가 옳다. 준말이기 때문이다.", LABEL),
            (other_answer, LABEL),
            ("돼요", LABEL),
            (other_answer, LABEL),
            ("\"이제 집에 가도 돼요.\"가 옳다. 까닭.", LABEL),
        ];
        let scores = metrics.score(&pairs).unwrap();
        let asked = asked.lock().unwrap();
        let candidates: Vec<&str> = asked.iter().map(|(candidate, _)| &**candidate).collect();
        assert_eq!(candidates, ["준말이기 때문이다.", "까닭."]);
        let bertscores: Vec<f64> = scores.iter().map(|score| score.bertscore).collect();
        assert_eq!(bertscores, [0.0, 0.01, 0.01, 0.0, 0.01, 0.003]);
        let missing: Vec<bool> = scores.iter().map(|score| score.reason_missing).collect();
        assert_eq!(missing, [true, false, false, true, false, false]);
        assert_eq!(scores[2].exact_match, 0.0);
        assert_eq!(scores[1].exact_match, 1.0);
    }

    #[test]
    fn an_encoder_that_overflows_is_an_error() {
        let (mut metrics, _) = with_recorder(Some(f64::NAN));
        let message = metrics.score(&[(LABEL, LABEL)]).unwrap_err().to_string();
        assert!(message.contains("returned NaN"), "{message}");
    }

    #[test]
    fn a_decomposed_completion_has_its_reason_except_in_contest_mode() {
        let decomposed: String = LABEL.nfd().collect();
        let pairs = [(decomposed.as_str(), LABEL)];
        let mut ours = Metrics::new(MetricSettings::default(), None).unwrap();
        let scores = ours.score(&pairs).unwrap()[0];
        assert_eq!((scores.exact_match, scores.rouge1), (1.0, 1.0));
        let mut contest = Metrics::new(
            MetricSettings {
                contest: true,
                ..MetricSettings::default()
            },
            None,
        )
        .unwrap();
        let scores = contest.score(&pairs).unwrap()[0];
        assert_eq!((scores.exact_match, scores.rouge1), (0.0, 0.0));
        assert!(scores.reason_missing);
    }

    #[test]
    fn the_fingerprint_changes_with_every_setting_and_the_encoder() {
        let base = MetricSettings::default();
        let plain = Metrics::new(base.clone(), None).unwrap();
        let (encoded, _) = with_recorder(None);
        let syllable = Metrics::new(
            MetricSettings {
                rouge_tokenizer: RougeTokenizer::Syllable,
                ..base.clone()
            },
            None,
        )
        .unwrap();
        let contest = Metrics::new(
            MetricSettings {
                contest: true,
                ..base.clone()
            },
            None,
        )
        .unwrap();
        let again = Metrics::new(base, None).unwrap();
        assert_eq!(plain.fingerprint(), again.fingerprint());
        let all = [&plain, &encoded, &syllable, &contest].map(Metrics::fingerprint);
        let distinct: std::collections::HashSet<&str> = all.into_iter().collect();
        assert_eq!(distinct.len(), 4, "{all:?}");
    }

    #[test]
    fn an_empty_ending_is_refused() {
        let settings = MetricSettings {
            answer_endings: vec![String::new()],
            ..MetricSettings::default()
        };
        let error = Metrics::new(settings, None).unwrap_err();
        assert!(error.to_string().contains("reward.answer_endings"));
    }
}
