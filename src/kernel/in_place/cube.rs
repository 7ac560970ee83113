//! The GPU's version: one unit for each few neighbouring values.

use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::InPlaceOps;
use crate::kernel::rows::cube::{elementwise, vector_size};

mod kernels {
    use burn_cubecl::cubecl::{self, prelude::*};

    #[cube(launch)]
    pub fn append<E: Numeric, N: Size>(
        new: &[Vector<E, N>],
        filled: &[i32],
        cache: &mut [Vector<E, N>],
        capacity: usize,
        width: usize,
        vectors: usize,
        #[define(E)] _dtype: ElemType,
    ) {
        if ABSOLUTE_POS >= vectors {
            terminate!();
        }
        let (row, place) = (ABSOLUTE_POS / width, ABSOLUTE_POS % width);
        let column = filled[0] as usize - 1;
        cache[(row * capacity + column) * width + place] = new[ABSOLUTE_POS];
    }

    #[cube(launch)]
    pub fn write<E: Numeric>(
        values: &[E],
        target: &mut [E],
        count: usize,
        #[define(E)] _dtype: ElemType,
    ) {
        if ABSOLUTE_POS >= count {
            terminate!();
        }
        target[ABSOLUTE_POS] = values[ABSOLUTE_POS];
    }
}

impl InPlaceOps for CubeBackend {
    fn append_column(
        cache: FloatTensor<Self>,
        new: FloatTensor<Self>,
        filled: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        let (new, filled) = (into_contiguous(new), into_contiguous(filled));
        // CUDA leaves gaps between rows of some lengths; then the answer is another buffer.
        let cache = into_contiguous(cache);
        let (rows, capacity, dim) = (cache.shape()[0], cache.shape()[1], cache.shape()[2]);
        let client = cache.client.clone();
        let size = vector_size(&cache, dim);
        let vectors = rows * dim / size;
        let (cubes, units) = elementwise(&client, vectors);
        kernels::append::launch(
            &client,
            cubes,
            units,
            size,
            new.into_buffer_arg(),
            filled.into_buffer_arg(),
            cache.clone().into_buffer_arg(),
            capacity,
            dim / size,
            vectors,
            dtype_to_storage_type(cache.dtype),
        );
        cache
    }

    fn overwrite(target: FloatTensor<Self>, values: FloatTensor<Self>) -> FloatTensor<Self> {
        write(target, values)
    }

    fn overwrite_ints(target: IntTensor<Self>, values: IntTensor<Self>) -> IntTensor<Self> {
        write(target, values)
    }
}

fn write(target: CubeTensor, values: CubeTensor) -> CubeTensor {
    let values = into_contiguous(values);
    assert!(target.is_contiguous(), "a target with gaps");
    let client = target.client.clone();
    let count = target.meta.num_elements();
    let (cubes, units) = elementwise(&client, count);
    kernels::write::launch(
        &client,
        cubes,
        units,
        values.into_buffer_arg(),
        target.clone().into_buffer_arg(),
        count,
        dtype_to_storage_type(target.dtype),
    );
    target
}
