//! Finding a name by some of its letters.

use unicode_segmentation::UnicodeSegmentation;

use super::nfc;

/// How well the letters of `query` are found in `candidate`, in their order and with any
/// others between them; `None` where one is missing. With the score (higher is better)
/// come the places of the matched graphemes, for marking them.
///
/// Upper and lower case are alike, spaces of the query are skipped, letters at the start
/// of a word and next to each other count more. An initial consonant finds its syllables
/// (ㅎㄹ finds 훈련), and so does a syllable whose final consonant is not typed yet.
pub fn fuzzy_score(query: &str, candidate: &str) -> Option<(i64, Vec<usize>)> {
    const WORD_START: i64 = 8;
    const NEIGHBOUR: i64 = 10;
    const EXACT: i64 = 2;

    let wanted: Vec<String> = graphemes(query)
        .into_iter()
        .filter(|grapheme| !grapheme.trim().is_empty())
        .collect();
    let present = graphemes(candidate);
    if wanted.len() > present.len() {
        return None;
    }
    if wanted.is_empty() {
        return Some((0, Vec::new()));
    }

    // best[j]: the best score whose last match is at place j, and where the match before
    // it stands, for the letters of the query read so far.
    let mut rounds: Vec<Vec<Option<(i64, usize)>>> = Vec::with_capacity(wanted.len());
    for (round, letter) in wanted.iter().enumerate() {
        let before = round.checked_sub(1).and_then(|last| rounds.get(last));
        let mut best = vec![None; present.len()];
        // The best of `before` at any place so far, as (score, place).
        let mut reached: Option<(i64, usize)> = None;
        let mut at_last_place: Option<(i64, usize)> = None;
        for (place, (grapheme, slot)) in present.iter().zip(&mut best).enumerate() {
            if let Some(gain) = matched(letter, grapheme, EXACT) {
                let bonus = if is_word_start(&present, place) {
                    WORD_START
                } else {
                    0
                };
                let gain = 1 + gain + bonus;
                *slot = if before.is_none() {
                    Some((gain, place))
                } else {
                    let joined = at_last_place.map(|(score, from)| (score + NEIGHBOUR, from));
                    joined
                        .max(reached)
                        .map(|(score, from)| (score + gain, from))
                };
            }
            at_last_place = before
                .and_then(|row| row.get(place).copied().flatten())
                .map(|(score, _)| (score, place));
            // An earlier place is kept on a tie: matches stay to the left.
            if at_last_place.map(|(score, _)| score) > reached.map(|(score, _)| score) {
                reached = at_last_place;
            }
        }
        rounds.push(best);
    }

    let (mut place, score) = rounds
        .last()?
        .iter()
        .enumerate()
        .filter_map(|(place, slot)| slot.map(|(score, _)| (place, score)))
        .max_by_key(|(place, score)| (*score, std::cmp::Reverse(*place)))?;
    let mut places = Vec::with_capacity(wanted.len());
    for row in rounds.iter().rev() {
        places.push(place);
        let (_, from) = row.get(place).copied().flatten()?;
        place = from;
    }
    places.reverse();
    // Of two candidates with the same letters the shorter is meant.
    let length = i64::try_from(present.len()).unwrap_or(i64::MAX);
    Some((score.saturating_mul(64).saturating_sub(length), places))
}

fn graphemes(text: &str) -> Vec<String> {
    nfc(text)
        .graphemes(true)
        .map(|grapheme| grapheme.to_lowercase())
        .collect()
}

fn is_word_start(present: &[String], place: usize) -> bool {
    let is_letter = |grapheme: &String| grapheme.chars().any(char::is_alphanumeric);
    place
        .checked_sub(1)
        .and_then(|before| present.get(before))
        .is_none_or(|before| !is_letter(before))
}

/// What a letter of the query gains at a grapheme: `exact` for the same one, nothing for
/// a syllable that it begins, `None` for another.
fn matched(letter: &str, grapheme: &str, exact: i64) -> Option<i64> {
    if letter == grapheme {
        return Some(exact);
    }
    let syllable = Syllable::of(grapheme)?;
    let is_begun = match Syllable::of(letter) {
        Some(typed) => {
            typed.last == 0 && typed.first == syllable.first && typed.vowel == syllable.vowel
        }
        None => FIRST_CONSONANTS.get(syllable.first).copied() == only_char(letter),
    };
    is_begun.then_some(0)
}

/// A Hangul syllable by the numbers of its letters (Unicode, 3.12).
struct Syllable {
    first: usize,
    vowel: usize,
    /// None: 0.
    last: usize,
}

impl Syllable {
    fn of(grapheme: &str) -> Option<Self> {
        const FIRST_SYLLABLE: u32 = 0xac00;
        const SYLLABLES: u32 = 11_172;
        let number = u32::from(only_char(grapheme)?).checked_sub(FIRST_SYLLABLE)?;
        if number >= SYLLABLES {
            return None;
        }
        let number = usize::try_from(number).ok()?;
        Some(Self {
            first: number / 588,
            vowel: number % 588 / 28,
            last: number % 28,
        })
    }
}

/// Initial consonants as a keyboard types them alone, in the order of the syllables.
const FIRST_CONSONANTS: [char; 19] = [
    'ㄱ', 'ㄲ', 'ㄴ', 'ㄷ', 'ㄸ', 'ㄹ', 'ㅁ', 'ㅂ', 'ㅃ', 'ㅅ', 'ㅆ', 'ㅇ', 'ㅈ', 'ㅉ', 'ㅊ', 'ㅋ',
    'ㅌ', 'ㅍ', 'ㅎ',
];

fn only_char(grapheme: &str) -> Option<char> {
    let mut characters = grapheme.chars();
    let first = characters.next()?;
    characters.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(query: &str, candidate: &str) -> Option<Vec<usize>> {
        fuzzy_score(query, candidate).map(|(_, places)| places)
    }

    fn score(query: &str, candidate: &str) -> i64 {
        fuzzy_score(query, candidate).map_or(i64::MIN, |(score, _)| score)
    }

    #[test]
    fn letters_are_found_in_order() {
        assert_eq!(places("svn", "Save now"), Some(vec![0, 2, 5]));
        assert_eq!(places("nvs", "Save now"), None);
        assert_eq!(places("", "Save now"), Some(vec![]));
        assert_eq!(places("longer than it", "it"), None);
        assert_eq!(
            places("save now", "Save now"),
            Some(vec![0, 1, 2, 3, 5, 6, 7])
        );
    }

    #[test]
    fn starts_of_words_are_preferred() {
        assert_eq!(places("ps", "pause steps"), Some(vec![0, 6]));
        assert!(score("pt", "Pause training") > score("pt", "Script"));
        assert!(score("plan", "Plan") > score("plan", "Plan memory"));
        assert!(score("rank", "Ranking") > score("rank", "Read a number kept"));
    }

    #[test]
    fn hangul_is_found_by_initials_and_while_typing() {
        assert_eq!(places("ㅎㄹ", "훈련 시작"), Some(vec![0, 1]));
        assert_eq!(places("시자", "훈련 시작"), Some(vec![3, 4]));
        assert_eq!(places("훈련", "훈련 시작"), Some(vec![0, 1]));
        assert_eq!(places("ㅋ", "훈련 시작"), None);
        assert!(score("훈련", "훈련") > score("ㅎㄹ", "훈련"));
        let decomposed = "\u{1112}\u{116e}\u{11ab}";
        assert_eq!(places(decomposed, "훈련"), Some(vec![0]));
    }
}
