//! The tokenizers library, whose panics become errors.
//!
//! The library checks little of `tokenizer.json`. A pattern that its regular expressions cannot match
//! or a special token outside the vocabulary panics much later, on some text.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::panics;

thread_local! {
    static ATTEMPTING: Cell<bool> = const { Cell::new(false) };
}

/// Calls the tokenizers library.
///
/// # Errors
/// The library's error, or the message of its panic.
pub fn attempt<T>(work: impl FnOnce() -> tokenizers::Result<T>) -> tokenizers::Result<T> {
    let before = ATTEMPTING.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    ATTEMPTING.set(before);
    done.unwrap_or_else(|panic| Err(message(panic.as_ref()).into()))
}

/// Whether a panic of this thread will be caught by [`attempt`] and returned as an error, so that it
/// need not be reported.
pub fn is_caught() -> bool {
    ATTEMPTING.get()
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panics::text(panic).unwrap_or("no message");
    format!("the tokenizers library panicked: {text}")
}
