//! Turns sentences into token ids, exactly as bert-score's `sent_encode`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value, json};
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{
    NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer,
    Tokenizer,
};
use unicode_normalization::UnicodeNormalization;

use super::wordpiece;
use moim_core::architecture::EncoderConfig;
use moim_core::run::publish;
use moim_core::text::{attempt, check_ids};

/// A `model_max_length` above this means "none" in transformers.
const NO_MAX_LENGTH: f64 = 1e9;

/// The special tokens of a trained WordPiece vocabulary, with ids 0 to 4.
const BERT_SPECIAL_TOKENS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// Turns sentences into `[CLS] tokens… [SEP]` (or `<s> tokens… </s>`).
#[derive(Clone)]
pub struct SentenceTokenizer {
    tokenizer: Tokenizer,
    cls: (String, u32),
    sep: (String, u32),
    mask: Option<(String, u32)>,
    /// Added before the stripped text: a space for byte-level BPE, which bert-score encodes with
    /// `add_prefix_space=True`; else nothing.
    text_prefix: &'static str,
    /// Whether to compose characters (NFC), as Python's BertTokenizer does and the Rust one does not.
    compose: bool,
    /// Longest sentence in tokens, special tokens included.
    max_tokens: usize,
}

impl SentenceTokenizer {
    /// Reads `tokenizer.json`, or, if a folder has none, `vocab.txt` (BERT) or `vocab.json` with
    /// `merges.txt` (RoBERTa). Special tokens and `model_max_length` come from
    /// `tokenizer_config.json` and `special_tokens_map.json`; the length never exceeds
    /// [`EncoderConfig::max_tokens`]. Truncation and padding of `tokenizer.json` are ignored.
    ///
    /// # Errors
    /// The message names the missing or faulty file, or the special token that the vocabulary does
    /// not have.
    pub fn from_model_dir(dir: &Path, config: &EncoderConfig) -> Result<SentenceTokenizer> {
        let settings = read_object(&dir.join("tokenizer_config.json"))?;
        let special = read_object(&dir.join("special_tokens_map.json"))?;
        let content = tokenizer_json(dir, &settings)?;
        let limit = settings
            .get("model_max_length")
            .and_then(Value::as_f64)
            .filter(|length| (1.0..NO_MAX_LENGTH).contains(length))
            .map_or(usize::MAX, |length| length as usize);
        let named = |key: &str| {
            [&settings, &special]
                .into_iter()
                .find_map(|map| token_text(map.get(key)?))
        };
        SentenceTokenizer::from_json(&content, limit.min(config.max_tokens()), &named)
            .with_context(|| format!("in the tokenizer of {}", dir.display()))
    }

    fn from_json(
        content: &Value,
        max_tokens: usize,
        named: &dyn Fn(&str) -> Option<String>,
    ) -> Result<SentenceTokenizer> {
        let read = attempt(|| Ok(serde_json::from_value(content.clone())?));
        let mut tokenizer: Tokenizer =
            read.map_err(|error| anyhow!("tokenizer.json is not understood: {error}"))?;
        let last = tokenizer.get_vocab(true).into_values().max();
        check_ids(last.map_or(0, |last| last as usize + 1))?;
        tokenizer
            .with_truncation(None)
            .map_err(|error| anyhow!("{error}"))?;
        tokenizer.with_padding(None);
        let special = |key: &str, usual: [&str; 2]| -> Option<(String, u32)> {
            let candidates = match named(key) {
                Some(name) => vec![name],
                None => usual.map(str::to_owned).to_vec(),
            };
            candidates
                .into_iter()
                .find_map(|name| tokenizer.token_to_id(&name).map(|id| (name, id)))
        };
        let missing = |key: &str| {
            format!(
                "the vocabulary has no {key} (looked for {}); name it in tokenizer_config.json",
                named(key).unwrap_or_else(|| "the usual [CLS]/[SEP] and <s>/</s>".to_owned())
            )
        };
        let cls = special("cls_token", ["[CLS]", "<s>"]).with_context(|| missing("cls_token"))?;
        let sep = special("sep_token", ["[SEP]", "</s>"]).with_context(|| missing("sep_token"))?;
        let mask = special("mask_token", ["[MASK]", "<mask>"]);
        if max_tokens < 3 {
            bail!("model_max_length = {max_tokens} is too small for a token");
        }
        let byte_level = content["pre_tokenizer"]
            .to_string()
            .contains("\"ByteLevel\"");
        Ok(SentenceTokenizer {
            cls,
            sep,
            mask,
            text_prefix: if byte_level { " " } else { "" },
            compose: content["model"]["type"] == "WordPiece",
            max_tokens,
            tokenizer,
        })
    }

    /// Learns a cased WordPiece vocabulary of at most `vocab_size` pieces,
    /// `[PAD] [UNK] [CLS] [SEP] [MASK]` first, from `texts`. The same texts give the same vocabulary.
    ///
    /// # Errors
    /// No texts, or fewer pieces than the text has characters.
    pub fn train_wordpiece<S: AsRef<str>>(
        texts: &[S],
        vocab_size: usize,
        max_tokens: usize,
    ) -> Result<SentenceTokenizer> {
        if texts.is_empty() {
            bail!("there is no text to learn a vocabulary from");
        }
        let mut words: BTreeMap<String, u64> = BTreeMap::new();
        for text in texts {
            for word in bert_words(&text.as_ref().nfc().collect::<String>())? {
                *words.entry(word).or_default() += 1;
            }
        }
        let pieces = wordpiece::learn(&words, &BERT_SPECIAL_TOKENS, vocab_size)?;
        SentenceTokenizer::from_json(
            &wordpiece_json(&pieces, false, Some(false)),
            max_tokens,
            &|_| None,
        )
    }

    /// Writes `tokenizer.json` and `tokenizer_config.json` (and `vocab.txt` for
    /// WordPiece, which the Python BertTokenizer reads) into `dir`.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn save(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir)
            .with_context(|| format!("cannot create folder {}", dir.display()))?;
        let content = serde_json::to_value(&self.tokenizer)?;
        let word_piece = content["model"]["type"] == "WordPiece";
        let pretty = serde_json::to_string_pretty(&content)? + "\n";
        publish(&dir.join("tokenizer.json"), pretty.as_bytes())?;
        let mut settings = json!({
            "cls_token": self.cls.0,
            "sep_token": self.sep.0,
            "model_max_length": self.max_tokens,
        });
        if let Some((mask, _)) = &self.mask {
            settings["mask_token"] = json!(mask);
        }
        if word_piece {
            settings["tokenizer_class"] = json!("BertTokenizer");
            settings["do_lower_case"] = content["normalizer"]["lowercase"].clone();
            settings["strip_accents"] = content["normalizer"]["strip_accents"].clone();
            settings["unk_token"] = json!("[UNK]");
            settings["pad_token"] = json!("[PAD]");
            let mut pieces: Vec<(String, u32)> =
                self.tokenizer.get_vocab(true).into_iter().collect();
            pieces.sort_by_key(|(_, id)| *id);
            let lines: String = pieces
                .iter()
                .map(|(piece, _)| format!("{piece}\n"))
                .collect();
            publish(&dir.join("vocab.txt"), lines.as_bytes())?;
        }
        let pretty = serde_json::to_string_pretty(&settings)? + "\n";
        Ok(publish(
            &dir.join("tokenizer_config.json"),
            pretty.as_bytes(),
        )?)
    }

    /// The ids of a sentence: stripped as in Python, with special tokens, cut on the right to
    /// [`Self::max_tokens`]. An empty one is `[CLS] [SEP]`.
    ///
    /// # Errors
    /// Those of the tokenizer (a text that it cannot represent at all).
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let text = strip(text);
        let mut ids = vec![self.cls.1];
        if !text.is_empty() {
            let mut text = format!("{}{text}", self.text_prefix);
            if self.compose {
                text = text.nfc().collect();
            }
            let encoding = attempt(|| self.tokenizer.encode_fast(text.as_str(), false))
                .map_err(|error| anyhow!("the encoder's tokenizer refused {text:?}: {error}"))?;
            ids.extend(encoding.get_ids().iter().take(self.max_tokens - 2));
        }
        ids.push(self.sep.1);
        Ok(ids)
    }

    /// The token at the start of a sentence.
    pub fn cls_id(&self) -> u32 {
        self.cls.1
    }

    /// The token at the end of a sentence.
    pub fn sep_id(&self) -> u32 {
        self.sep.1
    }

    /// The mask token of masked-language modelling, if any.
    pub fn mask_id(&self) -> Option<u32> {
        self.mask.as_ref().map(|(_, id)| *id)
    }

    /// Longest sentence in tokens, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Pieces in the vocabulary, special tokens included.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// The text of a token.
    pub fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// Digest of everything that determines the ids.
    pub fn digest(&self) -> Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(serde_json::to_string(&self.tokenizer)?.as_bytes());
        hasher.update(self.text_prefix.as_bytes());
        let numbers = [self.cls.1, self.sep.1, self.max_tokens as u32];
        for number in numbers {
            hasher.update(&number.to_le_bytes());
        }
        Ok(hasher.finalize())
    }
}

/// Python's `str.strip()`, which also strips the four ASCII separators.
pub fn strip(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c))
}

/// The words and punctuation marks of a text, as split by BERT's cased tokenizer.
fn bert_words(text: &str) -> Result<Vec<String>> {
    let mut normalized = NormalizedString::from(text);
    BertNormalizer::new(true, true, Some(false), false)
        .normalize(&mut normalized)
        .map_err(|error| anyhow!("cannot normalise {text:?}: {error}"))?;
    let mut parts = PreTokenizedString::from(normalized);
    BertPreTokenizer
        .pre_tokenize(&mut parts)
        .map_err(|error| anyhow!("cannot split {text:?} into words: {error}"))?;
    let splits = parts.get_splits(OffsetReferential::Normalized, OffsetType::Byte);
    Ok(splits
        .into_iter()
        .map(|(word, ..)| word.to_owned())
        .collect())
}

/// A JSON object from a file; empty when there is no such file.
fn read_object(path: &Path) -> Result<Map<String, Value>> {
    match moim_core::regular_file::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text)
            .with_context(|| format!("{} is not a JSON object", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Map::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// A token given as a string or as `{"content": …}`.
fn token_text(value: &Value) -> Option<String> {
    let text = value.get("content").unwrap_or(value);
    text.as_str().map(str::to_owned)
}

/// The folder's `tokenizer.json`, or its equivalent made from older files.
fn tokenizer_json(dir: &Path, settings: &Map<String, Value>) -> Result<Value> {
    let read = |name: &str| {
        let path = dir.join(name);
        moim_core::regular_file::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))
    };
    let parse = |name: &str| -> Result<Value> {
        serde_json::from_str(&read(name)?)
            .with_context(|| format!("{} is not valid JSON", dir.join(name).display()))
    };
    let has = |name: &str| dir.join(name).is_file();
    if has("tokenizer.json") {
        parse("tokenizer.json")
    } else if has("vocab.txt") {
        let vocab = read("vocab.txt")?;
        let pieces: Vec<String> = vocab.lines().map(str::to_owned).collect();
        // The defaults of Python's BertTokenizer.
        let flag = |key: &str| settings.get(key).and_then(Value::as_bool);
        let lowercase = flag("do_lower_case").unwrap_or(true);
        Ok(wordpiece_json(&pieces, lowercase, flag("strip_accents")))
    } else if has("vocab.json") && has("merges.txt") {
        let merges = read("merges.txt")?;
        let merges: Vec<&str> = merges
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with("#version"))
            .collect();
        Ok(byte_level_json(parse("vocab.json")?, &merges))
    } else {
        bail!(
            "{} has no tokenizer.json; save the fast tokenizer there with transformers: \
             AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)",
            dir.display()
        )
    }
}

/// `tokenizer.json` of a BERT WordPiece vocabulary, pieces in order of id.
fn wordpiece_json(pieces: &[String], lowercase: bool, strip_accents: Option<bool>) -> Value {
    let vocab: Map<String, Value> = pieces
        .iter()
        .enumerate()
        .map(|(id, piece)| (piece.clone(), json!(id)))
        .collect();
    let special = BERT_SPECIAL_TOKENS;
    let post_processor = match (vocab.get("[CLS]"), vocab.get("[SEP]")) {
        (Some(cls), Some(sep)) => {
            json!({"type": "BertProcessing", "sep": ["[SEP]", sep], "cls": ["[CLS]", cls]})
        }
        _ => Value::Null,
    };
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens(&vocab, &special),
        "normalizer": {"type": "BertNormalizer", "clean_text": true,
                       "handle_chinese_chars": true, "strip_accents": strip_accents,
                       "lowercase": lowercase},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": post_processor,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]",
                  "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
                  "vocab": vocab},
    })
}

/// `tokenizer.json` of a RoBERTa byte-level vocabulary.
fn byte_level_json(vocab: Value, merges: &[&str]) -> Value {
    let special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"];
    let added = vocab
        .as_object()
        .map_or(Vec::new(), |map| added_tokens(map, &special));
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false,
                            "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null,
                  "continuing_subword_prefix": "", "end_of_word_suffix": "",
                  "fuse_unk": false, "byte_fallback": false, "vocab": vocab,
                  "merges": merges},
    })
}

/// The special tokens in the vocabulary. RoBERTa's mask includes the space before it (`lstrip`).
fn added_tokens(vocab: &Map<String, Value>, special: &[&str]) -> Vec<Value> {
    special
        .iter()
        .filter_map(|token| Some((token, vocab.get(*token)?)))
        .map(|(token, id)| {
            json!({"id": id, "content": token, "single_word": false,
                   "lstrip": *token == "<mask>", "rstrip": false, "normalized": false,
                   "special": true})
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use moim_core::architecture::encoder::{Activation, Family};

    const TEXTS: [&str; 4] = [
        "받침이 있는 말 뒤에는 '이'를 쓴다.",
        "받침이 없는 말 뒤에는 '가'를 쓴다.",
        "띄어 쓰는 것이 원칙이다.",
        "The cat sat on the mat.",
    ];

    fn config(vocab_size: usize) -> EncoderConfig {
        EncoderConfig {
            family: Family::Bert,
            vocab_size,
            hidden_size: 8,
            num_hidden_layers: 1,
            num_attention_heads: 1,
            intermediate_size: 8,
            hidden_act: Activation::Gelu,
            max_position_embeddings: 12,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            pad_token_id: 0,
        }
    }

    #[test]
    fn trained_saved_and_read_back() {
        let trained = SentenceTokenizer::train_wordpiece(&TEXTS, 300, 12).unwrap();
        let again = SentenceTokenizer::train_wordpiece(&TEXTS, 300, 12).unwrap();
        assert_eq!(trained.digest().unwrap(), again.digest().unwrap());
        assert_eq!((trained.cls_id(), trained.sep_id()), (2, 3));
        assert_eq!(trained.mask_id(), Some(4));
        let ids = trained.encode("  받침이 없는 것이다.\n").unwrap();
        assert!(ids.len() > 3 && !ids.contains(&1), "{ids:?}");

        let dir = tempfile::tempdir().unwrap();
        trained.save(dir.path()).unwrap();
        let config = config(trained.vocab_size());
        let read = SentenceTokenizer::from_model_dir(dir.path(), &config).unwrap();
        assert_eq!(read.encode("받침이 없는 것이다.").unwrap(), ids);
        // The same from only vocab.txt.
        std::fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
        let read = SentenceTokenizer::from_model_dir(dir.path(), &config).unwrap();
        assert_eq!(read.encode("받침이 없는 것이다.").unwrap(), ids);
    }

    #[test]
    fn special_tokens_truncation_and_empty_sentences() {
        let tokenizer = SentenceTokenizer::train_wordpiece(&TEXTS, 300, 12).unwrap();
        assert_eq!(tokenizer.encode(" \u{1f}\u{a0}\n").unwrap(), [2, 3]);
        let long = tokenizer.encode(&TEXTS[0].repeat(9)).unwrap();
        assert_eq!((long.len(), long[0], long[11]), (12, 2, 3));
        assert_eq!(tokenizer.encode("[SEP]").unwrap(), [2, 3, 3]);
        // Decomposed and composed spellings of one word are one word.
        let decomposed: String = "받침".nfd().collect();
        assert_eq!(
            tokenizer.encode(&decomposed).unwrap(),
            tokenizer.encode("받침").unwrap()
        );
    }

    #[test]
    fn byte_level_from_vocab_and_merges() {
        let dir = tempfile::tempdir().unwrap();
        let vocab = json!({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4,
                           "Ġ": 5, "a": 6, "b": 7, "Ġa": 8});
        std::fs::write(dir.path().join("vocab.json"), vocab.to_string()).unwrap();
        std::fs::write(dir.path().join("merges.txt"), "#version: 0.2\nĠ a\n").unwrap();
        let tokenizer = SentenceTokenizer::from_model_dir(dir.path(), &config(9)).unwrap();
        assert_eq!(tokenizer.encode("ab a").unwrap(), [0, 8, 7, 8, 2]);
    }

    #[test]
    fn faults_say_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let fault = || {
            let result = SentenceTokenizer::from_model_dir(dir.path(), &config(9));
            format!("{:#}", result.err().unwrap())
        };
        assert!(fault().contains("has no tokenizer.json"));
        std::fs::write(dir.path().join("vocab.txt"), "[UNK]\na\n").unwrap();
        assert!(fault().contains("cls_token"), "{}", fault());
        assert!(SentenceTokenizer::train_wordpiece(&TEXTS, 10, 12).is_err());
    }
}
