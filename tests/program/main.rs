//! The program as a user or a script runs it. Nothing here links the engine.

mod cli;
mod demo;
mod runs;
mod terminal;
