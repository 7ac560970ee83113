//! The layer that BERTScore reads by default.

use std::path::Path;

/// bert-score 0.3.13, `utils.py`, `model2layers`: the layer whose scores agree best with human
/// judgements on WMT16, for the models of supported families.
const MODEL_TO_LAYERS: &[(&str, usize)] = &[
    ("bert-base-uncased", 9),
    ("bert-large-uncased", 18),
    ("bert-base-cased-finetuned-mrpc", 9),
    ("bert-base-multilingual-cased", 9),
    ("bert-base-chinese", 8),
    ("roberta-base", 10),
    ("roberta-large", 17),
    ("roberta-large-mnli", 19),
    ("roberta-base-openai-detector", 7),
    ("roberta-large-openai-detector", 15),
    ("allenai/scibert_scivocab_uncased", 8),
    ("allenai/scibert_scivocab_cased", 9),
    ("nfliu/scibert_basevocab_uncased", 9),
    ("distilroberta-base", 5),
    ("xlm-roberta-base", 9),
    ("xlm-roberta-large", 17),
    ("google/bert_uncased_L-2_H-128_A-2", 1),
    ("google/bert_uncased_L-2_H-256_A-4", 1),
    ("google/bert_uncased_L-2_H-512_A-8", 1),
    ("google/bert_uncased_L-2_H-768_A-12", 2),
    ("google/bert_uncased_L-4_H-128_A-2", 3),
    ("google/bert_uncased_L-4_H-256_A-4", 3),
    ("google/bert_uncased_L-4_H-512_A-8", 3),
    ("google/bert_uncased_L-4_H-768_A-12", 3),
    ("google/bert_uncased_L-6_H-128_A-2", 5),
    ("google/bert_uncased_L-6_H-256_A-4", 5),
    ("google/bert_uncased_L-6_H-512_A-8", 5),
    ("google/bert_uncased_L-6_H-768_A-12", 5),
    ("google/bert_uncased_L-8_H-128_A-2", 7),
    ("google/bert_uncased_L-8_H-256_A-4", 7),
    ("google/bert_uncased_L-8_H-512_A-8", 6),
    ("google/bert_uncased_L-8_H-768_A-12", 7),
    ("google/bert_uncased_L-10_H-128_A-2", 8),
    ("google/bert_uncased_L-10_H-256_A-4", 8),
    ("google/bert_uncased_L-10_H-512_A-8", 9),
    ("google/bert_uncased_L-10_H-768_A-12", 8),
    ("google/bert_uncased_L-12_H-128_A-2", 10),
    ("google/bert_uncased_L-12_H-256_A-4", 11),
    ("google/bert_uncased_L-12_H-512_A-8", 10),
    ("google/bert_uncased_L-12_H-768_A-12", 9),
    ("SpanBERT/spanbert-base-cased", 8),
    ("SpanBERT/spanbert-large-cased", 17),
    ("ProsusAI/finbert", 10),
    ("princeton-nlp/unsup-simcse-bert-base-uncased", 10),
    ("princeton-nlp/unsup-simcse-bert-large-uncased", 18),
    ("princeton-nlp/unsup-simcse-roberta-base", 8),
    ("princeton-nlp/unsup-simcse-roberta-large", 13),
    ("princeton-nlp/sup-simcse-bert-base-uncased", 10),
    ("princeton-nlp/sup-simcse-bert-large-uncased", 18),
    ("princeton-nlp/sup-simcse-roberta-base", 10),
    ("princeton-nlp/sup-simcse-roberta-large", 16),
    ("dbmdz/bert-base-turkish-cased", 10),
];

/// The table's entry for a model folder, found by the folder's name: the published name with or
/// without its organisation (`bert-base-multilingual-cased`, `SpanBERT/spanbert-base-cased`), or its
/// spelling in the Hugging Face cache (`models--SpanBERT--spanbert-base-cased/snapshots/…`).
pub fn default_layers(dir: &Path) -> Option<(&'static str, usize)> {
    let mut parts = dir.iter().rev().map(|part| part.to_string_lossy());
    let mut name = parts.next()?.into_owned();
    if parts.next().as_deref() == Some("snapshots")
        && let Some(cached) = parts.next()
        && let Some(cached) = cached.strip_prefix("models--")
    {
        name = cached.replace("--", "/");
    }
    let base = |full: &str| full.rsplit('/').next().unwrap_or(full).to_owned();
    MODEL_TO_LAYERS
        .iter()
        .find(|(model, _)| base(model) == base(&name))
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_folders() {
        let layers = |path: &str| default_layers(Path::new(path)).map(|(_, layers)| layers);
        assert_eq!(layers("models/bert-base-multilingual-cased"), Some(9));
        assert_eq!(layers("/m/google/bert_uncased_L-4_H-256_A-4/"), Some(3));
        assert_eq!(
            layers("hub/models--SpanBERT--spanbert-large-cased/snapshots/0123abcd"),
            Some(17)
        );
        assert_eq!(layers("hub/models--xlm-roberta-base/snapshots/01"), Some(9));
        assert_eq!(layers("data/demo/encoder"), None);
    }
}
