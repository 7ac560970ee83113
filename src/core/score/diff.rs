//! Differences between two texts for display, by grapheme or by eojeol.
//!
//! Texts are compared in NFC, so that a decomposed 한 equals the composed one, and the segments are
//! NFC as well. The same input gives the same segments: the cost is limited by the sizes of the
//! texts, never by a clock.

use std::ops::Range;

use serde::Serialize;
use similar::{Algorithm, DiffTag, capture_diff_slices};
use unicode_normalization::UnicodeNormalization;
use unicode_segmentation::UnicodeSegmentation;

/// Above this product of the two lengths, in units, a coarser unit is used: the search takes some
/// milliseconds there and grows with the product.
const LARGEST_TABLE: usize = 1_000_000;

/// The unit of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiffUnit {
    /// A user-perceived character: a syllable, a lone jamo, an emoji with its modifiers.
    Grapheme,
    /// A run of characters between white space, 어절. The white space is a unit too.
    Eojeol,
}

/// Which of the two texts a segment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentKind {
    /// In both texts.
    Equal,
    /// Only in the first.
    Removed,
    /// Only in the second.
    Added,
}

/// A part of a diff; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Segment {
    /// The texts that it belongs to.
    pub kind: SegmentKind,
    /// In NFC.
    pub text: String,
}

/// The changes from `old` to `new` as one sequence; at each change the removed text comes before the
/// added text. Equal and removed segments together are `old`, equal and added ones `new`.
///
/// A short equal run between two changes is part of the change, so that a word that kept one
/// syllable of three reads as another word. Texts too long for [`DiffUnit::Grapheme`] are compared
/// by eojeol, and texts too long for that as a whole, except for a common beginning and end.
pub fn diff(old: &str, new: &str, unit: DiffUnit) -> Vec<Segment> {
    let (old, new): (String, String) = (old.nfc().collect(), new.nfc().collect());
    segments(&old, &new, unit)
}

fn segments(old: &str, new: &str, unit: DiffUnit) -> Vec<Segment> {
    let (old_pieces, new_pieces) = (unit.split(old), unit.split(new));
    let pairs = || old_pieces.iter().zip(&new_pieces);
    let start = pairs().take_while(|(old, new)| old == new).count();
    let shorter = old_pieces.len().min(new_pieces.len());
    let from_the_end = old_pieces.iter().rev().zip(new_pieces.iter().rev());
    let end = from_the_end
        .take(shorter - start)
        .take_while(|(old, new)| old == new)
        .count();
    let (old_end, new_end) = (old_pieces.len() - end, new_pieces.len() - end);

    let is_large = (old_end - start).saturating_mul(new_end - start) > LARGEST_TABLE;
    let hunks = match unit {
        DiffUnit::Grapheme if is_large => return segments(old, new, DiffUnit::Eojeol),
        DiffUnit::Eojeol if is_large => vec![
            Hunk::equal(0..start, 0..start),
            Hunk::changed(start..old_end, start..new_end),
            Hunk::equal(old_end..old_pieces.len(), new_end..new_pieces.len()),
        ],
        _ => {
            let joins = |equal: &Hunk, left: &Hunk, right: &Hunk| match unit {
                DiffUnit::Grapheme => {
                    let length = equal.old.len();
                    length <= left.size() && length <= right.size()
                }
                DiffUnit::Eojeol => {
                    let mut pieces = old_pieces[equal.old.clone()].iter();
                    pieces.all(|piece| piece.trim().is_empty())
                }
            };
            merged(search(&old_pieces, &new_pieces), joins)
        }
    };
    written(&hunks, &old_pieces, &new_pieces)
}

impl DiffUnit {
    fn split(self, text: &str) -> Vec<&str> {
        match self {
            Self::Grapheme => text.graphemes(true).collect(),
            Self::Eojeol => eojeols(text),
        }
    }
}

/// Runs of white space and of everything else, alternating.
fn eojeols(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_space = first.is_whitespace();
        let length = rest
            .find(|character: char| character.is_whitespace() != is_space)
            .unwrap_or(rest.len());
        let (piece, after) = rest.split_at(length);
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// A range of pieces that is equal in both texts, or replaced.
#[derive(Clone, Debug)]
struct Hunk {
    is_equal: bool,
    old: Range<usize>,
    new: Range<usize>,
}

impl Hunk {
    fn equal(old: Range<usize>, new: Range<usize>) -> Self {
        Self {
            is_equal: true,
            old,
            new,
        }
    }

    fn changed(old: Range<usize>, new: Range<usize>) -> Self {
        Self {
            is_equal: false,
            old,
            new,
        }
    }

    /// Pieces of the longer side.
    fn size(&self) -> usize {
        self.old.len().max(self.new.len())
    }
}

/// The shortest edit from `old` to `new` (Myers 1986) as alternating equal and changed hunks.
fn search(old: &[&str], new: &[&str]) -> Vec<Hunk> {
    let mut hunks: Vec<Hunk> = Vec::new();
    for operation in capture_diff_slices(Algorithm::Myers, old, new) {
        let (tag, old, new) = operation.as_tag_tuple();
        let hunk = Hunk {
            is_equal: tag == DiffTag::Equal,
            old,
            new,
        };
        match hunks.last_mut() {
            Some(last) if last.is_equal == hunk.is_equal => {
                last.old.end = hunk.old.end;
                last.new.end = hunk.new.end;
            }
            _ => hunks.push(hunk),
        }
    }
    hunks
}

/// Merges every equal hunk that `joins` its neighbours into one change, repeatedly as changes grow.
fn merged(hunks: Vec<Hunk>, joins: impl Fn(&Hunk, &Hunk, &Hunk) -> bool) -> Vec<Hunk> {
    let mut merged: Vec<Hunk> = Vec::with_capacity(hunks.len());
    for mut hunk in hunks {
        while let [.., left, equal] = merged.as_slice()
            && !hunk.is_equal
            && joins(equal, left, &hunk)
        {
            hunk = Hunk::changed(left.old.start..hunk.old.end, left.new.start..hunk.new.end);
            merged.truncate(merged.len() - 2);
        }
        merged.push(hunk);
    }
    merged
}

fn written(hunks: &[Hunk], old: &[&str], new: &[&str]) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut push = |kind, pieces: &[&str]| {
        if !pieces.is_empty() {
            segments.push(Segment {
                kind,
                text: pieces.concat(),
            });
        }
    };
    for hunk in hunks {
        if hunk.is_equal {
            push(SegmentKind::Equal, &old[hunk.old.clone()]);
        } else {
            push(SegmentKind::Removed, &old[hunk.old.clone()]);
            push(SegmentKind::Added, &new[hunk.new.clone()]);
        }
    }
    segments
}

/// The segments of the first text and those of the second.
pub fn sides(segments: &[Segment]) -> [Vec<Segment>; 2] {
    let without = |kind| {
        let kept = segments.iter().filter(|segment| segment.kind != kind);
        kept.cloned().collect()
    };
    [without(SegmentKind::Added), without(SegmentKind::Removed)]
}

/// The segments as one text, marked `[-removed-]{+added+}` as in wdiff.
pub fn marked(segments: &[Segment]) -> String {
    segments
        .iter()
        .map(|segment| match segment.kind {
            SegmentKind::Equal => segment.text.clone(),
            SegmentKind::Removed => format!("[-{}-]", segment.text),
            SegmentKind::Added => format!("{{+{}+}}", segment.text),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(old: &str, new: &str, unit: DiffUnit) -> String {
        marked(&diff(old, new, unit))
    }

    fn whole(segments: &[Segment]) -> String {
        segments
            .iter()
            .map(|segment| segment.text.as_str())
            .collect()
    }

    #[test]
    fn changes_are_found_by_syllable() {
        let cases = [
            ("", "", ""),
            ("", "가다", "{+가다+}"),
            ("가다", "", "[-가다-]"),
            (
                "미숫가루를 타서",
                "미싯가루를 타서",
                "미[-숫-]{+싯+}가루를 타서",
            ),
            (
                "집에 가도 되요.",
                "집에 가도 돼요.",
                "집에 가도 [-되-]{+돼+}요.",
            ),
            ("안되다", "안 되다", "안{+ +}되다"),
            ("ㅋㅋㅋ 네", "ㅋㅋ 네", "ㅋㅋ[-ㅋ-] 네"),
            ("네 👨‍👩‍👧", "네 👨‍👩‍👦", "네 [-👨‍👩‍👧-]{+👨‍👩‍👦+}"),
        ];
        for (old, new, expected) in cases {
            assert_eq!(shown(old, new, DiffUnit::Grapheme), expected);
        }
    }

    #[test]
    fn a_word_that_kept_one_syllable_of_three_is_another_word() {
        let cases = [
            (
                "가나다 그대로",
                "라나마 그대로",
                "[-가나다-]{+라나마+} 그대로",
            ),
            (
                "먹었습니다",
                "가겠습니까",
                "[-먹었-]{+가겠+}습니[-다-]{+까+}",
            ),
            // The change in the middle grows first and then absorbs its neighbours.
            ("가 나 다 끝", "라 마 바 끝", "[-가 나 다-]{+라 마 바+} 끝"),
        ];
        for (old, new, expected) in cases {
            assert_eq!(shown(old, new, DiffUnit::Grapheme), expected);
        }
    }

    #[test]
    fn decomposed_text_is_composed_text() {
        let decomposed: String = "한글을 쓴다".nfd().collect();
        let segments = diff(&decomposed, "한글을 쓴다", DiffUnit::Grapheme);
        assert_eq!(marked(&segments), "한글을 쓴다");
        assert_eq!(segments.len(), 1);
        assert_eq!(
            shown(&decomposed, "한글은 쓴다", DiffUnit::Eojeol),
            "[-한글을-]{+한글은+} 쓴다"
        );
    }

    #[test]
    fn eojeols_change_as_a_whole() {
        let cases = [
            ("", "", ""),
            (
                "집에 가도 되요.",
                "집에 가도 돼요.",
                "집에 가도 [-되요.-]{+돼요.+}",
            ),
            ("가 나 다", "라 마 다", "[-가 나-]{+라 마+} 다"),
            ("가\n나", "가 나", "가[-\n-]{+ +}나"),
        ];
        for (old, new, expected) in cases {
            assert_eq!(shown(old, new, DiffUnit::Eojeol), expected);
        }
    }

    #[test]
    fn sides_are_the_two_texts() {
        let segments = diff("가도 되요", "가면 돼요", DiffUnit::Grapheme);
        let [old, new] = sides(&segments);
        assert_eq!(
            (whole(&old), whole(&new)),
            ("가도 되요".to_owned(), "가면 돼요".to_owned())
        );
        assert!(old.iter().all(|segment| segment.kind != SegmentKind::Added));
    }

    #[test]
    fn long_texts_are_compared_coarsely() {
        let words = |word: &str| vec![word; 2_500].join(" ");
        let long = |word: &str| format!("처음 {} 끝", words(word));
        // By grapheme this would be 7 500 × 7 500, by eojeol 5 000 × 5 000.
        let text = shown(&long("가나"), &long("나다"), DiffUnit::Grapheme);
        assert!(text.starts_with("처음 [-가나 가나 "), "{}", &text[..60]);
        assert!(text.ends_with(" 나다+} 끝"));
        // The part that differs is short.
        let text = shown(&long("가나"), &(long("가나") + "."), DiffUnit::Grapheme);
        assert!(text.ends_with(" 가나 끝{+.+}"));
    }

    proptest! {
        #[test]
        fn both_texts_are_kept(
            old in "[가-갛ㄱ-ㅎ\u{1100}-\u{1112}\u{1161}-\u{1165}ab \n]{0,30}",
            new in "[가-갛ㄱ-ㅎ\u{1100}-\u{1112}\u{1161}-\u{1165}ab \n]{0,30}",
        ) {
            for unit in [DiffUnit::Grapheme, DiffUnit::Eojeol] {
                let segments = diff(&old, &new, unit);
                let [first, second] = sides(&segments).map(|side| whole(&side));
                prop_assert_eq!(first, old.nfc().collect::<String>());
                prop_assert_eq!(second, new.nfc().collect::<String>());
                prop_assert!(segments.iter().all(|segment| !segment.text.is_empty()));
            }
        }
    }
}
