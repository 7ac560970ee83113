//! Questions and answers: question files, instructions, prompts, and answer files. No tensors.
//!
//! - [`load_records`] reads questions, with answers if the file has them.
//! - [`Instructions`] and [`PromptBuilder`] turn a question into the model's prompt.
//! - [`AnswerFile`] is a file of answers that a model wrote.

mod document;
mod fields;
mod scan;

pub mod answers;
pub mod instructions;
pub mod prompt;
pub mod record;

pub use answers::{AnswerFile, GeneratedAnswer};
pub use document::{DataError, DataFault};
pub use instructions::Instructions;
pub use prompt::{PromptBuilder, PromptSettings};
pub use record::{
    QuestionType, Record, load_records, parse_records, question_type_warnings, require_answers,
};
