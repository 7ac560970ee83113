//! Whether a run is in good health: alarms raised from its events.
//!
//! A [`Monitor`] is shown every event of a run and answers an [`Alarm`] when a condition begins, and
//! again only when it has become worse or after it has gone away. It depends on the events alone, so
//! a run that is resumed shows it the events that it kept, and raises what it would have raised
//! without the interruption.
//!
//! Some codes are the trainer's own: `nonfinite` (a step that was dropped), `nonfinite_reward` (rewards that
//! were no numbers), `out_of_memory` (work that was taken again in smaller parts), `damaged_save_point` and
//! `damaged_answers` (files that were found spoilt on resume), and `stalled` (a phase that does not move),
//! which an event `moving` takes back.
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
