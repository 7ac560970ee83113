//! Rotation on CubeCL: a unit for each few neighbouring pairs, in place if possible.

use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;

use super::RotaryOps;
use crate::kernel::rows::cube::{elementwise, in_place_of, vector_size};

mod kernels {
    use burn_cubecl::cubecl::{self, prelude::*};

    #[cube(launch)]
    #[allow(clippy::too_many_arguments)] // Kernels take buffers and numbers one by one.
    pub fn rotate<F: Float, N: Size>(
        x: &[Vector<F, N>],
        cos: &[Vector<F, N>],
        sin: &[Vector<F, N>],
        y: &mut [Vector<F, N>],
        heads: usize,
        half: usize,
        units: usize,
        #[comptime] back: bool,
        #[define(F)] _dtype: ElemType,
    ) {
        if ABSOLUTE_POS >= units {
            terminate!();
        }
        let (head, place) = (ABSOLUTE_POS / half, ABSOLUTE_POS % half);
        let first = head * 2 * half + place;
        let angle = head / heads * 2 * half + place;
        let cos = Vector::<f32, N>::cast_from(cos[angle]);
        let mut sin = Vector::<f32, N>::cast_from(sin[angle]);
        if comptime!(back) {
            sin = -sin;
        }
        let a = Vector::<f32, N>::cast_from(x[first]);
        let b = Vector::<f32, N>::cast_from(x[first + half]);
        y[first] = Vector::cast_from(a * cos - b * sin);
        y[first + half] = Vector::cast_from(b * cos + a * sin);
    }
}

impl RotaryOps for CubeBackend {
    fn rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        back: bool,
    ) -> FloatTensor<Self> {
        let [x, cos, sin] = [x, cos, sin].map(into_contiguous);
        let (heads, dim) = (x.shape()[1], x.shape()[2]);
        let client = x.client.clone();
        let dtype = dtype_to_storage_type(x.dtype);
        let size = vector_size(&x, dim / 2);
        let units = x.meta.num_elements() / 2 / size;
        // A unit reads both halves of its pairs before it writes them.
        let (y, target) = in_place_of(&x);
        let (cubes, dim_of_cube) = elementwise(&client, units);
        kernels::rotate::launch(
            &client,
            cubes,
            dim_of_cube,
            size,
            x.into_buffer_arg(),
            cos.into_buffer_arg(),
            sin.into_buffer_arg(),
            target,
            heads,
            dim / 2 / size,
            units,
            back,
            dtype,
        );
        y
    }
}
