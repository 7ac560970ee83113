//! Keys and values kept while decoding: the prompt's once for a whole group,
//! and each completion's own.

use burn::tensor::{Int, Tensor};

use super::attend::Heads;
use super::layout::indices;
use crate::device::Compute;
use crate::kernel::attention::{DecodeLayout, Keys, decode_attention};
use crate::kernel::in_place::append_rotated;
use moim_core::architecture::LlamaConfig;
use moim_core::memory::limits::CACHE_GROWTH;

/// Keys and values of one layer.
#[derive(Clone, Debug)]
pub struct KeyValue {
    /// `[rows·kv_heads, width, head_dim]`
    pub key: Tensor<3>,
    /// `[rows·kv_heads, width, head_dim]`
    pub value: Tensor<3>,
}

impl From<KeyValue> for Keys {
    fn from(KeyValue { key, value }: KeyValue) -> Self {
        Self { key, value }
    }
}

/// The cache column of every completion's newest token.
#[derive(Clone, Debug)]
pub struct Newest {
    /// Tokens of every completion that are in the cache, with the newest; `[1]`.
    pub filled: Tensor<1, Int>,
    /// The largest `filled`: the capacity.
    pub columns: usize,
}

/// The cache of one layer for a batch of groups in decoding.
#[derive(Debug)]
pub struct CompletionCache {
    prompt: KeyValue,
    /// `[prompts]`
    prompt_lengths: Tensor<1, Int>,
    rows_per_prompt: usize,
    own: Option<KeyValue>,
}

impl CompletionCache {
    /// An empty cache behind a prefilled prompt.
    pub fn new(prompt: KeyValue, prompt_lengths: Tensor<1, Int>, rows_per_prompt: usize) -> Self {
        Self {
            prompt,
            prompt_lengths,
            rows_per_prompt,
            own: None,
        }
    }

    /// Adds the newest token of every completion, and returns its attention to its prompt and
    /// to all tokens of its completion.
    ///
    /// # Shapes
    /// `new`: of the newest tokens, not rotated; `rotary: [rows, 1, head_dim]` twice → `[rows, heads·head_dim]`
    pub(super) fn attend(
        &mut self,
        new: Heads,
        rotary: (&Tensor<3>, &Tensor<3>),
        newest: &Newest,
        config: &LlamaConfig,
    ) -> Tensor<2> {
        let own = self.with_capacity(&new.key, newest.columns);
        let (query, [key, value]) = append_rotated(
            [new.query, new.key, new.value],
            [rotary.0, rotary.1],
            [own.key, own.value],
            newest.filled.clone(),
        );
        let own = KeyValue { key, value };
        self.own = Some(own.clone());
        decode_attention(
            query,
            self.prompt.clone().into(),
            own.into(),
            self.prompt_lengths.clone(),
            newest.filled.clone(),
            DecodeLayout {
                rows_per_prompt: self.rows_per_prompt,
                columns: newest.columns,
                scale: config.attention_scale() as f32,
            },
        )
    }

    /// The completions' keys and values, with at least `columns` columns.
    fn with_capacity(&mut self, new: &Tensor<3>, columns: usize) -> KeyValue {
        let [rows, kv_heads, dim] = new.dims();
        let capacity = columns.next_multiple_of(CACHE_GROWTH);
        let zeros = |columns: usize| {
            Tensor::zeros(
                [rows * kv_heads, columns, dim],
                (&new.device(), new.dtype()),
            )
        };
        match self.own.take() {
            Some(own) if own.key.dims()[1] >= columns => own,
            Some(own) => {
                let missing = capacity - own.key.dims()[1];
                KeyValue {
                    key: Tensor::cat(vec![own.key, zeros(missing)], 1),
                    value: Tensor::cat(vec![own.value, zeros(missing)], 1),
                }
            }
            None => KeyValue {
                key: zeros(capacity),
                value: zeros(capacity),
            },
        }
    }

    /// Keeps these prompts and these rows (indices into the present batch), in this order.
    pub fn keep(
        &mut self,
        prompts: &[usize],
        rows: &[usize],
        rows_per_prompt: usize,
        kv_heads: usize,
        compute: &Compute,
    ) {
        let spread = |kept: &[usize]| {
            indices(
                kept.iter()
                    .flat_map(|&row| (0..kv_heads).map(move |head| row * kv_heads + head)),
                compute,
            )
        };
        let pick = |kept: &KeyValue, which: &[usize]| KeyValue {
            key: kept.key.clone().select(0, spread(which)),
            value: kept.value.clone().select(0, spread(which)),
        };
        if prompts.len() != self.prompt_lengths.dims()[0] {
            self.prompt = pick(&self.prompt, prompts);
            let lengths = self.prompt_lengths.clone();
            self.prompt_lengths = lengths.select(0, indices(prompts.iter().copied(), compute));
        }
        self.rows_per_prompt = rows_per_prompt;
        if let Some(own) = &self.own {
            self.own = Some(pick(own, rows));
        }
    }
}
