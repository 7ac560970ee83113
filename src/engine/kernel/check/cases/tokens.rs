//! Tokens: their log-probabilities, the draw, and attention while decoding.

use super::super::{Case, Comparison, Inputs, Output, bits, drawing, largest, noise, plain};
use crate::device::Compute;
use crate::kernel::attention::{DecodeLayout, Keys, decode_attention};
use crate::kernel::sample::{Draw, sample};
use crate::kernel::token_probs::{logits_gradient, token_log_probs};

pub(super) fn targets(rows: usize, vocabulary: usize) -> Vec<i32> {
    (0..rows as u32)
        .map(|row| (bits(row, 18) % vocabulary as u32) as i32)
        .collect()
}

pub(super) fn log_probs(inputs: &Inputs, rows: usize, vocabulary: usize) -> Case {
    let logits = inputs.f32_noise([rows, vocabulary], 19, 12.0);
    let targets = targets(rows, vocabulary);
    let ids = inputs.int_tensor(targets.clone(), [rows]);
    let given = logits.clone();
    Case {
        kernel: "token_log_probs",
        shape: format!("{rows}×{vocabulary}"),
        bytes: 4 * rows * vocabulary,
        tolerance: 1e-5,
        has_reference: true,
        run: Box::new(move |_| {
            let (log_probs, entropies) = token_log_probs(logits.clone(), ids.clone());
            vec![log_probs.into(), entropies.into()]
        }),
        plain: Box::new(move |_| {
            let logits = super::super::values(given.clone());
            let (log_probs, entropies) = plain::token_log_probs(&logits, vocabulary, &targets);
            Comparison::Values(vec![log_probs, entropies])
        }),
        is_always_plain: false,
    }
}

pub(super) fn head_gradient(inputs: &Inputs, rows: usize, vocabulary: usize) -> Case {
    let logits = inputs.f32_noise([rows, vocabulary], 19, 12.0);
    let targets = targets(rows, vocabulary);
    let ids = inputs.int_tensor(targets.clone(), [rows]);
    let scale = noise(rows, 20, 1.0);
    let scales = inputs.f32_tensor(scale.clone(), [rows]);
    let given = logits.clone();
    Case {
        kernel: "logits_gradient",
        shape: format!("{rows}×{vocabulary}"),
        bytes: 8 * rows * vocabulary,
        tolerance: 1e-5,
        has_reference: true,
        run: Box::new(move |_| {
            vec![logits_gradient(logits.clone(), ids.clone(), scales.clone()).into()]
        }),
        plain: Box::new(move |_| {
            let logits = super::super::values(given.clone());
            Comparison::Values(vec![plain::logits_gradient(
                &logits, vocabulary, &targets, &scale,
            )])
        }),
        is_always_plain: false,
    }
}

pub(super) fn sampled(inputs: &Inputs, rows: usize, vocabulary: usize, draw: Draw) -> Case {
    let logits = inputs.f32_noise([rows, vocabulary], 21, 12.0);
    let uniforms: Vec<f64> = noise(rows, 22, 0.5)
        .into_iter()
        .map(|u| f64::from(u) + 0.5)
        .collect();
    let (given, thrown) = (logits.clone(), uniforms.clone());
    Case {
        kernel: drawing::name(&draw),
        shape: format!("{rows}×{vocabulary}"),
        bytes: 4 * rows * vocabulary,
        tolerance: drawing::TOLERANCE,
        has_reference: true,
        run: Box::new(move |_| {
            let (tokens, log_probs) = match sample(logits.clone(), &uniforms, draw) {
                Ok(drawn) => drawn,
                // Told of as a fault.
                Err(error) => panic!("{error}"),
            };
            // Ids below 2²⁴ are exact in f32.
            let tokens = tokens
                .into_iter()
                .map(|token| token as f32)
                .collect::<Vec<_>>();
            let on_host = Inputs::on(&Compute::cpu(), 1);
            [tokens, log_probs]
                .map(|values| on_host.f32_tensor(values, [rows]).into())
                .to_vec()
        }),
        plain: Box::new(move |drawn| {
            let logits = super::super::values(given.clone());
            let drawn: Vec<Vec<f32>> = drawn.into_iter().map(Output::values).collect();
            let rows = logits
                .chunks(vocabulary)
                .zip(&thrown)
                .zip(drawn[0].iter().zip(&drawn[1]));
            Comparison::Error(largest(rows.map(|((logits, u), (token, log_prob))| {
                drawing::error(logits, *u, &draw, *token as usize, *log_prob)
            })))
        }),
        // The CPU draws elsewhere: see `rollout`.
        is_always_plain: true,
    }
}

/// Sizes of attention while decoding.
#[derive(Clone, Copy)]
pub struct Attended {
    pub prompts: usize,
    pub group: usize,
    pub kv_heads: usize,
    pub sharing: usize,
    pub dim: usize,
    pub prompt_width: usize,
    /// Columns of a completion that are filled; there is room for a few more.
    pub columns: usize,
}

impl Attended {
    pub fn rows(&self) -> usize {
        self.prompts * self.group
    }

    pub fn capacity(&self) -> usize {
        self.columns + 7
    }

    /// Tokens of each prompt: the first has no padding.
    pub fn lengths(&self) -> Vec<usize> {
        (0..self.prompts)
            .map(|i| self.prompt_width - i % self.prompt_width)
            .collect()
    }

    pub fn scale(&self) -> f32 {
        (self.dim as f32).powf(-0.5)
    }
}

pub(super) fn attended(inputs: &Inputs, shape: Attended) -> Case {
    let (rows, dim, kv_heads) = (shape.rows(), shape.dim, shape.kv_heads);
    let query = inputs.noise([rows, kv_heads * shape.sharing, dim], 23, 2.0);
    let keys = |rows: usize, columns: usize, seed: u32| Keys {
        key: inputs.noise([rows * kv_heads, columns, dim], seed, 2.0),
        value: inputs.noise([rows * kv_heads, columns, dim], seed + 1, 2.0),
    };
    let prompt = keys(shape.prompts, shape.prompt_width, 24);
    let own = keys(rows, shape.capacity(), 26);
    let lengths = shape.lengths();
    let read: usize = lengths.iter().sum::<usize>() + rows * shape.columns;
    let lengths = lengths.iter().map(|&length| length as i32).collect();
    let prompt_lengths = inputs.int_tensor(lengths, [shape.prompts]);
    let filled = inputs.int_tensor(vec![shape.columns as i32], [1]);
    let layout = DecodeLayout {
        rows_per_prompt: shape.group,
        // More than count, as where a step is recorded for later ones too.
        columns: shape.capacity(),
        scale: shape.scale(),
    };
    let given = (query.clone(), prompt.clone(), own.clone());
    Case {
        kernel: "decode_attention",
        shape: format!(
            "{rows} rows of {}, {}×{} heads of {dim}, {} + {} keys",
            shape.group, kv_heads, shape.sharing, shape.prompt_width, shape.columns
        ),
        bytes: (2 * read * kv_heads * dim + 2 * rows * kv_heads * shape.sharing * dim)
            * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        has_reference: true,
        run: Box::new(move |_| {
            let (query, lengths) = (query.clone(), prompt_lengths.clone());
            let (prompt, own) = (prompt.clone(), own.clone());
            vec![decode_attention(query, prompt, own, lengths, filled.clone(), layout).into()]
        }),
        plain: Box::new(move |_| {
            let (query, prompt, own) = given.clone();
            let keys = [prompt.key, prompt.value, own.key, own.value].map(super::super::values);
            Comparison::Values(vec![plain::attention(
                &shape,
                &super::super::values(query),
                &keys,
            )])
        }),
        is_always_plain: false,
    }
}
