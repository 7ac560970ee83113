//! Bad input: every reader of the library on damaged, hostile and absurd files. None may panic, hang,
//! or ask for more memory than its input can account for; an error names the file.
//!
//! Inputs come from valid examples by seeded mutations (`fuzz/mutate.rs`), so every run tries the
//! same ones. `MOIM_FUZZ_CASES=N` tries N per reader; see README.md.

mod commands;
mod found;
mod harness;
mod json;
#[path = "../../src/core/text/morpheme/miniature.rs"]
mod miniature;
mod mutate;
mod network;
mod places;
mod readers;
mod templates;
