//! Writing into a tensor in place, for what must stay at one address: the cache of a decoding
//! step, and the inputs of a step that is recorded once and run again.
//!
//! On a GPU these write into the given tensor's own buffer, even if other tensors share it, and return that
//! buffer. No caller may rely on the earlier values.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Int, Tensor};

mod cpu;
mod cube;
pub mod reference;
#[cfg(test)]
mod tests;

/// Backends that write in place.
#[backend_extension(Cube, Flex, Fusion)]
pub trait InPlaceOps: Backend {
    /// See [`append_rotated`].
    #[fusion(meta = |query, _key, _value, _cos, _sin, keys, values, _filled| {
        (same(query), same(keys), same(values))
    })]
    #[allow(
        clippy::too_many_arguments,
        reason = "a token's parts, and the caches that they are written to"
    )]
    fn append_rotated(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        filled: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// See [`overwrite`].
    #[fusion(dtype = target, shape = target)]
    fn overwrite(target: FloatTensor<Self>, values: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`overwrite_ints`].
    #[fusion(dtype = target, shape = target)]
    fn overwrite_ints(target: IntTensor<Self>, values: IntTensor<Self>) -> IntTensor<Self>;
}

/// Adds the newest token of every row: its query and key are rotated as by [`rotate`], and its key and value
/// are written to column `filled − 1` of the caches. The column is read on the device, so that a recorded step writes
/// to the column of its inputs.
///
/// # Shapes
/// `new`: query, key and value, `[rows, heads, dim]` and `[rows, kv_heads, dim]` twice; `angles`: cosines and sines,
/// `[rows, 1, dim]`; `caches`: of keys and of values, `[rows·kv_heads, capacity, dim]`; `filled: [1]` → the query and the
/// caches
///
/// # Panics
/// Shapes or types that contradict each other, tensors of autodiff. `filled` must be from 1 to `capacity`; a GPU does
/// not check.
///
/// [`rotate`]: super::rotary::rotate
pub fn append_rotated(
    [query, key, value]: [Tensor<3>; 3],
    angles: [&Tensor<3>; 2],
    caches: [Tensor<3>; 2],
    filled: Tensor<1, Int>,
) -> (Tensor<3>, [Tensor<3>; 2]) {
    let ([rows, _, dim], [_, kv_heads, _]) = (query.dims(), key.dims());
    for new in [&key, &value] {
        assert_eq!(
            new.dims(),
            [rows, kv_heads, dim],
            "a query, a key and a value"
        );
    }
    for angle in angles {
        assert_eq!(angle.dims(), [rows, 1, dim], "angles of the newest tokens");
    }
    for cache in &caches {
        let [cached_rows, _, cached_dim] = cache.dims();
        assert_eq!([cached_rows, cached_dim], [rows * kv_heads, dim], "a cache");
    }
    let all = [&key, &value, angles[0], angles[1], &caches[0], &caches[1]];
    let is_one_type = all.iter().all(|x| x.dtype() == query.dtype());
    assert!(is_one_type, "new tokens, angles and caches of one type");
    assert_eq!(dim % 2, 0, "an odd head_dim");
    assert_eq!(filled.dims(), [1], "one number of columns for all rows");
    let [keys, values] = caches.map(Tensor::into_dispatch);
    let (query, keys, values) = <Dispatch as InPlaceOps>::append_rotated(
        query.into_dispatch(),
        key.into_dispatch(),
        value.into_dispatch(),
        angles[0].clone().into_dispatch(),
        angles[1].clone().into_dispatch(),
        keys,
        values,
        filled.into_dispatch(),
    );
    let [query, keys, values] = [query, keys, values].map(Tensor::from_dispatch);
    (query, [keys, values])
}

fn same(x: &TensorSpec) -> TensorSpec {
    TensorSpec::new(x.shape.clone(), x.dtype)
}

/// Writes `values` over `target`, which must be of their shape and type.
pub fn overwrite(target: Tensor<1>, values: Tensor<1>) -> Tensor<1> {
    assert_eq!(target.dims(), values.dims(), "overwriting another shape");
    assert_eq!(target.dtype(), values.dtype(), "overwriting another type");
    Tensor::from_dispatch(<Dispatch as InPlaceOps>::overwrite(
        target.into_dispatch(),
        values.into_dispatch(),
    ))
}

/// [`overwrite`] for whole numbers.
pub fn overwrite_ints(target: Tensor<1, Int>, values: Tensor<1, Int>) -> Tensor<1, Int> {
    assert_eq!(target.dims(), values.dims(), "overwriting another shape");
    assert_eq!(target.dtype(), values.dtype(), "overwriting another type");
    Tensor::from_dispatch(<Dispatch as InPlaceOps>::overwrite_ints(
        target.into_dispatch(),
        values.into_dispatch(),
    ))
}
