//! One line of text that the user edits.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use unicode_segmentation::UnicodeSegmentation;

use super::{cells, put};
use crate::tui::text::{grapheme_width, nfc, prefix, single_line, width};

/// Text and caret of a field. The text is always in normal form C and on one line, so a
/// syllable that an input method composes or that is pasted in parts is one grapheme.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextField {
    text: String,
    /// Graphemes before the caret.
    caret: usize,
}

/// What a key did to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldOutcome {
    /// The text is another.
    Changed,
    /// The field took the key, and the text is the same.
    Moved,
    /// The key means nothing to a field.
    Ignored,
}

impl TextField {
    /// A field with this text and the caret at its end.
    pub fn new(text: &str) -> Self {
        let mut field = Self::default();
        field.set(text);
        field
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Puts another text in place, with the caret at its end.
    pub fn set(&mut self, text: &str) {
        self.text = single_line(text);
        self.caret = self.count();
    }

    /// Cells before the caret.
    pub fn caret_cell(&self) -> usize {
        width(self.before_caret())
    }

    /// Puts text in at the caret: line ends and tabs become spaces, control characters
    /// and escape sequences go.
    pub fn paste(&mut self, text: &str) {
        let before = nfc(&format!("{}{}", self.before_caret(), single_line(text)));
        let whole = nfc(&format!("{before}{}", self.after_caret()));
        // What is put in may join the grapheme before the caret or the one after it.
        self.caret = before.graphemes(true).count();
        self.text = whole;
        self.caret = self.caret.min(self.count());
    }

    /// Puts one character in at the caret.
    pub fn insert(&mut self, character: char) {
        self.paste(character.encode_utf8(&mut [0; 4]));
    }

    /// Takes away the grapheme before the caret.
    pub fn backspace(&mut self) {
        self.remove(self.caret.saturating_sub(1), self.caret);
    }

    /// Takes away the grapheme after the caret.
    pub fn delete(&mut self) {
        self.remove(self.caret, self.caret + 1);
    }

    /// Takes away everything before the caret.
    pub fn kill_to_start(&mut self) {
        self.remove(0, self.caret);
    }

    /// Takes away everything after the caret.
    pub fn kill_to_end(&mut self) {
        self.remove(self.caret, self.count());
    }

    /// Takes away the word before the caret.
    pub fn kill_word(&mut self) {
        self.remove(self.word_start(), self.caret);
    }

    /// One grapheme to the left.
    pub fn left(&mut self) {
        self.caret = self.caret.saturating_sub(1);
    }

    /// One grapheme to the right.
    pub fn right(&mut self) {
        self.caret = (self.caret + 1).min(self.count());
    }

    /// Before the text.
    pub fn home(&mut self) {
        self.caret = 0;
    }

    /// Behind the text.
    pub fn end(&mut self) {
        self.caret = self.count();
    }

    /// To the start of the word before the caret.
    pub fn word_left(&mut self) {
        self.caret = self.word_start();
    }

    /// To the end of the word after the caret.
    pub fn word_right(&mut self) {
        let after: Vec<&str> = self.after_caret().graphemes(true).collect();
        self.caret += word_length(after.into_iter());
    }

    /// Takes a key: letters, and the editing keys of a shell.
    pub fn handle(&mut self, key: KeyEvent) -> FieldOutcome {
        if key.kind == KeyEventKind::Release {
            return FieldOutcome::Ignored;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        let before = self.text.clone();
        match key.code {
            KeyCode::Char('a') if control && !alt => self.home(),
            KeyCode::Char('e') if control && !alt => self.end(),
            KeyCode::Char('b') if control && !alt => self.left(),
            KeyCode::Char('f') if control && !alt => self.right(),
            KeyCode::Char('h') if control && !alt => self.backspace(),
            KeyCode::Char('d') if control && !alt => self.delete(),
            KeyCode::Char('u') if control && !alt => self.kill_to_start(),
            KeyCode::Char('k') if control && !alt => self.kill_to_end(),
            KeyCode::Char('w') if control && !alt => self.kill_word(),
            KeyCode::Char('b') if alt && !control => self.word_left(),
            KeyCode::Char('f') if alt && !control => self.word_right(),
            // AltGr comes as both: the letter is meant.
            KeyCode::Char(letter) if control == alt => self.insert(letter),
            KeyCode::Backspace if control || alt => self.kill_word(),
            KeyCode::Backspace => self.backspace(),
            KeyCode::Delete => self.delete(),
            KeyCode::Left if control || alt => self.word_left(),
            KeyCode::Right if control || alt => self.word_right(),
            KeyCode::Left => self.left(),
            KeyCode::Right => self.right(),
            KeyCode::Home => self.home(),
            KeyCode::End => self.end(),
            _ => return FieldOutcome::Ignored,
        }
        if self.text == before {
            FieldOutcome::Moved
        } else {
            FieldOutcome::Changed
        }
    }

    /// Draws the text into the first row of an area, scrolled so that the caret is on the
    /// screen, and returns the caret's cell. The view passes it to
    /// `Frame::set_cursor_position`: input methods draw what is being composed at the
    /// terminal's own cursor, so none is painted here.
    pub fn render(&self, area: Rect, buf: &mut Buffer, style: Style) -> Position {
        let area = area.intersection(buf.area);
        let room = usize::from(area.width);
        if room == 0 || area.height == 0 {
            return area.as_position();
        }
        let caret = self.caret_cell();
        // One more cell for the caret behind the last letter. In a longer text the caret
        // stays in the middle, with what comes before and after it in sight.
        let whole = width(&self.text) + 1;
        let wanted = caret
            .saturating_sub(room / 2)
            .min(whole.saturating_sub(room));
        let (hidden, text) = self.starting_at(wanted);
        buf.set_style(Rect { height: 1, ..area }, style);
        put(buf, area, 0, 0, &" ".repeat(room), style);
        put(buf, area, 0, 0, prefix(text, room), style);
        let column = cells(caret.saturating_sub(hidden)).min(area.width - 1);
        Position::new(area.x + column, area.y)
    }

    /// The text from the first grapheme that begins at or after a cell, with the cells
    /// before it.
    fn starting_at(&self, cell: usize) -> (usize, &str) {
        let mut used = 0;
        for (place, grapheme) in self.text.grapheme_indices(true) {
            if used >= cell {
                return (used, self.text.get(place..).unwrap_or_default());
            }
            used += grapheme_width(grapheme);
        }
        (used, "")
    }

    fn count(&self) -> usize {
        self.text.graphemes(true).count()
    }

    fn byte(&self, grapheme: usize) -> usize {
        self.text
            .grapheme_indices(true)
            .nth(grapheme)
            .map_or(self.text.len(), |(place, _)| place)
    }

    fn before_caret(&self) -> &str {
        self.text.get(..self.byte(self.caret)).unwrap_or_default()
    }

    fn after_caret(&self) -> &str {
        self.text.get(self.byte(self.caret)..).unwrap_or_default()
    }

    fn word_start(&self) -> usize {
        let before: Vec<&str> = self.before_caret().graphemes(true).collect();
        self.caret - word_length(before.into_iter().rev())
    }

    /// Takes away the graphemes from `start` to `end`; the caret is at `start` then.
    fn remove(&mut self, start: usize, end: usize) {
        let (first, last) = (self.byte(start), self.byte(end));
        self.text.replace_range(first..last, "");
        self.text = nfc(&self.text);
        self.caret = start.min(self.count());
    }
}

/// Graphemes up to the far end of the next word, with what is before it.
fn word_length<'a>(graphemes: impl Iterator<Item = &'a str>) -> usize {
    let mut length = 0;
    let mut has_begun = false;
    for grapheme in graphemes {
        let is_letter = grapheme.chars().any(char::is_alphanumeric);
        if has_begun && !is_letter {
            break;
        }
        has_begun |= is_letter;
        length += 1;
    }
    length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_normalization::{UnicodeNormalization, is_nfc};

    use super::*;
    use crate::tui::widgets::testing::{draw_anywhere, drawn};

    fn key(code: KeyCode, modifiers: KeyModifiers) -> KeyEvent {
        KeyEvent::new(code, modifiers)
    }

    fn control(letter: char) -> KeyEvent {
        key(KeyCode::Char(letter), KeyModifiers::CONTROL)
    }

    #[test]
    fn jamo_join_to_syllables() {
        let mut field = TextField::new("");
        for jamo in "한글".nfd() {
            field.insert(jamo);
        }
        assert_eq!(field.text(), "한글");
        assert_eq!((field.caret, field.caret_cell()), (2, 4));
        field.paste(&"국어".nfd().collect::<String>());
        assert_eq!(field.text(), "한글국어");
        field.backspace();
        assert_eq!(field.text(), "한글국");
    }

    #[test]
    fn a_mark_put_in_joins_the_letter_before_it() {
        let mut field = TextField::new("ea");
        field.left();
        field.insert('\u{301}');
        assert_eq!((field.text(), field.caret), ("éa", 1));
    }

    #[test]
    fn pasted_text_is_one_clean_line() {
        let mut field = TextField::new("처음 끝");
        field.word_left();
        field.paste("가\r\n나\t\u{1b}[31m다 ");
        assert_eq!(field.text(), "처음 가 나 다 끝");
        assert_eq!(field.caret, 9);
    }

    #[test]
    fn keys_of_a_shell() {
        let mut field = TextField::new("보상 가중치 0.5");
        let steps: [(KeyEvent, FieldOutcome, &str, usize); 9] = [
            (control('w'), FieldOutcome::Changed, "보상 가중치 0.", 9),
            (control('a'), FieldOutcome::Moved, "보상 가중치 0.", 0),
            (
                key(KeyCode::Right, KeyModifiers::CONTROL),
                FieldOutcome::Moved,
                "보상 가중치 0.",
                2,
            ),
            (control('k'), FieldOutcome::Changed, "보상", 2),
            (
                key(KeyCode::Char('A'), KeyModifiers::SHIFT),
                FieldOutcome::Changed,
                "보상A",
                3,
            ),
            (
                key(KeyCode::Left, KeyModifiers::NONE),
                FieldOutcome::Moved,
                "보상A",
                2,
            ),
            (control('u'), FieldOutcome::Changed, "A", 0),
            (
                key(KeyCode::Delete, KeyModifiers::NONE),
                FieldOutcome::Changed,
                "",
                0,
            ),
            (
                key(KeyCode::Backspace, KeyModifiers::NONE),
                FieldOutcome::Moved,
                "",
                0,
            ),
        ];
        for (key, outcome, text, caret) in steps {
            assert_eq!(field.handle(key), outcome, "{key:?}");
            assert_eq!((field.text(), field.caret), (text, caret), "{key:?}");
        }
        for other in [control('s'), key(KeyCode::Enter, KeyModifiers::NONE)] {
            assert_eq!(field.handle(other), FieldOutcome::Ignored);
        }
    }

    #[test]
    fn the_caret_is_answered_in_cells_and_stays_in_sight() {
        let mut field = TextField::new("한국어 질문");
        let mut caret = Position::default();
        let mut draw = |field: &TextField| {
            let lines = drawn(6, 1, |area, buf| {
                caret = field.render(area, buf, Style::new());
            });
            (lines.concat(), caret.x)
        };
        assert_eq!(draw(&field), (" 질문".to_owned(), 5));
        field.home();
        assert_eq!(draw(&field), ("한국어".to_owned(), 0));
        field.right();
        assert_eq!(draw(&field), ("한국어".to_owned(), 2));
        assert_eq!(draw(&TextField::new("ab")), ("ab".to_owned(), 2));
    }

    proptest! {
        #[test]
        fn whatever_is_typed(
            text in "[가-힣ᄀ-하-ᅵᆨ-ᇂa-z\u{301}👍 ]{0,12}",
            keys in prop::collection::vec(0_usize..14, 0..40),
            x in 0_u16..40, width in 0_u16..12,
        ) {
            let mut field = TextField::new(&text);
            for choice in keys {
                match choice {
                    0 => field.insert('\u{1112}'),
                    1 => field.insert('\u{1161}'),
                    2 => field.insert('\u{301}'),
                    3 => field.paste(&text),
                    4 => field.backspace(),
                    5 => field.delete(),
                    6 => field.left(),
                    7 => field.right(),
                    8 => field.home(),
                    9 => field.end(),
                    10 => field.word_left(),
                    11 => field.word_right(),
                    12 => field.kill_word(),
                    _ => field.insert('\u{11ab}'),
                }
                prop_assert!(field.caret <= field.count());
                prop_assert!(is_nfc(field.text()));
            }
            draw_anywhere(Rect::new(x, 3, width, 1), |area, buf| {
                let caret = field.render(area, buf, Style::new());
                let inside = area.intersection(buf.area);
                assert!(inside.is_empty() || inside.contains(caret));
            });
        }
    }
}
