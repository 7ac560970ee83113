//! What moim knows without tensors: what a person writes, what a run leaves, how answers are
//! scored, and how much memory a run needs. Nothing here compiles or links burn.

pub mod architecture;
pub mod dataset;
pub mod experiment;
pub mod findings;
pub mod health;
pub mod journal;
pub mod memory;
pub mod metric;
pub mod numbers;
pub mod panics;
pub mod regular_file;
pub mod report;
pub mod reward;
pub mod run;
pub mod score;
pub mod text;
pub mod watch;
