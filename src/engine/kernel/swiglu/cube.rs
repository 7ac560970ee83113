//! SwiGLU on CubeCL: one unit for each few neighbouring values.
//!
//! Run on lavapipe only; its speed on CUDA has not been measured.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;

use super::{SwigluBackwardOps, SwigluOps};
use crate::kernel::rows::cube::{elementwise, like, vector_size};

#[allow(
    clippy::too_many_arguments,
    reason = "the arguments of a kernel are what it is launched with"
)]
mod kernels {
    use burn_cubecl::cubecl::{self, prelude::*};

    #[cube]
    fn sigmoid<N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
        let one = Vector::<f32, N>::new(1.0f32);
        one / (one + (-x).exp())
    }

    #[cube(launch)]
    pub fn forward<F: Float, N: Size>(
        gate: &[Vector<F, N>],
        up: &[Vector<F, N>],
        y: &mut [Vector<F, N>],
        vectors: usize,
        #[define(F)] _dtype: ElemType,
    ) {
        if ABSOLUTE_POS >= vectors {
            terminate!();
        }
        let x = Vector::<f32, N>::cast_from(gate[ABSOLUTE_POS]);
        let silu = x * sigmoid::<N>(x);
        y[ABSOLUTE_POS] = Vector::cast_from(silu * Vector::<f32, N>::cast_from(up[ABSOLUTE_POS]));
    }

    #[cube(launch)]
    pub fn backward<F: Float, N: Size>(
        gradient: &[Vector<F, N>],
        gate: &[Vector<F, N>],
        up: &[Vector<F, N>],
        of_gate: &mut [Vector<F, N>],
        of_up: &mut [Vector<F, N>],
        vectors: usize,
        #[define(F)] _dtype: ElemType,
    ) {
        if ABSOLUTE_POS >= vectors {
            terminate!();
        }
        let gradient = Vector::<f32, N>::cast_from(gradient[ABSOLUTE_POS]);
        let x = Vector::<f32, N>::cast_from(gate[ABSOLUTE_POS]);
        let up = Vector::<f32, N>::cast_from(up[ABSOLUTE_POS]);
        let sigmoid = sigmoid::<N>(x);
        let silu = x * sigmoid;
        let one = Vector::<f32, N>::new(1.0f32);
        let slope = sigmoid + silu * (one - sigmoid);
        of_gate[ABSOLUTE_POS] = Vector::cast_from(gradient * up * slope);
        of_up[ABSOLUTE_POS] = Vector::cast_from(gradient * silu);
    }
}

impl SwigluOps for CubeBackend {
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let (gate, up) = (into_contiguous(gate), into_contiguous(up));
        let y = like(&gate);
        let client = gate.client.clone();
        let dtype = dtype_to_storage_type(gate.dtype);
        let count = gate.meta.num_elements();
        let size = vector_size(&gate, count);
        let (cubes, units) = elementwise(&client, count / size);
        kernels::forward::launch(
            &client,
            cubes,
            units,
            size,
            gate.into_buffer_arg(),
            up.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            count / size,
            dtype,
        );
        y
    }
}

impl SwigluBackwardOps for CubeBackend {
    fn swiglu_backward(
        gradient: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let gradient = into_contiguous(gradient);
        let (gate, up) = (into_contiguous(gate), into_contiguous(up));
        let (grad_gate, grad_up) = (like(&gate), like(&gate));
        let client = gate.client.clone();
        let dtype = dtype_to_storage_type(gate.dtype);
        let count = gate.meta.num_elements();
        let size = vector_size(&gate, count);
        let (cubes, units) = elementwise(&client, count / size);
        kernels::backward::launch(
            &client,
            cubes,
            units,
            size,
            gradient.into_buffer_arg(),
            gate.into_buffer_arg(),
            up.into_buffer_arg(),
            grad_gate.clone().into_buffer_arg(),
            grad_up.clone().into_buffer_arg(),
            count / size,
            dtype,
        );
        (grad_gate, grad_up)
    }
}
