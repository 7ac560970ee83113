//! The tokenizers library, whose panics become errors.
//!
//! It checks little of what `tokenizer.json` says: a pattern that its regular expressions give up on,
//! a special token that is not in the vocabulary, and others, end in a panic of a text much later.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::panics;

thread_local! {
    static ATTEMPTING: Cell<bool> = const { Cell::new(false) };
}

/// Does a piece of work of the tokenizers library.
///
/// # Errors
/// Its own, or the text of its panic.
pub fn attempt<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    let before = ATTEMPTING.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    ATTEMPTING.set(before);
    done.unwrap_or_else(|panic| Err(message(panic.as_ref()).into()))
}

/// Whether a panic of this thread is the tokenizers library's, which becomes an error: nothing that a
/// person has to see.
pub fn is_dealt_with() -> bool {
    ATTEMPTING.get()
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panics::text(panic).unwrap_or("without a word");
    format!("it gives up: {text}")
}
