use burn::tensor::activation::silu;
use burn::tensor::{DType, Device, Tensor};

use super::{reference, swiglu};
use crate::kernel::testing::{assert_close, noise, values};

/// Values and gradients of a function of two matrices, weighted by a third.
fn run(
    f: impl Fn(Tensor<2>, Tensor<2>) -> Tensor<2>,
    shape: [usize; 2],
    device: &Device,
    dtype: DType,
) -> [Vec<f32>; 3] {
    let device = device.clone().autodiff();
    let make = |seed, size| noise::<2>(shape, seed, size, &device).cast(dtype);
    let (gate, up) = (make(1, 6.0).require_grad(), make(2, 2.0).require_grad());
    let y = f(gate.clone(), up.clone());
    let gradients = (y.clone() * make(3, 1.0)).sum().backward();
    let of = |x: &Tensor<2>| values(x.grad(&gradients).unwrap());
    [values(y), of(&gate), of(&up)]
}

fn check(device: &Device, dtype: DType, tolerance: f32) {
    for shape in [[1, 1], [3, 5], [2, 48], [33, 1536]] {
        let ours = run(swiglu, shape, device, dtype);
        let plain = run(reference::swiglu, shape, &Device::flex(), dtype);
        for (name, (ours, plain)) in ["y", "gate", "up"].iter().zip(ours.iter().zip(&plain)) {
            assert_close(&format!("swiglu {shape:?} {name}"), ours, plain, tolerance);
        }
    }
}

#[test]
fn swiglu_and_gradients_are_those_of_the_plain_expression() {
    check(&Device::flex(), DType::F32, 1e-6);
    check(&Device::flex(), DType::BF16, 2e-2);
}

#[test]
fn one_side_may_be_a_constant() {
    let device = Device::flex().autodiff();
    let gate = noise::<2>([2, 8], 1, 3.0, &device);
    let up = noise::<2>([2, 8], 2, 3.0, &device).require_grad();
    let gradients = swiglu(gate.clone(), up.clone()).sum().backward();
    assert!(gate.grad(&gradients).is_none());
    let of_up = values(up.grad(&gradients).unwrap());
    assert_close("up", &of_up, &values(silu(gate)), 1e-6);
}

#[test]
fn swiglu_does_not_touch_a_tensor_that_someone_holds() {
    let device = Device::flex();
    let (gate, up) = (
        noise::<2>([4, 9], 1, 3.0, &device),
        noise::<2>([4, 9], 2, 3.0, &device),
    );
    let before = (values(gate.clone()), values(up.clone()));
    let y = values(swiglu(gate.clone(), up.clone()));
    assert_eq!((values(gate.clone()), values(up.clone())), before);
    let gate = gate.add_scalar(0.0);
    assert_eq!(values(swiglu(gate, up)), y);
}

#[cfg(feature = "wgpu")]
#[test]
fn swiglu_and_gradients_on_wgpu() {
    let Some(device) = crate::kernel::testing::wgpu() else {
        return;
    };
    check(&device, DType::F32, 2e-6);
}
