//! The message of a caught panic.

use std::any::Any;

/// The message of a panic; `None` if its payload is not a text.
pub fn text(payload: &(dyn Any + Send)) -> Option<&str> {
    payload
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| payload.downcast_ref::<&str>().copied())
}
