//! From a valid example to an invalid one, by the draws of a seeded generator.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use super::json;

/// What an example is, which says how it can be damaged beyond single bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One JSON value.
    Json,
    /// A JSON value a line.
    JsonLines,
    /// Any other text.
    Text,
    /// A length, a JSON header and tensors.
    Safetensors,
    /// Anything else.
    Bytes,
}

/// Where numbers stand, numbers that fit no type, a sign or a meaning.
pub const NUMBERS: [&str; 22] = [
    "0",
    "-1",
    "1",
    "-0",
    "0.5",
    "1e308",
    "-1e308",
    "1e999",
    "1e-400",
    "NaN",
    "-Infinity",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "1152921504606846976",
    "100000000000000000000000000000000000000000",
    "007",
];

/// Texts that readers of text stumble over.
const TEXTS: [&str; 20] = [
    "\u{feff}",
    "\r\n",
    "\0",
    "\n",
    "\t",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "\\udc00\\ud800",
    "[",
    "{",
    "]",
    "}",
    ",",
    "\u{200b}",
    "\u{1100}\u{1161}",
    "\u{301}\u{301}\u{301}",
    "null",
    "../../../../etc/passwd",
];

/// Bytes that no UTF-8 has.
const NOT_UTF8: [&[u8]; 4] = [b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90"];

/// Nesting and lines that are drawn now and then.
const DEEP: usize = 100_000;

/// The generator of one case.
pub fn generator(reader: &str, case: usize) -> ChaCha8Rng {
    let key = blake3::hash(format!("moim fuzz {reader} {case}").as_bytes());
    ChaCha8Rng::from_seed(*key.as_bytes())
}

/// An input made of one of `examples`.
pub fn input(
    rng: &mut ChaCha8Rng,
    form: Form,
    examples: &[Vec<u8>],
    words: &[&'static str],
) -> Vec<u8> {
    let example = pick(rng, examples);
    let by_structure = rng.random_bool(0.6);
    let mut bytes = match form {
        Form::Json if by_structure => damaged_json(rng, example, words),
        Form::JsonLines if by_structure => damaged_lines(rng, example, words),
        Form::Safetensors if by_structure => damaged_safetensors(rng, example, words),
        _ => {
            let mut bytes = example.clone();
            for _ in 0..rng.random_range(1..4) {
                damage(rng, &mut bytes, examples, words);
            }
            bytes
        }
    };
    if rng.random_bool(0.1) {
        damage(rng, &mut bytes, examples, words);
    }
    bytes
}

pub fn pick<'all, T>(rng: &mut ChaCha8Rng, all: &'all [T]) -> &'all T {
    &all[rng.random_range(0..all.len())]
}

/// A place in `length` units, the beginning and the end more often than the rest.
fn place(rng: &mut ChaCha8Rng, length: usize) -> usize {
    match rng.random_range(0..8) {
        0 => rng.random_range(0..=length.min(16)),
        1 => length - rng.random_range(0..=length.min(16)),
        _ => rng.random_range(0..=length),
    }
}

fn slice(rng: &mut ChaCha8Rng, length: usize) -> std::ops::Range<usize> {
    let start = place(rng, length);
    let most = if rng.random_bool(0.8) { 32 } else { length };
    start..(start + rng.random_range(0..=most)).min(length)
}

/// One change of bytes.
fn damage(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>, examples: &[Vec<u8>], words: &[&'static str]) {
    let at = place(rng, bytes.len());
    let insert = |bytes: &mut Vec<u8>, new: &[u8]| {
        bytes.splice(at..at, new.iter().copied());
    };
    match rng.random_range(0..15) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << rng.random_range(0..8);
            }
        }
        1 => {
            let byte = rng.next_u32() as u8;
            if let Some(old) = bytes.get_mut(at) {
                *old = byte;
            }
        }
        2 => bytes.truncate(at),
        3 => {
            let cut = slice(rng, bytes.len());
            bytes.drain(cut);
        }
        4 => {
            let copy = bytes[slice(rng, bytes.len())].to_vec();
            let times = if copy.len() < 64 {
                rng.random_range(1..50)
            } else {
                1
            };
            insert(bytes, &copy.repeat(times));
        }
        5 => {
            let other = pick(rng, examples);
            let part = other[slice(rng, other.len())].to_vec();
            insert(bytes, &part);
        }
        6 | 7 => replace_number(rng, bytes),
        8 => insert(bytes, pick(rng, &TEXTS).as_bytes()),
        9 => insert(bytes, pick::<&[u8]>(rng, &NOT_UTF8)),
        10 if !words.is_empty() => insert(bytes, pick(rng, words).as_bytes()),
        11 if rng.random_bool(0.05) => {
            let unit = *pick(
                rng,
                &[
                    "[",
                    "{\"a\":",
                    "(",
                    "[[a]]\n",
                    "{% if 1 %}",
                    "-",
                    "\"",
                    "a.",
                    "{{",
                ],
            );
            insert(bytes, unit.repeat(DEEP).as_bytes());
        }
        12 if rng.random_bool(0.1) => {
            let byte = *pick(rng, b" 0a\0\n");
            insert(bytes, &[byte].repeat(DEEP));
        }
        13 => {
            let value = rng.next_u64().to_le_bytes();
            let width = *pick(rng, &[1, 2, 4, 8]);
            let value = match rng.random_range(0..4) {
                0 => [0xff; 8],
                1 => [0; 8],
                2 => 0x7fff_ffff_u64.to_le_bytes(),
                _ => value,
            };
            for (old, new) in bytes.iter_mut().skip(at).zip(&value[..width]) {
                *old = *new;
            }
        }
        _ => *bytes = with_line_ends(bytes),
    }
}

/// LF as CRLF.
fn with_line_ends(bytes: &[u8]) -> Vec<u8> {
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    lines.join(&b"\r\n"[..])
}

/// Another number where one stands.
fn replace_number(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>) {
    let from = place(rng, bytes.len());
    let is_part = |byte: &u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
    let Some(start) = (from..bytes.len()).find(|at| bytes[*at].is_ascii_digit()) else {
        return;
    };
    let length = bytes[start..]
        .iter()
        .take_while(|byte| is_part(byte))
        .count();
    let new = pick(rng, &NUMBERS).as_bytes().to_vec();
    bytes.splice(start..start + length, new);
}

fn damaged_json(rng: &mut ChaCha8Rng, example: &[u8], words: &[&'static str]) -> Vec<u8> {
    let Ok(mut value) = serde_json::from_slice::<Value>(example) else {
        return example.to_vec();
    };
    for _ in 0..rng.random_range(1..4) {
        json::change(rng, &mut value, words);
    }
    json::written(rng, &value)
}

fn damaged_lines(rng: &mut ChaCha8Rng, example: &[u8], words: &[&'static str]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = example
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..lines.len());
        match rng.random_range(0..6) {
            0 => {
                let copy = lines[at].clone();
                lines.push(copy);
            }
            1 => {
                let other = rng.random_range(0..lines.len());
                lines.swap(at, other);
            }
            _ => {
                let mut line = damaged_json(rng, lines[at].trim_ascii(), words);
                line.push(b'\n');
                lines[at] = line;
            }
        }
    }
    lines.concat()
}

/// A false header for the same tensors.
fn damaged_safetensors(rng: &mut ChaCha8Rng, example: &[u8], words: &[&'static str]) -> Vec<u8> {
    let length = example
        .first_chunk::<8>()
        .map_or(0, |length| u64::from_le_bytes(*length) as usize);
    let Some(header) = example.get(8..8 + length) else {
        return example.to_vec();
    };
    let header = if rng.random_bool(0.8) {
        damaged_json(rng, header, words)
    } else {
        header.to_vec()
    };
    let stated = match rng.random_range(0..10) {
        0 => rng.next_u64(),
        1 => 1 << rng.random_range(0..64),
        2 => (header.len() as u64).wrapping_add_signed(rng.random_range(-9..9)),
        3 => example.len() as u64,
        _ => header.len() as u64,
    };
    let mut bytes = stated.to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(&example[8 + length..]);
    bytes
}
