//! Sizes that both the engine and the memory plan use.

/// Logits that the training head computes together; 16 Mi of them are 64 MiB in f32.
pub const LOGITS_PER_CHUNK: usize = 16 << 20;

/// Values of a layer's widest tensors that exist at a time: scores of attention, and the inside of
/// the MLP. 64 Mi of them are 128 MiB in bfloat16.
pub const VALUES_PER_CHUNK: usize = 64 << 20;

/// Columns added whenever the cache of completions is full.
pub const CACHE_GROWTH: usize = 64;

/// The most completions that are decoded together.
pub const MAX_ROLLOUT_ROWS: usize = 256;

/// Completions decoded together on the CPU, where several batches run in parallel. A constant, so that
/// results do not depend on the number of cores.
pub const CPU_ROLLOUT_ROWS: usize = 32;

/// The most padded tokens in one forward pass on an accelerator. Limits the attention scores, of which
/// each token has heads × length.
pub const MAX_TOKENS_PER_BATCH: usize = 16_384;

/// Host memory for cached sentence embeddings, in bytes.
pub const SENTENCE_CACHE_BYTES: usize = 256 << 20;

/// Up to this many rows the product is computed by our own kernel, above by the backend's matmul.
pub const FEW_ROWS: usize = 16;

/// Up to this many rows of `x` a GPU uses a fused kernel.
///
/// Estimated, not measured. A dense copy moves 4.5 bytes per weight, in which time an H100 executes some 40
/// instructions; on tensor cores 64 rows, in two passes, need 8. Without them a weight needs about 8 instructions
/// and 1.4 more per row, which equals the dense copy between 23 rows (an H100 in f32) and more than 64 (cards with
/// less bandwidth for their arithmetic, which are the ones without such tensor cores).
pub const GPU_FUSED_ROWS: usize = 64;

/// Up to this many rows of `x` the CPU decodes row by row during the product.
pub const CPU_FUSED_ROWS: usize = 16;
