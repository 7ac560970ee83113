//! A miniature dictionary that tests compile themselves.

use std::collections::BTreeMap;
use std::path::Path;

/// (word, left class, right class, posid, cost)
type Entry = (&'static str, u16, u16, u16, i16);

const CLASSES: u16 = 4;
const NOUN: u16 = 1;
const PARTICLE: u16 = 2;
const UNKNOWN: u16 = 3;
pub const PARTICLE_POSID: u16 = 120;

const WORDS: &[Entry] = &[
    ("나", NOUN, NOUN, 150, 100),
    ("나는", NOUN, NOUN, 150, 900),
    ("는", PARTICLE, PARTICLE, PARTICLE_POSID, 50),
    ("학교", NOUN, NOUN, 150, 100),
    ("학", NOUN, NOUN, 150, 200),
    ("교", NOUN, NOUN, 150, 200),
    ("에", PARTICLE, PARTICLE, PARTICLE_POSID, 50),
    ("는", NOUN, NOUN, 150, 120),
];

const UNKNOWN_WORDS: &[Entry] = &[
    ("DEFAULT", UNKNOWN, UNKNOWN, 1, 500),
    ("SPACE", UNKNOWN, UNKNOWN, 1, 500),
    ("HANGUL", UNKNOWN, UNKNOWN, 1, 3000),
    ("ALPHA", UNKNOWN, UNKNOWN, 1, 400),
];

/// A word and the value of its leaf.
type Key<'word> = (&'word [u8], u32);

/// Compiles `keys` into a double array whose leaves store `-(value) - 1` (Darts).
fn double_array(keys: &BTreeMap<&[u8], u32>) -> Vec<u8> {
    fn unit(units: &mut Vec<(i32, u32)>, index: usize) -> &mut (i32, u32) {
        if units.len() <= index {
            units.resize(index + 1, (0, 0));
        }
        &mut units[index]
    }
    fn place(
        units: &mut Vec<(i32, u32)>,
        used: &mut Vec<usize>,
        keys: &[Key],
        depth: usize,
    ) -> i32 {
        // Child labels: 0 for "a word ends here", else byte + 1.
        let label = |key: &[u8]| key.get(depth).map_or(0, |byte| usize::from(*byte) + 1);
        let mut groups: Vec<(usize, Vec<Key>)> = Vec::new();
        for (key, value) in keys {
            match groups.last_mut() {
                Some((last, group)) if *last == label(key) => group.push((key, *value)),
                _ => groups.push((label(key), vec![(key, *value)])),
            }
        }
        let mut begin = 1;
        while groups
            .iter()
            .any(|(label, _)| used.contains(&(begin + label)))
            || used.contains(&(begin + 1_000_000))
        {
            begin += 1;
        }
        // The base itself is remembered too, so that no two nodes share one.
        used.push(begin + 1_000_000);
        used.extend(groups.iter().map(|(label, _)| begin + label));
        for (label, group) in groups {
            unit(units, begin + label).1 = begin as u32;
            let base = if label == 0 {
                -(group[0].1 as i32) - 1
            } else {
                place(units, used, &group, depth + 1)
            };
            unit(units, begin + label).0 = base;
        }
        begin as i32
    }
    let sorted: Vec<(&[u8], u32)> = keys.iter().map(|(key, value)| (*key, *value)).collect();
    let mut units = vec![(0, 0)];
    let root = place(&mut units, &mut vec![0], &sorted, 0);
    units[0].0 = root;
    let mut bytes = Vec::new();
    for (base, check) in units {
        bytes.extend(base.to_le_bytes());
        bytes.extend(check.to_le_bytes());
    }
    bytes
}

fn word_file(entries: &[Entry]) -> Vec<u8> {
    let mut by_word: BTreeMap<&[u8], Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        by_word.entry(entry.0.as_bytes()).or_default().push(entry);
    }
    let mut tokens = Vec::new();
    let mut keys = BTreeMap::new();
    for (word, entries) in by_word {
        let first = tokens.len() as u32 / 16;
        keys.insert(word, first << 8 | entries.len() as u32);
        for (_, left, right, posid, cost) in entries {
            for field in [*left, *right, *posid, cost.cast_unsigned()] {
                tokens.extend(field.to_le_bytes());
            }
            tokens.extend([0; 8]);
        }
    }
    let array = double_array(&keys);
    let features = b"*\0";
    let size = 72 + array.len() + tokens.len() + features.len();
    let classes = u32::from(CLASSES);
    let mut file = Vec::new();
    for field in [
        size as u32 ^ 0xef71_8f77,
        102,
        0,
        entries.len() as u32,
        classes,
        classes,
        array.len() as u32,
        tokens.len() as u32,
        features.len() as u32,
        0,
    ] {
        file.extend(field.to_le_bytes());
    }
    let mut charset = [0; 32];
    charset[..5].copy_from_slice(b"UTF-8");
    file.extend(charset);
    file.extend(array);
    file.extend(tokens);
    file.extend(features);
    file
}

fn matrix_file() -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(CLASSES.to_le_bytes());
    file.extend(CLASSES.to_le_bytes());
    for right_token_left in 0..CLASSES {
        for left_token_right in 0..CLASSES {
            // A particle is cheap after a noun and expensive at the start of a sentence.
            let cost: i16 = match (left_token_right, right_token_left) {
                (NOUN, PARTICLE) => -100,
                (0, PARTICLE) => 2000,
                (NOUN, NOUN) => 300,
                _ => 0,
            };
            file.extend(cost.to_le_bytes());
        }
    }
    file
}

fn category_file() -> Vec<u8> {
    let names = ["DEFAULT", "SPACE", "HANGUL", "ALPHA"];
    let mut file = (names.len() as u32).to_le_bytes().to_vec();
    for name in names {
        let mut field = [0; 32];
        field[..name.len()].copy_from_slice(name.as_bytes());
        file.extend(field);
    }
    for code_point in 0..0xffff_u32 {
        let character = char::from_u32(code_point).unwrap_or('\0');
        let (kind, length, group, invoke) = match character {
            ' ' | '\n' | '\t' => (1, 0, 1, 0),
            '가'..='힣' => (2, 2, 0, 1),
            'a'..='z' => (3, 0, 1, 1),
            _ => (0, 1, 0, 0),
        };
        let bits: u32 = 1 << kind | kind << 18 | length << 26 | group << 30 | invoke << 31;
        file.extend(bits.to_le_bytes());
    }
    file
}

/// Writes the five files of the dictionary into a folder.
pub fn write_dictionary(directory: &Path) {
    let settings = "; 사전\ncost-factor = 800\nleft-space-penalty-factor = 100,3000,120,6000\n";
    for (name, bytes) in [
        ("sys.dic", word_file(WORDS)),
        ("unk.dic", word_file(UNKNOWN_WORDS)),
        ("matrix.bin", matrix_file()),
        ("char.bin", category_file()),
        ("dicrc", settings.as_bytes().to_vec()),
    ] {
        std::fs::write(directory.join(name), bytes).unwrap();
    }
}
