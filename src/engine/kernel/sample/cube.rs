//! The launch: one cube a row.

use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::prelude::{CubeCount, CubeDim};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use super::{Draw, SampleOps, WORDS};

mod kernel;
mod search;
use kernel::{draw_token, shared_bytes};

/// Threads of a cube: the most that fit on the device.
const THREADS: [usize; 4] = [512, 256, 128, 64];

impl SampleOps for CubeBackend {
    fn sample_rows(
        logits: FloatTensor<Self>,
        uniforms: FloatTensor<Self>,
        temperature: f64,
        top_k: usize,
        top_p: f64,
        min_p: f64,
    ) -> IntTensor<Self> {
        let draw = Draw {
            temperature,
            top_k,
            top_p,
            min_p,
        };
        sample_rows(logits, uniforms, draw)
    }
}

fn sample_rows(logits: CubeTensor, uniforms: CubeTensor, draw: Draw) -> CubeTensor {
    let logits = into_contiguous(logits);
    let uniforms = into_contiguous(uniforms);
    let (rows, vocabulary) = (logits.shape()[0], logits.shape()[1]);
    let client = logits.client.clone();
    let output = empty_device_contiguous_dtype(
        client.clone(),
        logits.device.clone(),
        Shape::new([rows, WORDS]),
        DType::I32,
    );
    let hardware = &client.properties().hardware;
    let threads = THREADS.into_iter().find(|&threads| {
        threads <= hardware.max_units_per_cube as usize
            && threads <= hardware.max_cube_dim.0 as usize
            && shared_bytes(threads) <= hardware.max_shared_memory_size
    });
    let threads = threads.unwrap_or(64);
    let greedy = draw.temperature == 0.0;
    let temperature = if greedy { 1.0 } else { draw.temperature };
    // A row starts at a multiple of its length.
    let vector = if vocabulary.is_multiple_of(4) { 4 } else { 1 };
    draw_token::launch(
        &client,
        CubeCount::Static(rows as u32, 1, 1),
        CubeDim::new_1d(threads as u32),
        vector,
        logits.into_tensor_arg(),
        uniforms.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        vocabulary / vector,
        (1.0 / temperature) as f32,
        draw.top_k as f32,
        draw.top_p as f32,
        draw.min_p as f32,
        threads,
        greedy,
        !greedy && draw.top_k > 0 && draw.top_k < vocabulary,
        !greedy && draw.top_p < 1.0,
    );
    output
}
