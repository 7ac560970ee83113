//! The kernels with their inputs: at small and odd shapes, and at those of a large model.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::{Case, Comparison, Inputs, Make, Output, Outputs, bits, drawing, noise, plain};
use crate::device::Compute;
use crate::kernel::attention::{DecodeLayout, Keys, decode_attention};
use crate::kernel::dropout::dropout;
use crate::kernel::linear::few_rows_linear;
use crate::kernel::nf4::{Nf4Path, Nf4Tensor};
use crate::kernel::rms_norm::rms_norm;
use crate::kernel::sample::{Draw, sample};
use crate::kernel::softmax::{AttentionMask, masked_softmax, softmax_backward};
use crate::kernel::swiglu::swiglu;
use crate::kernel::token_probs::{logits_gradient, token_log_probs};
use crate::nf4::{BLOCK, NESTED_BLOCK, Nf4Matrix, Scales, dynamic_map};

const EPS: f64 = 1e-5;

/// Rows of activations that are measured: sampling, and a part of a training pass.
const ROWS: [usize; 5] = [1, 8, 32, 64, 1024];

/// Up to so many rows a product is also computed on the CPU.
const REFERENCE_ROWS: usize = 32;

const HIDDEN: usize = 4096;
const INNER: usize = 14336;
const KV_HEADS: usize = 8;
const SHARING: usize = 4;
const HEAD_DIM: usize = 128;
const VOCABULARY: usize = 131_392;

fn make(case: impl Fn(&Inputs) -> Case + 'static) -> Make {
    Box::new(case)
}

/// Shapes that take no time, and that no kernel was made for.
pub fn small(compute: &Compute) -> Vec<Make> {
    let mut cases = Vec::new();
    for (out, columns, double) in [(96, 128, true), (40, 192, false), (24, 100, true)] {
        cases.push(make(move |inputs| dequantize(inputs, out, columns, double)));
        for (rows, path) in [
            (1, Nf4Path::Fused),
            (5, Nf4Path::Fused),
            (37, Nf4Path::Fused),
            (5, Nf4Path::Dense),
            (37, Nf4Path::Auto),
        ] {
            cases.push(make(move |inputs| {
                nf4(inputs, [rows, out, columns], double, path)
            }));
        }
        cases.push(make(move |inputs| {
            nf4_gradient(inputs, [5, out, columns], double)
        }));
    }
    for rows in [1, 7, 33] {
        cases.push(make(move |inputs| dense(inputs, [rows, 40, 72])));
    }
    for [rows, width] in [[1, 8], [3, 33], [7, 576], [2, 4096]] {
        cases.push(make(move |inputs| norm(inputs, rows, width)));
        cases.push(make(move |inputs| norm_gradient(inputs, rows, width)));
        cases.push(make(move |inputs| gated(inputs, rows, width)));
        cases.push(make(move |inputs| gated_gradient(inputs, rows, width)));
        cases.push(make(move |inputs| dropped(inputs, rows, width)));
    }
    for (prefix, width) in [(0, 13), (10, 6), (300, 1)] {
        cases.push(make(move |inputs| softmax(inputs, [4, 12], prefix, width)));
        cases.push(make(move |inputs| {
            softmax_gradient(inputs, [4, 12], prefix, width)
        }));
    }
    for (rows, vocabulary) in [(1, 97), (5, 1031), (3, 49152)] {
        cases.push(make(move |inputs| log_probs(inputs, rows, vocabulary)));
        cases.push(make(move |inputs| head_gradient(inputs, rows, vocabulary)));
        if compute.is_cpu {
            continue;
        }
        for draw in drawing::SETTINGS {
            cases.push(make(move |inputs| sampled(inputs, rows, vocabulary, draw)));
        }
    }
    for (prompts, group, kv_heads, sharing, dim, columns) in [
        (1, 1, 1, 1, 32, 1),
        (2, 4, 2, 2, 16, 9),
        (2, 3, 3, 3, 64, 65),
        (1, 2, 2, 4, 128, 140),
    ] {
        let shape = Attended {
            prompts,
            group,
            kv_heads,
            sharing,
            dim,
            prompt_width: 2 * columns + 1,
            columns,
        };
        cases.push(make(move |inputs| attended(inputs, shape)));
    }
    cases
}

/// The shapes of the reference model.
pub fn large() -> Vec<Make> {
    let mut cases = Vec::new();
    for (out, columns) in [
        (INNER, HIDDEN),
        (HIDDEN, INNER),
        (KV_HEADS * HEAD_DIM, HIDDEN),
    ] {
        cases.push(make(move |inputs| dequantize(inputs, out, columns, true)));
        for rows in ROWS {
            for path in [Nf4Path::Fused, Nf4Path::Dense] {
                cases.push(make(move |inputs| {
                    nf4(inputs, [rows, out, columns], true, path)
                }));
            }
            // What the same product takes with a weight that is not packed.
            cases.push(make(move |inputs| dense(inputs, [rows, out, columns])));
        }
    }
    for rows in ROWS {
        cases.push(make(move |inputs| norm(inputs, rows, HIDDEN)));
        cases.push(make(move |inputs| gated(inputs, rows, INNER)));
        cases.push(make(move |inputs| dropped(inputs, rows, HIDDEN)));
    }
    // A completion of 512 tokens behind a prompt of as many.
    cases.push(make(|inputs| {
        softmax(inputs, [KV_HEADS, SHARING * 512], 512, 512)
    }));
    cases.push(make(|inputs| {
        softmax_gradient(inputs, [KV_HEADS, SHARING * 512], 512, 512)
    }));
    // A chunk of the head holds no more than 127 rows of this vocabulary.
    for rows in [1, 8, 32, 64, 127] {
        cases.push(make(move |inputs| log_probs(inputs, rows, VOCABULARY)));
    }
    cases.push(make(|inputs| head_gradient(inputs, 127, VOCABULARY)));
    for rows in [1, 8, 32, 64] {
        for draw in drawing::SETTINGS {
            cases.push(make(move |inputs| sampled(inputs, rows, VOCABULARY, draw)));
        }
    }
    for (prompts, group) in [(1, 1), (1, 8), (4, 8), (8, 8)] {
        let shape = Attended {
            prompts,
            group,
            kv_heads: KV_HEADS,
            sharing: SHARING,
            dim: HEAD_DIM,
            prompt_width: 512,
            columns: 1024,
        };
        cases.push(make(move |inputs| attended(inputs, shape)));
    }
    cases
}

fn values(tensors: Outputs) -> Comparison {
    Comparison::Values(tensors.into_iter().map(Output::values).collect())
}

/// A weight of random bits.
fn matrix(rows: usize, columns: usize, double: bool, seed: u32) -> Nf4Matrix {
    let (weights, blocks) = (rows * columns, (rows * columns).div_ceil(BLOCK));
    let byte = |i: usize, seed: u32| (bits(i as u32, seed) >> 8) as u8;
    let scales = match double {
        true => Scales::Double {
            codes: (0..blocks).map(|i| byte(i, seed + 1)).collect(),
            nested: noise(blocks.div_ceil(NESTED_BLOCK), seed + 2, 0.01)
                .into_iter()
                .map(|x| x + 0.03)
                .collect(),
            offset: 0.07,
        },
        false => Scales::Plain(
            noise(blocks, seed, 0.05)
                .into_iter()
                .map(|x| x + 0.1)
                .collect(),
        ),
    };
    let mut packed: Vec<u8> = (0..weights.div_ceil(2))
        .into_par_iter()
        .map(|i| byte(i, seed))
        .collect();
    if weights % 2 == 1
        && let Some(last) = packed.last_mut()
    {
        *last = *last & 0xf0 | 7;
    }
    Nf4Matrix {
        rows,
        columns,
        packed,
        scales,
    }
}

fn dequantize(inputs: &Inputs, out: usize, columns: usize, double: bool) -> Case {
    let matrix = matrix(out, columns, double, 1);
    let weight = Nf4Tensor::new(&matrix, dynamic_map(), &inputs.compute.device);
    let dtype = inputs.compute.dtype;
    Case {
        kernel: "nf4 dequantize",
        shape: format!("{out}×{columns}"),
        bytes: weight.bytes() + out * columns * inputs.size(),
        tolerance: inputs.tolerance(1e-6),
        has_reference: true,
        run: Box::new(move |_| vec![weight.dequantize(dtype).into()]),
        plain: Box::new(move |_| Comparison::Values(vec![matrix.dequantize()])),
        is_always_plain: false,
    }
}

fn nf4(inputs: &Inputs, [rows, out, columns]: [usize; 3], double: bool, path: Nf4Path) -> Case {
    let matrix = matrix(out, columns, double, 1);
    let (device, copies) = (&inputs.compute.device, inputs.copies);
    let weights: Vec<Nf4Tensor> = (0..copies)
        .map(|_| Nf4Tensor::new(&matrix, dynamic_map(), device))
        .collect();
    let x = inputs.noise([rows, columns], 3, 1.0);
    let y = plain::product(x.clone(), &matrix);
    Case {
        kernel: match path {
            Nf4Path::Fused => "nf4 linear, fused",
            Nf4Path::Dense => "nf4 linear, dense",
            Nf4Path::Auto => "nf4 linear",
        },
        shape: format!("{rows}×{columns} → {out}"),
        bytes: weights[0].bytes() + rows * (out + columns) * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        has_reference: rows <= REFERENCE_ROWS || out < HIDDEN / 4,
        run: Box::new(move |i| vec![weights[i % copies].linear_by(x.clone(), path).into()]),
        plain: Box::new(move |_| values(vec![y().into()])),
        is_always_plain: false,
    }
}

fn nf4_gradient(inputs: &Inputs, [rows, out, columns]: [usize; 3], double: bool) -> Case {
    let matrix = matrix(out, columns, double, 1);
    let weight = Nf4Tensor::new(&matrix, dynamic_map(), &inputs.compute.device);
    let x = inputs.noise([rows, columns], 3, 1.0);
    let gradient = inputs.noise([rows, out], 4, 1.0);
    let expected = plain::product_gradient(gradient.clone(), &matrix);
    Case {
        kernel: "nf4 linear, gradient",
        shape: format!("{rows}×{columns} → {out}"),
        bytes: weight.bytes() + rows * (out + columns) * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        has_reference: true,
        run: Box::new(move |_| {
            let x = x.clone().autodiff().require_grad();
            plain::gradients(weight.linear(x.clone()), &gradient, &[x])
        }),
        plain: Box::new(move |_| values(vec![expected().into()])),
        is_always_plain: false,
    }
}

fn dense(inputs: &Inputs, [rows, out, columns]: [usize; 3]) -> Case {
    let weights = inputs.copies_of_noise([out, columns], 5, 0.1);
    let copies = inputs.copies;
    let x = inputs.noise([rows, columns], 6, 1.0);
    let expected = (x.clone(), weights[0].clone());
    Case {
        kernel: "linear, dense",
        shape: format!("{rows}×{columns} → {out}"),
        bytes: (rows * (out + columns) + out * columns) * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        has_reference: rows <= REFERENCE_ROWS || out < HIDDEN / 4,
        run: Box::new(move |i| vec![few_rows_linear(x.clone(), &weights[i % copies]).into()]),
        plain: Box::new(move |_| {
            let (x, weight) = expected.clone();
            values(vec![x.matmul(weight.transpose()).into()])
        }),
        is_always_plain: false,
    }
}

fn norm(inputs: &Inputs, rows: usize, width: usize) -> Case {
    let (x, weight) = (
        inputs.noise([rows, width], 7, 3.0),
        inputs.noise([1, width], 8, 1.0),
    );
    let expected = (x.clone(), weight.clone());
    Case {
        kernel: "rms_norm",
        shape: format!("{rows}×{width}"),
        bytes: 2 * rows * width * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        has_reference: true,
        run: Box::new(move |_| vec![rms_norm(x.clone(), &weight, EPS).into()]),
        plain: Box::new(move |_| {
            let (x, weight) = expected.clone();
            values(vec![plain::rms_norm(x, weight, EPS).into()])
        }),
        is_always_plain: false,
    }
}

fn norm_gradient(inputs: &Inputs, rows: usize, width: usize) -> Case {
    let (x, weight) = (
        inputs.noise([rows, width], 7, 3.0),
        inputs.noise([1, width], 8, 1.0),
    );
    let gradient = inputs.noise([rows, width], 9, 1.0);
    let run = move |norm: &dyn Fn(Tensor<2>, Tensor<2>) -> Tensor<2>| {
        let [x, weight] = [&x, &weight].map(|t| t.clone().autodiff().require_grad());
        let y = norm(x.clone(), weight.clone());
        plain::gradients(y, &gradient, &[x, weight])
    };
    let expected = run.clone();
    Case {
        kernel: "rms_norm, gradients",
        shape: format!("{rows}×{width}"),
        bytes: 3 * rows * width * inputs.size(),
        tolerance: inputs.tolerance(2e-5),
        has_reference: true,
        run: Box::new(move |_| run(&|x, weight| rms_norm(x, &weight, EPS))),
        plain: Box::new(move |_| values(expected(&|x, weight| plain::rms_norm(x, weight, EPS)))),
        is_always_plain: false,
    }
}

fn gated(inputs: &Inputs, rows: usize, width: usize) -> Case {
    let (gate, up) = (
        inputs.noise([rows, width], 10, 8.0),
        inputs.noise([rows, width], 11, 2.0),
    );
    let expected = (gate.clone(), up.clone());
    Case {
        kernel: "swiglu",
        shape: format!("{rows}×{width}"),
        bytes: 3 * rows * width * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        has_reference: true,
        run: Box::new(move |_| vec![swiglu(gate.clone(), up.clone()).into()]),
        plain: Box::new(move |_| {
            let (gate, up) = expected.clone();
            values(vec![plain::swiglu(gate, up).into()])
        }),
        is_always_plain: false,
    }
}

fn gated_gradient(inputs: &Inputs, rows: usize, width: usize) -> Case {
    let (gate, up) = (
        inputs.noise([rows, width], 10, 8.0),
        inputs.noise([rows, width], 11, 2.0),
    );
    let gradient = inputs.noise([rows, width], 12, 1.0);
    let run = move |swiglu: fn(Tensor<2>, Tensor<2>) -> Tensor<2>| {
        let [gate, up] = [&gate, &up].map(|t| t.clone().autodiff().require_grad());
        plain::gradients(swiglu(gate.clone(), up.clone()), &gradient, &[gate, up])
    };
    let expected = run.clone();
    Case {
        kernel: "swiglu, gradients",
        shape: format!("{rows}×{width}"),
        bytes: 5 * rows * width * inputs.size(),
        tolerance: inputs.tolerance(1e-5),
        has_reference: true,
        run: Box::new(move |_| run(swiglu)),
        plain: Box::new(move |_| values(expected(plain::swiglu))),
        is_always_plain: false,
    }
}

fn dropped(inputs: &Inputs, rows: usize, width: usize) -> Case {
    const SALT: u32 = 77;
    const RATE: f64 = 0.3;
    let x = inputs.noise([rows, width], 13, 1.0);
    let words: Vec<u32> = (0..rows as u32 * 2).map(|i| bits(i, 14)).collect();
    let keys = inputs.int_tensor(
        words.iter().map(|word| word.cast_signed()).collect(),
        [rows, 2],
    );
    let given = x.clone();
    Case {
        kernel: "dropout",
        shape: format!("{rows}×{width}"),
        bytes: 2 * rows * width * inputs.size(),
        // A value that is dropped on one side alone is an error of about 1.
        tolerance: inputs.tolerance(1e-6),
        has_reference: true,
        run: Box::new(move |_| vec![dropout(x.clone(), keys.clone(), SALT, RATE).into()]),
        plain: Box::new(move |_| {
            let x = super::values(given.clone());
            Comparison::Values(vec![plain::dropout(&x, &words, width, SALT, RATE)])
        }),
        is_always_plain: false,
    }
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

fn softmax(inputs: &Inputs, batch: [usize; 2], prefix: usize, width: usize) -> Case {
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
        has_reference: true,
        run: Box::new(move |_| {
            vec![masked_softmax(scores.clone(), scale, mask, prefixes.as_ref()).into()]
        }),
        plain: Box::new(move |_| {
            let scores = super::values(given.clone());
            Comparison::Values(vec![plain::softmax(&scores, shape, scale, mask, &lengths)])
        }),
        is_always_plain: false,
    }
}

fn softmax_gradient(inputs: &Inputs, batch: [usize; 2], prefix: usize, width: usize) -> Case {
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
        has_reference: true,
        run: Box::new(move |_| {
            vec![softmax_backward(gradient.clone(), weights.clone(), scale).into()]
        }),
        plain: Box::new(move |_| {
            let (weights, gradient) = given.clone();
            let sum = (gradient.clone() * weights.clone()).sum_dim(2);
            values(vec![((gradient - sum) * weights * scale).into()])
        }),
        is_always_plain: false,
    }
}

fn targets(rows: usize, vocabulary: usize) -> Vec<i32> {
    (0..rows as u32)
        .map(|row| (bits(row, 18) % vocabulary as u32) as i32)
        .collect()
}

fn log_probs(inputs: &Inputs, rows: usize, vocabulary: usize) -> Case {
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
            let logits = super::values(given.clone());
            let (log_probs, entropies) = plain::token_log_probs(&logits, vocabulary, &targets);
            Comparison::Values(vec![log_probs, entropies])
        }),
        is_always_plain: false,
    }
}

fn head_gradient(inputs: &Inputs, rows: usize, vocabulary: usize) -> Case {
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
            let logits = super::values(given.clone());
            Comparison::Values(vec![plain::logits_gradient(
                &logits, vocabulary, &targets, &scale,
            )])
        }),
        is_always_plain: false,
    }
}

fn sampled(inputs: &Inputs, rows: usize, vocabulary: usize, draw: Draw) -> Case {
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
            let logits = super::values(given.clone());
            let drawn: Vec<Vec<f32>> = drawn.into_iter().map(Output::values).collect();
            let rows = logits
                .chunks(vocabulary)
                .zip(&thrown)
                .zip(drawn[0].iter().zip(&drawn[1]));
            Comparison::Error(super::largest(rows.map(
                |((logits, u), (token, log_prob))| {
                    drawing::error(logits, *u, &draw, *token as usize, *log_prob)
                },
            )))
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

fn attended(inputs: &Inputs, shape: Attended) -> Case {
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
    let layout = DecodeLayout {
        rows_per_prompt: shape.group,
        filled: shape.columns,
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
            vec![decode_attention(query, prompt.clone(), own.clone(), lengths, layout).into()]
        }),
        plain: Box::new(move |_| {
            let (query, prompt, own) = given.clone();
            let keys = [prompt.key, prompt.value, own.key, own.value].map(super::values);
            Comparison::Values(vec![plain::attention(&shape, &super::values(query), &keys)])
        }),
        is_always_plain: false,
    }
}
