//! Learns a WordPiece vocabulary.
//!
//! The trainer of the `tokenizers` crate numbers its pieces in the order of a hash map, so the same
//! text gives another vocabulary each time. This one uses the same algorithm (byte-pair merges by
//! count, Sennrich et al. 2016, over characters with `##` inside a word) in a fixed order.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Result, bail};

/// Pairs seen less often than this are not merged.
const MIN_PAIR_COUNT: i64 = 2;

/// A word as pieces, and how often it occurs.
struct Word {
    pieces: Vec<u32>,
    count: i64,
}

/// At most `vocab_size` pieces: `special` first, then every character (bare at the start of a word,
/// with `##` inside) in order, then merges, the most frequent first. Of equally frequent ones, the
/// one whose parts are older comes first.
///
/// # Errors
/// `vocab_size` is too small for the characters.
pub fn learn(
    words: &BTreeMap<String, u64>,
    special: &[&str],
    vocab_size: usize,
) -> Result<Vec<String>> {
    let mut pieces: Vec<String> = special.iter().map(|&token| token.to_owned()).collect();
    let alphabet: BTreeSet<String> = words.keys().flat_map(|word| characters(word)).collect();
    pieces.extend(alphabet);
    if pieces.len() > vocab_size {
        bail!(
            "vocab_size = {vocab_size} is less than the {} pieces that the text's characters \
             need",
            pieces.len()
        );
    }
    let mut ids: HashMap<String, u32> = HashMap::new();
    for (id, piece) in pieces.iter().enumerate() {
        ids.insert(piece.clone(), id as u32);
    }
    let mut words: Vec<Word> = words
        .iter()
        .map(|(word, &count)| Word {
            pieces: characters(word).map(|piece| ids[&piece]).collect(),
            count: count as i64,
        })
        .collect();
    let mut pairs = PairCounts::default();
    for (index, word) in words.iter().enumerate() {
        pairs.add(index, word, 1);
    }
    while pieces.len() < vocab_size {
        let Some(pair) = pairs.most_frequent() else {
            break;
        };
        let (left, right) = (&pieces[pair.0 as usize], &pieces[pair.1 as usize]);
        let merged = format!("{left}{}", right.strip_prefix("##").unwrap_or(right));
        // Two merges that give the same piece ("a"+"##bc", "ab"+"##c") share its id.
        let id = *ids.entry(merged.clone()).or_insert_with(|| {
            pieces.push(merged);
            pieces.len() as u32 - 1
        });
        for index in pairs.words_with(pair) {
            pairs.add(index, &words[index], -1);
            words[index].merge(pair, id);
            pairs.add(index, &words[index], 1);
        }
    }
    Ok(pieces)
}

/// The characters of a word, each after the first prefixed with `##`.
fn characters(word: &str) -> impl Iterator<Item = String> {
    word.chars().enumerate().map(|(index, character)| {
        let prefix = if index == 0 { "" } else { "##" };
        format!("{prefix}{character}")
    })
}

impl Word {
    fn merge(&mut self, pair: (u32, u32), id: u32) {
        let mut merged = Vec::with_capacity(self.pieces.len());
        let mut rest = self.pieces.as_slice();
        while let [first, tail @ ..] = rest {
            if *first == pair.0 && tail.first() == Some(&pair.1) {
                merged.push(id);
                rest = &tail[1..];
            } else {
                merged.push(*first);
                rest = tail;
            }
        }
        self.pieces = merged;
    }
}

/// The count of each pair of neighbours, and the words with it.
#[derive(Default)]
struct PairCounts {
    counts: HashMap<(u32, u32), i64>,
    words: HashMap<(u32, u32), BTreeSet<usize>>,
}

impl PairCounts {
    /// Adds (`sign` = 1) or removes (-1) the pairs of a word.
    fn add(&mut self, index: usize, word: &Word, sign: i64) {
        for pair in word.pieces.windows(2).map(|pair| (pair[0], pair[1])) {
            *self.counts.entry(pair).or_default() += sign * word.count;
            let words = self.words.entry(pair).or_default();
            if sign > 0 {
                words.insert(index);
            } else {
                words.remove(&index);
            }
        }
    }

    fn most_frequent(&self) -> Option<(u32, u32)> {
        let frequent = self.counts.iter().filter(|(_, c)| **c >= MIN_PAIR_COUNT);
        frequent
            .max_by_key(|(pair, count)| (**count, std::cmp::Reverse(**pair)))
            .map(|(pair, _)| *pair)
    }

    fn words_with(&self, pair: (u32, u32)) -> Vec<usize> {
        let words = self.words.get(&pair);
        words.map_or(Vec::new(), |words| words.iter().copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[(&str, u64)]) -> BTreeMap<String, u64> {
        list.iter().map(|&(w, n)| (w.to_owned(), n)).collect()
    }

    #[test]
    fn frequent_pairs_merge_first() {
        let words = words(&[("abab", 3), ("abc", 5), ("b", 1)]);
        let pieces = learn(&words, &["[PAD]"], 9).unwrap();
        // a##b 8, then ab##c 5, then ##a##b 3 (before ab##a, its parts are older).
        let expected = ["[PAD]", "##a", "##b", "##c", "a", "b", "ab", "abc", "##ab"];
        assert_eq!(pieces, expected);
        // A pair that occurs once is not merged, however large the vocabulary.
        assert_eq!(
            learn(&words, &["[PAD]"], 99).unwrap().last().unwrap(),
            "abab"
        );
        assert!(learn(&words, &["[PAD]"], 5).is_err());
    }
}
