use burn::tensor::{Device, Int, Tensor, TensorData};

use super::dropout;
use crate::kernel::case::bits;
use crate::kernel::testing::values;

fn keys(tokens: usize, device: &Device) -> Tensor<2, Int> {
    let words: Vec<i32> = (0..tokens as u32 * 2)
        .map(|i| bits(i, 7).cast_signed())
        .collect();
    Tensor::from_data(TensorData::new(words, [tokens, 2]), device)
}

fn check(device: &Device) {
    let (tokens, width, rate) = (61, 130, 0.25);
    let plain = Tensor::<2>::ones([tokens, width], device);
    let dropped = values(dropout(plain.clone(), keys(tokens, device), 3, rate));
    let kept = dropped.iter().filter(|value| **value != 0.0).count();
    assert!(
        dropped
            .iter()
            .all(|v| *v == 0.0 || (v - 1.0 / 0.75).abs() < 1e-6)
    );
    // Four standard deviations of a binomial with 7 930 trials.
    let expected = 0.75 * dropped.len() as f64;
    assert!(
        (kept as f64 - expected).abs() < 4.0 * (expected * 0.25).sqrt(),
        "{kept}"
    );
    // Another salt, another mask; part of the tokens, the same mask.
    let other = dropout(plain.clone(), keys(tokens, device), 4, rate);
    assert_ne!(dropped, values(other));
    let part = dropout(
        plain.clone().narrow(0, 20, 10),
        keys(tokens, device).narrow(0, 20, 10),
        3,
        rate,
    );
    assert_eq!(values(part), dropped[20 * width..30 * width]);
    // The gradient of a sum is the mask itself.
    let x = plain.autodiff().require_grad();
    let gradients = dropout(x.clone(), keys(tokens, &device.clone().autodiff()), 3, rate)
        .sum()
        .backward();
    assert_eq!(values(x.grad(&gradients).unwrap()), dropped);
}

#[test]
fn masks_follow_from_keys_and_places() {
    check(&Device::flex());
}

#[cfg(feature = "wgpu")]
#[test]
fn masks_on_wgpu_are_those_of_the_cpu_on_wgpu() {
    let Some(device) = crate::kernel::testing::wgpu() else {
        return;
    };
    check(&device);
    let on = |device: &Device| {
        let ones = Tensor::ones([9, 70], device);
        values(dropout(ones, keys(9, device), 1, 0.5))
    };
    assert_eq!(on(&device), on(&Device::flex()));
}
