//! The GPU's version: tensor cores where there are any, else the backend's matmul.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::FewRowsOps;
use crate::kernel::rows::cube::empty;
use crate::kernel::tensor_cores::{self, BLOCK, Launch};

mod kernels {
    use burn_cubecl::cubecl::{self, prelude::*};

    use crate::kernel::tensor_cores::{
        BLOCK, LANE_COLUMNS, LANES, OUT_ROWS, QUAD, STEPS, Two, X_ROWS, gather_sums, multiply,
        no_sums, read_pairs, read_x, rows_of, sum_of, x_starts_of,
    };

    /// `output = scale·x·weightᵀ`, where `adds` is set added to `base`. Rows of the weight begin `pitch` elements apart;
    /// see [`crate::kernel::tensor_cores`]. While a block is multiplied, the next one is on its way.
    #[cube(launch)]
    #[allow(clippy::too_many_arguments, reason = "buffers of a kernel")]
    pub fn few_rows<E: Float, N: Size>(
        x: &[Vector<E, N>],
        weight: &[Vector<E, N>],
        base: &[E],
        output: &mut [E],
        x_rows: usize,
        rows: usize,
        columns: usize,
        pitch: usize,
        scale: f32,
        #[comptime] adds: bool,
        #[comptime] tiles: usize,
        #[comptime] planes: usize,
        #[comptime] is_whole: bool,
        #[define(E)] _dtype: ElemType,
    ) {
        let lane = UNIT_POS_X as usize;
        let lane_column = lane % QUAD * LANE_COLUMNS;
        let mut starts = Array::<usize>::new(2usize);
        #[unroll]
        for half in 0..2usize {
            let row = CUBE_POS_X as usize * OUT_ROWS + comptime!(half * X_ROWS) + lane / QUAD;
            starts[half] = clamp_max(row, rows - 1) * pitch + lane_column;
        }
        let x_starts = x_starts_of(x_rows, columns, tiles);
        let mut sums = no_sums(tiles);

        // Each plane has blocks of its own, and stops after its last.
        let mut column = UNIT_POS_Y as usize * BLOCK;
        let mut at = select(column < columns, column, 0usize);
        let left = left_of(columns, at + lane_column);
        let mut weights = read_weight::<E, N>(weight, &starts, at, left, is_whole);
        let mut values = read_x::<E, N>(x, &x_starts, at, left, tiles, is_whole);
        while column < columns {
            column += comptime!(planes * BLOCK);
            // After the last block it is no matter what is read.
            at = select(column < columns, column, at);
            let left = left_of(columns, at + lane_column);
            let next_weights = read_weight::<E, N>(weight, &starts, at, left, is_whole);
            let next_values = read_x::<E, N>(x, &x_starts, at, left, tiles, is_whole);
            #[unroll]
            for step in 0..STEPS {
                let mut a = Array::<Vector<E, Two>>::new(4usize);
                #[unroll]
                for half in 0..2usize {
                    let pair = comptime!(2 * (half * STEPS + step));
                    a[half] = weights[pair];
                    a[2 + half] = weights[comptime!(pair + 1)];
                }
                multiply(&a, &values, &mut sums, step, tiles);
            }
            weights = next_weights;
            values = next_values;
        }
        let gathered = gather_sums(&sums, tiles, planes);
        let mut index = UNIT_POS as usize;
        while index < comptime!(tiles * X_ROWS * OUT_ROWS) {
            let (x_row, row) = rows_of(index, tiles);
            if x_row < x_rows && row < rows {
                let place = x_row * rows + row;
                let mut sum = scale * sum_of(&gathered, index, tiles, planes);
                if comptime!(adds) {
                    sum += f32::cast_from(base[place]);
                }
                output[place] = E::cast_from(sum);
            }
            index += comptime!(planes * LANES);
        }
    }

    /// Columns from `column` to the end of the row.
    #[cube]
    fn left_of(columns: usize, column: usize) -> usize {
        columns - min(column, columns)
    }

    /// The block from `column` on: 8 pairs of the upper row, then those of the lower.
    #[cube]
    fn read_weight<E: Float, N: Size>(
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
}

/// The widest vector that begins at every row of both.
fn vector_size(x: &CubeTensor, weight: &CubeTensor) -> Option<usize> {
    let bytes = weight.handle.offset_start.unwrap_or(0) as usize;
    let [columns, pitch] = [weight.meta.shape()[1], weight.meta.strides()[0]];
    let fits = |size: &usize| {
        let begins = [columns, pitch, bytes / weight.dtype.size()];
        *size >= 2 && begins.iter().all(|begin| begin.is_multiple_of(*size))
    };
    x.client
        .io_optimized_vector_sizes(x.dtype.size())
        .find(fits)
}

/// `scale·x·weightᵀ`, added to `base` if there is one; `None` where this is not for tensor cores.
fn few_rows(
    base: Option<CubeTensor>,
    x: &CubeTensor,
    weight: &CubeTensor,
    scale: f64,
) -> Option<CubeTensor> {
    let [x_rows, columns] = [x.meta.shape()[0], x.meta.shape()[1]];
    let (rows, pitch) = (weight.meta.shape()[0], weight.meta.strides()[0]);
    let is_row_by_row = weight.meta.strides()[1] == 1;
    if !is_row_by_row || !tensor_cores::are_there(&x.client, x.dtype) {
        return None;
    }
    let size = vector_size(x, weight)?;
    let output = empty(x, [x_rows, rows], x.dtype);
    let launch = Launch::new(x_rows, rows, columns.div_ceil(BLOCK));
    let adds = base.is_some();
    kernels::few_rows::launch(
        &x.client,
        launch.cubes,
        launch.dim,
        size,
        x.clone().into_buffer_arg(),
        weight.clone().into_buffer_arg(),
        // Not read where nothing is added.
        base.unwrap_or_else(|| x.clone()).into_buffer_arg(),
        output.clone().into_buffer_arg(),
        x_rows,
        rows,
        columns,
        pitch,
        scale as f32,
        adds,
        launch.tiles,
        launch.planes,
        columns.is_multiple_of(BLOCK),
        dtype_to_storage_type(output.dtype),
    );
    Some(output)
}

impl FewRowsOps for CubeBackend {
    fn few_rows_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
        let x = into_contiguous(x);
        few_rows(None, &x, &weight, 1.0)
            .unwrap_or_else(|| Self::float_matmul(x, Self::float_swap_dims(weight, 0, 1)))
    }

    fn add_few_rows_linear(
        base: FloatTensor<Self>,
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        scale: f64,
    ) -> FloatTensor<Self> {
        let [base, x] = [base, x].map(into_contiguous);
        few_rows(Some(base.clone()), &x, &weight, scale).unwrap_or_else(|| {
            let product = Self::float_matmul(x, Self::float_swap_dims(weight, 0, 1));
            Self::float_add(base, Self::float_mul_scalar(product, scale.into()))
        })
    }
}
