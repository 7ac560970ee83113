//! Masked softmax in plain loops, with sums in f64, and the shapes that the kernel is checked at.

use crate::kernel::case::{
    Case, Cases, Comparison, Inputs, KV_HEADS, Reference, SHARING, normalised, values,
};

use super::AttentionMask;

/// Whether row `row` of batch `batch` attends to a key; `prefix_lengths` as in
/// [`super::masked_softmax`].
pub fn sees(
    mask: AttentionMask,
    prefix_lengths: Option<&[i32]>,
    [batch, row, key]: [usize; 3],
) -> bool {
    match key.checked_sub(mask.prefix_width) {
        None => prefix_lengths
            .is_none_or(|lengths| (key as i32) < lengths[batch / mask.batches_per_prefix]),
        Some(own) => own <= mask.first_position + row % mask.width,
    }
}

/// See [`super::masked_softmax`].
///
/// # Shapes
/// `scores: [batch, rows, keys]`, row-major, of this `shape` → the same
pub fn masked_softmax(
    scores: &[f32],
    [_, rows, keys]: [usize; 3],
    scale: f64,
    mask: AttentionMask,
    prefix_lengths: Option<&[i32]>,
) -> Vec<f32> {
    let mut weights = Vec::with_capacity(scores.len());
    for (index, scores) in scores.chunks(keys).enumerate() {
        let (batch, row) = (index / rows, index % rows);
        let seen = scores.iter().enumerate().map(|(key, score)| {
            if sees(mask, prefix_lengths, [batch, row, key]) {
                f64::from(*score) * scale
            } else {
                f64::NEG_INFINITY
            }
        });
        let (row, _) = normalised(seen.collect());
        weights.extend(row.into_iter().map(|weight| weight as f32));
    }
    weights
}

pub(in crate::kernel) fn cases(cases: &mut Cases) {
    for (prefix, width) in [(0, 13), (10, 6), (300, 1)] {
        cases.small(move |inputs| forward(inputs, [4, 12], prefix, width));
        cases.small(move |inputs| backward(inputs, [4, 12], prefix, width));
    }
    // A completion of 512 tokens after a prompt of as many.
    cases.large(|inputs| forward(inputs, [KV_HEADS, SHARING * 512], 512, 512));
    cases.large(|inputs| backward(inputs, [KV_HEADS, SHARING * 512], 512, 512));
}

/// Scores of `batch` prompts and key heads, `rows` queries of which `width` follow one another.
fn mask(
    [batch, rows]: [usize; 2],
    prefix: usize,
    width: usize,
) -> (AttentionMask, Vec<i32>, [usize; 3]) {
    // Two heads share a prefix; of it some columns are padding.
    let heads = 2;
    let mask = match prefix {
        0 => AttentionMask::causal(width),
        _ => AttentionMask::after_prefix(prefix, heads, width, width),
    };
    let lengths = (0..batch / heads)
        .map(|i| (prefix - i % prefix.max(1)) as i32)
        .collect();
    let rows = rows.next_multiple_of(width);
    (mask, lengths, [batch, rows, prefix + width])
}

fn forward(inputs: &Inputs, batch: [usize; 2], prefix: usize, width: usize) -> Case {
    let scale = 0.3;
    let (mask, lengths, shape) = mask(batch, prefix, width);
    let scores = inputs.noise(shape, 15, 10.0);
    let prefixes = inputs.int_tensor(lengths.clone(), [lengths.len()]);
    let prefixes = (prefix > 0).then_some(prefixes);
    let given = scores.clone();
    Case {
        kernel: "masked_softmax",
        shape: format!("{}×{}×{}", shape[0], shape[1], shape[2]),
        bytes: 2 * shape.iter().product::<usize>() * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        reference: Reference::Cpu,
        run: Box::new(move |_| {
            let weights = super::masked_softmax(scores.clone(), scale, mask, prefixes.as_ref());
            vec![weights.into()]
        }),
        plain: Box::new(move |_| {
            let scores = values(given.clone());
            let weights = masked_softmax(&scores, shape, scale, mask, Some(&lengths));
            Comparison::Values(vec![weights])
        }),
    }
}

fn backward(inputs: &Inputs, batch: [usize; 2], prefix: usize, width: usize) -> Case {
    let scale = 0.3;
    let (_, _, shape) = mask(batch, prefix, width);
    let weights = inputs.noise(shape, 16, 0.1);
    let gradient = inputs.noise(shape, 17, 1.0);
    let given = (weights.clone(), gradient.clone());
    Case {
        kernel: "softmax_backward",
        shape: format!("{}×{}×{}", shape[0], shape[1], shape[2]),
        bytes: 3 * shape.iter().product::<usize>() * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        reference: Reference::Cpu,
        run: Box::new(move |_| {
            vec![super::softmax_backward(gradient.clone(), weights.clone(), scale).into()]
        }),
        plain: Box::new(move |_| {
            let (weights, gradient) = given.clone();
            let sum = (gradient.clone() * weights.clone()).sum_dim(2);
            Comparison::of(vec![((gradient - sum) * weights * scale).into()])
        }),
    }
}
