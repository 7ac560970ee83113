//! The reader on a miniature dictionary that these tests compile themselves.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;

/// (word, left class, right class, posid, cost)
type Entry = (&'static str, u16, u16, u16, i16);

const CLASSES: u16 = 4;
const NOUN: u16 = 1;
const PARTICLE: u16 = 2;
const UNKNOWN: u16 = 3;
const PARTICLE_POSID: u16 = 120;

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

/// Compiles `keys` into a double array whose leaves hold `-(value) - 1` (Darts).
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
            // A particle wants a noun before it and dislikes the start of a sentence.
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

fn write_dictionary(directory: &Path) {
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

#[test]
fn words_particles_and_unknown_words_are_cut() {
    let directory = tempfile::tempdir().unwrap();
    write_dictionary(directory.path());
    let dictionary = MecabDictionary::open(directory.path()).unwrap();
    assert_eq!(dictionary.morphs("나는 학교에"), ["나", "는", "학교", "에"]);
    // A space before 는 costs the particle 6000, so the noun of the same spelling wins and
    // the parts stay the same, while 에 has no other reading.
    assert_eq!(dictionary.morphs("나 는"), ["나", "는"]);
    assert_eq!(dictionary.morphs("abc 나"), ["abc", "나"]);
    assert_eq!(dictionary.morphs("힣힣힣"), ["힣힣", "힣"]);
    assert_eq!(dictionary.morphs("😀나"), ["😀", "나"]);
    assert_eq!(dictionary.morphs("  나는  "), ["나", "는"]);
    assert!(dictionary.morphs("").is_empty());
    assert!(dictionary.morphs(" \n").is_empty());
}

#[test]
fn the_space_penalty_changes_the_reading() {
    let directory = tempfile::tempdir().unwrap();
    write_dictionary(directory.path());
    let with_penalty = MecabDictionary::open(directory.path()).unwrap();
    assert_eq!(with_penalty.space_penalty(PARTICLE_POSID), 6000);
    assert_eq!(with_penalty.space_penalty(150), 0);
    // 에 after a space: particle and unknown 힣 at 50 + 6000 + 3000 against one unknown
    // word at 3000; without the penalty the particle wins.
    assert_eq!(with_penalty.morphs("나 에힣"), ["나", "에힣"]);
    std::fs::write(directory.path().join("dicrc"), "cost-factor = 800\n").unwrap();
    let without = MecabDictionary::open(directory.path()).unwrap();
    assert_eq!(without.morphs("나 에힣"), ["나", "에", "힣"]);
}

#[test]
fn a_missing_file_is_named() {
    let directory = tempfile::tempdir().unwrap();
    write_dictionary(directory.path());
    std::fs::remove_file(directory.path().join("char.bin")).unwrap();
    let message = MecabDictionary::open(directory.path())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("char.bin") && message.contains("reward.mecab_dict"),
        "{message}"
    );
}

/// Each file cut at many lengths must give an error; with bytes flipped it must give an
/// error or a dictionary that still cuts text without a panic.
#[test]
fn a_damaged_dictionary_is_an_error_and_never_a_panic() {
    let directory = tempfile::tempdir().unwrap();
    write_dictionary(directory.path());
    for name in ["sys.dic", "unk.dic", "matrix.bin", "char.bin"] {
        let path = directory.path().join(name);
        let whole = std::fs::read(&path).unwrap();
        let step = (whole.len() / 20).max(1);
        for length in (0..whole.len()).step_by(step) {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(
                MecabDictionary::open(directory.path()).is_err(),
                "{name} cut at {length}"
            );
        }
        for position in (0..whole.len()).step_by((whole.len() / 50).max(1) | 1) {
            let mut bytes = whole.clone();
            bytes[position] ^= 0x80;
            std::fs::write(&path, &bytes).unwrap();
            if let Ok(dictionary) = MecabDictionary::open(directory.path()) {
                dictionary.morphs("나는 학교에 abc 힣힣");
            }
        }
        std::fs::write(&path, &whole).unwrap();
    }
    std::fs::write(
        directory.path().join("dicrc"),
        "left-space-penalty-factor = 1,2,3\n",
    )
    .unwrap();
    let message = MecabDictionary::open(directory.path())
        .unwrap_err()
        .to_string();
    assert!(message.contains("left-space-penalty-factor"), "{message}");
}
