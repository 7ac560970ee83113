//! Reading an answer of the form `"sentence"가 옳다. reason`: where the sentence
//! ends, which sentences a label accepts, and whether a completion has one of them.
//!
//! There are two sets of rules.
//!
//! - The **contest** rules are those of the official evaluation of the 2025 contest
//!   ([`split`], [`contest_answer`], [`contest_exact_match`]).
//! - **Ours** ([`split_completion`], [`split_label`], [`exact_match`]) compare after
//!   normalisation, so that curly quotes, decomposed Hangul, a leading `[답변]` or a
//!   doubled space do not count as a wrong sentence, and accept every alternative that
//!   a label joins by `#`.
//!
//! `endings` are the phrases that close the sentence, `["가 옳다", "이 옳다"]` by
//! default ([`default_endings`]); their order matters to [`split`].

use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::UnicodeNormalization;

use super::whitespace::{collapse, is_python_whitespace, strip};

/// The endings of the contest, in the order in which its evaluation tries them.
pub const DEFAULT_ENDINGS: [&str; 2] = ["가 옳다", "이 옳다"];

/// Joins the accepted sentences of one label.
pub const ALTERNATIVE_SEPARATOR: char = '#';

const ANSWER_TAGS: [&str; 2] = ["[답변]", "답변:"];

/// [`DEFAULT_ENDINGS`] as owned strings.
pub fn default_endings() -> Vec<String> {
    DEFAULT_ENDINGS.map(String::from).to_vec()
}

/// N(t): NFC, every kind of double or single quote as the ASCII one, each run of
/// whitespace as one space, trimmed.
///
/// NFC and not NFKC: NFKC rewrites the compatibility jamo (ㄹ) and the ellipsis that
/// reasons about spelling are full of.
pub fn normalize(text: &str) -> String {
    let unified: String = text.nfc().map(ascii_quote).collect();
    collapse(&unified)
}

fn ascii_quote(character: char) -> char {
    match character {
        '“' | '”' | '„' | '‟' | '«' | '»' | '″' | '＂' => '"',
        '‘' | '’' | '‚' | '‛' | '‹' | '›' | '′' | '＇' => '\'',
        other => other,
    }
}

/// P(t): line ends as LF, trimmed, and any leading `[답변]` or `답변:` removed, however
/// often it is repeated.
pub fn strip_prefixes(text: &str) -> String {
    let unified = text.replace("\r\n", "\n");
    let mut rest = strip(&unified);
    while let Some(shorter) = ANSWER_TAGS.iter().find_map(|tag| rest.strip_prefix(tag)) {
        rest = shorter.trim_start_matches(is_python_whitespace);
    }
    rest.to_owned()
}

/// The contest's split into (answer, reason): the first of `endings`, in their order,
/// that occurs anywhere in `text` cuts after its first occurrence.
///
/// The answer keeps the ending; the reason loses leading `.`, `,` and spaces. Without an
/// ending the whole text is the answer and the reason is empty.
pub fn split<'text>(text: &'text str, endings: &[String]) -> (&'text str, &'text str) {
    match cut_after_ending(text, endings) {
        Some((answer, rest)) => (strip(answer), lead_in_removed(rest)),
        None => (text, ""),
    }
}

/// (up to and including the ending, the rest), both untrimmed.
fn cut_after_ending<'text>(
    text: &'text str,
    endings: &[String],
) -> Option<(&'text str, &'text str)> {
    endings
        .iter()
        .filter(|ending| !ending.is_empty())
        .find_map(|ending| {
            text.find(ending.as_str())
                .map(|start| text.split_at(start + ending.len()))
        })
}

fn lead_in_removed(reason: &str) -> &str {
    strip(reason).trim_start_matches(['.', ',', ' '])
}

/// A completion's answer, ready to be compared, and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The sentence with its ending, normalised, quotes removed: `오늘은 좋다.가 옳다`.
    pub sentence: String,
    /// The reason in NFC with its original quotes and spaces; empty when there is none.
    pub reason: String,
}

/// A label's accepted sentences and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Accepted sentences, normalised like [`Answer::sentence`]; never empty.
    pub alternatives: Vec<String>,
    /// The reason in NFC, after the last alternative; empty when there is none.
    pub reason: String,
}

/// Reads a completion: prefixes removed, NFC, then the contest's split.
pub fn split_completion(completion: &str, endings: &[String]) -> Answer {
    let text: String = strip_prefixes(completion).nfc().collect();
    let (answer, reason) = split(&text, endings);
    Answer {
        sentence: comparable(answer, endings),
        reason: reason.to_owned(),
    }
}

/// Reads a label. Both ways of joining alternatives are understood:
/// `"A"#"B"가 옳다.` and `"A"가 옳다#"B"가 옳다.`
pub fn split_label(label: &str, endings: &[String]) -> Label {
    let text: String = label.nfc().collect();
    let mut alternatives = Vec::new();
    let mut rest = text.as_str();
    let reason = loop {
        let Some((answer, after)) = cut_after_ending(rest, endings) else {
            push_alternatives(&mut alternatives, rest, endings);
            break "";
        };
        push_alternatives(&mut alternatives, answer, endings);
        match strip(after).strip_prefix(ALTERNATIVE_SEPARATOR) {
            // A `#` that is not followed by another ending belongs to the reason.
            Some(next) if cut_after_ending(next, endings).is_some() => rest = next,
            _ => break lead_in_removed(after),
        }
    };
    Label {
        alternatives,
        reason: reason.to_owned(),
    }
}

fn push_alternatives(alternatives: &mut Vec<String>, answer: &str, endings: &[String]) {
    alternatives.extend(
        answer
            .split(ALTERNATIVE_SEPARATOR)
            .map(|alternative| comparable(alternative, endings)),
    );
}

/// Normalised, without the space between a closing quote and its particle, without quotes,
/// trimmed. Spaces inside the sentence stay: questions are about spacing.
fn comparable(answer: &str, endings: &[String]) -> String {
    let mut sentence = normalize(answer);
    for ending in endings {
        if let Some(before) = sentence.strip_suffix(ending.as_str())
            && let Some(quoted) = before.strip_suffix(' ')
            && quoted.ends_with(['"', '\''])
        {
            sentence = format!("{quoted}{ending}");
        }
    }
    let without_quotes: String = sentence
        .chars()
        .filter(|c| !matches!(c, '"' | '\''))
        .collect();
    strip(&without_quotes).to_owned()
}

/// The sentences that `label` accepts (see [`split_label`]).
pub fn alternatives(label: &str, endings: &[String]) -> Vec<String> {
    split_label(label, endings).alternatives
}

/// 1.0 if the completion's sentence is one of the label's, else 0.0.
///
/// The ending (`가 옳다`) is part of the comparison, as in the contest, unless the label
/// has several alternatives, of which perhaps only one has the ending: then it is removed from
/// both sides. A completion with an empty sentence never matches.
pub fn exact_match(completion: &str, label: &str, endings: &[String]) -> f64 {
    let answer = split_completion(completion, endings);
    let label = split_label(label, endings);
    sentence_matches(&answer.sentence, &label.alternatives, endings)
}

/// [`exact_match`] on parts that are already split.
pub fn sentence_matches(sentence: &str, alternatives: &[String], endings: &[String]) -> f64 {
    let is_match = if sentence.is_empty() {
        false
    } else if let [only] = alternatives {
        sentence == only
    } else {
        let sentence = without_ending(sentence, endings);
        alternatives
            .iter()
            .any(|alternative| without_ending(alternative, endings) == sentence)
    };
    f64::from(u8::from(is_match))
}

fn without_ending<'text>(sentence: &'text str, endings: &[String]) -> &'text str {
    endings
        .iter()
        .find_map(|ending| sentence.strip_suffix(ending.as_str()))
        .map_or(sentence, |shorter| {
            shorter.strip_suffix(' ').unwrap_or(shorter)
        })
}

/// The official evaluation's (answer, reason): [`split`], then ASCII quotes deleted from
/// the answer. Nothing else is normalised.
pub fn contest_answer<'text>(text: &'text str, endings: &[String]) -> (String, &'text str) {
    let (answer, reason) = split(text, endings);
    (contest_normalized(answer), reason)
}

fn contest_normalized(answer: &str) -> String {
    let without_quotes: String = answer
        .chars()
        .filter(|c| !matches!(c, '"' | '\''))
        .collect();
    strip(&without_quotes).to_owned()
}

/// The official evaluation's exact match: the answer equals one of the label's answer
/// part split at `#`.
pub fn contest_exact_match(completion: &str, label: &str, endings: &[String]) -> f64 {
    let (answer, _) = contest_answer(completion, endings);
    let (accepted, _) = contest_answer(label, endings);
    let is_match = accepted
        .split(ALTERNATIVE_SEPARATOR)
        .any(|alternative| strip(alternative) == answer);
    f64::from(u8::from(is_match))
}

static WELL_FORMED: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"^"[^\n]+?" ?[이가] 옳다\."#).ok());

/// The lenient format check: on N(P(t)) a quoted sentence, the particle, `옳다` and its
/// period. Curly and nested quotes and one space before the particle are accepted.
pub fn is_well_formed(completion: &str) -> bool {
    let text = normalize(&strip_prefixes(completion));
    WELL_FORMED
        .as_ref()
        .is_some_and(|pattern| pattern.is_match(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalisation_keeps_compatibility_jamo_and_ellipsis() {
        assert_eq!(normalize("  “ㄹ” ‘…’\u{3000}끝 "), "\"ㄹ\" '…' 끝");
        assert_eq!(normalize("\u{1112}\u{1161}\u{11ab}"), "한");
    }

    #[test]
    fn repeated_prefixes_are_removed() {
        assert_eq!(strip_prefixes(" [답변]\r\n답변:  [답변] \"가\""), "\"가\"");
        assert_eq!(strip_prefixes("정답변: 가"), "정답변: 가");
    }

    #[test]
    fn an_empty_completion_never_matches() {
        let endings = default_endings();
        assert_eq!(exact_match("", "", &endings), 0.0);
        assert_eq!(exact_match("\"\"", "가##나", &endings), 0.0);
    }

    #[test]
    fn a_hash_in_the_reason_is_no_alternative() {
        let label = split_label("\"가다.\"가 옳다. #1 규칙 때문이다.", &default_endings());
        assert_eq!(label.alternatives, ["가다.가 옳다"]);
        assert_eq!(label.reason, "#1 규칙 때문이다.");
        let label = split_label("\"가다.\"가 옳다#규칙", &default_endings());
        assert_eq!(label.alternatives, ["가다.가 옳다"]);
    }

    #[test]
    fn the_reason_follows_the_last_alternative() {
        let label = split_label("\"가\"가 옳다#\"나\"가 옳다. 이유.", &default_endings());
        assert_eq!(label.alternatives, ["가가 옳다", "나가 옳다"]);
        assert_eq!(label.reason, "이유.");
    }

    #[test]
    fn endings_of_another_task_work_too() {
        let endings = vec!["is right".to_owned()];
        assert_eq!(
            exact_match("\"A b\" is right. Because.", "\"A b\"is right", &endings),
            1.0
        );
        assert_eq!(
            split("\"A\" is right. So.", &endings),
            ("\"A\" is right", "So.")
        );
    }
}
