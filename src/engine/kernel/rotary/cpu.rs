//! Rotation on the CPU.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;

use super::RotaryOps;
use crate::kernel::rows::cpu::{cast, f32_rows, map_rows};

impl RotaryOps for Flex {
    fn rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        back: bool,
    ) -> FloatTensor<Self> {
        let dtype = x.dtype();
        let (cos, sin) = (f32_rows(cos), f32_rows(sin));
        let (cos, sin): (&[f32], &[f32]) = (cos.storage(), sin.storage());
        let shape = x.layout().shape();
        let (heads, dim) = (shape[1], shape[2]);
        let (width, half) = (heads * dim, dim / 2);
        let rotated = map_rows(x, width, |first, rows| {
            for (token, row) in rows.chunks_exact_mut(width).enumerate() {
                let angles = (first + token) * dim;
                let (cos, sin) = (&cos[angles..angles + half], &sin[angles..angles + half]);
                for head in row.chunks_exact_mut(dim) {
                    let (a, b) = head.split_at_mut(half);
                    for ((a, b), (&cos, &sin)) in a.iter_mut().zip(b).zip(cos.iter().zip(sin)) {
                        let sin = if back { -sin } else { sin };
                        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                    }
                }
            }
        });
        cast(rotated, dtype)
    }
}
