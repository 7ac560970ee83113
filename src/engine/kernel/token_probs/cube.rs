//! Token probabilities on CubeCL: one cube per row, which reads the logits once for the softmax's
//! largest value and sums together.
//!
//! Run on lavapipe only; its speed on CUDA has not been measured.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;

use super::TokenProbsOps;
use crate::kernel::rows::cube::{RowLaunch, empty, in_place_of, vector_size};

#[allow(
    clippy::too_many_arguments,
    reason = "the arguments of a kernel are what it is launched with"
)]
mod kernels {
    use burn_cubecl::cubecl::{self, prelude::*};

    use crate::kernel::rows::cube::{add_lanes, reduce_max, reduce_sum};

    /// `Σ e^(x − largest)` and `Σ e^(x − largest)·(x − largest)` of what has been read, lane by lane.
    #[derive(CubeType)]
    struct Sums<N: Size> {
        largest: Vector<f32, N>,
        total: Vector<f32, N>,
        weighted: Vector<f32, N>,
    }

    /// The sums of one row, after every unit has read its part: largest, total and weighted.
    #[cube]
    fn sums_of_row<N: Size>(
        logits: &[Vector<f32, N>],
        start: usize,
        vectors: usize,
        #[comptime] units: u32,
        #[comptime] plane: u32,
    ) -> (f32, f32, f32) {
        // Finite, so that a unit without logits brings no NaN: 0 · (lowest − largest) is 0.
        let mut sums = Sums::<N> {
            largest: Vector::new(f32::new(-3e38)),
            total: Vector::new(f32::new(0.0)),
            weighted: Vector::new(f32::new(0.0)),
        };
        let mut i = UNIT_POS as usize;
        while i < vectors {
            let x = logits[start + i];
            let largest = max(sums.largest, x);
            let fall = sums.largest - largest;
            let rescale = fall.exp();
            let difference = x - largest;
            let power = difference.exp();
            sums.weighted = rescale * (sums.weighted + fall * sums.total) + power * difference;
            sums.total = rescale * sums.total + power;
            sums.largest = largest;
            i += comptime!(units as usize);
        }
        let mut largest = sums.largest.extract(0usize);
        #[unroll]
        for lane in 1..N::value() {
            largest = max(largest, sums.largest.extract(lane));
        }
        let largest = reduce_max(largest, units, plane);
        let fall = sums.largest - Vector::new(largest);
        let rescale = fall.exp();
        let total = add_lanes::<N>(rescale * sums.total);
        let weighted = add_lanes::<N>(rescale * (sums.weighted + fall * sums.total));
        let total = reduce_sum(total, units, plane);
        let weighted = reduce_sum(weighted, units, plane);
        (largest, total, weighted)
    }

    #[cube(launch)]
    pub fn log_probs<N: Size>(
        logits: &[Vector<f32, N>],
        targets: &[u32],
        log_probs: &mut [f32],
        entropies: &mut [f32],
        rows: usize,
        vectors: usize,
        #[comptime] units: u32,
        #[comptime] plane: u32,
    ) {
        if CUBE_POS >= rows {
            terminate!();
        }
        let start = CUBE_POS * vectors;
        let (largest, total, weighted) = sums_of_row::<N>(logits, start, vectors, units, plane);
        let log_total = total.ln();
        let target = targets[CUBE_POS] as usize;
        // The unit that read the target's logit writes the results of the row.
        if UNIT_POS as usize == target / N::value() % comptime!(units as usize) {
            let vector = logits[start + target / N::value()];
            let mut logit = vector.extract(0usize);
            #[unroll]
            for lane in 1..N::value() {
                if target % N::value() == lane {
                    logit = vector.extract(lane);
                }
            }
            log_probs[CUBE_POS] = logit - largest - log_total;
            entropies[CUBE_POS] = log_total - weighted / total;
        }
    }

    #[cube(launch)]
    pub fn gradient<N: Size>(
        logits: &[Vector<f32, N>],
        targets: &[u32],
        scale: &[f32],
        gradient: &mut [Vector<f32, N>],
        rows: usize,
        vectors: usize,
        #[comptime] units: u32,
        #[comptime] plane: u32,
    ) {
        if CUBE_POS >= rows {
            terminate!();
        }
        let start = CUBE_POS * vectors;
        let (largest, total, _weighted) = sums_of_row::<N>(logits, start, vectors, units, plane);
        let target = targets[CUBE_POS] as usize;
        let scale = scale[CUBE_POS];
        let share = -(scale / total);
        // Each unit writes where it has read: `gradient` may be the buffer of `logits`.
        let mut i = UNIT_POS as usize;
        while i < vectors {
            let power = (logits[start + i] - Vector::new(largest)).exp();
            let mut of_logits = power * Vector::new(share);
            if target / N::value() == i {
                #[unroll]
                for lane in 0..N::value() {
                    if target % N::value() == lane {
                        of_logits.insert(lane, of_logits.extract(lane) + scale);
                    }
                }
            }
            gradient[start + i] = of_logits;
            i += comptime!(units as usize);
        }
    }
}

impl TokenProbsOps for CubeBackend {
    fn token_log_probs(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (logits, targets) = (into_contiguous(logits), into_contiguous(targets));
        let [rows, vocabulary] = logits.meta.shape().dims();
        let client = logits.client.clone();
        let log_probs = empty(&logits, [rows], DType::F32);
        let entropies = empty(&logits, [rows], DType::F32);
        let size = vector_size(&logits, vocabulary);
        let launch = RowLaunch::new(&client, rows, vocabulary / size);
        kernels::log_probs::launch(
            &client,
            launch.cubes,
            launch.dim,
            size,
            logits.into_buffer_arg(),
            targets.into_buffer_arg(),
            log_probs.clone().into_buffer_arg(),
            entropies.clone().into_buffer_arg(),
            rows,
            vocabulary / size,
            launch.units,
            launch.plane,
        );
        (log_probs, entropies)
    }

    fn logits_gradient(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        scale: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (logits, targets) = (into_contiguous(logits), into_contiguous(targets));
        let scale = into_contiguous(scale);
        let [rows, vocabulary] = logits.meta.shape().dims();
        let client = logits.client.clone();
        let size = vector_size(&logits, vocabulary);
        let launch = RowLaunch::new(&client, rows, vocabulary / size);
        let (gradient, written) = in_place_of(&logits);
        kernels::gradient::launch(
            &client,
            launch.cubes,
            launch.dim,
            size,
            logits.into_buffer_arg(),
            targets.into_buffer_arg(),
            scale.into_buffer_arg(),
            written,
            rows,
            vocabulary / size,
            launch.units,
            launch.plane,
        );
        gradient
    }
}
