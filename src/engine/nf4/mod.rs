//! NF4: four bits a weight, as bitsandbytes stores them.
//!
//! A matrix is cut into blocks of 64 weights; each weight is one of 16 values times the largest
//! magnitude of its block ([`codebook`]). [`codec`] makes it, byte for byte as bitsandbytes does,
//! [`stored`] reads and writes the tensors that transformers saves, and [`cache`] keeps what was
//! quantised for the next run.

pub mod cache;
pub mod codebook;
pub mod codec;
pub mod matrix;
mod mean;
pub mod stored;

pub use cache::{CacheFile, CachePlan, CacheWriter, Planned};
pub use codebook::{CODEBOOK, dynamic_map};
pub use codec::QuantizeError;
pub use matrix::{BLOCK, NESTED_BLOCK, Nf4Matrix, Scales};
pub use stored::{StoredTensor, is_nf4};
