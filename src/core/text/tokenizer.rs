//! A model's own tokenizer, read from its `tokenizer.json`.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};

use super::attempt;

/// The tokenizer of a Hugging Face model folder.
///
/// Truncation and padding of the file are ignored: the experiment decides how long a prompt can
/// be, and nothing is cut silently.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    vocab_size: usize,
}

impl Tokenizer {
    /// Reads `tokenizer.json` of a model folder.
    ///
    /// # Errors
    /// A missing or unreadable file; the message names it and how to fix it.
    pub fn from_model_dir(directory: &Path) -> Result<Self> {
        let path = directory.join("tokenizer.json");
        if !path.is_file() {
            if !directory.is_dir() {
                bail!(
                    "{} is not a directory; model.path must name a Hugging Face model folder",
                    directory.display()
                );
            }
            let slow = ["tokenizer.model", "vocab.txt", "vocab.json"]
                .into_iter()
                .find(|name| directory.join(name).is_file());
            match slow {
                Some(slow) => bail!(
                    "{} is missing; the folder has only the slow tokenizer's {slow}. Convert it \
                     once with transformers: \
                     AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
                    path.display()
                ),
                None => bail!(
                    "{} is missing; copy it from the source of the model's weights",
                    path.display()
                ),
            }
        }
        Self::from_file(&path)
    }

    /// Reads one `tokenizer.json`.
    ///
    /// # Errors
    /// A file that is not a tokenizer of the `tokenizers` library.
    pub fn from_file(path: &Path) -> Result<Self> {
        let bytes = crate::regular_file::read(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let read = attempt(|| tokenizers::Tokenizer::from_bytes(&bytes));
        let mut inner = read.map_err(|error| {
            anyhow!(
                "{} is not a tokenizer file ({error}); copy it again from the model's folder",
                path.display()
            )
        })?;
        inner
            .with_truncation(None)
            .map_err(|error| anyhow!("{}: {error}", path.display()))?;
        inner.with_padding(None);
        let vocab_size = inner
            .get_vocab(true)
            .into_values()
            .max()
            .map_or(0, |last| last as usize + 1);
        if vocab_size == 0 {
            bail!("{} has an empty vocabulary", path.display());
        }
        check_ids(vocab_size).with_context(|| path.display().to_string())?;
        Ok(Self { inner, vocab_size })
    }

    /// Token ids of `text`.
    ///
    /// A rendered chat prompt is encoded with `add_special_tokens = false`, since the template
    /// writes the beginning-of-sequence token itself.
    ///
    /// # Errors
    /// Text that the tokenizer's own model refuses (a vocabulary without an unknown token).
    pub fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        let encoding = attempt(|| self.inner.encode_fast(text, add_special_tokens))
            .map_err(|error| anyhow!("the tokenizer cannot encode {:?}: {error}", excerpt(text)))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Text of `ids`; `skip_special` leaves special tokens (`</s>`, `<|im_end|>`) out.
    ///
    /// # Errors
    /// A decoder that fails on these ids.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        attempt(|| self.inner.decode(ids, skip_special))
            .map_err(|error| anyhow!("the tokenizer cannot decode {} ids: {error}", ids.len()))
    }

    /// The id of a token by its exact text.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The text of a token by its id, as the vocabulary spells it.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The highest id plus one, added tokens included. A model's embedding may have more
    /// rows (padding) but not fewer.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }
}

/// Ids from this number on are refused: tables indexed by id, some of them in the library, would fill
/// the memory.
const MOST_IDS: usize = 1 << 24;

/// Refuses a vocabulary whose highest id plus one is `count`.
///
/// # Errors
/// Names the id and the limit.
pub fn check_ids(count: usize) -> Result<()> {
    if count > MOST_IDS {
        bail!(
            "the vocabulary names the id {}, and ids end at {}; copy the tokenizer again",
            count - 1,
            MOST_IDS - 1
        );
    }
    Ok(())
}

/// The first characters of `text` for an error message.
fn excerpt(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_a_fix() {
        let directory = tempfile::tempdir().unwrap();
        let message = |path: &Path| Tokenizer::from_model_dir(path).unwrap_err().to_string();
        assert!(message(directory.path()).contains("tokenizer.json is missing"));
        assert!(message(&directory.path().join("none")).contains("is not a directory"));
        std::fs::write(directory.path().join("tokenizer.model"), b"x").unwrap();
        assert!(message(directory.path()).contains("save_pretrained"));
        std::fs::write(directory.path().join("tokenizer.json"), b"{\"version\":").unwrap();
        assert!(message(directory.path()).contains("is not a tokenizer file"));
    }
}
