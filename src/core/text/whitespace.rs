//! Whitespace as Python's `str.strip`, `str.split` and `\s` see it.
//!
//! The reference implementations of the metrics and of chat templates are Python.
//! Python counts U+001C to U+001F as whitespace and Unicode's White_Space property
//! (Rust's [`char::is_whitespace`]) does not; on all other characters they agree.

/// Whether Python's `str.isspace` holds for `character`.
pub fn is_python_whitespace(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// `text` without Python whitespace at either end (`str.strip()`).
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_python_whitespace)
}

/// `text` with each run of Python whitespace turned into one space and trimmed
/// (`" ".join(text.split())`).
pub fn collapse(text: &str) -> String {
    let mut collapsed = String::with_capacity(text.len());
    for word in text
        .split(is_python_whitespace)
        .filter(|word| !word.is_empty())
    {
        if !collapsed.is_empty() {
            collapsed.push(' ');
        }
        collapsed.push_str(word);
    }
    collapsed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_of_ascii_are_whitespace_and_the_zero_width_space_is_not() {
        assert_eq!(strip("\u{1f} 말 \u{1c}\n"), "말");
        assert_eq!(strip("\u{200b}말"), "\u{200b}말");
        assert_eq!(collapse("  가\u{3000}\u{a0}나\t\u{1d}다 "), "가 나 다");
        assert_eq!(collapse(" \n"), "");
    }
}
