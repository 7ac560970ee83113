//! Text in terminal cells: widths, cutting, wrapping, cleaning.
//!
//! A cell is what a narrow letter takes; 한 takes two. Everything here goes by grapheme
//! (what a reader calls one character) and by the widths with which ratatui draws.

mod fuzzy;
mod number;
mod wrap;

use ratatui::buffer::CellWidth;
use unicode_normalization::{UnicodeNormalization, is_nfc};
use unicode_segmentation::UnicodeSegmentation;

pub use fuzzy::fuzzy_score;
pub use number::{age, bytes, compact, delta, duration, percent};
pub use wrap::{wrap, wrap_runs};

/// Cells between two tab stops.
const TAB: usize = 4;

/// Which side of its cells a text keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Names and sentences.
    Left,
    /// Numbers.
    Right,
    /// Titles.
    Center,
}

/// Cells that one grapheme takes; none for control characters, which are never drawn.
pub fn grapheme_width(grapheme: &str) -> usize {
    if grapheme.chars().any(char::is_control) {
        0
    } else {
        usize::from(grapheme.cell_width())
    }
}

/// Cells that a text takes on one line.
pub fn width(text: &str) -> usize {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return text.len();
    }
    text.graphemes(true).map(grapheme_width).sum()
}

/// The text if it fits into `cells`, else as much of its beginning as fits before
/// `ellipsis`. A wide grapheme is never cut in half, so the answer may be a cell short.
pub fn truncate(text: &str, cells: usize, ellipsis: &str) -> String {
    if width(text) <= cells {
        return text.to_owned();
    }
    let mark = width(ellipsis);
    let (room, mark) = if mark <= cells {
        (cells - mark, ellipsis)
    } else {
        (cells, "")
    };
    format!("{}{mark}", prefix(text, room))
}

/// The longest beginning of a text that fits into `cells`.
pub fn prefix(text: &str, cells: usize) -> &str {
    let mut used = 0;
    for (place, grapheme) in text.grapheme_indices(true) {
        used += grapheme_width(grapheme);
        if used > cells {
            return text.get(..place).unwrap_or_default();
        }
    }
    text
}

/// The text in exactly `cells`, at their left: cut where it is longer, filled with spaces
/// where it is shorter.
pub fn fit(text: &str, cells: usize) -> String {
    aligned(text, cells, Align::Left, "")
}

/// The text in exactly `cells`, at either side of them, and cut with `ellipsis`.
pub fn aligned(text: &str, cells: usize, align: Align, ellipsis: &str) -> String {
    let text = truncate(text, cells, ellipsis);
    let free = cells.saturating_sub(width(&text));
    let before = match align {
        Align::Left => 0,
        Align::Right => free,
        Align::Center => free / 2,
    };
    let mut line = " ".repeat(before);
    line.push_str(&text);
    line.push_str(&" ".repeat(free - before));
    line
}

/// The text in normal form C, in which a Hangul syllable is one code point however it
/// was typed or pasted.
pub fn nfc(text: &str) -> String {
    if is_nfc(text) {
        text.to_owned()
    } else {
        text.nfc().collect()
    }
}

/// The text without anything that could act on a terminal or mislead its reader: escape
/// sequences go whole, then control characters and marks that turn the direction of
/// writing. Line ends become `\n`; they and tabs stay.
///
/// Every text that a model or a file brings passes here before it is drawn.
pub fn sanitize(text: &str) -> String {
    if !text.chars().any(is_unsafe) {
        return text.to_owned();
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let after = rest.get(character.len_utf8()..).unwrap_or_default();
        rest = match character {
            '\u{1b}' => after_escape(after),
            // The one-character forms of ESC [ and ESC ].
            '\u{9b}' => after_control_sequence(after),
            '\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}' => after_string(after),
            '\r' => {
                clean.push('\n');
                after.strip_prefix('\n').unwrap_or(after)
            }
            '\u{2028}' | '\u{2029}' | '\u{85}' => {
                clean.push('\n');
                after
            }
            _ => {
                if !is_unsafe(character) {
                    clean.push(character);
                }
                after
            }
        };
    }
    clean
}

/// [`sanitize`], in normal form C and on one line: line ends and tabs become spaces.
pub fn single_line(text: &str) -> String {
    nfc(&sanitize(text)).replace(['\n', '\t'], " ")
}

fn is_unsafe(character: char) -> bool {
    let turns_direction = matches!(
        character,
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    let ends_line = matches!(character, '\u{2028}' | '\u{2029}');
    let is_control = character.is_control() && character != '\n' && character != '\t';
    is_control || turns_direction || ends_line || character == '\u{feff}'
}

/// What follows an escape sequence, of which ESC itself is already taken.
fn after_escape(text: &str) -> &str {
    let Some(first) = text.chars().next() else {
        return text;
    };
    let after = text.get(first.len_utf8()..).unwrap_or_default();
    match first {
        '[' => after_control_sequence(after),
        ']' | 'P' | 'X' | '^' | '_' => after_string(after),
        // Intermediate bytes and a final one, such as `ESC ( B`.
        ' '..='/' => {
            let rest = after.trim_start_matches(|byte| matches!(byte, ' '..='/'));
            rest.strip_prefix(|last| matches!(last, '0'..='~'))
                .unwrap_or(rest)
        }
        '0'..='~' => after,
        _ => text,
    }
}

/// After `ESC [`: parameters, intermediates and one final byte (ECMA-48, 5.4).
fn after_control_sequence(text: &str) -> &str {
    let rest = text.trim_start_matches(|byte| matches!(byte, ' '..='?'));
    rest.strip_prefix(|last| matches!(last, '@'..='~'))
        .unwrap_or(rest)
}

/// After `ESC ]` and its kin: a string up to BEL or ESC \. A string that never ends is
/// text whose beginning was garbled, and stays.
fn after_string(text: &str) -> &str {
    let Some(end) = text.find(['\u{7}', '\u{1b}', '\u{9c}', '\n']) else {
        return text;
    };
    let rest = text.get(end..).unwrap_or_default();
    if rest.starts_with('\n') {
        return text;
    }
    ["\u{1b}\\", "\u{7}", "\u{9c}"]
        .iter()
        .find_map(|terminator| rest.strip_prefix(terminator))
        .unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn width_counts_cells() {
        assert_eq!(width("abc"), 3);
        assert_eq!(width("한국어"), 6);
        let decomposed: String = "한".nfd().collect();
        assert_eq!(decomposed.chars().count(), 3);
        assert_eq!(width(&decomposed), 2);
        assert_eq!(width("e\u{301}"), 1);
        assert_eq!(width("a\u{7}b"), 2);
        assert_eq!(width(""), 0);
    }

    #[test]
    fn truncation_never_halves_a_syllable() {
        assert_eq!(truncate("한국어", 6, "…"), "한국어");
        assert_eq!(truncate("한국어", 5, "…"), "한국…");
        assert_eq!(truncate("한국어", 4, "…"), "한…");
        assert_eq!(truncate("한국어", 1, "…"), "…");
        assert_eq!(truncate("한국어", 1, "..."), "");
        assert_eq!(truncate("한국어", 0, "…"), "");
    }

    #[test]
    fn fit_fills_exactly() {
        for cells in 0..10 {
            for align in [Align::Left, Align::Right, Align::Center] {
                assert_eq!(width(&aligned("점수 91", cells, align, "…")), cells);
            }
        }
        assert_eq!(aligned("한", 5, Align::Right, "…"), "   한");
        assert_eq!(aligned("한", 5, Align::Center, "…"), " 한  ");
        assert_eq!(aligned("한국어", 4, Align::Left, "…"), "한… ");
        // The half of 국 that would fit is a space.
        assert_eq!(fit("한국어", 3), "한 ");
    }

    #[test]
    fn nothing_that_acts_on_a_terminal_comes_through() {
        let cases = [
            ("\u{1b}[31m빨강\u{1b}[0m", "빨강"),
            ("\u{1b}]0;title\u{7}after", "after"),
            ("\u{1b}]8;;http://a\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}]0;never ended 문장", "0;never ended 문장"),
            ("\u{9b}2Jclear", "clear"),
            ("\u{1b}(Bcharset\u{1b}c", "charset"),
            ("a\u{0}b\u{8}c\u{7f}", "abc"),
            ("one\r\ntwo\rthree\u{2028}four", "one\ntwo\nthree\nfour"),
            ("tab\tstays", "tab\tstays"),
            ("\u{202e}evil\u{202c}", "evil"),
            ("\u{1b}", ""),
            ("\u{1b}\u{1b}[2J", ""),
            ("\u{1b}한", "한"),
        ];
        for (text, expected) in cases {
            assert_eq!(sanitize(text), expected, "{text:?}");
        }
    }

    #[test]
    fn single_line_composes_and_joins() {
        let decomposed: String = "정답:\n가\t나".nfd().collect();
        assert_eq!(single_line(&decomposed), "정답: 가 나");
    }
}
