//! The program as a person or a script uses it. Nothing here links the engine.

mod cli;
mod demo;
mod runs;
mod terminal;
