//! The GPU's version: one unit for each few neighbouring values.

use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::InPlaceOps;
use crate::kernel::rows::cube::{elementwise, in_place_of, vector_size};

mod kernels {
    use burn_cubecl::cubecl::{self, prelude::*};

    /// A unit for each few neighbouring pairs of all heads: queries, then keys, then values.
    #[cube(launch)]
    #[allow(clippy::too_many_arguments, reason = "buffers of a kernel")]
    pub fn append_rotated<F: Float, N: Size>(
        query: &[Vector<F, N>],
        key: &[Vector<F, N>],
        value: &[Vector<F, N>],
        cos: &[Vector<F, N>],
        sin: &[Vector<F, N>],
        filled: &[i32],
        rotated: &mut [Vector<F, N>],
        keys: &mut [Vector<F, N>],
        values: &mut [Vector<F, N>],
        heads: usize,
        kv_heads: usize,
        half: usize,
        capacity: usize,
        units: usize,
        #[define(F)] _dtype: ElemType,
    ) {
        if ABSOLUTE_POS >= units {
            terminate!();
        }
        let (place, head) = (ABSOLUTE_POS % half, ABSOLUTE_POS / half);
        let all = heads + 2 * kv_heads;
        let (row, head) = (head / all, head % all);
        let angle = row * 2 * half + place;
        let cos = Vector::<f32, N>::cast_from(cos[angle]);
        let sin = Vector::<f32, N>::cast_from(sin[angle]);
        if head < heads {
            let first = (row * heads + head) * 2 * half + place;
            let a = Vector::<f32, N>::cast_from(query[first]);
            let b = Vector::<f32, N>::cast_from(query[first + half]);
            rotated[first] = Vector::cast_from(a * cos - b * sin);
            rotated[first + half] = Vector::cast_from(b * cos + a * sin);
        } else {
            let kv = (head - heads) % kv_heads;
            let first = (row * kv_heads + kv) * 2 * half + place;
            let column = filled[0] as usize - 1;
            let target = ((row * kv_heads + kv) * capacity + column) * 2 * half + place;
            if head < heads + kv_heads {
                let a = Vector::<f32, N>::cast_from(key[first]);
                let b = Vector::<f32, N>::cast_from(key[first + half]);
                keys[target] = Vector::cast_from(a * cos - b * sin);
                keys[target + half] = Vector::cast_from(b * cos + a * sin);
            } else {
                values[target] = value[first];
                values[target + half] = value[first + half];
            }
        }
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
    fn append_rotated(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        filled: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [query, key, value, cos, sin] = [query, key, value, cos, sin].map(into_contiguous);
        // CUDA leaves gaps between rows of some lengths; then the result is another buffer.
        let [keys, values, filled] = [keys, values, filled].map(into_contiguous);
        let (rows, heads, dim) = (query.shape()[0], query.shape()[1], query.shape()[2]);
        let (kv_heads, capacity) = (key.shape()[1], keys.shape()[1]);
        let client = query.client.clone();
        let size = vector_size(&query, dim / 2);
        let half = dim / 2 / size;
        let units = rows * (heads + 2 * kv_heads) * half;
        let dtype = dtype_to_storage_type(query.dtype);
        // A unit reads both halves of its pairs before it writes them.
        let (rotated, target) = in_place_of(&query);
        let (cubes, dim_of_cube) = elementwise(&client, units);
        kernels::append_rotated::launch(
            &client,
            cubes,
            dim_of_cube,
            size,
            query.into_buffer_arg(),
            key.into_buffer_arg(),
            value.into_buffer_arg(),
            cos.into_buffer_arg(),
            sin.into_buffer_arg(),
            filled.into_buffer_arg(),
            target,
            keys.clone().into_buffer_arg(),
            values.clone().into_buffer_arg(),
            heads,
            kv_heads,
            half,
            capacity,
            units,
            dtype,
        );
        (rotated, keys, values)
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
