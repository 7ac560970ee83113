//! Helpers of the kernels' tests.

use burn::tensor::{Device, Shape, Tensor, TensorData};

/// Reproducible values between −`size` and `size`, different for every seed.
pub fn noise<const D: usize>(
    shape: [usize; D],
    seed: u32,
    size: f32,
    device: &Device,
) -> Tensor<D> {
    let values: Vec<f32> = (0..Shape::from(shape).num_elements() as u32)
        .map(|i| {
            let mut bits = i
                .wrapping_add(seed.wrapping_mul(0x9E37_79B9))
                .wrapping_mul(2_654_435_761);
            bits = (bits ^ (bits >> 15)).wrapping_mul(0x85EB_CA6B);
            bits = (bits ^ (bits >> 13)).wrapping_mul(0xC2B2_AE35);
            ((bits >> 8) as f32 / (1 << 23) as f32 - 1.0) * size
        })
        .collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Row-major values of a tensor.
pub fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.try_into_vec_as::<f32>().unwrap()
}

/// Fails if two slices differ by more than `tolerance`, relative to the larger of 1 and the value.
pub fn assert_close(name: &str, ours: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), expected.len(), "{name}");
    let worst = ours
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs() / b.abs().max(1.0));
    // `f32::max` ignores NaN, which must fail.
    let worst = worst.fold(0.0, |worst: f32, x| {
        if worst.is_nan() || x <= worst {
            worst
        } else {
            x
        }
    });
    println!("{name}: largest difference {worst:.2e}");
    assert!(worst <= tolerance, "{name}: {worst:e}");
}

/// A graphics card or the software driver; `None`, after saying so, if there is neither.
#[cfg(feature = "wgpu")]
pub fn wgpu() -> Option<Device> {
    use burn::tensor::{DeviceKind, DeviceType};
    if Device::enumerate(DeviceType::Wgpu).is_empty() {
        println!("skipped: no wgpu adapter");
        return None;
    }
    Some(Device::wgpu(DeviceKind::DefaultDevice))
}
