//! The GPU's version: tensor cores if there are any, else the backend's matmul.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::FewRowsOps;
use crate::kernel::rows::cube::empty;
use crate::kernel::tensor_cores::{AddedBuffers, BLOCK, Launch, Terms, are_there};

mod kernels {
    use burn_cubecl::cubecl::{self, prelude::*};

    use crate::kernel::tensor_cores::{
        BLOCK, LowRankPart, add_low_rank, left_of, multiply_dense, no_sums, read_weight, read_x,
        weight_starts, write_sums, x_starts_of,
    };

    /// `output = x·weightᵀ`, where rows of the weight begin `pitch` elements apart, and the terms to add; see
    /// [`crate::kernel::tensor_cores`]. While a block is multiplied, the next one is being loaded.
    #[cube(launch)]
    #[allow(clippy::too_many_arguments, reason = "buffers of a kernel")]
    pub fn few_rows<E: Float, N: Size>(
        x: &[Vector<E, N>],
        weight: &[Vector<E, N>],
        base: &[E],
        inner: &[Vector<E, N>],
        factor: &[Vector<E, N>],
        output: &mut [E],
        x_rows: usize,
        rows: usize,
        columns: usize,
        pitch: usize,
        rank: usize,
        factor_pitch: usize,
        scale: f32,
        #[comptime] adds: bool,
        #[comptime] low_rank: LowRankPart,
        #[comptime] tiles: usize,
        #[comptime] planes: usize,
        #[comptime] is_whole: bool,
        #[define(E)] _dtype: ElemType,
    ) {
        let starts = weight_starts(rows, pitch);
        let x_starts = x_starts_of(x_rows, columns, tiles);

        // Each plane has its own blocks, and stops after its last.
        let mut column = UNIT_POS_Y as usize * BLOCK;
        let mut at = select(column < columns, column, 0usize);
        let left = left_of(columns, at);
        let mut weights = read_weight::<E, N>(weight, &starts, at, left, is_whole);
        let mut values = read_x::<E, N>(x, &x_starts, at, left, tiles, is_whole);
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
        while column < columns {
            column += comptime!(planes * BLOCK);
            // After the last block it does not matter what is read.
            at = select(column < columns, column, at);
            let left = left_of(columns, at);
            let next_weights = read_weight::<E, N>(weight, &starts, at, left, is_whole);
            let next_values = read_x::<E, N>(x, &x_starts, at, left, tiles, is_whole);
            multiply_dense(&weights, &values, &mut sums, tiles);
            weights = next_weights;
            values = next_values;
        }
        write_sums(&sums, base, output, x_rows, rows, adds, tiles, planes);
    }
}

impl FewRowsOps for CubeBackend {
    fn few_rows_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        base: FloatTensor<Self>,
        inner: FloatTensor<Self>,
        factor: FloatTensor<Self>,
        terms: Terms,
    ) -> FloatTensor<Self> {
        let x = into_contiguous(x);
        let added = AddedBuffers::new([base, inner, factor], terms);
        let columns = x.meta.shape()[1];
        match added.vector_size(Some(&weight), columns) {
            Some(size) if are_there(&x.client, x.dtype) => few_rows(x, weight, added, size),
            _ => added.add_to(Self::float_matmul(x, Self::float_swap_dims(weight, 0, 1))),
        }
    }
}

fn few_rows(x: CubeTensor, weight: CubeTensor, added: AddedBuffers, size: usize) -> CubeTensor {
    let [x_rows, columns] = [x.meta.shape()[0], x.meta.shape()[1]];
    let (rows, pitch) = (weight.meta.shape()[0], weight.meta.strides()[0]);
    let output = empty(&x, [x_rows, rows], x.dtype);
    let launch = Launch::new(x_rows, rows, columns.div_ceil(BLOCK), usize::MAX);
    let (rank, factor_pitch, terms) = (added.rank(), added.pitch(), added.terms);
    let low_rank = added.low_rank();
    kernels::few_rows::launch(
        &x.client.clone(),
        launch.cubes,
        launch.dim,
        size,
        x.into_buffer_arg(),
        weight.into_buffer_arg(),
        added.base.into_buffer_arg(),
        added.inner.into_buffer_arg(),
        added.factor.into_buffer_arg(),
        output.clone().into_buffer_arg(),
        x_rows,
        rows,
        columns,
        pitch,
        rank,
        factor_pitch,
        terms.scale.unwrap_or(0.0) as f32,
        terms.has_base,
        low_rank,
        launch.tiles,
        launch.planes,
        columns.is_multiple_of(BLOCK),
        dtype_to_storage_type(output.dtype),
    );
    output
}
