//! What is measured with an allocator that counts, over the whole process: one test at a time.

// A test stops at what it does not expect.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod allocator;
mod fuzz;
mod memory;
