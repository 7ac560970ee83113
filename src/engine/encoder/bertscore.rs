//! BERTScore with a Hugging Face folder, as in bert-score 0.3.13.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use rayon::prelude::*;

use super::bert::Encoder;
use super::cache::SentenceCache;
use super::matching::{Baseline, BertScore, Sentence, TokenWeights, greedy_match};
use super::tokenize::{SentenceTokenizer, strip};
use moim_core::architecture::EncoderConfig;
use moim_core::architecture::default_layers;
use moim_core::memory::limits::{MAX_TOKENS_PER_BATCH, SENTENCE_CACHE_BYTES};
use moim_core::metric::ReasonScorer;

/// On an accelerator sentences are padded to a multiple of this, so that few distinct shapes need
/// separate kernels.
const LENGTH_STEP: usize = 16;

/// Pairs whose embeddings are in memory together.
const PAIRS_PER_CHUNK: usize = 512;

/// How to score; the defaults are bert-score's.
#[derive(Clone, Debug)]
pub struct BertScoreOptions {
    /// The layer whose hidden states are compared (0: the embeddings). Default:
    /// bert-score's choice for the model that the folder is named after, else
    /// the last.
    pub num_layers: Option<usize>,
    /// Weight tokens by inverse document frequency (default off).
    pub idf: bool,
    /// Rescale scores by those of unrelated sentences (default off).
    pub rescale_with_baseline: bool,
    /// The file with that baseline: see [`Baseline::from_file`].
    pub baseline_path: Option<PathBuf>,
    /// Sentences per forward pass on an accelerator (default 64). On a CPU each sentence has its own
    /// pass, so that its score never depends, even in the last bit, on the other sentences.
    pub batch_size: usize,
    /// Memory for cached embeddings, in bytes (default 256 MiB).
    pub cache_bytes: usize,
}

impl Default for BertScoreOptions {
    fn default() -> BertScoreOptions {
        BertScoreOptions {
            num_layers: None,
            idf: false,
            rescale_with_baseline: false,
            baseline_path: None,
            batch_size: 64,
            cache_bytes: SENTENCE_CACHE_BYTES,
        }
    }
}

/// The number of layers and its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerChoice {
    /// Set in the options.
    Given(usize),
    /// From bert-score's table, with the model's name.
    Table(&'static str, usize),
    /// All layers, for a model that is not in the table.
    All(usize),
}

impl LayerChoice {
    /// The layer whose hidden states are compared.
    pub fn num_layers(&self) -> usize {
        match *self {
            LayerChoice::Given(layers)
            | LayerChoice::Table(_, layers)
            | LayerChoice::All(layers) => layers,
        }
    }
}

/// Scores pairs of sentences by the similarity of their tokens in context.
pub struct BertScorer {
    encoder: Encoder,
    tokenizer: SentenceTokenizer,
    layers: LayerChoice,
    idf: bool,
    /// Set by [`BertScorer::set_idf_references`].
    fixed_idf: Option<Arc<TokenWeights>>,
    baseline: Option<Baseline>,
    batch_size: usize,
    cache: SentenceCache,
    fingerprint: String,
}

impl BertScorer {
    /// Loads the encoder in `dir` onto `device`.
    ///
    /// # Errors
    /// Those of [`Encoder::load`], [`SentenceTokenizer::from_model_dir`] and
    /// [`Baseline::from_file`]; rescaling without a baseline file.
    pub fn load(dir: &Path, options: &BertScoreOptions, device: &Device) -> Result<BertScorer> {
        let config = EncoderConfig::from_model_dir(dir)?;
        let layers = match (options.num_layers, default_layers(dir)) {
            (Some(given), _) => LayerChoice::Given(given),
            (None, Some((model, layers))) => LayerChoice::Table(model, layers),
            (None, None) => LayerChoice::All(config.num_hidden_layers),
        };
        let baseline = match (options.rescale_with_baseline, &options.baseline_path) {
            (false, _) => None,
            (true, Some(path)) => Some(Baseline::from_file(path, layers.num_layers())?),
            (true, None) => bail!(
                "rescale_with_baseline = true needs baseline_path; bert-score has no baseline \
                 for Korean, so make one from your own unrelated pairs or turn rescaling off"
            ),
        };
        if options.batch_size == 0 {
            bail!("batch_size = 0; choose 1 or more");
        }
        let tokenizer = SentenceTokenizer::from_model_dir(dir, &config)?;
        let (encoder, digest) = Encoder::load_with_digest(dir, Some(layers.num_layers()), device)?;
        let fingerprint = fingerprint(&encoder, &tokenizer, &digest, options.idf, baseline)?;
        Ok(BertScorer {
            encoder,
            tokenizer,
            layers,
            idf: options.idf,
            fixed_idf: None,
            baseline,
            batch_size: options.batch_size,
            cache: SentenceCache::new(options.cache_bytes),
            fingerprint,
        })
    }

    /// Which layer is compared, and why.
    pub fn layers(&self) -> &LayerChoice {
        &self.layers
    }

    /// Fixes the document frequencies to those of these sentences. Otherwise each call of
    /// [`Self::score`] computes them from its own references, as the package does, and a pair's score
    /// depends on the other pairs. Does nothing if idf is off.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn set_idf_references<S: AsRef<str> + Sync>(&mut self, references: &[S]) -> Result<()> {
        if !self.idf {
            return Ok(());
        }
        let weights = self.idf_weights(references.iter().map(AsRef::as_ref))?;
        let mut ordered: Vec<&str> = references.iter().map(AsRef::as_ref).collect();
        ordered.sort_unstable();
        let mut hasher = blake3::Hasher::new();
        for reference in ordered {
            hasher.update(reference.as_bytes()).update(&[0]);
        }
        self.fingerprint += &format!(" idf-references={}", short(&hasher.finalize()));
        self.fixed_idf = Some(Arc::new(weights));
        Ok(())
    }

    /// The score of each (candidate, reference), in order. A pair's score does not depend on the other
    /// pairs (except with idf: see [`Self::set_idf_references`]).
    ///
    /// # Errors
    /// Those of the tokenizer; a token outside the encoder's vocabulary; hidden states that are not
    /// finite, because of broken weights.
    pub fn score(&mut self, pairs: &[(String, String)]) -> Result<Vec<BertScore>> {
        let weights = match &self.fixed_idf {
            Some(fixed) => Arc::clone(fixed),
            None if self.idf => Arc::new(self.idf_weights(pairs.iter().map(|(_, r)| r.as_str()))?),
            None => Arc::new(TokenWeights::Uniform {
                cls: self.tokenizer.cls_id(),
                sep: self.tokenizer.sep_id(),
            }),
        };
        let mut scores = Vec::with_capacity(pairs.len());
        for chunk in pairs.chunks(PAIRS_PER_CHUNK) {
            let sentences = self.sentences(chunk)?;
            let pair_score = |(candidate, reference): &(String, String)| {
                let (candidate, reference) = (strip(candidate), strip(reference));
                let raw = greedy_match(&sentences[candidate], &sentences[reference], &weights);
                self.baseline.map_or(raw, |baseline| baseline.rescale(raw))
            };
            scores.par_extend(chunk.par_iter().map(pair_score));
        }
        Ok(scores)
    }

    fn idf_weights<'a>(&self, references: impl Iterator<Item = &'a str>) -> Result<TokenWeights> {
        let ids: Vec<Vec<u32>> = references
            .map(|reference| self.tokenizer.encode(reference))
            .collect::<Result<_>>()?;
        Ok(TokenWeights::idf(ids.iter().map(Vec::as_slice)))
    }

    /// Every sentence of some pairs, keyed by its stripped text.
    fn sentences<'a>(
        &mut self,
        pairs: &'a [(String, String)],
    ) -> Result<HashMap<&'a str, Arc<Sentence>>> {
        let mut known = HashMap::new();
        let mut missing: Vec<&str> = Vec::new();
        let texts = pairs.iter().flat_map(|(c, r)| [strip(c), strip(r)]);
        for text in texts {
            if known.contains_key(text) {
                continue;
            }
            let cached = self.cache.get(text);
            if cached.is_none() {
                missing.push(text);
            }
            known.insert(text, cached);
        }
        let embedded = self.embed(&missing)?;
        for (text, sentence) in missing.into_iter().zip(embedded) {
            let sentence = Arc::new(sentence);
            self.cache.insert(text.to_owned(), Arc::clone(&sentence));
            known.insert(text, Some(sentence));
        }
        Ok(known
            .into_iter()
            .filter_map(|(text, sentence)| Some((text, sentence?)))
            .collect())
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Sentence>> {
        let rows: Vec<Vec<u32>> = texts
            .par_iter()
            .map(|text| self.encode(text))
            .collect::<Result<_>>()?;
        if self.encoder.device() == Device::flex() {
            return rows
                .into_par_iter()
                .map(|ids| {
                    let mut batch = self.embed_batch(vec![ids])?;
                    batch.pop().context("the encoder returned nothing")
                })
                .collect();
        }
        // Longest first, so that a batch that is too large for the device fails immediately.
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(rows[index].len()));
        let mut sentences: Vec<Option<Sentence>> = vec![None; rows.len()];
        let mut rest = order.as_slice();
        while let Some(&longest) = rest.first() {
            let seq = rows[longest].len().next_multiple_of(LENGTH_STEP);
            let count = (MAX_TOKENS_PER_BATCH / seq).clamp(1, self.batch_size);
            let (batch, others) = rest.split_at(count.min(rest.len()));
            let ids = batch.iter().map(|&index| rows[index].clone()).collect();
            for (&index, sentence) in batch.iter().zip(self.embed_batch(ids)?) {
                sentences[index] = Some(sentence);
            }
            rest = others;
        }
        Ok(sentences.into_iter().flatten().collect())
    }

    /// One forward pass.
    fn embed_batch(&self, rows: Vec<Vec<u32>>) -> Result<Vec<Sentence>> {
        let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
        let seq = match rows.len() {
            1 => longest,
            _ => longest.next_multiple_of(LENGTH_STEP),
        };
        let width = self.encoder.config.hidden_size;
        let hidden: Vec<f32> = self
            .encoder
            .padded_hidden_states(&rows, seq, None)
            .try_into_vec_as()
            .context("the encoder's hidden states could not be read from the device")?;
        rows.into_iter()
            .zip(hidden.chunks_exact(seq * width))
            .map(|(ids, states)| {
                let states = states[..ids.len() * width].to_vec();
                if states.iter().any(|value| !value.is_finite()) {
                    bail!(
                        "the encoder's hidden states are not finite: its weights are broken \
                         (NaN or infinite); copy the model again"
                    );
                }
                Ok(Sentence::new(ids, states, width))
            })
            .collect()
    }

    /// Token ids, all within the encoder's vocabulary.
    fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.tokenizer.encode(text)?;
        let vocab_size = self.encoder.config.vocab_size;
        match ids.iter().find(|&&id| id as usize >= vocab_size) {
            None => Ok(ids),
            Some(&id) => bail!(
                "token {:?} has id {id}, outside the encoder's vocab_size = {vocab_size}; the \
                 tokenizer and the weights do not match",
                self.tokenizer.token(id).unwrap_or_default()
            ),
        }
    }
}

impl ReasonScorer for BertScorer {
    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn f1(&mut self, pairs: &[(String, String)]) -> Result<Vec<f64>> {
        Ok(self.score(pairs)?.into_iter().map(|s| s.f1).collect())
    }
}

/// Everything that determines a score, on one line: like bert-score's own hash
/// (`MODEL_L9_no-idf_version=0.3.13`), with digests instead of names.
fn fingerprint(
    encoder: &Encoder,
    tokenizer: &SentenceTokenizer,
    weights: &blake3::Hash,
    idf: bool,
    baseline: Option<Baseline>,
) -> Result<String> {
    // Always float32 here: the digest of the weights already depends on how they are stored.
    let config = blake3::hash(encoder.config.to_json("float32").to_string().as_bytes());
    let rescaled = baseline.map_or(String::new(), |baseline| {
        let b = baseline.score;
        format!("-rescaled({},{},{})", b.precision, b.recall, b.f1)
    });
    Ok(format!(
        "{}_L{}_{}_version=0.3.13{rescaled} weights={} config={} tokenizer={}",
        encoder.config.family.model_type(),
        encoder.layers.len(),
        if idf { "idf" } else { "no-idf" },
        short(weights),
        short(&config),
        short(&tokenizer.digest()?),
    ))
}

/// The first 16 hex digits.
fn short(hash: &blake3::Hash) -> String {
    hash.to_hex()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::load::StoredType;
    use super::*;
    use moim_core::architecture::encoder::{Activation, Family};

    const TEXTS: [&str; 6] = [
        "받침이 있는 말 뒤에는 '이'를 쓴다.",
        "받침이 없는 말 뒤에는 '가'를 쓴다.",
        "띄어 쓰는 것이 원칙이다.",
        "쓴다.",
        "",
        "받침이 없는 것이 원칙이고 받침이 있는 것도 원칙이다. 띄어 쓰는 것이 원칙이다.",
    ];

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let tokenizer = SentenceTokenizer::train_wordpiece(&TEXTS, 120, 40).unwrap();
        let config = EncoderConfig {
            family: Family::Bert,
            vocab_size: tokenizer.vocab_size(),
            hidden_size: 24,
            num_hidden_layers: 2,
            num_attention_heads: 3,
            intermediate_size: 40,
            hidden_act: Activation::Gelu,
            max_position_embeddings: 40,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            pad_token_id: 0,
        };
        let encoder = Encoder::random(&config, 5, &Device::flex()).unwrap();
        encoder.save(dir.path(), StoredType::Float32).unwrap();
        tokenizer.save(dir.path()).unwrap();
        dir
    }

    fn pairs() -> Vec<(String, String)> {
        let all = TEXTS
            .iter()
            .flat_map(|a| TEXTS.iter().map(move |b| (*a, *b)));
        all.map(|(a, b)| (a.to_owned(), b.to_owned())).collect()
    }

    #[test]
    fn a_score_does_not_depend_on_other_pairs_or_the_cache() {
        let dir = folder();
        let load = |cache_bytes| {
            let options = BertScoreOptions {
                cache_bytes,
                ..Default::default()
            };
            BertScorer::load(dir.path(), &options, &Device::flex()).unwrap()
        };
        let mut scorer = load(1 << 20);
        assert_eq!(scorer.layers(), &LayerChoice::All(2));
        let together = scorer.score(&pairs()).unwrap();
        assert_eq!(together, scorer.score(&pairs()).unwrap());
        let mut uncached = load(0);
        for (pair, expected) in pairs().into_iter().zip(together) {
            assert_eq!(uncached.score(&[pair]).unwrap(), [expected]);
        }
    }

    #[test]
    fn a_padded_batch_gives_what_single_passes_give() {
        let dir = folder();
        let scorer =
            BertScorer::load(dir.path(), &BertScoreOptions::default(), &Device::flex()).unwrap();
        let rows: Vec<Vec<u32>> = TEXTS.iter().map(|t| scorer.encode(t).unwrap()).collect();
        let batch = scorer.embed_batch(rows.clone()).unwrap();
        let uniform = TokenWeights::Uniform { cls: 2, sep: 3 };
        for (ids, padded) in rows.into_iter().zip(batch) {
            let is_empty = ids.len() == 2;
            let alone = scorer.embed_batch(vec![ids]).unwrap().remove(0);
            let score = greedy_match(&padded, &alone, &uniform);
            assert!(is_empty || (score.f1 - 1.0).abs() < 1e-5, "{score:?}");
        }
    }

    #[test]
    fn fingerprints_distinguish_settings_and_idf_can_be_fixed() {
        let dir = folder();
        let load = |options: &BertScoreOptions| {
            BertScorer::load(dir.path(), options, &Device::flex()).unwrap()
        };
        let plain = load(&BertScoreOptions::default());
        let shallow = load(&BertScoreOptions {
            num_layers: Some(1),
            ..Default::default()
        });
        let mut idf = load(&BertScoreOptions {
            idf: true,
            ..Default::default()
        });
        assert_ne!(plain.fingerprint(), shallow.fingerprint());
        assert_ne!(plain.fingerprint(), idf.fingerprint());
        let again = load(&BertScoreOptions::default());
        assert_eq!(plain.fingerprint(), again.fingerprint());

        let pairs = pairs();
        let references: Vec<&str> = pairs.iter().map(|(_, r)| r.as_str()).collect();
        let by_call = idf.score(&pairs).unwrap();
        idf.set_idf_references(&references).unwrap();
        let fixed = idf.score(&pairs[1..2]).unwrap();
        assert!((fixed[0].f1 - by_call[1].f1).abs() < 1e-12);
    }

    #[test]
    fn faults_say_how_to_fix_them() {
        let dir = folder();
        let fault = |options: &BertScoreOptions| {
            let result = BertScorer::load(dir.path(), options, &Device::flex());
            format!("{:#}", result.err().unwrap())
        };
        let rescale = BertScoreOptions {
            rescale_with_baseline: true,
            ..Default::default()
        };
        assert!(fault(&rescale).contains("baseline_path"));
        let deep = BertScoreOptions {
            num_layers: Some(7),
            ..Default::default()
        };
        assert!(fault(&deep).contains("num_layers = 7"));
    }
}
