//! What is measured with an allocator that counts, over the whole process: one test at a time.

mod allocator;
mod fuzz;
mod memory;
