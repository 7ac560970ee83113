//! Formulas, patterns, and what reward programs answer.

use std::time::Duration;

use moim::metric::FormatPattern;
use moim::reward::{CommandReward, Formula, RewardSample, is_identifier};

use super::{Folder, shown, told};
use crate::fuzz::harness::{MEMORY, Reader, fuzz};
use crate::fuzz::mutate::Form;

#[test]
fn formulas() {
    let examples = [
        "(bertscore + exact_match + (format + 3*rouge1)/2)/3",
        "-(1 + .5)*2 - --x / 1e-3",
        "길이 + _a1 * 0.25E+2",
    ];
    fuzz(Reader {
        name: "reward.formula",
        form: Form::Text,
        examples: examples.map(|text| text.as_bytes().to_vec()).into(),
        words: &[
            "+", "((((((((", "))))", "1e309", "..", "-----", "rogue1", "*", "/0",
        ],
        cases: 6000,
        memory: MEMORY,
        names: "formula",
        read: Box::new(|input| {
            let text = String::from_utf8_lossy(input);
            is_identifier(&text);
            let formula = Formula::parse(&text).map_err(shown)?;
            formula.evaluate(&|name| Some(name.len() as f64));
            let _ = formula.require_known(&["format", "exact_match", "rouge1"]);
            Ok(())
        }),
    });
}

#[test]
fn patterns() {
    let examples = [
        r#""[^\n]+?" ?[이가] 옳다\."#,
        r"(?s).*\p{Hangul}{2,5}(a|b)*$",
        r"\A(?:x){1,3}",
    ];
    let text = "\"가\"가 옳다. ".repeat(500);
    fuzz(Reader {
        name: "reward.format_pattern",
        form: Form::Text,
        examples: examples.map(|text| text.as_bytes().to_vec()).into(),
        words: &[
            "(a*)*",
            "{1000}",
            "{1000}{1000}{1000}",
            r"\p{L}",
            "(?i)",
            "[^",
            "(((((",
            r"\1",
            "(?=a)",
            r"\w{999}",
        ],
        cases: 3000,
        // The regex crate bounds a program at 10 MiB, and what it caches beside it.
        memory: (2000, 96 << 20),
        names: "format_pattern",
        read: Box::new(|input| {
            let pattern = String::from_utf8_lossy(input);
            let pattern = FormatPattern::new(&pattern).map_err(told)?;
            pattern.score(&text);
            Ok(())
        }),
    });
}

#[test]
fn answers_of_programs() {
    let folder = Folder::new();
    let sample = RewardSample {
        id: "7",
        prompt: "질문",
        completion: "답",
        label: "답",
        question_type: "선택형",
        tokens: 0,
        step: 3,
    };
    let answers = b"{\"index\":1,\"reward\":0.5}\n{\"index\":0,\"reward\":null,\"note\":[1]}\n";
    fuzz(Reader {
        name: "answers of a program",
        form: Form::JsonLines,
        examples: vec![answers.to_vec()],
        words: &["index", "reward"],
        cases: 250,
        memory: MEMORY,
        names: "custom",
        read: Box::new(|input| {
            let path = folder.write("answers", input);
            let argv = ["cat".to_owned(), path.display().to_string()];
            let mut reward =
                CommandReward::start("custom", &argv, Duration::from_secs(30)).map_err(shown)?;
            reward.send(&[sample, sample]).map_err(shown)?;
            reward.collect().map(|_| ()).map_err(shown)
        }),
    });
}
