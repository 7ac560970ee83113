//! Dropout on the CPU.

use burn::backend::Flex;
use burn::backend::tensor::{FloatTensor, IntTensor};

use super::DropoutOps;
use crate::kernel::rows::cpu::{cast, map_rows};

fn lowbias32(x: u32) -> u32 {
    let x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// The hash that decides whether a value is dropped.
fn hash(key: [u32; 2], salt: u32, column: u32) -> u32 {
    let row = lowbias32(lowbias32(key[0] ^ salt) ^ key[1]);
    lowbias32(row ^ column.wrapping_mul(0x9e37_79b9))
}

impl DropoutOps for Flex {
    fn dropout(
        x: FloatTensor<Self>,
        keys: IntTensor<Self>,
        salt: usize,
        threshold: usize,
        scale: f32,
    ) -> FloatTensor<Self> {
        let (dtype, width) = (x.dtype(), x.layout().shape()[1]);
        let keys = keys.to_contiguous();
        let keys: &[i32] = keys.storage();
        let dropped = map_rows(x, width, |first, rows| {
            for (row, values) in (first..).zip(rows.chunks_exact_mut(width)) {
                let key = [keys[row * 2] as u32, keys[row * 2 + 1] as u32];
                for (column, value) in values.iter_mut().enumerate() {
                    let is_dropped = hash(key, salt as u32, column as u32) < threshold as u32;
                    *value = if is_dropped { 0.0 } else { *value * scale };
                }
            }
        });
        cast(dropped, dtype)
    }
}
