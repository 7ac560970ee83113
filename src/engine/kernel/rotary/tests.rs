use burn::tensor::{DType, Device, Tensor};

use super::{reference, rotate};
use crate::kernel::testing::{assert_close, noise, values};

type Rotation = fn(Tensor<3>, &Tensor<3>, &Tensor<3>) -> Tensor<3>;

/// Rotated heads and their gradient, weighted by noise.
fn run(
    f: Rotation,
    [tokens, heads, dim]: [usize; 3],
    device: &Device,
    dtype: DType,
) -> [Vec<f32>; 2] {
    let angle = |seed| {
        let half = noise::<3>([tokens, 1, dim / 2], seed, 1.0, device);
        Tensor::cat(vec![half.clone(), half], 2).cast(dtype)
    };
    let make = |seed| noise::<3>([tokens, heads, dim], seed, 2.0, device).cast(dtype);
    let (cos, sin) = (angle(1), angle(2));
    let x = make(3).autodiff().require_grad();
    let y = f(x.clone(), &cos.autodiff(), &sin.autodiff());
    let gradients = (y.clone() * make(4).autodiff()).sum().backward();
    [values(y.inner()), values(x.grad(&gradients).unwrap())]
}

fn check(device: &Device, dtype: DType, tolerance: f32) {
    for shape in [[1, 1, 2], [3, 2, 6], [5, 4, 64], [40, 9, 128]] {
        let ours = run(rotate, shape, device, dtype);
        let plain = run(reference::rotate, shape, &Device::flex(), dtype);
        for (name, (ours, plain)) in ["y", "x"].iter().zip(ours.iter().zip(&plain)) {
            assert_close(&format!("rotate {shape:?} {name}"), ours, plain, tolerance);
        }
    }
}

#[test]
fn heads_and_gradients_are_those_of_the_plain_expression() {
    // To the bit: the same products and sums.
    check(&Device::flex(), DType::F32, 0.0);
    check(&Device::flex(), DType::BF16, 2e-2);
}

#[test]
fn a_tensor_that_someone_holds_is_not_touched() {
    let device = Device::flex();
    let x = noise::<3>([4, 2, 8], 1, 3.0, &device);
    let angles = noise::<3>([4, 1, 8], 2, 1.0, &device);
    let before = values(x.clone());
    let _ = rotate(x.clone(), &angles, &angles);
    assert_eq!(values(x), before);
}

#[cfg(feature = "wgpu")]
#[test]
fn heads_and_gradients_on_wgpu() {
    let Some(device) = crate::kernel::testing::wgpu() else {
        return;
    };
    check(&device, DType::F32, 1e-6);
}
