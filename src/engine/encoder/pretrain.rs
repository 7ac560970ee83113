//! Masked-language modelling: trains a small encoder on one's own text.
//!
//! After Devlin et al. 2019, section 3.1 (task 1) and appendix A.1: 15 % of the tokens are chosen, of
//! which 80 % become `[MASK]`, 10 % a random token and 10 % stay; the encoder predicts the original
//! tokens. The choice differs each time a sentence is used. There is no next-sentence task and no
//! dropout.

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use rand::RngExt;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::bert::{
    Encoder, LayerNorm, Linear, activate, build_linear, build_norm, initial_values, tensor_from,
};
use super::tokenize::SentenceTokenizer;
use crate::optimizer::{AdamW, AdamWSettings, clip_gradient_norm};
use moim_core::architecture::EncoderConfig;

/// The share of the chosen tokens that become the mask.
const MASKED_SHARE: f64 = 0.8;
/// The share of the chosen tokens that become another token.
const RANDOM_SHARE: f64 = 0.1;
/// Sentences are batched with others within this many tokens of their length.
const LENGTH_STEP: usize = 8;

/// How to pretrain.
#[derive(Clone, Debug, PartialEq)]
pub struct PretrainSettings {
    /// Optimizer steps (default 1500).
    pub steps: usize,
    /// Sentences per step (default 32).
    pub batch_size: usize,
    /// Peak learning rate (default 1e-3, which suits two million parameters).
    pub learning_rate: f64,
    /// Steps over which the rate rises linearly from 0 (default 100); it then
    /// falls linearly to 0.
    pub warmup_steps: usize,
    /// Decoupled weight decay of the matrices (default 0.01).
    pub weight_decay: f64,
    /// The gradient is scaled down to this norm (default 1.0).
    pub max_grad_norm: f64,
    /// Share of the tokens to predict (default 0.15).
    pub mask_probability: f64,
    /// Determines weights, order and masks (default 42).
    pub seed: u64,
}

impl Default for PretrainSettings {
    fn default() -> PretrainSettings {
        PretrainSettings {
            steps: 1500,
            batch_size: 32,
            learning_rate: 1e-3,
            warmup_steps: 100,
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            mask_probability: 0.15,
            seed: 42,
        }
    }
}

impl PretrainSettings {
    /// The learning rate of a step, counted from 0.
    pub fn learning_rate_at(&self, step: usize) -> f64 {
        let (step, warmup) = (step as f64, self.warmup_steps as f64);
        let rise = (step + 1.0) / warmup.max(1.0);
        let fall = (self.steps as f64 - step) / (self.steps as f64 - warmup).max(1.0);
        self.learning_rate * rise.min(fall).min(1.0)
    }
}

/// The progress of [`pretrain`] after each step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PretrainProgress {
    /// Steps done, from 1.
    pub step: usize,
    /// The total number of steps.
    pub steps: usize,
    /// Mean negative log-probability of the hidden tokens, in nats.
    pub loss: f64,
    /// The learning rate of this step.
    pub learning_rate: f64,
}

/// Trains a randomly initialised encoder of shape `config` on `texts` (one sentence or paragraph each),
/// and returns it without autodiff on `device`. The same texts, tokenizer, settings and device give the
/// same weights.
///
/// # Errors
/// No text with a token; a tokenizer without a mask or with more tokens than
/// `config.vocab_size`; a loss that is not finite.
pub fn pretrain<S: AsRef<str>>(
    texts: &[S],
    tokenizer: &SentenceTokenizer,
    config: &EncoderConfig,
    settings: &PretrainSettings,
    device: &Device,
    progress: &mut dyn FnMut(PretrainProgress),
) -> Result<Encoder> {
    let sentences = sentences(texts, tokenizer, config)?;
    let masking = Masking::new(tokenizer, config, settings)?;
    ensure!(settings.batch_size > 0, "batch_size = 0; choose 1 or more");

    let training = device.clone().autodiff();
    let mut encoder = Encoder::random(config, settings.seed, &training)?;
    let mut head = MlmHead::random(config, settings.seed, &training)?;
    let adam = AdamWSettings {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: settings.weight_decay,
    };
    let values: Vec<Tensor<2>> = tensors_of(&encoder, &head)
        .into_iter()
        .map(Tensor::inner)
        .collect();
    let named = encoder.named_tensors().into_iter().map(|(name, _)| name);
    let names: Vec<String> = named.chain(MlmHead::NAMES.map(str::to_owned)).collect();
    let mut optimizer = AdamW::new(adam, &values).without_decay_of_norms(&names);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut epoch = 0;
    for step in 0..settings.steps {
        if batches.is_empty() {
            batches = epoch_batches(&sentences, settings, epoch);
            epoch += 1;
        }
        let batch = batches.pop().context("an epoch has no batch")?;
        let mut rng = stream(settings.seed, 2, step as u64);
        let rows: Vec<Vec<u32>> = batch.iter().map(|&i| sentences[i].clone()).collect();
        let masked = masking.apply(rows, &mut rng);

        encoder = encoder.map_tensors(&mut |_, tensor| tensor.require_grad());
        head = head.map_tensors(&mut |_, tensor| tensor.require_grad());
        let loss = masked_loss(&encoder, &head, &masked);
        let value: f32 = loss.clone().into_scalar();
        if !value.is_finite() {
            bail!(
                "the loss is {value} at step {}; lower learning_rate = {}",
                step + 1,
                settings.learning_rate
            );
        }
        let gradients = loss.backward();
        let learning_rate = settings.learning_rate_at(step);
        let leaves: Vec<Tensor<2>> = tensors_of(&encoder, &head);
        let gradients = leaves.iter().map(|leaf| {
            let zeros = || leaf.clone().inner().zeros_like();
            leaf.grad(&gradients).unwrap_or_else(zeros)
        });
        let (gradients, _) = clip_gradient_norm(gradients.collect(), settings.max_grad_norm);
        let values = leaves.into_iter().map(Tensor::inner).collect();
        let mut updated = optimizer
            .step(values, gradients, learning_rate)?
            .into_iter();
        // Both walk their tensors in the order of `tensors_of`.
        let mut next = |_: &str, old: Tensor<2>| updated.next().map_or(old, Tensor::autodiff);
        encoder = encoder.map_tensors(&mut next);
        head = head.map_tensors(&mut next);
        progress(PretrainProgress {
            step: step + 1,
            steps: settings.steps,
            loss: f64::from(value),
            learning_rate,
        });
    }
    Ok(encoder.map_tensors(&mut |_, tensor| tensor.without_autodiff()))
}

/// Every parameter that is trained, in a fixed order.
fn tensors_of(encoder: &Encoder, head: &MlmHead) -> Vec<Tensor<2>> {
    let named = encoder.named_tensors().into_iter();
    named
        .map(|(_, tensor)| tensor)
        .chain(head.tensors())
        .collect()
}

/// A separate random stream for each purpose and step.
fn stream(seed: u64, purpose: u64, index: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((purpose << 48) | index);
    rng
}

/// The texts as token ids, except those without a token.
fn sentences<S: AsRef<str>>(
    texts: &[S],
    tokenizer: &SentenceTokenizer,
    config: &EncoderConfig,
) -> Result<Vec<Vec<u32>>> {
    if tokenizer.vocab_size() > config.vocab_size {
        bail!(
            "the tokenizer has {} pieces, more than vocab_size = {}",
            tokenizer.vocab_size(),
            config.vocab_size
        );
    }
    if tokenizer.max_tokens() > config.max_tokens() {
        bail!(
            "the tokenizer allows sentences of up to {} tokens, but the encoder has {} positions",
            tokenizer.max_tokens(),
            config.max_tokens()
        );
    }
    let rows: Vec<Vec<u32>> = texts
        .iter()
        .map(|text| tokenizer.encode(text.as_ref()))
        .collect::<Result<_>>()?;
    let rows: Vec<Vec<u32>> = rows.into_iter().filter(|row| row.len() > 2).collect();
    ensure!(!rows.is_empty(), "there is no text to pretrain on");
    Ok(rows)
}

/// Indices of all sentences, in batches of similar length and random order.
fn epoch_batches(
    sentences: &[Vec<u32>],
    settings: &PretrainSettings,
    epoch: u64,
) -> Vec<Vec<usize>> {
    let mut rng = stream(settings.seed, 1, epoch);
    let mut order: Vec<usize> = (0..sentences.len()).collect();
    order.shuffle(&mut rng);
    order.sort_by_key(|&index| sentences[index].len() / LENGTH_STEP);
    let mut batches: Vec<Vec<usize>> = order
        .chunks(settings.batch_size)
        .map(<[usize]>::to_vec)
        .collect();
    batches.shuffle(&mut rng);
    batches
}

/// The settings of masking.
struct Masking {
    special: [u32; 2],
    mask: u32,
    vocab_size: u32,
    probability: f64,
}

/// Masked sentences with their original tokens.
struct MaskedBatch {
    rows: Vec<Vec<u32>>,
    /// Row, column and original token of each chosen token.
    holes: Vec<(usize, usize, u32)>,
}

impl Masking {
    fn new(
        tokenizer: &SentenceTokenizer,
        config: &EncoderConfig,
        settings: &PretrainSettings,
    ) -> Result<Masking> {
        let probability = settings.mask_probability;
        ensure!(
            probability > 0.0 && probability <= 1.0,
            "mask_probability = {probability} is not above 0 and at most 1"
        );
        Ok(Masking {
            special: [tokenizer.cls_id(), tokenizer.sep_id()],
            mask: tokenizer.mask_id().context(
                "the tokenizer has no mask token ([MASK] or <mask>), which pretraining needs",
            )?,
            vocab_size: config.vocab_size.min(tokenizer.vocab_size()) as u32,
            probability,
        })
    }

    /// Chooses at least one token of the batch.
    fn apply(&self, mut rows: Vec<Vec<u32>>, rng: &mut ChaCha8Rng) -> MaskedBatch {
        let mut candidates = Vec::new();
        for (row, ids) in rows.iter().enumerate() {
            for (column, id) in ids.iter().enumerate() {
                if !self.special.contains(id) {
                    candidates.push((row, column));
                }
            }
        }
        let mut chosen: Vec<(usize, usize)> = candidates
            .iter()
            .copied()
            .filter(|_| rng.random_bool(self.probability))
            .collect();
        if chosen.is_empty() && !candidates.is_empty() {
            chosen.push(candidates[rng.random_range(0..candidates.len())]);
        }
        let holes = chosen
            .into_iter()
            .map(|(row, column)| {
                let token = &mut rows[row][column];
                let original = *token;
                let draw: f64 = rng.random();
                if draw < MASKED_SHARE {
                    *token = self.mask;
                } else if draw < MASKED_SHARE + RANDOM_SHARE {
                    *token = rng.random_range(0..self.vocab_size);
                }
                (row, column, original)
            })
            .collect();
        MaskedBatch { rows, holes }
    }
}

/// BERT's head: dense, activation, norm, then the word embeddings as the output
/// matrix, with a bias. Names are those of `BertForMaskedLM`.
struct MlmHead {
    transform: Linear,
    norm: LayerNorm,
    /// `[1, vocab_size]`
    bias: Tensor<2>,
}

impl MlmHead {
    fn random(config: &EncoderConfig, seed: u64, device: &Device) -> Result<MlmHead> {
        let mut rng = stream(seed, 3, 0);
        let mut tensor = |name: &str, shape: [usize; 2]| {
            Ok(tensor_from(
                initial_values(name, shape, &mut rng),
                shape,
                device,
            ))
        };
        let (hidden, prefix) = (config.hidden_size, "cls.predictions");
        Ok(MlmHead {
            transform: build_linear(
                &format!("{prefix}.transform.dense"),
                hidden,
                hidden,
                &mut tensor,
            )?,
            norm: build_norm(
                &format!("{prefix}.transform.LayerNorm"),
                hidden,
                &mut tensor,
            )?,
            bias: tensor("cls.predictions.bias", [1, config.vocab_size])?,
        })
    }

    fn map_tensors(mut self, map: &mut impl FnMut(&str, Tensor<2>) -> Tensor<2>) -> MlmHead {
        let tensors = [
            ("transform.dense.weight", &mut self.transform.weight),
            ("transform.dense.bias", &mut self.transform.bias),
            ("transform.LayerNorm.weight", &mut self.norm.weight),
            ("transform.LayerNorm.bias", &mut self.norm.bias),
            ("bias", &mut self.bias),
        ];
        for (name, tensor) in tensors {
            *tensor = map(&format!("cls.predictions.{name}"), tensor.clone());
        }
        self
    }

    /// The names of [`MlmHead::tensors`].
    const NAMES: [&str; 5] = [
        "cls.predictions.transform.dense.weight",
        "cls.predictions.transform.dense.bias",
        "cls.predictions.transform.LayerNorm.weight",
        "cls.predictions.transform.LayerNorm.bias",
        "cls.predictions.bias",
    ];

    fn tensors(&self) -> [Tensor<2>; 5] {
        let (dense, norm) = (&self.transform, &self.norm);
        [
            &dense.weight,
            &dense.bias,
            &norm.weight,
            &norm.bias,
            &self.bias,
        ]
        .map(Clone::clone)
    }

    /// # Shapes
    /// `hidden: [rows, hidden]` → `[rows, vocab_size]`
    fn logits(&self, hidden: Tensor<2>, encoder: &Encoder) -> Tensor<2> {
        let config = &encoder.config;
        let x = activate(self.transform.forward(hidden), config.hidden_act);
        let x = self.norm.forward(x, config.layer_norm_eps);
        let words = encoder.embeddings.word_embeddings.clone();
        x.matmul(words.transpose()) + self.bias.clone()
    }
}

/// Mean negative log-probability of the hidden tokens. Only their rows reach
/// the head.
///
/// # Shapes
/// → `[1]`
fn masked_loss(encoder: &Encoder, head: &MlmHead, batch: &MaskedBatch) -> Tensor<1> {
    let device = encoder.device();
    let hidden = encoder.hidden_states(&batch.rows, None);
    let [rows, seq, width] = hidden.dims();
    let count = batch.holes.len();
    let positions: Vec<i32> = batch
        .holes
        .iter()
        .map(|&(row, column, _)| (row * seq + column) as i32)
        .collect();
    let targets: Vec<i32> = batch.holes.iter().map(|&(_, _, id)| id as i32).collect();
    let positions: Tensor<1, Int> = Tensor::from_data(TensorData::new(positions, [count]), &device);
    let targets: Tensor<2, Int> = Tensor::from_data(TensorData::new(targets, [count, 1]), &device);
    let hidden: Tensor<2> = hidden.reshape([rows * seq, width]).select(0, positions);
    activation::log_softmax(head.logits(hidden, encoder), 1)
        .gather(1, targets)
        .mean()
        .neg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use moim_core::architecture::encoder::{Activation, Family};

    fn texts() -> Vec<String> {
        let subjects = ["고양이가", "강아지가", "아이가", "선생님이"];
        let places = ["집에서", "학교에서", "공원에서"];
        let verbs = ["잔다", "논다", "달린다", "책을 읽는다"];
        let mut texts = Vec::new();
        for subject in subjects {
            for place in places {
                for verb in verbs {
                    texts.push(format!("{subject} {place} {verb}."));
                }
            }
        }
        texts
    }

    fn setting() -> (SentenceTokenizer, EncoderConfig, PretrainSettings) {
        let tokenizer = SentenceTokenizer::train_wordpiece(&texts(), 120, 24).unwrap();
        let config = EncoderConfig {
            family: Family::Bert,
            vocab_size: tokenizer.vocab_size(),
            hidden_size: 32,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            intermediate_size: 64,
            hidden_act: Activation::Gelu,
            max_position_embeddings: 24,
            type_vocab_size: 2,
            layer_norm_eps: 1e-12,
            pad_token_id: 0,
        };
        let settings = PretrainSettings {
            steps: 60,
            batch_size: 16,
            learning_rate: 3e-3,
            warmup_steps: 10,
            ..Default::default()
        };
        (tokenizer, config, settings)
    }

    fn run(settings: &PretrainSettings) -> (Vec<f64>, Vec<f32>) {
        let (tokenizer, config, _) = setting();
        let mut losses = Vec::new();
        let device = Device::flex();
        let encoder = pretrain(&texts(), &tokenizer, &config, settings, &device, &mut |p| {
            losses.push(p.loss)
        })
        .unwrap();
        assert!(!encoder.device().is_autodiff());
        let tensors = encoder.named_tensors().into_iter();
        let weights = tensors.flat_map(|(_, t)| t.try_into_vec_as::<f32>().unwrap());
        (losses, weights.collect())
    }

    #[test]
    fn learns_and_repeats_itself() {
        let (_, config, settings) = setting();
        let (losses, weights) = run(&settings);
        // The first guess is uniform over the vocabulary.
        let uniform = (config.vocab_size as f64).ln();
        assert!((losses[0] - uniform).abs() < 0.3, "{} {uniform}", losses[0]);
        let last: f64 = losses[50..].iter().sum::<f64>() / 10.0;
        assert!(last < 0.6 * uniform, "{last}");
        let short = PretrainSettings {
            steps: 3,
            ..settings
        };
        assert_eq!(run(&short), run(&short));
        assert_ne!(weights, run(&short).1);
    }

    #[test]
    fn masks_like_bert() {
        let (tokenizer, config, settings) = setting();
        let masking = Masking::new(&tokenizer, &config, &settings).unwrap();
        let row: Vec<u32> = [2].into_iter().chain(vec![50; 4000]).chain([3]).collect();
        let batch = masking.apply(vec![row.clone()], &mut stream(1, 2, 3));
        let chosen = batch.holes.len() as f64;
        assert!((chosen / 4000.0 - 0.15).abs() < 0.02);
        let masked = batch.rows[0].iter().filter(|&&id| id == 4).count() as f64;
        assert!((masked / chosen - 0.8).abs() < 0.06, "{}", masked / chosen);
        assert_eq!((batch.rows[0][0], batch.rows[0][4001]), (2, 3));
        for (before, after) in row.iter().zip(&batch.rows[0]) {
            assert!(*after < config.vocab_size as u32 && (*before > 3 || before == after));
        }
        // One token: always hidden.
        let one = masking.apply(vec![vec![2, 50, 3]], &mut stream(1, 2, 4));
        assert_eq!(one.holes, [(0, 1, 50)]);
    }

    #[test]
    fn the_rate_rises_and_falls() {
        let settings = PretrainSettings {
            steps: 100,
            warmup_steps: 10,
            learning_rate: 1.0,
            ..Default::default()
        };
        assert!((settings.learning_rate_at(0) - 0.1).abs() < 1e-12);
        assert!((settings.learning_rate_at(9) - 1.0).abs() < 1e-12);
        assert!((settings.learning_rate_at(55) - 0.5).abs() < 1e-12);
        assert!(settings.learning_rate_at(99) > 0.0);
    }
}
