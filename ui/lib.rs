//! What a person touches, as far as it needs no engine: the command line, how messages are printed,
//! and the terminal UI. It never compiles or links burn: the terminal starts trainers as processes.

pub mod cli;
pub mod console;
pub mod export;
pub mod failure;
pub mod findings;
mod log;
pub mod manual;
pub mod memory_panel;
pub mod signals;
pub mod tui;
