//! Sizes that the engine works in and the plan counts with: one definition for both.

/// Logits computed at once by the training head; 16 Mi of them are 64 MiB in f32.
pub const LOGITS_PER_CHUNK: usize = 16 << 20;

/// Values of a layer's widest tensors that exist at a time: scores of attention, and the inside of
/// the MLP. 64 Mi of them are 128 MiB in bfloat16.
pub const VALUES_PER_CHUNK: usize = 64 << 20;

/// Columns added whenever the cache of completions is full.
pub const CACHE_GROWTH: usize = 64;

/// Completions decoded together at most.
pub const MAX_ROLLOUT_ROWS: usize = 256;

/// Completions decoded together on the CPU, where several batches run side by
/// side. A constant, so that results do not depend on the number of cores.
pub const CPU_ROLLOUT_ROWS: usize = 32;

/// Padded tokens in one forward pass on an accelerator, at most: bounds the
/// attention scores, heads × seq of which belong to each token.
pub const MAX_TOKENS_PER_BATCH: usize = 16_384;

/// Host memory for sentence embeddings that may be asked for again, in bytes.
pub const SENTENCE_CACHE_BYTES: usize = 256 << 20;

/// Up to so many rows the product is computed here, beyond by the matmul of the backend.
pub const FEW_ROWS: usize = 16;

/// Up to so many rows of `x` a GPU takes a fused kernel.
///
/// Reckoned, not measured. A dense copy moves 4.5 bytes a weight, in whose time an H100 spends some 40 instructions; on
/// tensor cores 64 rows, two passes, take 8. Without them a weight takes about 8 instructions and 1.4 more a row,
/// which meets the dense copy between 23 rows (an H100 in f32) and beyond 64 (cards with less bandwidth for their
/// arithmetic, which is what has no such tensor cores).
pub const GPU_FUSED_ROWS: usize = 64;

/// Up to so many rows of `x` the CPU decodes row by row beside the product.
pub const CPU_FUSED_ROWS: usize = 16;
