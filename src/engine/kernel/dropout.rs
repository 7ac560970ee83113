//! Dropout whose masks are a function of keys and places, so that a recomputation, another split of
//! the same tokens and another device all drop the same values.
//!
//! A mask's bit is a hash of a token's key, a salt (which layer, which projection) and the column.
//! The hash is `lowbias32` (C. Wellons' search for integer hashes of low bias), three times over.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Int, Shape, Tensor, TensorData};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::{calculate_cube_count_elemwise, prelude::CubeDim};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use rayon::prelude::*;

/// Zeroes values of `x` with probability `rate` and scales the others by `1 / (1 − rate)`.
/// Differentiable in `x`; the backward pass makes the same mask again, so none is kept.
///
/// # Shapes
/// `x: [tokens, width]`, `keys: [tokens, 2]` (64 bits a token, in two words) → as `x`
pub fn dropout(x: Tensor<2>, keys: Tensor<2, Int>, salt: u32, rate: f64) -> Tensor<2> {
    if rate <= 0.0 {
        return x;
    }
    let threshold = (rate.min(1.0) * f64::from(u32::MAX)) as u32;
    // At a rate of 1 nothing is left to scale.
    let scale = if rate < 1.0 {
        (1.0 / (1.0 - rate)) as f32
    } else {
        0.0
    };
    Tensor::from_dispatch(<Dispatch as DropoutOps>::dropout(
        x.into_dispatch(),
        keys.into_dispatch(),
        salt as usize,
        threshold as usize,
        scale,
    ))
}

/// The backends' side of [`dropout`].
#[backend_extension(Cube, Flex, Autodiff, Fusion)]
pub trait DropoutOps: Backend {
    /// See [`dropout`]; values whose hash is below `threshold` are dropped.
    #[fusion(dtype = x, shape = same_shape(x))]
    fn dropout(
        x: FloatTensor<Self>,
        keys: IntTensor<Self>,
        salt: usize,
        threshold: usize,
        scale: f32,
    ) -> FloatTensor<Self>;
}

fn same_shape(x: &Shape) -> Shape {
    x.clone()
}

fn lowbias32(x: u32) -> u32 {
    let x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// The hash that decides over a value.
fn hash(key: [u32; 2], salt: u32, column: u32) -> u32 {
    let row = lowbias32(lowbias32(key[0] ^ salt) ^ key[1]);
    lowbias32(row ^ column.wrapping_mul(0x9e37_79b9))
}

mod cube {
    use burn_cubecl::cubecl::{self, prelude::*};

    #[cube]
    fn lowbias32(x: u32) -> u32 {
        let a = (x ^ (x >> 16)) * 0x7feb_352d;
        let b = (a ^ (a >> 15)) * 0x846c_a68b;
        b ^ (b >> 16)
    }

    /// One unit a value.
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
        let shape = x.meta.shape().clone();
        let (values, width) = (shape.num_elements(), shape[1]);
        let y = empty_device_contiguous_dtype(x.client.clone(), x.device.clone(), shape, x.dtype);
        let client = x.client.clone();
        let dim = CubeDim::new(&client, values);
        let count = calculate_cube_count_elemwise(&client, values, dim);
        let dtype = burn::backend::cubecl::dtype_to_storage_type(x.dtype);
        cube::dropout::launch(
            &client,
            count,
            dim,
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

impl DropoutOps for Flex {
    fn dropout(
        x: FloatTensor<Self>,
        keys: IntTensor<Self>,
        salt: usize,
        threshold: usize,
        scale: f32,
    ) -> FloatTensor<Self> {
        use burn::backend::ops::FloatTensorOps;
        let dtype = x.dtype();
        let shape = x.shape();
        let x = Self::float_cast(x, burn::tensor::FloatDType::F32).to_contiguous();
        let keys = keys.to_contiguous();
        let (values, keys): (&[f32], &[i32]) = (x.storage(), keys.storage());
        let width = shape[1].max(1);
        let mut kept = vec![0.0_f32; values.len()];
        kept.par_chunks_mut(width)
            .zip(values.par_chunks(width))
            .zip(keys.par_chunks(2))
            .for_each(|((kept, values), key)| {
                let key = [key[0] as u32, key[1] as u32];
                for (column, (kept, value)) in kept.iter_mut().zip(values).enumerate() {
                    let is_dropped = hash(key, salt as u32, column as u32) < threshold as u32;
                    *kept = if is_dropped { 0.0 } else { value * scale };
                }
            });
        let kept = burn::backend::flex::FlexTensor::from_data(TensorData::new(kept, shape));
        Self::float_cast(kept, dtype.into())
    }
}

#[derive(Debug)]
struct Dropout;

impl<B: DropoutOps> Backward<B, 1> for Dropout {
    type State = (IntTensor<B>, usize, usize, f32);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (keys, salt, threshold, scale) = ops.state;
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| {
            B::dropout(gradient, keys, salt, threshold, scale)
        });
    }
}

impl<B: DropoutOps, C: CheckpointStrategy> DropoutOps for Autodiff<B, C> {
    fn dropout(
        x: FloatTensor<Self>,
        keys: IntTensor<Self>,
        salt: usize,
        threshold: usize,
        scale: f32,
    ) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let state = (keys.clone(), salt, threshold, scale);
        match Dropout.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(ready) => {
                ready.finish(state, B::dropout(x, keys, salt, threshold, scale))
            }
            OpsKind::UnTracked(ready) => ready.finish(B::dropout(x, keys, salt, threshold, scale)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn keys(tokens: usize, device: &Device) -> Tensor<2, Int> {
        let words: Vec<i32> = (0..tokens * 2)
            .map(|i| lowbias32(i as u32 + 7) as i32)
            .collect();
        Tensor::from_data(TensorData::new(words, [tokens, 2]), device)
    }

    fn check(device: &Device) {
        let (tokens, width, rate) = (61, 130, 0.25);
        let plain = Tensor::<2>::ones([tokens, width], device);
        let dropped = dropout(plain.clone(), keys(tokens, device), 3, rate);
        let values: Vec<f32> = dropped.clone().into_data().try_to_vec().unwrap();
        let kept = values.iter().filter(|value| **value != 0.0).count();
        assert!(
            values
                .iter()
                .all(|v| *v == 0.0 || (v - 1.0 / 0.75).abs() < 1e-6)
        );
        // Four standard deviations of a binomial with 7 930 trials.
        let expected = 0.75 * values.len() as f64;
        assert!(
            (kept as f64 - expected).abs() < 4.0 * (expected * 0.25).sqrt(),
            "{kept}"
        );
        // Another salt, another mask; part of the tokens, the same mask.
        let other: Vec<f32> = dropout(plain.clone(), keys(tokens, device), 4, rate)
            .into_data()
            .try_to_vec()
            .unwrap();
        assert_ne!(values, other);
        let part: Vec<f32> = dropout(
            plain.clone().narrow(0, 20, 10),
            keys(tokens, device).narrow(0, 20, 10),
            3,
            rate,
        )
        .into_data()
        .try_to_vec()
        .unwrap();
        assert_eq!(part, values[20 * width..30 * width]);
        // The gradient of a sum is the mask itself.
        let x = plain.autodiff().require_grad();
        let gradients = dropout(x.clone(), keys(tokens, &device.clone().autodiff()), 3, rate)
            .sum()
            .backward();
        let gradient: Vec<f32> = x
            .grad(&gradients)
            .unwrap()
            .into_data()
            .try_to_vec()
            .unwrap();
        assert_eq!(gradient, values);
    }

    #[test]
    fn masks_follow_from_keys_and_places() {
        check(&Device::flex());
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn masks_on_wgpu_are_those_of_the_cpu_on_wgpu() {
        use burn::tensor::{DeviceKind, DeviceType};
        if Device::enumerate(DeviceType::Wgpu).into_iter().count() == 0 {
            eprintln!("skipped: no wgpu adapter");
            return;
        }
        let device = Device::wgpu(DeviceKind::DefaultDevice);
        check(&device);
        let on = |device: &Device| -> Vec<f32> {
            dropout(Tensor::ones([9, 70], device), keys(9, device), 1, 0.5)
                .into_data()
                .try_to_vec()
                .unwrap()
        };
        assert_eq!(on(&device), on(&Device::flex()));
    }
}
