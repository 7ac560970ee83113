//! What a panic says that was caught.

use std::any::Any;

/// The text of a panic; `None` where its payload is none.
pub fn text(payload: &(dyn Any + Send)) -> Option<&str> {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
}
