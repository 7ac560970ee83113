//! What a reward command reads and writes: one JSON object per line.
//!
//! For each batch it reads one line per sample
//!
//! ```json
//! {"id":"7","prompt":"…","completion":"…","label":"…","question_type":"선택형","step":12,"index":96}
//! ```
//!
//! and answers with one line per sample, in any order,
//!
//! ```json
//! {"index":96,"reward":0.5}
//! ```
//!
//! where `null` instead of a number means that this sample has no such reward. `NaN` and `Infinity`
//! mean the same and are counted; they are not JSON, but some programs write them. Other keys of an
//! answer are ignored. An `index` is never used twice while the program runs. Standard output is only
//! for answers and must be flushed after each batch; standard error is shown when the program fails.
//! The program should end when its standard input does.
//!
//! `step` counts from 1. Samples of step 0 are reference answers and nonsense: they check, before the
//! first step, that the program distinguishes the two.

use serde::Serialize;
use serde_json::Value;

use super::RewardSample;

/// The instruction in an error for the author of a command.
pub(super) const ANSWER_FORM: &str = "answer one line {\"index\": …, \"reward\": number or null} \
                                      for each sample, and write everything else to standard error";

/// The characters of an unreadable line that an error shows.
const SHOWN_CHARACTERS: usize = 200;

#[derive(Serialize)]
struct Request<'a> {
    id: &'a str,
    prompt: &'a str,
    completion: &'a str,
    label: &'a str,
    question_type: &'a str,
    step: u64,
    index: u64,
}

/// Appends the line that asks for the reward of `sample`.
pub(super) fn write_request(
    lines: &mut Vec<u8>,
    sample: &RewardSample<'_>,
    index: u64,
) -> serde_json::Result<()> {
    let request = Request {
        id: sample.id,
        prompt: sample.prompt,
        completion: sample.completion,
        label: sample.label,
        question_type: sample.question_type,
        step: sample.step,
        index,
    };
    serde_json::to_writer(&mut *lines, &request)?;
    lines.push(b'\n');
    Ok(())
}

/// A program's reward for one sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Answer {
    Number(f64),
    /// `null`.
    Missing,
    /// NaN or an infinity, as Python's `json.dumps` writes them.
    NotFinite,
}

/// The (index, reward) of an answer, or the problem with it.
pub(super) fn read_answer(line: &[u8]) -> Result<(u64, Answer), String> {
    let shown = || shortened(&String::from_utf8_lossy(line));
    let mut missing = Answer::Missing;
    let parsed = serde_json::from_slice(line).or_else(|error| {
        let without = without_nonfinite(line).ok_or(error)?;
        missing = Answer::NotFinite;
        serde_json::from_slice(&without)
    });
    let answer: Value = parsed.map_err(|error| {
        format!(
            "wrote {}, which is not JSON ({error}): {ANSWER_FORM}",
            shown()
        )
    })?;
    let Some(index) = answer.get("index").and_then(Value::as_u64) else {
        return Err(format!(
            "wrote {} without an \"index\": {ANSWER_FORM}",
            shown()
        ));
    };
    match answer.get("reward") {
        Some(Value::Null) => Ok((index, missing)),
        Some(Value::Number(number)) if number.as_f64().is_some_and(f64::is_finite) => {
            Ok((index, number.as_f64().map_or(missing, Answer::Number)))
        }
        _ => Err(format!(
            "wrote {}, where \"reward\" is neither a number nor null: {ANSWER_FORM}",
            shown()
        )),
    }
}

/// The line with a reward that is NaN or infinite replaced by `null`; `None` if there is none.
fn without_nonfinite(line: &[u8]) -> Option<Vec<u8>> {
    const KEY: &str = "\"reward\"";
    let text = std::str::from_utf8(line).ok()?;
    text.match_indices(KEY).find_map(|(at, _)| {
        let after = text[at + KEY.len()..].trim_start();
        let value = after.strip_prefix(':')?.trim_start();
        let word = ["NaN", "Infinity", "-Infinity"]
            .into_iter()
            .find(|word| value.starts_with(word))?;
        let start = text.len() - value.len();
        Some(
            [&text[..start], "null", &value[word.len()..]]
                .concat()
                .into_bytes(),
        )
    })
}

/// `text` in backquotes, cut at [`SHOWN_CHARACTERS`].
fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_other_keys_ignored() {
        let read = |line: &str| read_answer(line.as_bytes()).unwrap();
        assert_eq!(
            read(r#"{"index":3,"reward":-0.5}"#),
            (3, Answer::Number(-0.5))
        );
        assert_eq!(
            read(r#" {"reward":1,"note":[],"index":0} "#),
            (0, Answer::Number(1.0))
        );
        assert_eq!(read(r#"{"index":3,"reward":null}"#), (3, Answer::Missing));
        for word in ["NaN", "Infinity", "-Infinity"] {
            let line = format!(r#"{{"index": 7, "reward": {word}, "note": "reward"}}"#);
            assert_eq!(read(&line), (7, Answer::NotFinite));
        }
    }

    #[test]
    fn a_line_that_is_not_an_answer_is_explained() {
        for (line, part) in [
            ("loading model", "`loading model`, which is not JSON"),
            ("", "``, which is not JSON"),
            (r#"{"index":0,"reward":nan}"#, "not JSON"),
            (r#"{"reward":NaN}"#, "without an \"index\""),
            (r#"["reward":NaN]"#, "not JSON"),
            (r#"{"index":0,"reward":1e999}"#, "not JSON"),
            (r#"[0, 1]"#, "without an \"index\""),
            (r#"{"reward":1}"#, "without an \"index\""),
            (r#"{"index":-1,"reward":1}"#, "without an \"index\""),
            (r#"{"index":0}"#, "neither a number nor null"),
            (r#"{"index":0,"reward":"1"}"#, "neither a number nor null"),
        ] {
            let problem = read_answer(line.as_bytes()).unwrap_err();
            assert!(problem.contains(part), "{part:?} is not in {problem}");
            assert!(problem.contains("number or null}"), "{problem}");
        }
    }

    #[test]
    fn a_long_line_is_cut_in_the_message() {
        let problem = read_answer("가".repeat(1000).as_bytes()).unwrap_err();
        assert!(problem.contains(&format!("`{}…`", "가".repeat(200))));
    }
}
