//! The GPU's version, split along the keys ("flash-decoding").
//!
//! The case to serve: 8 completions of a prompt, 8 key heads shared by 4 query heads each,
//! `head_dim` 128, 512 prompt and up to 1024 own columns in bf16. One cube for each (row, key head)
//! would be 64 cubes for the 132 multiprocessors of an H100. Therefore a cube takes 128 columns
//! of a row and key head: 320 to 768 cubes of 128 threads, each reading 64 KiB. A second, small kernel joins
//! the parts; what passes between the two is 3 % of what the first reads. That tile is also all the
//! scores there are in memory, so a cube knows the largest before it exponentiates, and
//! nothing has to be rescaled.
//!
//! The query heads of a key head share a cube (up to 8; more take several cubes), so own keys
//! come from memory once. The prompt's are read by every row of the group, which run in parallel:
//! 2 MiB a layer in the reference case, which the second-level cache (50 MiB; 72 on a 4090) serves.
//!
//! Threads exchange values through shared memory and cube barriers only, so the width of planes does not
//! matter. Not measured on a GPU.

use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::{CubeCount, CubeDim};
use burn_cubecl::kernel::{cast, into_contiguous};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use super::{DecodeAttentionOps, DecodeLayout};

mod kernel;
use kernel::{COLUMNS, THREADS, WARP_LANES, join, part, shared_bytes};

/// The widest load of a thread.
const LOAD_BYTES: usize = 16;

/// Query heads a cube takes at most: their sums live in registers.
const MOST_HEADS: usize = 8;

impl DecodeAttentionOps for CubeBackend {
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
    ) -> FloatTensor<Self> {
        attend(
            query,
            [prompt_key, prompt_value, own_key, own_value],
            [prompt_lengths, filled],
            DecodeLayout {
                rows_per_prompt,
                columns,
                scale,
            },
        )
    }
}

/// `[prompt key, prompt value, own key, own value]`, `[prompt lengths, filled]`; see
/// [`super::decode_attention`].
fn attend(
    query: CubeTensor,
    keys: [CubeTensor; 4],
    lengths: [CubeTensor; 2],
    layout: DecodeLayout,
) -> CubeTensor {
    let query = into_contiguous(query);
    let [prompt_key, prompt_value, own_key, own_value] = keys.map(into_contiguous);
    let [prompt_lengths, filled] = lengths.map(|lengths| {
        into_contiguous(match lengths.dtype {
            DType::I32 | DType::U32 => lengths,
            _ => cast(lengths, DType::I32),
        })
    });
    let (rows, heads, dim) = (query.shape()[0], query.shape()[1], query.shape()[2]);
    let (kv_heads, capacity) = (own_key.shape()[0] / rows, own_key.shape()[1]);
    let prompt_width = prompt_key.shape()[1];
    let sharing = heads / kv_heads;
    assert!(dim % 4 == 0 && dim <= 256, "no kernel for head_dim {dim}");
    let dtype = prompt_key.dtype;
    let same = [&prompt_value, &own_key, &own_value]
        .iter()
        .all(|t| t.dtype == dtype);
    assert!(same, "keys and values of several types");

    let client = query.client.clone();
    let vector = vector_size(&client, dtype, dim);
    let vectors = dim / vector;
    let lanes = (1..=WARP_LANES)
        .rev()
        .find(|&lanes| WARP_LANES.is_multiple_of(lanes) && vectors.is_multiple_of(lanes));
    let lanes = lanes.unwrap_or(1);
    let limit = client.properties().hardware.max_shared_memory_size;
    let cube_heads = (1..=MOST_HEADS.min(sharing))
        .rev()
        .find(|&heads| sharing % heads == 0 && shared_bytes(heads, dim, vector, lanes) <= limit);
    let cube_heads = cube_heads.unwrap_or(1);

    let prompt_splits = prompt_width.div_ceil(COLUMNS);
    let splits = prompt_splits + layout.columns.div_ceil(COLUMNS);
    // A part is `head_dim` sums and a vector with the largest score and the sum of weights.
    let parts = empty_device_contiguous_dtype(
        client.clone(),
        query.device.clone(),
        Shape::new([rows * heads, splits, dim + vector]),
        DType::F32,
    );
    let output = empty_device_contiguous_dtype(
        client.clone(),
        query.device.clone(),
        Shape::new([rows, heads * dim]),
        query.dtype,
    );
    let query_type = dtype_to_storage_type(query.dtype);
    part::launch(
        &client,
        CubeCount::Static((rows * heads / cube_heads) as u32, splits as u32, 1),
        CubeDim::new_1d(THREADS as u32),
        vector,
        query.into_tensor_arg(),
        prompt_key.into_tensor_arg(),
        prompt_value.into_tensor_arg(),
        own_key.into_tensor_arg(),
        own_value.into_tensor_arg(),
        prompt_lengths.into_tensor_arg(),
        filled.into_tensor_arg(),
        parts.clone().into_tensor_arg(),
        prompt_width,
        capacity,
        layout.rows_per_prompt,
        kv_heads,
        prompt_splits,
        splits,
        layout.scale,
        cube_heads,
        sharing / cube_heads,
        vectors,
        lanes,
        [dtype_to_storage_type(dtype), query_type],
    );
    let units = rows * heads * vectors;
    let cube_dim = CubeDim::new_1d(THREADS as u32);
    join::launch(
        &client,
        calculate_cube_count_elemwise(&client, units, cube_dim),
        cube_dim,
        vector,
        parts.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        splits,
        units,
        vectors,
        query_type,
    );
    output
}

/// Elements per load of a thread.
fn vector_size(client: &burn_cubecl::cubecl::client::Client, dtype: DType, dim: usize) -> usize {
    client
        .io_optimized_vector_sizes(dtype.size())
        .filter(|&size| dim.is_multiple_of(size) && size * dtype.size() <= LOAD_BYTES && size >= 4)
        .max()
        // Every runtime can split a vector of 4 that its memory would not load together.
        .unwrap_or(4)
}
