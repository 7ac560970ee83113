//! RMSNorm on CubeCL: one cube a row; the weight's gradient in two sums over columns.
//!
//! Run on lavapipe only; its speed on CUDA has not been measured.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::FloatTensor;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;

use super::{RmsNormBackwardOps, RmsNormOps};
use crate::kernel::rows::cube::{RowLaunch, elementwise, empty, like, vector_size};

/// Rows that one unit adds up for the weight's gradient.
const ROWS_PER_PARTIAL: usize = 64;

#[allow(
    clippy::too_many_arguments,
    reason = "the arguments of a kernel are what it is launched with"
)]
mod kernels {
    use burn_cubecl::cubecl::{self, prelude::*};

    use crate::kernel::rows::cube::{add_lanes, reduce_sum};

    #[cube(launch)]
    pub fn forward<F: Float, N: Size>(
        x: &[Vector<F, N>],
        weight: &[Vector<F, N>],
        y: &mut [Vector<F, N>],
        inverse_rms: &mut [f32],
        rows: usize,
        vectors: usize,
        hidden: f32,
        eps: f32,
        #[comptime] units: u32,
        #[comptime] plane: u32,
        #[define(F)] _dtype: ElemType,
    ) {
        if CUBE_POS >= rows {
            terminate!();
        }
        let start = CUBE_POS * vectors;
        let mut squares = Vector::<f32, N>::new(0.0f32);
        let mut i = UNIT_POS as usize;
        while i < vectors {
            let values = Vector::<f32, N>::cast_from(x[start + i]);
            squares += values * values;
            i += comptime!(units as usize);
        }
        let sum = reduce_sum(add_lanes::<N>(squares), units, plane);
        let inverse = f32::new(1.0) / (sum / hidden + eps).sqrt();
        if UNIT_POS == 0 {
            inverse_rms[CUBE_POS] = inverse;
        }
        let mut i = UNIT_POS as usize;
        while i < vectors {
            let values = Vector::<f32, N>::cast_from(x[start + i]);
            // Rounded before the weight is applied, as HF does.
            let normed = Vector::<F, N>::cast_from(values * Vector::new(inverse));
            y[start + i] = normed * weight[i];
            i += comptime!(units as usize);
        }
    }

    #[cube(launch)]
    pub fn of_x<F: Float, N: Size>(
        gradient: &[Vector<F, N>],
        x: &[Vector<F, N>],
        weight: &[Vector<F, N>],
        inverse_rms: &[f32],
        of_x: &mut [Vector<F, N>],
        rows: usize,
        vectors: usize,
        hidden: f32,
        #[comptime] units: u32,
        #[comptime] plane: u32,
        #[define(F)] _dtype: ElemType,
    ) {
        if CUBE_POS >= rows {
            terminate!();
        }
        let start = CUBE_POS * vectors;
        let mut products = Vector::<f32, N>::new(0.0f32);
        let mut i = UNIT_POS as usize;
        while i < vectors {
            let weighted = Vector::<f32, N>::cast_from(gradient[start + i])
                * Vector::<f32, N>::cast_from(weight[i]);
            products += weighted * Vector::<f32, N>::cast_from(x[start + i]);
            i += comptime!(units as usize);
        }
        let sum = reduce_sum(add_lanes::<N>(products), units, plane);
        let inverse = inverse_rms[CUBE_POS];
        let of_length = inverse * inverse * inverse * (sum / hidden);
        let mut i = UNIT_POS as usize;
        while i < vectors {
            let weighted = Vector::<f32, N>::cast_from(gradient[start + i])
                * Vector::<f32, N>::cast_from(weight[i]);
            let values = Vector::<f32, N>::cast_from(x[start + i]);
            of_x[start + i] = Vector::cast_from(
                weighted * Vector::new(inverse) - values * Vector::new(of_length),
            );
            i += comptime!(units as usize);
        }
    }

    /// Sums `g · x / rms` over some rows of each column.
    #[cube(launch)]
    pub fn of_weight<F: Float>(
        gradient: &[F],
        x: &[F],
        inverse_rms: &[f32],
        partial: &mut [f32],
        rows: usize,
        hidden: usize,
        positions: usize,
        #[comptime] rows_per_partial: usize,
        #[define(F)] _dtype: ElemType,
    ) {
        if ABSOLUTE_POS >= positions {
            terminate!();
        }
        let column = ABSOLUTE_POS % hidden;
        let first = ABSOLUTE_POS / hidden * rows_per_partial;
        let end = min(first + rows_per_partial, rows);
        let mut sum = f32::new(0.0);
        #[allow(clippy::needless_range_loop)] // A kernel has no iterators.
        for row in first..end {
            let i = row * hidden + column;
            let normed = F::cast_from(f32::cast_from(x[i]) * inverse_rms[row]);
            sum += f32::cast_from(gradient[i]) * f32::cast_from(normed);
        }
        partial[ABSOLUTE_POS] = sum;
    }

    /// Adds up the partial sums of each column.
    #[cube(launch)]
    pub fn add_partial<F: Float>(
        partial: &[f32],
        of_weight: &mut [F],
        partials: usize,
        hidden: usize,
        #[define(F)] _dtype: ElemType,
    ) {
        if ABSOLUTE_POS >= hidden {
            terminate!();
        }
        let mut sum = f32::new(0.0);
        for part in 0..partials {
            sum += partial[part * hidden + ABSOLUTE_POS];
        }
        of_weight[ABSOLUTE_POS] = F::cast_from(sum);
    }
}

impl RmsNormOps for CubeBackend {
    fn rms_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        eps: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (x, weight) = (into_contiguous(x), into_contiguous(weight));
        let [rows, hidden] = x.meta.shape().dims();
        let (y, inverse_rms) = (like(&x), empty(&x, [rows, 1], DType::F32));
        let client = x.client.clone();
        let size = vector_size(&x, hidden);
        let launch = RowLaunch::new(&client, rows, hidden / size);
        let dtype = dtype_to_storage_type(x.dtype);
        kernels::forward::launch(
            &client,
            launch.cubes,
            launch.dim,
            size,
            x.into_buffer_arg(),
            weight.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            inverse_rms.clone().into_buffer_arg(),
            rows,
            hidden / size,
            hidden as f32,
            eps as f32,
            launch.units,
            launch.plane,
            dtype,
        );
        (y, inverse_rms)
    }
}

impl RmsNormBackwardOps for CubeBackend {
    fn rms_norm_x_backward(
        gradient: FloatTensor<Self>,
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        inverse_rms: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (gradient, x) = (into_contiguous(gradient), into_contiguous(x));
        let (weight, inverse_rms) = (into_contiguous(weight), into_contiguous(inverse_rms));
        let [rows, hidden] = x.meta.shape().dims();
        let grad_x = like(&x);
        let client = x.client.clone();
        let size = vector_size(&x, hidden);
        let launch = RowLaunch::new(&client, rows, hidden / size);
        let dtype = dtype_to_storage_type(x.dtype);
        kernels::of_x::launch(
            &client,
            launch.cubes,
            launch.dim,
            size,
            gradient.into_buffer_arg(),
            x.into_buffer_arg(),
            weight.into_buffer_arg(),
            inverse_rms.into_buffer_arg(),
            grad_x.clone().into_buffer_arg(),
            rows,
            hidden / size,
            hidden as f32,
            launch.units,
            launch.plane,
            dtype,
        );
        grad_x
    }

    fn rms_norm_weight_backward(
        gradient: FloatTensor<Self>,
        x: FloatTensor<Self>,
        inverse_rms: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (gradient, x) = (into_contiguous(gradient), into_contiguous(x));
        let inverse_rms = into_contiguous(inverse_rms);
        let [rows, hidden] = x.meta.shape().dims();
        let partials = rows.div_ceil(ROWS_PER_PARTIAL);
        let partial = empty(&x, [partials, hidden], DType::F32);
        let grad_weight = empty(&x, [1, hidden], x.dtype);
        let client = x.client.clone();
        let dtype = dtype_to_storage_type(x.dtype);
        let (cubes, dim) = elementwise(&client, partials * hidden);
        kernels::of_weight::launch(
            &client,
            cubes,
            dim,
            gradient.into_buffer_arg(),
            x.into_buffer_arg(),
            inverse_rms.into_buffer_arg(),
            partial.clone().into_buffer_arg(),
            rows,
            hidden,
            partials * hidden,
            ROWS_PER_PARTIAL,
            dtype,
        );
        let (cubes, dim) = elementwise(&client, hidden);
        kernels::add_partial::launch(
            &client,
            cubes,
            dim,
            partial.into_buffer_arg(),
            grad_weight.clone().into_buffer_arg(),
            partials,
            hidden,
            dtype,
        );
        grad_weight
    }
}
