//! What a reward command reads and writes: JSON, one object a line.
//!
//! For each batch it reads one line a sample
//!
//! ```json
//! {"id":"7","prompt":"…","completion":"…","label":"…","question_type":"선택형","step":12,"index":96}
//! ```
//!
//! and answers one line a sample, in any order,
//!
//! ```json
//! {"index":96,"reward":0.5}
//! ```
//!
//! where `null` in place of the number means that this sample has no such
//! reward. `NaN` and `Infinity`, which are no JSON and which some programs
//! write all the same, mean that too and are counted. Other keys of an answer are passed over. `index` is never used
//! twice in the life of the program. Standard output is for answers alone and
//! must be flushed after each batch; what the program writes to standard error
//! is shown when it fails. It should end when its standard input does.
//!
//! `step` counts from 1. Samples of step 0 are reference answers and nonsense, to
//! see before the first step that the two are told apart.

use serde::Serialize;
use serde_json::Value;

use super::RewardSample;

/// What an error tells the author of a command to do.
pub(super) const ANSWER_FORM: &str = "answer one line {\"index\": …, \"reward\": number or null} \
                                      for each sample, and write everything else to standard error";

/// How much of an unreadable line an error shows, in characters.
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

/// What a program answers for one sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Given {
    Number(f64),
    /// `null`.
    Nothing,
    /// NaN or an infinity, as Python's `json.dumps` writes them.
    NotFinite,
}

/// The (index, reward) of an answer, or what is wrong with it.
pub(super) fn read_answer(line: &[u8]) -> Result<(u64, Given), String> {
    let shown = || shortened(&String::from_utf8_lossy(line));
    let mut nothing = Given::Nothing;
    let parsed = serde_json::from_slice(line).or_else(|error| {
        let without = without_nonfinite(line).ok_or(error)?;
        nothing = Given::NotFinite;
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
        Some(Value::Null) => Ok((index, nothing)),
        Some(Value::Number(number)) if number.as_f64().is_some_and(f64::is_finite) => {
            Ok((index, number.as_f64().map_or(nothing, Given::Number)))
        }
        _ => Err(format!(
            "wrote {}, where \"reward\" is neither a number nor null: {ANSWER_FORM}",
            shown()
        )),
    }
}

/// The line with `null` in place of a reward that is NaN or infinite; `None` where it is not.
fn without_nonfinite(line: &[u8]) -> Option<Vec<u8>> {
    const KEY: &str = "\"reward\"";
    let text = std::str::from_utf8(line).ok()?;
    text.match_indices(KEY).find_map(|(at, _)| {
        let behind = text[at + KEY.len()..].trim_start();
        let value = behind.strip_prefix(':')?.trim_start();
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
    fn answers_are_read_and_other_keys_passed_over() {
        let read = |line: &str| read_answer(line.as_bytes()).unwrap();
        assert_eq!(
            read(r#"{"index":3,"reward":-0.5}"#),
            (3, Given::Number(-0.5))
        );
        assert_eq!(
            read(r#" {"reward":1,"note":[],"index":0} "#),
            (0, Given::Number(1.0))
        );
        assert_eq!(read(r#"{"index":3,"reward":null}"#), (3, Given::Nothing));
        for word in ["NaN", "Infinity", "-Infinity"] {
            let line = format!(r#"{{"index": 7, "reward": {word}, "note": "reward"}}"#);
            assert_eq!(read(&line), (7, Given::NotFinite));
        }
    }

    #[test]
    fn what_is_no_answer_says_what_is_wrong_with_it() {
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
    fn a_long_line_is_shown_cut() {
        let problem = read_answer("가".repeat(1000).as_bytes()).unwrap_err();
        assert!(problem.contains(&format!("`{}…`", "가".repeat(200))));
    }
}
