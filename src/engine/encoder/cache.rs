//! A bounded cache of sentence embeddings.
//!
//! The labels of a training set are needed again every epoch, and a group of completions shares one
//! label; their embeddings are computed once.

use std::collections::HashMap;
use std::sync::Arc;

use super::matching::Sentence;

/// Keeps the most recently used sentences, up to a number of bytes.
///
/// Two generations approximate an exact order of use: a sentence that is used moves to the young one.
/// When the young one has half of the bytes, the old one is dropped and the young one becomes the old
/// one.
pub struct SentenceCache {
    young: HashMap<String, Arc<Sentence>>,
    old: HashMap<String, Arc<Sentence>>,
    young_bytes: usize,
    max_bytes: usize,
}

impl SentenceCache {
    /// An empty cache of at most `max_bytes` (0 keeps nothing).
    pub fn new(max_bytes: usize) -> SentenceCache {
        SentenceCache {
            young: HashMap::new(),
            old: HashMap::new(),
            young_bytes: 0,
            max_bytes,
        }
    }

    /// The sentence's embedding, if it is still cached.
    pub fn get(&mut self, text: &str) -> Option<Arc<Sentence>> {
        if let Some(sentence) = self.young.get(text) {
            return Some(Arc::clone(sentence));
        }
        let (text, sentence) = self.old.remove_entry(text)?;
        self.insert(text, Arc::clone(&sentence));
        Some(sentence)
    }

    /// Adds a sentence and may drop others.
    pub fn insert(&mut self, text: String, sentence: Arc<Sentence>) {
        let bytes = text.len() + sentence.bytes();
        if bytes > self.max_bytes / 2 {
            return;
        }
        if self.young_bytes + bytes > self.max_bytes / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if self.young.insert(text, sentence).is_none() {
            self.young_bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(tokens: usize) -> Arc<Sentence> {
        Arc::new(Sentence::new(vec![1; tokens], vec![0.0; tokens * 4], 4))
    }

    fn bytes(cache: &SentenceCache) -> usize {
        let all = cache.young.iter().chain(&cache.old);
        all.map(|(text, s)| text.len() + s.bytes()).sum()
    }

    #[test]
    fn stays_bounded_and_keeps_used_sentences() {
        let size = 1 + sentence(10).bytes();
        let mut cache = SentenceCache::new(8 * size);
        cache.insert("L".to_owned(), sentence(10));
        for round in 0..50u8 {
            let text = char::from(b'a' + round % 26).to_string() + "x";
            cache.insert(text, sentence(10));
            assert!(cache.get("L").is_some(), "round {round}");
            assert!(bytes(&cache) <= 8 * size);
        }
        assert!(cache.get("ax").is_none());
        cache.insert("huge".to_owned(), sentence(1000));
        assert!(cache.get("huge").is_none());
        assert!(SentenceCache::new(0).get("L").is_none());
    }
}
