//! The metrics against values that the original Python programs computed, and
//! the properties that hold for any text.

use std::path::{Path, PathBuf};

use moim_core::metric::{MetricSettings, Metrics, Rouge1, RougeTokenizer};
use proptest::prelude::*;
use serde::Deserialize;
use unicode_normalization::{UnicodeNormalization, is_nfc};

#[derive(Deserialize)]
struct Golden {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    reference: String,
    candidate: String,
    rouge1_f: Columns,
    contest_mecab_tokens: Tokens,
}

#[derive(Deserialize)]
struct Columns {
    contest_mecab: f64,
    contest_use_tokenizer_false_syllable: f64,
    clean_eojeol: f64,
}

#[derive(Deserialize)]
struct Tokens {
    reference: Vec<String>,
    candidate: Vec<String>,
}

fn golden() -> Vec<Vector> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .join("tests/golden/metric/rouge_vectors.json");
    let text = std::fs::read_to_string(path).unwrap();
    serde_json::from_str::<Golden>(&text).unwrap().vectors
}

/// The contest's code does not normalise; ours differs from it exactly where a
/// text is not NFC.
fn assert_column(contest: &Rouge1, ours: &Rouge1, column: impl Fn(&Columns) -> f64) {
    let vectors = golden();
    assert_eq!(vectors.len(), 41);
    for vector in &vectors {
        let expected = column(&vector.rouge1_f);
        let got = contest.f1(&vector.candidate, &vector.reference);
        assert!(
            (got - expected).abs() < 1e-12,
            "{}: {got} for {expected}",
            vector.name
        );
        let normalised = ours.f1(&vector.candidate, &vector.reference);
        if is_nfc(&vector.candidate) && is_nfc(&vector.reference) {
            assert_eq!(normalised, got, "{}", vector.name);
        } else {
            assert_eq!((normalised, got), (1.0, 0.0), "{}", vector.name);
        }
    }
}

#[test]
fn rouge1_of_syllables_is_the_contests() {
    let rouge = |contest| Rouge1::new(RougeTokenizer::Syllable, None, contest).unwrap();
    assert_column(&rouge(true), &rouge(false), |columns| {
        columns.contest_use_tokenizer_false_syllable
    });
}

#[test]
fn rouge1_of_words_is_the_references() {
    let rouge = |contest| Rouge1::new(RougeTokenizer::Eojeol, None, contest).unwrap();
    assert_column(&rouge(true), &rouge(false), |columns| columns.clean_eojeol);
}

/// Needs a compiled dictionary, which is too large for the repository.
#[test]
fn rouge1_of_morphemes_is_the_contests() {
    let Some(dir) = std::env::var_os("MOIM_MECAB_DICT").map(PathBuf::from) else {
        println!(
            "skipped: set MOIM_MECAB_DICT to the folder of a compiled mecab-ko dictionary \
             (`dictionary` in the PyPI package python-mecab-ko-dic)"
        );
        return;
    };
    let rouge = |contest| Rouge1::new(RougeTokenizer::Mecab, Some(&dir), contest).unwrap();
    let contest = rouge(true);
    for vector in golden() {
        let tokens = &vector.contest_mecab_tokens;
        assert_eq!(contest.tokens(&vector.reference), tokens.reference);
        assert_eq!(contest.tokens(&vector.candidate), tokens.candidate);
    }
    assert_column(&contest, &rouge(false), |columns| columns.contest_mecab);
}

fn answers() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[가-힣ㄱ-ㅎa-zA-Z0-9 .,'\"#]{0,40}",
        "\"[가-힣 ]{1,12}[.]?\"[이가] 옳다[.]? ?[가-힣a-z ,.']{0,30}",
    ]
}

fn rouges() -> [Rouge1; 2] {
    [RougeTokenizer::Eojeol, RougeTokenizer::Syllable]
        .map(|tokenizer| Rouge1::new(tokenizer, None, false).unwrap())
}

proptest! {
    #[test]
    fn rouge1_is_symmetric_and_bounded(a in answers(), b in answers()) {
        for rouge in rouges() {
            let f1 = rouge.f1(&a, &b);
            prop_assert!((0.0..=1.0).contains(&f1), "{}", f1);
            prop_assert_eq!(f1, rouge.f1(&b, &a));
        }
    }

    #[test]
    fn rouge1_of_a_text_with_itself_is_one_or_it_has_no_tokens(text in answers()) {
        for rouge in rouges() {
            let expected = if rouge.tokens(&text).is_empty() { 0.0 } else { 1.0 };
            prop_assert_eq!(rouge.f1(&text, &text), expected);
        }
    }

    #[test]
    fn decomposition_changes_nothing(completion in answers(), label in answers()) {
        let mut metrics = Metrics::new(MetricSettings::default(), None).unwrap();
        let composed: (String, String) = (completion.nfc().collect(), label.nfc().collect());
        let decomposed: (String, String) = (completion.nfd().collect(), label.nfd().collect());
        let scores = metrics
            .score(&[(&composed.0, &composed.1), (&decomposed.0, &decomposed.1)])
            .unwrap();
        prop_assert_eq!(scores[0].rouge1, scores[1].rouge1);
        prop_assert_eq!(scores[0].exact_match, scores[1].exact_match);
        prop_assert_eq!(scores[0].reason_missing, scores[1].reason_missing);
    }

    #[test]
    fn every_metric_is_bounded_and_a_whole_answer_is_its_own_best(
        sentence in "[가-힣 ]{0,12}[가-힣]",
        reason in "[가-힣]{1,5}( [가-힣]{1,5}){0,6}",
        other in answers(),
    ) {
        let label = format!("\"{sentence}\"가 옳다. {reason}");
        let mut metrics = Metrics::new(MetricSettings::default(), None).unwrap();
        let scores = metrics.score(&[(&label, &label), (&other, &label), (&label, &label)]).unwrap();
        let own = scores[0];
        prop_assert_eq!((own.format, own.exact_match, own.rouge1), (1.0, 1.0, 1.0));
        prop_assert!(!own.reason_missing);
        prop_assert_eq!(own.rouge1, scores[2].rouge1);
        for value in [scores[1].format, scores[1].exact_match, scores[1].rouge1] {
            prop_assert!((0.0..=1.0).contains(&value), "{}", value);
        }
    }
}
