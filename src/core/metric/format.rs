//! The format metric: does the answer start in the form that the task requires?

use anyhow::{Context, Result};
use regex::Regex;

use crate::text::whitespace::strip;

/// A pattern that a completion must match from its first character on.
///
/// The text is the trimmed raw completion. Nothing is normalised first, so a curly quote or a
/// leading `답변:` counts as a miss: the model should learn the form itself, not something close to
/// it. Any text can follow the match, as with Python's `re.match`.
#[derive(Debug, Clone)]
pub struct FormatPattern {
    regex: Regex,
}

impl FormatPattern {
    /// Compiles `pattern` (the key `reward.format_pattern`).
    ///
    /// # Errors
    /// The pattern is not a regular expression of the `regex` crate, which has neither look-around
    /// nor back-references.
    pub fn new(pattern: &str) -> Result<Self> {
        let regex = Regex::new(&format!(r"\A(?:{pattern})")).with_context(|| {
            format!(
                "reward.format_pattern = '{pattern}' is not a regular expression that can be \
                 used here: correct it, and write it without look-ahead, look-behind and \
                 back-references, which are not supported"
            )
        })?;
        Ok(Self { regex })
    }

    /// 1 if the trimmed completion matches at its start, else 0.
    pub fn score(&self, completion: &str) -> f64 {
        f64::from(u8::from(self.regex.is_match(strip(completion))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: &str = r#"^"[^"]+"[이가] 옳다[.]?"#;

    #[test]
    fn the_default_pattern_accepts_what_the_task_requires() {
        let pattern = FormatPattern::new(DEFAULT).unwrap();
        for (completion, expected) in [
            ("\"이제 집에 가도 돼요.\"가 옳다. 준말이다.", 1.0),
            ("  \n\"소문이 금세 퍼졌음\"이 옳다", 1.0),
            ("“이제 집에 가도 돼요.”가 옳다. 준말이다.", 0.0),
            ("\"이제 집에 가도 돼요.\" 가 옳다.", 0.0),
            ("답변: \"이제 집에 가도 돼요.\"가 옳다.", 0.0),
            ("\"\"가 옳다.", 0.0),
            ("", 0.0),
        ] {
            assert_eq!(pattern.score(completion), expected, "{completion:?}");
        }
    }

    #[test]
    fn a_pattern_is_anchored_whole_even_with_alternatives() {
        let pattern = FormatPattern::new("가|나").unwrap();
        assert_eq!(pattern.score("나다"), 1.0);
        assert_eq!(pattern.score("다나"), 0.0);
    }

    #[test]
    fn a_pattern_with_look_ahead_is_refused_with_a_fix() {
        let message = format!("{:#}", FormatPattern::new("(?=가)").unwrap_err());
        assert!(message.contains("reward.format_pattern = '(?=가)'"));
        assert!(message.contains("without look-ahead"));
    }
}
