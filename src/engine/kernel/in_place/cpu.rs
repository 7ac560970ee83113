//! The CPU's version: in place if no other tensor shares the buffer, otherwise into a copy.

use burn::backend::flex::{Flex, FlexTensor};
use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::tensor::{IntDType, Shape, Slice};

use super::InPlaceOps;
use crate::kernel::rotary::RotaryOps;

impl InPlaceOps for Flex {
    fn append_rotated(
        query: FlexTensor,
        key: FlexTensor,
        value: FlexTensor,
        cos: FlexTensor,
        sin: FlexTensor,
        keys: FlexTensor,
        values: FlexTensor,
        filled: FlexTensor,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let query = Flex::rotate(query, cos.clone(), sin.clone(), false);
        let key = Flex::rotate(key, cos, sin, false);
        let filled = Flex::int_cast(filled, IntDType::I64).to_contiguous();
        let filled = filled.storage::<i64>()[0] as usize;
        (
            query,
            with_column(keys, key, filled),
            with_column(values, value, filled),
        )
    }

    fn overwrite(_target: FlexTensor, values: FlexTensor) -> FlexTensor {
        values
    }

    fn overwrite_ints(_target: FlexTensor, values: FlexTensor) -> FlexTensor {
        values
    }
}

/// `cache` with `new` in column `filled − 1`.
fn with_column(cache: FlexTensor, new: FlexTensor, filled: usize) -> FlexTensor {
    let shape = cache.layout().shape().clone();
    let new = Flex::float_reshape(new, Shape::new([shape[0], 1, shape[2]]));
    let whole = |size: usize| Slice::from(0..size);
    let column = [
        whole(shape[0]),
        Slice::from(filled - 1..filled),
        whole(shape[2]),
    ];
    Flex::float_slice_assign(cache, &column, new)
}
