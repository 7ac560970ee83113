//! What a person touches, as far as it needs no engine: the command line, how messages are printed,
//! and the terminal UI. It never compiles or links burn: the terminal starts trainers as processes.

// Its comments are the help of the command line.
#[allow(rustdoc::broken_intra_doc_links)]
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
