//! ROUGE-1 F1 as the contest computes it, over three kinds of token.
//!
//! The contest's code keeps the first 1000 whitespace words, lowers the case,
//! replaces everything but `[A-Za-z0-9가-힣]` by a space, cuts the rest into
//! mecab-ko morphemes and compares clipped counts. [`RougeTokenizer`]s differ only in their tokens.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use unicode_normalization::UnicodeNormalization;

use super::RougeTokenizer;
use crate::text::morpheme::MecabDictionary;
use crate::text::whitespace::is_python_whitespace;

/// The most words of a text that count; the rest is cut off, as in the contest's code.
const MAX_WORDS: usize = 1000;

/// ROUGE-1 with its tokenizer ready.
pub struct Rouge1 {
    tokenizer: Tokenizer,
    /// Whether a text is NFC-normalised before it is cleaned.
    normalizes: bool,
}

enum Tokenizer {
    Eojeol,
    Syllable,
    Mecab(Box<MecabDictionary>),
}

impl fmt::Debug for Rouge1 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Rouge1")
            .field("tokenizer", &self.tokenizer().as_str())
            .field("normalizes", &self.normalizes)
            .finish()
    }
}

impl Rouge1 {
    /// Prepares the metric; `mecab_dict` is only read for `mecab`.
    ///
    /// `contest` skips the NFC normalisation, which the contest's code does not have: cleaning then
    /// removes decomposed Hangul.
    ///
    /// # Errors
    /// `mecab` is chosen without a dictionary, or with one that cannot be read.
    pub fn new(
        tokenizer: RougeTokenizer,
        mecab_dict: Option<&Path>,
        contest: bool,
    ) -> Result<Self> {
        let tokenizer = match tokenizer {
            RougeTokenizer::Eojeol => Tokenizer::Eojeol,
            RougeTokenizer::Syllable => Tokenizer::Syllable,
            RougeTokenizer::Mecab => {
                let dir = mecab_dict.context(
                    "ROUGE with rouge_tokenizer = \"mecab\" needs a dictionary: set \
                     reward.mecab_dict to a folder with a compiled mecab-ko dictionary \
                     (sys.dic, unk.dic, matrix.bin, char.bin, dicrc), or choose \"eojeol\" or \
                     \"syllable\"",
                )?;
                let dictionary = MecabDictionary::open(dir)
                    .with_context(|| format!("reward.mecab_dict = \"{}\"", dir.display()))?;
                Tokenizer::Mecab(Box::new(dictionary))
            }
        };
        Ok(Self {
            tokenizer,
            normalizes: !contest,
        })
    }

    /// The kind of tokens that are compared.
    pub fn tokenizer(&self) -> RougeTokenizer {
        match self.tokenizer {
            Tokenizer::Eojeol => RougeTokenizer::Eojeol,
            Tokenizer::Syllable => RougeTokenizer::Syllable,
            Tokenizer::Mecab(_) => RougeTokenizer::Mecab,
        }
    }

    /// F1 of the two texts' tokens, 0 to 1; 0 if either has none.
    pub fn f1(&self, candidate: &str, reference: &str) -> f64 {
        clipped_f1(&self.tokens(candidate), &self.tokens(reference))
    }

    /// The tokens of `text`, in order.
    pub fn tokens(&self, text: &str) -> Vec<String> {
        let cleaned = if self.normalizes {
            clean(&text.nfc().collect::<String>())
        } else {
            clean(text)
        };
        match &self.tokenizer {
            Tokenizer::Eojeol => cleaned.split_whitespace().map(str::to_owned).collect(),
            Tokenizer::Syllable => cleaned
                .chars()
                .filter(|character| *character != ' ')
                .map(String::from)
                .collect(),
            Tokenizer::Mecab(dictionary) => dictionary.morphs(&cleaned),
        }
    }
}

/// The first [`MAX_WORDS`] words in lower case, with a space for everything
/// that is neither a Latin letter, nor a digit, nor a Hangul syllable.
fn clean(text: &str) -> String {
    let words: Vec<&str> = text
        .split(is_python_whitespace)
        .filter(|word| !word.is_empty())
        .take(MAX_WORDS)
        .collect();
    let cleaned: String = words
        .join(" ")
        .to_lowercase()
        .chars()
        .map(|character| match character {
            'a'..='z' | '0'..='9' | '가'..='힣' => character,
            _ => ' ',
        })
        .collect();
    cleaned.trim().to_owned()
}

/// `PR / ((1-a)P + aR)` with `a` = 0.5 over clipped counts.
fn clipped_f1(candidate: &[String], reference: &[String]) -> f64 {
    let mut unmatched: HashMap<&str, usize> = HashMap::new();
    for token in reference {
        *unmatched.entry(token).or_default() += 1;
    }
    let mut overlap = 0_usize;
    for token in candidate {
        if let Some(count) = unmatched.get_mut(token.as_str())
            && *count > 0
        {
            *count -= 1;
            overlap += 1;
        }
    }
    if overlap == 0 {
        return 0.0;
    }
    let precision = overlap as f64 / candidate.len() as f64;
    let recall = overlap as f64 / reference.len() as f64;
    precision * recall / (0.5 * precision + 0.5 * recall)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rouge(tokenizer: RougeTokenizer) -> Rouge1 {
        Rouge1::new(tokenizer, None, false).unwrap()
    }

    #[test]
    fn cleaning_keeps_syllables_letters_and_digits() {
        assert_eq!(
            clean("  'Workshop'은\u{1c}5㎝, ㄱ률(率) "),
            "workshop 은 5    률"
        );
        assert_eq!(clean("...!?"), "");
    }

    #[test]
    fn words_past_the_thousandth_do_not_count() {
        let rouge = rouge(RougeTokenizer::Eojeol);
        let many = "말 ".repeat(1000);
        assert_eq!(rouge.f1(&format!("{many}끝"), &many), 1.0);
        assert_eq!(rouge.f1(&format!("{many}끝"), "끝"), 0.0);
    }

    #[test]
    fn a_repeated_token_counts_as_often_as_the_reference_has_it() {
        let rouge = rouge(RougeTokenizer::Eojeol);
        // Three of "가" against one: P = 1/3, R = 1.
        assert_eq!(rouge.f1("가 가 가", "가"), 0.5);
    }

    #[test]
    fn mecab_without_a_dictionary_names_the_key() {
        let error = Rouge1::new(RougeTokenizer::Mecab, None, false).unwrap_err();
        assert!(error.to_string().contains("reward.mecab_dict"));
    }

    #[test]
    fn decomposed_hangul_counts_except_in_contest_mode() {
        let decomposed: String = "표준어는 '바라다'이다.".nfd().collect();
        let ours = rouge(RougeTokenizer::Eojeol);
        assert_eq!(ours.f1(&decomposed, "표준어는 '바라다'이다."), 1.0);
        let contest = Rouge1::new(RougeTokenizer::Eojeol, None, true).unwrap();
        assert_eq!(contest.f1(&decomposed, "표준어는 '바라다'이다."), 0.0);
    }
}
