//! The kernels with their inputs: at small and odd shapes, and at those of a large model.

mod layer;
mod products;
pub mod tokens;

use super::{Case, Comparison, Inputs, Make, Output, Outputs, drawing};
use crate::device::Compute;
use crate::kernel::nf4::Nf4Path;
use layer::{
    appended_rotated, dropped, gated, gated_gradient, norm, norm_gradient, rotated, softmax,
    softmax_gradient,
};
use products::{added, dense, dequantize, nf4, nf4_gradient};
use tokens::{Attended, attended, head_gradient, log_probs, sampled};

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
    // Every number of rows that a kernel was made for, and blocks that do not divide evenly.
    for (rows, double) in [(8, true), (9, false), (20, true), (32, true), (64, false)] {
        cases.push(make(move |inputs| {
            nf4(inputs, [rows, 72, 2368], double, Nf4Path::Fused)
        }));
    }
    for shape in [
        [1, 40, 72],
        [7, 40, 72],
        [33, 40, 72],
        [8, 64, 8],
        [5, 40, 18],
        [3, 33, 4096],
        [20, 48, 2368],
        [32, 600, 576],
    ] {
        cases.push(make(move |inputs| dense(inputs, shape, false)));
    }
    for (shape, rank) in [
        ([1, 40, 64], 8),
        ([8, 96, 192], 16),
        ([20, 72, 576], 64),
        ([3, 24, 128], 5),
        ([40, 40, 64], 100),
    ] {
        for is_nf4 in [false, true] {
            cases.push(make(move |inputs| added(inputs, shape, rank, is_nf4)));
        }
    }
    for [rows, width] in [[1, 8], [3, 33], [7, 576], [2, 4096]] {
        cases.push(make(move |inputs| norm(inputs, rows, width)));
        cases.push(make(move |inputs| norm_gradient(inputs, rows, width)));
        cases.push(make(move |inputs| gated(inputs, rows, width)));
        cases.push(make(move |inputs| gated_gradient(inputs, rows, width)));
        cases.push(make(move |inputs| dropped(inputs, rows, width)));
    }
    for shape in [[1, 1, 2], [3, 3, 12], [7, 4, 64], [2, 9, 128]] {
        cases.push(make(move |inputs| rotated(inputs, shape)));
    }
    for shape in [
        [1, 1, 1, 3, 6],
        [5, 4, 2, 9, 64],
        [3, 6, 3, 7, 80],
        [2, 4, 4, 64, 100],
    ] {
        cases.push(make(move |inputs| appended_rotated(inputs, shape)));
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
            for is_burns in [false, true] {
                cases.push(make(move |inputs| {
                    dense(inputs, [rows, out, columns], is_burns)
                }));
            }
        }
    }
    for rows in ROWS {
        cases.push(make(move |inputs| norm(inputs, rows, HIDDEN)));
        cases.push(make(move |inputs| gated(inputs, rows, INNER)));
        cases.push(make(move |inputs| dropped(inputs, rows, HIDDEN)));
        let heads = [rows, KV_HEADS * SHARING, HEAD_DIM];
        cases.push(make(move |inputs| rotated(inputs, heads)));
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
