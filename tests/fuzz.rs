//! Bad input: every reader of the library on damaged, hostile and absurd files. None may panic, hang,
//! or ask for more memory than its input can account for; an error names the file.
//!
//! Inputs come from valid examples by seeded mutations (`fuzz/mutate.rs`), so every run tries the
//! same ones. `MOIM_FUZZ_CASES=N` tries N a reader; README.md tells more.

#[path = "fuzz/allocator.rs"]
mod allocator;
#[path = "fuzz/commands.rs"]
mod commands;
#[path = "fuzz/found.rs"]
mod found;
#[path = "fuzz/harness.rs"]
mod harness;
#[path = "fuzz/json.rs"]
mod json;
#[path = "../src/core/text/morpheme/miniature.rs"]
mod miniature;
#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "fuzz/network.rs"]
mod network;
#[path = "fuzz/places.rs"]
mod places;
#[path = "fuzz/readers/mod.rs"]
mod readers;
#[path = "fuzz/templates.rs"]
mod templates;
