//! SwiGLU on the CPU.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;

use super::{SwigluBackwardOps, SwigluOps};
use crate::kernel::rows::cpu::{cast, f32_rows, for_row_pairs, map_rows};
use crate::kernel::simd::{Vectorised, multiply_add, sigmoid, vectorised};

struct Forward<'a> {
    gate: &'a mut [f32],
    up: &'a [f32],
}

impl Vectorised for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (gate, &up) in self.gate.iter_mut().zip(self.up) {
            *gate = *gate * sigmoid::<FMA>(*gate) * up;
        }
    }
}

/// Both gradients, each written over its input.
struct Gradient<'a> {
    gradient: &'a [f32],
    gate: &'a mut [f32],
    up: &'a mut [f32],
}

impl Vectorised for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for ((&gradient, gate), up) in self.gradient.iter().zip(self.gate).zip(self.up) {
            let sigmoid = sigmoid::<FMA>(*gate);
            let silu = *gate * sigmoid;
            // silu′ = σ + x·σ·(1 − σ)
            let slope = multiply_add::<FMA>(silu, 1.0 - sigmoid, sigmoid);
            *gate = gradient * *up * slope;
            *up = gradient * silu;
        }
    }
}

impl SwigluOps for Flex {
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let dtype = gate.dtype();
        let up = f32_rows(up);
        let up: &[f32] = up.storage();
        // Elementwise: rows of one value.
        let y = map_rows(gate, 1, |start, gate| {
            let up = &up[start..start + gate.len()];
            vectorised(Forward { gate, up });
        });
        cast(y, dtype)
    }
}

impl SwigluBackwardOps for Flex {
    fn swiglu_backward(
        gradient: FloatTensor<Self>,
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let dtype = gate.dtype();
        let (gradient, mut gate, mut up) = (f32_rows(gradient), f32_rows(gate), f32_rows(up));
        let gradient: &[f32] = gradient.storage();
        // The last use of both: usually no other tensor shares them, and nothing is copied.
        for_row_pairs(
            gate.storage_mut(),
            up.storage_mut(),
            (1, 1),
            |start, gate, up| {
                let gradient = &gradient[start..start + gate.len()];
                vectorised(Gradient { gradient, gate, up });
            },
        );
        (cast(gate, dtype), cast(up, dtype))
    }
}
