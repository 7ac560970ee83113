//! Causal self-attention over a shared prefix, in blocks, with its own backward pass.
//!
//! The scores of all heads and tokens are by far the largest tensors of a layer. They exist here
//! for one block at a time: some prompts, some of their key heads, some of the completions. In the
//! backward pass a block's weights are recomputed from queries and keys (as in FlashAttention, Dao et al.
//! 2022), so nothing of the size of the scores is ever kept.
//!
//! Query heads that share a key head are stacked as rows of one product, and so are the completions
//! of a prompt where they attend to it: a prompt's keys and values are read once for its group and
//! never repeated.

use std::ops::Range;

use burn::tensor::{Int, Tensor};

use crate::kernel::softmax::{AttentionMask, masked_softmax, softmax_backward};
use moim_core::architecture::LlamaConfig;

/// Keys and values of tokens, `[tokens, kv_heads, head_dim]` each.
#[derive(Clone, Debug)]
pub struct KeysValues {
    /// Rotated keys.
    pub key: Tensor<3>,
    /// Values.
    pub value: Tensor<3>,
}

/// The prompts: attended to before the rows' own tokens.
#[derive(Clone, Debug)]
pub struct Prefix {
    /// `[prompts·width, kv_heads, head_dim]`
    pub tokens: KeysValues,
    /// Columns a prompt takes, padding included.
    pub width: usize,
    /// Tokens of each prompt, `[prompts]`.
    pub lengths: Tensor<1, Int>,
}

/// Rows of tokens that attend causally to themselves, and to all of their prompt if there is one.
pub struct Attention<'a> {
    /// Heads and their width.
    pub config: &'a LlamaConfig,
    /// Prompts, or rows that share nothing.
    pub prompts: usize,
    /// Rows of each prompt.
    pub group: usize,
    /// Tokens of a row.
    pub width: usize,
    /// Scores that may exist at a time.
    pub scores_per_block: usize,
}

/// Gradients of what attention read.
pub struct AttentionGradients {
    /// As the queries.
    pub query: Tensor<3>,
    /// As the rows' own keys and values.
    pub own: KeysValues,
    /// As the prefix.
    pub prefix: Option<KeysValues>,
}

/// Some prompts, some rows of each, some key heads.
#[derive(Clone, Debug, PartialEq)]
struct Block {
    prompts: Range<usize>,
    rows: Range<usize>,
    heads: Range<usize>,
}

impl Attention<'_> {
    /// # Shapes
    /// `query: [prompts·group·width, heads, head_dim]` → `[prompts·group·width, heads·head_dim]`
    pub fn forward(
        &self,
        query: &Tensor<3>,
        own: &KeysValues,
        prefix: Option<&Prefix>,
    ) -> Tensor<2> {
        let mut output = Whole::new(self.query_shape());
        for block in self.blocks(prefix) {
            let read = self.read(&block, query, own, prefix);
            let weights = self.weights(&block, &read, prefix);
            let (to_prefix, to_own) = self.split(&block, weights, prefix);
            let mut attended = self.stacked(&block, to_own.matmul(read.own_value));
            if let (Some(weights), Some(value)) = (to_prefix, read.prefix_value) {
                attended = attended + weights.matmul(value);
            }
            output.put(self.query_ranges(&block), self.unstack(&block, attended));
        }
        let dim = self.config.num_attention_heads * self.config.head_dim;
        output
            .take(query)
            .reshape([self.prompts * self.group * self.width, dim])
    }

    /// Gradients of what [`Attention::forward`] read, from the gradient of its output.
    ///
    /// # Shapes
    /// `gradient: [prompts·group·width, heads·head_dim]`
    pub fn backward(
        &self,
        query: &Tensor<3>,
        own: &KeysValues,
        prefix: Option<&Prefix>,
        gradient: &Tensor<2>,
    ) -> AttentionGradients {
        let heads = query.dims();
        let gradient = gradient.clone().reshape(heads);
        let mut of_query = Whole::new(self.query_shape());
        let (mut of_key, mut of_value) =
            (Whole::new(self.own_shape()), Whole::new(self.own_shape()));
        let mut of_prefix = prefix.map(|prefix| {
            let shape = self.prefix_shape(prefix);
            (Whole::new(shape), Whole::new(shape))
        });
        for block in self.blocks(prefix) {
            let read = self.read(&block, query, own, prefix);
            let gradient = self.stack(&block, &gradient);
            let weights = self.weights(&block, &read, prefix);
            let mut of_weights = self.rows_to_keys(
                &block,
                self.by_row(&block, gradient.clone())
                    .matmul(read.own_value.clone().swap_dims(1, 2)),
            );
            if let Some(value) = &read.prefix_value {
                let to_prefix = gradient.clone().matmul(value.clone().swap_dims(1, 2));
                of_weights = Tensor::cat(vec![to_prefix, of_weights], 2);
            }
            let scale = self.config.attention_scale();
            let of_scores = softmax_backward(of_weights, weights.clone(), scale);

            let (to_prefix, to_own) = self.split(&block, weights, prefix);
            of_value.put(
                self.own_ranges(&block),
                self.place_own(
                    &block,
                    to_own
                        .swap_dims(1, 2)
                        .matmul(self.by_row(&block, gradient.clone())),
                ),
            );
            let (scores_to_prefix, scores_to_own) = self.split(&block, of_scores, prefix);
            of_key.put(
                self.own_ranges(&block),
                self.place_own(
                    &block,
                    scores_to_own
                        .clone()
                        .swap_dims(1, 2)
                        .matmul(self.by_row(&block, read.query.clone())),
                ),
            );
            let mut of_rows = self.stacked(&block, scores_to_own.matmul(read.own_key));
            if let (Some(weights), Some(scores), Some(key), Some(prefix), Some((keys, values))) = (
                to_prefix,
                scores_to_prefix,
                read.prefix_key,
                prefix,
                &mut of_prefix,
            ) {
                of_rows = of_rows + scores.clone().matmul(key);
                let ranges = self.prefix_ranges(&block, prefix);
                let place = |t: Tensor<3>| {
                    t.reshape([
                        block.prompts.len(),
                        block.heads.len(),
                        prefix.width,
                        self.config.head_dim,
                    ])
                    .swap_dims(1, 2)
                };
                // Several blocks of rows may attend to the same prompt.
                values.add(
                    ranges.clone(),
                    place(weights.swap_dims(1, 2).matmul(gradient)),
                );
                keys.add(ranges, place(scores.swap_dims(1, 2).matmul(read.query)));
            }
            of_query.put(self.query_ranges(&block), self.unstack(&block, of_rows));
        }
        let own_shape = own.key.dims();
        AttentionGradients {
            query: of_query.take(query).reshape(heads),
            own: KeysValues {
                key: of_key.take(query).reshape(own_shape),
                value: of_value.take(query).reshape(own_shape),
            },
            prefix: of_prefix.zip(prefix).map(|((key, value), prefix)| {
                let shape = prefix.tokens.key.dims();
                KeysValues {
                    key: key.take(query).reshape(shape),
                    value: value.take(query).reshape(shape),
                }
            }),
        }
    }

    /// Blocks of at most `scores_per_block` scores: as many prompts as go in whole, else as many
    /// key heads of one, else as many rows of one head.
    fn blocks(&self, prefix: Option<&Prefix>) -> Vec<Block> {
        let kv = self.config.num_key_value_heads;
        let keys = prefix.map_or(0, |prefix| prefix.width) + self.width;
        let row = (self.config.queries_per_key() * self.width * keys).max(1);
        let (head, prompt) = (row * self.group, row * self.group * kv);
        let limit = self.scores_per_block;
        let prompts = (limit / prompt).max(1);
        let heads = if prompt <= limit {
            kv
        } else {
            (limit / head).max(1)
        };
        let rows = if head <= limit {
            self.group
        } else {
            (limit / row).max(1)
        };
        let mut blocks = Vec::new();
        for prompts in ranges(self.prompts, prompts) {
            for heads in ranges(kv, heads) {
                for rows in ranges(self.group, rows) {
                    blocks.push(Block {
                        prompts: prompts.clone(),
                        rows,
                        heads: heads.clone(),
                    });
                }
            }
        }
        blocks
    }

    fn read(
        &self,
        block: &Block,
        query: &Tensor<3>,
        own: &KeysValues,
        prefix: Option<&Prefix>,
    ) -> Read {
        let dim = self.config.head_dim;
        let of_own = |t: &Tensor<3>| {
            t.clone()
                .reshape(self.own_shape())
                .slice(self.own_ranges(block))
                .permute([0, 3, 1, 2, 4])
                .reshape([block.units() * block.rows.len(), self.width, dim])
        };
        let of_prefix = |t: &Tensor<3>, prefix: &Prefix| {
            t.clone()
                .reshape(self.prefix_shape(prefix))
                .slice(self.prefix_ranges(block, prefix))
                .swap_dims(1, 2)
                .reshape([block.units(), prefix.width, dim])
        };
        Read {
            query: self.stack(block, query),
            own_key: of_own(&own.key),
            own_value: of_own(&own.value),
            prefix_key: prefix.map(|prefix| of_prefix(&prefix.tokens.key, prefix)),
            prefix_value: prefix.map(|prefix| of_prefix(&prefix.tokens.value, prefix)),
        }
    }

    /// Attention weights of a block, those to the prefix first.
    ///
    /// # Shapes
    /// `[prompts·heads, rows·sharing·width, prefix_width + width]`
    fn weights(&self, block: &Block, read: &Read, prefix: Option<&Prefix>) -> Tensor<3> {
        let mut scores = self.rows_to_keys(
            block,
            self.by_row(block, read.query.clone())
                .matmul(read.own_key.clone().swap_dims(1, 2)),
        );
        if let Some(key) = &read.prefix_key {
            let to_prefix = read.query.clone().matmul(key.clone().swap_dims(1, 2));
            scores = Tensor::cat(vec![to_prefix, scores], 2);
        }
        let scale = self.config.attention_scale();
        let Some(prefix) = prefix else {
            return masked_softmax(scores, scale, AttentionMask::causal(self.width), None);
        };
        let heads = block.heads.len();
        let mask = AttentionMask::after_prefix(prefix.width, heads, self.width, self.width);
        let lengths = prefix.lengths.clone().slice([block.prompts.clone()]);
        masked_softmax(scores, scale, mask, Some(&lengths))
    }

    /// Cuts the last dimension at the end of the prefix; the rest is by row.
    fn split(
        &self,
        block: &Block,
        weights: Tensor<3>,
        prefix: Option<&Prefix>,
    ) -> (Option<Tensor<3>>, Tensor<3>) {
        let by_row = [
            block.units() * block.rows.len(),
            self.config.queries_per_key() * self.width,
            self.width,
        ];
        match prefix {
            None => (None, weights.reshape(by_row)),
            Some(prefix) => {
                let own = weights.clone().narrow(2, prefix.width, self.width);
                (
                    Some(weights.narrow(2, 0, prefix.width)),
                    own.reshape(by_row),
                )
            }
        }
    }

    /// # Shapes
    /// `[tokens, heads, head_dim]` → `[prompts·heads, rows·sharing·width, head_dim]` of the block
    fn stack(&self, block: &Block, t: &Tensor<3>) -> Tensor<3> {
        t.clone()
            .reshape(self.query_shape())
            .slice(self.query_ranges(block))
            .permute([0, 3, 1, 4, 2, 5])
            .reshape(self.stacked_shape(block))
    }

    /// The inverse of [`Attention::stack`].
    fn unstack(&self, block: &Block, t: Tensor<3>) -> Tensor<6> {
        t.reshape([
            block.prompts.len(),
            block.heads.len(),
            block.rows.len(),
            self.config.queries_per_key(),
            self.width,
            self.config.head_dim,
        ])
        .permute([0, 2, 4, 1, 3, 5])
    }

    /// One per row of a key head: `[prompts·heads·rows, sharing·width, head_dim]`.
    fn by_row(&self, block: &Block, t: Tensor<3>) -> Tensor<3> {
        t.reshape([
            block.units() * block.rows.len(),
            self.config.queries_per_key() * self.width,
            self.config.head_dim,
        ])
    }

    /// From one per row back to all rows of a unit.
    fn stacked(&self, block: &Block, t: Tensor<3>) -> Tensor<3> {
        t.reshape(self.stacked_shape(block))
    }

    /// [`Attention::stacked`] for tensors with a column for each of the row's own keys.
    fn rows_to_keys(&self, block: &Block, t: Tensor<3>) -> Tensor<3> {
        let [units, rows, _] = self.stacked_shape(block);
        t.reshape([units, rows, self.width])
    }

    fn place_own(&self, block: &Block, t: Tensor<3>) -> Tensor<5> {
        t.reshape([
            block.prompts.len(),
            block.heads.len(),
            block.rows.len(),
            self.width,
            self.config.head_dim,
        ])
        .permute([0, 2, 3, 1, 4])
    }

    fn stacked_shape(&self, block: &Block) -> [usize; 3] {
        let rows = block.rows.len() * self.config.queries_per_key() * self.width;
        [block.units(), rows, self.config.head_dim]
    }

    fn query_shape(&self) -> [usize; 6] {
        [
            self.prompts,
            self.group,
            self.width,
            self.config.num_key_value_heads,
            self.config.queries_per_key(),
            self.config.head_dim,
        ]
    }

    fn own_shape(&self) -> [usize; 5] {
        let [prompts, group, width, kv, _, dim] = self.query_shape();
        [prompts, group, width, kv, dim]
    }

    fn prefix_shape(&self, prefix: &Prefix) -> [usize; 4] {
        let [prompts, _, _, kv, _, dim] = self.query_shape();
        [prompts, prefix.width, kv, dim]
    }

    fn query_ranges(&self, block: &Block) -> [Range<usize>; 6] {
        let [_, _, width, _, sharing, dim] = self.query_shape();
        let Block {
            prompts,
            rows,
            heads,
        } = block.clone();
        [prompts, rows, 0..width, heads, 0..sharing, 0..dim]
    }

    fn own_ranges(&self, block: &Block) -> [Range<usize>; 5] {
        let [prompts, rows, width, heads, _, dim] = self.query_ranges(block);
        [prompts, rows, width, heads, dim]
    }

    fn prefix_ranges(&self, block: &Block, prefix: &Prefix) -> [Range<usize>; 4] {
        let [prompts, _, _, heads, _, dim] = self.query_ranges(block);
        [prompts, 0..prefix.width, heads, dim]
    }
}

impl Block {
    /// Pairs of a prompt and a key head.
    fn units(&self) -> usize {
        self.prompts.len() * self.heads.len()
    }
}

/// The inputs of a block.
struct Read {
    /// `[prompts·heads, rows·sharing·width, head_dim]`
    query: Tensor<3>,
    /// `[prompts·heads·rows, width, head_dim]`
    own_key: Tensor<3>,
    own_value: Tensor<3>,
    /// `[prompts·heads, prefix_width, head_dim]`
    prefix_key: Option<Tensor<3>>,
    prefix_value: Option<Tensor<3>>,
}

/// A tensor that is assembled from blocks.
struct Whole<const D: usize> {
    shape: [usize; D],
    tensor: Option<Tensor<D>>,
}

impl<const D: usize> Whole<D> {
    fn new(shape: [usize; D]) -> Self {
        Self {
            shape,
            tensor: None,
        }
    }

    fn put(&mut self, ranges: [Range<usize>; D], block: Tensor<D>) {
        // Most often there is one block only, and nothing to copy.
        if block.dims() == self.shape {
            self.tensor = Some(block);
            return;
        }
        let whole = self
            .tensor
            .take()
            .unwrap_or_else(|| Tensor::zeros(self.shape, (&block.device(), block.dtype())));
        self.tensor = Some(whole.slice_assign(ranges, block));
    }

    fn add(&mut self, ranges: [Range<usize>; D], block: Tensor<D>) {
        let sum = match &self.tensor {
            None => block,
            Some(whole) => whole.clone().slice(ranges.clone()) + block,
        };
        self.put(ranges, sum);
    }

    /// The tensor; zeros if no block was put, on the device of `like`.
    fn take(self, like: &Tensor<3>) -> Tensor<D> {
        self.tensor
            .unwrap_or_else(|| Tensor::zeros(self.shape, (&like.device(), like.dtype())))
    }
}

/// `0..total` cut into ranges of at most `size`.
fn ranges(total: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    let size = size.max(1);
    (0..total.div_ceil(size)).map(move |i| i * size..((i + 1) * size).min(total))
}
