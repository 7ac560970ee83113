//! The BERT family of encoders, and BERTScore on top of it.
//!
//! [`EncoderConfig`](moim_core::architecture::EncoderConfig) reads `config.json`, [`Encoder::load`] reads the weights of the requested layers,
//! [`SentenceTokenizer`] makes the ids, and [`BertScorer`] compares sentences as bert-score 0.3.13
//! does. [`pretrain()`] trains a small encoder on one's own text by masked-language modelling, and
//! [`Encoder::save`] writes it as a Hugging Face folder.

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
