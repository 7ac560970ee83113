//! NF4 on CubeCL runtimes: CUDA in production, wgpu in tests.

mod tensor_cores;

use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::ir::features::Plane;
use burn_cubecl::cubecl::{
    calculate_cube_count_elemwise,
    prelude::{Client, CubeCount, CubeDim},
};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::{CODES, Nf4BackwardOps, Nf4FewRowsOps, Nf4Layout, Nf4Ops, Nf4Path, WORD};
use crate::kernel::rows::cube::empty;
use crate::kernel::tensor_cores::{AddedBuffers, Terms, are_there};
use moim_core::memory::limits::GPU_FUSED_ROWS;

/// Output rows that a plane works on. `x` is read from the first-level cache once for all of them: at 8 rows of
/// bf16 it takes as many bytes as the lookups of the codebook, and with fewer output rows it would take more.
const ROWS_PER_PLANE: usize = 4;

/// Words of an output row that a lane has in flight.
const STEPS: usize = 2;

/// Planes in a cube. Few, because they share nothing but the codebook, and because small cubes spread better:
/// 1024 output rows are 128 cubes.
const PLANES: usize = 2;

/// Rows of `x` in one pass at most.
///
/// More take several passes, each of which reads the packed weight again: from 16 rows on it is the
/// multiply-adds that take the time (16 a weight, against half a byte), so that keeping more sums in registers,
/// 4 output rows times 32 or 64, would cost occupancy and win nothing.
const MAX_TILE: usize = 16;

/// Units that share an output row where planes cannot be used.
const FALLBACK_LANES: u32 = 32;

mod kernels {
    use burn_cubecl::cubecl::{self, prelude::*};

    use super::super::{CODES, WORD};
    use super::{ROWS_PER_PLANE, STEPS};
    use crate::nf4::{BLOCK, NESTED_BLOCK};

    const WORDS_IN_BLOCK: usize = BLOCK / WORD;

    /// The scale of a block.
    #[cube]
    pub fn block_scale(
        scales: &[f32],
        codes: &[u32],
        table: &[f32],
        block: usize,
        offset: f32,
        #[comptime] double: bool,
    ) -> f32 {
        if comptime!(double) {
            let code = (codes[block / 4] >> ((block % 4) as u32 * 8u32)) & 255u32;
            table[CODES + code as usize] * scales[block / NESTED_BLOCK] + offset
        } else {
            scales[block]
        }
    }

    /// The codebook in shared memory: 16 entries are 16 banks, so lanes never wait for each other.
    #[cube]
    fn stage_codebook(table: &[f32], codebook: &mut [f32]) {
        if (UNIT_POS as usize) < CODES {
            codebook[UNIT_POS as usize] = table[UNIT_POS as usize];
        }
        sync_cube();
    }

    /// One unit decodes one word. `N` divides both a word and the number of weights, so that a vector is never
    /// partly outside of `output`.
    #[cube(launch)]
    #[allow(clippy::too_many_arguments, reason = "buffers of a kernel")]
    pub fn dequantize<E: Float, N: Size>(
        packed: &[u32],
        scales: &[f32],
        codes: &[u32],
        table: &[f32],
        output: &mut [Vector<E, N>],
        words: usize,
        vectors: usize,
        offset: f32,
        #[comptime] double: bool,
        #[define(E)] _dtype: ElemType,
    ) {
        let mut codebook = Shared::<[f32]>::new_slice(CODES);
        stage_codebook(table, &mut codebook);
        let size = N::value().comptime();
        if ABSOLUTE_POS < words {
            let word = packed[ABSOLUTE_POS];
            let scale = block_scale(
                scales,
                codes,
                table,
                ABSOLUTE_POS / WORDS_IN_BLOCK,
                offset,
                double,
            );
            #[unroll]
            for part in 0..comptime!(WORD / size) {
                let mut values = Vector::<E, N>::empty();
                #[unroll]
                for lane in 0..size {
                    let nibble = comptime!(((part * size + lane) ^ 1) as u32 * 4);
                    let code = (word >> nibble) & 15u32;
                    values.insert(lane, E::cast_from(codebook[code as usize] * scale));
                }
                let position = ABSOLUTE_POS * (WORD / size) + part;
                if position < vectors {
                    output[position] = values;
                }
            }
        }
    }

    /// Sums, or weights, of the output rows of a plane: CUDA C++ keeps each lane in its own register.
    type RowsVector = Vector<f32, Const<ROWS_PER_PLANE>>;

    /// `output = x·Wᵀ` for at most `tile` rows of `x` from row `CUBE_POS_Y·tile` on.
    ///
    /// A plane works along the columns of [`ROWS_PER_PLANE`] output rows, a word of each row per lane and step, so
    /// that its loads of the weight and of `x` are both consecutive. Words and scales are loaded [`STEPS`] steps
    /// before they are decoded: with 4 rows that is 32 bytes of weights in flight per lane, and 16 warps of a
    /// multiprocessor then wait for 16 KiB, which is about what it takes to hide the latency of the memory. Each
    /// output element is summed in an order that depends only on the columns.
    #[cube(launch)]
    #[allow(clippy::too_many_arguments, reason = "buffers of a kernel")]
    pub fn fused<E: Float, N: Size>(
        x: &[Vector<E, N>],
        packed: &[u32],
        scales: &[f32],
        codes: &[u32],
        table: &[f32],
        output: &mut [E],
        x_rows: usize,
        rows: usize,
        row_words: usize,
        offset: f32,
        #[comptime] tile: usize,
        #[comptime] lanes: usize,
        #[comptime] planes: usize,
        #[comptime] has_plane_sum: bool,
        #[comptime] double: bool,
        #[define(E)] _dtype: ElemType,
    ) {
        let mut codebook = Shared::<[f32]>::new_slice(CODES);
        stage_codebook(table, &mut codebook);
        let size = N::value().comptime();
        let lane = UNIT_POS_X as usize;
        let first_row = (CUBE_POS_X as usize * planes + UNIT_POS_Y as usize) * ROWS_PER_PLANE;
        let first_x = CUBE_POS_Y as usize * tile;

        // Rows beyond the last are computed as the last and not written.
        let mut row_starts = Array::<usize>::new(ROWS_PER_PLANE);
        #[unroll]
        for r in 0..ROWS_PER_PLANE {
            row_starts[r] = clamp_max(first_row + r, rows - 1) * row_words;
        }
        let mut x_starts = Array::<usize>::new(tile);
        let mut sums = Array::<RowsVector>::new(tile);
        #[unroll]
        for m in 0..tile {
            x_starts[m] = clamp_max(first_x + m, x_rows - 1) * row_words;
            sums[m] = RowsVector::new(0.0f32);
        }

        // Queues of STEPS steps, the next one in front.
        let mut words = Array::<u32>::new(comptime!(STEPS * ROWS_PER_PLANE));
        let mut word_scales = Array::<f32>::new(comptime!(STEPS * ROWS_PER_PLANE));
        #[unroll]
        for step in 0..STEPS {
            let position = step * lanes + lane;
            #[unroll]
            for r in 0..ROWS_PER_PLANE {
                let word = row_starts[r] + clamp_max(position, row_words - 1);
                words[step * ROWS_PER_PLANE + r] = packed[word];
                word_scales[step * ROWS_PER_PLANE + r] =
                    block_scale(scales, codes, table, word / WORDS_IN_BLOCK, offset, double);
            }
        }
        for step in 0..row_words.div_ceil(lanes) {
            let position = step * lanes + lane;
            let x_position = clamp_max(position, row_words - 1);
            // Lanes beyond the row multiply by nothing.
            let keep = select(position < row_words, 1.0f32, 0.0f32);
            let mut weights = Array::<RowsVector>::new(WORD);
            #[unroll]
            for i in 0..WORD {
                let mut values = RowsVector::empty();
                #[unroll]
                for r in 0..ROWS_PER_PLANE {
                    let code = (words[r] >> comptime!((i ^ 1) as u32 * 4)) & 15u32;
                    values.insert(r, codebook[code as usize] * (word_scales[r] * keep));
                }
                weights[i] = values;
            }
            #[unroll]
            for i in 0..comptime!((STEPS - 1) * ROWS_PER_PLANE) {
                words[i] = words[i + ROWS_PER_PLANE];
                word_scales[i] = word_scales[i + ROWS_PER_PLANE];
            }
            let later = clamp_max(position + comptime!(STEPS * lanes), row_words - 1);
            #[unroll]
            for r in 0..ROWS_PER_PLANE {
                let word = row_starts[r] + later;
                let slot = comptime!((STEPS - 1) * ROWS_PER_PLANE) + r;
                words[slot] = packed[word];
                word_scales[slot] =
                    block_scale(scales, codes, table, word / WORDS_IN_BLOCK, offset, double);
            }
            #[unroll]
            for m in 0..tile {
                #[unroll]
                for part in 0..comptime!(WORD / size) {
                    let values = Vector::<f32, N>::cast_from(
                        x[(x_starts[m] + x_position) * comptime!(WORD / size) + part],
                    );
                    #[unroll]
                    for i in 0..size {
                        sums[m] = fma(
                            RowsVector::new(values.extract(i)),
                            weights[part * size + i],
                            sums[m],
                        );
                    }
                }
            }
        }

        #[unroll]
        for m in 0..tile {
            let sum = lane_sum(sums[m], lanes, planes, has_plane_sum);
            if lane == 0 && first_x + m < x_rows {
                #[unroll]
                for r in 0..ROWS_PER_PLANE {
                    if first_row + r < rows {
                        output[(first_x + m) * rows + first_row + r] = E::cast_from(sum.extract(r));
                    }
                }
            }
        }
    }

    /// The sum over the lanes of a row of units, for lane 0.
    #[cube]
    fn lane_sum(
        value: RowsVector,
        #[comptime] lanes: usize,
        #[comptime] planes: usize,
        #[comptime] has_plane_sum: bool,
    ) -> RowsVector {
        if comptime!(has_plane_sum) {
            plane_sum(value)
        } else {
            // Slow and rare: devices without planes of one size.
            let mut values = Shared::<[RowsVector]>::new_slice(comptime!(lanes * planes));
            values[UNIT_POS as usize] = value;
            sync_cube();
            let mut sum = RowsVector::new(0.0f32);
            for other in 0..lanes {
                sum += values[UNIT_POS_Y as usize * lanes + other];
            }
            sync_cube();
            sum
        }
    }
}

fn tile_of(rows: usize) -> usize {
    rows.next_power_of_two().min(MAX_TILE)
}

/// The widest vector of `dtype` that divides a word and `length`.
fn vector_size(client: &Client, dtype: DType, length: usize) -> usize {
    client
        .io_optimized_vector_sizes(dtype.size())
        .find(|size| WORD.is_multiple_of(*size) && length.is_multiple_of(*size))
        .unwrap_or(1)
}

/// The arrays of a matrix on the device.
struct Weight {
    packed: CubeTensor,
    scales: CubeTensor,
    codes: CubeTensor,
    table: CubeTensor,
    layout: Nf4Layout,
}

impl Weight {
    fn new(arrays: [CubeTensor; 4], layout: Nf4Layout) -> Self {
        let [packed, scales, codes, table] = arrays.map(into_contiguous);
        Self {
            packed,
            scales,
            codes,
            table,
            layout,
        }
    }
}

/// `x·Wᵀ` by a kernel that decodes within the product, with the terms to add.
fn fused(x: CubeTensor, weight: &Weight, added: AddedBuffers) -> CubeTensor {
    if are_there(&x.client, x.dtype)
        && let Some(size) = added.vector_size(None, weight.layout.columns)
    {
        return tensor_cores::product(x, weight, added, size);
    }
    let (client, dtype, x_rows) = (x.client.clone(), x.dtype, x.meta.shape()[0]);
    let layout = weight.layout;
    let output = empty(&x, [x_rows, layout.rows], dtype);
    let properties = client.properties();
    let plane = properties.hardware.plane_size_max;
    // A cube needs 16 units to stage the codebook, so the smallest planes do not count.
    let has_plane_sum = properties.features.plane.contains(Plane::Ops)
        && plane == properties.hardware.plane_size_min
        && plane as usize * PLANES >= CODES;
    let lanes = if has_plane_sum { plane } else { FALLBACK_LANES };
    let tile = tile_of(x_rows);
    let cubes = layout.rows.div_ceil(PLANES * ROWS_PER_PLANE) as u32;
    kernels::fused::launch(
        &client,
        CubeCount::Static(cubes, x_rows.div_ceil(tile) as u32, 1),
        CubeDim::new_2d(lanes, PLANES as u32),
        vector_size(&client, dtype, layout.columns),
        x.into_buffer_arg(),
        weight.packed.clone().into_buffer_arg(),
        weight.scales.clone().into_buffer_arg(),
        weight.codes.clone().into_buffer_arg(),
        weight.table.clone().into_buffer_arg(),
        output.clone().into_buffer_arg(),
        x_rows,
        layout.rows,
        layout.columns / WORD,
        layout.offset,
        tile,
        lanes as usize,
        PLANES,
        has_plane_sum,
        layout.double,
        dtype_to_storage_type(dtype),
    );
    added.add_to(output)
}

/// The dense weight.
fn dense(weight: Weight, dtype: DType) -> CubeTensor {
    let layout = weight.layout;
    let client = weight.packed.client.clone();
    let output = empty(&weight.packed, layout.shape(), dtype);
    let weights = layout.weights();
    let words = weights.div_ceil(WORD);
    let size = vector_size(&client, dtype, weights);
    // At least as many units as the codebook has entries, whatever the driver prefers.
    let dim = CubeDim::new_1d(256.min(client.properties().hardware.max_units_per_cube));
    kernels::dequantize::launch(
        &client,
        calculate_cube_count_elemwise(&client, words, dim),
        dim,
        size,
        weight.packed.into_buffer_arg(),
        weight.scales.into_buffer_arg(),
        weight.codes.into_buffer_arg(),
        weight.table.into_buffer_arg(),
        output.clone().into_buffer_arg(),
        words,
        weights / size,
        layout.offset,
        layout.double,
        dtype_to_storage_type(dtype),
    );
    output
}

impl Nf4Ops for CubeBackend {
    fn nf4_dequantize(
        packed: IntTensor<Self>,
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        layout: Nf4Layout,
        dtype: DType,
    ) -> FloatTensor<Self> {
        dense(Weight::new([packed, scales, codes, table], layout), dtype)
    }

    fn nf4_linear(
        x: FloatTensor<Self>,
        packed: IntTensor<Self>,
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        layout: Nf4Layout,
        path: Nf4Path,
    ) -> FloatTensor<Self> {
        let weight = Weight::new([packed, scales, codes, table], layout);
        let rows = x.meta.shape()[0];
        let is_few = match path {
            Nf4Path::Auto => rows <= GPU_FUSED_ROWS,
            Nf4Path::Fused => true,
            Nf4Path::Dense => false,
        };
        if is_few && rows > 0 && layout.has_whole_blocks() {
            let x = into_contiguous(x);
            return fused(x.clone(), &weight, AddedBuffers::nothing(x));
        }
        let dense = dense(weight, x.dtype);
        Self::float_matmul(x, Self::float_swap_dims(dense, 0, 1))
    }
}

impl Nf4BackwardOps for CubeBackend {
    fn nf4_linear_backward(
        gradient: FloatTensor<Self>,
        packed: IntTensor<Self>,
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        layout: Nf4Layout,
    ) -> FloatTensor<Self> {
        let weight = Weight::new([packed, scales, codes, table], layout);
        let dtype = gradient.dtype;
        Self::float_matmul(gradient, dense(weight, dtype))
    }
}

impl Nf4FewRowsOps for CubeBackend {
    fn nf4_few_rows(
        x: FloatTensor<Self>,
        packed: IntTensor<Self>,
        scales: FloatTensor<Self>,
        codes: IntTensor<Self>,
        table: FloatTensor<Self>,
        base: FloatTensor<Self>,
        inner: FloatTensor<Self>,
        factor: FloatTensor<Self>,
        layout: Nf4Layout,
        terms: Terms,
    ) -> FloatTensor<Self> {
        let weight = Weight::new([packed, scales, codes, table], layout);
        let added = AddedBuffers::new([base, inner, factor], terms);
        fused(into_contiguous(x), &weight, added)
    }
}
