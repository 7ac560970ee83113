//! The kernels in plain tensor operations, or in loops with sums in f64.

use burn::tensor::{Tensor, activation};

use super::Output;
use super::cases::tokens::Attended;
use crate::kernel::softmax::AttentionMask;
use crate::nf4::Nf4Matrix;

/// Gradients of `leaves` when that of `y` is `gradient`.
pub fn gradients(y: Tensor<2>, gradient: &Tensor<2>, leaves: &[Tensor<2>]) -> Vec<Output> {
    let gradients = (y * gradient.clone()).sum().backward();
    let of = |leaf: &Tensor<2>| match leaf.grad(&gradients) {
        Some(gradient) => gradient,
        None => leaf.clone().inner().zeros_like(),
    };
    leaves.iter().map(|leaf| of(leaf).into()).collect()
}

/// `x·Wᵀ`, when asked.
pub fn product(x: Tensor<2>, matrix: &Nf4Matrix) -> impl Fn() -> Tensor<2> + use<> {
    let matrix = matrix.clone();
    move || x.clone().matmul(weight(&matrix, &x).transpose())
}

/// `gradient·W`, when asked.
pub fn product_gradient(gradient: Tensor<2>, matrix: &Nf4Matrix) -> impl Fn() -> Tensor<2> + use<> {
    let matrix = matrix.clone();
    move || gradient.clone().matmul(weight(&matrix, &gradient))
}

fn weight(matrix: &Nf4Matrix, like: &Tensor<2>) -> Tensor<2> {
    let values = burn::tensor::TensorData::new(matrix.dequantize(), [matrix.rows, matrix.columns]);
    Tensor::from_data(values, (&like.device(), like.dtype()))
}

pub fn rms_norm(x: Tensor<2>, weight: Tensor<2>, eps: f64) -> Tensor<2> {
    let mean = x.clone().square().mean_dim(1);
    x / (mean + eps).sqrt() * weight
}

pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    activation::silu(gate) * up
}

pub fn rotate(x: Tensor<3>, cos: &Tensor<3>, sin: &Tensor<3>) -> Tensor<3> {
    let half = x.dims()[2] / 2;
    let first = x.clone().narrow(2, 0, half);
    let second = x.clone().narrow(2, half, half);
    let rotated = Tensor::cat(vec![second.neg(), first], 2);
    x * cos.clone() + rotated * sin.clone()
}

/// `keys` has two words for each row of `width` values.
pub fn dropout(x: &[f32], keys: &[u32], width: usize, salt: u32, rate: f64) -> Vec<f32> {
    let mixed = |x: u32| {
        let x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
        let x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        x ^ (x >> 16)
    };
    let limit = (rate * f64::from(u32::MAX)) as u32;
    let scale = (1.0 / (1.0 - rate)) as f32;
    x.iter()
        .enumerate()
        .map(|(i, x)| {
            let (row, column) = (i / width, (i % width) as u32);
            let row = mixed(mixed(keys[row * 2] ^ salt) ^ keys[row * 2 + 1]);
            match mixed(row ^ column.wrapping_mul(0x9e37_79b9)) < limit {
                true => 0.0,
                false => x * scale,
            }
        })
        .collect()
}

pub fn softmax(
    scores: &[f32],
    [_, rows, keys]: [usize; 3],
    scale: f64,
    mask: AttentionMask,
    prefix_lengths: &[i32],
) -> Vec<f32> {
    let one = |(index, scores): (usize, &[f32])| {
        let (batch, row) = (index / rows, index % rows);
        let sees = |key: usize| match key.checked_sub(mask.prefix_width) {
            None => (key as i32) < prefix_lengths[batch / mask.batches_per_prefix],
            Some(own) => own <= mask.first_position + row % mask.width,
        };
        let seen = scores
            .iter()
            .enumerate()
            .map(|(key, score)| match sees(key) {
                true => f64::from(*score) * scale,
                false => f64::NEG_INFINITY,
            });
        let (weights, _) = normalised(seen.collect());
        weights
            .into_iter()
            .map(|weight| weight as f32)
            .collect::<Vec<_>>()
    };
    scores.chunks(keys).enumerate().flat_map(one).collect()
}

/// Probabilities and the logarithm of what they were divided by.
pub fn normalised(mut logits: Vec<f64>) -> (Vec<f64>, f64) {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for logit in &mut logits {
        *logit = (*logit - largest).exp();
    }
    let sum: f64 = logits.iter().sum();
    for weight in &mut logits {
        *weight /= sum;
    }
    (logits, largest + sum.ln())
}

/// Log-probabilities and entropies.
pub fn token_log_probs(logits: &[f32], vocabulary: usize, targets: &[i32]) -> (Vec<f32>, Vec<f32>) {
    let row = |(logits, target): (&[f32], &i32)| {
        let logits: Vec<f64> = logits.iter().copied().map(f64::from).collect();
        let (probabilities, normaliser) = normalised(logits.clone());
        let terms = probabilities.iter().zip(&logits);
        let entropy: f64 = terms.map(|(p, logit)| p * (normaliser - logit)).sum();
        (
            (logits[*target as usize] - normaliser) as f32,
            entropy as f32,
        )
    };
    logits.chunks(vocabulary).zip(targets).map(row).unzip()
}

pub fn logits_gradient(
    logits: &[f32],
    vocabulary: usize,
    targets: &[i32],
    scale: &[f32],
) -> Vec<f32> {
    let row = |((logits, target), scale): ((&[f32], &i32), &f32)| {
        let (mut gradient, _) = normalised(logits.iter().copied().map(f64::from).collect());
        for (token, p) in gradient.iter_mut().enumerate() {
            let is_target = f64::from(u8::from(token == *target as usize));
            *p = f64::from(*scale) * (is_target - *p);
        }
        gradient.into_iter().map(|g| g as f32).collect::<Vec<_>>()
    };
    let rows = logits.chunks(vocabulary).zip(targets).zip(scale);
    rows.flat_map(row).collect()
}

/// `keys`: prompt keys, prompt values, own keys, own values.
pub fn attention(shape: &Attended, query: &[f32], keys: &[Vec<f32>; 4]) -> Vec<f32> {
    let [prompt_key, prompt_value, own_key, own_value] = keys;
    let (dim, heads) = (shape.dim, shape.kv_heads * shape.sharing);
    let lengths = shape.lengths();
    let mut output = Vec::new();
    for (index, query) in query.chunks(dim).enumerate() {
        let (row, head) = (index / heads, index % heads / shape.sharing);
        let prompt = row / shape.group;
        let of_prompt = (prompt * shape.kv_heads + head) * shape.prompt_width;
        let of_own = (row * shape.kv_heads + head) * shape.capacity();
        let seen: Vec<(&[f32], &[f32])> = (0..lengths[prompt])
            .map(|column| (prompt_key, prompt_value, of_prompt + column))
            .chain((0..shape.columns).map(|column| (own_key, own_value, of_own + column)))
            .map(|(keys, values, place)| {
                let range = place * dim..(place + 1) * dim;
                (&keys[range.clone()], &values[range])
            })
            .collect();
        let score = |key: &[f32]| {
            let products = query
                .iter()
                .zip(key)
                .map(|(q, k)| f64::from(*q) * f64::from(*k));
            products.sum::<f64>() * f64::from(shape.scale())
        };
        let (weights, _) = normalised(seen.iter().map(|(key, _)| score(key)).collect());
        for i in 0..dim {
            let terms = weights.iter().zip(&seen);
            let sum: f64 = terms
                .map(|(weight, (_, value))| weight * f64::from(value[i]))
                .sum();
            output.push(sum as f32);
        }
    }
    output
}
