//! Rows of matrices on CubeCL: launch shapes, and sums and maxima over the units of a cube.

use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::ir::features::Plane;
use burn_cubecl::cubecl::prelude::{BufferArg, CubeCount, CubeDim};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

pub use kernels::{add_lanes, reduce_max, reduce_sum};

/// The shares of a matrix's rows: one cube per row.
pub struct RowLaunch {
    /// At least one cube per row; a kernel must stop the cubes after the last row.
    pub cubes: CubeCount,
    /// Units that share a row.
    pub dim: CubeDim,
    /// The same as a number.
    pub units: u32,
    /// Units of a plane (warp) if all planes are of one size and can add up; otherwise 0.
    pub plane: u32,
}

impl RowLaunch {
    /// Cubes for `rows` rows of `width` loads each.
    pub fn new(client: &Client, rows: usize, width: usize) -> Self {
        let hardware = &client.properties().hardware;
        // cubecl announces no planes on a software driver, though lavapipe has them: the tests use
        // them all the same, because CUDA does.
        let has_planes = cfg!(test) || client.properties().features.plane.contains(Plane::Ops);
        let (smallest, largest) = (hardware.plane_size_min, hardware.plane_size_max);
        let plane = if has_planes && smallest == largest {
            largest
        } else {
            0
        };
        // Planes are whole, and the tree of a reduction without planes halves evenly.
        let most = hardware.max_units_per_cube.min(256).max(plane);
        let mut units = plane.max(32).min(most);
        while units * 2 <= most && (units as usize) < width {
            units *= 2;
        }
        let dim = CubeDim::new_1d(units);
        Self {
            cubes: calculate_cube_count_elemwise(client, rows * units as usize, dim),
            dim,
            units,
            plane,
        }
    }
}

/// Cubes for `count` independent units.
pub fn elementwise(client: &Client, count: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(client, count);
    (calculate_cube_count_elemwise(client, count, dim), dim)
}

/// The widest load, in values, that divides `width` evenly.
pub fn vector_size(x: &CubeTensor, width: usize) -> usize {
    x.client
        .io_optimized_vector_sizes(x.dtype.size())
        .find(|&size| width.is_multiple_of(size))
        .unwrap_or(1)
}

/// A new tensor on the device of `x`.
pub fn empty(x: &CubeTensor, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
    empty_device_contiguous_dtype(x.client.clone(), x.device.clone(), shape.into(), dtype)
}

/// A new tensor of the same shape and type.
pub fn like(x: &CubeTensor) -> CubeTensor {
    empty(x, x.meta.shape().clone(), x.dtype)
}

/// The target of a kernel whose result has the shape of `x`, which must be contiguous and the kernel's first
/// argument: over `x` itself if no other tensor shares its buffer, otherwise into a new tensor.
pub fn in_place_of(x: &CubeTensor) -> (CubeTensor, BufferArg) {
    if x.can_mut() {
        (x.clone(), x.as_tensor_alias(0).into_buffer_arg())
    } else {
        let result = like(x);
        (result.clone(), result.into_buffer_arg())
    }
}

mod kernels {
    use burn_cubecl::cubecl::{self, prelude::*};

    /// Sum of the lanes of a vector.
    #[cube]
    pub fn add_lanes<N: Size>(values: Vector<f32, N>) -> f32 {
        let mut sum = f32::new(0.0);
        #[unroll]
        for lane in 0..N::value() {
            sum += values.extract(lane);
        }
        sum
    }

    /// Sum over the units of a cube, known to every unit. All units must take part.
    #[cube]
    pub fn reduce_sum(value: f32, #[comptime] units: u32, #[comptime] plane: u32) -> f32 {
        if comptime!(plane > 0) {
            let planes = comptime!((units / plane) as usize);
            let mut shared = Shared::<[f32]>::new_slice(planes);
            let of_plane = plane_sum(value);
            if UNIT_POS.is_multiple_of(plane) {
                shared[(UNIT_POS / plane) as usize] = of_plane;
            }
            sync_cube();
            let mut total = f32::new(0.0);
            for i in 0..planes {
                total += shared[i];
            }
            total
        } else {
            let mut shared = Shared::<[f32]>::new_slice(comptime!(units as usize));
            shared[UNIT_POS as usize] = value;
            sync_cube();
            let mut half = comptime!(units / 2).runtime();
            while half > 0 {
                if UNIT_POS < half {
                    let other = shared[(UNIT_POS + half) as usize];
                    shared[UNIT_POS as usize] += other;
                }
                sync_cube();
                half /= 2;
            }
            shared[0]
        }
    }

    /// Largest value over the units of a cube, known to every unit. All units must take part.
    #[cube]
    pub fn reduce_max(value: f32, #[comptime] units: u32, #[comptime] plane: u32) -> f32 {
        if comptime!(plane > 0) {
            let planes = comptime!((units / plane) as usize);
            let mut shared = Shared::<[f32]>::new_slice(planes);
            let of_plane = plane_max(value);
            if UNIT_POS.is_multiple_of(plane) {
                shared[(UNIT_POS / plane) as usize] = of_plane;
            }
            sync_cube();
            let mut largest = shared[0];
            for i in 1..planes {
                largest = max(largest, shared[i]);
            }
            largest
        } else {
            let mut shared = Shared::<[f32]>::new_slice(comptime!(units as usize));
            shared[UNIT_POS as usize] = value;
            sync_cube();
            let mut half = comptime!(units / 2).runtime();
            while half > 0 {
                if UNIT_POS < half {
                    let other = shared[(UNIT_POS + half) as usize];
                    shared[UNIT_POS as usize] = max(shared[UNIT_POS as usize], other);
                }
                sync_cube();
                half /= 2;
            }
            shared[0]
        }
    }

    /// For the tests: sum and maximum of one cube's values.
    #[cfg(all(test, feature = "wgpu"))]
    #[cube(launch)]
    pub fn test_reductions(
        x: &[f32],
        results: &mut [f32],
        #[comptime] units: u32,
        #[comptime] plane: u32,
    ) {
        let value = x[UNIT_POS as usize];
        let sum = reduce_sum(value, units, plane);
        let largest = reduce_max(value, units, plane);
        if UNIT_POS == 0 {
            results[0] = sum;
            results[1] = largest;
        }
    }
}

#[cfg(all(test, feature = "wgpu"))]
mod tests;
