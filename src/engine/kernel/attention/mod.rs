//! Attention while decoding: one new token of every completion attends to its prompt's keys and to
//! its own. The prompt's keys are stored once for a group, padding and unused cache columns are
//! never part of a sum, and there is no matrix of scores.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Int, Shape, Tensor};

mod cpu;
mod cube;
pub mod reference;
#[cfg(test)]
mod tests;

/// Keys and values of one layer, borrowed from a cache.
#[derive(Clone, Debug)]
pub struct Keys {
    /// `[batch·kv_heads, columns, head_dim]`
    pub key: Tensor<3>,
    /// The shape of `key`.
    pub value: Tensor<3>,
}

/// The relation of rows, prompts and the cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecodeLayout {
    /// Completions of each prompt, in rows; rows are ordered by prompt.
    pub rows_per_prompt: usize,
    /// The most columns of the completions' cache that can count; how many do is read on the device.
    pub columns: usize,
    /// Factor of the scores before the softmax, `head_dim^−½`.
    pub scale: f32,
}

/// Backends with an attention for decoding.
#[backend_extension(Cube, Flex, Fusion)]
pub trait DecodeAttentionOps: Backend {
    /// [`decode_attention`] on the backend's tensors.
    #[fusion(dtype = query, shape = merged_heads(query))]
    #[allow(clippy::too_many_arguments)] // The macro takes tensors and numbers, not structs of ours.
    fn decode_attention(
        query: FloatTensor<Self>,
        prompt_key: FloatTensor<Self>,
        prompt_value: FloatTensor<Self>,
        own_key: FloatTensor<Self>,
        own_value: FloatTensor<Self>,
        prompt_lengths: IntTensor<Self>,
        filled: IntTensor<Self>,
        rows_per_prompt: usize,
        columns: usize,
        scale: f32,
    ) -> FloatTensor<Self>;
}

/// `[rows, heads, head_dim]` → `[rows, heads·head_dim]`
fn merged_heads(query: &Shape) -> Shape {
    Shape::new([query[0], query[1] * query[2]])
}

/// `softmax(scale · q · [prompt keys ‖ own keys]ᵀ) · [prompt values ‖ own values]` for one query
/// token per row, softmax and sums in `f32`. Query heads that share a key head are contiguous,
/// and the new token's own key is the last of the `filled` columns. Not differentiable:
/// tensors of an autodiff device cause a panic.
///
/// # Shapes
/// `query: [rows, heads, head_dim]`, rotated, not scaled;
/// `prompt: [prompts·kv_heads, prompt_width, head_dim]`;
/// `own: [rows·kv_heads, capacity, head_dim]`, the whole cache;
/// `prompt_lengths: [prompts]`, tokens of each prompt, of which the columns come first;
/// `filled: [1]`, columns of `own` that count, the new token's included: the same for all rows, and at
/// most `layout.columns`
/// → `[rows, heads·head_dim]` in the query's type
///
/// # Panics
/// Shapes that contradict each other; on a GPU also a `head_dim` that is no multiple of 4 or is above 256.
pub fn decode_attention(
    query: Tensor<3>,
    prompt: Keys,
    own: Keys,
    prompt_lengths: Tensor<1, Int>,
    filled: Tensor<1, Int>,
    layout: DecodeLayout,
) -> Tensor<2> {
    let [rows, heads, dim] = query.dims();
    let [own_rows, capacity, own_dim] = own.key.dims();
    let [prompt_rows, _, prompt_dim] = prompt.key.dims();
    let [prompts] = prompt_lengths.dims();
    assert_eq!(
        rows,
        prompts * layout.rows_per_prompt,
        "rows against prompts"
    );
    assert!(
        rows > 0 && own_rows % rows == 0,
        "{own_rows} keys of completions for {rows} rows"
    );
    let kv_heads = own_rows / rows;
    assert_eq!(prompt_rows, prompts * kv_heads, "keys of prompts");
    assert!(
        kv_heads > 0 && heads % kv_heads == 0,
        "{heads} heads share {kv_heads} key heads"
    );
    assert!(
        dim == own_dim && dim == prompt_dim,
        "head_dim of query and keys"
    );
    assert!(
        layout.columns <= capacity,
        "{} of {capacity} columns may be filled",
        layout.columns
    );
    assert_eq!(
        prompt.key.dims(),
        prompt.value.dims(),
        "keys and values of prompts"
    );
    assert_eq!(
        own.key.dims(),
        own.value.dims(),
        "keys and values of completions"
    );
    Tensor::from_dispatch(<Dispatch as DecodeAttentionOps>::decode_attention(
        query.into_dispatch(),
        prompt.key.into_dispatch(),
        prompt.value.into_dispatch(),
        own.key.into_dispatch(),
        own.value.into_dispatch(),
        prompt_lengths.into_dispatch(),
        filled.into_dispatch(),
        layout.rows_per_prompt,
        layout.columns,
        layout.scale,
    ))
}
