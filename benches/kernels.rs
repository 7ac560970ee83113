//! The kernels of the CPU against the plain tensor expressions that they replace, at the shapes of
//! SmolLM2-135M: `cargo bench --bench kernels [-- NAME]`.
//!
//! Each group times the two in the same run on the same numbers; ratios carry over to another
//! machine, times do not. Kernels of a GPU are timed by `moim doctor --kernels --time`.

// A benchmark stops at what it does not expect.
#![allow(clippy::expect_used)]

use std::hint::black_box;

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{DType, Device, Distribution, Int, Tensor, TensorData};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use moim::kernel::attention::{DecodeLayout, Keys, decode_attention};
use moim::kernel::nf4::{Nf4Path, Nf4Tensor};
use moim::kernel::softmax::{AttentionMask, masked_softmax};
use moim::kernel::token_probs::{logits_gradient, token_log_probs};
use moim::kernel::{linear, rms_norm, rotary, swiglu};
use moim::nf4::Nf4Matrix;

const HIDDEN: usize = 576;
const INNER: usize = 1536;
const HEADS: usize = 9;
const KV_HEADS: usize = 3;
const HEAD_DIM: usize = 64;
const VOCABULARY: usize = 49_152;

/// Tokens of a micro-batch, and rows of a decoding step.
const TOKENS: usize = 512;
const ROWS: usize = 8;

fn noise<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
}

fn whole(values: Vec<i32>) -> Tensor<1, Int> {
    let count = values.len();
    Tensor::from_data(
        TensorData::new(values, [count]),
        (&Device::flex(), DType::I32),
    )
}

/// Times `ours` and `plain`, which return the same; a tensor of the CPU is computed when it is made.
fn pair<T, U>(c: &mut Criterion, name: &str, ours: impl Fn() -> T, plain: impl Fn() -> U) {
    let mut group = c.benchmark_group(name);
    group.bench_function("ours", |b| b.iter(|| black_box(ours())));
    group.bench_function("plain", |b| b.iter(|| black_box(plain())));
    group.finish();
}

fn layer(c: &mut Criterion) {
    let (x, weight) = (noise([TOKENS, HIDDEN]), noise([1, HIDDEN]));
    pair(
        c,
        "rms_norm",
        || rms_norm::rms_norm(x.clone(), &weight, 1e-5),
        || rms_norm::reference::rms_norm(x.clone(), &weight, 1e-5),
    );
    let (gate, up) = (noise([TOKENS, INNER]), noise([TOKENS, INNER]));
    pair(
        c,
        "swiglu",
        || swiglu::swiglu(gate.clone(), up.clone()),
        || swiglu::reference::swiglu(gate.clone(), up.clone()),
    );
    let half: Tensor<3> = noise([TOKENS, 1, HEAD_DIM / 2]);
    let angles = Tensor::cat(vec![half.clone(), half], 2);
    let x = noise([TOKENS, HEADS, HEAD_DIM]);
    pair(
        c,
        "rotary",
        || rotary::rotate(x.clone(), &angles, &angles),
        || rotary::reference::rotate(x.clone(), &angles, &angles),
    );
    let scores: Tensor<3> = noise([KV_HEADS, HEADS / KV_HEADS * TOKENS, TOKENS]);
    // The mask of the plain one is made beforehand.
    let future = Tensor::<2, Int>::ones([TOKENS, TOKENS], &Device::flex())
        .triu(1)
        .equal_elem(1);
    let future = future
        .unsqueeze::<3>()
        .repeat_dim(0, KV_HEADS)
        .repeat_dim(1, HEADS / KV_HEADS);
    pair(
        c,
        "causal softmax",
        || masked_softmax(scores.clone(), 0.125, AttentionMask::causal(TOKENS), None),
        || {
            let masked = (scores.clone() * 0.125).mask_fill(future.clone(), f32::NEG_INFINITY);
            softmax(masked, 2)
        },
    );
}

fn head(c: &mut Criterion) {
    let logits = noise([64, VOCABULARY]);
    let targets = whole((0..64).map(|row| row * 700).collect());
    let scale = noise([64]);
    pair(
        c,
        "token log-probabilities and entropies",
        || token_log_probs(logits.clone(), targets.clone()),
        || {
            let all = log_softmax(logits.clone(), 1);
            let entropies = (all.clone().exp() * all.clone()).sum_dim(1).neg();
            (all.gather(1, targets.clone().unsqueeze_dim(1)), entropies)
        },
    );
    pair(
        c,
        "gradient of the logits",
        || logits_gradient(logits.clone(), targets.clone(), scale.clone()),
        || {
            let one_hot = targets.clone().one_hot::<2>(VOCABULARY).float();
            (one_hot - softmax(logits.clone(), 1)) * scale.clone().unsqueeze_dim(1)
        },
    );
}

fn decoding(c: &mut Criterion) {
    let (prompt_width, columns) = (512, 256);
    let keys = |rows: usize, columns: usize| Keys {
        key: noise([rows * KV_HEADS, columns, HEAD_DIM]),
        value: noise([rows * KV_HEADS, columns, HEAD_DIM]),
    };
    let query = noise([ROWS, HEADS, HEAD_DIM]);
    let (prompt, own) = (keys(1, prompt_width), keys(ROWS, columns));
    let (lengths, filled) = (
        whole(vec![prompt_width as i32]),
        whole(vec![columns as i32]),
    );
    let layout = DecodeLayout {
        rows_per_prompt: ROWS,
        columns,
        scale: 0.125,
    };
    let together = |prompt: &Tensor<3>, own: &Tensor<3>| {
        Tensor::cat(vec![prompt.clone().repeat_dim(0, ROWS), own.clone()], 1)
    };
    pair(
        c,
        "attention of a decoding step",
        || {
            let (prompt, own) = (prompt.clone(), own.clone());
            decode_attention(
                query.clone(),
                prompt,
                own,
                lengths.clone(),
                filled.clone(),
                layout,
            )
        },
        || {
            let query = query
                .clone()
                .reshape([ROWS * KV_HEADS, HEADS / KV_HEADS, HEAD_DIM]);
            let scores = query.matmul(together(&prompt.key, &own.key).transpose()) * 0.125;
            softmax(scores, 2).matmul(together(&prompt.value, &own.value))
        },
    );

    let weight = noise([INNER, HIDDEN]);
    let values: Vec<f32> = weight.clone().into_data().try_to_vec().expect("floats");
    let matrix = Nf4Matrix::quantize(&values, INNER, HIDDEN, true).expect("finite weights");
    let packed = Nf4Tensor::new(&matrix, &Device::flex());
    let mut group = c.benchmark_group("product with few rows");
    for rows in [1, 8, 16] {
        let x = noise([rows, HIDDEN]);
        group.bench_function(BenchmarkId::new("ours", rows), |b| {
            b.iter(|| black_box(linear::few_rows_linear(x.clone(), &weight)));
        });
        group.bench_function(BenchmarkId::new("plain", rows), |b| {
            b.iter(|| black_box(linear::reference::few_rows_linear(x.clone(), &weight)));
        });
        group.bench_function(BenchmarkId::new("NF4, decoded within", rows), |b| {
            b.iter(|| black_box(packed.linear_by(x.clone(), Nf4Path::Fused)));
        });
        group.bench_function(BenchmarkId::new("NF4, through a dense copy", rows), |b| {
            b.iter(|| black_box(packed.linear_by(x.clone(), Nf4Path::Dense)));
        });
    }
    group.finish();
}

criterion_group! {
    name = kernels;
    config = Criterion::default().sample_size(20);
    targets = layer, head, decoding
}
criterion_main!(kernels);
