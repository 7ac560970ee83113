//! Attention while decoding in plain loops, with sums in f64, and the shapes that the kernel is checked at.

use crate::kernel::case::{
    Case, Cases, Comparison, HEAD_DIM, Inputs, KV_HEADS, Reference, SHARING, normalised, values,
};

use super::{DecodeLayout, Keys};

/// Sizes of attention while decoding.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Tokens of each prompt.
    pub lengths: Vec<usize>,
    /// Columns of a prompt, padding included.
    pub prompt_width: usize,
    /// Completions of each prompt.
    pub group: usize,
    /// Key heads.
    pub kv_heads: usize,
    /// Query heads that share a key head.
    pub sharing: usize,
    /// Values of a head.
    pub dim: usize,
    /// Columns of a completion's cache.
    pub capacity: usize,
    /// Those of them that count.
    pub filled: usize,
}

impl Sizes {
    /// Completions of all prompts.
    pub fn rows(&self) -> usize {
        self.lengths.len() * self.group
    }

    /// `dim^−½`.
    pub fn scale(&self) -> f32 {
        (self.dim as f32).powf(-0.5)
    }
}

/// See [`super::decode_attention`]; `keys`: prompt keys, prompt values, own keys, own values.
pub fn decode_attention(sizes: &Sizes, query: &[f32], keys: &[Vec<f32>; 4]) -> Vec<f64> {
    let [prompt_key, prompt_value, own_key, own_value] = keys;
    let (dim, heads) = (sizes.dim, sizes.kv_heads * sizes.sharing);
    let mut output = Vec::new();
    for (index, query) in query.chunks(dim).enumerate() {
        let (row, head) = (index / heads, index % heads / sizes.sharing);
        let prompt = row / sizes.group;
        let of_prompt = (prompt * sizes.kv_heads + head) * sizes.prompt_width;
        let of_own = (row * sizes.kv_heads + head) * sizes.capacity;
        let seen: Vec<(&[f32], &[f32])> = (0..sizes.lengths[prompt])
            .map(|column| (prompt_key, prompt_value, of_prompt + column))
            .chain((0..sizes.filled).map(|column| (own_key, own_value, of_own + column)))
            .map(|(keys, values, column)| {
                let range = column * dim..(column + 1) * dim;
                (&keys[range.clone()], &values[range])
            })
            .collect();
        let score = |key: &[f32]| {
            let products = query
                .iter()
                .zip(key)
                .map(|(q, k)| f64::from(*q) * f64::from(*k));
            products.sum::<f64>() * f64::from(sizes.scale())
        };
        let (weights, _) = normalised(seen.iter().map(|(key, _)| score(key)).collect());
        for i in 0..dim {
            let terms = weights.iter().zip(&seen);
            output.push(
                terms
                    .map(|(weight, (_, value))| weight * f64::from(value[i]))
                    .sum(),
            );
        }
    }
    output
}

pub(in crate::kernel) fn cases(cases: &mut Cases) {
    for (prompts, group, kv_heads, sharing, dim, filled) in [
        (1, 1, 1, 1, 32, 1),
        (2, 4, 2, 2, 16, 9),
        (2, 3, 3, 3, 64, 65),
        (1, 2, 2, 4, 128, 140),
    ] {
        let heads = [kv_heads, sharing, dim];
        cases.small(move |inputs| {
            decoding(
                inputs,
                sizes([prompts, group], heads, 2 * filled + 1, filled),
            )
        });
    }
    for (prompts, group) in [(1, 1), (1, 8), (4, 8), (8, 8)] {
        let heads = [KV_HEADS, SHARING, HEAD_DIM];
        cases.large(move |inputs| decoding(inputs, sizes([prompts, group], heads, 512, 1024)));
    }
}

/// The first prompt has no padding, and the cache has space for a few more columns.
fn sizes(
    [prompts, group]: [usize; 2],
    [kv_heads, sharing, dim]: [usize; 3],
    prompt_width: usize,
    filled: usize,
) -> Sizes {
    Sizes {
        lengths: (0..prompts)
            .map(|i| prompt_width - i % prompt_width)
            .collect(),
        prompt_width,
        group,
        kv_heads,
        sharing,
        dim,
        capacity: filled + 7,
        filled,
    }
}

fn decoding(inputs: &Inputs, sizes: Sizes) -> Case {
    let (rows, dim, kv_heads) = (sizes.rows(), sizes.dim, sizes.kv_heads);
    let prompts = sizes.lengths.len();
    let query = inputs.noise([rows, kv_heads * sizes.sharing, dim], 23, 2.0);
    let keys = |rows: usize, columns: usize, seed: u32| Keys {
        key: inputs.noise([rows * kv_heads, columns, dim], seed, 2.0),
        value: inputs.noise([rows * kv_heads, columns, dim], seed + 1, 2.0),
    };
    let prompt = keys(prompts, sizes.prompt_width, 24);
    let own = keys(rows, sizes.capacity, 26);
    let read: usize = sizes.lengths.iter().sum::<usize>() + rows * sizes.filled;
    let lengths = sizes.lengths.iter().map(|&length| length as i32).collect();
    let prompt_lengths = inputs.int_tensor(lengths, [prompts]);
    let filled = inputs.int_tensor(vec![sizes.filled as i32], [1]);
    let layout = DecodeLayout {
        rows_per_prompt: sizes.group,
        // More than count, as in a step that is recorded for later ones too.
        columns: sizes.capacity,
        scale: sizes.scale(),
    };
    let given = (query.clone(), prompt.clone(), own.clone());
    Case {
        kernel: "decode_attention",
        shape: format!(
            "{rows} rows of {}, {}×{} heads of {dim}, {} + {} keys",
            sizes.group, kv_heads, sizes.sharing, sizes.prompt_width, sizes.filled
        ),
        bytes: (2 * read * kv_heads * dim + 2 * rows * kv_heads * sizes.sharing * dim)
            * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        reference: Reference::Cpu,
        run: Box::new(move |_| {
            let (query, lengths) = (query.clone(), prompt_lengths.clone());
            let (prompt, own) = (prompt.clone(), own.clone());
            let output =
                super::decode_attention(query, prompt, own, lengths, filled.clone(), layout);
            vec![output.into()]
        }),
        plain: Box::new(move |_| {
            let (query, prompt, own) = given.clone();
            let keys = [prompt.key, prompt.value, own.key, own.value].map(values);
            let output = decode_attention(&sizes, &values(query), &keys);
            Comparison::Values(vec![output.into_iter().map(|x| x as f32).collect()])
        }),
    }
}
