//! The program as a user or a script runs it. Nothing here links the engine.

// A test stops at what it does not expect.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cli;
mod demo;
mod runs;
mod terminal;
