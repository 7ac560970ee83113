//! The BERT family of encoders, and BERTScore on top of it.
//!
//! One way through: [`EncoderConfig`] reads `config.json`, [`Encoder::load`]
//! reads the weights of as many layers as are asked for,
//! [`SentenceTokenizer`] makes the ids, [`BertScorer`] compares sentences as
//! bert-score 0.3.13 does. [`pretrain()`] makes a small encoder from one's own
//! text by masked-language modelling, which [`Encoder::save`] writes as a
//! Hugging Face folder.

pub mod bert;
pub mod bertscore;
mod cache;
pub mod load;
pub mod matching;
pub mod pretrain;
pub mod tokenize;
mod wordpiece;

pub use bert::Encoder;
pub use bertscore::{BertScoreOptions, BertScorer, LayerChoice};
pub use matching::BertScore;
pub use pretrain::{PretrainProgress, PretrainSettings, pretrain};
pub use tokenize::SentenceTokenizer;
