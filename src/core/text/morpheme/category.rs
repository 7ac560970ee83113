//! `char.bin`: the category of each character, which decides how unknown words are cut.

use memmap2::Mmap;

/// Bytes of a category's name, padded with zeros.
const NAME_BYTES: usize = 32;
/// Code points with an entry; any other is treated as code point 0.
const CODE_POINTS: usize = 0xffff;
/// The bits of [`Category::kinds`].
const MAX_CATEGORIES: usize = 18;

/// The properties of one character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Category {
    /// Bit set of the categories that the character belongs to.
    pub kinds: u32,
    /// The category whose `unk.dic` entries apply to an unknown word that starts here.
    pub default_kind: u8,
    /// Unknown words of 1 to this many characters are tried.
    pub length: u8,
    /// Whether a run of characters of one kind is tried as one unknown word.
    pub is_grouped: bool,
    /// Whether unknown words are tried even if the dictionary has a word.
    pub is_always_tried: bool,
}

impl Category {
    fn from_bits(bits: u32) -> Self {
        Self {
            kinds: bits & 0x3_ffff,
            default_kind: ((bits >> 18) & 0xff) as u8,
            length: ((bits >> 26) & 0xf) as u8,
            is_grouped: (bits >> 30) & 1 == 1,
            is_always_tried: (bits >> 31) & 1 == 1,
        }
    }

    /// Whether the two share a category.
    pub fn is_kind_of(self, other: Self) -> bool {
        self.kinds & other.kinds != 0
    }
}

/// The categories of `char.bin`.
pub(super) struct CategoryTable {
    file: Mmap,
    names: usize,
    space: Category,
}

impl CategoryTable {
    pub fn new(file: Mmap) -> Result<Self, String> {
        let too_short = || format!("is only {} bytes long", file.len());
        let names = file
            .get(..4)
            .and_then(|field| <[u8; 4]>::try_from(field).ok())
            .map(u32::from_le_bytes)
            .ok_or_else(too_short)? as usize;
        if names == 0 || names > MAX_CATEGORIES {
            return Err(format!(
                "names {names} categories, not 1 to {MAX_CATEGORIES}"
            ));
        }
        let expected = 4 + NAME_BYTES * names + 4 * CODE_POINTS;
        if file.len() != expected {
            return Err(format!(
                "is {} bytes long; {names} categories take {expected}",
                file.len()
            ));
        }
        let mut table = Self {
            file,
            names,
            space: Category::from_bits(0),
        };
        let unnamed = table.file[4 + NAME_BYTES * names..]
            .chunks_exact(4)
            .filter_map(|field| field.try_into().ok())
            .map(|field| Category::from_bits(u32::from_le_bytes(field)))
            .position(|category| usize::from(category.default_kind) >= names);
        if let Some(code_point) = unnamed {
            return Err(format!(
                "gives U+{code_point:04X} a category that it does not name"
            ));
        }
        // Like mecab, skip every character of the space character's category.
        table.space = table.get(u32::from(' '));
        Ok(table)
    }

    /// The category of white space.
    pub fn space(&self) -> Category {
        self.space
    }

    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.names).map(|index| {
            let start = 4 + NAME_BYTES * index;
            let name = &self.file[start..start + NAME_BYTES];
            let end = name
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(NAME_BYTES);
            &name[..end]
        })
    }

    /// The category of a code point.
    pub fn get(&self, code_point: u32) -> Category {
        let index = usize::try_from(code_point)
            .ok()
            .filter(|index| *index < CODE_POINTS)
            .unwrap_or(0);
        let start = 4 + NAME_BYTES * self.names + 4 * index;
        let bits = self
            .file
            .get(start..start + 4)
            .and_then(|field| <[u8; 4]>::try_from(field).ok())
            .map_or(0, u32::from_le_bytes);
        Category::from_bits(bits)
    }
}
