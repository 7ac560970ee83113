//! The fused product on tensor cores.
//!
//! Eight rows of `x` are what an `mma` of 16×8×16 has columns for, so the multiply-adds of a decoding step cost next
//! to nothing, and decoding is what is left. Instructions for a weight in the inner loop, counted in what NVIDIA's
//! compiler makes for an H100 of doubly quantised weights:
//!
//! | rows of `x` | 8 | 16 | 32 |
//! |---|---|---|---|
//! | without tensor cores | 19 | 30 | 61, in two passes |
//! | with | 2.8 | 3.2 | 4.0 |
//!
//! While half a byte arrives from its memory, a lane of an H100 has time for 4.6, one of a 4090 for 21.

use burn::backend::cubecl::dtype_to_storage_type;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::Weight;
use super::kernels::block_scale;
use crate::kernel::nf4::CODES;
use crate::kernel::rows::cube::empty;
use crate::kernel::tensor_cores::{
    AddedBuffers, BLOCK, LANES, Launch, LowRankPart, OUT_ROWS, QUAD, STEPS, Two, X_ROWS,
    add_low_rank, add_scaled, multiply, no_sums, read_x, write_sums, x_starts_of,
};

/// Blocks of an output row that a plane decodes before it loads others. Their words are 128 contiguous bytes, and
/// there are as many as lanes that share an output row, each of which finds the scale of one of them.
const SPAN: usize = 4;

/// Vectors of two words in a block, one a lane.
const BLOCK_VECTORS: usize = QUAD;

/// Values of a byte, which is two weights.
const BYTES: usize = 256;

/// `x·Wᵀ` with what is to be added, in loads of `size` numbers.
pub fn product(x: CubeTensor, weight: &Weight, added: AddedBuffers, size: usize) -> CubeTensor {
    let (client, x_rows) = (x.client.clone(), x.meta.shape()[0]);
    let layout = weight.layout;
    let output = empty(&x, [x_rows, layout.rows], x.dtype);
    let blocks = layout.columns / BLOCK;
    let launch = Launch::new(x_rows, layout.rows, blocks.div_ceil(SPAN), CODES);
    let (rank, factor_pitch, terms) = (added.rank(), added.pitch(), added.terms);
    let low_rank = added.low_rank();
    fused::launch(
        &client,
        launch.cubes,
        launch.dim,
        size,
        x.into_buffer_arg(),
        weight.packed.clone().into_buffer_arg(),
        weight.scales.clone().into_buffer_arg(),
        weight.codes.clone().into_buffer_arg(),
        weight.table.clone().into_buffer_arg(),
        added.base.into_buffer_arg(),
        added.inner.into_buffer_arg(),
        added.factor.into_buffer_arg(),
        output.clone().into_buffer_arg(),
        x_rows,
        layout.rows,
        blocks,
        layout.offset,
        rank,
        factor_pitch,
        terms.scale.unwrap_or(0.0) as f32,
        terms.has_base,
        low_rank,
        launch.tiles,
        launch.planes,
        layout.double,
        dtype_to_storage_type(output.dtype),
    );
    output
}

/// `output = x·Wᵀ` and what is to be added; see [`crate::kernel::tensor_cores`].
///
/// Weights stay without their scale until four `mma`s have summed a block, and so cost no multiplication. They are
/// decoded two at a time from a table of all bytes, of which each lane has its own copy in its own bank of the
/// shared memory: lanes never wait for each other.
#[cube(launch)]
#[allow(clippy::too_many_arguments, reason = "buffers of a kernel")]
fn fused<E: Float, N: Size>(
    x: &[Vector<E, N>],
    packed: &[Vector<u32, Two>],
    scales: &[f32],
    codes: &[u32],
    table: &[f32],
    base: &[E],
    inner: &[Vector<E, N>],
    factor: &[Vector<E, N>],
    output: &mut [E],
    x_rows: usize,
    rows: usize,
    blocks: usize,
    offset: f32,
    rank: usize,
    factor_pitch: usize,
    scale: f32,
    #[comptime] adds: bool,
    #[comptime] low_rank: LowRankPart,
    #[comptime] tiles: usize,
    #[comptime] planes: usize,
    #[comptime] double: bool,
    #[define(E)] _dtype: ElemType,
) {
    let lane = UNIT_POS_X as usize;
    let plane = UNIT_POS_Y as usize;
    let (quad, place) = (lane / QUAD, lane % QUAD);
    let first_row = CUBE_POS_X as usize * OUT_ROWS;
    let spans = blocks.div_ceil(SPAN);

    let mut row_blocks = Array::<usize>::new(2usize);
    #[unroll]
    for half in 0..2usize {
        // Rows beyond the last are computed as the last and not written.
        row_blocks[half] =
            clamp_max(first_row + comptime!(half * X_ROWS) + quad, rows - 1) * blocks;
    }
    // The first words are on their way while the table is made.
    let mut words = Array::<Vector<u32, Two>>::new(comptime!(2 * SPAN));
    let mut span_scales = Array::<f32>::new(2usize);
    load_span(
        packed,
        scales,
        codes,
        table,
        &row_blocks,
        plane * SPAN,
        blocks,
        offset,
        place,
        &mut words,
        &mut span_scales,
        double,
    );

    // Plane `p` makes the bytes whose second code is `p`, `p + planes`, and so on: there are at most as many planes.
    let mut pairs = Shared::<[Vector<E, Two>]>::new_slice(comptime!(BYTES * LANES));
    let mut seconds = Array::<E>::new(comptime!(CODES / planes));
    #[unroll]
    for i in 0..comptime!(CODES / planes) {
        seconds[i] = E::cast_from(table[i * planes + plane]);
    }
    #[unroll]
    for first in 0..CODES {
        let mut pair = Vector::<E, Two>::new(E::cast_from(table[first]));
        #[unroll]
        for i in 0..comptime!(CODES / planes) {
            pair.insert(1usize, seconds[i]);
            pairs[(comptime!(first * CODES + i * planes) + plane) * LANES + lane] = pair;
        }
    }
    sync_cube();

    let columns = blocks * BLOCK;
    let x_starts = x_starts_of(x_rows, columns, tiles);
    let mut sums = no_sums(tiles);
    add_low_rank::<E, N>(
        inner,
        factor,
        x_rows,
        rows,
        rank,
        factor_pitch,
        scale,
        &mut sums,
        low_rank,
        tiles,
        planes,
    );
    let first_column = clamp_max(plane * SPAN, blocks - 1) * BLOCK;
    let mut values = read_x::<E, N>(x, &x_starts, first_column, BLOCK, tiles, true);
    for step in 0..spans.div_ceil(planes) {
        let first = (step * planes + plane) * SPAN;
        let later = first + comptime!(planes * SPAN);
        let mut next_words = Array::<Vector<u32, Two>>::new(comptime!(2 * SPAN));
        let mut next_scales = Array::<f32>::new(2usize);
        load_span(
            packed,
            scales,
            codes,
            table,
            &row_blocks,
            later,
            blocks,
            offset,
            place,
            &mut next_words,
            &mut next_scales,
            double,
        );

        #[unroll]
        for j in 0..SPAN {
            // `x` is loaded a block ahead.
            let next = if comptime!(j + 1 < SPAN) {
                first + comptime!(j + 1)
            } else {
                later
            };
            let next_column = clamp_max(next, blocks - 1) * BLOCK;
            let next_values = read_x::<E, N>(x, &x_starts, next_column, BLOCK, tiles, true);
            let source = (quad * QUAD + j) as u32;
            add_block::<E>(
                &values,
                words[j],
                words[SPAN + j],
                (
                    plane_shuffle(span_scales[0], source),
                    plane_shuffle(span_scales[1], source),
                ),
                &pairs,
                &mut sums,
                lane as u32,
                tiles,
            );
            values = next_values;
        }
        words = next_words;
        span_scales = next_scales;
    }

    write_sums(&sums, base, output, x_rows, rows, adds, tiles, planes);
}

/// A lane's words of the span from block `first` on, and the scale of block `first + place`, of both output rows.
#[cube]
#[allow(clippy::too_many_arguments, reason = "buffers of a kernel")]
fn load_span(
    packed: &[Vector<u32, Two>],
    scales: &[f32],
    codes: &[u32],
    table: &[f32],
    row_blocks: &Array<usize>,
    first: usize,
    blocks: usize,
    offset: f32,
    place: usize,
    words: &mut Array<Vector<u32, Two>>,
    span_scales: &mut Array<f32>,
    #[comptime] double: bool,
) {
    #[unroll]
    for half in 0..2usize {
        #[unroll]
        for j in 0..SPAN {
            let block = row_blocks[half] + clamp_max(first + j, blocks - 1);
            words[half * SPAN + j] = packed[block * BLOCK_VECTORS + place];
        }
        let block = row_blocks[half] + clamp_max(first + place, blocks - 1);
        let scale = block_scale(scales, codes, table, block, offset, double);
        // Blocks beyond the row count for nothing.
        span_scales[half] = select(first + place < blocks, scale, 0.0f32);
    }
}

/// Both weights of byte `byte` of `word`.
#[cube]
fn pair_of<E: Float>(
    word: u32,
    #[comptime] byte: u32,
    pairs: &Shared<[Vector<E, Two>]>,
    lane: u32,
) -> Vector<E, Two> {
    // In bytes until the end: the compiler then uses it as the address, which is two instructions fewer.
    let row_bits = comptime!((LANES * 4).ilog2());
    let mask = comptime!(((BYTES - 1) * LANES * 4) as u32);
    let row = if comptime!(8 * byte < row_bits) {
        word << comptime!(row_bits - 8 * byte)
    } else {
        word >> comptime!(8 * byte - row_bits)
    };
    pairs[(((row & mask) | (lane * 4)) / 4) as usize]
}

/// Adds the product of a block of 16 output rows with the rows of `x`. `upper` and `lower` are the words of output rows
/// `quad` and `quad + 8`.
#[cube]
#[allow(clippy::too_many_arguments, reason = "registers of a kernel")]
fn add_block<E: Float>(
    x: &Array<Vector<E, Two>>,
    upper: Vector<u32, Two>,
    lower: Vector<u32, Two>,
    scales: (f32, f32),
    pairs: &Shared<[Vector<E, Two>]>,
    sums: &mut Array<Vector<f32, Two>>,
    lane: u32,
    #[comptime] tiles: usize,
) {
    let mut products = no_sums(tiles);
    #[unroll]
    for step in 0..STEPS {
        let word = comptime!(step / 2);
        let byte = comptime!((step % 2 * 2) as u32);
        let mut a = Array::<Vector<E, Two>>::new(4usize);
        a[0] = pair_of::<E>(upper.extract(word), byte, pairs, lane);
        a[1] = pair_of::<E>(lower.extract(word), byte, pairs, lane);
        a[2] = pair_of::<E>(upper.extract(word), comptime!(byte + 1), pairs, lane);
        a[3] = pair_of::<E>(lower.extract(word), comptime!(byte + 1), pairs, lane);
        multiply(&a, x, &mut products, step, tiles);
    }
    add_scaled(&products, scales, sums, tiles);
}
