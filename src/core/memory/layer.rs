//! The work of one decoder layer: the number of values in its buffers at the fullest moment.
//!
//! Follows `DecoderLayer` (src/model/layer.rs) and `Attention` (src/model/attention.rs). Letters: T
//! tokens of the part, P and C those of its prompts and its completions, H hidden, Q and K the widths
//! of all query and all key heads, I inside the MLP, k the tokens of the largest chunk of the MLP, S
//! the scores of a block of attention. S and kI are limited by [`VALUES_PER_CHUNK`], unless a single
//! sequence (or a head of a single row) exceeds it by itself.

use super::limits::{CACHE_GROWTH, VALUES_PER_CHUNK};
use super::shape::Inputs;
use super::weights::{F32, dense_copy, dense_copy_for};
use crate::experiment::TargetModule::{
    self, DownProj, GateProj, KProj, OProj, QProj, UpProj, VProj,
};

/// Columns of keys per cube of a GPU while decoding (src/kernel/attention/cube).
const COLUMNS_PER_CUBE: f64 = 128.0;

/// Tokens that go through the model together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tokens {
    /// Distinct prompts.
    pub prompts: f64,
    /// Tokens of each.
    pub prompt_width: f64,
    /// Completions.
    pub rows: f64,
    /// Tokens of each.
    pub completion_width: f64,
}

impl Tokens {
    pub(super) fn of_prompts(&self) -> f64 {
        self.prompts * self.prompt_width
    }

    pub(super) fn of_completions(&self) -> f64 {
        self.rows * self.completion_width
    }

    pub(super) fn all(&self) -> f64 {
        self.of_prompts() + self.of_completions()
    }
}

/// Widths of a layer as real numbers.
struct Widths {
    hidden: f64,
    queries: f64,
    keys: f64,
    inner: f64,
    heads: f64,
    key_heads: f64,
    head_dim: f64,
}

impl Widths {
    fn of(inputs: &Inputs) -> Self {
        let decoder = &inputs.decoder;
        Self {
            hidden: decoder.hidden_size as f64,
            queries: decoder.query_size() as f64,
            keys: decoder.key_value_size() as f64,
            inner: decoder.intermediate_size as f64,
            heads: decoder.num_attention_heads as f64,
            key_heads: decoder.num_key_value_heads as f64,
            head_dim: decoder.head_dim as f64,
        }
    }
}

/// Rows that attend to themselves and to a prefix, cut into blocks as in `Attention`.
struct Attention {
    /// Values of the queries of all rows, and of their keys.
    queries: f64,
    keys: f64,
    /// Values of the keys of all prefixes; 0 without one.
    prefix_keys: f64,
    /// Scores of the largest block.
    scores: f64,
    /// A block's share of the rows and heads, and of the prefixes' heads.
    share: f64,
    prefix_share: f64,
}

impl Attention {
    /// Prompts to themselves.
    fn of_prompts(widths: &Widths, tokens: &Tokens) -> Self {
        Self::new(widths, tokens.prompts, 1.0, tokens.prompt_width, 0.0)
    }

    /// Completions to their prompt and to themselves.
    fn of_completions(widths: &Widths, tokens: &Tokens) -> Self {
        let group = tokens.rows / tokens.prompts.max(1.0);
        let (width, prefix) = (tokens.completion_width, tokens.prompt_width);
        Self::new(widths, tokens.prompts, group, width, prefix)
    }

    fn new(widths: &Widths, prompts: f64, group: f64, width: f64, prefix: f64) -> Self {
        let limit = VALUES_PER_CHUNK as f64;
        let key_heads = widths.key_heads.max(1.0);
        let row = (widths.heads / key_heads * width * (prefix + width)).max(1.0);
        let (head, prompt) = (row * group.max(1.0), row * group.max(1.0) * key_heads);
        let at_most = |whole: f64, of: f64| (limit / of).floor().clamp(1.0, whole.max(1.0));
        let in_block = at_most(prompts, prompt);
        let heads = if prompt <= limit {
            key_heads
        } else {
            at_most(key_heads, head)
        };
        let rows = if head <= limit {
            group.max(1.0)
        } else {
            at_most(group, row)
        };
        let prefix_share = in_block * heads / (prompts.max(1.0) * key_heads);
        let tokens = prompts * group * width;
        Self {
            queries: tokens * widths.queries,
            keys: tokens * widths.keys,
            prefix_keys: prompts * prefix * widths.keys,
            scores: row * rows * heads * in_block,
            share: prefix_share * rows / group.max(1.0),
            prefix_share,
        }
    }

    fn is_whole(&self) -> bool {
        self.share >= 1.0
    }

    /// Copies of a block's inputs, laid out by head.
    fn read(&self) -> f64 {
        self.share * (self.queries + 2.0 * self.keys) + self.prefix_share * 2.0 * self.prefix_keys
    }

    /// The forward pass with its output: the scores, twice if those for the prefix and for the row's
    /// own keys are joined.
    fn forward(&self) -> f64 {
        let copies = if self.prefix_keys > 0.0 { 2.0 } else { 1.0 };
        let block = if self.is_whole() {
            0.0
        } else {
            self.share * self.queries
        };
        self.read() + copies * self.scores + self.queries + block
    }

    /// The backward pass with its output: the weights, their gradient, and its pieces if they are
    /// joined.
    fn backward(&self) -> f64 {
        let copies = if self.prefix_keys > 0.0 { 3.0 } else { 2.0 };
        let gathered = if self.is_whole() {
            0.0
        } else {
            self.queries + 2.0 * self.keys + 2.0 * self.prefix_keys
        };
        let gradient = self.share * (self.queries + self.keys);
        self.read() + gradient + copies * self.scores + gathered
    }
}

/// Tokens of the largest chunk of the MLP, and whether there are several.
fn chunk(inputs: &Inputs, tokens: &Tokens) -> (f64, bool) {
    let inner = inputs.decoder.intermediate_size.max(1);
    let limit = (VALUES_PER_CHUNK / inner).max(1) as f64;
    if tokens.all() <= limit {
        return (tokens.all(), false);
    }
    let of = |sequences: f64, width: f64| {
        let at_once = (limit / width.max(1.0)).floor().max(1.0);
        at_once.min(sequences) * width
    };
    let prompts = of(tokens.prompts, tokens.prompt_width);
    let completions = of(tokens.rows, tokens.completion_width);
    (prompts.max(completions), true)
}

/// Bytes of the largest buffer of a layer over a part: inside a chunk of the MLP, or the scores of a
/// block of attention.
pub(super) fn largest_chunk_bytes(inputs: &Inputs, tokens: &Tokens) -> f64 {
    let widths = Widths::of(inputs);
    let scores = Attention::of_prompts(&widths, tokens)
        .scores
        .max(Attention::of_completions(&widths, tokens).scores);
    let inner = chunk(inputs, tokens).0 * widths.inner;
    scores.max(inner) * inputs.value_bytes as f64
}

/// Bytes that all layers of a part share: cosines and sines of all positions.
pub(super) fn layout_bytes(inputs: &Inputs, tokens: &Tokens) -> f64 {
    2.0 * tokens.all() * inputs.decoder.head_dim as f64 * inputs.value_bytes as f64
}

/// Bytes of the input of a layer.
pub(super) fn input_bytes(inputs: &Inputs, tokens: &Tokens) -> f64 {
    tokens.all() * inputs.decoder.hidden_size as f64 * inputs.value_bytes as f64
}

/// Values per token that the norms of heads keep for their gradients: the original queries and keys,
/// and an f32 for each head. A bias keeps nothing.
fn before_head_norms(inputs: &Inputs) -> f64 {
    let Widths {
        queries,
        keys,
        heads,
        key_heads,
        ..
    } = Widths::of(inputs);
    let roots = (heads + key_heads) * F32 / inputs.value_bytes as f64;
    if inputs.decoder.family.has_qk_norm() {
        queries + keys + roots
    } else {
        0.0
    }
}

/// Bytes of a layer while it is recomputed and differentiated, with the gradient of its output and
/// without its input.
pub(super) fn backward_bytes(inputs: &Inputs, tokens: &Tokens) -> f64 {
    let widths = Widths::of(inputs);
    let Widths {
        hidden,
        queries,
        keys,
        inner,
        ..
    } = widths;
    let all = tokens.all();
    let value = inputs.value_bytes as f64;
    let adapted = |modules: &[TargetModule]| {
        let is_adapted = |module: &&TargetModule| inputs.lora_targets.contains(module);
        modules.iter().filter(is_adapted).count() as f64
    };
    // A token's input of these adapters is kept for the gradient of A. They share one, unless dropout
    // makes a separate copy for each.
    let kept = |modules: &[TargetModule], width: f64| {
        if inputs.has_dropout {
            adapted(modules) * width
        } else {
            adapted(modules).min(1.0) * width
        }
    };
    let rank = |modules: &[TargetModule]| adapted(modules) * inputs.lora_rank as f64;
    let has_down = adapted(&[DownProj]);

    // Queries, keys and values under autodiff, from start to end.
    let heads = [QProj, KProj, VProj];
    let normed = before_head_norms(inputs);
    let tracked = all * (queries + 2.0 * keys + normed + kept(&heads, hidden) + rank(&heads));

    let (chunk, has_several) = chunk(inputs, tokens);
    let rest = [OProj, GateProj, UpProj, DownProj];
    let dropped = if inputs.has_dropout {
        kept(&[OProj], queries) + kept(&[GateProj, UpProj], hidden) + has_down * inner
    } else {
        0.0
    };
    // Residual, norm, gate, up, their product and the output of the down-projection.
    let forward = 2.0 * hidden + 3.0 * inner + (1.0 + has_down) * hidden + dropped + rank(&rest);
    // Gate and up meet the gradient of their product. An adapter adds its own share of that gradient
    // and has kept the product.
    let norm = if inputs.has_dropout {
        0.0
    } else {
        adapted(&[GateProj, UpProj]).min(1.0) * hidden
    };
    let product = if inputs.has_dropout { 0.0 } else { inner };
    // On the CPU the gradients of gate and up overwrite them; elsewhere they need extra memory.
    let inners = if inputs.is_cpu { 3.0 } else { 5.0 };
    let backward =
        2.0 * hidden + norm + inners * inner + has_down * (inner + product) + dropped + rank(&rest);
    // On a device a chunk of three tensors is a copy.
    let cut = if has_several && !inputs.is_cpu {
        chunk * (2.0 * hidden + queries)
    } else {
        0.0
    };
    let mlp = tracked
        + all * (hidden + queries)
        + chunk * forward.max(backward)
        + (all - chunk) * (hidden + queries)
        + cut;

    // From here the MLP is done; the gradients of the residual and of attention's output are left.
    let lasting = tracked + all * (hidden + queries);
    let prompt = lasting + Attention::of_prompts(&widths, tokens).backward();
    let of_prompt = tokens.of_prompts() * (queries + 2.0 * keys);
    let completion = lasting + of_prompt + Attention::of_completions(&widths, tokens).backward();
    // Gradients of prompts and completions, joined sequentially.
    let joined = lasting + all * (2.0 * queries + 2.0 * keys) + tokens.of_prompts() * 2.0 * keys;
    let projected = joined * value + dense_copy(inputs, &heads);
    (mlp * value + dense_copy(inputs, &rest))
        .max(prompt.max(completion) * value)
        .max(projected)
}

/// Bytes of a layer over only prompts, without autodiff, and without its input and its keys and values
/// in the cache: the rotation of queries and keys, attention, or the MLP.
pub(super) fn prefill_bytes(inputs: &Inputs, tokens: &Tokens) -> f64 {
    let widths = Widths::of(inputs);
    let Widths {
        hidden,
        queries,
        keys,
        inner,
        ..
    } = widths;
    let (all, value) = (tokens.all(), inputs.value_bytes as f64);
    let rotation = all * (hidden + 3.0 * queries + 2.0 * keys);
    let attention = all * (queries + 2.0 * keys) + Attention::of_prompts(&widths, tokens).forward();
    let (chunk, has_several) = chunk(inputs, tokens);
    let pieces = if has_several { all * hidden } else { 0.0 };
    // On the CPU the product of gate and up overwrites the gate.
    let inners = if inputs.is_cpu { 2.0 } else { 3.0 };
    let mlp = all * 2.0 * queries + chunk * (2.0 * hidden + inners * inner) + pieces;
    let heads = dense_copy_for(inputs, &[QProj, KProj, VProj], all);
    let rest = dense_copy_for(inputs, &[OProj, GateProj, UpProj, DownProj], chunk);
    (rotation * value + heads)
        .max(attention * value)
        .max(mlp * value + rest)
}

/// Bytes of a layer over one new token of every completion. The CPU grows the columns of its keys on
/// the way, and the earlier ones then exist twice. A GPU allocates all of them at the start.
pub(super) fn decode_bytes(inputs: &Inputs, tokens: &Tokens, columns: f64) -> f64 {
    let widths = Widths::of(inputs);
    let (rows, value) = (tokens.rows, inputs.value_bytes as f64);
    let heads = 3.0 * widths.hidden + 2.0 * widths.queries + 2.0 * widths.keys;
    let growth = if inputs.is_cpu && columns > CACHE_GROWTH as f64 {
        rows * widths.keys * columns
    } else {
        0.0
    };
    // With few rows, results come weight by weight and are then laid out by row.
    let mlp = rows * (3.0 * widths.hidden + 4.0 * widths.inner);
    // A GPU sums parts of the keys separately, in f32.
    let sums = if inputs.is_cpu {
        0.0
    } else {
        let splits = (tokens.prompt_width / COLUMNS_PER_CUBE).ceil()
            + (tokens.completion_width / COLUMNS_PER_CUBE).ceil();
        rows * widths.heads * splits * (widths.head_dim + 4.0) * F32
    };
    (growth + rows * (heads + 4.0 * widths.head_dim)).max(mlp) * value + sums
}
