//! The two attentions of a micro-batch: prompts to themselves, completions to their prompt and to
//! themselves. Together they cover all tokens in layout order.

use burn::tensor::Tensor;

use super::attention::{Attention, KeysValues, Prefix};
use super::layout::LayoutTensors;
use moim_core::architecture::LlamaConfig;

/// Queries, keys and values of some tokens, rotated.
pub(super) struct Heads {
    /// `[tokens, heads, head_dim]`
    pub query: Tensor<3>,
    /// `[tokens, kv_heads, head_dim]`
    pub key: Tensor<3>,
    /// `[tokens, kv_heads, head_dim]`
    pub value: Tensor<3>,
}

/// Attention of prompts and attention of completions.
struct Parts<'a> {
    prompts: Attention<'a>,
    completions: Attention<'a>,
    tensors: &'a LayoutTensors,
}

impl<'a> Parts<'a> {
    fn new(tensors: &'a LayoutTensors, config: &'a LlamaConfig) -> Self {
        let layout = &tensors.layout;
        let of = |group, width| Attention {
            config,
            prompts: layout.prompts(),
            group,
            width,
            scores_per_block: tensors.values_per_chunk,
        };
        Self {
            prompts: of(1, layout.prompt_width),
            completions: of(layout.rows_per_prompt, layout.completion_width),
            tensors,
        }
    }

    fn prefix(&self, prompt: &Heads) -> Prefix {
        Prefix {
            tokens: prompt.keys_values(),
            width: self.tensors.layout.prompt_width,
            lengths: self.tensors.prompt_lengths.clone(),
        }
    }

    /// The prompts' part of a tensor, and the completions' if there are any.
    fn split<const D: usize>(&self, t: &Tensor<D>) -> (Tensor<D>, Option<Tensor<D>>) {
        let layout = &self.tensors.layout;
        let (prompts, completions) = (layout.prompt_tokens(), layout.completion_tokens());
        if completions == 0 {
            return (t.clone(), None);
        }
        (
            t.clone().narrow(0, 0, prompts),
            Some(t.clone().narrow(0, prompts, completions)),
        )
    }

    fn split_heads(&self, heads: &Heads) -> (Heads, Option<Heads>) {
        let (query, completion_query) = self.split(&heads.query);
        let (key, completion_key) = self.split(&heads.key);
        let (value, completion_value) = self.split(&heads.value);
        let completions = match (completion_query, completion_key, completion_value) {
            (Some(query), Some(key), Some(value)) => Some(Heads { query, key, value }),
            _ => None,
        };
        (Heads { query, key, value }, completions)
    }
}

impl Heads {
    fn keys_values(&self) -> KeysValues {
        KeysValues {
            key: self.key.clone(),
            value: self.value.clone(),
        }
    }
}

/// # Shapes
/// → `[tokens, heads·head_dim]`
pub(super) fn attend(heads: &Heads, tensors: &LayoutTensors, config: &LlamaConfig) -> Tensor<2> {
    let parts = Parts::new(tensors, config);
    let (prompt, completion) = parts.split_heads(heads);
    let of_prompts = parts
        .prompts
        .forward(&prompt.query, &prompt.keys_values(), None);
    let Some(completion) = completion else {
        return of_prompts;
    };
    let prefix = parts.prefix(&prompt);
    let of_completions =
        parts
            .completions
            .forward(&completion.query, &completion.keys_values(), Some(&prefix));
    Tensor::cat(vec![of_prompts, of_completions], 0)
}

/// Gradients of queries, keys and values, from the gradient of what [`attend`] returns.
pub(super) fn attend_backward(
    heads: &Heads,
    gradient: &Tensor<2>,
    tensors: &LayoutTensors,
    config: &LlamaConfig,
) -> Heads {
    let parts = Parts::new(tensors, config);
    let (prompt, completion) = parts.split_heads(heads);
    let (prompt_gradient, completion_gradient) = parts.split(gradient);
    let of_prompts =
        parts
            .prompts
            .backward(&prompt.query, &prompt.keys_values(), None, &prompt_gradient);
    let of_prompts = Heads {
        query: of_prompts.query,
        key: of_prompts.own.key,
        value: of_prompts.own.value,
    };
    let (Some(completion), Some(gradient)) = (completion, completion_gradient) else {
        return of_prompts;
    };
    let prefix = parts.prefix(&prompt);
    let of_completions = parts.completions.backward(
        &completion.query,
        &completion.keys_values(),
        Some(&prefix),
        &gradient,
    );
    let (mut key, mut value) = (of_prompts.key, of_prompts.value);
    if let Some(prefix) = of_completions.prefix {
        key = key + prefix.key;
        value = value + prefix.value;
    }
    let join = |prompt: Tensor<3>, completion: Tensor<3>| Tensor::cat(vec![prompt, completion], 0);
    Heads {
        query: join(of_prompts.query, of_completions.query),
        key: join(key, of_completions.own.key),
        value: join(value, of_completions.own.value),
    }
}
