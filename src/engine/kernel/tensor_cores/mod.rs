//! `x·Wᵀ` for few rows of `x` on tensor cores: what the kernels for dense weights and for NF4 share.
//!
//! The `mma` of 16×8×16 multiplies 16 rows of the weight by 8 rows of `x`, a tile. A plane takes 64 columns of both at a
//! time, a block, of which lane `4·q + p` reads columns `16·p` to `16·p + 15`: of rows `q` and `q + 8` of the weight, and of
//! row `q` of each tile, in loads of 16 bytes straight into registers. To the `mma` these are columns `2·p`,
//! `2·p + 1`, `2·p + 8` and `2·p + 9` of four times 16, which changes only the order of the sum.
//!
//! The planes of a cube share the blocks of a row, so that a matrix of 1024 rows keeps a whole GPU busy, and are summed
//! in their order. An output element therefore depends only on its row of `x`: completions that leave the
//! batch do not change the others.

mod pieces;

use burn::backend::ops::FloatTensorOps;
use burn::tensor::{DType, Device, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::ir::features::{MmaConfig, Plane};
use burn_cubecl::cubecl::ir::{ElemType, FloatKind};
use burn_cubecl::cubecl::prelude::{CubeCount, CubeDim};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

pub use pieces::*;

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

/// Rows of `x` that are multiplied in one pass. Another pass reads the weight again, by then from the second-level cache:
/// 29 MB are the largest weight of an 11.5-billion-parameter model in NF4.
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

/// The terms that a kernel adds to its product.
#[derive(Clone, Copy, Debug, Default)]
pub struct Added<'a> {
    /// `[rows of x, out]`
    pub base: Option<&'a Tensor<2>>,
    /// The adapter's share.
    pub low_rank: Option<&'a LowRank>,
}

impl<'a> Added<'a> {
    /// Base, inner and factor for a backend that takes a tensor for each, and which of them count: missing ones
    /// are `x`.
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

    /// The sum in plain tensor operations.
    pub fn to(&self, product: Tensor<2>) -> Tensor<2> {
        let sum = match self.base {
            Some(base) => base.clone() + product,
            None => product,
        };
        match self.low_rank {
            Some(low_rank) => sum + low_rank.clone().product(),
            None => sum,
        }
    }
}

/// The parts of [`Added`] that exist.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Whether there is a base.
    pub has_base: bool,
    /// Of the adapter's share, if there is one.
    pub scale: Option<f64>,
}

/// The variants that a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LowRankPart {
    /// No adapter's share.
    None,
    /// A rank of whole blocks.
    Whole,
    /// Any other.
    Ragged,
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
    /// Base, inner and factor; of the first two, what is not contiguous is copied.
    pub fn new([base, inner, factor]: [CubeTensor; 3], terms: Terms) -> Self {
        Self {
            base: into_contiguous(base),
            inner: into_contiguous(inner),
            factor,
            terms,
        }
    }

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

    /// Columns of `inner`; 0 if it does not count.
    pub fn rank(&self) -> usize {
        match self.terms.scale {
            Some(_) => self.factor.meta.shape()[1],
            None => 0,
        }
    }

    /// What a kernel must expect of the adapter's share.
    pub fn low_rank(&self) -> LowRankPart {
        match self.rank() {
            0 => LowRankPart::None,
            rank if rank.is_multiple_of(BLOCK) => LowRankPart::Whole,
            _ => LowRankPart::Ragged,
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

    /// Adds the terms to a product that was computed without them.
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

/// The shares of a product.
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
    /// 8 planes are 15 for each multiprocessor of an H100 for a weight of 4096 rows. Matrices of few rows get more:
    /// most multiprocessors are idle then, and what counts is how long one row takes. 32 planes are all the threads of
    /// a cube, which leaves 64 registers to each: enough for one tile and a dense weight.
    pub fn new(x_rows: usize, rows: usize, spans: usize, most_planes: usize) -> Self {
        let cubes = rows.div_ceil(OUT_ROWS);
        let tiles = x_rows.div_ceil(X_ROWS).min(MAX_TILES);
        let most = match (cubes, tiles) {
            (..=16, 1) => 32,
            (..=64, _) => 16,
            _ => 8,
        };
        let planes = spans.next_power_of_two().min(most).min(most_planes);
        Self {
            cubes: CubeCount::Static(cubes as u32, x_rows.div_ceil(tiles * X_ROWS) as u32, 1),
            dim: CubeDim::new_2d(LANES as u32, planes as u32),
            tiles,
            planes,
        }
    }
}
