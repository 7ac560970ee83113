//! Keys and values kept while decoding: the prompt's once for a whole group,
//! each completion's own beside them.

use burn::tensor::Tensor;

use super::config::CACHE_GROWTH;
use super::layout::indices;
use crate::device::Compute;

/// Keys and values of one layer.
#[derive(Clone, Debug)]
pub struct KeyValue {
    /// `[rows·kv_heads, width, head_dim]`
    pub key: Tensor<3>,
    /// `[rows·kv_heads, width, head_dim]`
    pub value: Tensor<3>,
}

/// The cache of one layer for a batch of groups in decoding.
#[derive(Debug)]
pub struct CompletionCache {
    /// Keys and values of the prompts, without adapter gradients.
    pub prompt: KeyValue,
    /// Number of prompts still in the batch.
    pub prompts: usize,
    own: Option<KeyValue>,
    length: usize,
}

impl CompletionCache {
    /// An empty cache behind a prefilled prompt.
    pub fn new(prompt: KeyValue, prompts: usize) -> Self {
        Self {
            prompt,
            prompts,
            own: None,
            length: 0,
        }
    }

    /// Appends one column; answers all filled columns.
    ///
    /// # Shapes
    /// `key, value: [rows·kv_heads, 1, head_dim]` → `[rows·kv_heads, columns, head_dim]`
    pub fn push(&mut self, key: Tensor<3>, value: Tensor<3>) -> KeyValue {
        let [rows, _, dim] = key.dims();
        let own = match self.own.take() {
            Some(own) if own.key.dims()[1] > self.length => own,
            full => {
                let zeros =
                    || Tensor::zeros([rows, CACHE_GROWTH, dim], (&key.device(), key.dtype()));
                match full {
                    None => KeyValue {
                        key: zeros(),
                        value: zeros(),
                    },
                    Some(own) => KeyValue {
                        key: Tensor::cat(vec![own.key, zeros()], 1),
                        value: Tensor::cat(vec![own.value, zeros()], 1),
                    },
                }
            }
        };
        let column = [0..rows, self.length..self.length + 1, 0..dim];
        let own = KeyValue {
            key: own.key.slice_assign(column.clone(), key),
            value: own.value.slice_assign(column, value),
        };
        self.length += 1;
        let filled = KeyValue {
            key: own.key.clone().narrow(1, 0, self.length),
            value: own.value.clone().narrow(1, 0, self.length),
        };
        self.own = Some(own);
        filled
    }

    /// Keeps these prompts and these rows (indices into the present batch), in this order.
    pub fn keep(&mut self, prompts: &[usize], rows: &[usize], kv_heads: usize, compute: &Compute) {
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
        if prompts.len() != self.prompts {
            self.prompt = pick(&self.prompt, prompts);
            self.prompts = prompts.len();
        }
        if let Some(own) = &self.own {
            self.own = Some(pick(own, rows));
        }
    }
}
