//! Korean morphemes from a compiled mecab-ko dictionary, in plain Rust.
//!
//! Reads the directory that `mecab-dict-index` of mecab-ko writes (`sys.dic`, `unk.dic`,
//! `matrix.bin`, `char.bin`, `dicrc`; dictionary format 102, UTF-8) and finds the same
//! best path as mecab-ko itself, including its penalty for particles and endings that
//! follow a space. The files are memory-mapped; opening checks every index in them once,
//! so that a damaged dictionary is an error here and never a panic later.

mod category;
mod dictionary;
mod lattice;

use std::path::{Path, PathBuf};

use memmap2::Mmap;

use category::CategoryTable;
use dictionary::{Matrix, WordDictionary};

/// What is wrong with a dictionary directory.
#[derive(Debug, thiserror::Error)]
pub enum MorphemeError {
    /// A file of the dictionary is missing or unreadable.
    #[error(
        "cannot read {path}: {source}; reward.mecab_dict must name a directory with the compiled \
         mecab-ko dictionary (sys.dic, unk.dic, matrix.bin, char.bin, dicrc)"
    )]
    Read {
        /// The file that could not be read.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file does not match its format.
    #[error(
        "{path}: {problem}; the file is damaged or has another format: copy the dictionary again"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not match.
        problem: String,
    },
}

/// A compiled mecab-ko dictionary, ready to cut text into morphemes.
///
/// Can be shared between threads. Cutting a text needs memory in proportion to its length.
pub struct MecabDictionary {
    words: WordDictionary,
    unknown_words: WordDictionary,
    /// Tokens of `unk.dic` for each category of `char.bin`, by category number.
    unknown_tokens: Vec<dictionary::TokenRange>,
    matrix: Matrix,
    categories: CategoryTable,
    /// (posid, cost) of `left-space-penalty-factor`.
    space_penalties: Vec<(u16, i64)>,
}

impl std::fmt::Debug for MecabDictionary {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("MecabDictionary")
            .field("tokens", &self.words.token_count())
            .finish_non_exhaustive()
    }
}

impl MecabDictionary {
    /// Opens the compiled dictionary in `directory`.
    ///
    /// # Errors
    /// [`MorphemeError`] names the file that is missing or damaged.
    pub fn open(directory: &Path) -> Result<Self, MorphemeError> {
        let matrix_path = directory.join("matrix.bin");
        let matrix =
            Matrix::new(map(&matrix_path)?).map_err(|problem| damaged(&matrix_path, problem))?;
        let open_words = |name: &str| {
            let path = directory.join(name);
            WordDictionary::new(map(&path)?, &matrix).map_err(|problem| damaged(&path, problem))
        };
        let words = open_words("sys.dic")?;
        let unknown_words = open_words("unk.dic")?;

        let category_path = directory.join("char.bin");
        let categories = CategoryTable::new(map(&category_path)?)
            .map_err(|problem| damaged(&category_path, problem))?;
        let unknown_tokens = categories
            .names()
            .map(|name| {
                unknown_words.exact_match(name).ok_or_else(|| {
                    damaged(
                        &directory.join("unk.dic"),
                        format!(
                            "has no entry for the character category {}",
                            String::from_utf8_lossy(name)
                        ),
                    )
                })
            })
            .collect::<Result<Vec<_>, _>>()?;

        let settings_path = directory.join("dicrc");
        let settings = crate::regular_file::read_to_string(&settings_path).map_err(|source| {
            MorphemeError::Read {
                path: settings_path.clone(),
                source,
            }
        })?;
        let space_penalties =
            space_penalties(&settings).map_err(|problem| damaged(&settings_path, problem))?;

        Ok(Self {
            words,
            unknown_words,
            unknown_tokens,
            matrix,
            categories,
            space_penalties,
        })
    }

    /// The morphemes of `text` in order, verbatim and without white space.
    pub fn morphs(&self, text: &str) -> Vec<String> {
        lattice::best_path(self, text)
            .into_iter()
            .map(|range| String::from_utf8_lossy(&text.as_bytes()[range]).into_owned())
            .collect()
    }

    /// The extra cost of a token of this part of speech after a space.
    fn space_penalty(&self, posid: u16) -> i64 {
        self.space_penalties
            .iter()
            .find(|(penalized, _)| *penalized == posid)
            .map_or(0, |(_, cost)| *cost)
    }
}

fn damaged(path: &Path, problem: String) -> MorphemeError {
    MorphemeError::Damaged {
        path: path.to_owned(),
        problem,
    }
}

fn map(path: &Path) -> Result<Mmap, MorphemeError> {
    let read_error = |source| MorphemeError::Read {
        path: path.to_owned(),
        source,
    };
    let file = crate::regular_file::open(path).map_err(read_error)?;
    // SAFETY: the map is read-only and private to this dictionary. A dictionary that
    // another process truncates while it is mapped would fault; dictionaries are
    // installed once and not written again.
    unsafe { Mmap::map(&file) }.map_err(read_error)
}

/// The (posid, cost) pairs of `left-space-penalty-factor` in a dicrc; empty without the key.
fn space_penalties(settings: &str) -> Result<Vec<(u16, i64)>, String> {
    const KEY: &str = "left-space-penalty-factor";
    let Some(value) = settings
        .lines()
        .filter_map(|line| line.split_once('='))
        .find_map(|(key, value)| (key.trim() == KEY).then_some(value.trim()))
    else {
        return Ok(Vec::new());
    };
    let numbers = value
        .split(',')
        .map(|number| number.trim().parse::<i32>())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| format!("{KEY} = {value:?} is not a list of whole numbers"))?;
    if !numbers.len().is_multiple_of(2) {
        return Err(format!(
            "{KEY} = {value:?} is not a list of pairs (part-of-speech id, cost)"
        ));
    }
    numbers
        .chunks_exact(2)
        .map(|pair| {
            let posid = u16::try_from(pair[0])
                .map_err(|_| format!("{KEY} names the part-of-speech id {}", pair[0]))?;
            Ok((posid, i64::from(pair[1])))
        })
        .collect()
}

#[cfg(test)]
mod miniature;
#[cfg(test)]
mod tests;
