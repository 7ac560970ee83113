//! The filter that every screen has.

use regex::{Regex, RegexBuilder};

/// A regular expression without regard to case; a leading `!` keeps what does not match. What is
/// no regular expression is taken as plain text.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    text: String,
    expression: Option<Regex>,
    is_inverted: bool,
}

/// Compiled expressions larger than this are taken as plain text, in bytes.
const LARGEST_EXPRESSION: usize = 1 << 20;

impl Filter {
    /// Parses what the user typed.
    pub fn new(text: &str) -> Self {
        let (is_inverted, pattern) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let build = |pattern: &str| {
            RegexBuilder::new(pattern)
                .case_insensitive(true)
                .size_limit(LARGEST_EXPRESSION)
                .build()
                .ok()
        };
        let expression = match pattern {
            "" => None,
            _ => build(pattern).or_else(|| build(&regex::escape(pattern))),
        };
        Self {
            text: text.to_owned(),
            expression,
            is_inverted,
        }
    }

    /// As it was typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether everything passes.
    pub fn is_empty(&self) -> bool {
        self.expression.is_none()
    }

    /// Whether any of the texts matches (with `!`: none of them).
    pub fn passes<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> bool {
        let Some(expression) = &self.expression else {
            return true;
        };
        let matches = texts.into_iter().any(|text| expression.is_match(text));
        matches != self.is_inverted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_plain_text_and_inversion() {
        let passes =
            |filter: &str, texts: &[&str]| Filter::new(filter).passes(texts.iter().copied());
        assert!(passes("", &["x"]) && passes("!", &["x"]));
        assert!(passes("치렀?", &["행사를 치렀다"]));
        assert!(passes("EPOCH", &["epoch_1", "step_2"]));
        assert!(!passes("!epoch", &["epoch_1", "step_2"]));
        assert!(
            passes("(안", &["동생은 (안) 갔다"]),
            "no expression, so plain text"
        );
    }
}
