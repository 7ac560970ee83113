//! Dropout on CubeCL: one unit per value.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;

use super::DropoutOps;
use crate::kernel::rows::cube::{elementwise, like};

mod kernels {
    use burn_cubecl::cubecl::{self, prelude::*};

    #[cube]
    fn lowbias32(x: u32) -> u32 {
        let a = (x ^ (x >> 16)) * 0x7feb_352d;
        let b = (a ^ (a >> 15)) * 0x846c_a68b;
        b ^ (b >> 16)
    }

    /// One unit per value.
    #[cube(launch)]
    pub fn dropout<F: Float>(
        x: &[F],
        keys: &[u32],
        y: &mut [F],
        width: usize,
        salt: u32,
        threshold: u32,
        scale: f32,
        #[define(F)] _dtype: ElemType,
    ) {
        if ABSOLUTE_POS >= y.len() {
            terminate!();
        }
        let token = ABSOLUTE_POS / width;
        let column = (ABSOLUTE_POS % width) as u32;
        let row = lowbias32(lowbias32(keys[token * 2] ^ salt) ^ keys[token * 2 + 1]);
        let hash = lowbias32(row ^ (column * 0x9e37_79b9));
        let kept = f32::cast_from(x[ABSOLUTE_POS]) * scale;
        y[ABSOLUTE_POS] = F::cast_from(select(hash < threshold, 0.0, kept));
    }
}

impl DropoutOps for CubeBackend {
    fn dropout(
        x: FloatTensor<Self>,
        keys: IntTensor<Self>,
        salt: usize,
        threshold: usize,
        scale: f32,
    ) -> FloatTensor<Self> {
        let (x, keys) = (into_contiguous(x), into_contiguous(keys));
        let y = like(&x);
        let client = x.client.clone();
        let width = x.meta.shape()[1];
        let (cubes, units) = elementwise(&client, x.meta.num_elements());
        let dtype = dtype_to_storage_type(x.dtype);
        kernels::dropout::launch(
            &client,
            cubes,
            units,
            x.into_buffer_arg(),
            keys.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            width,
            salt as u32,
            threshold as u32,
            scale,
            dtype,
        );
        y
    }
}
