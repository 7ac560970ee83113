//! Which tokens end a completion.
//!
//! Model folders contradict themselves: `generation_config.json` may name the end of text and
//! not the end of a turn, and a chat model that stops only at the former continues into the next
//! turn. The stop set is therefore the union of every file and key that names an end, and it
//! records which one named which token.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use serde_json::Value;

use super::Tokenizer;
use super::model_files::{read_object, token_text};

/// Tokens that end a turn or a text in the chat formats in use; those that a tokenizer
/// has belong to its stop set.
pub const END_TOKENS: [&str; 9] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<|endofturn|>",
    "[|endofturn|]",
    "<end_of_turn>",
    "<|stop|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
];

/// One token that ends a completion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopToken {
    /// Token id.
    pub id: u32,
    /// The token's text; empty if the tokenizer has none for the id.
    pub text: String,
    /// Where it was named: file and key, `vocabulary`, or `rollout.stop_token_ids`.
    pub sources: Vec<String>,
}

/// Every token that ends a completion, ascending by id, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopSet {
    tokens: Vec<StopToken>,
}

impl StopSet {
    /// The union of `eos_token_id` in `config.json` and `generation_config.json`, of
    /// `eos_token` in `tokenizer_config.json` and `special_tokens_map.json`, of the
    /// [`END_TOKENS`] that the tokenizer has, and of `extra` (`rollout.stop_token_ids`).
    ///
    /// # Errors
    /// A file that is not JSON, an `eos_token_id` that is not an id, an `extra` id outside the
    /// vocabulary, or no end token at all.
    pub fn from_model_dir(directory: &Path, tokenizer: &Tokenizer, extra: &[u32]) -> Result<Self> {
        let mut sources: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        for name in ["generation_config.json", "config.json"] {
            let Some(object) = read_object(directory, name)? else {
                continue;
            };
            for id in token_ids(object.get("eos_token_id")).map_err(|value| {
                anyhow::anyhow!(
                    "{}: eos_token_id = {value} is not a token id or a list of token ids",
                    directory.join(name).display()
                )
            })? {
                sources
                    .entry(id)
                    .or_default()
                    .push(format!("{name} eos_token_id"));
            }
        }
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            let Some(object) = read_object(directory, name)? else {
                continue;
            };
            let token = object.get("eos_token").and_then(token_text);
            if let Some(id) = token.and_then(|text| tokenizer.token_to_id(text)) {
                sources
                    .entry(id)
                    .or_default()
                    .push(format!("{name} eos_token"));
            }
        }
        for token in END_TOKENS {
            if let Some(id) = tokenizer.token_to_id(token) {
                sources.entry(id).or_default().push("vocabulary".to_owned());
            }
        }
        for id in extra {
            if *id as usize >= tokenizer.vocab_size() {
                bail!(
                    "rollout.stop_token_ids names {id}, but the tokenizer's ids end at {}",
                    tokenizer.vocab_size() - 1
                );
            }
            sources
                .entry(*id)
                .or_default()
                .push("rollout.stop_token_ids".to_owned());
        }
        if sources.is_empty() {
            bail!(
                "{} names no token that ends a completion; set rollout.stop_token_ids",
                directory.display()
            );
        }
        let tokens = sources
            .into_iter()
            .map(|(id, sources)| StopToken {
                id,
                text: tokenizer.id_to_token(id).unwrap_or_default(),
                sources,
            })
            .collect();
        Ok(Self { tokens })
    }

    /// The tokens with their sources, ascending by id.
    pub fn tokens(&self) -> &[StopToken] {
        &self.tokens
    }

    /// The ids, ascending.
    pub fn ids(&self) -> Vec<u32> {
        self.tokens.iter().map(|token| token.id).collect()
    }

    /// Whether `id` ends a completion.
    pub fn contains(&self, id: u32) -> bool {
        self.tokens
            .binary_search_by_key(&id, |token| token.id)
            .is_ok()
    }
}

/// `eos_token_id`: absent, null, an id, or a list of ids. The error is the faulty value.
fn token_ids(value: Option<&Value>) -> Result<Vec<u32>, Value> {
    let id = |value: &Value| {
        value
            .as_u64()
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| value.clone())
    };
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => values.iter().map(id).collect(),
        Some(value) => Ok(vec![id(value)?]),
    }
}
