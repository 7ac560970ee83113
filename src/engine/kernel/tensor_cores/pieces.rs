//! Pieces of kernels; cubes are (16 rows of the weight) × (pass over `x`), of 32 lanes × planes.

use burn_cubecl::cubecl::cmma::MmaDefinition;
use burn_cubecl::cubecl::{self, prelude::*};

use super::{BLOCK, DEPTH, LANE_COLUMNS, LANES, LowRankPart, OUT_ROWS, QUAD, STEPS, X_ROWS};

/// The contents of a register: weights, `x` or sums.
pub type Two = Const<2>;

/// The start of a lane's reads of each tile, in elements: column `16·p` of its row. Rows beyond the last are computed
/// as the last and not written.
#[cube]
pub fn x_starts_of(x_rows: usize, columns: usize, #[comptime] tiles: usize) -> Array<usize> {
    let lane = UNIT_POS_X as usize;
    let first = CUBE_POS_Y as usize * comptime!(tiles * X_ROWS);
    let mut starts = Array::<usize>::new(tiles);
    #[unroll]
    for tile in 0..tiles {
        let row = clamp_max(first + comptime!(tile * X_ROWS) + lane / QUAD, x_rows - 1);
        starts[tile] = row * columns + lane % QUAD * LANE_COLUMNS;
    }
    starts
}

/// Sums of nothing: two registers a tile, for the upper and the lower row of the weight.
#[cube]
pub fn no_sums(#[comptime] tiles: usize) -> Array<Vector<f32, Two>> {
    let mut sums = Array::<Vector<f32, Two>>::new(comptime!(2 * tiles));
    #[unroll]
    for i in 0..comptime!(2 * tiles) {
        sums[i] = Vector::new(0.0f32);
    }
    sums
}

/// The 16 columns from `start` on, in pairs, for `into[place]` and what follows. Unless the row `is_whole`, a number
/// of whole blocks, only `left` of them exist; the others are 0.
#[cube]
pub fn read_pairs<E: Float, N: Size>(
    from: &[Vector<E, N>],
    start: usize,
    left: usize,
    into: &mut Array<Vector<E, Two>>,
    #[comptime] place: usize,
    #[comptime] is_whole: bool,
) {
    let size = N::value().comptime();
    #[unroll]
    for part in 0..comptime!(LANE_COLUMNS / size) {
        let values = if comptime!(is_whole) {
            from[start / size + part]
        } else {
            // `start` itself may be beyond the row.
            let is_there = comptime!(part * size) < left;
            let values = from[select(is_there, start / size + part, 0usize)];
            select(is_there, values, Vector::new(E::new(0.0)))
        };
        #[unroll]
        for i in 0..size / 2 {
            let mut pair = Vector::<E, Two>::empty();
            pair.insert(0usize, values.extract(comptime!(2 * i)));
            pair.insert(1usize, values.extract(comptime!(2 * i + 1)));
            into[comptime!(place + part * size / 2 + i)] = pair;
        }
    }
}

/// A lane's factors of the block of `x` from `column` on: 8 pairs per tile.
#[cube]
pub fn read_x<E: Float, N: Size>(
    x: &[Vector<E, N>],
    starts: &Array<usize>,
    column: usize,
    left: usize,
    #[comptime] tiles: usize,
    #[comptime] is_whole: bool,
) -> Array<Vector<E, Two>> {
    let mut pairs = Array::<Vector<E, Two>>::new(comptime!(2 * STEPS * tiles));
    #[unroll]
    for tile in 0..tiles {
        read_pairs::<E, N>(
            x,
            starts[tile] + column,
            left,
            &mut pairs,
            comptime!(2 * STEPS * tile),
            is_whole,
        );
    }
    pairs
}

/// The start of a lane's reads of the weight, in elements: column `16·p` of its upper and of its lower row, which begin
/// `pitch` elements apart.
#[cube]
pub fn weight_starts(rows: usize, pitch: usize) -> Array<usize> {
    let lane = UNIT_POS_X as usize;
    let mut starts = Array::<usize>::new(2usize);
    #[unroll]
    for half in 0..2usize {
        let row = CUBE_POS_X as usize * OUT_ROWS + comptime!(half * X_ROWS) + lane / QUAD;
        starts[half] = clamp_max(row, rows - 1) * pitch + lane % QUAD * LANE_COLUMNS;
    }
    starts
}

/// A block of a dense weight: 8 pairs of the upper row, then those of the lower.
#[cube]
pub fn read_weight<E: Float, N: Size>(
    weight: &[Vector<E, N>],
    starts: &Array<usize>,
    column: usize,
    left: usize,
    #[comptime] is_whole: bool,
) -> Array<Vector<E, Two>> {
    let mut pairs = Array::<Vector<E, Two>>::new(comptime!(4 * STEPS));
    #[unroll]
    for half in 0..2usize {
        let start = starts[half] + column;
        let place = comptime!(2 * STEPS * half);
        read_pairs::<E, N>(weight, start, left, &mut pairs, place, is_whole);
    }
    pairs
}

/// Columns that a lane has left of the block from `column` on.
#[cube]
pub fn left_of(columns: usize, column: usize) -> usize {
    let first = column + UNIT_POS_X as usize % QUAD * LANE_COLUMNS;
    columns - min(first, columns)
}

/// Adds the product with a block of a dense weight.
#[cube]
pub fn multiply_dense<E: Float>(
    weight: &Array<Vector<E, Two>>,
    x: &Array<Vector<E, Two>>,
    sums: &mut Array<Vector<f32, Two>>,
    #[comptime] tiles: usize,
) {
    #[unroll]
    for step in 0..STEPS {
        let mut pairs = Array::<Vector<E, Two>>::new(4usize);
        #[unroll]
        for half in 0..2usize {
            let pair = comptime!(2 * (half * STEPS + step));
            pairs[half] = weight[pair];
            pairs[2 + half] = weight[comptime!(pair + 1)];
        }
        multiply(&pairs, x, sums, step, tiles);
    }
}

/// Adds sums times the scales of the upper and of the lower row.
#[cube]
pub fn add_scaled(
    products: &Array<Vector<f32, Two>>,
    scales: (f32, f32),
    sums: &mut Array<Vector<f32, Two>>,
    #[comptime] tiles: usize,
) {
    #[unroll]
    for tile in 0..tiles {
        let (upper, lower) = comptime!((2 * tile, 2 * tile + 1));
        sums[upper] = fma(Vector::new(scales.0), products[upper], sums[upper]);
        sums[lower] = fma(Vector::new(scales.1), products[lower], sums[lower]);
    }
}

/// Adds `scale·inner·factorᵀ`, if there is an adapter. `inner` has `rank` columns, as has `factor`, whose rows begin `pitch` elements apart.
#[cube]
#[allow(clippy::too_many_arguments, reason = "buffers of a kernel")]
pub fn add_low_rank<E: Float, N: Size>(
    inner: &[Vector<E, N>],
    factor: &[Vector<E, N>],
    x_rows: usize,
    rows: usize,
    rank: usize,
    pitch: usize,
    scale: f32,
    sums: &mut Array<Vector<f32, Two>>,
    #[comptime] low_rank: LowRankPart,
    #[comptime] tiles: usize,
    #[comptime] planes: usize,
) {
    if comptime!(low_rank != LowRankPart::None) {
        let is_whole = comptime!(low_rank == LowRankPart::Whole);
        let starts = weight_starts(rows, pitch);
        let inner_starts = x_starts_of(x_rows, rank, tiles);
        let mut column = UNIT_POS_Y as usize * BLOCK;
        while column < rank {
            let left = left_of(rank, column);
            let weights = read_weight::<E, N>(factor, &starts, column, left, is_whole);
            let values = read_x::<E, N>(inner, &inner_starts, column, left, tiles, is_whole);
            let mut products = no_sums(tiles);
            multiply_dense(&weights, &values, &mut products, tiles);
            add_scaled(&products, (scale, scale), sums, tiles);
            column += comptime!(planes * BLOCK);
        }
    }
}

/// Adds the products of step `step` of a block. `weight`: two pairs of the upper and of the lower row by turns.
#[cube]
pub fn multiply<E: Float>(
    weight: &Array<Vector<E, Two>>,
    x: &Array<Vector<E, Two>>,
    sums: &mut Array<Vector<f32, Two>>,
    #[comptime] step: usize,
    #[comptime] tiles: usize,
) {
    let mma = MmaDefinition::<E, E, f32>::new(OUT_ROWS, X_ROWS, DEPTH);
    #[unroll]
    for tile in 0..tiles {
        let mut b = Array::<Vector<E, Two>>::new(2usize);
        b[0] = x[comptime!(2 * (STEPS * tile + step))];
        b[1] = x[comptime!(2 * (STEPS * tile + step) + 1)];
        let mut c = Array::<Vector<f32, Two>>::new(2usize);
        c[0] = sums[comptime!(2 * tile)];
        c[1] = sums[comptime!(2 * tile + 1)];
        let d = mma.execute(weight, &b, &c);
        sums[comptime!(2 * tile)] = d[0];
        sums[comptime!(2 * tile + 1)] = d[1];
    }
}

/// The sums of all planes, `[plane, row of x, output row]`, when every unit has brought its own.
#[cube]
fn gather_sums(
    sums: &Array<Vector<f32, Two>>,
    #[comptime] tiles: usize,
    #[comptime] planes: usize,
) -> Shared<[f32]> {
    let lane = UNIT_POS_X as usize;
    let (quad, place) = (lane / QUAD, lane % QUAD);
    let of_plane = comptime!(tiles * X_ROWS * OUT_ROWS);
    let mut gathered = Shared::<[f32]>::new_slice(comptime!(planes * of_plane));
    #[unroll]
    for tile in 0..tiles {
        #[unroll]
        for half in 0..2usize {
            #[unroll]
            for i in 0..2usize {
                let x_row = comptime!(tile * X_ROWS + i) + 2 * place;
                let row = comptime!(half * X_ROWS) + quad;
                gathered[UNIT_POS_Y as usize * of_plane + x_row * OUT_ROWS + row] =
                    sums[comptime!(2 * tile + half)].extract(i);
            }
        }
    }
    sync_cube();
    gathered
}

/// Adds up the planes and writes the sums, with `base` added if `adds` is set.
#[cube]
#[allow(clippy::too_many_arguments, reason = "buffers of a kernel")]
pub fn write_sums<E: Float>(
    sums: &Array<Vector<f32, Two>>,
    base: &[E],
    output: &mut [E],
    x_rows: usize,
    rows: usize,
    #[comptime] adds: bool,
    #[comptime] tiles: usize,
    #[comptime] planes: usize,
) {
    let gathered = gather_sums(sums, tiles, planes);
    let of_plane = comptime!(tiles * X_ROWS * OUT_ROWS);
    let mut index = UNIT_POS as usize;
    while index < of_plane {
        let x_row = CUBE_POS_Y as usize * comptime!(tiles * X_ROWS) + index / OUT_ROWS;
        let row = CUBE_POS_X as usize * OUT_ROWS + index % OUT_ROWS;
        if x_row < x_rows && row < rows {
            let place = x_row * rows + row;
            let mut sum = 0.0f32;
            #[unroll]
            for plane in 0..planes {
                sum += gathered[index + comptime!(plane * of_plane)];
            }
            if comptime!(adds) {
                sum += f32::cast_from(base[place]);
            }
            output[place] = E::cast_from(sum);
        }
        index += comptime!(planes * LANES);
    }
}
