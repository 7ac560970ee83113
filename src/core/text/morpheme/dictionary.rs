//! `sys.dic` and `unk.dic` (words in a double array) and `matrix.bin` (connection costs).

use memmap2::Mmap;

/// XOR of the first word of a dictionary with its file size (mecab `dictionary.cpp`).
const MAGIC: u32 = 0xef71_8f77;
/// The dictionary format that mecab 0.996 writes.
const VERSION: u32 = 102;
/// Ten u32 and a 32-byte character set name.
const HEADER_BYTES: usize = 72;
/// {i32 base; u32 check} of the double array.
const UNIT_BYTES: usize = 8;
/// u16 left, u16 right, u16 posid, i16 cost, u32 feature, u32 compound.
const TOKEN_BYTES: usize = 16;

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let field = bytes.get(offset..offset.checked_add(2)?)?;
    Some(u16::from_le_bytes(field.try_into().ok()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let field = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_le_bytes(field.try_into().ok()?))
}

/// One reading of a word: how it connects and what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// Connection class seen from the left neighbour (`lcAttr`).
    pub left: u16,
    /// Connection class seen from the right neighbour (`rcAttr`).
    pub right: u16,
    pub posid: u16,
    pub cost: i16,
}

/// Tokens `first .. first + count` of a dictionary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TokenRange {
    pub first: usize,
    pub count: usize,
}

/// A compiled word list.
pub(super) struct WordDictionary {
    file: Mmap,
    /// Units of the double array.
    units: usize,
    /// Byte offset of the first token.
    tokens_start: usize,
    tokens: usize,
}

impl WordDictionary {
    /// Checks the header, and every index that a look-up can follow.
    pub fn new(file: Mmap, matrix: &Matrix) -> Result<Self, String> {
        let header = |index: usize| {
            u32_at(&file, index * 4).ok_or_else(|| {
                format!("is only {} bytes long, shorter than its header", file.len())
            })
        };
        let stated = header(0)? ^ MAGIC;
        if u64::from(stated) != file.len() as u64 {
            return Err(format!(
                "is {} bytes long, and its header says {stated}",
                file.len()
            ));
        }
        let version = header(1)?;
        if version != VERSION {
            return Err(format!("has dictionary version {version}, not {VERSION}"));
        }
        let (left_size, right_size) = (header(4)?, header(5)?);
        if (left_size, right_size) != (matrix.left_size.into(), matrix.right_size.into()) {
            return Err(format!(
                "was compiled for a {left_size}×{right_size} connection matrix, and matrix.bin is \
                 {}×{}",
                matrix.left_size, matrix.right_size
            ));
        }
        let charset: Vec<u8> = file
            .get(40..HEADER_BYTES)
            .ok_or("is shorter than its header")?
            .iter()
            .copied()
            .take_while(|byte| *byte != 0)
            .collect();
        if !matches!(charset.to_ascii_lowercase().as_slice(), b"utf-8" | b"utf8") {
            return Err(format!(
                "is encoded as {:?}, not UTF-8",
                String::from_utf8_lossy(&charset)
            ));
        }
        let [array_bytes, token_bytes, feature_bytes] = [
            header(6)? as usize,
            header(7)? as usize,
            header(8)? as usize,
        ];
        let sections = [array_bytes, token_bytes, feature_bytes]
            .iter()
            .try_fold(HEADER_BYTES, |sum, bytes| sum.checked_add(*bytes));
        if sections.is_none_or(|end| end > file.len()) {
            return Err(format!(
                "has sections of {array_bytes} + {token_bytes} + {feature_bytes} bytes, more than \
                 the file contains"
            ));
        }
        let dictionary = Self {
            units: array_bytes / UNIT_BYTES,
            tokens_start: HEADER_BYTES + array_bytes,
            tokens: token_bytes / TOKEN_BYTES,
            file,
        };
        dictionary.check_leaves()?;
        dictionary.check_tokens(matrix)?;
        Ok(dictionary)
    }

    fn check_leaves(&self) -> Result<(), String> {
        for index in 0..self.units {
            let Some((base, _)) = self.unit(index) else {
                break;
            };
            if base < 0 {
                let range = token_range(base);
                if range.first + range.count > self.tokens {
                    return Err(format!(
                        "names token {} of {}",
                        range.first + range.count,
                        self.tokens
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_tokens(&self, matrix: &Matrix) -> Result<(), String> {
        for index in 0..self.tokens {
            let Some(token) = self.token(index) else {
                break;
            };
            // The right class of the left token selects the matrix row, hence `left_size`.
            if token.right >= matrix.left_size || token.left >= matrix.right_size {
                return Err(format!(
                    "has a token with connection classes ({}, {}) outside the {}×{} matrix",
                    token.left, token.right, matrix.left_size, matrix.right_size
                ));
            }
        }
        Ok(())
    }

    pub fn token_count(&self) -> usize {
        self.tokens
    }

    /// The token at `index`; `None` past the end.
    pub fn token(&self, index: usize) -> Option<Token> {
        if index >= self.tokens {
            return None;
        }
        let start = self.tokens_start + index * TOKEN_BYTES;
        Some(Token {
            left: u16_at(&self.file, start)?,
            right: u16_at(&self.file, start + 2)?,
            posid: u16_at(&self.file, start + 4)?,
            cost: u16_at(&self.file, start + 6)?.cast_signed(),
        })
    }

    /// (base, check) of a unit of the double array.
    fn unit(&self, index: usize) -> Option<(i32, u32)> {
        if index >= self.units {
            return None;
        }
        let start = HEADER_BYTES + index * UNIT_BYTES;
        Some((
            u32_at(&self.file, start)?.cast_signed(),
            u32_at(&self.file, start + 4)?,
        ))
    }

    /// Every word that `text` begins with, shortest first: (length in bytes, tokens).
    pub fn common_prefixes(&self, text: &[u8], mut found: impl FnMut(usize, TokenRange)) {
        let Some((mut base, _)) = self.unit(0) else {
            return;
        };
        for length in 0..=text.len() {
            if let Some(leaf) = self.leaf(base) {
                found(length, leaf);
            }
            let Some(byte) = text.get(length) else { return };
            match self.step(base, *byte) {
                Some(next) => base = next,
                None => return,
            }
        }
    }

    /// The tokens of exactly `word`.
    pub fn exact_match(&self, word: &[u8]) -> Option<TokenRange> {
        let (root, _) = self.unit(0)?;
        let base = word
            .iter()
            .try_fold(root, |base, byte| self.step(base, *byte))?;
        self.leaf(base)
    }

    /// The value at the node whose children start at `base`, if a word ends there.
    fn leaf(&self, base: i32) -> Option<TokenRange> {
        let index = u32::try_from(base).ok()?;
        let (value, check) = self.unit(index as usize)?;
        (check == index && value < 0).then(|| token_range(value))
    }

    /// The base of the child of `base` over `byte`.
    fn step(&self, base: i32, byte: u8) -> Option<i32> {
        let parent = u32::try_from(base).ok()?;
        let (child, check) = self.unit(parent as usize + usize::from(byte) + 1)?;
        (check == parent).then_some(child)
    }
}

/// A leaf stores -(value) - 1, and a value is `first << 8 | count`.
fn token_range(leaf: i32) -> TokenRange {
    let value = (-(i64::from(leaf)) - 1) as usize;
    TokenRange {
        first: value >> 8,
        count: value & 0xff,
    }
}

/// Costs of one connection class following another.
pub(super) struct Matrix {
    file: Mmap,
    pub left_size: u16,
    pub right_size: u16,
}

impl Matrix {
    pub fn new(file: Mmap) -> Result<Self, String> {
        let (Some(left_size), Some(right_size)) = (u16_at(&file, 0), u16_at(&file, 2)) else {
            return Err(format!("is only {} bytes long", file.len()));
        };
        let expected = 4 + 2 * usize::from(left_size) * usize::from(right_size);
        if left_size == 0 || right_size == 0 || file.len() != expected {
            return Err(format!(
                "is {} bytes long; a {left_size}×{right_size} matrix takes {expected}",
                file.len()
            ));
        }
        Ok(Self {
            file,
            left_size,
            right_size,
        })
    }

    /// The cost of a token of left class `right_token_left` after one of right class
    /// `left_token_right`. Both were checked against the sizes when they were read.
    pub fn cost(&self, left_token_right: u16, right_token_left: u16) -> i64 {
        let cell = usize::from(left_token_right)
            + usize::from(self.left_size) * usize::from(right_token_left);
        u16_at(&self.file, 4 + 2 * cell).map_or(0, |cost| i64::from(cost.cast_signed()))
    }
}
