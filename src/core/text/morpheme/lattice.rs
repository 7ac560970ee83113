//! The cheapest path through a text, searched in the order of mecab-ko (`tokenizer.cpp`,
//! `viterbi.cpp`): if two paths cost the same, that order decides.

use std::ops::Range;

use super::MecabDictionary;
use super::category::Category;
use super::dictionary::{Token, TokenRange, WordDictionary};

/// Longest run of one kind, in characters after its first, that is one unknown word
/// (mecab's `max-grouping-size`).
const MAX_GROUPED: usize = 24;
/// mecab reads no more bytes than this from one position (lengths are u16).
const MAX_LOOKAHEAD: usize = 65535;

/// A candidate morpheme.
struct Node {
    /// Bytes of the text without the space before it.
    surface: Range<usize>,
    token: Token,
    /// Cost of the cheapest path up to and including this node.
    cost: i64,
    /// Index of the node before it on that path.
    previous: usize,
}

/// One character of the text.
struct Character {
    start: usize,
    category: Category,
}

/// A candidate found from one position: its bytes and how it connects.
struct Candidate {
    surface: Range<usize>,
    token: Token,
}

/// Byte ranges of the best morphemes of `text`, in order.
pub(super) fn best_path(dictionary: &MecabDictionary, text: &str) -> Vec<Range<usize>> {
    let characters: Vec<Character> = text
        .char_indices()
        .map(|(start, character)| Character {
            start,
            category: dictionary.categories.get(u32::from(character)),
        })
        .collect();

    let boundary = Token {
        left: 0,
        right: 0,
        posid: 0,
        cost: 0,
    };
    let mut nodes = vec![Node {
        surface: 0..0,
        token: boundary,
        cost: 0,
        previous: 0,
    }];
    // Nodes that end at each byte; walked from the last pushed, as mecab's linked lists are.
    let mut ending_at: Vec<Vec<usize>> = vec![Vec::new(); text.len() + 1];
    ending_at[0].push(0);

    let mut candidates = Vec::new();
    for (index, character) in characters.iter().enumerate() {
        let position = character.start;
        if ending_at[position].is_empty() {
            continue;
        }
        candidates.clear();
        look_up(dictionary, text, &characters[index..], &mut candidates);
        for candidate in candidates.drain(..).rev() {
            let (previous, before) = cheapest(
                dictionary,
                &nodes,
                &ending_at[position],
                candidate.token.left,
            );
            let penalty = if candidate.surface.start > position {
                dictionary.space_penalty(candidate.token.posid)
            } else {
                0
            };
            let end = candidate.surface.end;
            nodes.push(Node {
                cost: before + i64::from(candidate.token.cost) + penalty,
                surface: candidate.surface,
                token: candidate.token,
                previous,
            });
            ending_at[end].push(nodes.len() - 1);
        }
    }

    // The sentence ends at the last position that a node reaches: only white space follows.
    let Some(last) = ending_at.iter().rev().find(|ending| !ending.is_empty()) else {
        return Vec::new();
    };
    let (mut node, _) = cheapest(dictionary, &nodes, last, boundary.left);
    let mut path = Vec::new();
    while node != 0 {
        path.push(nodes[node].surface.clone());
        node = nodes[node].previous;
    }
    path.reverse();
    path
}

/// The node among `ending` after which a token of left class `left` is cheapest, and the
/// cost up to the token. Of equal nodes the one pushed last wins, as in mecab.
fn cheapest(
    dictionary: &MecabDictionary,
    nodes: &[Node],
    ending: &[usize],
    left: u16,
) -> (usize, i64) {
    let mut best = (0, i64::MAX);
    for index in ending.iter().rev() {
        let node = &nodes[*index];
        let cost = node.cost + dictionary.matrix.cost(node.token.right, left);
        if cost < best.1 {
            best = (*index, cost);
        }
    }
    best
}

/// Every word, known or not, that can start at the first of `characters` after white space, in
/// the order of mecab's look-up.
fn look_up(
    dictionary: &MecabDictionary,
    text: &str,
    characters: &[Character],
    candidates: &mut Vec<Candidate>,
) {
    let skipped = run_of_kind(characters, dictionary.categories.space());
    let characters = &characters[skipped..];
    let Some(first) = characters.first() else {
        return;
    };
    let start = first.start;
    let end_of = |count: usize| characters.get(count).map_or(text.len(), |next| next.start);

    let window = &text.as_bytes()[start..];
    let window = &window[..window.len().min(MAX_LOOKAHEAD)];
    dictionary.words.common_prefixes(window, |length, range| {
        // A word cannot end inside a character of well-formed text.
        if length > 0 && text.is_char_boundary(start + length) {
            push(&dictionary.words, range, start..start + length, candidates);
        }
    });
    let category = first.category;
    if !candidates.is_empty() && !category.is_always_tried {
        return;
    }

    let Some(unknown) = dictionary
        .unknown_tokens
        .get(usize::from(category.default_kind))
    else {
        return;
    };
    let mut push_unknown = |count: usize| {
        push(
            &dictionary.unknown_words,
            *unknown,
            start..end_of(count),
            candidates,
        );
    };
    // Lengths here count characters after the first.
    let mut grouped = None;
    if category.is_grouped {
        let run = run_of_kind(&characters[1..], category);
        if run <= MAX_GROUPED {
            push_unknown(1 + run);
        }
        grouped = Some(run);
    }
    for additional in 0..usize::from(category.length) {
        if additional >= characters.len() {
            break;
        }
        if grouped == Some(additional) {
            // The run is already a candidate, and mecab's loop ends here.
            break;
        }
        push_unknown(1 + additional);
        match characters.get(1 + additional) {
            Some(next) if category.is_kind_of(next.category) => {}
            _ => break,
        }
    }
    if candidates.is_empty() {
        push(
            &dictionary.unknown_words,
            *unknown,
            start..end_of(1),
            candidates,
        );
    }
}

/// The number of leading `characters` of the kind of `category`, each compared with the one before
/// it.
fn run_of_kind(characters: &[Character], mut category: Category) -> usize {
    characters
        .iter()
        .take_while(|character| {
            let continues = category.is_kind_of(character.category);
            category = character.category;
            continues
        })
        .count()
}

fn push(
    words: &WordDictionary,
    range: TokenRange,
    surface: Range<usize>,
    candidates: &mut Vec<Candidate>,
) {
    let tokens = range.first..range.first + range.count;
    candidates.extend(
        tokens
            .filter_map(|index| words.token(index))
            .map(|token| Candidate {
                surface: surface.clone(),
                token,
            }),
    );
}
