//! Whether a run is in good health: alarms raised from its events.
//!
//! A [`Monitor`] observes every event of a run and returns an [`Alarm`] when a condition begins, and
//! again only when it has become worse or after it has ended. It depends on the events only, so
//! a resumed run shows it the events that were kept, and raises what it would have raised without the
//! interruption.
//!
//! The trainer raises some alarms itself; their codes are constants of [`Alarm`], e.g. [`Alarm::OUT_OF_MEMORY`].
//!
//! An alarm is an event of the name `alarm` in events.jsonl:
//!
//! ```json
//! {"v":1,"time":"…","event":"alarm","step":40,"code":"entropy_collapse","severity":"critical","message":"…"}
//! ```

mod hacking;
mod latch;
mod levels;
mod monitor;
mod ranges;
mod window;

pub use crate::run::{Alarm, Severity};
pub use monitor::Monitor;
pub use ranges::{Range, healthy};
