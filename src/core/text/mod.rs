//! Text between users and the model: tokens, chat templates, stop tokens, and the rules for reading
//! an answer. No tensors.
//!
//! - [`Tokenizer`], [`StopSet`] and [`ChatTemplate`] read a Hugging Face model folder.
//! - [`answer`] splits an answer into sentence and reason and compares sentences.
//! - [`josa`] picks the particle that follows a quoted sentence.
//! - [`morpheme`] reads a compiled mecab-ko dictionary.

pub mod answer;
mod attempt;
pub mod josa;
mod model_files;
pub mod morpheme;
mod python_json;
pub mod stop;
pub mod template;
pub mod tokenizer;
pub mod whitespace;

pub use attempt::attempt;
pub use attempt::is_caught;
pub use morpheme::MecabDictionary;
pub use stop::{StopSet, StopToken};
pub use template::{ChatTemplate, Message, RenderOptions, Role, SpecialTokens};
pub use tokenizer::Tokenizer;
pub use tokenizer::check_ids;
