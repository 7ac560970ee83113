//! `x·Wᵀ` for few rows of `x` on tensor cores: what the kernels for dense weights and for NF4 share.
//!
//! The `mma` of 16×8×16 multiplies 16 rows of the weight by 8 rows of `x`, a tile. A plane takes 64 columns of both at a
//! time, a block, of which lane `4·q + p` reads columns `16·p` to `16·p + 15`: of rows `q` and `q + 8` of the weight, and of
//! row `q` of each tile, in loads of 16 bytes straight into registers. The `mma` is told that these are columns `2·p`,
//! `2·p + 1`, `2·p + 8` and `2·p + 9` of four times 16, which changes nothing but the order of the sum.
//!
//! The planes of a cube share the blocks of a row, so that a matrix of 1024 rows keeps a whole GPU busy, and are summed
//! in their order. An output element therefore depends on nothing but its row of `x`: completions that leave the
//! batch do not change the others.

use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, Device, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::ir::features::{MmaConfig, Plane};
use burn_cubecl::cubecl::ir::{ElemType, FloatKind};
use burn_cubecl::cubecl::prelude::{CubeCount, CubeDim};
use burn_cubecl::tensor::CubeTensor;

pub use kernels::*;

/// Output rows of a cube.
pub const OUT_ROWS: usize = 16;

/// Rows of `x` in a tile.
pub const X_ROWS: usize = 8;

/// Lanes of a plane.
pub const LANES: usize = 32;

/// Columns of a block.
pub const BLOCK: usize = 64;

/// Lanes that share a row.
pub const QUAD: usize = LANES / X_ROWS;

/// Columns of a block that a lane reads.
pub const LANE_COLUMNS: usize = BLOCK / QUAD;

/// Columns of an `mma`.
const DEPTH: usize = 16;

/// `mma`s of a block.
pub const STEPS: usize = BLOCK / DEPTH;

/// Tiles in one pass at most: the sums of 8 planes then take 16 KiB of shared memory.
const MAX_TILES: usize = 4;

/// Rows of `x` that are multiplied in one pass.
pub const PASS_ROWS: usize = MAX_TILES * X_ROWS;

/// `scale·inner·factorᵀ`, the adapter's share of a product.
#[derive(Clone, Debug)]
pub struct LowRank {
    /// `[rows of x, rank]`
    pub inner: Tensor<2>,
    /// `[out, rank]`
    pub factor: Tensor<2>,
    /// Multiplies both.
    pub scale: f64,
}

impl LowRank {
    /// The share itself.
    ///
    /// # Shapes
    /// → `[rows of x, out]`
    pub fn product(self) -> Tensor<2> {
        self.inner
            .matmul(self.factor.transpose())
            .mul_scalar(self.scale)
    }
}

/// What is added to a product where it is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Added<'a> {
    /// `[rows of x, out]`
    pub base: Option<&'a Tensor<2>>,
    /// The adapter's share.
    pub low_rank: Option<&'a LowRank>,
}

impl<'a> Added<'a> {
    /// Base, inner and factor for a backend that takes a tensor for each, and which of them count: those that are
    /// not there are `x`.
    pub fn terms(&self, x: &'a Tensor<2>) -> ([&'a Tensor<2>; 3], Terms) {
        let (inner, factor) = self
            .low_rank
            .map_or((x, x), |low_rank| (&low_rank.inner, &low_rank.factor));
        let terms = Terms {
            has_base: self.base.is_some(),
            scale: self.low_rank.map(|low_rank| low_rank.scale),
        };
        ([self.base.unwrap_or(x), inner, factor], terms)
    }
}

/// Which parts of [`Added`] there are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Whether there is a base.
    pub has_base: bool,
    /// Of the adapter's share, if there is one.
    pub scale: Option<f64>,
}

/// Base, inner and factor as a kernel takes them.
pub struct AddedBuffers {
    /// `[rows of x, out]`, contiguous.
    pub base: CubeTensor,
    /// `[rows of x, rank]`, contiguous.
    pub inner: CubeTensor,
    /// `[out, rank]`
    pub factor: CubeTensor,
    /// Which of them count.
    pub terms: Terms,
}

impl AddedBuffers {
    /// Nothing to add to a product with `x`.
    pub fn nothing(x: CubeTensor) -> Self {
        Self {
            base: x.clone(),
            inner: x.clone(),
            factor: x,
            terms: Terms {
                has_base: false,
                scale: None,
            },
        }
    }

    /// Columns of `inner`; 0 where it does not count.
    pub fn rank(&self) -> usize {
        match self.terms.scale {
            Some(_) => self.factor.meta.shape()[1],
            None => 0,
        }
    }

    /// Elements from one row of `factor` to the next.
    pub fn pitch(&self) -> usize {
        self.factor.meta.strides()[0]
    }

    /// The widest vector that begins at every row of these weights, whose rows must be in one piece, and of `x` with its
    /// `columns`.
    pub fn vector_size(&self, weight: Option<&CubeTensor>, columns: usize) -> Option<usize> {
        let factor = self.terms.scale.map(|_| &self.factor);
        let mut begins = vec![columns, self.rank()];
        for weight in weight.into_iter().chain(factor) {
            if weight.meta.strides()[1] != 1 {
                return None;
            }
            let bytes = weight.handle.offset_start.unwrap_or(0) as usize;
            begins.extend([weight.meta.strides()[0], bytes / weight.dtype.size()]);
        }
        let client = &self.base.client;
        client
            .io_optimized_vector_sizes(self.base.dtype.size())
            .filter(|size| (2..=LANE_COLUMNS).contains(size))
            .find(|size| begins.iter().all(|begin| begin.is_multiple_of(*size)))
    }

    /// The same after a product by other means.
    pub fn add_to(self, product: CubeTensor) -> CubeTensor {
        let mut sum = product;
        if let Some(scale) = self.terms.scale {
            let factor = CubeBackend::float_swap_dims(self.factor, 0, 1);
            let share = CubeBackend::float_matmul(self.inner, factor);
            sum = CubeBackend::float_add(sum, CubeBackend::float_mul_scalar(share, scale.into()));
        }
        if self.terms.has_base {
            sum = CubeBackend::float_add(self.base, sum);
        }
        sum
    }
}

/// Whether a product of these tensors may be one for tensor cores, as far as can be seen before the backend is reached.
pub fn is_for_tensor_cores(tensors: &[&Tensor<2>]) -> bool {
    let dtype = tensors[0].dtype();
    matches!(dtype, DType::BF16 | DType::F16)
        && tensors[0].device() != Device::flex()
        && tensors
            .iter()
            .all(|tensor| tensor.dtype() == dtype && !tensor.is_autodiff())
}

/// Whether a device has such tensor cores for `dtype`.
pub fn are_there(client: &Client, dtype: DType) -> bool {
    let kind = match dtype {
        DType::BF16 => FloatKind::BF16,
        DType::F16 => FloatKind::F16,
        _ => return false,
    };
    let config = MmaConfig {
        a_type: ElemType::Float(kind),
        b_type: ElemType::Float(kind),
        cd_type: ElemType::Float(FloatKind::F32),
        m: OUT_ROWS as u32,
        n: X_ROWS as u32,
        k: DEPTH as u32,
    };
    let (hardware, features) = (&client.properties().hardware, &client.properties().features);
    [hardware.plane_size_min, hardware.plane_size_max] == [LANES as u32; 2]
        && features.plane.contains(Plane::Ops)
        && features.matmul.mma.contains(&config)
}

/// How a product is shared out.
pub struct Launch {
    /// (16 output rows) × passes.
    pub cubes: CubeCount,
    /// Lanes × planes.
    pub dim: CubeDim,
    /// Tiles of `x` in a pass.
    pub tiles: usize,
    /// Planes that share a row.
    pub planes: usize,
}

impl Launch {
    /// For `x_rows` rows of `x` and `rows` rows of the weight, which fall into `spans` pieces that a plane takes at
    /// a time.
    ///
    /// 8 planes are 15 for each multiprocessor of an H100 where the weight has 4096 rows. Matrices of few rows get more:
    /// they are what a multiprocessor waits for alone.
    pub fn new(x_rows: usize, rows: usize, spans: usize) -> Self {
        let cubes = rows.div_ceil(OUT_ROWS);
        let most = if cubes <= 64 { 16 } else { 8 };
        let tiles = x_rows.div_ceil(X_ROWS).min(MAX_TILES);
        let planes = spans.next_power_of_two().min(most);
        Self {
            cubes: CubeCount::Static(cubes as u32, x_rows.div_ceil(tiles * X_ROWS) as u32, 1),
            dim: CubeDim::new_2d(LANES as u32, planes as u32),
            tiles,
            planes,
        }
    }
}

mod kernels {
    use burn_cubecl::cubecl::cmma::MmaDefinition;
    use burn_cubecl::cubecl::{self, prelude::*};

    use super::{BLOCK, DEPTH, LANE_COLUMNS, LANES, OUT_ROWS, QUAD, STEPS, X_ROWS};

    /// What a register holds of the weight, of `x` or of sums.
    pub type Two = Const<2>;

    /// Where a lane begins to read each tile, in elements: column `16·p` of its row. Rows beyond the last are computed
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

    /// The 16 columns from `start` on, in pairs, for `into[place]` and what follows. With `columns`, those that are `left`
    /// or more are 0, and what is read in their place is the last vector before.
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

    /// What a lane multiplies of the block of `x` from `column` on: 8 pairs a tile.
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

    /// Where a lane begins to read the weight, in elements: column `16·p` of its upper and of its lower row, which begin
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

    /// Adds `scale·inner·factorᵀ`. `inner` has `rank` columns, as has `factor`, whose rows begin `pitch` elements apart.
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
        #[comptime] tiles: usize,
        #[comptime] planes: usize,
    ) {
        let starts = weight_starts(rows, pitch);
        let inner_starts = x_starts_of(x_rows, rank, tiles);
        let mut column = UNIT_POS_Y as usize * BLOCK;
        while column < rank {
            let left = left_of(rank, column);
            let weights = read_weight::<E, N>(factor, &starts, column, left, false);
            let values = read_x::<E, N>(inner, &inner_starts, column, left, tiles, false);
            let mut products = no_sums(tiles);
            multiply_dense(&weights, &values, &mut products, tiles);
            add_scaled(&products, (scale, scale), sums, tiles);
            column += comptime!(planes * BLOCK);
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

    /// Adds up the planes and writes, where `adds` is set with `base` added.
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
}
