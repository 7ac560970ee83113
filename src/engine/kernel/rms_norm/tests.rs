use burn::tensor::{DType, Device, Tensor};

use super::{reference, rms_norm};
use crate::kernel::testing::{assert_close, noise, values};

const EPS: f64 = 1e-5;

/// Value, gradient of x and gradient of the weight.
fn run(
    f: impl Fn(Tensor<2>, &Tensor<2>, f64) -> Tensor<2>,
    [rows, hidden]: [usize; 2],
    device: &Device,
    dtype: DType,
) -> [Vec<f32>; 3] {
    let device = device.clone().autodiff();
    let x = noise([rows, hidden], 1, 3.0, &device)
        .cast(dtype)
        .require_grad();
    let weight = noise([1, hidden], 2, 2.0, &device)
        .cast(dtype)
        .require_grad();
    let y = f(x.clone(), &weight, EPS);
    let gradient = noise([rows, hidden], 3, 1.0, &device).cast(dtype);
    let gradients = (y.clone() * gradient).sum().backward();
    let of = |x: &Tensor<2>| values(x.grad(&gradients).unwrap());
    [values(y), of(&x), of(&weight)]
}

fn check(device: &Device, dtype: DType, tolerance: f32) {
    for shape in [[1, 1], [3, 5], [2, 40], [130, 576], [5, 3072]] {
        let ours = run(rms_norm, shape, device, dtype);
        let plain = run(reference::rms_norm, shape, &Device::flex(), dtype);
        for (name, (ours, plain)) in ["y", "x", "weight"].iter().zip(ours.iter().zip(&plain)) {
            assert_close(
                &format!("rms_norm {shape:?} {name}"),
                ours,
                plain,
                tolerance,
            );
        }
    }
}

#[test]
fn rms_norm_and_gradients_are_those_of_the_plain_expression() {
    check(&Device::flex(), DType::F32, 3e-6);
}

#[test]
fn narrow_types_round_where_the_plain_expression_does() {
    let device = Device::flex();
    let x = noise([9, 64], 1, 3.0, &device).cast(DType::BF16);
    let weight = noise([1, 64], 2, 2.0, &device).cast(DType::BF16);
    let ours = values(rms_norm(x.clone(), &weight, EPS));
    assert_close(
        "bf16",
        &ours,
        &values(reference::rms_norm(x, &weight, EPS)),
        1e-2,
    );
    let [_, grad_x, grad_weight] = run(rms_norm, [9, 64], &device, DType::BF16);
    let [_, x, weight] = run(reference::rms_norm, [9, 64], &device, DType::BF16);
    assert_close("bf16 x", &grad_x, &x, 2e-2);
    assert_close("bf16 weight", &grad_weight, &weight, 2e-2);
}

#[test]
fn rms_norm_agrees_with_f64() {
    let device = Device::flex();
    let (x, weight) = (
        noise([7, 576], 4, 10.0, &device),
        noise([1, 576], 5, 1.0, &device),
    );
    let ours = values(rms_norm(x.clone(), &weight, EPS));
    let (x, weight) = (values(x), values(weight));
    let exact: Vec<f32> = x
        .chunks(576)
        .flat_map(|row| {
            let mean = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / 576.0;
            let scale = 1.0 / (mean + EPS).sqrt();
            let normed = row.iter().zip(&weight);
            normed.map(move |(&x, &w)| (f64::from(x) * scale * f64::from(w)) as f32)
        })
        .collect();
    assert_close("rms_norm against f64", &ours, &exact, 3e-7);
}

#[test]
fn a_row_does_not_depend_on_the_others_and_inputs_stay() {
    let device = Device::flex();
    let (x, weight) = (
        noise([200, 576], 1, 3.0, &device),
        noise([1, 576], 2, 1.0, &device),
    );
    let before = values(x.clone());
    let all = values(rms_norm(x.clone(), &weight, EPS));
    let one = values(rms_norm(x.clone().narrow(0, 150, 1), &weight, EPS));
    assert_eq!(all[150 * 576..151 * 576], one);
    assert_eq!(values(x), before);
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap()
            .install(|| run(rms_norm, [700, 576], &Device::flex(), DType::F32))
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn a_frozen_weight_has_no_gradient() {
    let device = Device::flex().autodiff();
    let x = noise([4, 8], 1, 3.0, &device).require_grad();
    let weight = noise([1, 8], 2, 1.0, &Device::flex());
    let gradients = rms_norm(x.clone(), &weight, EPS).sum().backward();
    assert!(x.grad(&gradients).is_some());
}

#[cfg(feature = "wgpu")]
#[test]
fn rms_norm_and_gradients_on_wgpu() {
    let Some(device) = crate::kernel::testing::wgpu() else {
        return;
    };
    check(&device, DType::F32, 5e-6);
}
