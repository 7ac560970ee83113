//! Breaking text into lines of a number of cells.

use unicode_segmentation::UnicodeSegmentation;

use super::{TAB, grapheme_width, nfc, sanitize};

/// The text in lines of at most `cells`: broken at spaces, words that are longer by
/// grapheme. Blank lines stay, tabs become spaces, and nothing that acts on a terminal
/// remains (`sanitize`). An empty text is one empty line. A grapheme that is wider than
/// `cells` cannot be drawn and is left out.
pub fn wrap(text: &str, cells: usize) -> Vec<String> {
    wrap_runs(&[((), text)], cells)
        .into_iter()
        .map(|line| line.into_iter().map(|(_, text)| text).collect())
        .collect()
}

/// [`wrap`] for text of several kinds, such as styles: each run keeps its kind, and a line
/// breaks within a run as well as between two.
pub fn wrap_runs<K: Copy + PartialEq>(runs: &[(K, &str)], cells: usize) -> Vec<Vec<(K, String)>> {
    let mut lines = Lines::new(cells);
    for (kind, text) in runs {
        let clean = nfc(&sanitize(text));
        for grapheme in clean.graphemes(true) {
            lines.push(*kind, grapheme);
        }
    }
    lines.finish()
}

struct Piece<K> {
    kind: K,
    grapheme: String,
    width: usize,
}

struct Lines<K> {
    cells: usize,
    done: Vec<Vec<(K, String)>>,
    line: Vec<Piece<K>>,
    line_width: usize,
    /// Where the word that is being read begins in `line`; everything before it may end
    /// the line.
    word_start: usize,
}

impl<K: Copy + PartialEq> Lines<K> {
    fn new(cells: usize) -> Self {
        Self {
            cells,
            done: Vec::new(),
            line: Vec::new(),
            line_width: 0,
            word_start: 0,
        }
    }

    fn push(&mut self, kind: K, grapheme: &str) {
        match grapheme {
            "\n" => self.end_line(),
            "\t" => {
                let spaces = TAB - self.line_width % TAB;
                for _ in 0..spaces {
                    self.push_space(kind);
                }
            }
            " " => self.push_space(kind),
            _ => self.push_visible(kind, grapheme),
        }
    }

    /// A space that does not fit disappears: the break takes its place.
    fn push_space(&mut self, kind: K) {
        if self.line_width < self.cells {
            self.append(kind, " ", 1);
        }
        self.word_start = self.line.len();
    }

    fn push_visible(&mut self, kind: K, grapheme: &str) {
        let width = grapheme_width(grapheme);
        if width > self.cells {
            return;
        }
        if self.line_width + width > self.cells {
            self.break_line();
            // The word alone may fill the new line.
            if self.line_width + width > self.cells {
                self.end_line();
            }
        }
        self.append(kind, grapheme, width);
    }

    fn append(&mut self, kind: K, grapheme: &str, width: usize) {
        self.line.push(Piece {
            kind,
            grapheme: grapheme.to_owned(),
            width,
        });
        self.line_width += width;
    }

    /// Ends the line before the unfinished word, or within it where it fills the line.
    fn break_line(&mut self) {
        let is_whole_line = self.word_start == 0;
        let word = if is_whole_line {
            Vec::new()
        } else {
            self.line.split_off(self.word_start)
        };
        // The space at the break is not drawn.
        while self
            .line
            .last()
            .is_some_and(|piece| piece.grapheme == " " && self.line.len() > 1)
        {
            self.line.pop();
        }
        self.end_line();
        self.line_width = word.iter().map(|piece| piece.width).sum();
        self.line = word;
    }

    fn end_line(&mut self) {
        let mut runs: Vec<(K, String)> = Vec::new();
        for piece in self.line.drain(..) {
            match runs.last_mut() {
                Some((kind, text)) if *kind == piece.kind => text.push_str(&piece.grapheme),
                _ => runs.push((piece.kind, piece.grapheme)),
            }
        }
        self.done.push(runs);
        self.line_width = 0;
        self.word_start = 0;
    }

    fn finish(mut self) -> Vec<Vec<(K, String)>> {
        self.end_line();
        self.done
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tui::text::width;

    #[test]
    fn lines_break_at_spaces() {
        assert_eq!(
            wrap("the quick brown fox", 9),
            ["the quick", "brown fox"].map(str::to_owned)
        );
        assert_eq!(
            wrap("한국어 문장을 나눈다", 7),
            ["한국어", "문장을", "나눈다"]
        );
    }

    #[test]
    fn long_words_break_by_grapheme() {
        assert_eq!(wrap("가나다라마", 5), ["가나", "다라", "마"]);
        assert_eq!(
            wrap("짧은 아주아주긴낱말", 6),
            ["짧은", "아주아", "주긴낱", "말"]
        );
    }

    #[test]
    fn blank_lines_indents_and_tabs_stay() {
        assert_eq!(wrap("a\n\n  b\n", 10), ["a", "", "  b", ""]);
        assert_eq!(wrap("a\tb", 10), ["a   b"]);
        assert_eq!(wrap("", 10), [""]);
        assert_eq!(wrap("\u{1b}[2Ja\u{7}b", 10), ["ab"]);
    }

    #[test]
    fn kinds_survive_a_break() {
        let lines = wrap_runs(&[(1, "ab "), (2, "cd ef")], 5);
        let text = str::to_owned;
        assert_eq!(
            lines,
            [
                vec![(1, text("ab ")), (2, text("cd"))],
                vec![(2, text("ef"))]
            ]
        );
    }

    proptest! {
        #[test]
        fn no_line_is_too_wide_and_no_letter_is_lost(
            text in "[ a-z가-힣\\n\\t]{0,60}",
            cells in 2_usize..20,
        ) {
            let lines = wrap(&text, cells);
            prop_assert!(lines.iter().all(|line| width(line) <= cells));
            let letters = |text: &str| text.split_whitespace().collect::<String>();
            prop_assert_eq!(letters(&lines.concat()), letters(&text));
        }

        #[test]
        fn any_text_at_any_width(text in "\\PC{0,40}|[\\x00-\\x7f]{0,40}", cells in 0_usize..9) {
            let lines = wrap(&text, cells);
            prop_assert!(!lines.is_empty());
            prop_assert!(lines.iter().all(|line| width(line) <= cells));
        }
    }
}
